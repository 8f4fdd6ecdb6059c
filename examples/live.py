"""A live stream: python examples/live.py [SOURCE] [TRACKER] [SECONDS]

SOURCE is a camera's number, an address (rtsp://…), a GStreamer pipeline (gst:…) or a file, which is played at its own
pace. TRACKER is `lsl:`, `neon:HOST`, `gazepoint:HOST`, a recording, or `-` for none. Without a source a simulated
camera and tracker are played for three seconds.
"""

from __future__ import annotations

import sys
import threading

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession


def main() -> None:
    simulated = SimulatedSession.from_seed(3, duration_s=3.0)
    source = sys.argv[1] if len(sys.argv) > 1 else None
    tracker = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] != "-" else None
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 30.0
    face = int(source) if source is not None and source.isdigit() else source
    gaze = simulated.gaze if source is None else tracker
    with Recognizer() as recognizer:
        recognizer.warmup()
        stream = recognizer.live(face if face is not None else simulated.face_source(), gaze, policy="latest")
        timer = threading.Timer(seconds, stream.stop)
        timer.start()
        for estimate in stream:
            print(
                f"felt {estimate.emotion.label}, shown {estimate.expression.label}, "
                f"{estimate.latency_ms:.0f} ms after the fact, {estimate.quality.dropped_frames} frames dropped"
            )
        timer.cancel()


if __name__ == "__main__":
    main()
