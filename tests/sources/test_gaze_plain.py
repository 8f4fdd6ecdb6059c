"""Plain tables: the column map, its units, and exact times."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emert_edge.sources.delimited_text as delimited_text
import emert_edge.sources.text_lines as text_lines
from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye import GazeSamples
from emert_edge.sources import open_gaze, read_columns

NS = {"s": 9, "ms": 6, "us": 3, "ns": 0}


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rows(times: list[str], x: str = "0.5", y: str = "0.5", mark: str = ",") -> str:
    return "".join(f"{time}{mark}{x}{mark}{y}\n" for time in times)


def test_a_table_with_our_names_needs_no_map(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "t_ns,left_x,left_y,pupil_left,mood\n0,0.25,0.5,3.5,fine\n4000000,,,,\n8000000,0.75,nan,3.25,\n",
    )
    recording = open_gaze(path)
    assert recording.vendor == "plain"
    samples = recording.samples
    assert samples.t_ns.tolist() == [0, 4_000_000, 8_000_000]
    np.testing.assert_array_equal(samples.left_x, np.array([0.25, np.nan, 0.75], dtype=np.float32))
    np.testing.assert_array_equal(samples.valid, [True, False, False])
    assert recording.metadata["unused_columns"] == ["mood"]
    assert recording.events is None


MAPS = {
    "to names": {
        "time": {"name": "t_ns", "unit": "ms"},
        "gx": ["x", "px"],
        "gy": ("y", "px"),
        "pl": "pupil_left",
        "pupil_unit": "mm",
        "size_px": [1000, 500],
    },
    "to columns": {
        "t_ns": {"column": "time", "unit": "ms"},
        "x": {"column": "gx", "unit": "px"},
        "y": ["gy", "px"],
        "pupil_left": {"column": "pl", "unit": "mm"},
        "size_px": (1000, 500),
    },
}


@pytest.mark.parametrize("direction", MAPS)
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_map_is_understood_either_way_round(tmp_path: Path, direction: str, mark: str) -> None:
    lines = "time,gx,gy,pl\n1.5,250,250,3.5\n5.5,500,125,3.25\n9.5,,,\n".replace(",", mark)
    columns = dict(MAPS[direction], **({"delimiter": "|"} if mark == "|" else {}))
    recording = open_gaze(table(tmp_path, lines), columns=columns)
    samples = recording.samples
    assert samples.t_ns.tolist() == [1_500_000, 5_500_000, 9_500_000]
    assert samples.x[:2].tolist() == [0.25, 0.5]
    assert samples.y[:2].tolist() == [0.5, 0.25]
    assert samples.pupil_left[:2].tolist() == [3.5, 3.25]
    assert (samples.pupil_unit, samples.size_px) == ("mm", (1000, 500))
    assert recording.rate_hz == 250


def test_a_map_whose_names_are_columns_too_goes_by_what_the_table_holds(tmp_path: Path) -> None:
    path = table(tmp_path, "t,x,y\n" + rows(["0", "4", "8"], "0.25", "0.5"))
    left = open_gaze(path, columns={"t_ns": ["t", "ms"], "left_x": "x", "left_y": "y"}).samples
    assert left.left_x.tolist() == [0.25] * 3
    with pytest.raises(ValueError, match="cannot be told"):
        open_gaze(
            table(tmp_path, "t_ns,x,y,left_x,left_y\n"),
            columns={"t_ns": "t_ns", "x": "left_x", "left_x": "x", "y": "left_y", "left_y": "y"},
        )


def test_the_origin_the_missing_cells_and_validity_columns_are_as_declared(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "t,x,y,p,ok\n0,0.25,0.25,3,1\n4,-1,0.5,0,1\n8,0.5,-1.0,.,1\n12,0.5,0.75,4,0\n16,0.5,0.75,n/a,1\n",
    )
    samples = open_gaze(
        path,
        columns={
            "t": ["t_ns", "ms"],
            "x": "x",
            "y": "y",
            "p": {"name": "pupil_right", "missing": [0, "n/a"]},
            "origin": "bottom-left",
            "space": "scene",
            "clock": "lab",
            "missing": [-1, "."],
            "valid": {"ok": {"values": [1], "of": ["x", "y"]}},
        },
    ).samples
    np.testing.assert_array_equal(samples.y, np.array([0.75, 0.5, np.nan, np.nan, 0.25], dtype=np.float32))
    np.testing.assert_array_equal(samples.valid, [True, False, False, False, True])
    np.testing.assert_array_equal(samples.pupil_right, np.array([3, np.nan, np.nan, 4, np.nan], dtype=np.float32))
    assert (samples.space, samples.clock) == ("scene", "lab")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"gx": "z"}, "z"),
        ({"gx": {"unit": "px"}}, "gx"),
        ({"gx": ["x", "cm"]}, "cm"),
        ({"time": ["t_ns", "min"]}, "min"),
        ({"time": "pupil_left"}, "t_ns"),
        ({"gy": "pupil_left"}, "point"),
        ({"gx": "y"}, "more than once"),
        ({"gx": ["x", "px"]}, "size_px"),
        ({"size_px": [0, 5]}, "size_px"),
        ({"size_px": "big"}, "size_px"),
        ({"origin": "middle"}, "origin"),
        ({"space": "room"}, "space"),
        ({"missing": {"a": 1}}, "missing"),
        ({"valid": {"ok": 1}}, "valid"),
        ({"delimiter": "ab"}, "delimiter"),
        ({"pl": ["pupil_left", "mm"], "pr": ["pupil_right", "px"]}, "pupils"),
        ({5: "x"}, "keys"),
    ],
)
def test_a_wrong_map_is_a_wrong_argument_and_in_a_file_a_format_error(tmp_path: Path, change: dict, named: str) -> None:
    columns = {"time": ["t_ns", "ms"], "gx": "x", "gy": "y", **change}
    path = table(tmp_path, "time,gx,gy,pl,pr,ok\n")
    with pytest.raises((ValueError, TypeError), match=named):
        open_gaze(path, columns=columns)
    if 5 not in change:  # JSON's keys are texts
        file = table(tmp_path, json.dumps(columns), "map.json")
        with pytest.raises(GazeFormatError, match=named) as raised:
            read_columns(file)
        assert str(file) in str(raised.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": ' * 100_000, "\ufeff{}"])
def test_a_map_file_that_is_no_map_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = table(tmp_path, text, "map.json")
    with pytest.raises(GazeFormatError, match=r"map\.json"):
        read_columns(file)
    with pytest.raises(SourceError, match="nothing"):
        read_columns(tmp_path / "nothing.json")


def test_a_map_file_gives_what_the_mapping_gives(tmp_path: Path) -> None:
    file = table(tmp_path, json.dumps(MAPS["to names"]), "map.json")
    path = table(tmp_path, "time,gx,gy,pl\n1,250,250,3.5\n5,500,125,3.25\n")
    mapped, read = (open_gaze(path, columns=columns).samples for columns in (MAPS["to names"], read_columns(file)))
    np.testing.assert_array_equal(mapped.x, read.x)
    np.testing.assert_array_equal(mapped.t_ns, read.t_ns)


def test_columns_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    path = table(tmp_path, "time,gx\n0,1\n")
    with pytest.raises(GazeFormatError, match=r"'gy'.*'time', 'gx'"):
        open_gaze(path, columns={"time": "t_ns", "gx": "x", "gy": "y"})
    with pytest.raises(GazeFormatError, match="columns="):
        open_gaze(path)
    with pytest.raises(GazeFormatError, match="columns="):
        open_gaze(path, format="plain")
    doubled = table(tmp_path, "time,gx,gx,gy\n0,1,1,1\n")
    with pytest.raises(GazeFormatError, match="2 columns are called 'gx'"):
        open_gaze(doubled, columns={"time": "t_ns", "gx": "x", "gy": "y"})


@pytest.mark.parametrize("stated", NS)
@pytest.mark.parametrize("true", NS)
def test_a_wrong_unit_of_time_is_told_and_a_right_one_read(tmp_path: Path, stated: str, true: str) -> None:
    times = [f"{Decimal(n * 4).scaleb(6 - NS[true])}" for n in range(600)]
    path = table(tmp_path, "t,x,y\n" + rows(times))
    columns = {"t": ["t_ns", stated], "x": "x", "y": "y"}
    if stated == true:
        assert open_gaze(path, columns=columns).samples.t_ns.tolist() == [n * 4_000_000 for n in range(600)]
        return
    word = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[true]
    with pytest.raises(GazeFormatError, match=rf"'t'.*probably {word}"):
        open_gaze(path, columns=columns)


@given(
    times=st.lists(
        st.tuples(st.integers(-(10**17), 10**17), st.integers(0, 13)).map(
            lambda pair: Decimal(pair[0]).scaleb(-pair[1])
        ),
        min_size=1,
        max_size=30,
    ),
    unit=st.sampled_from(sorted(NS)),
    comma=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_times_are_exact_whatever_their_digits(
    times: list[Decimal], unit: str, comma: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = [f"{time:f}" for time in times]
    exact = [int((time.scaleb(NS[unit])).to_integral_value()) for time in times]
    if comma:
        texts = [text.replace(".", ",") for text in texts]
    path = table(tmp_path_factory.mktemp("exact", numbered=True), "t;x;y\n" + rows(texts, mark=";"))
    read = delimited_text.DelimitedText(path)
    if any(not -(2**63) <= time < 2**63 for time in exact):
        with pytest.raises(GazeFormatError, match="line"):
            [block.times_ns(0, 10 ** NS[unit]) for block in read.blocks([0])]
        return
    (block,) = read.blocks([0])
    assert block.times_ns(0, 10 ** NS[unit]).tolist() == exact


def test_a_time_printed_with_a_floats_noise_is_the_nanosecond_that_was_meant(tmp_path: Path) -> None:
    path = table(
        tmp_path, "t,x,y\n" + rows(["329367.90540349996", "329367.9229265", "329367.92542950004", "3.2936793e5"])
    )
    samples = open_gaze(path, columns={"t": ["t_ns", "s"], "x": "x", "y": "y"}).samples
    assert samples.t_ns.tolist() == [329367905403500, 329367922926500, 329367925429500, 329367930000000]


@given(
    values=st.lists(st.one_of(st.floats(allow_nan=True), st.integers(-(10**6), 10**6)), min_size=1, max_size=30),
    comma=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_numbers_read_as_python_reads_them(
    values: list[float], comma: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = ["" if value != value else repr(value) for value in values]
    if comma:
        texts = [text.replace(".", ",") for text in texts]
    path = table(tmp_path_factory.mktemp("numbers", numbered=True), "t;x\n" + "".join(f"0;{text}\n" for text in texts))
    (block,) = delimited_text.DelimitedText(path).blocks([1])
    np.testing.assert_array_equal(block.numbers(1), np.array(values, dtype=np.float64))


@pytest.mark.parametrize("size", [16, 61, 256, 4096])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_size_of_the_blocks_that_are_read_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, end: str, quoted: bool
) -> None:
    rng = np.random.default_rng(0)
    points = rng.random(500).round(6)
    note = '"a, b"' if quoted else "ab"
    lines = ["t_ns,x,y,note", *(f"{n * 4_000_000},{v},{1 - v:.6f},{note}" for n, v in enumerate(points))]
    path = table(tmp_path, end.join(lines) + end)
    reference = open_gaze(path).samples
    monkeypatch.setattr(text_lines, "_BLOCK_BYTES", size)
    samples: GazeSamples = open_gaze(path).samples
    assert len(samples) == 500
    np.testing.assert_array_equal(samples.t_ns, np.arange(500) * 4_000_000)
    np.testing.assert_array_equal(samples.x, points.astype(np.float32))
    np.testing.assert_array_equal(samples.y, reference.y)
    broken = [*lines[:300], lines[300].replace("0.", "O.", 1), *lines[301:]]
    path = table(tmp_path, end.join(broken) + end)
    with pytest.raises(GazeFormatError, match="line 301, column 'x'"):
        open_gaze(path)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(text_lines, "_LONGEST_LINE", 10_000)
    path = table(tmp_path, "t_ns,x,y\n0,0.5,0.5\n" + "1" * 50_000)
    with pytest.raises(GazeFormatError, match="line 3"):
        open_gaze(path)


def test_pixels_that_are_read_as_fractions_are_refused(tmp_path: Path) -> None:
    rows = "\n".join(f"{index * 4_000_000},{900 + index},{500 - index}" for index in range(100))
    table = tmp_path / "pixels.csv"
    table.write_text(f"t_ns,x,y\n{rows}\n")
    with pytest.raises(GazeFormatError, match=r"pixels\.csv, column 'x'.*size_px"):
        open_gaze(table)
    columns = {"t_ns": "t_ns", "x": ["x", "px"], "y": ["y", "px"], "size_px": [1920, 1080]}
    assert open_gaze(table, columns=columns).samples.x[0] == pytest.approx(900 / 1920)
