"""A native Neon recording against a short reading that shares nothing with ours; split, thinned and broken versions."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources import open_gaze

from .gaze_rounds import same

DEMO = "neon_native_demo"
SIZE = np.array([1600, 1200])


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """A copy that may be changed, without its manifest."""
    copy = tmp_path / "recording"
    copy.mkdir()
    for file in (shared_data / DEMO).iterdir():
        if file.name != "manifest.json":
            shutil.copyfile(file, copy / file.name)
    return copy


def test_a_native_recording_reads_as_an_independent_reading_does(shared_data: Path) -> None:
    demo = shared_data / DEMO
    times = np.fromfile(demo / "gaze ps1.time", "<i8")
    points = np.fromfile(demo / "gaze ps1.raw", "<f4").reshape(-1, 2)
    eyes = np.fromfile(demo / "eye_state ps1.raw", "<f4").reshape(-1, 20)
    recording = open_gaze(demo)
    samples = recording.samples
    assert (recording.vendor, recording.clock) == ("neon_native", "utc")
    np.testing.assert_array_equal(samples.t_ns, times)
    assert len(samples) == 1788
    # The gaze that was processed to 200 Hz differs from the one of the moment by thousandths of a pixel.
    np.testing.assert_allclose(np.stack([samples.x, samples.y], 1) * SIZE, points, atol=0.02)
    assert float(np.median(samples.x)) * 1600 == pytest.approx(float(np.median(points[:, 0])), rel=1e-6)
    for ours, place in (("pupil_left", 0), ("pupil_right", 7), ("openness_left", 16), ("openness_right", 19)):
        np.testing.assert_array_equal(getattr(samples, ours), eyes[:, place])
    assert samples.valid.all()
    assert recording.rate_hz == pytest.approx(200, rel=0.01)
    assert (samples.space, samples.size_px, samples.pupil_unit) == ("scene", (1600, 1200), "mm")
    metadata = recording.metadata
    assert (metadata["device"], metadata["rate_hz_stated"], metadata["participant"]) == ("Neon", 200.0, "dom")
    assert metadata["messages"].tolist() == ["recording.begin", "recording.end"]
    assert metadata["files"] == ["gaze_200hz.raw"]


def test_its_own_events_are_kept_with_the_points_where_the_gaze_was(shared_data: Path) -> None:
    demo = shared_data / DEMO
    fields = ast.literal_eval((demo / "fixations.dtype").read_text())
    held = np.fromfile(demo / "fixations ps1.raw", np.dtype([tuple(field) for field in fields]))
    recording = open_gaze(demo)
    events, samples = recording.events, recording.samples
    assert events is not None
    theirs = {kind: held[held["event_type"] == kind] for kind in (0, 1)}
    for ours, kind in ((events.fixations, 1), (events.saccades, 0)):
        assert [event.start_ns for event in ours] == theirs[kind]["start_timestamp_ns"].tolist()
        assert [event.stop_ns for event in ours] == theirs[kind]["end_timestamp_ns"].tolist()
    amplitudes = [saccade.amplitude_deg for saccade in events.saccades]
    np.testing.assert_array_equal(np.float32(amplitudes), theirs[0]["amplitude_angle_deg"])
    off = [
        np.hypot(fixation.x - part.x.mean(), fixation.y - part.y.mean())
        for fixation in events.fixations
        if len(part := samples.between(fixation.start_ns, fixation.stop_ns + 1))
    ]
    assert float(np.median(off)) < 2e-3  # with the wearer's offset left out it would be 0.018
    blinks = np.fromfile(demo / "blinks ps1.raw", "<i4, <i8, <i8")
    assert [(blink.start_ns, blink.stop_ns) for blink in events.blinks] == [tuple(row)[1:] for row in blinks.tolist()]


def test_a_file_of_the_recording_names_it_as_well(shared_data: Path) -> None:
    same(open_gaze(shared_data / DEMO / "gaze ps1.raw").samples, open_gaze(shared_data / DEMO).samples)
    with pytest.raises(GazeFormatError, match=r"not a Tobii Pro Lab export; it looks like a native Neon"):
        open_gaze(shared_data / DEMO, format="tobii_pro_lab")


def split(folder: Path, at: int, kinds: tuple[str, ...] = ("gaze", "eye_state", "worn")) -> None:
    """Part 1 into parts 2 and 10, which must be joined by their numbers and not by their names' order."""
    for name in ("gaze_200hz.raw", "gaze_200hz.time", "worn_200hz.raw"):
        (folder / name).unlink(missing_ok=True)
    for kind in kinds:
        for end in ("raw", "time"):
            path = folder / f"{kind} ps1.{end}"
            if path.exists():
                content = path.read_bytes()
                cut = at * (len(content) // 1788)
                (folder / f"{kind} ps2.{end}").write_bytes(content[:cut])
                (folder / f"{kind} ps10.{end}").write_bytes(content[cut:])
                path.unlink()


def test_parts_are_joined_by_their_numbers(folder: Path) -> None:
    for name in ("gaze_200hz.raw", "gaze_200hz.time", "worn_200hz.raw"):
        (folder / name).unlink()
    reference = open_gaze(folder).samples
    split(folder, 700)
    recording = open_gaze(folder)
    same(recording.samples, reference)
    assert recording.metadata["files"] == ["gaze ps2.raw", "gaze ps10.raw"]


def test_where_it_was_not_worn_everything_is_missing(folder: Path) -> None:
    worn = np.full(1788, 255, dtype=np.uint8)
    worn[100:200] = 0
    (folder / "worn_200hz.raw").write_bytes(worn.tobytes())
    recording = open_gaze(folder)
    for name in ("x", "y", "pupil_left", "openness_right"):
        np.testing.assert_array_equal(np.isnan(getattr(recording.samples, name)), worn == 0)
    assert recording.metadata["share_not_worn"] == pytest.approx(100 / 1788, abs=1e-6)


def test_eye_states_of_another_rate_are_those_of_the_same_time(folder: Path) -> None:
    reference = open_gaze(folder).samples
    for end, item in (("raw", 80), ("time", 8)):
        path = folder / f"eye_state ps1.{end}"
        rows = np.frombuffer(path.read_bytes(), dtype=f"V{item}")
        path.write_bytes(rows[::2].tobytes())
    recording = open_gaze(folder)
    np.testing.assert_array_equal(recording.samples.pupil_left[::2], reference.pupil_left[::2])
    assert np.isnan(recording.samples.pupil_left[1::2]).all()
    np.testing.assert_array_equal(recording.samples.x, reference.x)
    assert recording.metadata["share_without_eye_state"] == 0.5


def test_older_recordings_without_dtypes_eyelids_and_states_read_what_is_there(folder: Path) -> None:
    reference = open_gaze(folder).samples
    eyes = np.fromfile(folder / "eye_state ps1.raw", "<f4").reshape(-1, 20)
    (folder / "eye_state ps1.raw").write_bytes(eyes[:, :14].tobytes())
    for name in ("eye_state", "gaze", "worn", "fixations", "blinks"):
        (folder / f"{name}.dtype").unlink()
    for file in [*folder.glob("fixations*"), *folder.glob("blinks*"), folder / "info.json", folder / "wearer.json"]:
        file.unlink()
    recording = open_gaze(folder)
    np.testing.assert_array_equal(recording.samples.pupil_right, reference.pupil_right)
    assert not recording.samples.has("openness_left")
    assert recording.events is None
    for file in folder.glob("eye_state*"):
        file.unlink()
    bare = open_gaze(folder).samples
    np.testing.assert_array_equal(bare.x, reference.x)
    assert (bare.pupil_unit, bare.has("pupil_left")) == (None, False)


def test_fields_in_another_order_with_their_dtype_are_the_same(folder: Path) -> None:
    reference = open_gaze(folder).samples
    for kind in ("eye_state", "gaze"):
        fields = ast.literal_eval((folder / f"{kind}.dtype").read_text())
        order = np.random.default_rng(2).permutation(len(fields)).tolist() if kind == "eye_state" else [1, 0]
        (folder / f"{kind}.dtype").write_text(repr([fields[place] for place in order]))
        for file in (folder / f"{kind} ps1.raw", folder / f"{kind}_200hz.raw"):
            if file.exists():
                rows = np.fromfile(file, "<f4").reshape(-1, len(fields))
                file.write_bytes(np.ascontiguousarray(rows[:, order]).tobytes())
    same(open_gaze(folder).samples, reference)


CUT = [
    "gaze_200hz.raw", "gaze_200hz.time", "eye_state ps1.raw", "eye_state ps1.time", "worn_200hz.raw",
    "fixations ps1.raw", "fixations ps1.time", "blinks ps1.raw", "event.time", "info.json", "gaze.dtype",
]  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_anywhere_is_refused_by_its_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    cuts = {*np.random.default_rng(0).integers(1, len(content), 12).tolist(), len(content) - 1, len(content) // 8 * 4}
    for cut in sorted(cuts):
        (folder / name).write_bytes(content[:cut])
        if not content[cut:].strip():
            continue  # nothing but the last line's end is gone
        with pytest.raises(GazeFormatError, match=rf"recording.*{name.split('.')[0].split(' ')[0]}"):
            open_gaze(folder)


def test_the_manifests_sizes_and_sums_are_checked(folder: Path, shared_data: Path) -> None:
    shutil.copyfile(shared_data / DEMO / "manifest.json", folder / "manifest.json")
    open_gaze(folder)
    rng = np.random.default_rng(5)
    for name in ("eye_state ps1.raw", "eye_state ps1.time", "fixations ps1.raw"):
        content = (folder / name).read_bytes()
        for _ in range(5):
            broken = bytearray(content)
            broken[int(rng.integers(0, len(content)))] ^= 1 << int(rng.integers(0, 8))
            (folder / name).write_bytes(bytes(broken))
            with pytest.raises(GazeFormatError, match=rf"{name}: not the content that manifest"):
                open_gaze(folder)
        (folder / name).write_bytes(content + content)
        with pytest.raises(GazeFormatError, match=rf"{name}.* where manifest\.json says"):
            open_gaze(folder)
        (folder / name).write_bytes(content)


def test_two_recordings_glued_together_and_times_that_run_backwards_stay_as_they_are(folder: Path) -> None:
    reference = open_gaze(folder).samples
    for name in ("gaze_200hz.raw", "gaze_200hz.time", "worn_200hz.raw"):
        path = folder / name
        path.write_bytes(path.read_bytes() * 2)
    twice = open_gaze(folder)
    np.testing.assert_array_equal(twice.samples.t_ns, np.tile(reference.t_ns, 2))
    np.testing.assert_array_equal(twice.samples.x, np.tile(reference.x, 2))
    assert twice.metadata["steps_back_in_time"] == 1


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("gaze.dtype", b"__import__('os').system('true')", "says no array's type"),
        ("gaze.dtype", b"[('x', 'float32'), ('z', 'float32')]", "no field 'y'"),
        ("gaze.dtype", b"[('x', 'object'), ('y', 'object')]", "says no array's type"),
        ("gaze.dtype", "[('x', 'float32')]".encode("utf-16"), "says no array's type"),
        ("gaze.dtype", b"(" * 1_000_000, "says no array's type"),
        ("info.json", b"\0" * 100, "not JSON"),
        ("info.json", b"[" * 1_000_000, "not JSON"),
        ("info.json", b"[]", "a JSON object"),
        ("gaze_200hz.raw", b"", "0 items"),
    ],
)
def test_what_cannot_be_understood_is_refused(folder: Path, name: str, content: bytes, problem: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(GazeFormatError, match=rf"{name}: .*{problem}") as raised:
        open_gaze(folder)
    assert len(str(raised.value)) < 600


def test_a_part_without_its_times_is_refused(folder: Path) -> None:
    split(folder, 700)
    (folder / "gaze ps10.time").unlink()
    with pytest.raises(SourceError, match=r"gaze ps10\.raw: its times are missing"):
        open_gaze(folder)


def test_a_manifest_that_is_no_list_of_files_says_nothing(folder: Path) -> None:
    reference = open_gaze(folder).samples
    (folder / "manifest.json").write_text(json.dumps([1, {"name": 2}, {"size": 3}]))
    same(open_gaze(folder).samples, reference)
