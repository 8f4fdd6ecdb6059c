"""Real gaze recordings, against a short reading of the same files that shares nothing with ours."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError
from emert_edge.sources import GazeRecording, GazeSource, open_gaze

TOBII = "tobii_prolab_ivt/I-VT-normal Data export_short.tsv"
STUDIO = "tobii_studio_d2lab/data.tsv"
PUPIL = ["pupil_core_export", "pupil_core_export/10_merge_fixation_and_blink_ids_into_gaze_dataframe"]
EYES = ("left", "right")


def number(cell: str) -> float:
    return float(cell.replace(",", ".")) if cell else float("nan")


def same_median(ours: np.ndarray, theirs: list[float], missing: float) -> None:
    """Medians and missing shares agree."""
    assert np.isnan(ours).mean() == pytest.approx(missing, abs=1e-12)
    assert float(np.nanmedian(ours)) == pytest.approx(float(np.nanmedian(theirs)), rel=1e-6)


def test_a_tobii_pro_lab_export_reads_as_an_independent_reading_does(shared_data: Path) -> None:
    with (shared_data / TOBII).open(encoding="utf-8", newline="") as file:
        every = list(csv.DictReader(file, delimiter="\t"))
    rows = [row for row in every if row["Sensor"] == "Eye Tracker"]
    recording = open_gaze(shared_data / TOBII)
    samples = recording.samples
    assert recording.vendor == "tobii_pro_lab"
    assert len(samples) == len(rows) == 4860
    times = [int(row["Recording timestamp [ms]"]) * 1_000_000 for row in rows]
    assert samples.t_ns.tolist() == times
    for axis, size in (("X", 1920), ("Y", 1080)):
        theirs = [number(row[f"Gaze point {axis} [DACS px]"]) / size for row in rows]
        same_median(getattr(samples, axis.lower()), theirs, float(np.isnan(theirs).mean()))
        np.testing.assert_allclose(getattr(samples, axis.lower()), theirs, rtol=1e-6)
        for eye in EYES:
            theirs = [number(row[f"Gaze point {eye} {axis} [DACS px]"]) / size for row in rows]
            np.testing.assert_allclose(getattr(samples, f"{eye}_{axis.lower()}"), theirs, rtol=1e-6)
    for eye in EYES:
        invalid = sum(row[f"Validity {eye}"] == "Invalid" for row in rows) / len(rows)
        pupil = [number(row[f"Pupil diameter {eye} [mm]"]) for row in rows]
        same_median(getattr(samples, f"pupil_{eye}"), pupil, invalid)
        openness = [number(row[f"Eye openness {eye} [mm]"]) for row in rows]
        same_median(getattr(samples, f"openness_{eye}"), openness, float(np.isnan(openness).mean()))
    assert recording.rate_hz == pytest.approx(300, abs=0.1)
    assert (samples.space, samples.size_px, samples.pupil_unit) == ("screen", (1920, 1080), "mm")
    assert recording.clock == samples.clock == f"file:{Path(TOBII).name}"


def test_a_tobii_exports_other_rows_are_counted_and_its_metadata_kept(shared_data: Path) -> None:
    metadata = open_gaze(shared_data / TOBII).metadata
    assert metadata["rows_skipped"] == {"Mouse": 138, "event": 2}
    assert metadata["software_version"] == "24.21.435"
    assert metadata["fixation_filter"] == "Tobii I-VT (Fixation)"
    assert metadata["recording"] == "alex1"
    assert metadata["time_unit"] == "ms"
    device_us = metadata["device_time_us"]
    assert device_us[0] == 6223715132
    assert np.diff(device_us).min() > 3000
    with pytest.raises(TypeError):
        metadata["time_unit"] = "us"


def test_tobiis_own_events_are_kept(shared_data: Path) -> None:
    with (shared_data / TOBII).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["Sensor"] == "Eye Tracker"]
    recording = open_gaze(shared_data / TOBII)
    assert recording.events is not None
    for kind, events in (("Fixation", recording.events.fixations), ("Saccade", recording.events.saccades)):
        spans: dict[str, list[int]] = {}
        for row in rows:
            if row["Eye movement type"] == kind:
                spans.setdefault(row["Eye movement type index"], []).append(int(row["Recording timestamp [ms]"]))
        expected = [(min(times) * 1_000_000, max(times) * 1_000_000) for times in spans.values()]
        assert [(event.start_ns, event.stop_ns) for event in events] == expected
    first = next(row for row in rows if row["Eye movement type"] == "Fixation")
    fixation = recording.events.fixations[0]
    assert fixation.x * 1920 == pytest.approx(number(first["Fixation point X [DACS px]"]))
    assert fixation.y * 1080 == pytest.approx(number(first["Fixation point Y [DACS px]"]))
    # Tobii's durations reach half a sample further at each end.
    stated = number(first["Eye movement event duration [ms]"])
    assert fixation.duration_ms == pytest.approx(stated, abs=5)


def test_a_tobii_studio_export_reads_as_an_independent_reading_does(shared_data: Path) -> None:
    with (shared_data / STUDIO).open(encoding="utf-8-sig", newline="") as file:
        every = list(csv.DictReader(file, delimiter="\t"))
    rows = [row for row in every if row["GazePointIndex"]]
    recording = open_gaze(shared_data / STUDIO)
    samples = recording.samples
    assert recording.vendor == "tobii_studio"
    assert (len(every), len(samples)) == (2920, len(rows))
    assert samples.t_ns.tolist() == [int(row["RecordingTimestamp"]) * 1_000_000 for row in rows]
    for axis, size in (("X", 1920), ("Y", 1080)):
        for eye, ours in (("", axis.lower()), *((eye.title(), f"{eye}_{axis.lower()}") for eye in EYES)):
            theirs = [number(row[f"GazePoint{eye}{axis} (ADCSpx)"]) / size for row in rows]
            same_median(getattr(samples, ours), theirs, float(np.isnan(theirs).mean()))
            np.testing.assert_allclose(getattr(samples, ours), theirs, rtol=1e-6)
    for eye in EYES:
        sizes = [number(row[f"Pupil{eye.title()}"]) for row in rows]
        pupil = [size if size > 0 else float("nan") for size in sizes]
        same_median(getattr(samples, f"pupil_{eye}"), pupil, float(np.isnan(pupil).mean()))
    assert recording.rate_hz == pytest.approx(120, abs=0.1)
    assert (samples.space, samples.size_px, samples.pupil_unit) == ("screen", (1920, 1080), "mm")
    metadata = recording.metadata
    assert metadata["rows_skipped"] == {"StudioEvent": 6, "KeyPressEvent": 3, "MouseEvent": 1}
    assert (metadata["software_version"], metadata["fixation_filter"]) == ("3.4.5", "I-VT filter")
    assert metadata["rate_hz_measured"] == pytest.approx(recording.rate_hz, abs=1e-3)
    assert metadata["device_time_us"].tolist() == [int(row["EyeTrackerTimestamp"]) for row in rows]


def test_studios_own_events_are_kept(shared_data: Path) -> None:
    with (shared_data / STUDIO).open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["GazePointIndex"]]
    events = open_gaze(shared_data / STUDIO).events
    assert events is not None
    for kind, ours in (("Fixation", events.fixations), ("Saccade", events.saccades)):
        spans: dict[str, list[int]] = {}
        for row in rows:
            if row["GazeEventType"] == kind:
                spans.setdefault(row[f"{kind}Index"], []).append(int(row["RecordingTimestamp"]) * 1_000_000)
        assert [(event.start_ns, event.stop_ns) for event in ours] == [(min(t), max(t)) for t in spans.values()]
    fixation = events.fixations[0]
    inside = [row for row in rows if row["FixationIndex"] == "1"]
    theirs = np.nanmean([number(row["GazePointX (ADCSpx)"]) for row in inside]) / 1920
    assert fixation.x == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("folder", PUPIL)
@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_pupil_core_export_reads_as_an_independent_reading_does(shared_data: Path, folder: str, named: str) -> None:
    path = shared_data / folder / "gaze_positions.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    recording = open_gaze(path if named == "file" else path.parent)
    samples = recording.samples
    assert recording.vendor == "pupil_core"
    assert len(samples) == len(rows)
    seconds = [float(row["gaze_timestamp"]) for row in rows]
    np.testing.assert_allclose(samples.t_ns / 1e9, seconds, rtol=0, atol=1e-9 * 40)  # what float64 holds of them
    assert samples.t_ns[0] == round(float(rows[0]["gaze_timestamp"].replace(".", "")) * 1000)
    seen = np.array([float(row["confidence"]) > 0 for row in rows])
    x = np.array([float(row["norm_pos_x"]) for row in rows])
    y = np.array([1 - float(row["norm_pos_y"]) for row in rows])
    np.testing.assert_array_equal(samples.valid, seen)
    np.testing.assert_allclose(samples.x[seen], x[seen], rtol=1e-6)
    np.testing.assert_allclose(samples.y[seen], y[seen], rtol=1e-6, atol=1e-6)
    assert float(np.nanmedian(samples.x)) == pytest.approx(float(np.median(x[seen])), rel=1e-6)
    confidence = np.array([float(row["confidence"]) for row in rows])
    np.testing.assert_allclose(recording.metadata["confidence"], confidence, rtol=1e-6)
    assert recording.metadata["share_confidence_below_0.6"] == pytest.approx(float((confidence < 0.6).mean()), abs=1e-6)
    assert (samples.space, samples.pupil_unit) == ("scene", None)
    assert recording.rate_hz == pytest.approx(240 if folder == PUPIL[0] else 300, rel=0.05)


def test_pupil_cores_own_events_are_kept(shared_data: Path) -> None:
    folder = shared_data / PUPIL[1]
    events = open_gaze(folder).events
    assert events is not None
    with (folder / "fixations.csv").open(newline="") as file:
        fixations = list(csv.DictReader(file))
    with (folder / "blinks.csv").open(newline="") as file:
        blinks = list(csv.DictReader(file))
    assert len(events.fixations) == len(fixations) == 36
    assert len(events.blinks) == len(blinks) == 3
    for ours, theirs in zip(events.fixations, fixations, strict=True):
        assert ours.start_ns / 1e9 == pytest.approx(float(theirs["start_timestamp"]), abs=1e-6)
        assert ours.duration_ms == pytest.approx(float(theirs["duration"]), abs=1e-5)
        assert (ours.x, ours.y) == pytest.approx((float(theirs["norm_pos_x"]), 1 - float(theirs["norm_pos_y"])))
    for blink, row in zip(events.blinks, blinks, strict=True):
        assert blink.duration_ms / 1e3 == pytest.approx(float(row["duration"]), abs=1e-6)
    assert open_gaze(shared_data / PUPIL[0]).events is None


@pytest.mark.parametrize("source", [TOBII, STUDIO, PUPIL[0]])
def test_a_recording_is_a_source_of_gaze(shared_data: Path, source: str) -> None:
    recording: GazeSource = open_gaze(shared_data / source)
    assert isinstance(recording, GazeSource)
    assert isinstance(recording, GazeRecording)
    assert not recording.live
    pieces = list(recording.chunks())
    assert sum(map(len, pieces)) == len(recording.samples)
    np.testing.assert_array_equal(np.concatenate([piece.t_ns for piece in pieces]), recording.samples.sorted().t_ns)
    recording.close()
    recording.close()


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("pupil_core_export/10_merge_fixation_and_blink_ids_into_gaze_dataframe/fixations.csv", "Pupil Core"),
        ("fer2013_faces/fer2013_publictest.tar.gz", "NUL"),
        ("face_clips_pyfeat/single_face.mp4", "NUL"),
        ("face_clips_pyfeat/single_face.jpg", "single_face"),
        ("ceap360vr/1_Stimuli/VideoLuminance.csv", "columns"),
        ("README.md", "columns"),
        ("lund2013_annotated", "gaze_positions.csv"),
    ],
)
def test_what_is_not_read_yet_is_refused_by_its_name(shared_data: Path, source: str, named: str) -> None:
    with pytest.raises(GazeFormatError, match=named) as raised:
        open_gaze(shared_data / source)
    assert str(shared_data / source) in str(raised.value)


@pytest.mark.parametrize(
    ("source", "format", "instead"),
    [
        (PUPIL[0], "tobii_pro_lab", "Pupil Core"),
        (TOBII, "pupil_core", "Tobii Pro Lab"),
        (TOBII, "plain", "Tobii Pro Lab"),
        (STUDIO, "tobii_pro_lab", "Tobii Studio"),
        (TOBII, "tobii_studio", "Tobii Pro Lab"),
        (STUDIO, "plain", "Tobii Studio"),
    ],
)
def test_another_vendor_named_by_mistake_is_told(shared_data: Path, source: str, format: str, instead: str) -> None:
    with pytest.raises(GazeFormatError, match=f"looks like .*{instead}"):
        open_gaze(shared_data / source, format=format)


def test_real_recordings_open_through_a_column_map_with_the_same_values(shared_data: Path, tmp_path: Path) -> None:
    reference = open_gaze(shared_data / PUPIL[0]).samples
    columns = {
        "gaze_timestamp": {"name": "t_ns", "unit": "s"},
        "norm_pos_x": "x",
        "norm_pos_y": "y",
        "origin": "bottom-left",
        "space": "scene",
    }
    mapped = open_gaze(shared_data / PUPIL[0] / "gaze_positions.csv", columns=columns).samples
    np.testing.assert_array_equal(mapped.t_ns, reference.t_ns)
    seen = reference.valid  # a map knows nothing of confidence
    np.testing.assert_array_equal(mapped.x[seen], reference.x[seen])
    np.testing.assert_array_equal(mapped.y[seen], reference.y[seen])
    studio = {
        "RecordingTimestamp": ["t_ns", "ms"],
        "GazePointX (ADCSpx)": ["x", "px"],
        "GazePointY (ADCSpx)": ["y", "px"],
        "PupilLeft": {"name": "pupil_left", "unit": "mm", "missing": [-1]},
        "size_px": [1920, 1080],
    }
    recording = open_gaze(shared_data / "tobii_studio_d2lab" / "data.tsv", columns=studio)
    with (shared_data / "tobii_studio_d2lab" / "data.tsv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(recording.samples) == len(rows)
    theirs = [number(row["GazePointX (ADCSpx)"]) / 1920 for row in rows]
    np.testing.assert_allclose(recording.samples.x, theirs, rtol=1e-6)
    pupil = [number(row["PupilLeft"]) for row in rows]
    np.testing.assert_allclose(recording.samples.pupil_left, [np.nan if v == -1 else v for v in pupil], rtol=1e-6)


def test_pupil_sizes_come_from_the_table_beside_the_gaze(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / PUPIL[0] / "gaze_positions.csv").read_text().splitlines()[:200]
    (tmp_path / "gaze_positions.csv").write_text("\n".join(lines) + "\n")
    rows = list(csv.DictReader(lines))
    sizes: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        for base in row["base_data"].split():
            time, _, eye = base.rpartition("-")
            sizes.setdefault((time, eye), (30 + len(sizes) % 7, 0.0 if len(sizes) % 10 == 0 else 0.9))
    table = ["pupil_timestamp,eye_id,confidence,diameter,diameter_3d"]
    table += [f"{time},{eye},{sure},{px},{px / 10 if px != 33 else ''}" for (time, eye), (px, sure) in sizes.items()]
    (tmp_path / "pupil_positions.csv").write_text("\n".join(table) + "\n")
    recording = open_gaze(tmp_path)
    assert recording.samples.pupil_unit == "mm"
    for eye, ours in (("0", recording.samples.pupil_right), ("1", recording.samples.pupil_left)):
        for row, value in zip(rows, ours.tolist(), strict=True):
            bases = [base.rpartition("-") for base in row["base_data"].split()]
            held = [sizes[time, number] for time, _, number in bases if number == eye]
            known = [px / 10 for px, sure in held if sure > 0 and px != 33]
            assert value == pytest.approx(known[-1], rel=1e-6) if known else np.isnan(value)
    assert np.isfinite(recording.samples.pupil_left).any()
    # Without the 3D model's column sizes are in pixels; a table of another kind under this name is left alone.
    bare = [",".join(line.split(",")[:4]) for line in table]
    (tmp_path / "pupil_positions.csv").write_text("\n".join(bare) + "\n")
    assert open_gaze(tmp_path).samples.pupil_unit == "px"
    (tmp_path / "pupil_positions.csv").write_text("something,else\n1,2\n")
    assert open_gaze(tmp_path).samples.pupil_unit is None
