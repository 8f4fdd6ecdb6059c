"""Simulated sessions as training data: their truth is the timeline's, and what must not be shared is not."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training data need the extra `train`")

from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.data.faces import DrawnFaces, FaceImages, FolderFaces, stratified_split
from emert_edge.reference.data.simulated import (
    FaceBank,
    SimulatedSessions,
    gather_faces,
    load_simulated,
    make_faces,
    make_session_data,
)
from emert_edge.reference.data.windows import SessionData, Windows, eye_scale, window_index
from emert_edge.simulation import EXPRESSIONS, EYE_GROUPS, MASKS, Segment, SimulatedSession, Timeline

FACE, WINDOW, FIXATION = FaceInput(size=(48, 48), scale=1.12), WindowSpec(), FixationInput()
SECONDS = 10.0
POINTS, SPANS = 21, 80


def make(count: int, split: Any, faces: FaceBank | None, seed: int = 5, **options: Any) -> list[SessionData]:
    return make_session_data(count, seed, split, SECONDS, faces, FACE, WINDOW, FIXATION, **options)


def marked_pictures(each: int, first: int = 0) -> FaceImages:
    """Pictures of one grey apiece, which says which it is: class and number survive light and noise."""
    labels = np.repeat(np.arange(7), each)
    crops = np.empty((len(labels), 3, 48, 48), np.uint8)
    for row in range(len(labels)):
        crops[row] = 100 + (first + row) % 50
    return FaceImages(crops, labels)


def same(one: SessionData, other: SessionData) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(SessionData)]
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b for a, b in pairs
    )


@pytest.fixture(scope="module")
def drawn_faces() -> FaceImages:
    return make_faces(42, 0, "train", FACE)


@pytest.fixture(scope="module")
def sessions(drawn_faces: FaceImages) -> list[SessionData]:
    return make(24, "train", FaceBank(drawn_faces), folds=3)


def test_a_session_holds_what_a_device_would_have_computed(sessions: list[SessionData]) -> None:
    scenes = 0
    for session in sessions:
        assert session.crops.shape == (POINTS, 3, 48, 48)
        assert session.maps.shape == (POINTS, 112, 112)
        assert session.eye.shape == (SPANS, len(FEATURE_NAMES))
        assert session.points.shape == (SPANS, 2)
        assert np.isfinite(session.eye).all()
        assert np.isfinite(session.points).all()
        assert session.affect.shape == (POINTS, 5)
        assert not session.crops[~session.face_mask].any()
        assert session.crops[session.face_mask].reshape(session.face_mask.sum(), -1).std(1).min() > 3
        assert not session.map_mask[0], "before the first half second there is no gaze"
        assert (session.maps[session.map_mask].reshape(session.map_mask.sum(), -1).max(1) == 255).all()
        valid = session.eye[:, FEATURE_NAMES.index("gaze_valid_share")] > 0
        assert np.array_equal(session.eye_mask, valid)
        x = session.eye[:, FEATURE_NAMES.index("gaze_x_mean")]
        assert np.allclose(session.points[valid, 0], x[valid], atol=1e-5)
        assert not session.points[~valid].any()
        scenes += session.scenes is not None
    assert 0 < scenes < len(sessions)
    assert 0 < np.concatenate([~session.face_mask for session in sessions]).mean() < 0.3


def test_windows_are_cut_from_them(sessions: list[SessionData]) -> None:
    index = window_index(sessions, WINDOW)
    batch = Windows(sessions, index, eye_scale(sessions), WINDOW, FIXATION)[np.arange(0, len(index), 37)]
    assert batch.faces.shape[1:] == (8, 3, 48, 48)
    assert batch.fused.shape[1:] == (8, 4, 112, 112)
    assert set(batch.emotion.tolist()) <= set(range(7))


def test_subjects_stimuli_and_pictures_of_folds_and_splits_never_meet() -> None:
    bank = FaceBank(marked_pictures(6))
    parts = bank.dealt(3, seed=0)
    seen = [set(np.unique(part.pictures.crops)) for part in parts]
    assert sum(len(greys) for greys in seen) == len(set.union(*seen)) == 42
    assert all((np.bincount(part.pictures.labels) == 2).all() for part in parts)
    train, test = make(18, "train", bank, folds=3), make(18, "test", bank, folds=3)
    assert {session.fold for session in train} == {0, 1, 2}
    for name in ("subject", "stimulus"):
        of_fold = [{getattr(session, name) for session in train if session.fold == fold} for fold in range(3)]
        assert all(
            a.isdisjoint(b) for a, b in ((of_fold[0], of_fold[1]), (of_fold[0], of_fold[2]), (of_fold[1], of_fold[2]))
        )
        assert set.union(*of_fold).isdisjoint({getattr(session, name) for session in test})
    assert len({session.subject for session in train}) < len(train), "subjects come back"


def test_the_seed_decides_everything(drawn_faces: FaceImages, sessions: list[SessionData]) -> None:
    again = make(24, "train", FaceBank(drawn_faces), folds=3)
    assert all(same(one, other) for one, other in zip(sessions, again, strict=True))
    assert not same(sessions[0], make(1, "train", FaceBank(drawn_faces), seed=6)[0])


def test_labels_are_what_holds_for_most_of_the_last_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    session = SimulatedSession(
        shown=Timeline((Segment(0, "neutral"), Segment(4, "happiness", 0.8))),
        felt=Timeline((Segment(0, "fear"), Segment(6, "sadness"))),
        duration_s=SECONDS,
    )
    monkeypatch.setattr(SimulatedSession, "from_seed", lambda *_, **__: session)
    made = make(1, "train", None)[0]
    names = [EXPRESSIONS[label] for label in made.expression]
    assert names == ["neutral"] * 10 + ["happiness"] * 11  # 2 s of a change at 4 s are half over at 5 s
    assert [EXPRESSIONS[label] for label in made.emotion] == ["fear"] * 14 + ["sadness"] * 7
    assert made.affect[-1] == pytest.approx([-0.7, -0.5, 0.64, 0.4, 2.4])
    few = make(1, "train", None, classes=("sadness", "neutral"))[0]
    assert few.expression.tolist() == [1] * 10 + [-1] * 11
    assert few.emotion.tolist() == [-1] * 14 + [0] * 7


def test_pictures_show_what_is_shown_and_change_now_and_then() -> None:
    pictures = marked_pictures(6)
    bank = FaceBank(pictures)
    shown = Timeline((Segment(0, "anger"), Segment(10, "surprise")))
    times = [0.5 * point for point in range(41)]
    for seed in range(4):
        crops = bank.play(shown, times, np.random.default_rng(seed)).astype(float)
        grey = crops.mean((1, 2, 3))
        # One camera sees them all: gain and offset are the session's, so greys keep the order of the pictures.
        first, second = grey[:20], grey[20:]
        assert second.mean() != pytest.approx(first.mean(), abs=3)
        changes = (np.abs(np.diff(first)) > 0.5).sum()
        assert 4 <= changes <= 19
        assert crops.reshape(len(times), -1).std(1).max() < 8, "a picture of one grey stays one, but for noise"


def test_a_picture_is_moved_and_lit_but_stays_itself(drawn_faces: FaceImages) -> None:
    one = FaceImages(drawn_faces.crops[:7], drawn_faces.labels[:7])
    crops = FaceBank(one).play(Timeline.constant("anger"), [0.5 * n for n in range(20)], np.random.default_rng(0))
    original = one.crops[one.labels == EXPRESSIONS.index("anger")][0].astype(float)

    def alike(crop: np.ndarray[Any, Any]) -> float:
        return float(max(np.corrcoef(crop.ravel(), side.ravel())[0, 1] for side in (original, original[:, :, ::-1])))

    others = [alike(crop) for crop in one.crops if not np.array_equal(crop, original)]
    assert np.mean([alike(crop) for crop in crops]) > 0.6
    assert np.mean([alike(crop) for crop in crops]) > np.mean(others)
    assert len({crop.tobytes() for crop in crops}) == 20


def test_what_is_felt_and_what_hides_it_are_told_apart_by_the_eyes() -> None:
    group = {name: group for group, names in EYE_GROUPS.items() for name in names}
    assert set(group) == set(EXPRESSIONS) == set(MASKS)
    assert all(group[felt] != group[shown] for felt, shown in MASKS.items())
    assert len({(group[felt], shown) for felt, shown in MASKS.items()}) == 7, "eyes and mask together tell what is felt"


def test_missing_pictures_and_wrong_sizes_are_named() -> None:
    pictures = marked_pictures(2)
    with pytest.raises(EmertError, match="no picture of disgust"):
        FaceBank(pictures[np.flatnonzero(pictures.labels != EXPRESSIONS.index("disgust"))])
    with pytest.raises(ValueError, match="the encoder takes \\(112, 112\\)"):
        make_session_data(1, 0, "train", 4.0, FaceBank(pictures), FaceInput(), WINDOW, FIXATION)


def configuration(seed: int = 0) -> Any:
    return SimpleNamespace(seed=seed, classes=EXPRESSIONS, face=FACE, window=WINDOW, fixation=FIXATION)


def test_a_configurations_sessions_are_kept(tmp_path: Path) -> None:
    source = SimulatedSessions(
        kind="simulated",
        sessions=4,
        session_s=4.0,
        faces=(DrawnFaces(kind="drawn", count=28),),
        held_out=0.3,
        drawn=0.0,
    )
    made = load_simulated(source, configuration(), tmp_path)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    kept = load_simulated(source, configuration(), tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    assert all(same(one, other) for one, other in zip(made, kept, strict=True))
    assert not same(made[0], load_simulated(source, configuration(seed=1), tmp_path)[0])
    other = load_simulated(source.model_copy(update={"split": "test"}), configuration(), tmp_path)
    assert {session.subject for session in made}.isdisjoint({session.subject for session in other})


def test_only_pictures_that_an_encoder_did_not_learn_from_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emert_edge.reference.data import simulated

    pictures = marked_pictures(6)
    monkeypatch.setattr(simulated, "read_faces", lambda *_: pictures)
    source = SimulatedSessions(kind="simulated", faces=(DrawnFaces(kind="drawn", count=42),), held_out=0.34)
    bank = simulated._bank(source, simulated._Run(3, EXPRESSIONS, FACE, WINDOW, FIXATION), tmp_path, lambda line: None)
    learnt = pictures[stratified_split(pictures.labels, 0.34, 3)[0]]
    assert bank is not None
    assert set(np.unique(bank.pictures.crops)).isdisjoint(set(np.unique(learnt.crops)))
    assert len(bank.pictures) + len(learnt) == 42


def test_pictures_are_kept_by_what_they_are(tmp_path: Path) -> None:
    few, more = (DrawnFaces(kind="drawn", count=count) for count in (7, 14))
    for source in (few, more, few):
        assert len(gather_faces(source, 3, EXPRESSIONS, FACE, tmp_path)) == source.count
    assert len(list(tmp_path.iterdir())) == 2
    other = gather_faces(few, 4, EXPRESSIONS, FACE, tmp_path)
    assert not np.array_equal(other.crops, gather_faces(few, 3, EXPRESSIONS, FACE, tmp_path).crops)


def test_a_card_can_say_what_they_are() -> None:
    drawn = SimulatedSessions(kind="simulated", sessions=7)
    assert drawn.describe() == "7 simulated sessions of 24 s (invented gaze and emotion) over drawn faces"
    folder = FolderFaces(kind="folder", path=Path("somewhere/faces.zip"), licence="research only")
    real = drawn.model_copy(update={"faces": (folder,), "held_out": 0.05, "drawn": 0.25})
    assert "did not learn from, of faces.zip (research only), and 25% of them over drawn faces" in real.describe()


def test_real_pictures_play_sessions(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz"
    names = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
    faces = FolderFaces(kind="folder", path=archive, names=names, licence="research use only")
    source = SimulatedSessions(kind="simulated", sessions=5, session_s=8.0, faces=(faces,), drawn=0.0, split="test")
    made = load_simulated(source, configuration(), tmp_path)
    crops = np.concatenate([session.crops[session.face_mask] for session in made])
    assert np.array_equal(crops[:, 0], crops[:, 1]), "FER2013 is grey"
    assert 60 < crops.mean() < 190
    assert crops.std() > 40
