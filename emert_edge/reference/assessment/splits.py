"""Which sessions are learnt from, validated on and tested on.

Three ways: the folds that a data set comes with, subjects that training never saw, stimuli that training never saw. The
validation part is cut as the test part is: what may not be shared with the one may not be shared with the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from emert_edge.errors import EmertError

__all__ = ["FOLDS", "SPLITS", "Fold", "Labelled", "SplitImpossible", "SplitKind", "split"]

Ints = npt.NDArray[np.int64]
SplitKind = Literal["folds", "subjects", "stimuli"]

#: Every way to split, and what it asks.
SPLITS: dict[SplitKind, str] = {
    "folds": "folds as the data set gives them",
    "subjects": "subjects that training never saw",
    "stimuli": "stimuli that training never saw",
}
#: Folds where nobody says how many, if there are that many subjects or stimuli.
FOLDS = 5


class SplitImpossible(EmertError):
    """The sessions do not allow a split; the message says why."""


class Labelled(Protocol):
    """What a split must know of a session; `SessionData` has it."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def subject(self) -> str | None:
        """Whose session it is."""

    @property
    def stimulus(self) -> str | None:
        """What was looked at."""

    @property
    def fold(self) -> int | None:
        """The data set's fold."""

    @property
    def emotion(self) -> Ints:
        """(P,), true classes; -1 where unknown."""

    @property
    def expression(self) -> Ints:
        """(P,), true classes; -1 where unknown."""


@dataclass(frozen=True)
class Fold:
    """Numbers of the sessions of each part; each session is in exactly one."""

    number: int
    train: Ints
    validation: Ints
    test: Ints


def split(kind: SplitKind, sessions: Sequence[Labelled], folds: int | None = None, seed: int = 0) -> tuple[Fold, ...]:
    """Split sessions; over all folds every session is tested exactly once.

    Parameters
    ----------
    kind : {"folds", "subjects", "stimuli"}
    sessions : sequence
    folds : int, optional
        How many; if not given, `FOLDS`, or as many as there are subjects or stimuli. Folds as given are what they are.
    seed : int

    Raises
    ------
    SplitImpossible
        If the sessions do not name what the split needs, or name too few; says which session, and what to do.
    ValueError
        For a kind that is unknown, or fewer than two folds.
    """
    if kind not in SPLITS:
        raise ValueError(f"split {kind!r} is unknown; use {', '.join(SPLITS)}")
    if folds is not None and folds < 2:
        raise ValueError(f"folds must be at least 2, not {folds}")
    if kind == "folds":
        return _as_given(sessions, seed)
    return _unseen("subject" if kind == "subjects" else "stimulus", sessions, folds, seed)


def _named(what: Literal["subject", "stimulus"], sessions: Sequence[Labelled]) -> npt.NDArray[np.str_]:
    names = [session.subject if what == "subject" else session.stimulus for session in sessions]
    for session, name in zip(sessions, names, strict=True):
        if not name:
            raise SplitImpossible(
                f"session {session.id!r} names no {what}: a split by {what} needs one for every session "
                f"(column {what!r} of a table of sessions)"
            )
    return np.array(names, np.str_)


def _unseen(
    what: Literal["subject", "stimulus"], sessions: Sequence[Labelled], folds: int | None, seed: int
) -> tuple[Fold, ...]:
    groups = _named(what, sessions)
    many = "subjects" if what == "subject" else "stimuli"
    count = len(np.unique(groups))
    # One group to test, one to validate, one to learn from.
    if count < 3:
        raise SplitImpossible(f"unseen {many} need three {many} or more; these sessions have {count}")
    folds = min(FOLDS, count) if folds is None else folds
    needed = max(folds, 4 if folds == 2 else 3)  # each of two folds must leave two groups to the other
    if count < needed:
        raise SplitImpossible(f"{folds} folds of unseen {many} need {needed} {many}; these sessions have {count}")
    strata = _strata(sessions)
    made = []
    for number, test in enumerate(_parts(groups, strata, folds, seed)):
        rest = np.setdiff1d(np.arange(len(sessions)), test)
        validation = rest[_validation(groups[rest], strata[rest], folds, seed + 1 + number)]
        made.append(Fold(number, np.setdiff1d(rest, validation), validation, test))
    return tuple(made)


def _as_given(sessions: Sequence[Labelled], seed: int) -> tuple[Fold, ...]:
    for session in sessions:
        if session.fold is None:
            raise SplitImpossible(
                f"session {session.id!r} has no fold: the folds of a data set can be used if every session has one "
                "(column 'fold' of a table of sessions)"
            )
    given = np.array([session.fold for session in sessions], np.int64)
    numbers = np.unique(given)
    if len(numbers) < 2:
        raise SplitImpossible(f"the sessions are all in fold {numbers[0] if len(numbers) else '?'}: two are needed")
    made = []
    for place, number in enumerate(numbers):
        test = np.flatnonzero(given == number)
        rest = np.flatnonzero(given != number)
        if len(numbers) > 2:
            validation = np.flatnonzero(given == numbers[(place + 1) % len(numbers)])
        else:
            validation = rest[_inside(sessions, rest, seed + 1 + place)]
        made.append(Fold(int(number), np.setdiff1d(rest, validation), validation, test))
    return tuple(made)


def _inside(sessions: Sequence[Labelled], rest: Ints, seed: int) -> Ints:
    """With two folds there is no third to validate on: so some subjects of the other are, or some sessions."""
    names = [sessions[number].subject or "" for number in rest]
    groups = np.array(names if all(names) and len(set(names)) > 1 else [sessions[n].id for n in rest], np.str_)
    if len(groups) < 2:
        raise SplitImpossible(
            "with two folds, each needs two sessions or more, so that one can be held out to validate"
        )
    return _validation(groups, _strata(sessions)[rest], FOLDS, seed)


def _validation(groups: npt.NDArray[np.str_], strata: Ints, folds: int, seed: int) -> Ints:
    """Hold out about one part in `folds`, at least one group."""
    parts = min(max(2, folds), len(np.unique(groups)))
    return _parts(groups, strata, parts, seed)[0]


def _strata(sessions: Sequence[Labelled]) -> Ints:
    """Return the class that a session shows most often, felt if that is labelled, else shown; -1 without labels."""
    strata = np.full(len(sessions), -1, np.int64)
    for number, session in enumerate(sessions):
        for labels in (session.emotion, session.expression):
            known = labels[labels >= 0]
            if len(known):
                strata[number] = np.bincount(known).argmax()
                break
    return strata


def _parts(groups: npt.NDArray[np.str_], strata: Ints, count: int, seed: int) -> list[Ints]:
    """Cut into parts that share no group, with about the same classes in each where that can be had."""
    strata = strata.copy()
    names, often = np.unique(strata, return_counts=True)
    strata[np.isin(strata, names[often < count])] = -1  # too rare to be in every part
    if (strata == -1).sum() in range(1, count):
        strata[strata == -1] = names[often.argmax()]
    stratified = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    parts = [test for _, test in stratified.split(np.zeros(len(groups)), strata, groups)]
    held = [len(np.unique(groups[part])) for part in parts]
    if min(held) > (count == 2):
        return parts
    # Few groups of many classes may leave a part empty, or another with nothing to validate on: deal the groups out.
    names, place = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(names))[place] % count
    return [np.flatnonzero(dealt == number) for number in range(count)]
