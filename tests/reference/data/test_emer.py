"""The EMER layouts, drawn: nothing of the data set is here."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training data need the extra `train`")
pytest.importorskip("pandas", reason="training data need the extra `train`")

import pandas
from pydantic import ValidationError

from emert_edge.errors import EmertError
from emert_edge.eye import gaze_points
from emert_edge.reference.data.emer import EmerSessions, load_emer, read_emer
from emert_edge.reference.data.gaze_workbook import read_gaze_workbook
from emert_edge.reference.data.tables import read_text_table
from emert_edge.simulation import SimulatedSession

Frames = Callable[[Path, int], Path]
CLIPS = ("2_sport_anger", "15_film_surprise", "8_film_happy")
NUMBERS = {0: "happiness", 1: "surprise", 2: "anger"}


@lru_cache
def eye_behaviour(unit: bool, times: bool) -> bytes:
    """A workbook of eye behaviour as Tobii Pro Lab names it, of a screen of 1920 × 1080."""
    gaze = SimulatedSession.from_seed(0, duration_s=2.2, gaze_rate_hz=60.0).gaze
    point = " [DACS px]" if unit else ""
    columns: dict[str, Any] = {"Recording timestamp" + (" [μs]" if unit else ""): gaze.t_ns // 1000} if times else {}
    columns |= {f"Gaze point X{point}": gaze.x * 1920.0, f"Gaze point Y{point}": gaze.y * 1080.0}
    columns |= {f"Pupil diameter {eye}": getattr(gaze, f"pupil_{eye}") for eye in ("left", "right")}
    held = io.BytesIO()
    pandas.DataFrame(columns).to_excel(held, index=False)
    return held.getvalue()


def eye_workbook(path: Path, *, unit: bool = False, times: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(eye_behaviour(unit, times))
    return path


def labels_workbook(path: Path, **changed: list[Any]) -> Path:
    columns: dict[str, list[Any]] = {
        "ID": list(CLIPS),
        "Emotion": [2, 1, 0],
        "Valence": [-0.68, 0.25, 0.5],
        "Arousal": [0.72, 0.0, None],
        "Intensity": [1.55, 2.58, 3.0],
    }
    pandas.DataFrame({**columns, **changed}).to_excel(path, index=False)
    return path


@pytest.fixture
def old(tmp_path: Path, frame_folder: Frames) -> Path:
    """The older layout: three clips of twelve frames in two sets."""
    for number, clip in zip((1, 1, 5), CLIPS, strict=True):
        frame_folder(tmp_path / "face" / f"set{number}" / clip, 12)
        eye_workbook(tmp_path / "eye" / f"{clip}.xlsx", unit=clip == CLIPS[0])
    labels_workbook(tmp_path / "new_label.xlsx")
    return tmp_path


@pytest.fixture
def new(tmp_path: Path, frame_folder: Frames) -> Path:
    """The newer layout, with videos, and both tasks' labels in one workbook."""
    for clip in CLIPS:
        folder = frame_folder(tmp_path / "face_light_align image" / clip, 4)
        eye_workbook(tmp_path / "eye_movement data" / f"{clip}.xlsx", unit=True)
        for kind in ("face video", "eye_track video"):
            (tmp_path / kind).mkdir(exist_ok=True)
            writer = cv2.VideoWriter(str(tmp_path / kind / f"{clip}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 2, (64, 64))
            for image in sorted(folder.iterdir()):
                writer.write(cv2.imread(str(image)))
            writer.release()
    words = {"ER": ["Anger", "Surprise", "Happiness"], "FER": ["Neutral", "surprise", "Happiness"]}
    labels_workbook(tmp_path / "EMER_label.xlsx", **words, **{"FER Valence": [1, 5, 9]})
    (tmp_path / "emer_set.txt").write_text(f"{CLIPS[0]} 3\n{CLIPS[1]}, set4\n\n{CLIPS[2]}\t5\n", encoding="utf-8")
    return tmp_path


def settings(path: Path, *tasks: dict[str, Any], **more: Any) -> EmerSessions:
    tasks = tasks or ({"task": "expression", "labels": NUMBERS},)
    return EmerSessions(kind="emer", path=path, tasks=tasks, **more)  # type: ignore[arg-type]


def test_the_older_layout(old: Path, made: Any) -> None:
    lines: list[str] = []
    sessions = load_emer(settings(old, fps=6), made, old / "cache", lines.append)
    assert [data.id for data in sessions] == [CLIPS[1], CLIPS[0], CLIPS[2]]
    assert [data.fold for data in sessions] == [1, 1, 5]
    assert [data.expression[0] for data in sessions] == [3, 5, 0]
    assert {data.emotion[0] for data in sessions} == {-1}
    assert np.allclose(sessions[1].affect[0], [np.nan, np.nan, -0.68, 0.72, 1.55], equal_nan=True)
    assert np.isnan(sessions[2].affect[0, 3])
    assert "non-commercial research only" in lines[0]
    assert "EMER: 3 clips" in lines
    for data in sessions:
        assert data.subject is None
        assert data.face_mask.all()
        assert data.eye_mask.any()
        assert data.scenes is None
        # Frames come by their numbers, each brighter than the one before it: frame9, frame10, frame11.
        assert np.all(np.diff(data.crops.astype(float).mean((1, 2, 3))) > 0)


def test_the_newer_layout_with_both_tasks_out_of_one_workbook(new: Path, made: Any) -> None:
    felt = {"task": "emotion", "class_column": "ER", "arousal_column": None}
    shown = {"task": "expression", "class_column": "FER", "valence_column": "FER Valence", "valence_range": (1, 9)}
    source = settings(
        new, felt, {**shown, "arousal_column": None}, fps=2, scene=True, names=r"(?P<subject>\d+)_(?P<stimulus>.+)"
    )
    sessions = {data.id: data for data in load_emer(source, made, new / "cache")}
    data = sessions["2_sport_anger"]
    assert (data.subject, data.stimulus, data.fold) == ("2", "sport_anger", 3)
    assert (data.emotion[0], data.expression[0]) == (5, 6)
    assert np.allclose(data.affect[0], [-0.68, np.nan, -1.0, np.nan, 1.55], equal_nan=True)
    assert sessions["8_film_happy"].affect[0, 2] == 1.0
    assert data.scenes is not None
    assert data.scenes[data.map_mask].std() > 10
    assert [sessions[clip].fold for clip in CLIPS] == [3, 4, 5]


def test_the_newer_layouts_videos(new: Path, made: Any) -> None:
    with pytest.raises(ValidationError, match="detector: say what finds the faces"):
        settings(new, faces="video")
    rows = read_emer(settings(new, faces="video", detector="haar"), made.classes)
    assert {row.face.name for row in rows if row.face} == {f"{clip}.avi" for clip in CLIPS}


def test_what_a_label_means_must_be_said(old: Path, made: Any) -> None:
    with pytest.raises(
        EmertError, match=r"'Emotion' holds 0, 1, 2\. What they mean is not published: say with `labels`"
    ):
        read_emer(settings(old, {"task": "emotion", "labels": {0: "happiness"}}), made.classes)
    labels_workbook(old / "new_label.xlsx", Emotion=["Anger", "Surprise", "Happy"])
    with pytest.raises(EmertError, match=r"'Emotion' holds Anger, Happy, Surprise\."):
        read_emer(settings(old, {"task": "emotion"}), made.classes)
    read_emer(settings(old, {"task": "emotion", "labels": {"happy": "happiness"}}), made.classes)


def test_values_beyond_their_scale(old: Path, made: Any) -> None:
    labels_workbook(old / "new_label.xlsx", Valence=[1, 5, 9])
    with pytest.raises(EmertError, match=r"new_label\.xlsx, line 3, column 'Valence': 5 lies outside \[-1, 1\]"):
        read_emer(settings(old), made.classes)
    rows = read_emer(settings(old, {"task": "expression", "labels": NUMBERS, "valence_range": (1, 9)}), made.classes)
    assert sorted(row.affect[2] for row in rows) == [-1.0, 0.0, 1.0]
    with pytest.raises(ValidationError, match="the lower end comes first"):
        settings(old, {"task": "expression", "valence_range": (1, 1)})


@pytest.mark.parametrize("form", ["{0} 3\n{1}\t3\n{2};set2\n", "set3:\n{0}\n{1}\n\nSet 2\n{2}\n"])
def test_both_forms_of_the_sets(form: str, new: Path, made: Any) -> None:
    (new / "emer_set.txt").write_text(form.format(*CLIPS), encoding="utf-8")
    task = {"task": "emotion", "class_column": "ER"}
    rows = {row.id: row.fold for row in read_emer(settings(new, task), made.classes)}
    assert rows == dict(zip(CLIPS, (3, 3, 2), strict=True))
    (new / "emer_set.txt").write_text("what is this\n", encoding="utf-8")
    with pytest.raises(EmertError, match=r"emer_set\.txt: line 1: 'what is this' is neither"):
        read_emer(settings(new, task), made.classes)


def test_what_lacks_is_named_by_clip(old: Path, made: Any) -> None:
    (old / "eye" / "15_film_surprise.xlsx").unlink()
    labels_workbook(old / "new_label.xlsx", ID=["2_sport_anger", "15_film_surprise", "8_film_sad"])
    with pytest.raises(EmertError) as caught:
        read_emer(settings(old, names=r"\d+_film_(?P<stimulus>.+)"), made.classes)
    assert "clip '15_film_surprise': nothing in 'eye' has its name" in str(caught.value)
    assert "clip '8_film_happy': no label of the expression has its name" in str(caught.value)
    assert "clip '2_sport_anger': its name does not fit `names`" in str(caught.value)
    out = settings(old, leave_out=("15_film_surprise", "8_film_happy"))
    assert [row.id for row in read_emer(out, made.classes)] == ["2_sport_anger"]
    with pytest.raises(EmertError, match="`leave_out`: no clip is called '8_film_hapy'; is '8_film_happy' meant"):
        read_emer(settings(old, leave_out=("15_film_surprise", "8_film_hapy")), made.classes)


def test_wrong_workbooks(old: Path, made: Any) -> None:
    labels_workbook(old / "another.xlsx")
    with pytest.raises(EmertError, match=r"which workbook .*`workbook`; there is another\.xlsx, new_label\.xlsx"):
        read_emer(settings(old), made.classes)
    named = {"task": "expression", "labels": NUMBERS, "workbook": "new_label.xlsx"}
    assert len(read_emer(settings(old, named), made.classes)) == 3
    with pytest.raises(EmertError, match=r"column 'Strength' is missing; it has ID, Emotion, .*`intensity_column`"):
        read_emer(settings(old, {**named, "intensity_column": "Strength"}), made.classes)
    labels_workbook(old / "new_label.xlsx", ID=["a", "a", None])
    with pytest.raises(EmertError, match=r"line 3, column 'ID': 'a' stands in new_label\.xlsx, line 2 already"):
        read_emer(settings(old, named), made.classes)


def test_wrong_folders(tmp_path: Path, old: Path, made: Any) -> None:
    with pytest.raises(EmertError, match="there is no such folder; EMER is given by its authors"):
        read_emer(settings(tmp_path / "away"), made.classes)
    (tmp_path / "else" / "faces").mkdir(parents=True)
    with pytest.raises(EmertError, match=r"not EMER as its settings say: .* there is faces"):
        read_emer(settings(tmp_path / "else"), made.classes)
    with pytest.raises(ValidationError, match=r"needs the groups"):
        settings(old, names="(?P<who>.*)")


# -- eye behaviour in workbooks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False])
def test_a_workbooks_gaze_is_what_was_recorded(unit: bool, tmp_path: Path) -> None:
    expected = SimulatedSession.from_seed(0, duration_s=2.2, gaze_rate_hz=60.0).gaze
    recording = read_gaze_workbook(eye_workbook(tmp_path / "eye.xlsx", unit=unit))
    assert len(recording.samples) == len(expected)
    assert np.abs(recording.samples.t_ns - expected.t_ns).max() < 1000  # whole microseconds
    assert np.allclose(recording.samples.x, expected.x, atol=1e-6, equal_nan=True)
    assert np.allclose(recording.samples.pupil_left, expected.pupil_left, atol=1e-6, equal_nan=True)
    assert recording.samples.size_px == (1920, 1080)
    two = 2_000_000_000
    assert np.allclose(gaze_points(recording.samples, 0, two), gaze_points(expected, 0, two), atol=1e-4, equal_nan=True)


def test_what_a_workbook_does_not_say(tmp_path: Path) -> None:
    path = eye_workbook(tmp_path / "eye.xlsx", times=False)
    with pytest.raises(EmertError, match=r"eye\.xlsx: no column 'Recording timestamp'; .*gaze_rate_hz"):
        read_gaze_workbook(path)
    samples = read_gaze_workbook(path, rate_hz=60.0, screen_px=(3840, 2160)).samples
    expected = SimulatedSession.from_seed(0, duration_s=2.2, gaze_rate_hz=60.0).gaze
    assert np.abs(samples.t_ns - expected.t_ns).max() < 1000
    assert np.allclose(samples.x * 2, expected.x, atol=1e-6, equal_nan=True)


def test_a_larger_screen_is_inferred_from_its_points(tmp_path: Path) -> None:
    t = np.arange(200)
    frame = pandas.DataFrame({"Recording timestamp": t * 10, "Gaze point X": t * 10.0, "Gaze point Y": t * 7.0})
    frame.to_excel(tmp_path / "eye.xlsx", index=False)
    assert read_gaze_workbook(tmp_path / "eye.xlsx").samples.size_px == (2560, 1440)


def test_a_wrong_cell_of_a_workbook_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "eye.xlsx"
    rows = [["Recording timestamp", "Gaze point X", "Gaze point Y"], [0, 1.0, 2.0], [None] * 3, [10, "left", 2.0]]
    pandas.DataFrame(rows).to_excel(path, index=False, header=False)
    assert read_text_table(path).lines == (2, 4)
    with pytest.raises(EmertError, match=r"eye\.xlsx, line 4, column 'Gaze point X': not a number: 'left'"):
        read_gaze_workbook(path)
    path.write_bytes(b"not a workbook")
    with pytest.raises(EmertError, match=r"eye\.xlsx: not readable as a table"):
        read_gaze_workbook(path)
