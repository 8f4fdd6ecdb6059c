"""Write a session down and replay it: python examples/record_and_replay.py

A simulated camera and tracker stand in for real ones. The recording holds no picture; the estimates are the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession


def main() -> None:
    simulated = SimulatedSession.from_seed(3, duration_s=6.0)
    with tempfile.TemporaryDirectory() as folder, Recognizer() as recognizer:
        path = Path(folder, "session.mcap")
        recorded = list(recognizer.run(simulated.face_source(), simulated.gaze, record=path))
        replayed = list(recognizer.run(session=path))
        print(f"{len(recorded)} estimates, {path.stat().st_size / 1024:.0f} KiB")
        print(f"replayed alike: {[one.to_json() for one in replayed] == [one.to_json() for one in recorded]}")


if __name__ == "__main__":
    main()
