"""Training: resumable to the last digit, reproducible from its seed, on the device's own preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.eye import FEATURE_NAMES, eye_features  # noqa: E402
from emert_edge.reference import training  # noqa: E402
from emert_edge.reference.augment import augment_crops, normalise_crops  # noqa: E402
from emert_edge.reference.checkpoint import load_model, save_checkpoint  # noqa: E402
from emert_edge.reference.evaluation import evaluate_simulated  # noqa: E402
from emert_edge.reference.simulated_data import SessionSet, make_faces  # noqa: E402


class Killed(Exception):
    """Stands for a process that ends between two checkpoints."""


@pytest.fixture(scope="module")
def finished(tiny_plan: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.train(tiny_plan, tmp_path_factory.mktemp("run"), threads=1)


def test_a_finished_run_is_a_model_with_all_that_a_bundle_needs(finished: Path, tiny_plan: Any) -> None:
    model, content = load_model(finished)
    assert not model.training
    assert tuple(content["eye_features"]) == FEATURE_NAMES
    assert len(content["eye_mean"]) == len(content["eye_std"]) == 39
    assert min(content["eye_std"]) > 0
    assert content["plan"] == tiny_plan.model_dump()


@pytest.mark.parametrize("moment", ["face encoder: epoch 2", "sessions: epoch 2"])
def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    moment: str, finished: Path, tiny_plan: Any, tmp_path: Path
) -> None:
    for cache in ("faces.npz", "sessions.npz") if moment.startswith("sessions") else ("faces.npz",):
        (tmp_path / cache).write_bytes(
            (finished.parent / cache).read_bytes()
        )  # drawing them again would only take time

    def kill(line: str) -> None:
        if line.startswith(moment):
            raise Killed

    with pytest.raises(Killed):
        training.train(tiny_plan, tmp_path, kill, threads=1)
    assert not (tmp_path / "model.pt").exists()
    model, _ = load_model(training.train(tiny_plan, tmp_path, threads=1))
    expected, _ = load_model(finished)
    for name, value in expected.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-6), name


def test_a_finished_run_is_not_trained_again(finished: Path, tiny_plan: Any) -> None:
    before = finished.stat().st_mtime_ns
    assert training.train(tiny_plan, finished.parent) == finished
    assert finished.stat().st_mtime_ns == before


def test_another_plan_does_not_go_on_with_a_foreign_run(finished: Path, tiny_plan: Any) -> None:
    with pytest.raises(ValueError, match="other settings \\(faces\\)"):
        training.train(tiny_plan.model_copy(update={"faces": 25}), finished.parent)


def test_windows_hold_what_the_device_would_compute(finished: Path) -> None:
    sessions = SessionSet.load(finished.parent / "sessions.npz")
    scale = training.eye_scale(sessions)
    batch = training.windows_of(sessions, np.array([1, 1]), np.array([4, 16]), scale)
    assert batch.face_mask.tolist() == [[0.0] * 3 + [1.0] * 5, [1.0] * 8]  # half a window seen, and a whole one
    assert batch.eye_mask[0, :16].sum() == 0
    assert batch.fixation_mask[0].tolist()[:4] == [0.0] * 4  # before the first half second there was no gaze
    assert torch.equal(batch.face_tokens[1, -1], torch.from_numpy(sessions.face_tokens[1, 16]))
    raw = sessions.eye[1, 32:64]
    assert np.allclose(batch.eye_tokens[1].numpy(), np.clip((raw - scale.mean) / scale.std, -8, 8), atol=1e-5)
    assert batch.fused.shape == (2, 8, 4, 112, 112)
    assert batch.fused[1, :, 3].max() == 1.0


def test_eye_tokens_are_those_of_the_session(finished: Path, tiny_plan: Any) -> None:
    from emert_edge.reference.simulated_data import _sessions

    sessions = SessionSet.load(finished.parent / "sessions.npz")
    session, pupils, lids = next(_sessions(tiny_plan.sessions, tiny_plan.seed, "train", tiny_plan.session_s))
    own = eye_features(session.gaze, 0, 8_000_000_000, 64)
    kept = [
        column
        for column, name in enumerate(FEATURE_NAMES)
        if (pupils or not name.startswith("pupil")) and (lids or not name.startswith("openness"))
    ]
    assert np.array_equal(sessions.eye[0][:, kept], own[:, kept])


def test_training_people_and_held_out_people_never_meet() -> None:
    train, test = make_faces(7, 0, "train"), make_faces(7, 0, "test")
    assert not any(np.array_equal(a, b) for a in train.crops for b in test.crops)


def test_faces_are_labelled_with_what_was_drawn() -> None:
    faces = make_faces(40, 3, "train")
    assert faces.crops.shape == (40, 3, 112, 112)
    assert np.allclose(faces.weights.sum(1), 1)
    neutral = faces.weights[:, 6] > 0.99
    assert neutral.any()
    assert np.allclose(faces.intensity[neutral], 0, atol=1e-6)
    assert faces.intensity[~neutral].max() <= 1


def test_augmentation_stays_in_range_and_follows_its_generator() -> None:
    crops = torch.from_numpy(make_faces(8, 0, "train").crops)
    first = augment_crops(crops, torch.Generator().manual_seed(1))
    again = augment_crops(crops, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert first.shape == crops.shape
    assert -2.0 - 1e-5 <= first.min() <= first.max() <= 2.0 + 1e-5  # (0 - 0.5) / 0.25 to (1 - 0.5) / 0.25
    assert not torch.allclose(first, normalise_crops(crops), atol=0.1)


def test_evaluation_gives_every_figure_of_the_card(finished: Path, tiny_plan: Any, tmp_path: Path) -> None:
    from emert_edge.reference.card import METRICS

    model, content = load_model(finished)
    scale = training.EyeScale(np.array(content["eye_mean"], np.float32), np.array(content["eye_std"], np.float32))
    figures = evaluate_simulated(model, scale, tiny_plan, tmp_path)
    assert set(figures) == {name for name in METRICS if not name.startswith("end_to_end")}
    for name, value in figures.items():
        assert (-1 if name.endswith("ccc") else 0) <= value <= 1 or (name == "gap_auc" and np.isnan(value)), name


def test_files_that_are_no_models_are_refused_by_name(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(EmertError, match="no such checkpoint"):
        load_model(tmp_path / "absent.pt")
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    with pytest.raises(EmertError, match=r"text\.pt"):
        load_model(text)
    content = torch.load(finished, weights_only=True)
    broken = tmp_path / "broken.pt"
    name = "head.invariant.weight"
    save_checkpoint(broken, {**content, "model": {**content["model"], name: torch.zeros(2, 2)}})
    with pytest.raises(EmertError, match=r"head\.invariant\.weight has shape \(2, 2\)"):
        load_model(broken)
    save_checkpoint(broken, {**content, "model": {k: v for k, v in content["model"].items() if k != name}})
    with pytest.raises(EmertError, match=r"head\.invariant\.weight is missing"):
        load_model(broken)
    save_checkpoint(broken, {**content, "model": {**content["model"], "extra": torch.zeros(1)}})
    with pytest.raises(EmertError, match="extra belongs to no part"):
        load_model(broken)
