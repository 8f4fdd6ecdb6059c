"""Logs of the Tobii SDK, made in the documented layout, against a short reading that shares nothing with ours."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError
from emert_edge.sources import open_gaze

from .gaze_rounds import same
from .made_gaze import tobii_sdk

AREA = "gaze_point_on_display_area"


def written(folder: Path, lines: list[str]) -> Path:
    path = folder / "log.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_log_reads_as_an_independent_reading_does(tmp_path: Path) -> None:
    lines = tobii_sdk()
    recording = open_gaze(written(tmp_path, lines))
    rows, samples = list(csv.DictReader(lines)), recording.samples
    assert recording.vendor == "tobii_sdk"
    assert samples.t_ns.tolist() == [int(row["device_time_stamp"]) * 1000 for row in rows]
    points = {}
    for eye in ("left", "right"):
        for axis in "xy":
            theirs = np.array([float(row[f"{eye}_{AREA}_{axis}"]) for row in rows])
            points[eye, axis] = theirs
            ours = getattr(samples, f"{eye}_{axis}")
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
            assert float(np.nanmedian(ours)) == pytest.approx(float(np.nanmedian(theirs)), rel=1e-6)
        sizes = [float(row[f"{eye}_pupil_diameter"]) for row in rows]
        theirs = np.array([size if size > 0 else np.nan for size in sizes])
        np.testing.assert_allclose(getattr(samples, f"pupil_{eye}"), theirs, rtol=1e-6)
    seen = np.isfinite(points["left", "x"]) | np.isfinite(points["right", "x"])
    np.testing.assert_array_equal(samples.valid, seen)
    assert samples.x[40] == pytest.approx((points["left", "x"][40] + points["right", "x"][40]) / 2, rel=1e-6)
    assert (samples.space, samples.pupil_unit, recording.events) == ("screen", "mm", None)
    assert recording.rate_hz == pytest.approx(120, rel=1e-3)
    assert recording.metadata["system_time_ns"].tolist() == [int(row["system_time_stamp"]) * 1000 for row in rows]
    assert recording.metadata["missing"]["pupil_left"] > 0.66


@pytest.mark.parametrize("ends", [("_0", "_1"), ("[0]", "[1]"), (".x", ".y")])
def test_other_names_of_the_two_columns_are_the_same(tmp_path: Path, ends: tuple[str, str]) -> None:
    lines = tobii_sdk()
    reference = open_gaze(written(tmp_path, lines)).samples
    lines[0] = lines[0].replace(f"{AREA}_x", AREA + ends[0]).replace(f"{AREA}_y", AREA + ends[1])
    same(open_gaze(written(tmp_path, lines)).samples, reference)


def test_pairs_in_one_column_are_the_same(tmp_path: Path) -> None:
    reference = open_gaze(written(tmp_path, tobii_sdk())).samples
    pairs = tobii_sdk(tuples=True)
    same(open_gaze(written(tmp_path, pairs)).samples, reference)
    bare = ["\t".join(row) for row in csv.reader(pairs)]
    same(open_gaze(written(tmp_path, bare)).samples, reference)
    arrays = [line.replace("(", "[").replace(", ", "  ").replace(")", "]") for line in bare]
    same(open_gaze(written(tmp_path, arrays)).samples, reference)
    with pytest.raises(GazeFormatError, match=rf"line 21, column 'left_{AREA}': not a pair"):
        open_gaze(written(tmp_path, [*pairs[:20], pairs[20].replace("(", "(1, ", 1), *pairs[21:]]))


def test_what_is_invalid_or_minus_one_is_missing_whatever_else_the_cells_hold(tmp_path: Path) -> None:
    header = (
        f"system_time_stamp,left_{AREA}_x,left_{AREA}_y,left_gaze_point_valid,left_pupil_diameter,left_eye_openness"
    )
    rows = ["0,0.5,0.25,True,3.0,9.5", "4000,0.5,0.25,False,3.0,-1", "8000,-1,-1,True,-1,0", "12000,-0.1,1.2,True,,8"]
    recording = open_gaze(written(tmp_path, [header, *rows]))
    samples = recording.samples
    np.testing.assert_allclose(samples.left_x, [0.5, np.nan, np.nan, -0.1], rtol=1e-6)
    np.testing.assert_array_equal(samples.pupil_left, np.float32([3, 3, np.nan, np.nan]))
    np.testing.assert_array_equal(samples.openness_left, np.float32([9.5, np.nan, 0, 8]))
    assert not samples.has("right_x")
    assert recording.metadata["time_column"] == "system_time_stamp"
    with pytest.raises(GazeFormatError, match="line 3, column 'left_gaze_point_valid'"):
        open_gaze(written(tmp_path, [header, rows[0], rows[1].replace("False", "perhaps"), *rows[2:]]))


def test_a_log_without_times_or_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match="no column device_time_stamp"):
        open_gaze(written(tmp_path, [f"left_{AREA}_x,left_{AREA}_y", "0.5,0.5"]))
    with pytest.raises(GazeFormatError, match="a point needs two columns"):
        open_gaze(written(tmp_path, [f"device_time_stamp,left_{AREA}_x", "1,0.5"]))
