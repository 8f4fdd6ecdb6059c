"""The table of sessions: recordings become exactly what a device would compute, once; labels are laid over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training data need the extra `train`")

from emert_edge import Recognizer
from emert_edge.errors import EmertError
from emert_edge.eye import eye_features, gaze_points
from emert_edge.inputs import Inputs
from emert_edge.reference.data import gathering
from emert_edge.reference.data import sessions as module
from emert_edge.reference.data.faces import whole_face
from emert_edge.reference.data.gathering import WholeFrame, gather
from emert_edge.reference.data.sessions import TableSessions, load_sessions, read_session_table
from emert_edge.reference.data.windows import EyeScale, Windows, window_index
from emert_edge.simulation import SimulatedSession
from emert_edge.sources import Frame, GazeRecording

S = 1_000_000_000
Frames = Callable[[Path, int], Path]


def table(folder: Path, text: str, **settings: Any) -> TableSessions:
    path = folder / "sessions.csv"
    path.write_text(text, encoding="utf-8")
    return TableSessions(**{"kind": "table", "path": path, "licence": "drawn here", "detector": "whole", **settings})


def gaze_csv(path: Path, seconds: float, *, first_s: float = 0.0, rate_hz: float = 60.0) -> Path:
    """A plain gaze recording that wanders to the right."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    lines = [f"{round((first_s + at) * S)},{0.2 + 0.1 * at:.6f},0.5,3.1,3.2" for at in t]
    path.write_text("\n".join(["t_ns,x,y,pupil_left,pupil_right", *lines]) + "\n", encoding="utf-8")
    return path


# -- what a device would compute --------------------------------------------------------------------------------------


class Taken:
    """Everything that a Recognizer gave to its graphs: crops and maps in their order, and the head's inputs."""

    def __init__(self, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.crops: list[np.ndarray] = []
        self.fused: list[np.ndarray] = []
        self.heads: list[dict[str, np.ndarray]] = []
        forward: Any = recognizer._open_forward()
        head = recognizer._open_engines().head
        run = head.run

        def listened(encoder: Any, kept: list[np.ndarray]) -> Any:
            def add(token: Any, source: Any) -> None:
                kept.append(np.empty(encoder.source.shape[1:], np.float32))
                source.write(kept[-1])
                encoder.add(token, source)

            return add

        def listened_run(count: int) -> None:
            for row in range(count):
                self.heads.append({name: values[row].copy() for name, values in head.inputs.items()})
            run(count)

        monkeypatch.setattr(forward, "face", listened(forward._faces, self.crops))
        monkeypatch.setattr(forward, "fixation", listened(forward._fixations, self.fused))
        monkeypatch.setattr(head, "run", listened_run)


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", precision="fp32", threads=1) as opened:
        yield opened


class Held:
    """A recorded source that holds its frames."""

    live, clock, size, name = False, "simulated", None, "held frames"

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames
        self.expected_frames = len(frames)

    def frames(self) -> Iterator[Frame]:
        yield from self._frames

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def face_frames() -> list[Frame]:
    """A drawn face that is gone for a second, five frames a second."""
    session = dataclasses.replace(SimulatedSession.from_seed(5, duration_s=5.3, fps=5.0), size=(180, 240))
    gone = np.full((180, 240, 3), 90, np.uint8)
    return [dataclasses.replace(f, image=gone if 3.2 <= f.t_ns / S < 4.2 else f.image) for f in session.frames()]


@pytest.mark.parametrize("scene", [True, False])
def test_windows_hold_what_a_recognizer_would_give_to_its_graphs(
    scene: bool, recognizer: Recognizer, face_frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = recognizer.bundle.manifest
    assert manifest.fixation is not None
    assert manifest.eye is not None
    session = SimulatedSession.from_seed(5, duration_s=5.3, fps=4.0, gaze_rate_hz=90.0, scene=scene)
    recording = GazeRecording(session.gaze, "plain", "gaze")
    scenes = session.scene_source() if scene else None
    taken = Taken(recognizer, monkeypatch)
    estimates = list(recognizer.run(face=Held(face_frames), gaze=recording, scene=scenes, gaze_offset_ms=-140))

    data = gather(
        Inputs(Held(face_frames), recording, scenes, "scene"), manifest.face, manifest.fixation, manifest.window,
        recognizer._detector, gaze_offset_ns=-140_000_000,
    )  # fmt: skip
    assert len(estimates) == len(data.face_mask) - manifest.window.face_tokens // 2
    assert 0 < data.face_mask.sum() < len(data.face_mask)  # both kinds are compared
    assert len(taken.crops) == data.face_mask.sum()
    mean, std = (np.reshape(value, (3, 1, 1)) for value in (manifest.face.mean, manifest.face.std))
    for mine, device in zip(data.crops[data.face_mask], taken.crops, strict=True):
        assert np.abs(mine / 255 - (device * std + mean)).max() < 0.51 / 255
    assert (data.scenes is not None) == scene

    scale = EyeScale(np.array(manifest.eye.mean, np.float32), np.array(manifest.eye.std, np.float32))
    windows = Windows([data], window_index([data], manifest.window), scale, manifest.window, manifest.fixation)
    batch = windows[np.arange(len(windows))]
    assert len(windows) == len(taken.heads)
    for row, device_inputs in enumerate(taken.heads):
        assert np.array_equal(batch.face_mask[row], device_inputs["face_mask"])
        assert np.array_equal(batch.eye_mask[row], device_inputs["eye_mask"])
        assert np.array_equal(batch.fixation_mask[row], device_inputs["fixation_mask"])
        seen = device_inputs["eye_mask"] > 0
        assert seen.any()
        assert np.allclose(batch.eye_tokens[row][seen], device_inputs["eye_tokens"][seen], atol=1e-4)
    # Every map that was encoded stands at its place in the last windows.
    reached = np.flatnonzero(data.map_mask)
    for point, device_map in zip(reached.tolist(), taken.fused, strict=True):
        row = min(max(0, point - 4), len(windows) - 1)
        place = 7 - (row + 4 - point)
        step = 0.51 / 255 / np.array([*manifest.fixation.std, 1.0])[:, None, None]
        assert (np.abs(batch.fused[row, place].numpy() - device_map) <= step + 1e-6).all()


def test_gaze_points_and_features_are_those_of_their_spans(made: Any) -> None:
    session = SimulatedSession.from_seed(2, duration_s=3.1, gaze_rate_hz=60.0)
    data = gather(
        Inputs(None, GazeRecording(session.gaze, "plain", "gaze"), None, "scene"),
        made.face, made.fixation, made.window, WholeFrame(1.0),
    )  # fmt: skip
    assert data.eye.shape == (24, 39)
    points = gaze_points(session.gaze, 0, 3 * S, 24)
    assert np.array_equal(data.eye_mask, np.isfinite(points[:, 0]))
    assert np.array_equal(data.points[data.eye_mask], points[data.eye_mask])
    assert np.array_equal(data.eye[data.eye_mask], eye_features(session.gaze, 0, 3 * S, 24)[data.eye_mask])
    assert not data.face_mask.any()
    assert data.crops.shape == (7, 3, 48, 48)


def test_a_frame_that_is_all_face_is_the_crop(
    made: Any, crop: np.ndarray, tmp_path: Path, frame_folder: Frames
) -> None:
    frame_folder(tmp_path / "clip", 3)
    (data,) = load_sessions(table(tmp_path, "id,face,fps\na,clip,2\n"), made, tmp_path / "cache")
    first = cv2.imread(str(tmp_path / "clip" / "frame1.png"))
    assert np.abs(data.crops[0].astype(int) - whole_face(first, (48, 48)).astype(int)).max() <= 1
    assert data.face_mask.tolist() == [True] * 3


def test_a_recording_shorter_than_half_a_window_is_a_session(made: Any, tmp_path: Path, frame_folder: Frames) -> None:
    frame_folder(tmp_path / "one", 1)
    (data,) = load_sessions(table(tmp_path, "id,face\na,one\n"), made, tmp_path / "cache")
    assert data.face_mask.tolist() == [True]
    assert data.eye.shape == (0, 39)
    windows = Windows([data], window_index([data], made.window), EyeScale(np.zeros(39), np.ones(39)), made.window, None)
    assert windows[np.array([0])].face_mask.sum() == 1


def test_a_real_video_and_a_real_gaze_recording(made: Any, tmp_path: Path, shared_data: Path) -> None:
    video = shared_data / "face_clips_pyfeat" / "single_face.mp4"
    gaze = shared_data / "tobii_prolab_ivt" / "I-VT-normal Data export_short.tsv"
    text = f"id,face,gaze,emotion\nreal,{video},{gaze},Anger\n"
    (data,) = load_sessions(table(tmp_path, text, detector="haar"), made, tmp_path / "cache")
    assert data.face_mask[:6].all()  # the video ends after 2.4 s, the gaze goes on
    assert not data.face_mask[6:].any()
    assert data.eye_mask.mean() > 0.9
    assert len(data.eye) == 4 * (len(data.face_mask) - 1)
    assert data.emotion.tolist() == [5] * len(data.face_mask)
    assert data.crops[:6].std() > 20


# -- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path, frame_folder: Frames) -> Path:
    """A folder with two recordings of two seconds."""
    for name in ("one", "two"):
        frame_folder(tmp_path / name, 5)
        gaze_csv(tmp_path / f"{name}.csv", 2.0)
    return tmp_path


TWO = "id,face,gaze,fps,emotion\na,one,one.csv,2,happiness\nb,two,two.csv,2,fear\n"


def test_what_was_decoded_once_is_not_decoded_again(two: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    first = load_sessions(table(two, TWO), made, two / "cache", lines.append)
    assert lines == ["sessions: 1 of 2 decoded", "sessions: 2 of 2 decoded"]
    assert not list((two / "cache").glob("*.part"))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded again")

    for name in ("open_frames", "open_gaze", "gather"):
        monkeypatch.setattr(module, name, refuse)
    text = TWO.replace("emotion", "expression").replace("fear", "anger")  # other labels, the same recordings
    again = load_sessions(table(two, text), made, two / "cache")
    for before, after in zip(first, again, strict=True):
        for field in ("crops", "face_mask", "eye", "eye_mask", "points", "maps", "map_mask"):
            assert np.array_equal(getattr(before, field), getattr(after, field)), field
    assert [data.emotion[0] for data in again] == [-1, -1]
    assert [data.expression[0] for data in again] == [0, 5]


@pytest.mark.parametrize("change", ["file", "offset", "window", "face", "detector", "damage"])
def test_what_has_changed_is_decoded_anew(change: str, two: Path, made: Any) -> None:
    load_sessions(table(two, TWO), made, two / "cache")
    text, settings = TWO, {}
    if change == "file":
        gaze_csv(two / "one.csv", 1.5)
    elif change == "offset":
        text = "id,face,gaze,fps,gaze_offset_ms\na,one,one.csv,2,10\nb,two,two.csv,2,\n"
    elif change == "window":
        made = dataclasses.replace(made, window=made.window.model_copy(update={"face_tokens": 4, "eye_tokens": 16}))
    elif change == "face":
        made = dataclasses.replace(made, face=made.face.model_copy(update={"scale": 1.0}))
    elif change == "detector":
        settings = {"detector": "haar"}
    else:
        damaged = min((two / "cache").iterdir())
        damaged.write_bytes(damaged.read_bytes()[:1000])
    lines: list[str] = []
    load_sessions(table(two, text, **settings), made, two / "cache", lines.append)
    assert len(lines) == (1 if change in ("file", "offset", "damage") else 2)


def test_several_threads_decode_the_same(two: Path, made: Any) -> None:
    alone = load_sessions(table(two, TWO), made, two / "alone")
    both = load_sessions(table(two, TWO, workers=4), made, two / "both")
    assert sorted(file.name for file in (two / "alone").iterdir()) == sorted(f.name for f in (two / "both").iterdir())
    for one, other in zip(alone, both, strict=True):
        assert np.array_equal(one.crops, other.crops)
        assert np.array_equal(one.eye, other.eye)


# -- the table --------------------------------------------------------------------------------------------------------

FULL = (
    "id,face,gaze,subject,stimulus,fold,emotion,emotion_valence,expression,expression_intensity,"
    "reaction_empathic_pain,note\n"
    "a,one,one.csv,P1,film,2,Happiness,-0.5,joy,2.5,0.25,hello\n"
    "\n"
    "b,two,,,,,,,?,,,\n"
)


@pytest.mark.parametrize("kind", ["csv", "semicolons", "parquet", "xlsx"])
def test_labels_as_the_table_gives_them(kind: str, two: Path, made: Any) -> None:
    source = table(two, FULL, labels={"joy": "happiness", "?": ""})
    if kind == "semicolons":
        source.path.write_text(FULL.replace(",", ";").replace("-0.5", "-0,5"), encoding="utf-8-sig")
    elif kind != "csv":
        pandas = pytest.importorskip("pandas")
        frame = pandas.read_csv(source.path)
        path = two / f"sessions.{kind}"
        frame.to_parquet(path) if kind == "parquet" else frame.to_excel(path, index=False)
        source = source.model_copy(update={"path": path})
    lines: list[str] = []
    first, second = read_session_table(source, made.classes, lines.append)
    assert lines == [f"{source.path}: column 'note' is not read"]
    assert (first.id, first.subject, first.stimulus, first.fold) == ("a", "P1", "film", 2)
    assert (first.emotion, first.expression) == (0, 0)
    assert np.array_equal(first.affect, [-0.5, np.nan, np.nan, np.nan, 2.5], equal_nan=True)
    assert first.reactions is not None
    assert [value for value in first.reactions if value == value] == [0.25]
    assert first.reactions[4] == 0.25
    assert (first.face, first.gaze, first.scene) == (two / "one", two / "one.csv", None)
    assert (second.subject, second.fold, second.emotion, second.expression) == (None, None, -1, -1)
    assert second.reactions is None
    data = load_sessions(source, made, two / "cache", lines.append)[0]
    assert data.reactions is not None
    assert np.allclose(data.affect[-1], [-0.5, np.nan, np.nan, np.nan, 2.5], equal_nan=True)
    assert (data.fold, data.subject) == (2, "P1")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,away.mp4,,,,", "line 2, column 'face': there is no such file or folder: .*away.mp4"),
        ("a,one,away.csv,,,", "line 2, column 'gaze': there is no such"),
        ("a,,,,,", "line 2, column 'face': nothing to read"),
        (",one,,,,", "line 2, column 'id': is empty"),
        ("a,one,,joy,,", "line 2, column 'emotion': 'joy' is no class; known are happiness, .*labels"),
        ("a,one,,,1.5,", r"line 2, column 'emotion_valence': 1.5 lies outside \[-1, 1\]"),
        ("a,one,,,high,", "line 2, column 'emotion_valence': 'high' is not a number"),
        ("a,one,,,inf,", "line 2, column 'emotion_valence': inf lies outside"),
        ("a,one,,,,3.01", r"line 2, column 'expression_intensity': 3.01 lies outside \[0, 3\]"),
        ("a,one,,,,\na,two,,,,", "line 3, column 'id': 'a' is already that of line 2"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(row: str, said: str, two: Path, made: Any) -> None:
    source = table(two, f"id,face,gaze,emotion,emotion_valence,expression_intensity\n{row}\n")
    with pytest.raises(EmertError, match=r"sessions\.csv: " + said):
        load_sessions(source, made, two / "cache")
    assert not (two / "cache").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,gaze\na,one.csv\n", "column 'face' is missing; it has id, gaze"),
        ("id,face,face\na,one,two\n", "two columns are called 'face'"),
        ("id,face,emotoin\na,one,fear\n", "column 'emotoin' is unknown; is 'emotion' meant"),
        ("id,face\n", "holds no rows"),
        ("", "not readable as a table"),
        ("id,face\na,one\nb,two,three\n", "not readable as a table .*line 3"),
        ("id,face,fold\na,one,1.5\n", "line 2, column 'fold': 1.5 is not a whole number"),
        ("id,face,scene_space\na,one,wall\n", "column 'scene_space': 'wall' is neither"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(text: str, said: str, two: Path, made: Any) -> None:
    with pytest.raises(EmertError, match=r"sessions\.csv: .*" + said):
        load_sessions(table(two, text), made, two / "cache")


def test_a_missing_table_and_a_wrong_map(two: Path, made: Any) -> None:
    source = table(two, TWO)
    with pytest.raises(EmertError, match="there is no such table"):
        load_sessions(source.model_copy(update={"path": two / "none.csv"}), made, two / "cache")
    with pytest.raises(EmertError, match="'joy' is mapped to 'delight', no class out of happiness"):
        load_sessions(source.model_copy(update={"labels": {"joy": "delight"}}), made, two / "cache")


def test_ten_faults_are_told_and_the_rest_counted(two: Path, made: Any) -> None:
    rows = "".join(f"s{index},away{index}.mp4\n" for index in range(13))
    with pytest.raises(EmertError) as caught:
        load_sessions(table(two, f"id,face\n{rows}"), made, two / "cache")
    assert str(caught.value).count("there is no such file") == 10
    assert str(caught.value).endswith("; and 3 more")


def test_recordings_that_cannot_be_read_are_named_and_the_others_kept(two: Path, made: Any) -> None:
    (two / "bad.mp4").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(EmertError, match=r"line 3, column 'face': .*bad\.mp4 is not a video"):
        load_sessions(table(two, "id,face\na,one\nb,bad.mp4\n"), made, two / "cache")
    assert not (two / "cache").exists()  # seen before anything was decoded
    (two / "bad.csv").write_text("t_ns,x,y\n0,0.5,0.5\n10000000,left,0.5\n", encoding="utf-8")
    with pytest.raises(EmertError, match=r"sessions\.csv: line 2, column 'gaze': .*bad\.csv, line 3, column 'x'"):
        load_sessions(table(two, "id,face,gaze\na,one,bad.csv\nb,two,two.csv\n"), made, two / "cache")
    assert len(list((two / "cache").iterdir())) == 1


def test_a_gaze_table_with_other_columns_and_a_scene_on_a_screen(two: Path, made: Any) -> None:
    text = (two / "one.csv").read_text(encoding="utf-8").replace("t_ns,x,y", "when,gx,gy")
    (two / "other.csv").write_text(text, encoding="utf-8")
    (two / "map.json").write_text('{"when": "t_ns", "gx": "x", "gy": "y", "space": "screen"}', encoding="utf-8")
    rows = "id,face,gaze,scene,fps,scene_space\na,one,other.csv,two,2,{}\n"
    with pytest.raises(EmertError, match=r"line 2, column 'gaze': .*other\.csv"):
        load_sessions(table(two, rows.format("screen")), made, two / "cache")
    mapped = table(two, rows.format("screen"), gaze_columns=two / "map.json")
    (data,) = load_sessions(mapped, made, two / "cache")
    assert data.eye_mask.all()
    assert data.scenes is not None
    assert data.scenes[1:].std() > 10  # the pictures that were looked at
    assert (data.scenes[0] == 128).all()  # no gaze yet: what is masked holds the mean colour
    with pytest.raises(EmertError, match=r"line 2: scene is in 'scene' coordinates|line 2: gaze is in 'screen'"):
        load_sessions(table(two, rows.format(""), gaze_columns=two / "map.json"), made, two / "cache")


def test_yunet_by_name_and_by_file(two: Path, made: Any, shared_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "stored_yunet", lambda: None)
    with pytest.raises(EmertError, match="no YuNet model in the user's store"):
        gathering.detector_named("yunet", made.face)
    assert (
        gathering.detector_named(
            "yunet", made.face, shared_models / "yunet_libfacedetection" / "yunet_s_640_640.onnx"
        ).name
        == "yunet"
    )
    assert gathering.detector_named("haar", made.face).name == "haar"
