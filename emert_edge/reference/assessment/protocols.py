"""What is asked of a model: the nine protocols, and which output and which truth answer each.

The papers (arXiv 2411.05879, 2512.16485) name seven benchmark protocols; nothing that could be read lists them. This
list is our reading, and every report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emert_edge.reference.assessment.predictions import Predictions
from emert_edge.reference.data.windows import AFFECT, UNKNOWN
from emert_edge.simulation import POLARITIES, POLARITY

__all__ = ["PROTOCOLS", "READING", "Classified", "NotMeasurable", "Protocol", "Valued", "protocols_by_name"]

READING = (
    "The papers name seven protocols without listing them in anything that could be read: this list is our reading."
)


@dataclass(frozen=True)
class Classified:
    """Rows of a protocol of classes."""

    rows: npt.NDArray[np.int64]
    """(m,), which rows of the predictions are labelled."""
    classes: tuple[str, ...]
    head: str
    """The logits' name without `_logits`."""
    truth: npt.NDArray[np.int64]
    """(m,)."""
    probabilities: npt.NDArray[np.float64]
    """(m, classes), as a device gives them: with the rows' temperature."""
    unscaled: npt.NDArray[np.float64]
    """(m, classes), at a temperature of 1."""

    @property
    def said(self) -> npt.NDArray[np.int64]:
        """(m,), the most probable class."""
        return np.asarray(self.probabilities.argmax(1), np.int64)


@dataclass(frozen=True)
class Valued:
    """Rows of a protocol of values."""

    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[np.float64]
    """(m,)."""
    said: npt.NDArray[np.float64]
    """(m,)."""


class NotMeasurable(ValueError):
    """The data or the model lack what a protocol needs; the message is the reason."""


@dataclass(frozen=True)
class Protocol:
    """One question.

    Attributes
    ----------
    name : str
        As in the papers' terms: ER is what is felt, FER what the face shows.
    task : {"emotion", "expression"}
    kind : {"classes", "polarity", "valence", "arousal", "intensity"}
    """

    name: str
    task: Literal["emotion", "expression"]
    kind: Literal["classes", "polarity", "valence", "arousal", "intensity"]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics."""
        if self.kind in ("classes", "polarity"):
            return ("WAR", "UAR", "weighted F1")
        return ("MAE", "MSE", "RMSE", "CCC", "PCC")

    def read(self, predictions: Predictions, polarity: Mapping[str, str] = POLARITY) -> Classified | Valued:
        """Take what this protocol compares.

        Parameters
        ----------
        polarity : mapping
            Polarity of each class, by name; rows whose class it leaves out, or maps to "", are not scored.

        Raises
        ------
        NotMeasurable
            If no row has the label, or the model has no such output.
        ValueError
            If the map names a polarity that is none.
        """
        if self.kind in ("classes", "polarity"):
            return self._classified(predictions, polarity)
        return self._valued(predictions)

    def _classified(self, predictions: Predictions, polarity: Mapping[str, str]) -> Classified:
        truth = predictions.emotion if self.task == "emotion" else predictions.expression
        if not (truth >= 0).any():
            raise NotMeasurable(f"the data have no {self.task} labels")
        head, names = str(self.task), predictions.classes
        if self.kind == "polarity":
            head, names = f"{self.task}_polarity", POLARITIES
            truth = _polarities(truth, predictions.classes, polarity)
        if f"{head}_logits" not in predictions.outputs:
            raise NotMeasurable(f"the model has no output {head}_logits")
        rows = np.flatnonzero(truth != UNKNOWN)
        if not len(rows):
            raise NotMeasurable(f"no {self.task} label has a polarity in the map of classes to polarities")
        return Classified(
            rows=rows,
            classes=tuple(names),
            head=head,
            truth=truth[rows],
            probabilities=predictions.probabilities(head)[rows],
            unscaled=predictions.probabilities(head, scaled=False)[rows],
        )

    def _valued(self, predictions: Predictions) -> Valued:
        truth = np.asarray(predictions.affect[:, AFFECT.index(f"{self.task}_{self.kind}")], np.float64)
        rows = np.flatnonzero(np.isfinite(truth))
        if not len(rows):
            raise NotMeasurable(f"the data have no {self.task} {self.kind}")
        # EMERT gives valence and arousal as a pair; a published variant may give the one it was trained for.
        places = {"valence": (f"{self.task}_valence_arousal", 0), "arousal": (f"{self.task}_valence_arousal", 1)}
        for name, column in (places.get(self.kind, ("", 0)), (f"{self.task}_{self.kind}", 0)):
            if name in predictions.outputs:
                said = np.asarray(predictions.outputs[name][rows, column], np.float64)
                return Valued(rows, truth[rows], said)
        raise NotMeasurable(f"the model has no output for {self.task} {self.kind}")


def _polarities(
    truth: npt.NDArray[np.int64], classes: Sequence[str], polarity: Mapping[str, str]
) -> npt.NDArray[np.int64]:
    if unknown := sorted(set(polarity.values()) - {*POLARITIES, ""}):
        raise ValueError(f'polarity {unknown[0]!r} is unknown; use {", ".join(POLARITIES)}, or "" to leave a class out')
    named = [polarity.get(name, "") for name in classes]
    of_class = [POLARITIES.index(name) if name else UNKNOWN for name in named]
    return np.array([*of_class, UNKNOWN], np.int64)[truth]  # an unknown class is -1 and takes the last


PROTOCOLS: tuple[Protocol, ...] = (
    Protocol("ER-3", "emotion", "polarity"),
    Protocol("ER-7", "emotion", "classes"),
    Protocol("ER valence", "emotion", "valence"),
    Protocol("ER arousal", "emotion", "arousal"),
    Protocol("FER-3", "expression", "polarity"),
    Protocol("FER-7", "expression", "classes"),
    Protocol("FER valence", "expression", "valence"),
    Protocol("FER arousal", "expression", "arousal"),
    Protocol("FER intensity", "expression", "intensity"),
)


def protocols_by_name(names: Sequence[str]) -> tuple[Protocol, ...]:
    """Return protocols by their names, however they are cased and joined ("er-valence"); all of them without names.

    Raises
    ------
    ValueError
        For a name that is none; lists those that are.
    """
    known = {_plain(protocol.name): protocol for protocol in PROTOCOLS}
    for name in names:
        if _plain(name) not in known:
            raise ValueError(f"protocol {name!r} is unknown; known are {', '.join(one.name for one in PROTOCOLS)}")
    wanted = {_plain(name) for name in names}
    return tuple(protocol for name, protocol in known.items() if not wanted or name in wanted)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
