"""A model a fold: each is asked only about what it never saw, and an evaluation that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.bundle.manifest import FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.reference.assessment.crossvalidation import claim, cross_validate, digest, of_whole_sessions
from emert_edge.reference.assessment.predictions import Predictions
from emert_edge.reference.assessment.splits import split
from emert_edge.reference.assessment.variants import VARIANTS
from emert_edge.reference.data.windows import EyeScale, SessionData
from emert_edge.reference.emert import Emert
from emert_edge.simulation import EXPRESSIONS


class FakeTraining:
    """Hands out one model that has learnt nothing, and writes down who asked."""

    def __init__(self, model: Emert, scale: EyeScale, stop_at: int | None = None) -> None:
        self.model, self.scale, self.stop_at = model, scale, stop_at
        self.calls: list[tuple[list[str], list[str], Path, tuple[str, ...]]] = []

    def __call__(
        self, training: Sequence[SessionData], validation: Sequence[SessionData], folder: Path, sees: tuple[str, ...]
    ) -> tuple[Emert, EyeScale]:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(([s.id for s in training], [s.id for s in validation], folder, sees))
        return self.model, self.scale


@pytest.fixture
def go(sessions: list[SessionData], tmp_path: Path) -> Callable[..., dict[str, Predictions]]:
    """Cross-validate over two folds of unseen subjects, with tokens out of thin air."""

    def tokens(model: Emert, some: Sequence[SessionData]) -> list[Any]:
        return [held.crops.mean((2, 3)).repeat(6, 1)[:, :16].astype(np.float32) / 255 for held in some]

    def run(fit: Any, given: list[SessionData] = sessions, **options: Any) -> dict[str, Predictions]:
        return cross_validate(
            "subjects", given, split("subjects", given, 2), fit, tmp_path, encode=tokens, window=WindowSpec(),
            fixation=FixationInput(), classes=EXPRESSIONS, **options,
        )  # fmt: skip

    return run


def test_every_variant_answers_about_every_session_once_and_never_one_that_was_seen(
    go: Callable[..., dict[str, Predictions]],
    model: Emert,
    plain_scale: EyeScale,
    sessions: list[SessionData],
    tmp_path: Path,
) -> None:
    fit = FakeTraining(model, plain_scale)
    found = go(fit)
    assert list(found) == [variant.key for variant in VARIANTS]
    assert [call[3] for call in fit.calls] == 2 * [("eye", "fixation"), ("face",), ("face", "eye", "fixation")]
    for answers in found.values():
        assert len(answers) == 2 * len(sessions)
        assert set(answers.session) == {held.id for held in sessions}
    fused = found["fused"]
    assert set(fused.fold) == {0, 1}
    for number in (0, 1):
        tested = set(fused.session[fused.fold == number])
        for training, validation, folder, _ in fit.calls:
            if f"subjects-{number}-" in folder.name:
                assert not tested & {*training, *validation}
    assert set(fused.temperature) == {"emotion", "expression"}
    assert (fused.temperature["emotion"] == found["half_eye"].temperature["emotion"]).all()
    np.testing.assert_array_equal(found["face_left"].emotion, fused.emotion)
    assert not np.array_equal(found["face_left"].outputs["emotion_logits"], fused.outputs["emotion_logits"])


def test_a_stopped_evaluation_goes_on_with_the_first_model_that_has_not_answered(
    go: Callable[..., dict[str, Predictions]], model: Emert, plain_scale: EyeScale, tmp_path: Path
) -> None:
    stopped = FakeTraining(model, plain_scale, stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        go(stopped)
    again = FakeTraining(model, plain_scale)
    resumed = go(again)
    assert len(again.calls) == 2
    assert not {call[2] for call in again.calls} & {call[2] for call in stopped.calls}
    third = FakeTraining(model, plain_scale)
    for key, answers in go(third).items():
        np.testing.assert_array_equal(answers.outputs["emotion_logits"], resumed[key].outputs["emotion_logits"])
    assert not third.calls
    assert not list(tmp_path.glob("folds/*.part"))


def test_a_model_of_gaze_points_has_no_variants_of_fixation_tokens(
    go: Callable[..., dict[str, Predictions]], plain_scale: EyeScale
) -> None:
    from emert_edge.reference.emert import EmertConfig

    points = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, gaze="points"))
    found = go(FakeTraining(points, plain_scale), fixation_tokens=False)
    assert set(found) == {variant.key for variant in VARIANTS} - {"no_eye", "no_fixation"}


def test_where_labels_are_of_whole_sessions_a_row_is_a_session(
    go: Callable[..., dict[str, Predictions]], model: Emert, plain_scale: EyeScale, sessions: list[SessionData]
) -> None:
    assert not of_whole_sessions(sessions)
    labelled = [
        replace(held, emotion=np.full(6, 2), expression=np.full(6, -1), affect=np.full((6, 5), np.nan, np.float32))
        for held in sessions
    ]
    assert of_whole_sessions(labelled)
    found = go(FakeTraining(model, plain_scale), labelled)
    assert sorted(found["fused"].session) == sorted(held.id for held in sessions)
    assert set(found["fused"].temperature) == {"emotion"}  # no row says what was shown


def test_sessions_are_told_apart_by_groups_and_labels(sessions: list[SessionData]) -> None:
    before = digest(sessions)
    assert before == digest(list(sessions))
    changed = [replace(sessions[0], subject="another"), *sessions[1:]]
    relabelled = [replace(sessions[0], emotion=(sessions[0].emotion + 1) % 7), *sessions[1:]]
    assert len({before, digest(changed), digest(relabelled), digest(sessions[1:])}) == 4


def test_another_evaluation_may_not_take_a_folder_over(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    claim(folder, {"seed": 0, "folds": 5})
    claim(folder, {"folds": 5, "seed": 0})
    with pytest.raises(EmertError, match=r"another evaluation \(folds, splits differ\)"):
        claim(folder, {"seed": 0, "folds": 3, "splits": ("subjects",)})
    (folder / "evaluation.json").write_text("[]")
    with pytest.raises(EmertError, match=r"evaluation\.json: not an evaluation"):
        claim(folder, {"seed": 0})
