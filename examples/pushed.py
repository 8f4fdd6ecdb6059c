"""A program with its own loop: push what arrives, take what is ready, survive a tracker that falls silent."""

from __future__ import annotations

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession


def main() -> None:
    simulated = SimulatedSession.from_seed(2, duration_s=8.0)
    with Recognizer() as recognizer, recognizer.session() as session:
        previous_ns = 0
        for frame in simulated.frames():  # your camera
            session.push_face(frame.image, frame.t_ns)
            if frame.t_ns < 5_000_000_000:  # your tracker, unplugged after five seconds
                session.push_gaze(simulated.gaze.between(previous_ns, frame.t_ns))
            previous_ns = frame.t_ns
            for estimate in session.estimates():
                print(f"{estimate.time_s:.1f} s  felt {estimate.emotion.label}, gaze {estimate.quality.gaze:.0%}")
        session.finish()
        for estimate in session.estimates():
            print(f"{estimate.time_s:.1f} s  felt {estimate.emotion.label}, gaze {estimate.quality.gaze:.0%}")


if __name__ == "__main__":
    main()
