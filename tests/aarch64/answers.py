"""What a bundle answers on one machine, held beside what it answers on another.

    answers.py FILE           draw faces and a session, answer, and write both
    answers.py FILE --check   answer what lies in FILE, and compare; ends with status 1 beyond the tolerances

The packaged bundle is asked, in FP32 and in INT8, what drawn faces show and what a whole session feels and shows. The
second machine draws nothing: an emulated one would take minutes for it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from emert_edge import GazeSamples, Recognizer
from emert_edge.eye.samples import ARRAY_NAMES
from emert_edge.simulation import SimulatedSession

#: Largest difference of a probability.
TOLERANCES = {"fp32": 1e-4, "int8": 0.05}
#: Smallest share of equal answers.
AGREEMENT = {"fp32": 1.0, "int8": 0.98}

Arrays = dict[str, np.ndarray]


def draw() -> Arrays:
    """Twelve people's faces, and one person's frames and gaze."""
    people = [SimulatedSession.from_seed(seed, duration_s=4.0, fps=4) for seed in range(12)]
    faces = [person.frame(0.25 * place).image[40:440, 120:520] for place, person in enumerate(people)]
    frames = list(people[0].frames())
    gaze = people[0].gaze
    return {
        "faces": np.stack(faces),
        "frames": np.stack([frame.image for frame in frames]),
        "frame_times": np.array([frame.t_ns for frame in frames]),
        **{f"gaze.{name}": getattr(gaze, name) for name in ("t_ns", *ARRAY_NAMES)},
        "gaze_kind": np.array([gaze.pupil_unit, gaze.space]),
    }


def answer(drawn: Arrays) -> Arrays:
    """Probabilities for the faces, and of the estimates of the session, in each precision."""
    pupil_unit, space = drawn["gaze_kind"].tolist()
    arrays = {name: drawn[f"gaze.{name}"] for name in ("t_ns", *ARRAY_NAMES)}
    gaze = GazeSamples(**arrays, pupil_unit=pupil_unit, space=space)
    answers = {}
    for precision in TOLERANCES:
        with Recognizer(device="cpu", precision=precision, threads=1) as recognizer:
            answers[f"{precision} faces"] = recognizer.expressions(drawn["faces"])
            with recognizer.session() as session:
                session.push_gaze(gaze)
                for frame, t_ns in zip(drawn["frames"], drawn["frame_times"].tolist(), strict=True):
                    session.push_face(frame, t_ns)
                session.finish()
                estimates = session.estimates()
        for task in ("emotion", "expression"):
            answers[f"{precision} {task}"] = np.array(
                [list(getattr(one, task).probabilities.values()) for one in estimates]
            )
    return answers


def compare(here: Arrays, there: Arrays) -> bool:
    """Print each difference; whether all keep their bounds."""
    kept = True
    for name, values in here.items():
        precision = name.split()[0]
        other = there[name]
        alike = values.shape == other.shape
        difference = float(np.abs(values - other).max()) if alike else np.inf
        agreement = float((values.argmax(1) == other.argmax(1)).mean()) if alike else 0.0
        good = len(values) > 0 and difference <= TOLERANCES[precision] and agreement >= AGREEMENT[precision]
        print(
            f"{name}: {len(values)} answers, largest difference {difference:.2g} (at most {TOLERANCES[precision]:g}), "
            f"{100 * agreement:.1f} % the same class (at least {100 * AGREEMENT[precision]:g} %)"
            f"{'' if good else ': FAILED'}"
        )
        kept = kept and good
    return kept


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if not given.check:
        drawn = draw()
        np.savez_compressed(given.file, **drawn, **answer(drawn))
        return 0
    with np.load(given.file) as file:
        held = dict(file)
    return 0 if compare(answer(held), held) else 1


if __name__ == "__main__":
    sys.exit(main())
