"""Broken, odd and hostile versions of gaze files: an error with a place, or correct samples; never wrong ones."""

from __future__ import annotations

import codecs
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emert_edge.errors import EmertError, GazeFormatError, SourceError
from emert_edge.eye import GazeSamples
from emert_edge.sources import open_gaze

from .gaze_rounds import same
from .made_gaze import gazepoint, gazepoint_fixations, marker_mapper, pupil_cloud, tobii_sdk

TOBII = "tobii_prolab_ivt/I-VT-normal Data export_short.tsv"
STUDIO = "tobii_studio_d2lab/data.tsv"
PUPIL = "pupil_core_export/gaze_positions.csv"
ROWS = 400
TIMES = (
    b"recording timestamp [ms]", b"recordingtimestamp", b"gaze_timestamp", b"timestamp [ns]", b"timetick(f=10000000)",
    b"device_time_stamp",
)  # fmt: skip


def head(path: Path, rows: int = ROWS) -> list[bytes]:
    """The header and some rows of a real file, without line ends and mark."""
    return path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()[: rows + 1]


MADE = {
    "cloud": lambda: pupil_cloud()["gaze.csv"],
    "mapper": lambda: marker_mapper()["gaze.csv"],
    "gazepoint": gazepoint,
    "gazepoint fixations": gazepoint_fixations,
    "sdk": tobii_sdk,
}


@pytest.fixture(params=[TOBII, STUDIO, PUPIL, *MADE], ids=["tobii", "studio", "pupil", *MADE])
def real(request: pytest.FixtureRequest) -> list[bytes]:
    """A table of each vendor's, real where there is a real one."""
    if request.param in MADE:
        return [line.encode() for line in MADE[request.param]()[:161]]
    return head(request.getfixturevalue("shared_data") / request.param)


@pytest.fixture
def tobii(shared_data: Path) -> list[bytes]:
    return head(shared_data / TOBII)


@pytest.fixture
def pupil(shared_data: Path) -> list[bytes]:
    return head(shared_data / PUPIL)


def written(folder: Path, content: bytes | list[bytes], name: str = "recording.tsv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else b"\n".join(content) + b"\n")
    return path


def opened(folder: Path, content: bytes | list[bytes], **options: object) -> GazeSamples:
    return open_gaze(written(folder, content), **options).samples  # type: ignore[arg-type]


def delimiter(lines: list[bytes]) -> bytes:
    return b"\t" if b"\t" in lines[0] else b","


def time_column(lines: list[bytes]) -> int:
    titles = lines[0].split(delimiter(lines))
    return next(place for place, title in enumerate(titles) if title.lower().endswith(TIMES))


def test_cut_anywhere_it_is_an_error_with_a_place_or_the_samples_so_far(real: list[bytes], tmp_path: Path) -> None:
    whole = b"\n".join(real) + b"\n"
    reference = opened(tmp_path, whole)
    rng = np.random.default_rng(0)
    cuts = {*rng.integers(0, len(whole), 50).tolist(), *range(len(whole) - 40, len(whole))}
    outcomes = set()
    for cut in sorted(cuts):
        try:
            samples = opened(tmp_path, whole[:cut])
        except EmertError as error:
            assert "recording.tsv" in str(error)  # noqa: PT017
            outcomes.add("refused")
            continue
        outcomes.add("read")
        # A number may have lost its last digits, in the last row only.
        sound = len(samples) if whole[cut - 1 : cut] == b"\n" else len(samples) - 1
        same(samples.part(0, sound), reference, sound)
    assert outcomes == {"read", "refused"}


def test_swapped_columns_go_with_their_headers(real: list[bytes], tmp_path: Path) -> None:
    mark = delimiter(real)
    order = np.random.default_rng(1).permutation(real[0].count(mark) + 1)
    shuffled = [mark.join(np.array(line.split(mark), dtype=object)[order].tolist()) for line in real]
    same(opened(tmp_path, shuffled), opened(tmp_path, real))


def test_decimal_points_and_commas_read_alike(tobii: list[bytes], tmp_path: Path) -> None:
    assert any(b"," in line for line in tobii)
    same(opened(tmp_path, [line.replace(b",", b".") for line in tobii]), opened(tmp_path, tobii))


def test_decimal_commas_read_in_a_semicolon_table(pupil: list[bytes], tmp_path: Path) -> None:
    reference = opened(tmp_path, pupil)
    same(opened(tmp_path, [line.replace(b",", b";").replace(b".", b",") for line in pupil]), reference)


@pytest.mark.parametrize(
    "cell", [b"1,234.5", b"1.234,5", b"1,2,3", b"1_000", b"0x10", b"12abc", b"--5", b"1e", b"9" * 100]
)
def test_a_cell_that_is_no_number_is_named_by_line_and_column(tobii: list[bytes], tmp_path: Path, cell: bytes) -> None:
    titles = tobii[0].decode().split("\t")
    row = next(n for n, line in enumerate(tobii) if line.split(b"\t")[titles.index("Gaze point X [DACS px]")].isdigit())
    for title in ("Gaze point X [DACS px]", "Pupil diameter left [mm]", "Recording timestamp [ms]"):
        cells = tobii[row].split(b"\t")
        cells[titles.index(title)] = cell
        broken = [*tobii[:row], b"\t".join(cells), *tobii[row + 1 :]]
        with pytest.raises(GazeFormatError) as raised:
            opened(tmp_path, broken)
        assert f"line {row + 1}" in str(raised.value)
        assert title in str(raised.value)
        assert len(str(raised.value)) < 600


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_other_encodings_give_the_same_samples(real: list[bytes], tmp_path: Path, encoding: str) -> None:
    # Code page 1252 has the micro sign, not the Greek letter.
    text = b"\r\n".join(real).decode().replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}") + "\r\n"
    same(opened(tmp_path, text.encode(encoding)), opened(tmp_path, real))


def test_half_a_utf16_file_is_refused_or_read_so_far(real: list[bytes], tmp_path: Path) -> None:
    raw = b"\n".join(real).decode().encode("utf-16")
    reference = opened(tmp_path, real)
    for cut in (len(raw) // 2, len(raw) // 2 + 1, len(raw) - 1):
        with pytest.raises(GazeFormatError, match=r"recording\.tsv"):
            opened(tmp_path, raw[:cut])
    same(opened(tmp_path, raw), reference)


def test_a_file_packed_with_gzip_reads_alike_and_a_broken_one_is_refused(real: list[bytes], tmp_path: Path) -> None:
    packed = gzip.compress(b"\n".join(real) + b"\n", mtime=0)
    same(opened(tmp_path, packed), opened(tmp_path, real))
    for cut in (3, 10, len(packed) // 2, len(packed) - 8, len(packed) - 1):
        with pytest.raises(GazeFormatError, match=r"recording\.tsv: the packed file"):
            opened(tmp_path, packed[:cut])
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    with pytest.raises(GazeFormatError, match=r"recording\.tsv"):
        opened(tmp_path, bytes(damaged))


@pytest.mark.parametrize("where", [0, 30, 5_000, 40_000])
def test_nul_bytes_are_refused_with_their_line(real: list[bytes], tmp_path: Path, where: int) -> None:
    whole = b"\n".join(real) + b"\n"
    where = min(where, len(whole) - 2)
    broken = whole[:where] + b"\0" + whole[where:]
    with pytest.raises(GazeFormatError, match=rf"line {whole[:where].count(chr(10).encode()) + 1}: NUL"):
        opened(tmp_path, broken)


def test_times_that_run_backwards_stay_in_the_files_order(real: list[bytes], tmp_path: Path) -> None:
    reference = opened(tmp_path, real)
    path = written(tmp_path, [real[0], *reversed(real[1:])])
    recording = open_gaze(path)
    np.testing.assert_array_equal(recording.samples.t_ns, reference.t_ns[::-1])
    np.testing.assert_array_equal(recording.samples.x, reference.x[::-1])
    assert recording.metadata["steps_back_in_time"] == len(reference) - 1


def test_two_recordings_glued_together_with_their_headers_are_refused_at_the_second(
    real: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(GazeFormatError, match=rf"line {len(real) + 1}\b"):
        opened(tmp_path, [*real, *real])


def test_two_recordings_of_one_name_stay_in_the_files_order(real: list[bytes], tmp_path: Path) -> None:
    reference = opened(tmp_path, real)
    both = opened(tmp_path, [*real, *real[1:]])
    np.testing.assert_array_equal(both.t_ns, np.tile(reference.t_ns, 2))
    np.testing.assert_array_equal(both.x, np.tile(reference.x, 2))


def test_two_peoples_recordings_in_one_export_are_refused(tobii: list[bytes], tmp_path: Path) -> None:
    other = [line.replace(b"\tAlex\t", b"\tBertha\t") for line in tobii[1:]]
    with pytest.raises(GazeFormatError, match=r"several recordings.*Alex.*Bertha"):
        opened(tmp_path, [*tobii, *other])


def test_a_header_or_a_cell_of_a_million_characters_ends(real: list[bytes], tmp_path: Path) -> None:
    mark = delimiter(real)
    reference = opened(tmp_path, real)
    # A column nobody asked for may hold anything.
    wide = [line + mark + (b"z" * 1_000_000 if number == 7 else b"") for number, line in enumerate(real)]
    wide[0] += b"notes"
    same(opened(tmp_path, wide), reference)
    same(opened(tmp_path, [real[0] + mark + b"h" * 1_000_000, *(line + mark for line in real[1:])]), reference)
    broken = list(real)
    cells = broken[9].split(mark)
    cells[time_column(real)] = b"7" * 1_000_000
    broken[9] = mark.join(cells)
    with pytest.raises(GazeFormatError, match="line 10") as raised:
        opened(tmp_path, broken)
    assert len(str(raised.value)) < 600
    with pytest.raises(GazeFormatError, match="line 10"):
        opened(tmp_path, [*real[:9], b"x" * 1_000_000, *real[9:]])


def test_rows_that_are_too_short_or_too_long_are_refused_with_their_line(real: list[bytes], tmp_path: Path) -> None:
    mark = delimiter(real)
    with pytest.raises(GazeFormatError, match=r"line 20: .*cells"):
        opened(tmp_path, [*real[:19], real[19].rsplit(mark, 1)[0], *real[20:]])
    with pytest.raises(GazeFormatError, match=r"line 20: .*cells"):
        opened(tmp_path, [*real[:19], real[19] + mark, *real[20:]])


def test_blank_lines_are_nothing(real: list[bytes], tmp_path: Path) -> None:
    gappy = [b"", *real[:50], b"", b"", *real[50:], b"", b""]
    same(opened(tmp_path, gappy), opened(tmp_path, real))
    broken = [*gappy[:60], b"1" + delimiter(real) + b"2", *gappy[60:]]
    with pytest.raises(GazeFormatError, match="line 61:"):
        opened(tmp_path, broken)


def test_quoted_cells_read_as_bare_ones(real: list[bytes], tmp_path: Path) -> None:
    mark = delimiter(real)
    quoted = [mark.join(b'"' + cell + b'"' for cell in line.split(mark)) for line in real]
    same(opened(tmp_path, quoted), opened(tmp_path, real))


def test_quoted_cells_may_hold_delimiters_and_line_ends_in_a_csv(pupil: list[bytes], tmp_path: Path) -> None:
    noted = [line + b',"said: ""hm, well"",\nand went"' for line in pupil]
    noted[0] = pupil[0] + b",notes"
    same(opened(tmp_path, noted), opened(tmp_path, pupil))
    broken = list(noted)
    broken[5] = broken[5].replace(b"0.", b"zero.", 1)
    # Each row takes two lines, the header one.
    with pytest.raises(GazeFormatError, match="line 10, column"):
        opened(tmp_path, broken)
    with pytest.raises(GazeFormatError, match="line"):
        opened(tmp_path, [*pupil, pupil[5] + b'"', b'"' + pupil[6]])


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b" ", b"\xff\xfe"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(GazeFormatError, match=r"recording\.tsv"):
        opened(tmp_path, content)


def test_a_header_alone_is_refused(real: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match=r"no (gaze samples|row)"):
        opened(tmp_path, real[:1])


def without(lines: list[bytes], *titles: str) -> list[bytes]:
    kept = [place for place, title in enumerate(lines[0].decode().split("\t")) if not title.startswith(titles)]
    return [b"\t".join(np.array(line.split(b"\t"), dtype=object)[kept].tolist()) for line in lines]


def test_a_tsv_without_gaze_columns_is_refused(tobii: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match="no gaze columns"):
        opened(tmp_path, without(tobii, "Gaze point"))
    with pytest.raises(GazeFormatError, match="columns"):
        opened(tmp_path, without(tobii, "Recording timestamp"))
    with pytest.raises(GazeFormatError, match="Recording resolution"):
        opened(tmp_path, without(tobii, "Recording resolution"))
    only_mice = [tobii[0], *(line for line in tobii[1:] if b"\tEye Tracker\t" not in line)]
    with pytest.raises(GazeFormatError, match="no row holds a gaze sample"):
        opened(tmp_path, only_mice)


def test_exports_with_fewer_columns_read_what_is_there(tobii: list[bytes], tmp_path: Path) -> None:
    reference = opened(tmp_path, tobii)
    bare = open_gaze(
        written(
            tmp_path, without(tobii, "Eye movement", "Pupil", "Eye openness", "Eyetracker", "Eye position", "Fixation")
        )
    )
    np.testing.assert_array_equal(bare.samples.x, reference.x)
    assert bare.events is None
    assert bare.samples.pupil_unit is None
    assert not bare.samples.has("pupil_left")
    monocular = opened(
        tmp_path, without(tobii, "Gaze point X", "Gaze point Y", "Gaze point right", "Pupil diameter right")
    )
    np.testing.assert_array_equal(monocular.x, reference.left_x)
    np.testing.assert_array_equal(monocular.left_x, reference.left_x)
    assert not monocular.has("right_x")
    no_sensor = opened(tmp_path, without(tobii, "Sensor"))
    same(no_sensor, reference)


def test_headers_without_units_are_the_same_and_their_times_show_their_unit(tobii: list[bytes], tmp_path: Path) -> None:
    reference = opened(tmp_path, tobii)
    titles = tobii[0].decode().split("\t")
    taken = [title for title in titles if "[DACS mm]" in title or "[MCS" in title or "Average" in title]
    lines = without(tobii, *taken)
    bare = "\t".join(title.split(" [")[0] for title in lines[0].decode().split("\t")).encode()
    recording = open_gaze(written(tmp_path, [bare, *lines[1:]]))
    same(recording.samples, reference)
    assert not recording.metadata["time_unit_stated"]
    micro = [line.replace(b"\t", b"000\t", 1) for line in lines[1:]]
    in_us = open_gaze(written(tmp_path, [bare, *micro]))
    same(in_us.samples, reference)
    assert in_us.metadata["time_unit"] == "us"
    for mu in ("μ", "µ", "u"):
        stated = lines[0].replace(b"Recording timestamp [ms]", f"Recording timestamp [{mu}s]".encode())
        same(opened(tmp_path, [stated, *micro]), reference)


def test_events_are_told_apart_by_their_duration_where_they_have_no_number(tobii: list[bytes], tmp_path: Path) -> None:
    numbered = open_gaze(written(tmp_path, tobii)).events
    timed = open_gaze(written(tmp_path, without(tobii, "Eye movement type index"))).events
    assert numbered is not None
    assert timed is not None
    for kind in ("fixations", "saccades"):
        spans = [[(event.start_ns, event.stop_ns) for event in getattr(events, kind)] for events in (numbered, timed)]
        assert spans[0] == spans[1]
    bare = open_gaze(written(tmp_path, without(tobii, "Eye movement type index", "Eye movement event duration"))).events
    assert bare is not None
    assert {event.start_ns for event in bare.fixations} <= {event.start_ns for event in numbered.fixations}


def test_times_in_another_unit_than_stated_are_refused_with_the_likely_one(tobii: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match=r"probably microseconds.*300 Hz"):
        opened(tmp_path, [tobii[0], *(line.replace(b"\t", b"000\t", 1) for line in tobii[1:])])
    wrong = tobii[0].replace(b"Recording timestamp [ms]", "Recording timestamp [μs]".encode())
    with pytest.raises(GazeFormatError, match="probably milliseconds"):
        opened(tmp_path, [wrong, *tobii[1:]])


def test_pupil_times_in_milliseconds_are_refused(pupil: list[bytes], tmp_path: Path) -> None:
    def in_ms(line: bytes) -> bytes:
        time, rest = line.split(b",", 1)
        return b"%.6f,%s" % (float(time) * 1000, rest)

    with pytest.raises(GazeFormatError, match="probably milliseconds"):
        opened(tmp_path, [pupil[0], *map(in_ms, pupil[1:])])


def test_a_constant_time_is_refused(pupil: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match="one time"):
        opened(tmp_path, [pupil[0], *(b"5.0," + line.split(b",", 1)[1] for line in pupil[1:])])


@pytest.mark.parametrize("time", [b"", b"nan", b"inf", b"1e400", b"99999999999999999999", b"12:30:05"])
def test_a_row_without_a_time_is_refused(pupil: list[bytes], tmp_path: Path, time: bytes) -> None:
    broken = [*pupil[:5], time + b"," + pupil[5].split(b",", 1)[1], *pupil[6:]]
    with pytest.raises(GazeFormatError, match="line 6, column 'gaze_timestamp'"):
        opened(tmp_path, broken)


def test_an_unknown_validity_is_refused(tobii: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(GazeFormatError, match=r"column 'Validity (left|right)'.*'Maybe'"):
        opened(tmp_path, [line.replace(b"\tValid\t", b"\tMaybe\t") for line in tobii])


def test_what_tobii_calls_invalid_is_missing_whatever_the_cells_hold(tobii: list[bytes], tmp_path: Path) -> None:
    titles = tobii[0].decode().split("\t")
    row = next(n for n, line in enumerate(tobii) if line.split(b"\t")[titles.index("Validity left")] == b"Valid")
    cells = tobii[row].split(b"\t")
    cells[titles.index("Validity left")] = b"Invalid"
    lines = [*tobii[:row], b"\t".join(cells), *tobii[row + 1 :]]
    reference, samples = opened(tmp_path, tobii), opened(tmp_path, lines)
    changed = np.flatnonzero(np.isnan(samples.left_x) & ~np.isnan(reference.left_x))
    assert changed.size == 1
    place = int(changed[0])
    assert np.isnan(samples.pupil_left[place])
    assert samples.openness_left[place] == reference.openness_left[place]
    assert samples.x[place] == reference.x[place]  # the vendor's combined point: the other eye still counts
    cells[titles.index("Validity right")] = b"Invalid"
    neither = opened(tmp_path, [*tobii[:row], b"\t".join(cells), *tobii[row + 1 :]])
    assert np.isnan(neither.x[place])


def test_a_doubled_column_is_refused(tobii: list[bytes], tmp_path: Path) -> None:
    doubled = [line + b"\t" + line.split(b"\t")[0] for line in tobii]
    with pytest.raises(GazeFormatError, match="two columns are called 'Recording timestamp"):
        opened(tmp_path, doubled)


def test_a_missing_path_an_unreadable_file_and_a_strange_one_are_source_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_gaze(tmp_path / "nothing.tsv")
    with pytest.raises(SourceError, match=r"cannot be read|no such"):
        open_gaze("nul\0byte.tsv")
    with pytest.raises(SourceError, match=r"gaze_positions\.csv"):
        open_gaze(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="no ordinary file"):
        open_gaze(tmp_path / "pipe")
    path = written(tmp_path, b"t_ns,x,y\n")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SourceError, match="Permission denied"):
        open_gaze(path)


def test_an_unknown_format_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format"):
        open_gaze(tmp_path, format="tobii")
    with pytest.raises(ValueError, match="columns"):
        open_gaze(tmp_path, format="pupil_core", columns={"a": "x"})


@given(content=st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_or_read(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any", numbered=True)
    try:
        samples = opened(folder, b"t_ns,x,y\n0,0.5,0.5\n4000000,0.5,0.5\n" + content)
    except SourceError:
        return
    assert len(samples) >= 2
    assert samples.x[:2].tolist() == [0.5, 0.5]


@given(seed=st.integers(0, 10_000), many=st.integers(1, 4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_never_hang_and_never_leave_the_tree_of_errors(
    seed: int, many: int, real: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(b"\n".join(real[:31]) + b"\n")
    for place in rng.integers(0, len(content), many):
        content[place] = int(rng.integers(0, 256))
    try:
        opened(tmp_path_factory.mktemp("flipped", numbered=True), bytes(content))
    except SourceError as error:
        assert "recording.tsv" in str(error)  # noqa: PT017
