"""XDF recordings, made by the format's description, with the channels of several vendors' apps."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources import open_gaze

from .gaze_rounds import same
from .made_gaze import xdf

COUNT = 240
RNG = np.random.default_rng(12)
TIMES = 5123.25 + np.arange(COUNT) / 120
POINTS = RNG.uniform(0.1, 0.9, (COUNT, 6)).astype(np.float32)
PUPILS = RNG.uniform(2.5, 4.0, (COUNT, 2)).astype(np.float32)
SEEN = np.arange(COUNT) % 30 >= 4

EEG = {
    "name": "EEG",
    "type": "EEG",
    "channels": [("Fz", "EEG", "", "uV"), ("Cz", "EEG", "", "uV")],
    "times": TIMES,
    "values": RNG.normal(size=(COUNT, 2)),
}


def stream(channels: list[tuple[str, str, str, str]], columns: list[np.ndarray], **more: Any) -> dict[str, Any]:
    values = np.stack([np.broadcast_to(column, (COUNT,)) for column in columns], axis=1)
    return {
        "name": "Tracker",
        "type": "Gaze",
        "channels": channels,
        "times": TIMES,
        "values": values,
        "rate": 120,
    } | more


def by_types() -> dict[str, Any]:
    """As the Gaze meta-data of XDF describe channels; their labels say nothing."""
    holed = np.where(SEEN, POINTS[:, 0], np.nan)
    return stream(
        [
            ("c0", "Confidence", "both", "normalized"),
            ("c1", "ScreenX", "left", "normalized"),
            ("c2", "ScreenY", "left", "normalized"),
            ("c3", "ScreenX", "right", "normalized"),
            ("c4", "ScreenY", "right", "normalized"),
            ("c5", "Diameter", "left", "mm"),
            ("c6", "Diameter", "right", "mm"),
            ("c7", "PupilX", "left", "pixels"),
        ],
        [np.ones(COUNT), holed, POINTS[:, 1], POINTS[:, 2], POINTS[:, 3], PUPILS[:, 0], PUPILS[:, 1], POINTS[:, 5]],
    )


def labelled(*names: str) -> list[tuple[str, str, str, str]]:
    return [(name, "", "", "") for name in names]


def written(folder: Path, content: bytes, name: str = "session.xdf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_stream_described_by_types_and_eyes_is_read_beside_others(tmp_path: Path) -> None:
    path = written(tmp_path, xdf(EEG, by_types()), "session")
    recording = open_gaze(path)
    samples = recording.samples
    assert (recording.vendor, recording.clock) == ("xdf", "lsl")
    np.testing.assert_allclose(samples.t_ns / 1e9, TIMES, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(samples.left_x, np.where(SEEN, POINTS[:, 0], np.nan).astype(np.float32))
    np.testing.assert_array_equal(samples.right_y, POINTS[:, 3])
    np.testing.assert_array_equal(samples.pupil_left, PUPILS[:, 0])
    np.testing.assert_array_equal(samples.pupil_right, PUPILS[:, 1])
    assert float(np.nanmedian(samples.left_x)) == float(np.median(POINTS[SEEN, 0]))
    assert (samples.space, samples.pupil_unit, samples.size_px) == ("screen", "mm", None)
    metadata = recording.metadata
    assert metadata["rate_hz_stated"] == 120 == pytest.approx(recording.rate_hz)
    assert metadata["other_streams"] == ["EEG"]
    assert metadata["unused_channels"] == ["c7"]
    assert metadata["missing"]["left_x"] == pytest.approx(1 - SEEN.mean(), abs=1e-6)
    same(open_gaze(written(tmp_path, gzip.compress(path.read_bytes()), "session.xdfz")).samples, samples)


def test_the_clocks_offset_is_applied(tmp_path: Path) -> None:
    late = open_gaze(written(tmp_path, xdf(by_types() | {"offset": 12.5})))
    np.testing.assert_allclose(late.samples.t_ns / 1e9, TIMES + 12.5, rtol=0, atol=1e-6)
    assert late.metadata["clock_offsets"] == 8


TOBII = [f"{eye}_{what}" for eye in ("left", "right") for what in (
    "gaze_point_on_display_area_0", "gaze_point_on_display_area_1", "pupil_diameter")]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "eyes"),
    [
        (TOBII, 2),
        (("LPOGX", "LPOGY", "LPMM", "RPOGX", "RPOGY", "RPMM"), 2),
        (("leftEyeX", "leftEyeY", "leftPupilArea", "rightEyeX", "rightEyeY", "rightPupilArea"), 2),
        (("GazePointXLeft", "GazePointYLeft", "PupilLeft", "GazePointXRight", "GazePointYRight", "PupilRight"), 2),
        (("gaze_x_left", "gaze_y_left", "pupil_left", "gaze_x_right", "gaze_y_right", "pupil_right"), 2),
        (("BPOGX", "BPOGY", "LPMM", "FPOGX", "FPOGY", "RPMM"), 1),
        (("x", "y", "PupilDiameter left", "EyeballCenterX left", "EyeballCenterY left", "PupilDiameter right"), 1),
    ],
)
def test_vendors_labels_are_known(tmp_path: Path, names: tuple[str, ...], eyes: int) -> None:
    columns = [POINTS[:, 0], POINTS[:, 1], PUPILS[:, 0], POINTS[:, 2], POINTS[:, 3], PUPILS[:, 1]]
    samples = open_gaze(written(tmp_path, xdf(stream(labelled(*names), columns, type="EyeTracking")))).samples
    np.testing.assert_array_equal(samples.pupil_left, PUPILS[:, 0])
    np.testing.assert_array_equal(samples.pupil_right, PUPILS[:, 1])
    np.testing.assert_array_equal(samples.left_x if eyes == 2 else samples.x, POINTS[:, 0])
    np.testing.assert_array_equal(samples.left_y if eyes == 2 else samples.y, POINTS[:, 1])
    if eyes == 2:
        np.testing.assert_array_equal(samples.right_x, POINTS[:, 2])
    else:
        assert not samples.has("left_x")


def test_flags_and_words_for_not_seen_make_values_missing(tmp_path: Path) -> None:
    names = labelled("LPOGX", "LPOGY", "LPOGV", "LPMM", "LPMMV", "RPOGX", "RPOGY", "RPOGV")
    missing = np.where(SEEN, POINTS[:, 2], -32768)
    columns = [POINTS[:, 0], POINTS[:, 1], SEEN, PUPILS[:, 0], ~SEEN, missing, missing, np.ones(COUNT)]
    samples = open_gaze(written(tmp_path, xdf(stream(names, columns)))).samples
    np.testing.assert_array_equal(np.isfinite(samples.left_x), SEEN)
    np.testing.assert_array_equal(np.isfinite(samples.pupil_left), ~SEEN)
    np.testing.assert_array_equal(np.isfinite(samples.right_x), SEEN)
    codes = open_gaze(written(tmp_path, xdf(stream(names, [*columns[:2], np.where(SEEN, 0, 4), *columns[3:]])))).samples
    np.testing.assert_array_equal(np.isfinite(codes.left_x), SEEN)  # Tobii's old codes: 0 is best


def test_pupil_captures_points_count_from_below_and_its_eye_0_is_the_right(tmp_path: Path) -> None:
    names = [
        ("confidence", "Confidence", "both", "normalized"),
        ("norm_pos_x", "ScreenX", "both", "normalized"),
        ("norm_pos_y", "ScreenY", "both", "normalized"),
        ("diameter0_2d", "Diameter", "", "pixels"),
        ("diameter1_2d", "Diameter", "", "pixels"),
        ("diameter0_3d", "Diameter", "", "mm"),
        ("diameter1_3d", "Diameter", "", "mm"),
    ]
    columns = [SEEN, POINTS[:, 0], POINTS[:, 1], PUPILS[:, 0] * 9, PUPILS[:, 1] * 9, PUPILS[:, 0], PUPILS[:, 1]]
    samples = open_gaze(written(tmp_path, xdf(stream(names, columns, name="pupil_capture")))).samples
    np.testing.assert_array_equal(np.isfinite(samples.x), SEEN)
    np.testing.assert_allclose(samples.y[SEEN], 1 - POINTS[SEEN, 1], rtol=1e-6)
    np.testing.assert_array_equal(samples.pupil_right, PUPILS[:, 0])
    assert (samples.space, samples.pupil_unit) == ("scene", "mm")


DISPLAY = "<display><width>1920</width><height>1080</height><width_mm>531</width_mm></display>"
SETUP = "<setup><resolution_x>1680</resolution_x><resolution_y>1050</resolution_y></setup>"


@pytest.mark.parametrize(
    ("name", "desc", "size", "space"),
    [
        ("Companion_Neon Gaze", "", (1600, 1200), "scene"),
        ("pupil_invisible_Gaze", "", (1088, 1080), "scene"),
        ("EyeLink", DISPLAY, (1920, 1080), "screen"),
        ("SMI", SETUP, (1680, 1050), "screen"),
    ],
)
@pytest.mark.parametrize("unit", ["pixels", ""])
def test_pixels_are_those_of_the_described_screen_or_the_glasses_camera(
    tmp_path: Path, name: str, desc: str, size: tuple[int, int], space: str, unit: str
) -> None:
    names = [("x", "", "both", unit), ("y", "", "both", unit)]
    columns = [POINTS[:, 0] * size[0], POINTS[:, 1] * size[1]]
    samples = open_gaze(written(tmp_path, xdf(stream(names, columns, name=name, desc=desc)))).samples
    np.testing.assert_allclose(samples.x, POINTS[:, 0], rtol=1e-5)
    np.testing.assert_allclose(samples.y, POINTS[:, 1], rtol=1e-5)
    assert (samples.size_px, samples.space) == (size, space)


def test_what_no_stream_says_is_refused(tmp_path: Path) -> None:
    pixels = stream([("x", "", "", "pixels"), ("y", "", "", "pixels")], [POINTS[:, 0] * 900, POINTS[:, 1] * 900])
    with pytest.raises(GazeFormatError, match="stream 'Tracker': points are in pixels"):
        open_gaze(written(tmp_path, xdf(pixels)))
    with pytest.raises(GazeFormatError, match=r"no stream's channels make points of gaze; there are 'EEG \(EEG\)'"):
        open_gaze(written(tmp_path, xdf(EEG)))
    with pytest.raises(GazeFormatError, match=r"several streams of gaze \('Tracker', 'Other'\)"):
        open_gaze(written(tmp_path, xdf(by_types(), by_types() | {"name": "Other"})))
    assert len(open_gaze(written(tmp_path, xdf(by_types(), by_types() | {"type": "Markers"}))).samples) == COUNT


def test_without_pyxdf_it_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, xdf(by_types()))
    monkeypatch.setitem(sys.modules, "pyxdf", None)
    with pytest.raises(SourceError, match=r"session\.xdf: .*emert-edge\[recordings\]"):
        open_gaze(path)


def test_cut_anywhere_it_is_refused_but_between_chunks(tmp_path: Path) -> None:
    whole = xdf(EEG, by_types())
    reference = open_gaze(written(tmp_path, whole)).samples
    outcomes = []
    for cut in [*np.random.default_rng(1).integers(1, len(whole), 40).tolist(), whole.rindex(b"\x43\xa5\x46\xdc") + 16]:
        try:
            samples = open_gaze(written(tmp_path, whole[:cut])).samples
        except SourceError as error:
            assert "session.xdf" in str(error)  # noqa: PT017
            outcomes.append("refused")
            continue
        outcomes.append("read")
        same(samples, reference, len(samples))
    assert outcomes[-1] == "read"
    assert outcomes.count("refused") >= 38


def test_two_files_glued_together_are_refused_at_the_second(tmp_path: Path) -> None:
    whole = xdf(by_types())
    with pytest.raises(GazeFormatError, match=rf"byte {len(whole)}: no chunk begins here"):
        open_gaze(written(tmp_path, whole + whole))
    with pytest.raises(GazeFormatError, match="a second header of stream 1"):
        open_gaze(written(tmp_path, whole + whole[4:]))


def test_swapped_channels_go_with_their_descriptions_and_times_backwards_stay(tmp_path: Path) -> None:
    reference = open_gaze(written(tmp_path, xdf(by_types()))).samples
    one = by_types()
    order = np.random.default_rng(4).permutation(8)
    swapped = one | {"channels": [one["channels"][place] for place in order], "values": one["values"][:, order]}
    same(open_gaze(written(tmp_path, xdf(swapped))).samples, reference)
    backwards = one | {"times": TIMES[::-1], "values": one["values"][::-1]}
    recording = open_gaze(written(tmp_path, xdf(backwards)))
    np.testing.assert_array_equal(recording.samples.right_x, reference.right_x[::-1])
    np.testing.assert_allclose(recording.samples.t_ns, reference.t_ns[::-1], atol=1000)


def test_flipped_bytes_never_hang_and_never_leave_the_tree_of_errors(tmp_path: Path) -> None:
    whole = xdf(EEG, by_types())
    rng = np.random.default_rng(6)
    for _ in range(25):
        broken = bytearray(whole)
        for place in rng.integers(4, len(whole), int(rng.integers(1, 4))):
            broken[place] = int(rng.integers(0, 256))
        try:
            open_gaze(written(tmp_path, bytes(broken)))
        except SourceError as error:
            assert "session.xdf" in str(error)  # noqa: PT017


@pytest.mark.parametrize("content", [b"XDF:", b"XDF:\x00\x00", b"XDF:\x01\x01\x01", b"XDF:" + b"\xff" * 100])
def test_almost_nothing_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(GazeFormatError, match=r"session\.xdf"):
        open_gaze(written(tmp_path, content))
