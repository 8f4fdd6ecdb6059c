"""EyeLink ASC files: real ones against a short reading that shares nothing with ours, made ones, broken ones."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources import open_gaze

from .gaze_rounds import cut_anywhere, peak_bytes, same

FOLDER = "eyelink_asc_pymovements"
FILES = {
    "eyelink_binocular_example.asc": (("left", "right"), (1920, 1080), 1000.0),
    "eyelink_monocular_2khz_example.asc": (("left",), (1280, 1024), 2000.0),
    "eyelink_monocular_example.asc": (("left",), (1280, 1024), 1000.0),
    "eyelink_monocular_no_dummy_example.asc": (("left",), (1920, 1080), 500.0),
    "raccoons.asc": (("left",), (1920, 1080), 1000.0),
}


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_reads_as_an_independent_reading_does(shared_data: Path, name: str) -> None:
    eyes, size, rate = FILES[name]
    lines = (shared_data / FOLDER / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if re.match(r"\d", line)]
    recording = open_gaze(shared_data / FOLDER / name)
    samples = recording.samples
    assert recording.vendor == "eyelink_asc"
    assert samples.t_ns.tolist() == [round(float(row[0]) * 1e6) for row in rows]
    seen = np.zeros(len(rows), dtype=bool)
    for number, eye in enumerate(eyes):
        for place, what, scale in ((1, f"{eye}_x", size[0]), (2, f"{eye}_y", size[1]), (3, f"pupil_{eye}", 1)):
            cells = [row[place + 3 * number] for row in rows]
            theirs = np.array(
                [np.nan if cell in (".", "0.0") and cell + what != "0.0" else float(cell) for cell in cells]
            )
            ours = getattr(samples, what)
            np.testing.assert_allclose(ours, theirs / scale, rtol=1e-6)
            assert np.isnan(ours).mean() == np.isnan(theirs).mean()
            assert np.nanmedian(ours) == pytest.approx(np.nanmedian(theirs) / scale, rel=1e-6)
        seen |= np.isfinite(getattr(samples, f"{eye}_x"))
    np.testing.assert_array_equal(samples.valid, seen)
    for eye in {"left", "right"} - set(eyes):
        assert not samples.has(f"{eye}_x")
    assert (samples.space, samples.size_px, samples.pupil_unit) == ("screen", size, "au")
    metadata = recording.metadata
    assert metadata["rate_hz_stated"] == rate
    assert metadata["pupil_kind"] == "area"
    assert metadata["software_version"].startswith("EYELINK II CL v")
    assert len(metadata["messages"]) == sum(line.startswith("MSG") for line in lines)
    assert metadata["missing"]["gaze"] == pytest.approx(1 - seen.mean(), abs=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_the_trackers_own_events_are_kept(shared_data: Path, name: str) -> None:
    lines = (shared_data / FOLDER / name).read_text(encoding="utf-8").splitlines()
    recording = open_gaze(shared_data / FOLDER / name)
    events = recording.events
    assert events is not None
    width, height = FILES[name][1]
    for word, kind in (("EFIX", "fixations"), ("ESACC", "saccades"), ("EBLINK", "blinks")):
        rows = sorted((line.split() for line in lines if line.startswith(word)), key=lambda row: float(row[2]))
        ours = getattr(events, kind)
        assert [(event.start_ns, event.stop_ns) for event in ours] == [
            (round(float(row[2]) * 1e6), round(float(row[3]) * 1e6)) for row in rows
        ]
        assert recording.metadata["event_eyes"][kind] == "".join(row[1] for row in rows)
        for event, row in zip(ours, rows, strict=True):
            told = [float(cell) if cell != "." else float("nan") for cell in row[5:]]
            if word == "EFIX":
                assert (event.x * width, event.y * height) == pytest.approx((told[0], told[1]))
            if word == "ESACC":
                ends = (event.start_x * width, event.start_y * height, event.end_x * width, event.end_y * height)
                assert ends == pytest.approx(told[:4], nan_ok=True)
                assert (event.amplitude_deg, event.peak_velocity_deg_s) == (told[4], told[5])


PREAMBLE = ["** CONVERTED FROM made.edf", "** EYELINK II CL v6.14 (EyeLink 1000 Plus)", "**"]
COORDS = "MSG\t1 GAZE_COORDS 0.00 0.00 1279.00 1023.00"


def block(
    start: int, eyes: str, rows: list[str], *options: str, rate: str = "1000.00", kind: str = "GAZE"
) -> list[str]:
    words = "\t".join(eyes.split())
    more = "".join(f"\t{option}" for option in options)
    return [
        f"START\t{start} \t{words}\tSAMPLES\tEVENTS",
        "PRESCALER\t1",
        "VPRESCALER\t1",
        "PUPIL\tDIAMETER",
        f"EVENTS\t{kind}\t{words}\tRATE\t{rate}\tTRACKING\tCR\tFILTER\t2",
        f"SAMPLES\t{kind}\t{words}\tRATE\t{rate}\tTRACKING\tCR\tFILTER\t2{more}",
        *rows,
        f"END\t{start + len(rows)} \tSAMPLES\tEVENTS\tRES\t  37.17\t  37.75",
    ]


def mono(first: int, count: int, flags: str = "...") -> list[str]:
    return [f"{first + n}\t  {640 + n:.1f}\t  {512 + n:.1f}\t  {300 + n:.1f}\t{flags}" for n in range(count)]


def made(folder: Path, *parts: list[str]) -> Path:
    path = folder / "made.asc"
    path.write_text("\n".join(line for part in parts for line in part) + "\n", encoding="utf-8")
    return path


def test_several_blocks_of_one_eye_the_other_and_both_are_one_recording(tmp_path: Path) -> None:
    both = [f"{3000 + n}\t 10.0\t 20.0\t 1.0\t 30.0\t 40.0\t 2.0\t....." for n in range(4)]
    path = made(
        tmp_path,
        PREAMBLE,
        [COORDS],
        block(1000, "LEFT", mono(1000, 5)),
        ["MSG\t1500 between"],
        block(2000, "RIGHT", mono(2000, 5), rate="1000.00"),
        [COORDS],
        block(3000, "LEFT RIGHT", both),
    )
    recording = open_gaze(path)
    samples = recording.samples
    times = [*range(1000, 1005), *range(2000, 2005), *range(3000, 3004)]
    assert samples.t_ns.tolist() == [time * 1_000_000 for time in times]
    np.testing.assert_array_equal(np.isfinite(samples.left_x), [True] * 5 + [False] * 5 + [True] * 4)
    np.testing.assert_array_equal(np.isfinite(samples.pupil_right), [False] * 5 + [True] * 9)
    np.testing.assert_allclose(samples.x[[0, 5, 10]] * 1280, [640, 640, 20], rtol=1e-6)
    blocks = recording.metadata["blocks"]
    assert [(held["eyes"], held["ended"]) for held in blocks] == [("left", True), ("right", True), ("left right", True)]
    assert recording.metadata["pupil_kind"] == "diameter"
    assert recording.events is None


def test_remote_mode_velocities_resolution_and_input_beside_the_samples_change_nothing(tmp_path: Path) -> None:
    plain = open_gaze(made(tmp_path, PREAMBLE, [COORDS], block(1000, "RIGHT", mono(1000, 50)))).samples
    remote = [f"{line}\t  5064.0\t  2500.0\t  602.3\t............." for line in mono(1000, 50)]
    path = made(tmp_path, PREAMBLE, [COORDS], block(1000, "RIGHT", remote, "HTARGET"))
    recording = open_gaze(path)
    same(recording.samples, plain)
    assert recording.metadata["blocks"][0]["remote"]
    more = [re.sub(r"\t\.\.\.$", "\t  1.2\t -3.4\t  37.1\t  37.7\t  127.0\t...", line) for line in mono(1000, 50)]
    same(
        open_gaze(made(tmp_path, PREAMBLE, [COORDS], block(1000, "RIGHT", more, "VEL", "RES", "INPUT"))).samples, plain
    )
    spaced = [re.sub(r"\s+", "   ", line) for line in mono(1000, 50)]
    same(open_gaze(made(tmp_path, PREAMBLE, [COORDS], block(1000, "RIGHT", spaced))).samples, plain)


@pytest.mark.parametrize(("rate", "step"), [("250.00", 4), ("500.00", 2), ("1000.00", 1)])
def test_each_rate_is_stated_and_measured(tmp_path: Path, rate: str, step: int) -> None:
    rows = [f"{1000 + step * n}\t 1.0\t 2.0\t 3.0\t..." for n in range(40)]
    recording = open_gaze(made(tmp_path, PREAMBLE, [COORDS], block(1000, "LEFT", rows, rate=rate)))
    assert recording.metadata["rate_hz_stated"] == float(rate) == pytest.approx(recording.rate_hz)


def test_at_2000_hz_times_have_halves_or_come_twice_and_every_sample_stays(tmp_path: Path) -> None:
    halves = [f"{1000 + n / 2:.1f}\t {n}.0\t 2.0\t 3.0\t..." for n in range(40)]
    doubled = [f"{1000 + n // 2}\t {n}.0\t 2.0\t 3.0\t..." for n in range(40)]
    for rows in (halves, doubled):
        recording = open_gaze(made(tmp_path, PREAMBLE, [COORDS], block(1000, "LEFT", rows, rate="2000.00")))
        assert len(recording.samples) == 40
        np.testing.assert_allclose(recording.samples.x * 1280, np.arange(40), atol=1e-4)
        assert recording.rate_hz == pytest.approx(2000, rel=0.06)
    assert (open_gaze(tmp_path / "made.asc").samples.t_ns[:3] / 1e6).tolist() == [1000, 1000, 1001]


@pytest.mark.parametrize(
    ("coords", "size"),
    [("0.00 0.00 1919.00 1079.00", (1920, 1080)), ("0 0 1920 1080", (1920, 1080)), ("0 0 1023 767", (1024, 768))],
)
@pytest.mark.parametrize("word", ["GAZE_COORDS", "DISPLAY_COORDS"])
def test_the_screen_is_found_in_the_messages(tmp_path: Path, word: str, coords: str, size: tuple[int, int]) -> None:
    path = made(tmp_path, PREAMBLE, [f"MSG\t1 {word} {coords}"], block(1000, "LEFT", mono(1000, 5)))
    recording = open_gaze(path)
    assert recording.samples.size_px == recording.metadata["screen_size_px"] == size
    assert recording.samples.x[0] == pytest.approx(640 / size[0])


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([PREAMBLE, block(1000, "LEFT", mono(1000, 5))], "line 10: no message GAZE_COORDS"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", mono(1000, 5), kind="HREF")], "line 10: samples are HREF"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", [])], "no samples"),
        ([PREAMBLE, [COORDS], mono(1000, 5)], "line 5: a sample outside"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", [*mono(1000, 5), "1005\t 1.0\t 2.0"])], "line 16: 3 words"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", [*mono(1000, 5), "1005\t1.0x\t2.0\t3.0\t..."])], "line 16.*left x"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", [*mono(1000, 5), "x005\t1.0\t2.0\t3.0\t..."])], "line 16: neither"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", [*mono(1000, 5), "EFIX L 1000\t1004"])], "line 16: EFIX needs"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", mono(1000, 5)), [COORDS.replace("1279", "1919")],
          block(2000, "LEFT", mono(2000, 5))], "the screen changes"),
        ([PREAMBLE, ["MSG\t1 GAZE_COORDS 0.00 0.00 wide 1023.00"]], "line 4: not four coordinates"),
        ([PREAMBLE, [COORDS], block(1000, "LEFT", mono(1000, 5)), PREAMBLE], "line 17: a second recording"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path: Path, parts: list[list[str]], problem: str) -> None:
    with pytest.raises(GazeFormatError, match=rf"made\.asc.*{problem}"):
        open_gaze(made(tmp_path, *parts))


@pytest.fixture(params=list(FILES)[::2])
def real(request: pytest.FixtureRequest, shared_data: Path) -> bytes:
    return (shared_data / FOLDER / request.param).read_bytes()


def test_cut_anywhere_it_is_refused_or_read_so_far(real: bytes, tmp_path: Path) -> None:
    assert cut_anywhere(tmp_path / "recording", real, seed=0) == {"read", "refused"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_other_encodings_and_packing_give_the_same_samples(real: bytes, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "recording"
    path.write_bytes(real)
    reference = open_gaze(path)
    text = real.decode().replace("\n", "\r\n").encode(encoding)
    for content in (text, gzip.compress(text, mtime=0)):
        path.write_bytes(content)
        recording = open_gaze(path)
        same(recording.samples, reference.samples)
        assert repr(recording.events) == repr(reference.events)  # NaN is not equal to itself
    with pytest.raises(GazeFormatError, match="packed file is cut off"):
        path.write_bytes(content[:-20])
        open_gaze(path)


def test_decimal_commas_read_as_points(real: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(real)
    reference = open_gaze(path).samples
    path.write_bytes(re.sub(rb"(?m)^\d.*$", lambda line: re.sub(rb"(\d)\.(\d)", rb"\1,\2", line[0]), real))
    same(open_gaze(path).samples, reference)


def test_nul_bytes_two_files_and_endless_lines_are_refused(real: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    where = real.index(b"START")
    path.write_bytes(real[:where] + b"\0" + real[where:])
    with pytest.raises(GazeFormatError, match=rf"line {real[:where].count(chr(10).encode()) + 1}: NUL"):
        open_gaze(path)
    path.write_bytes(real + b"\n" + real)
    with pytest.raises(GazeFormatError, match="second recording"):
        open_gaze(path)
    sample = re.search(rb"(?m)^\d", real)
    assert sample is not None
    line = real[: sample.start()].count(b"\n") + 1
    path.write_bytes(real[: sample.start()] + b"7" * 1_000_000 + real[sample.start() :])
    with pytest.raises(GazeFormatError, match=f"line {line}") as raised:
        open_gaze(path)
    assert len(str(raised.value)) < 600
    path.write_bytes(real.replace(b"START", b"MSG 1 " + b"m" * 1_000_000 + b"\nSTART", 1))
    assert len(open_gaze(path).samples)


def test_times_that_run_backwards_stay_in_the_files_order(real: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(real)
    reference = open_gaze(path).samples
    backwards = iter(re.findall(rb"(?m)^\d.*$", real)[::-1])
    path.write_bytes(re.sub(rb"(?m)^\d.*$", lambda _: next(backwards), real))
    recording = open_gaze(path)
    np.testing.assert_array_equal(recording.samples.t_ns, reference.t_ns[::-1])
    np.testing.assert_array_equal(recording.samples.left_x, reference.left_x[::-1])
    assert recording.metadata["steps_back_in_time"] == len(reference) - 1


@given(seed=st.integers(0, 10_000), many=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_never_hang_and_no_sample_is_lost_silently(
    seed: int, many: int, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray((shared_data / FOLDER / list(FILES)[seed % 5]).read_bytes())
    path = tmp_path_factory.mktemp("flipped", numbered=True) / "recording"
    for place in rng.integers(0, len(content), many):
        content[place] = int(rng.integers(0, 256))
    path.write_bytes(content)
    try:
        open_gaze(path)
    except SourceError as error:
        assert "recording" in str(error)  # noqa: PT017


def test_two_hours_at_1000_hz_would_need_less_than_500_mb(tmp_path: Path) -> None:
    rows = [
        f"\t  {900 + n % 97}.1\t  538.{n % 10}\t  285.0\t  944.2\t  540.7\t  31{n % 10}.0\t....." for n in range(970)
    ]
    peaks = []
    for count in (150_000, 450_000):
        lines = [f"{1000 + n}{rows[n % 970]}" for n in range(count)]
        peaks.append(peak_bytes(made(tmp_path, PREAMBLE, [COORDS], block(1000, "LEFT RIGHT", lines))))
    (few, low), (many, high) = peaks
    assert (few, many) == (150_000, 450_000)
    each = (high - low) / (many - few)
    assert each < 56
    assert low + each * (2 * 3600 * 1000 - few) < 500e6
