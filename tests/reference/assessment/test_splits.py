"""What is tested was neither learnt from nor validated on, whoever and whatever the sessions are of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emert_edge.reference.assessment.splits import SplitImpossible, split


@dataclass(frozen=True)
class Plain:
    """What a split looks at."""

    id: str
    subject: str | None
    stimulus: str | None
    fold: int | None
    emotion: npt.NDArray[np.int64]
    expression: npt.NDArray[np.int64]


def plain(number: int, subject: int, stimulus: int, fold: int, label: int) -> Plain:
    labels = np.full(3, label, np.int64)
    return Plain(f"session-{number}", f"subject-{subject}", f"stimulus-{stimulus}", fold, labels, labels)


SESSIONS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(0, 3), st.integers(-1, 6)), min_size=4, max_size=40
).map(lambda rows: [plain(number, *row) for number, row in enumerate(rows)])


@pytest.mark.parametrize(("kind", "group"), [("subjects", "subject"), ("stimuli", "stimulus"), ("folds", "fold")])
@settings(deadline=None, max_examples=40)
@given(sessions=SESSIONS, folds=st.none() | st.integers(2, 6), seed=st.integers(0, 5))
def test_every_session_is_tested_once_and_its_group_is_in_no_other_part(
    kind: str, group: str, sessions: list[Plain], folds: int | None, seed: int
) -> None:
    try:
        made = split(kind, sessions, folds, seed)  # type: ignore[arg-type]
    except SplitImpossible:
        names = {getattr(session, group) for session in sessions}
        enough = len(names) >= (2 if kind == "folds" else 4 if folds == 2 else max(3, folds or 0))
        # Two given folds need two sessions in each.
        assume(not (kind == "folds" and len(names) == 2))
        assert not enough
        return
    tested = np.concatenate([fold.test for fold in made])
    assert sorted(tested) == list(range(len(sessions)))
    if kind != "folds":
        assert len(made) == (folds or min(5, len({getattr(session, group) for session in sessions})))
    for fold in made:
        parts = (fold.train, fold.validation, fold.test)
        assert all(len(part) for part in parts)
        assert sorted(np.concatenate(parts)) == list(range(len(sessions)))
        groups = [{getattr(sessions[number], group) for number in part} for part in parts]
        assert not groups[2] & (groups[0] | groups[1])
        if kind != "folds" or len({session.fold for session in sessions}) > 2:
            assert not groups[0] & groups[1]


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    sessions = [plain(number, number % 10, number % 3, 0, number % 7) for number in range(40)]

    def tests(seed: int) -> list[list[int]]:
        return [fold.test.tolist() for fold in split("subjects", sessions, 5, seed)]

    assert tests(1) == tests(1)
    assert tests(1) != tests(2)


def test_classes_are_spread_over_folds_where_groups_allow_it() -> None:
    sessions = [plain(number, number, 0, 0, number % 2) for number in range(40)]
    for fold in split("subjects", sessions, 4, 0):
        labels = [sessions[number].emotion[0] for number in fold.test]
        assert labels.count(0) == labels.count(1) == 5


def test_with_two_given_folds_subjects_of_the_other_are_held_out() -> None:
    sessions = [plain(number, number // 2, 0, number // 10, number % 7) for number in range(20)]
    for fold in split("folds", sessions):
        held = {sessions[number].subject for number in fold.validation}
        assert not held & {sessions[number].subject for number in fold.train}
        assert {sessions[number].fold for number in (*fold.train, *fold.validation)} == {1 - fold.number}


def some() -> list[Plain]:
    return [plain(number, number % 4, number % 4, number % 3, 0) for number in range(12)]


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(("kind", "column"), [("subjects", "subject"), ("stimuli", "stimulus")])
def test_a_session_that_names_no_group_is_named(kind: str, column: str, nothing: str | None) -> None:
    sessions = some()
    sessions[3] = replace(sessions[3], **{column: nothing})
    with pytest.raises(SplitImpossible, match=f"'session-3' names no {column}.*column '{column}'"):
        split(kind, sessions)  # type: ignore[arg-type]


def test_why_a_split_is_not_possible_is_said() -> None:
    sessions = some()
    sessions[5] = replace(sessions[5], fold=None)
    with pytest.raises(SplitImpossible, match="'session-5' has no fold"):
        split("folds", sessions)
    with pytest.raises(SplitImpossible, match="all in fold 7"):
        split("folds", [replace(session, fold=7) for session in sessions])
    with pytest.raises(SplitImpossible, match=r"two sessions or more"):
        split("folds", [replace(session, fold=number) for number, session in enumerate(some()[:2])])
    with pytest.raises(SplitImpossible, match="three subjects or more; these sessions have 2"):
        split("subjects", [plain(number, number % 2, 0, 0, 0) for number in range(8)])
    with pytest.raises(SplitImpossible, match=r"6 folds of unseen stimuli need 6 stimuli; .* have 4"):
        split("stimuli", some(), 6)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="'weekdays' is unknown"):
        split("weekdays", some())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2"):
        split("subjects", some(), 1)
