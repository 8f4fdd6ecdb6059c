"""Windows: which tokens of a session stand where, and what is masked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="windows are torch's")

from emert_edge.bundle.manifest import FixationInput, WindowSpec  # noqa: E402
from emert_edge.reference.data.windows import SessionData, Windows, eye_scale, window_index  # noqa: E402

WINDOW, FIXATION = WindowSpec(), FixationInput(size=(16, 16))


def session(points: int, seed: int = 0, *, scene: bool = False) -> SessionData:
    """Numbers that tell where they stood."""
    rng = np.random.default_rng(seed)
    spans = 4 * (points - 1)
    return SessionData(
        id=f"s{seed}", subject="a", stimulus=None, fold=2,
        crops=rng.integers(0, 256, (points, 3, 8, 8), dtype=np.uint8),
        face_mask=rng.random(points) < 0.8,
        eye=rng.normal(5, 2, (spans, 39)).astype(np.float32),
        eye_mask=rng.random(spans) < 0.8,
        points=rng.random((spans, 2), np.float32),
        maps=rng.integers(0, 256, (points, 16, 16), dtype=np.uint8),
        map_mask=rng.random(points) < 0.8,
        scenes=rng.integers(0, 256, (points, 3, 16, 16), dtype=np.uint8) if scene else None,
        emotion=rng.integers(0, 7, points), expression=rng.integers(-1, 7, points),
        affect=rng.normal(size=(points, 5)).astype(np.float32),
        reactions=rng.random(7).astype(np.float32) if scene else None,
    )  # fmt: skip


@pytest.mark.parametrize("scene", [False, True])
def test_a_session_comes_back_from_its_cache(scene: bool, tmp_path: Path) -> None:
    held = session(9, 1, scene=scene)
    held.save(tmp_path / "one.npz")
    again = SessionData.load(tmp_path / "one.npz")
    for name, value in vars(held).items():
        other = getattr(again, name)
        assert type(other) is type(value), name
        assert np.array_equal(other, value) if isinstance(value, np.ndarray) else other == value, name
    assert [file.name for file in tmp_path.iterdir()] == ["one.npz"]


def test_every_window_ends_at_its_point() -> None:
    sessions = [session(17, 1), session(17, 2, scene=True)]
    scale = eye_scale(sessions)
    windows = Windows(sessions, window_index(sessions, WINDOW), scale, WINDOW, FIXATION)
    assert len(windows) == 2 * (17 - 4)
    for row, (number, point) in enumerate(windows.index.tolist()):
        batch, held = windows[np.array([row])], sessions[number]
        for token in range(8):
            at = point - 7 + token
            assert float(batch.face_mask[0, token]) == (at >= 0 and held.face_mask[at])
            if at >= 0:
                assert np.array_equal(batch.faces[0, token], held.crops[at])
                assert np.allclose(batch.fused[0, token, 3], held.maps[at] / 255)
                wanted = (held.scenes[at] / 255 - 0.5) / 0.25 if held.scenes is not None else np.zeros((3, 16, 16))
                assert np.allclose(batch.fused[0, token, :3], wanted, atol=1e-6)
        for token in range(32):
            at = 4 * point - 32 + token
            assert float(batch.eye_mask[0, token]) == (at >= 0 and held.eye_mask[at])
            if at >= 0:
                raw = (held.eye[at] - scale.mean) / scale.std
                assert np.allclose(batch.eye_tokens[0, token], np.clip(raw, -8, 8), atol=1e-5)
                assert np.array_equal(batch.points[0, token], held.points[at])
        assert int(batch.emotion[0]) == held.emotion[point]
        assert int(batch.expression[0]) == held.expression[point]
        assert np.isnan(batch.reactions.numpy()).all() == (held.reactions is None)


def test_a_session_shorter_than_half_a_window_gives_its_last_point() -> None:
    assert window_index([session(3)], WINDOW).tolist() == [[0, 2]]


def test_tokens_take_the_place_of_crops() -> None:
    held = session(12)
    tokens = [np.arange(12 * 5, dtype=np.float32).reshape(12, 5)]
    index = np.array([[0, 11]])
    windows = Windows([held], index, eye_scale([held]), WINDOW, None, tokens)
    batch = windows[np.array([0])]
    assert np.array_equal(batch.faces[0], tokens[0][4:12])
    assert batch.fused.shape[1] == 0


def test_a_feature_that_never_changes_is_left_as_it_is() -> None:
    held = session(20)
    held.eye[:, 3] = 7
    scale = eye_scale([held])
    assert scale.std[3] == 1
    assert np.allclose(scale(held.eye)[:, 3], 0)
