"""`emert-edge gaze`: what it writes, what it says, and how it fails."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from emert_edge.cli.gaze import gaze_app
from emert_edge.cli.gaze_map import fixation_map
from emert_edge.errors import EmertError, SourceError
from emert_edge.eye import FEATURE_NAMES, detect_events, eye_features
from emert_edge.sources import open_gaze
from emert_edge.sources.luminance import read_luminance

gaze_app.command(name="map")(fixation_map)  # as the application does

TOBII = "tobii_prolab_ivt/I-VT-normal Data export_short.tsv"


def run(*arguments: object) -> str:
    """The command's output; what it raises is raised."""
    result = CliRunner().invoke(gaze_app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    t = np.arange(500) * 4
    x = np.where(t < 1000, 400, 1200)
    lines = [f"{ms},{px},540,3.{ms % 10}" for ms, px in zip(t.tolist(), x.tolist(), strict=True)]
    path.write_text("ms,gx,gy,p\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    path = tmp_path / "columns.json"
    entries = {"ms": ["t_ns", "ms"], "gx": ["x", "px"], "gy": ["y", "px"], "p": ["pupil_left", "mm"]}
    path.write_text(json.dumps({**entries, "size_px": [1600, 900]}))
    return path


def test_info_says_what_a_recording_holds(shared_data: Path, tmp_path: Path) -> None:
    said = json.loads(run("info", shared_data / TOBII, "--json"))
    assert (said["vendor"], said["samples"], said["size_px"]) == ("tobii_pro_lab", 4860, [1920, 1080])
    assert said["metadata"]["rows_skipped"] == {"Mouse": 138, "event": 2}
    assert said["events"] == {"fixations": 40, "saccades": 44, "blinks": 0}
    for_people = run("info", shared_data / TOBII)
    assert "samples: 4860" in for_people
    assert "Mouse 138" in for_people
    run("info", shared_data / TOBII, "--out", tmp_path / "info.csv")
    rows = {row["name"]: row["value"] for row in read_table(tmp_path / "info.csv")}
    assert (rows["samples"], rows["events.fixations"], rows["metadata.rows_skipped.Mouse"]) == ("4860", "40", "138")
    pupil = json.loads(run("info", shared_data / "pupil_core_export", "--json"))
    assert pupil["metadata"]["share_confidence_0"] == pytest.approx(132 / 9302, abs=1e-6)


def test_events_are_those_of_the_library(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.csv"
    recording = open_gaze(shared_data / TOBII)
    geometry = {key: recording.metadata[key] for key in ("screen_size_mm", "screen_distance_mm")}
    for method in ("ivt", "idt"):
        said = run("events", shared_data / TOBII, "--method", method, "--out", out)
        assert "from the recording" in said
        found = detect_events(recording.samples, method, **geometry)
        rows = read_table(out)
        assert len(rows) == len(found)
        for row, event in zip(rows, found, strict=True):
            assert row["kind"] == type(event).__name__.lower()
            assert (int(row["start_ns"]), int(row["stop_ns"])) == (event.start_ns, event.stop_ns)
    run("events", shared_data / TOBII, "--method", "vendor", "--out", out)
    assert len(read_table(out)) == 84
    said = run("events", shared_data / "pupil_core_export", "--out", out)
    assert "assumed" in said
    with pytest.raises(SourceError, match="no events"):
        run("events", shared_data / "pupil_core_export", "--method", "vendor", "--out", out)


def test_features_are_those_of_the_library(table: Path, columns: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.csv"
    run("features", table, "--gaze-columns", columns, "--out", out)
    rows = read_table(out)
    assert list(rows[0]) == ["start_ns", "stop_ns", *FEATURE_NAMES]
    assert len(rows) == 16
    samples = open_gaze(table, columns=json.loads(columns.read_text())).samples
    expected = eye_features(samples, 0, 2_000_000_000, tokens=16)
    written = np.array([[float(row[name]) for name in FEATURE_NAMES] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(written, expected)
    run("features", table, "--gaze-columns", columns, "--token-ms", "500", "--out", out)
    assert len(read_table(out)) == 4


def test_the_map_is_hot_where_the_gaze_was(table: Path, columns: Path, tmp_path: Path) -> None:
    pytest.importorskip("emert_edge.kernels", reason="the compiled core is not built", exc_type=ImportError)
    out, image = tmp_path / "map.png", tmp_path / "image.png"
    cv2.imwrite(str(image), np.full((450, 800, 3), 60, dtype=np.uint8))
    run("map", table, "--gaze-columns", columns, "--image", image, "--out", out, "--no-scan-path", "--sigma-px", "12")
    picture = cv2.imread(str(out))
    assert picture.shape == (450, 800, 3)
    for x, hot in ((200, True), (600, True), (400, False)):
        assert (int(np.abs(picture[270, x].astype(int) - 60).max()) > 30) is hot
    run("map", table, "--gaze-columns", columns, "--out", out)
    assert cv2.imread(str(out)).shape == (720, 1280, 3)


def made_video(path: Path, count: int = 50, size: tuple[int, int] = (320, 180)) -> Path:
    """A grey video of two seconds that grows brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 40 + 2 * number, np.uint8))
    writer.release()
    return path


def test_a_map_over_a_video_follows_the_gaze(table: Path, columns: Path, tmp_path: Path) -> None:
    video, out = made_video(tmp_path / "scene.mp4"), tmp_path / "map.mp4"
    said = run("map", table, "--gaze-columns", columns, "--video", video, "--out", out, "--trail-s", "0.2")
    assert "50 frames of 320 × 180 pixels" in said
    capture = cv2.VideoCapture(str(out))
    frames = [capture.read()[1] for _ in range(50)]
    capture.release()
    for number, (hot, cold) in ((20, (80, 240)), (45, (240, 80))):
        frame = frames[number].astype(int)
        grey = 40 + 2 * number
        assert np.abs(frame[108, hot] - grey).max() > 30
        assert np.abs(frame[108, cold] - grey).max() < 15
    with pytest.raises(SourceError, match="--offset-s"):
        run("map", table, "--gaze-columns", columns, "--video", video, "--out", out, "--offset-s", "100")
    with pytest.raises(EmertError, match=r"is an \.mp4 file"):
        run("map", table, "--gaze-columns", columns, "--video", video, "--out", tmp_path / "map.png")
    with pytest.raises(FileNotFoundError, match="none"):
        run("map", table, "--gaze-columns", columns, "--video", video, "--out", tmp_path / "none" / "map.mp4")
    assert cv2.VideoCapture(str(out)).isOpened()  # what stood there stands
    assert sorted(one.suffix for one in tmp_path.iterdir()) == [".csv", ".json", ".mp4", ".mp4"]


def test_fused_frames_are_what_the_model_sees(table: Path, columns: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "map.png", tmp_path / "image.png"
    cv2.imwrite(str(image), np.full((450, 800, 3), (200, 60, 10), dtype=np.uint8))
    run("map", table, "--gaze-columns", columns, "--image", image, "--out", out, "--fused")
    picture = cv2.imread(str(out))
    assert picture.shape == (448, 896, 3)
    assert picture[10, 10].tolist() == [200, 60, 10]
    own = picture[268, 448:].astype(int)  # the row of the gaze, in the map's half
    assert own[112].tolist() != own[224].tolist() == own[5].tolist()
    run("map", table, "--gaze-columns", columns, "--video", made_video(tmp_path / "v.mp4"), "--out",
        tmp_path / "f.mp4", "--fused")  # fmt: skip
    assert cv2.VideoCapture(str(tmp_path / "f.mp4")).read()[1].shape == (448, 896, 3)


def test_a_picture_of_another_shape_or_a_moving_heads_is_refused(table: Path, columns: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "map.png", tmp_path / "image.png"
    cv2.imwrite(str(image), np.full((400, 400, 3), 60, dtype=np.uint8))
    square = made_video(tmp_path / "square.mp4", size=(200, 200))
    for seen, name in ((("--image", image), "map.png"), (("--video", square), "map.mp4")):
        given = ("map", table, "--gaze-columns", columns, *seen, "--out", tmp_path / name)
        with pytest.raises(SourceError, match=r"00 × .00 pixels.* 1600 × 900.*--stretch"):
            run(*given)
        assert not (tmp_path / name).exists()
        run(*given, "--stretch")
    columns.write_text(columns.read_text().replace('"size_px"', '"space": "scene", "size_px"'))
    with pytest.raises(SourceError, match="head-worn"):
        run("map", table, "--gaze-columns", columns, "--image", image, "--out", out, "--stretch")
    run("map", table, "--gaze-columns", columns, "--out", out)  # over nothing at all it may be drawn


def test_frames_of_odd_and_differing_sizes_are_all_written(table: Path, columns: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "frames", tmp_path / "map.mp4"
    folder.mkdir()
    for number, (width, height) in enumerate([(321, 181), (321, 181), (160, 90), (640, 360)]):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((height, width, 3), 60, dtype=np.uint8))
    assert "4 frames" in run("map", table, "--gaze-columns", columns, "--video", folder, "--out", out)
    capture = cv2.VideoCapture(str(out))
    sizes = [capture.read()[1].shape for _ in range(4)]
    assert sizes == [(180, 320, 3)] * 4
    assert not capture.read()[0]


def test_real_gaze_lies_where_the_heat_is(shared_data: Path, tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    folder = shared_data / "lund2013_annotated"
    labelled, seen = folder / "annotated_data" / "data used in the article", folder / "Stimuli"
    given = tmp_path / "gaze.csv", tmp_path / "columns.json"
    given[1].write_text('{"ms":["t_ns","ms"],"gx":["x","px"],"gy":["y","px"],"size_px":[1024,768],"space":"screen"}')

    def points(recording: str) -> np.ndarray:
        held = scipy_io.loadmat(labelled / recording, squeeze_me=True)["ETdata"]["pos"].item()[:, 3:5]
        rows = (f"{2 * n},{x},{y}\n" if x or y else f"{2 * n},,\n" for n, (x, y) in enumerate(held.tolist()))
        given[0].write_text("ms,gx,gy\n" + "".join(rows))
        return np.asarray(held)

    looked = points("img/UL43_img_Rome_labelled_MN.mat")
    image, out = seen / "images" / "Rome1024x768.png", tmp_path / "map.png"
    run("map", given[0], "--gaze-columns", given[1], "--image", image, "--out", out)
    hot = np.abs(cv2.imread(str(out)).astype(int) - cv2.imread(str(image))).max(axis=2) > 40
    there = looked[(looked > 0).all(axis=1) & (looked < (1024, 768)).all(axis=1)].astype(int)
    assert hot[there[:, 1], there[:, 0]].mean() > 0.8
    assert hot.mean() < 0.2
    points("video/UL27_video_triple_jump_labelled_RA.mat")
    video = ("--video", seen / "videos" / "triple_jump.avi", "--out", tmp_path / "map.mp4")
    with pytest.raises(SourceError, match="720 × 576"):  # PAL's pixels are not square
        run("map", given[0], "--gaze-columns", given[1], *video)
    assert "143 frames" in run("map", given[0], "--gaze-columns", given[1], *video, "--stretch")


def test_tables_come_as_parquet_too(table: Path, columns: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for command in ("features", "events"):
        for suffix in ("csv", "parquet"):
            run(command, table, "--gaze-columns", columns, "--out", tmp_path / f"{command}.{suffix}")
        one, other = pandas.read_csv(tmp_path / f"{command}.csv"), pandas.read_parquet(tmp_path / f"{command}.parquet")
        held = [column for column in one if one[column].notna().any()]
        assert list(one) == list(other)
        pandas.testing.assert_frame_equal(one[held], other[held], check_dtype=False)


def test_parquet_columns_have_their_types_whatever_they_hold(table: Path, columns: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    out = tmp_path / "events.PARQUET"
    run("events", table, "--gaze-columns", columns, "--out", out)
    held = parquet.read_table(out)
    types = {field.name: str(field.type) for field in held.schema}
    assert held["evidence"].null_count == held.num_rows  # no blink: files with and without must have one schema
    assert {types[name] for name in ("kind", "evidence")} == {"string"}
    assert {types[name] for name in ("start_ns", "stop_ns")} == {"int64"}
    assert {types[name] for name in types if name not in ("kind", "evidence", "start_ns", "stop_ns")} == {"double"}


def test_without_pyarrow_parquet_names_the_extra(
    table: Path, columns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for command in ("info", "events"):
        with pytest.raises(EmertError, match=r"emert-edge\[recordings\]"):
            run(command, table, "--gaze-columns", columns, "--out", tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_features_of_cleaned_pupils(table: Path, columns: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.csv"
    lines = table.read_text().splitlines()
    lines[100] = lines[100].rsplit(",", 1)[0] + ",8.9"
    table.write_text("\n".join(lines) + "\n")
    given = ("features", table, "--gaze-columns", columns, "--out", out)
    run(*given)
    assert max(float(row["pupil_range"]) for row in read_table(out)) > 5
    said = run(*given, "--clean-pupils")
    assert "speed (rejected_left" in said
    assert max(float(row["pupil_range"]) for row in read_table(out)) < 2
    said = run(*given, "--scene", made_video(tmp_path / "scene.mp4"))
    assert "light (peak_s" in said
    with pytest.raises(SourceError, match=r"nothing\.mp4"):
        run(*given, "--scene", tmp_path / "nothing.mp4")


@pytest.fixture
def lit(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A pupil that answers to a screen that turns from dark to bright every four seconds: gaze, video, table."""
    shift_s, rate, seconds = 100.0, 50, 40
    t = np.arange(rate * seconds) / rate
    bright = (((t - 0.5) // 4) % 2 == 1).astype(float)
    smooth = np.convolve(np.append(np.zeros(20), bright), np.full(21, 1 / 21), mode="valid")
    pupil = 5.0 - 1.5 * smooth + np.random.default_rng(0).normal(0, 0.01, t.size)
    pupil[777] = 8.5
    gaze, video, light = tmp_path / "gaze.csv", tmp_path / "scene.avi", tmp_path / "light.csv"
    rows = [f"{round((s + shift_s) * 1e9)},0.5,0.5,{size}" for s, size in zip(t.tolist(), pupil.tolist(), strict=True)]
    gaze.write_text("t_ns,x,y,pupil_left\n" + "\n".join(rows) + "\n")
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for frame in range(10 * seconds):
        writer.write(np.full((48, 64, 3), 200 if (frame // 40) % 2 else 20, dtype=np.uint8))
    writer.release()
    light.write_text("t_s,luminance\n" + "\n".join(f"{4 * n},{(1, 60)[n % 2]}" for n in range(11)) + "\n")
    return gaze, video, light


def test_features_of_pupils_without_their_answer_to_light(lit: tuple[Path, Path, Path], tmp_path: Path) -> None:
    gaze, video, light = lit
    out = tmp_path / "features.csv"
    spread = {}
    for name, options in {
        "clean": ("--clean-pupils",),
        "scene": ("--scene", video),
        "table": ("--luminance", light),
        "a second late": ("--luminance", light, "--offset-s", "-1"),
    }.items():
        said = run("features", gaze, "--token-ms", "1000", "--out", out, *options)
        spread[name] = np.std([float(row["pupil_mean"]) for row in read_table(out) if float(row["pupil_mean"])])
        assert ("light (peak_s" in said) is (name != "clean")
    assert spread["clean"] > 0.5
    assert max(spread["scene"], spread["table"]) < 0.25 * spread["clean"] < spread["a second late"]
    with pytest.raises(ValueError, match="one clock"):
        run("features", gaze, "--out", out, "--luminance", light, "--offset-s", "1000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_s,light\n0,1\n1,2\n", "line 1"),
        ("t_s,t_ms,luminance\n0,0,1\n1,1,2\n", "line 1"),
        ("", "line 1"),
        ("t_s,luminance\n0,1\none,2\n", "line 3"),
        ("t_s,luminance\n0,1\n1\n", "line 3"),
        ("t_s,luminance\n0,1\ninf,2\n", "line 3"),
        ("t_s,luminance\n0,1\n1,-2\n", "line 3"),
        ("t_s,luminance\n0,1\n1,nan\n", "line 3"),
        ("t_s,luminance\n", "line 2"),
        ("t_s,luminance\n0,1\n1e300,1\n", "line 3"),
    ],
)
def test_a_table_of_luminance_that_is_none_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "light.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        read_luminance(path)
    assert str(path) in str(caught.value)
    with pytest.raises(SourceError, match="cannot be read"):
        read_luminance(tmp_path / "none.csv")


def test_a_picture_that_is_none_is_refused(table: Path, columns: Path, tmp_path: Path) -> None:
    for image in (table, tmp_path / "nothing.png", tmp_path):
        with pytest.raises(SourceError, match=image.name):
            run("map", table, "--gaze-columns", columns, "--image", image, "--out", tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_failure_leaves_nothing_behind(table: Path, columns: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"none/features\.csv"):
        run("features", table, "--gaze-columns", columns, "--out", tmp_path / "none" / "features.csv")
    with pytest.raises(SourceError, match="columns"):
        run("features", table, "--out", tmp_path / "features.csv")
    wrong = tmp_path / "columns.json"
    wrong.write_text('{"ms": ["t_ns", "s"], "gx": "x", "gy": "y"}')
    with pytest.raises(SourceError, match="milliseconds"):
        run("features", table, "--gaze-columns", wrong, "--out", tmp_path / "features.csv")
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_the_old_table(
    table: Path, columns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "features.csv"
    out.write_text("old")
    columns.write_text(columns.read_text().replace('["t_ns", "ms"]', '{"name": "t_ns", "unit": "ms"}'))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*features\.csv"):
        run("features", table, "--gaze-columns", columns, "--out", out)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".features*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "x.tsv"),
        ("events", "x.tsv", "--out", "y", "--method", "hmm"),
        ("info", "x.tsv", "--format", "tobii"),
        ("info", "x.tsv", "--format", "pupil_core", "--gaze-columns", "c.json"),
        ("events", "x.tsv", "--out", "y", "--screen-mm", "wide"),
        ("features", "x.tsv", "--out", "y", "--scene", "a.mp4", "--luminance", "b.csv"),
    ],
)
def test_wrong_usage_has_status_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(gaze_app, arguments).exit_code == 2


def test_events_and_features_answer_programs(shared_data: Path) -> None:
    found = json.loads(run("events", shared_data / TOBII, "--json"))
    assert {row["kind"] for row in found} >= {"fixation", "saccade"}
    assert all(row["stop_ns"] >= row["start_ns"] for row in found)
    rows = json.loads(run("features", shared_data / TOBII, "--json"))
    assert set(FEATURE_NAMES) < set(rows[0])


def test_the_command_line_answers_failures_with_one_line_and_status_1(shared_data: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tsv", shared_data / "README.md"):
        command = [sys.executable, "-c", "from emert_edge.cli import main; main()", "gaze", "info", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.strip().splitlines()) == 1
        assert path.name in done.stderr
