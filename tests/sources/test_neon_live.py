"""Neon's realtime API: a companion on loopback that speaks HTTP, RTSP, RTP, RTCP and the time echo as documented."""

from __future__ import annotations

import http.server
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pupil_labs.realtime_api", reason="pupil-labs-realtime-api is not installed")

from emert_edge.clock import UNSYNCHRONISED
from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze
from emert_edge.sources.live_gaze import MONOTONIC

from .live_rounds import read

MS = 1_000_000
RATE, CLOCK = 100, 90_000
AHEAD_S = 3.25  # of the phone's clock
NTP = 2_208_988_800  # seconds from 1900 to 1970


def phone_s() -> float:
    return time.time() + AHEAD_S


def plain(count: int) -> bytes:
    return struct.pack("!ffB", 400.0, 900.0, 255 if count % 10 else 0)


def whole(count: int) -> bytes:
    """Gaze, eye state, eyelids, and each eye's own point."""
    eye = (0.0,) * 6
    lids = (0.1, -0.1, 9.5, 0.1, -0.1, 8.5)
    return struct.pack(
        "!ffBf6ff6f6f4f", 400.0, 900.0, 255, 3.25, *eye, 3.5, *eye, *lids, 380.0, 880.0, 420.0, 920.0
    )  # fmt: skip


class Companion:
    """The app on the phone."""

    def __init__(self, packet: Any = plain, *, connected: bool = True, echo: bool = True, version: str = "2.0") -> None:
        self.packet, self.connected, self.version = packet, connected, version
        self.stopped, self.drop = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []
        self.rtsp = self.listening(self.speak_rtsp)
        self.echo = self.listening(self.speak_echo) if echo else None
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.start(self.http.serve_forever)
        self.port = self.http.server_address[1]

    def start(self, work: Any, *given: Any) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self.threads.append(thread)
        thread.start()

    def listening(self, speak: Any) -> socket.socket:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.1)

        def accept() -> None:
            while not self.stopped.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                self.start(speak, client)

        self.start(accept)
        return server

    def handler(self) -> Any:
        companion = self

        class Status(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"message": "Success", "result": companion.status()}).encode()
                self.send_response(200 if self.path == "/api/status" else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Status

    def status(self) -> list[dict[str, Any]]:
        phone = {
            "battery_level": 90, "battery_state": "OK", "device_id": "1", "device_name": "phone", "ip": "127.0.0.1",
            "memory": 10**9, "memory_state": "OK",
        }  # fmt: skip
        if self.echo is not None:
            phone["time_echo_port"] = self.echo.getsockname()[1]
        sensor = {
            "sensor": "gaze", "conn_type": "DIRECT", "protocol": "rtsp", "ip": "127.0.0.1",
            "port": self.rtsp.getsockname()[1], "params": "camera=gaze", "connected": self.connected,
            "stream_error": False,
        }  # fmt: skip
        return [
            {"model": "Phone", "data": phone},
            {"model": "Hardware", "data": {"version": self.version, "module_serial": "123456"}},
            {"model": "Sensor", "data": sensor},
        ]

    def speak_echo(self, client: socket.socket) -> None:
        with client:
            while not self.stopped.is_set():
                asked = client.recv(8)
                if len(asked) < 8:
                    return
                client.sendall(asked + struct.pack("!Q", int(phone_s() * 1000)))

    def speak_rtsp(self, client: socket.socket) -> None:
        client.settimeout(0.002)
        held, ports, begun, number = "", (0, 0), None, 0
        media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client, media:
            while not (self.stopped.is_set() or self.drop.is_set()):
                try:
                    got = client.recv(4096).decode()
                    if not got:
                        return
                    held += got
                except TimeoutError:
                    pass
                except OSError:
                    return
                while "\r\n\r\n" in held:
                    asked, held = held.split("\r\n\r\n", 1)
                    method, url = asked.split(" ", 2)[:2]
                    more, body = "", ""
                    if method == "OPTIONS":
                        more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                    elif method == "DESCRIBE":
                        body = (
                            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=gaze\r\nt=0 0\r\nm=video 0 RTP/AVP 100\r\n"
                            "a=rtpmap:100 com.pupillabs.gaze1/90000\r\na=control:trackID=0\r\n"
                        )
                        more = (
                            f"Content-Base: {url}\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                        )
                    elif method == "SETUP":
                        first, second = re.search(r"client_port=(\d+)-(\d+)", asked).groups()  # type: ignore[union-attr]
                        ports = int(first), int(second)
                        more = f"Session: 1;timeout=60\r\nTransport: RTP/AVP;unicast;client_port={first}-{second};"
                        more += f"server_port={media.getsockname()[1] or 5004}-5005\r\n"
                    elif method == "PLAY":
                        begun = time.monotonic()
                    sequence = re.search(r"CSeq: *(\d+)", asked, re.IGNORECASE)
                    assert sequence is not None
                    client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {sequence[1]}\r\n{more}\r\n{body}".encode())
                while begun is not None and time.monotonic() - begun >= number / RATE:
                    now = phone_s()
                    ticks = int(now * CLOCK) & 0xFFFFFFFF
                    if number % RATE == 0:
                        fraction = int((now % 1) * 2**32)
                        report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 7, int(now) + NTP, fraction, ticks, number, 0)
                        media.sendto(report, ("127.0.0.1", ports[1]))
                    head = struct.pack("!BBHII", 0x80, 100, number & 0xFFFF, ticks, 7)
                    media.sendto(head + self.packet(number), ("127.0.0.1", ports[0]))
                    number += 1

    def close(self) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()
        for thread in self.threads:
            thread.join(2)
        for server in filter(None, (self.rtsp, self.echo)):
            server.close()


@pytest.fixture
def companion() -> Iterator[Companion]:
    made = Companion()
    yield made
    made.close()


def test_gaze_arrives_in_the_scene_at_its_time(companion: Companion) -> None:
    source = open_live_gaze(f"neon:127.0.0.1:{companion.port}")
    pieces, late_ms = [], []
    for samples in read(source, 2):
        pieces.append(samples)
        late_ms.append((time.monotonic_ns() - int(samples.t_ns[-1])) / MS)
    source.close()
    source.close()
    x, y = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in "xy")
    assert len(x) > 120
    assert (np.nanmin(x), np.nanmax(y)) == (0.25, 0.75)
    assert np.isnan(x).mean() == pytest.approx(0.1, abs=0.03)  # not worn
    assert {piece.clock for piece in pieces} == {MONOTONIC}
    assert -5 < np.median(late_ms[10:]) < 250
    times = np.concatenate([piece.t_ns for piece in pieces])
    assert np.median(np.diff(times)) == pytest.approx(10 * MS, rel=0.5)
    assert (pieces[0].space, pieces[0].size_px) == ("scene", (1600, 1200))
    assert not pieces[0].has("pupil_left")


def test_eye_state_lids_and_each_eyes_point_come_with_it() -> None:
    companion = Companion(whole, echo=False)
    try:
        source = open_live_gaze(f"neon:localhost:{companion.port}")
        pieces = list(read(source, 1.5))
        source.close()
    finally:
        companion.close()
    one = pieces[-1]
    assert (float(one.pupil_left[0]), float(one.pupil_right[0]), one.pupil_unit) == (3.25, 3.5, "mm")
    assert (float(one.openness_left[0]), float(one.openness_right[0])) == (9.5, 8.5)
    assert (float(one.left_x[0]), float(one.right_y[0])) == (np.float32(380 / 1600), np.float32(920 / 1200))
    assert float(one.x[0]) == 0.25
    assert pieces[0].clock == UNSYNCHRONISED  # without an echo arrivals tell, half a second long
    assert pieces[-1].clock == MONOTONIC


def test_invisible_has_a_smaller_scene() -> None:
    companion = Companion(version="1.0")
    try:
        source = open_live_gaze(f"neon:127.0.0.1:{companion.port}")
        assert next(read(source, 3)).size_px == (1088, 1080)
        source.close()
    finally:
        companion.close()


def test_a_phone_that_is_gone_is_lost_and_read_again_when_it_is_back(
    companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emert_edge.sources.neon_live._SILENT_S", 0.8)
    source = open_live_gaze(f"neon:127.0.0.1:{companion.port}")
    with pytest.raises(SourceError, match=r"has ended|broke off|no gaze has come"):
        for number, _ in enumerate(read(source, 20)):
            if number == 5:
                companion.drop.set()
    companion.drop.clear()
    assert len(next(read(source, 5)))
    source.close()


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_live_gaze("neon:phone")
    with pytest.raises(ValueError, match="no port"):
        open_live_gaze("neon:phone:x")
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(SourceError, match=f"nobody answers at 127.0.0.1, port {port}.*companion app"):
        open_live_gaze(f"neon:127.0.0.1:{port}")
    away = Companion(connected=False)
    try:
        with pytest.raises(SourceError, match="no glasses are connected"):
            open_live_gaze(f"neon:127.0.0.1:{away.port}")
        monkeypatch.setattr(away, "status", lambda: [{"model": "Toaster", "data": {}}])
        with pytest.raises(GazeFormatError, match="no companion app"):
            open_live_gaze(f"neon:127.0.0.1:{away.port}")
    finally:
        away.close()
    odd = Companion(lambda count: b"12345")
    try:
        with pytest.raises(GazeFormatError, match="unknown kind"):
            next(read(open_live_gaze(f"neon:127.0.0.1:{odd.port}"), 3))
    finally:
        odd.close()
