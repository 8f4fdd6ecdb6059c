"""Pupil Cloud's exports, made in the documented layout, against a short reading that shares nothing with ours."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError
from emert_edge.sources import open_gaze

from .gaze_rounds import same
from .made_gaze import CLOUD_SIZES, marker_mapper, pupil_cloud


def laid(folder: Path, files: dict[str, list[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def rows(lines: list[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(lines))


def numbers(held: list[dict[str, str]], column: str) -> np.ndarray:
    return np.array([float(row[column] or "nan") for row in held])


@pytest.mark.parametrize("device", list(CLOUD_SIZES))
@pytest.mark.parametrize("named", ["folder", "file"])
def test_an_export_reads_as_an_independent_reading_does(tmp_path: Path, device: str, named: str) -> None:
    files = pupil_cloud(device)
    folder = laid(tmp_path / "2024-08-30_10-00", files)
    recording = open_gaze(folder if named == "folder" else folder / "gaze.csv")
    gaze, samples = rows(files["gaze.csv"]), recording.samples
    width, height, _ = CLOUD_SIZES[device]
    assert (recording.vendor, recording.clock, samples.space) == ("pupil_cloud", "utc", "scene")
    assert samples.t_ns.tolist() == [int(row["timestamp [ns]"]) for row in gaze]
    off = numbers(gaze, "worn") == 0
    for ours, column, side in ((samples.x, "gaze x [px]", width), (samples.y, "gaze y [px]", height)):
        theirs = np.where(off, np.nan, numbers(gaze, column) / side)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert float(np.nanmedian(ours)) == pytest.approx(float(np.nanmedian(theirs)), rel=1e-6)
    assert samples.size_px == (width, height)
    assert recording.metadata["device"] == {"neon": "Neon", "invisible": "Pupil Invisible"}[device]
    assert recording.metadata["scene_size_from"] == "azimuth"
    assert recording.metadata["share_not_worn"] == off.mean()
    assert recording.metadata["recording"] == "9c2e"
    if device == "neon":
        eyes = rows(files["3d_eye_states.csv"])
        for ours, column in (
            (samples.pupil_left, "pupil diameter left [mm]"),
            (samples.pupil_right, "pupil diameter right [mm]"),
            (samples.openness_left, "eyelid aperture left [mm]"),
        ):
            np.testing.assert_allclose(ours, np.where(off, np.nan, numbers(eyes, column)), rtol=1e-6)
        assert samples.pupil_unit == "mm"
    else:
        assert samples.pupil_unit is None


def test_its_own_events_are_kept(tmp_path: Path) -> None:
    files = pupil_cloud()
    events = open_gaze(laid(tmp_path / "one", files)).events
    assert events is not None
    for name, ours in (("fixations", events.fixations), ("saccades", events.saccades), ("blinks", events.blinks)):
        theirs = rows(files[f"{name}.csv"])
        assert [(event.start_ns, event.stop_ns) for event in ours] == [
            (int(row["start timestamp [ns]"]), int(row["end timestamp [ns]"])) for row in theirs
        ]
    fixations = rows(files["fixations.csv"])
    np.testing.assert_allclose([event.x * 1600 for event in events.fixations], numbers(fixations, "fixation x [px]"))
    sizes = numbers(rows(files["saccades.csv"]), "amplitude [deg]")
    np.testing.assert_array_equal([event.amplitude_deg for event in events.saccades], sizes)
    # Without their tables, fixations and blinks are what the gaze's own ids say.
    alone = open_gaze(laid(tmp_path / "two", {"gaze.csv": files["gaze.csv"]})).events
    assert alone is not None
    for kind in ("fixations", "blinks"):
        spans = [[(event.start_ns, event.stop_ns) for event in getattr(held, kind)] for held in (alone, events)]
        assert spans[0] == spans[1]


def test_events_of_another_recording_in_the_tables_are_not_this_ones(tmp_path: Path) -> None:
    files = pupil_cloud()
    files["blinks.csv"] += [line.replace("9c2e", "aaaa") for line in files["blinks.csv"][1:]]
    recording = open_gaze(laid(tmp_path / "one", files))
    assert recording.events is not None
    assert len(recording.events.blinks) == 2


def test_a_marker_mappers_export_reads_as_an_independent_reading_does(tmp_path: Path) -> None:
    files = marker_mapper()
    recording = open_gaze(laid(tmp_path / "mapped", files))
    gaze, samples = rows(files["gaze.csv"]), recording.samples
    assert samples.t_ns.tolist() == [int(row["timestamp [ns]"]) for row in gaze]
    for axis in "xy":
        theirs = numbers(gaze, f"gaze position on surface {axis} [normalized]")
        np.testing.assert_allclose(getattr(samples, axis), theirs, rtol=1e-6)
    assert np.isnan(samples.x).mean() == pytest.approx(28 / 300)
    assert (samples.size_px, samples.space, recording.metadata["points"]) == (None, None, "surface")
    assert recording.events is not None
    fixations = rows(files["fixations.csv"])
    np.testing.assert_array_equal(
        [event.x for event in recording.events.fixations], numbers(fixations, "fixation x [normalized]")
    )


@pytest.mark.parametrize(
    ("name", "content", "device"),
    [
        ("info.json", {"module_serial_number": "578846", "gaze_frequency": 200, "wearer_name": "Ada"}, "Neon"),
        ("info.json", {"glasses_serial_number": "abc", "app_version": "1.4"}, "Pupil Invisible"),
        ("scene_camera.json", {"camera_matrix": [[890.1, 0, 812.3], [0, 889.0, 611.0], [0, 0, 1]]}, "Neon"),
        ("scene_camera.json", {"camera_matrix": [[766.1, 0, 548.3], [0, 766.0, 550.0], [0, 0, 1]]}, "Pupil Invisible"),
    ],
)
def test_the_scene_camera_is_told_by_what_lies_beside(
    tmp_path: Path, name: str, content: dict[str, object], device: str
) -> None:
    gaze = [line.rsplit(",", 2)[0] for line in pupil_cloud()["gaze.csv"]]  # no directions
    folder = laid(tmp_path / "one", {"gaze.csv": gaze, name: [json.dumps(content)]})
    recording = open_gaze(folder)
    assert (recording.metadata["device"], recording.metadata["scene_size_from"]) == (device, name)
    assert recording.samples.size_px == ((1600, 1200) if device == "Neon" else (1088, 1080))
    if "gaze_frequency" in content:
        assert recording.metadata["rate_hz_stated"] == 200.0
        assert recording.metadata["participant"] == "Ada"


def test_pixels_of_an_unknown_camera_are_refused(tmp_path: Path) -> None:
    gaze = [line.rsplit(",", 2)[0] for line in pupil_cloud()["gaze.csv"]]
    with pytest.raises(GazeFormatError, match=r"gaze\.csv: points are in pixels, and nothing says"):
        open_gaze(laid(tmp_path / "one", {"gaze.csv": gaze}))


def test_one_pupil_for_both_eyes_and_gaze_without_eye_states(tmp_path: Path) -> None:
    files = pupil_cloud()
    eyes = [line.split(",") for line in files["3d_eye_states.csv"]]
    files["3d_eye_states.csv"] = [",".join(line[:4]) for line in eyes[:1] + eyes[1::2]]
    files["3d_eye_states.csv"][0] = "section id,recording id,timestamp [ns],pupil diameter [mm]"
    recording = open_gaze(laid(tmp_path / "one", files))
    samples = recording.samples
    np.testing.assert_array_equal(samples.pupil_left, samples.pupil_right)
    assert np.isfinite(samples.pupil_left[0])
    assert np.isnan(samples.pupil_left[1::2]).all()
    assert recording.metadata["share_without_eye_state"] == 0.5


def test_several_recordings_and_strange_cells_are_refused(tmp_path: Path) -> None:
    files = pupil_cloud()
    two = files["gaze.csv"] + [line.replace("9c2e", "aaaa") for line in files["gaze.csv"][1:]]
    with pytest.raises(GazeFormatError, match=r"several recordings \('9c2e', 'aaaa'\)"):
        open_gaze(laid(tmp_path / "one", {"gaze.csv": two}))
    odd = list(files["gaze.csv"])
    odd[5] = odd[5].replace(",1.0,", ",maybe,")
    with pytest.raises(GazeFormatError, match="line 6, column 'worn'"):
        open_gaze(laid(tmp_path / "one", {"gaze.csv": odd}))
    words = [line.replace(",1.0,", ",True,").replace(",0.0,", ",False,") for line in files["gaze.csv"]]
    same(
        open_gaze(laid(tmp_path / "two", {"gaze.csv": words})).samples,
        open_gaze(laid(tmp_path / "three", {"gaze.csv": files["gaze.csv"]})).samples,
    )


@pytest.mark.parametrize("name", ["3d_eye_states.csv", "fixations.csv", "saccades.csv", "blinks.csv"])
def test_a_table_beside_it_that_is_cut_off_is_refused_by_its_name_and_alone_it_is_no_gaze(
    tmp_path: Path, name: str
) -> None:
    folder = laid(tmp_path / "one", pupil_cloud())
    content = (folder / name).read_bytes()
    last = content.rstrip(b"\n").rsplit(b"\n", 1)[0] + b"\n"
    (folder / name).write_bytes(last + b"4b1f,9c2e,17")
    with pytest.raises(GazeFormatError, match=rf"{name}, line \d+"):
        open_gaze(folder)
    with pytest.raises(GazeFormatError, match=rf"{name}: this looks like a Pupil Cloud export of something else"):
        (folder / name).write_bytes(content)
        open_gaze(folder / name)
