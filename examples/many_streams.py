"""Several people at once: one Recognizer, a session each, one batch for all that is due."""

from __future__ import annotations

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession


def main() -> None:
    people = [SimulatedSession.from_seed(seed, duration_s=4.0, fps=10) for seed in range(3)]
    with Recognizer() as recognizer:
        sessions = [recognizer.session() for _ in people]
        for session, person in zip(sessions, people, strict=True):
            session.push_gaze(person.gaze)
        for frames in zip(*(person.frames() for person in people), strict=True):
            for session, frame in zip(sessions, frames, strict=True):
                session.push_face(frame.image, frame.t_ns)
            for number, estimates in enumerate(recognizer.step(sessions)):
                for estimate in estimates:
                    print(f"person {number} at {estimate.time_s:.1f} s: shown {estimate.expression.label}")


if __name__ == "__main__":
    main()
