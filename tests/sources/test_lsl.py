"""Live gaze from LSL: real outlets in other processes, over loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pylsl = pytest.importorskip("pylsl", reason="pylsl or its liblsl is not here", exc_type=(ImportError, RuntimeError))

from emert_edge import Recognizer  # noqa: E402
from emert_edge.clock import UNSYNCHRONISED  # noqa: E402
from emert_edge.errors import GazeFormatError, SourceError  # noqa: E402
from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze  # noqa: E402
from emert_edge.sources.live_gaze import MONOTONIC  # noqa: E402

from .live_rounds import read  # noqa: E402
from .lsl_outlet import LOCAL  # noqa: E402

MS = 1_000_000
OUTLET = Path(__file__).with_name("lsl_outlet.py")
SECONDS = float(os.environ.get("EMERT_LSL_SECONDS", "4"))  # EMERT_LSL_SECONDS=60 is the whole minute
XY = [
    {"label": "gaze x", "type": "ScreenX", "eye": "both", "unit": "normalized"},
    {"label": "gaze y", "type": "ScreenY", "eye": "both", "unit": "normalized"},
    {"label": "counter", "type": "Diameter", "eye": "left", "unit": "mm"},
]

pylsl.set_config_content(LOCAL)


class Outlet:
    """The other process."""

    def __init__(self, name: str, **asked: Any) -> None:
        told = {"name": name, "channels": XY, "rate": 200, "seconds": 60} | asked
        self.process = subprocess.Popen(
            [sys.executable, str(OUTLET), json.dumps(told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def made(self) -> np.ndarray:
        """The monotonic times before and after each sample's stamp, (n, 2), once it has ended."""
        assert self.process.stdout is not None
        return np.array(json.loads(self.process.stdout.readline()), np.int64)


@contextmanager
def outlet(name: str, **asked: Any) -> Iterator[Outlet]:
    made = Outlet(name, **asked)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        for pipe in (made.process.stdin, made.process.stdout):
            assert pipe is not None
            pipe.close()


def test_a_thousand_hertz_arrive_without_loss_at_their_times() -> None:
    with outlet("fast", rate=1000, seconds=SECONDS, wait=True) as other:
        source = open_live_gaze("lsl:name=fast")
        count, pieces = round(1000 * SECONDS), []
        for samples in read(source, SECONDS + 20):
            pieces.append(samples)
            if sum(map(len, pieces)) == count:
                break
        source.close()
        made = other.made()
    assert {piece.clock for piece in pieces} == {MONOTONIC}
    counter = np.concatenate([piece.pupil_left for piece in pieces])
    assert counter.tolist() == (1.0 + np.arange(1, count + 1) % 1_000_000).tolist()
    t_ns = np.concatenate([piece.t_ns for piece in pieces])
    skew_ns = np.maximum(np.maximum(made[:, 0] - t_ns, t_ns - made[:, 1]), 0)
    told = f"skew: median {np.median(skew_ns) / MS:.3f}, largest {skew_ns.max() / MS:.3f} ms"
    print(f"{count} samples, none lost; {told}")
    assert np.quantile(skew_ns, 0.99) < 2 * MS
    assert (source.clock_steps, float(np.median(pieces[0].x))) == (0, 0.25)


def test_a_clock_that_steps_is_noticed_flagged_and_found_again() -> None:
    with outlet("stepping") as other:
        source = open_live_gaze("lsl:name=stepping")
        marks: list[tuple[str | None, float]] = []
        for number, samples in enumerate(read(source, 4)):
            late_s = (time.monotonic_ns() - int(samples.t_ns[-1])) / 1e9
            marks.append((samples.clock, late_s))
            if number == 30:
                other.say("step 1")
        source.close()
    clocks = [clock for clock, _ in marks]
    assert clocks[0] == clocks[-1] == MONOTONIC
    assert UNSYNCHRONISED in clocks
    assert source.clock_steps == 1
    flagged = [number for number, clock in enumerate(clocks) if clock == UNSYNCHRONISED]
    assert flagged == list(range(flagged[0], flagged[-1] + 1))
    assert all(-0.01 < late_s < 0.5 for clock, late_s in marks if clock == MONOTONIC)
    before, after = (float(np.median([late_s for _, late_s in some])) for some in (marks[:20], marks[-20:]))
    assert abs(after - before) < 0.1  # a tenth of the step; what is left is other load on the machine


def test_a_killed_outlet_is_an_error_and_one_that_comes_back_is_read_on() -> None:
    with outlet("killed") as other:
        source = open_live_gaze("lsl:name=killed")
        with pytest.raises(SourceError, match="lsl:name=killed: the stream is gone"):
            for number, _ in enumerate(read(source, 30)):
                if number == 10:
                    other.process.kill()
    with pytest.raises(SourceError, match="no such stream"):
        next(iter(source.chunks()))
    with outlet("killed"):
        again = next(read(source, 10))
        assert again.clock == MONOTONIC
        assert abs(int(again.t_ns[-1]) - time.monotonic_ns()) < 500 * MS
        source.close()


class Camera:
    """A grey camera, at ten frames a second."""

    name, live, clock, size, expected_frames = "camera", True, "monotonic", (64, 48), None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def frames(self) -> Iterator[Any]:
        from emert_edge.sources import Frame

        begun = time.monotonic_ns()
        for number in range(round(10 * self.seconds)):
            due = begun + number * 100 * MS
            time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
            yield Frame(np.full((48, 64, 3), 128, np.uint8), time.monotonic_ns(), number)

    def close(self) -> None:
        """Nothing is open."""


def test_a_live_run_degrades_while_the_tracker_is_away_and_recovers() -> None:
    first, second = Outlet("worn"), None
    seen = []
    try:
        with Recognizer(device="cpu") as recognizer:
            for estimate in recognizer.live(face=Camera(40), gaze="lsl:name=worn"):
                seen.append((estimate.quality.gaze, "no_gaze" in estimate.quality.degraded))
                if len(seen) == 3:
                    first.process.kill()
                if second is None and seen[-1][1]:  # a whole window without gaze
                    second = Outlet("worn")
                if len(seen) > 60 or (second is not None and seen[-1][0] > 0.9):
                    break
    finally:
        for process in filter(None, (first, second)):
            process.process.kill()
            process.process.communicate()
    assert seen[2][0] >= 0.7  # three of the window's four seconds have passed
    assert any(degraded for _, degraded in seen)
    assert seen[-1][0] > 0.9, seen
    assert not seen[-1][1]


def test_several_streams_and_no_stream_are_errors_that_say_what_there_is() -> None:
    with outlet("one", wait=True), outlet("two", wait=True), outlet("brain", type="EEG", wait=True):
        with pytest.raises(SourceError, match=r"lsl:: several streams fit; choose one.*lsl:name=one.*lsl:name=two|"
                           r"lsl:name=two.*lsl:name=one"):  # fmt: skip
            open_live_gaze("lsl:")
        with pytest.raises(SourceError, match=r"no such stream is on the network, there are .*lsl:name=brain"):
            open_live_gaze("lsl:name=three")
        assert next(read(open_live_gaze("lsl:source_id=two-id,type=Gaze"), 10)).x[0] == 0.25


def test_the_only_gaze_stream_needs_no_name() -> None:
    with outlet("alone"), outlet("brain", type="EEG", wait=True):
        assert next(read(open_live_gaze("lsl:"), 10)).y[0] == 0.75


def test_streams_that_are_no_gaze_are_refused_and_pixels_need_a_size() -> None:
    labels = [{"label": name} for name in ("Fz", "Cz")]
    with (
        outlet("odd", channels=labels, wait=True),
        pytest.raises(GazeFormatError, match="make no points of gaze: Fz, Cz"),
    ):
        open_live_gaze("lsl:name=odd")
    pixels = [{"label": f"gaze_{axis}", "unit": "pixels"} for axis in "xy"]
    with outlet("pixels", channels=pixels):
        with pytest.raises(GazeFormatError, match="size=WIDTHxHEIGHT"):
            next(read(open_live_gaze("lsl:name=pixels"), 5))
        sized = next(read(open_live_gaze("lsl:name=pixels,size=10x100"), 5))
        assert (float(sized.x[0]), float(sized.y[0]), sized.size_px) == (
            pytest.approx(0.025),
            pytest.approx(0.0075),
            (10, 100),
        )


@pytest.mark.parametrize("address", ["lsl:colour=red", "lsl:size=wide", "lsl:size=0x10"])
def test_addresses_that_say_something_else_are_refused(address: str) -> None:
    assert is_live_gaze(address)
    with pytest.raises(ValueError, match=address):
        open_live_gaze(address)


def test_without_pylsl_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(SourceError, match=r"pip install 'emert-edge\[lsl\]'"):
        open_live_gaze("lsl:")
    with pytest.raises(ValueError, match="no live tracker"):
        open_live_gaze("tobii:3")
