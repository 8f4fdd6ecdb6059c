"""Gazepoint's socket: a server on loopback that speaks the Open Gaze API as its specification writes it."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from emert_edge import Recognizer
from emert_edge.clock import UNSYNCHRONISED
from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze
from emert_edge.sources.live_gaze import MONOTONIC

from .live_rounds import read

MS = 1_000_000
FREQUENCY = 2_405_480_000
Record = Callable[[int, float], str]


def record(count: int, age_s: float) -> str:
    """The record of a 150 Hz tracker that has been on for some time; every tenth sees no eye."""
    seen = int(count % 10 != 0)
    return (
        f'<REC CNT="{count}" TIME="{age_s:.5f}" TIME_TICK="{round((1000 + age_s) * FREQUENCY)}" BPOGX="0.25000" '
        f'BPOGY="0.75000" BPOGV="{seen}" LPOGX="0.24000" LPOGY="0.74000" LPOGV="{seen}" RPOGX="0.26000" '
        f'RPOGY="0.76000" RPOGV="{seen}" LPCX="0.4" LPCY="0.5" LPD="21.5" LPS="0.9" LPV="{seen}" RPCX="0.6" RPCY="0.5" '
        f'RPD="22.5" RPS="0.9" RPV="{seen}" LPMM="3.25" LPMMV="{seen}" RPMM="3.5" RPMMV="{seen}" />'
    )


class Control:
    """Gazepoint Control: acknowledges what is asked for, and sends a record a frame once it is told to."""

    def __init__(self, record: Record = record, rate: float = 150.0, answers: bool = True) -> None:
        self.record, self.rate, self.answers = record, rate, answers
        self.commands: list[str] = []
        self.drop = threading.Event()
        self.stopped = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(0.1)
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while not self.stopped.is_set():
            try:
                client, _ = self.listening.accept()
            except TimeoutError:
                continue
            with client:
                self.attend(client)
            self.drop.clear()

    def attend(self, client: socket.socket) -> None:
        client.settimeout(0.001)
        begun, count, sending, held = time.monotonic(), 0, False, ""
        while not (self.stopped.is_set() or self.drop.is_set()):
            try:
                got = client.recv(4096).decode()
                if not got:
                    return
                *lines, held = (held + got).split("\r\n")
                for line in lines:
                    self.commands.append(line)
                    kind, name = re.match(r'<(GET|SET) ID="(\w+)"', line).groups()  # type: ignore[union-attr]
                    told = {
                        "TIME_TICK_FREQUENCY": f' FREQ="{FREQUENCY}"',
                        "SCREEN_SIZE": ' X="0" Y="0" WIDTH="1680" HEIGHT="1050"',
                    }.get(name, ' STATE="1"')
                    if self.answers:
                        client.sendall(f'<ACK ID="{name}"{told} />\r\n'.encode())
                    sending = sending or (kind == "SET" and name == "ENABLE_SEND_DATA" and self.answers)
            except TimeoutError:
                pass
            except OSError:
                return
            while sending and time.monotonic() - begun >= count / self.rate:
                line = self.record(count, count / self.rate).encode() + b"\r\n"
                count += 1
                try:
                    client.sendall(line[:37])  # in two parts, as a network may
                    client.sendall(line[37:])
                except OSError:
                    return

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.listening.close()


@pytest.fixture
def control() -> Iterator[Control]:
    made = Control()
    yield made
    made.close()


def test_records_become_samples_at_their_times(control: Control) -> None:
    source = open_live_gaze(f"gazepoint:127.0.0.1:{control.port}")
    pieces, arrived = [], []
    for samples in read(source, 2):
        pieces.append(samples)
        arrived.append(time.monotonic_ns() - int(samples.t_ns[-1]))
    source.close()
    times = np.concatenate([piece.t_ns for piece in pieces])
    known = np.concatenate([piece.t_ns for piece in pieces if piece.clock == MONOTONIC])
    assert len(times) > 250
    assert pieces[0].clock == UNSYNCHRONISED  # until arrivals have told where its clock stands
    assert len(known) > 150
    np.testing.assert_allclose(np.diff(known) / 1e9, 1 / 150, atol=1e-4)
    assert 0 <= np.median(arrived[-20:]) < 50 * MS
    first = pieces[0]
    together = {
        name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("x", "left_y", "pupil_right")
    }
    assert np.nanmin(together["x"]) == np.nanmax(together["x"]) == 0.25
    assert np.isnan(together["x"]).mean() == pytest.approx(0.1, abs=0.02)
    assert np.nanmax(together["left_y"]) == np.float32(0.74)
    assert np.nanmax(together["pupil_right"]) == 3.5
    assert (first.pupil_unit, first.space, first.size_px) == ("mm", "screen", (1680, 1050))
    assert '<SET ID="ENABLE_SEND_DATA" STATE="1" />' in control.commands


def test_servers_without_millimetres_or_ticks_are_read_too() -> None:
    def old(count: int, age_s: float) -> str:
        return f'<REC TIME="{age_s:.4f}" BPOGX="0.5" BPOGY="0.5" BPOGV="1" LPD="21.5" LPV="1" RPD="0" RPV="1" />'

    server = Control(old)
    try:
        source = open_live_gaze(f"gazepoint:127.0.0.1:{server.port}")
        samples = next(read(source, 2))
        source.close()
    finally:
        server.close()
    assert (samples.pupil_unit, float(samples.pupil_left[0])) == ("px", 21.5)
    assert np.isnan(samples.pupil_right).all()
    assert not samples.has("left_x")


def test_a_lost_server_is_an_error_and_is_read_again_when_it_is_back(control: Control) -> None:
    source = open_live_gaze(f"gazepoint:localhost:{control.port}")
    with pytest.raises(SourceError, match="the server"):
        for number, _ in enumerate(read(source, 10)):
            if number == 5:
                control.drop.set()
    again = next(read(source, 5))
    assert len(again)
    source.close()
    source.close()


def test_a_live_run_takes_it(control: Control) -> None:
    with Recognizer(device="cpu") as recognizer:
        for estimate in recognizer.live(gaze=f"gazepoint:127.0.0.1:{control.port}"):
            if estimate.quality.gaze > 0.5 and "clock_unsynchronised" not in estimate.quality.degraded:
                break
            assert estimate.sequence < 12
    assert estimate.quality.gaze > 0.5


def test_wrong_addresses_and_wrong_servers_say_so() -> None:
    for address in ("gazepoint:here:port", "gazepoint::0", "gazepoint::99999"):
        assert is_live_gaze(address)
        with pytest.raises(ValueError, match="is no port"):
            open_live_gaze(address)
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(SourceError, match=f"nobody answers at 127.0.0.1, port {port}.*Gazepoint Control"):
        open_live_gaze(f"gazepoint::{port}")
    silent = Control(answers=False)
    try:
        with pytest.raises(GazeFormatError, match="does not speak the Open Gaze API"):
            open_live_gaze(f"gazepoint::{silent.port}")
    finally:
        silent.close()


def test_a_record_that_cannot_be_read_is_named() -> None:
    server = Control(lambda count, age_s: f'<REC TIME="{age_s}" BPOGX="left" BPOGY="0.5" BPOGV="1" />')
    try:
        with pytest.raises(GazeFormatError, match="BPOGX='left' is no number"):
            next(read(open_live_gaze(f"gazepoint::{server.port}"), 2))
    finally:
        server.close()
