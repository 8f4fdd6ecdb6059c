"""What a bundle answers, to be held beside another machine's answers: answers.py FILE [--beside FILE]

Writes what the packaged bundle says of drawn faces and of one whole session, in FP32 and in INT8; `--beside` compares
with such a file and ends with status 1 where the tolerances of docs/install.md are passed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession

#: Largest difference of a probability.
TOLERANCES = {"fp32": 1e-4, "int8": 0.05}
#: Smallest share of equal answers.
AGREEMENT = {"fp32": 1.0, "int8": 0.98}


def answers() -> dict[str, np.ndarray]:
    """Probabilities for faces, and of the estimates of a session, in each precision."""
    people = [SimulatedSession.from_seed(seed, duration_s=4.0, fps=10) for seed in range(12)]
    faces = [person.frame(at).image[40:440, 120:520] for person in people for at in (0.5, 2.0, 3.5)]
    frames = list(people[0].frames())
    told = {}
    for precision in TOLERANCES:
        with Recognizer(device="cpu", precision=precision, threads=1) as recognizer:
            told[f"{precision} faces"] = np.asarray(recognizer.expressions(faces), np.float64)
            with recognizer.session() as session:
                session.push_gaze(people[0].gaze)
                for frame in frames:
                    session.push_face(frame.image, frame.t_ns)
                estimates = session.estimates()
        for name in ("emotion", "expression"):
            told[f"{precision} {name}"] = np.array(
                [list(getattr(one, name).probabilities.values()) for one in estimates]
            )
    return told


def compare(here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> bool:
    """Print each difference; whether all keep their bounds."""
    kept = here.keys() == there.keys()
    for name, values in here.items():
        precision = name.split()[0]
        other = there[name]
        same_shape = values.shape == other.shape
        difference = float(np.abs(values - other).max()) if same_shape else np.inf
        agreement = float((values.argmax(1) == other.argmax(1)).mean()) if same_shape else 0.0
        good = difference <= TOLERANCES[precision] and agreement >= AGREEMENT[precision]
        print(
            f"{name}: {len(values)} answers, largest difference {difference:.2g} (at most {TOLERANCES[precision]:g}), "
            f"{100 * agreement:.1f} % the same class (at least {100 * AGREEMENT[precision]:g} %)"
            f"{'' if good else ': FAILED'}"
        )
        kept = kept and good
    return kept


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--beside", type=Path)
    given = parser.parse_args()
    found = answers()
    np.savez(given.file, **found)
    if given.beside is None:
        return 0
    with np.load(given.beside) as held:
        return 0 if compare(found, dict(held)) else 1


if __name__ == "__main__":
    sys.exit(main())
