"""The gate: a precision beside FP32 on the same samples, and whether it may take its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emert_edge.bundle.manifest import Evidence, Precision, Target
from emert_edge.reference.assessment.metrics import calibration_error, class_scores

from .probes import Answers

__all__ = ["Bounds", "Compared", "Verdict", "compare", "judge"]


@dataclass(frozen=True)
class Bounds:
    """What a precision may lose against FP32."""

    max_uar_drop: float = 0.5
    """In points: hundredths of the unweighted average recall."""
    min_agreement: float = 98.0
    """Per cent of the samples whose class stays what it was."""
    max_ece_rise: float = 1.0
    """In points: hundredths of the expected calibration error."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and 0 <= value <= 100):
                raise ValueError(f"{name} must be within 0 and 100, not {value}")


@dataclass(frozen=True)
class Compared:
    """One head's answers in a precision beside those in FP32; figures are in [0, 1], and None without labels."""

    head: str
    samples: int
    answered: int
    """Classes that FP32 answers at all."""
    agreement: float
    uar: float | None = None
    fp32_uar: float | None = None
    accuracy: float | None = None
    fp32_accuracy: float | None = None
    ece: float | None = None
    fp32_ece: float | None = None

    @property
    def labelled(self) -> bool:
        """Whether the samples had labels."""
        return self.uar is not None

    def faults(self, bounds: Bounds) -> list[str]:
        """The bounds that were not kept, in words."""
        found = []
        if self.answered < 2:
            found.append(f"{self.head}: FP32 answers one class for all samples, so that agreement says nothing")
        if 100 * self.agreement < bounds.min_agreement:
            found.append(f"{self.head}: agreement {100 * self.agreement:.2f} % (bound {bounds.min_agreement:g} %)")
        for name, drop, bound in (
            ("UAR drop", _points(self.fp32_uar, self.uar), bounds.max_uar_drop),
            ("ECE rise", _points(self.ece, self.fp32_ece), bounds.max_ece_rise),
        ):
            if drop is not None and drop > bound:
                found.append(f"{self.head}: {name} {drop:.2f} points (bound {bound:g})")
        return found


def _points(larger: float | None, smaller: float | None) -> float | None:
    return None if larger is None or smaller is None else 100 * (larger - smaller)


def compare(reference: Answers, tested: Answers, classes: Sequence[str]) -> Compared:
    """Compare one head's answers with those in FP32.

    Parameters
    ----------
    reference : Answers
        FP32's.
    tested : Answers
        Of the precision, for the same samples.
    classes : sequence of str
        In the order of the probabilities.
    """
    agreement = float((reference.said == tested.said).mean())
    answered = len(np.unique(reference.said))
    known = np.flatnonzero(reference.truth >= 0)
    if not len(known):
        return Compared(reference.head, len(reference.truth), answered, agreement)
    truth = reference.truth[known]
    figures: dict[str, float] = {}
    for prefix, answers in (("", tested), ("fp32_", reference)):
        scored = class_scores(truth, answers.said[known], classes).values
        figures |= {
            f"{prefix}uar": scored["UAR"],
            f"{prefix}accuracy": scored["WAR"],
            f"{prefix}ece": calibration_error(truth, answers.probabilities[known]),
        }
    return Compared(reference.head, len(reference.truth), answered, agreement, **figures)


@dataclass(frozen=True)
class Verdict:
    """Whether a precision may take FP32's place, with what speaks for it."""

    precision: Precision
    target: Target
    data: str
    """What it was judged on, in words."""
    heads: tuple[Compared, ...]
    bounds: Bounds

    @property
    def faults(self) -> tuple[str, ...]:
        """The bounds that were not kept, in words."""
        return tuple(fault for head in self.heads for fault in head.faults(self.bounds))

    @property
    def accepted(self) -> bool:
        """Whether every bound was kept."""
        return not self.faults

    @property
    def samples(self) -> int:
        """How many samples it was judged on."""
        return self.heads[0].samples

    def figures(self) -> dict[str, float]:
        """All figures by name, in [0, 1]; where there are several heads each begins with its head's name."""
        found: dict[str, float] = {}
        for head in self.heads:
            prefix = f"{head.head}_" if len(self.heads) > 1 else ""
            values = {name: value for name, value in asdict(head).items() if isinstance(value, float)}
            found |= {f"{prefix}{name}": round(value, 5) for name, value in values.items()}
        found["agreement"] = round(min(head.agreement for head in self.heads), 5)
        return found

    def evidence(self, method: str = "") -> Evidence:
        """What the bundle records."""
        return Evidence(
            precision=self.precision,
            target=self.target,
            data=self.data,
            samples=self.samples,
            labelled=any(head.labelled for head in self.heads),
            figures=self.figures(),
            bounds=asdict(self.bounds),
            method=method,
            accepted=self.accepted,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "precision": self.precision,
            "target": self.target,
            "data": self.data,
            "samples": self.samples,
            "figures": self.figures(),
            "bounds": asdict(self.bounds),
            "accepted": self.accepted,
            "faults": list(self.faults),
        }


def judge(
    precision: Precision,
    target: Target,
    reference: Sequence[Answers],
    tested: Sequence[Answers],
    classes: Sequence[str],
    bounds: Bounds,
    data: str,
) -> Verdict:
    """Judge a precision by its answers beside FP32's."""
    heads = tuple(compare(one, other, classes) for one, other in zip(reference, tested, strict=True))
    return Verdict(precision, target, data, heads, bounds)
