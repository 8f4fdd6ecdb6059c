"""What a stream costs for as long as it runs: python benchmarks/studies/endurance.py [live] [streams] [day] [options]

live      one camera at 30 fps and one tracker at 250 Hz, live, everything on one core: capture, inference, and what
          makes the input
streams   eight cameras at 10 fps and eight trackers at 250 Hz, live, on two cores
day       what a day brings, as fast as it can be taken: each hour's estimates and the memory after it

The latency of an estimate runs from the instant that it is about to the moment that it is handed over: the frame that
closes the instant is waited for, up to a thirtieth or a tenth of a second. Outside of everything: drawing the pictures
(four seconds of a drawn face, 640 × 480, forward and back, a new one four times a second) and the gaze.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil

from emert_edge import Estimate, Recognizer
from emert_edge.eye import GazeSamples
from emert_edge.simulation import SimulatedSession
from emert_edge.sources.frames import Frame

S = 1_000_000_000
GAZE_HZ = 250
PIECE = 5
"""Gaze samples that come together, as from a tracker's network interface."""


class Input:
    """Pictures and gaze, drawn once, for as long as one likes."""

    def __init__(self, seed: int) -> None:
        made = SimulatedSession.from_seed(seed, duration_s=10.0, gaze_rate_hz=GAZE_HZ)
        there = [made.frame(index / 4).image for index in range(16)]
        self.pictures = there + there[-2:0:-1]
        self.gaze = made.gaze

    def picture(self, t_ns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The picture of an instant."""
        return self.pictures[4 * t_ns // S % len(self.pictures)]

    def samples(self, first: int, count: int, t_ns: int) -> GazeSamples:
        """What ten seconds hold in the place of `count` samples from `first` on, so that they end at `t_ns`."""
        begin = first % (10 * GAZE_HZ) * S // GAZE_HZ
        stop = begin + count * S // GAZE_HZ
        return self.gaze.between(begin, stop).shifted(t_ns - stop)


class Camera:
    """A frame source at its own pace; pictures that nobody takes are lost."""

    name, live, clock, size, expected_frames = "camera", True, "monotonic", (640, 480), None

    def __init__(self, made: Input, fps: int, seconds: float) -> None:
        self.made, self.fps, self.seconds = made, fps, seconds

    def frames(self) -> Iterator[Frame]:
        """Frames as they fall due."""
        begun = time.monotonic_ns()
        for number in range(int(self.seconds * self.fps)):
            _sleep_until(begun + number * S // self.fps)
            t_ns = time.monotonic_ns()
            yield Frame(self.made.picture(t_ns - begun).copy(), t_ns, number)

    def close(self) -> None:
        """There is nothing to let go of."""


class Tracker:
    """A gaze source at its own pace."""

    name, live, clock = "tracker", True, "monotonic"

    def __init__(self, made: Input, seconds: float) -> None:
        self.made, self.seconds = made, seconds

    def chunks(self) -> Iterator[GazeSamples]:
        """Samples as they fall due."""
        begun = time.monotonic_ns()
        for number in range(PIECE, int(self.seconds * GAZE_HZ), PIECE):
            at = begun + number * S // GAZE_HZ
            _sleep_until(at)
            yield self.made.samples(number - PIECE, PIECE, at)

    def close(self) -> None:
        """There is nothing to let go of."""


def _sleep_until(t_ns: int) -> None:
    if (left := t_ns - time.monotonic_ns()) > 0:
        time.sleep(left / S)


def on_cores(count: int) -> None:
    """Keep this process, and all threads that it starts, to so many cores."""
    cores = sorted(os.sched_getaffinity(0))[-count:]
    if len(cores) < count:
        sys.exit(f"{count} cores are needed, {len(cores)} are there")
    os.sched_setaffinity(0, cores)


def live(recognizer: Recognizer, streams: int, fps: int, seconds: float) -> dict[str, Any]:
    """Some live streams side by side."""
    made = [Input(5 + number) for number in range(streams)]

    def take(one: Input) -> list[Estimate]:
        with recognizer.live(Camera(one, fps, seconds), Tracker(one, seconds)) as stream:
            return list(stream)

    used = time.process_time()
    with ThreadPoolExecutor(streams) as threads:
        held = list(threads.map(take, made))
    used = time.process_time() - used
    latency = [one.latency_ms for estimates in held for one in estimates[4:]]  # the first ones find the face
    p50, p90, p99 = np.percentile(latency, (50, 90, 99))
    return {
        "streams": streams,
        "fps": fps,
        "seconds": seconds,
        "cores": len(os.sched_getaffinity(0)),
        "precision": recognizer.precision,
        "estimates": [len(estimates) for estimates in held],
        "dropped_frames": sum(estimates[-1].quality.dropped_frames for estimates in held),
        "late_samples": sum(estimates[-1].quality.late_samples for estimates in held),
        "latency_ms": {"p50": p50, "p90": p90, "p99": p99, "largest": max(latency)},
        "cores_busy": used / seconds,
    }


def day(recognizer: Recognizer, hours: float, report: Callable[[str], None]) -> dict[str, Any]:
    """Each hour's cost of an estimate, and the memory after it."""
    made, fps, process = Input(5), 30, psutil.Process()
    per_stride = GAZE_HZ // 2
    rows, held = [], []
    with recognizer.session() as session:
        for stride in range(round(hours * 7200)):
            begin = stride * S // 2
            for index in range(fps // 2):
                session.push_face(made.picture(begin), begin + index * S // fps)
            session.push_gaze(made.samples(stride * per_stride, per_stride, begin + S // 2))
            started = time.perf_counter()
            if session.estimates():
                held.append(time.perf_counter() - started)
            if (stride + 1) % 7200 == 0 or stride + 1 == round(hours * 7200):
                p50, p99 = 1000 * np.percentile(held, (50, 99))
                rows.append({"hour": (stride + 1) / 7200, "p50_ms": p50, "p99_ms": p99,
                             "memory_mb": process.memory_info().rss / 1e6})  # fmt: skip
                report(json.dumps(rows[-1]))
                held = []
    return {"hours": rows}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="of live, streams, day; all if not given")
    parser.add_argument("--seconds", type=float, default=60.0, help="of live and streams")
    parser.add_argument("--hours", type=float, default=24.0, help="of day")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()
    wanted = given.what or ["live", "streams", "day"]
    if unknown := set(wanted) - {"live", "streams", "day"}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    cores = os.sched_getaffinity(0)
    for what in wanted:
        os.sched_setaffinity(0, cores)
        on_cores(2 if what == "streams" else 1)
        with Recognizer(device="cpu", precision=given.precision, threads=2 if what == "streams" else 1) as recognizer:
            recognizer.warmup()
            if what == "day":
                print(json.dumps({"day": day(recognizer, given.hours, lambda line: print(line, flush=True))}))
            else:
                streams, fps = (8, 10) if what == "streams" else (1, 30)
                print(json.dumps({what: live(recognizer, streams, fps, given.seconds)}), flush=True)


if __name__ == "__main__":
    main()
