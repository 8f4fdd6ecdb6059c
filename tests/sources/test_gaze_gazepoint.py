"""Gazepoint's exports, made in the documented layout, against a short reading that shares nothing with ours."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError
from emert_edge.sources import open_gaze

from .made_gaze import gazepoint, gazepoint_fixations


def written(folder: Path, lines: list[str]) -> Path:
    path = folder / "User 1.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbers(lines: list[str], column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in csv.DictReader(lines)])


def without(lines: list[str], *titles: str) -> list[str]:
    kept = [place for place, title in enumerate(lines[0].split(",")) if title not in titles]
    return [",".join(line.split(",")[place] for place in kept) for line in lines]


def test_an_export_of_all_gaze_reads_as_an_independent_reading_does(tmp_path: Path) -> None:
    lines = gazepoint()
    recording = open_gaze(written(tmp_path, lines))
    samples = recording.samples
    ticks = numbers(lines, "TIMETICK(f=10000000)")
    assert recording.vendor == "gazepoint"
    assert samples.t_ns.tolist() == [int(tick) * 100 for tick in ticks]
    seen = numbers(lines, "BPOGV") == 1
    for axis in "XY":
        theirs = np.where(seen, numbers(lines, f"BPOG{axis}"), np.nan)
        np.testing.assert_allclose(getattr(samples, axis.lower()), theirs, rtol=1e-6)
        assert float(np.nanmedian(getattr(samples, axis.lower()))) == pytest.approx(np.nanmedian(theirs), rel=1e-6)
    left = np.where(numbers(lines, "LPMMV") == 1, numbers(lines, "LPMM"), np.nan)
    np.testing.assert_allclose(samples.pupil_left, left, rtol=1e-6)
    np.testing.assert_allclose(samples.pupil_right, numbers(lines, "RPMM"), rtol=1e-6)
    assert (samples.space, samples.size_px, samples.pupil_unit) == ("screen", None, "mm")
    assert recording.rate_hz == pytest.approx(150, rel=1e-4)
    metadata = recording.metadata
    assert (metadata["content"], metadata["points"], metadata["records_lost"]) == ("gaze", "BPOG", 0)
    assert metadata["recording_date"] == "2024/03/01 10:20:30.400"
    assert metadata["media"] == ["medium 0", "medium 1"]
    assert metadata["missing"]["gaze"] == pytest.approx(1 - seen.mean(), abs=1e-6)


def test_the_filters_fixations_and_the_blinks_are_kept(tmp_path: Path) -> None:
    lines = gazepoint()
    recording = open_gaze(written(tmp_path, lines))
    events = recording.events
    assert events is not None
    rows = list(csv.DictReader(lines))
    # Numbers begin anew with the second medium, and the last word on a fixation is its last valid row.
    last = {(row["MEDIA_ID"], row["FPOGID"]): row for row in rows if row["FPOGV"] == "1"}
    assert len(events.fixations) == len(last) == 10
    for fixation, row in zip(events.fixations, last.values(), strict=True):
        assert fixation.stop_ns == pytest.approx(int(row["TIMETICK(f=10000000)"]) * 100, abs=20_000)
        assert fixation.duration_ms == pytest.approx(float(row["FPOGD"]) * 1000, abs=0.02)
        assert fixation.x == float(row["FPOGX"])
    assert len(events.blinks) == 2
    blink = [int(row["TIMETICK(f=10000000)"]) * 100 for row in rows if row["BKID"] == "1"]
    assert (events.blinks[0].start_ns, events.blinks[0].stop_ns) == (blink[0], blink[-1])


def test_an_export_of_fixations_has_a_row_each(tmp_path: Path) -> None:
    lines = gazepoint_fixations()
    recording = open_gaze(written(tmp_path, lines))
    assert recording.events is not None
    assert recording.metadata["content"] == "fixations"
    assert len(recording.samples) == len(recording.events.fixations) == len(lines) - 1 == 80
    np.testing.assert_array_equal([event.x for event in recording.events.fixations], numbers(lines, "FPOGX"))


def test_times_of_other_ticks_and_of_seconds_are_the_same(tmp_path: Path) -> None:
    lines = gazepoint()
    reference = open_gaze(written(tmp_path, lines)).samples
    ticks = lines[0].split(",").index("TIMETICK(f=10000000)")
    faster = [line.split(",") for line in lines]
    faster[0][ticks] = "TIMETICK(f=3000000000)"
    for row in faster[1:]:
        row[ticks] = str(int(row[ticks]) * 300)
    read = open_gaze(written(tmp_path, [",".join(row) for row in faster])).samples
    np.testing.assert_array_equal(read.t_ns, reference.t_ns)
    seconds = open_gaze(written(tmp_path, without(lines, "TIMETICK(f=10000000)")))
    np.testing.assert_array_equal(seconds.samples.t_ns / 1e9, numbers(lines, "TIME(2024/03/01 10:20:30.400)"))
    assert seconds.metadata["steps_back_in_time"] == 1  # where the second medium begins
    with pytest.raises(GazeFormatError, match=r"TIMETICK\(f=10\).*0.00015 times a second"):
        open_gaze(written(tmp_path, [lines[0].replace("f=10000000", "f=10"), *lines[1:]]))


def test_without_the_best_point_the_filters_is_read_and_told_and_without_mm_pixels(tmp_path: Path) -> None:
    lines = gazepoint()
    lean = without(lines, "BPOGX", "BPOGY", "BPOGV", "LPMM", "LPMMV", "RPMM", "RPMMV")
    recording = open_gaze(written(tmp_path, lean))
    fixated = numbers(lines, "FPOGV") == 1
    expected = np.where(fixated, numbers(lines, "FPOGX"), np.nan)
    np.testing.assert_allclose(recording.samples.x, expected, rtol=1e-6)
    assert recording.metadata["points"] == "FPOG"
    assert recording.samples.pupil_unit == "px"
    left = np.where(numbers(lines, "LPV") == 1, numbers(lines, "LPD"), np.nan)
    np.testing.assert_allclose(recording.samples.pupil_left, left, rtol=1e-6)


def test_records_that_were_lost_are_counted_and_odd_flags_refused(tmp_path: Path) -> None:
    lines = gazepoint()
    recording = open_gaze(written(tmp_path, [*lines[:100], *lines[103:200], *lines[210:]]))
    assert recording.metadata["records_lost"] == 13
    flag = lines[0].split(",").index("BPOGV")
    cells = lines[50].split(",")
    cells[flag] = "7"
    with pytest.raises(GazeFormatError, match="line 51, column 'BPOGV'"):
        open_gaze(written(tmp_path, [*lines[:50], ",".join(cells), *lines[51:]]))
