"""Answers beside their truth: what an ablation removes has no influence, and nothing is lost on the way to a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.errors import EmertError
from emert_edge.estimate import jensen_shannon
from emert_edge.reference.assessment.predictions import Predictions, predict
from emert_edge.reference.data.windows import SessionData, Windows
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert, EmertConfig

Cut = Callable[..., Windows]
Invent = Callable[..., Predictions]


def same(a: Predictions, b: Predictions, tolerance: float = 0.0) -> bool:
    return all(np.allclose(a.outputs[name], b.outputs[name], atol=tolerance, rtol=0) for name in a.outputs)


def test_every_window_is_answered_once_and_beside_its_own_truth(
    model: Emert, sessions: list[SessionData], windows_of: Cut
) -> None:
    found = predict(model, windows_of(sessions), 5)
    assert set(found.outputs) == set(HEAD_OUTPUTS)
    assert len(found) == 8 * 2  # an estimate from half a window on: two of six points
    assert list(found.session[:4]) == ["session-0", "session-0", "session-1", "session-1"]
    assert found.batch.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3]
    for row, (number, point) in enumerate(windows_of(sessions).index):
        held = sessions[number]
        assert (found.subject[row], found.stimulus[row], found.fold[row]) == (held.subject, held.stimulus, held.fold)
        assert (found.emotion[row], found.expression[row]) == (held.emotion[point], held.expression[point])
        np.testing.assert_array_equal(found.affect[row], held.affect[point])


def test_the_size_of_a_batch_changes_no_answer(model: Emert, few: list[SessionData], windows_of: Cut) -> None:
    windows = windows_of(few)
    for share in (1.0, 0.5):
        assert same(predict(model, windows, 3, eye_share=share), predict(model, windows, 16, eye_share=share), 1e-5)


@pytest.mark.parametrize(
    ("ablation", "blind_to"),
    [
        ("face", ("eye", "maps")),
        ("eye", ("crops",)),
        ("no_face", ("crops",)),
        ("no_eye", ("eye",)),
        ("no_fixation", ("maps",)),
    ],
)
def test_what_an_ablation_removes_has_no_influence_and_what_it_keeps_has(
    model: Emert,
    few: list[SessionData],
    windows_of: Cut,
    session: Callable[..., SessionData],
    ablation: Any,
    blind_to: tuple[str, ...],
) -> None:
    before = predict(model, windows_of(few), ablation=ablation)
    other = session(99)
    for name in ("crops", "eye", "maps"):
        changed = [replace(held, **{name: getattr(other, name)}) for held in few]
        after = predict(model, windows_of(changed), ablation=ablation)
        assert same(before, after, 1e-6) == (name in blind_to), name


def test_without_any_eye_token_left_it_is_as_if_they_were_removed(
    model: Emert, few: list[SessionData], windows_of: Cut
) -> None:
    windows = windows_of(few)
    assert same(predict(model, windows, eye_share=0.0), predict(model, windows, ablation="no_eye"))
    assert not same(predict(model, windows, eye_share=0.5), predict(model, windows), 1e-6)


def test_a_model_of_gaze_points_answers_too_and_has_no_fixation_to_remove(
    few: list[SessionData], windows_of: Cut
) -> None:
    model = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, gaze="points")).eval()
    windows = windows_of(few, maps=False)
    moved = windows_of([replace(held, points=1 - held.points) for held in few], maps=False)
    assert not same(predict(model, windows), predict(model, moved), 1e-6)
    assert same(predict(model, windows, ablation="face"), predict(model, moved, ablation="face"))
    with pytest.raises(ValueError, match="gaze points"):
        predict(model, windows, ablation="no_fixation")


def test_wrong_arguments_are_named(model: Emert, few: list[SessionData], windows_of: Cut) -> None:
    windows = windows_of(few[:1])
    with pytest.raises(ValueError, match="'smell' is unknown"):
        predict(model, windows, ablation="smell")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eye_share"):
        predict(model, windows, eye_share=1.5)
    with pytest.raises(ValueError, match="there is none"):
        predict(model, windows_of([]))


def test_a_model_in_training_is_asked_at_rest_and_left_in_training(
    model: Emert, few: list[SessionData], windows_of: Cut
) -> None:
    windows = windows_of(few)
    at_rest = predict(model, windows)
    model.train()
    try:
        assert same(predict(model, windows), at_rest)
        assert model.training
    finally:
        model.eval()


def test_a_file_gives_back_what_was_saved(invent: Invent, tmp_path: Path) -> None:
    made = invent().with_temperature({"emotion": 1.5})
    made.save(tmp_path / "fold.npz")
    read = Predictions.load(tmp_path / "fold.npz")
    assert read.classes == made.classes
    for name, column in made._columns().items():
        np.testing.assert_array_equal(read._columns()[name], column)
    assert [file.name for file in tmp_path.iterdir()] == ["fold.npz"]


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_file_that_is_something_else_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "fold.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EmertError, match=r"fold\.npz"):
        Predictions.load(file)


def test_a_file_of_other_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "fold.npz", something=np.zeros(3))
    with pytest.raises(EmertError, match=r"fold\.npz: not predictions"):
        Predictions.load(tmp_path / "fold.npz")


def test_pooled_folds_keep_their_batches_apart(invent: Invent) -> None:
    parts = [invent(2, seed=1).in_fold(0), invent(3, seed=2).in_fold(1)]
    pooled = Predictions.joined(parts)
    assert len(pooled) == 50
    assert pooled.batch.tolist() == [*(np.arange(20) // 16), *(2 + np.arange(30) // 16)]
    assert pooled.fold.tolist() == [0] * 20 + [1] * 30
    np.testing.assert_array_equal(pooled.outputs["emotion_logits"][20:], parts[1].outputs["emotion_logits"])


def test_what_does_not_belong_together_is_not_pooled(invent: Invent) -> None:
    made = invent()
    with pytest.raises(ValueError, match="at least one"):
        Predictions.joined([])
    with pytest.raises(ValueError, match="classes"):
        Predictions.joined([made, replace(made, classes=tuple("abcdefg"))])
    with pytest.raises(ValueError, match=r"temperature\.emotion"):
        Predictions.joined([made, made.with_temperature({"emotion": 2.0})])


def test_columns_of_other_lengths_are_refused(invent: Invent) -> None:
    made = invent()
    with pytest.raises(ValueError, match="emotion has 3 rows"):
        replace(made, emotion=made.emotion[:3])
    with pytest.raises(ValueError, match="emotion_logits has 7 columns for 2 classes"):
        replace(made, classes=("a", "b"))


def test_a_temperature_flattens_and_the_gap_is_a_devices(invent: Invent) -> None:
    plain = invent()
    warm = plain.with_temperature({"emotion": 4.0})
    assert (warm.probabilities("emotion").max(1) < plain.probabilities("emotion").max(1)).all()
    np.testing.assert_array_equal(warm.probabilities("emotion", scaled=False), plain.probabilities("emotion"))
    row = 7
    felt, shown = warm.probabilities("emotion")[row], warm.probabilities("expression")[row]
    assert warm.gap()[row] == jensen_shannon(felt, shown)


def test_sessions_of_one_label_become_one_row_each(invent: Invent) -> None:
    made = invent()
    first = np.arange(0, 120, 10).repeat(10)
    whole = replace(made, emotion=made.emotion[first], expression=made.expression[first], affect=made.affect[first])
    assert whole.of_whole_sessions
    cooled = whole.with_temperature({"emotion": 2.0})
    rows = cooled.by_session(batch=4)
    assert list(rows.session) == [f"session-{number}" for number in range(12)]
    assert rows.batch.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]  # four a batch in each of two folds
    np.testing.assert_array_equal(rows.emotion, whole.emotion[::10])
    mean = cooled.probabilities("emotion").reshape(12, 10, 7).mean(1)
    np.testing.assert_allclose(rows.probabilities("emotion"), mean, atol=1e-12)
    values = np.asarray(whole.outputs["expression_intensity"]).reshape(12, 10, 1).mean(1)
    np.testing.assert_allclose(rows.outputs["expression_intensity"], values)


def test_sessions_whose_label_changes_are_not_averaged(invent: Invent) -> None:
    made = invent()
    assert not made.of_whole_sessions
    with pytest.raises(ValueError, match="'session-0' change"):
        made.by_session()
