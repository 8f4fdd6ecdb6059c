"""Tobii Pro Lab's export as a workbook, as CSV, and with only filtered columns: the same samples as the TSV."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye import GazeSamples
from emert_edge.sources import open_gaze

from .gaze_rounds import peak_bytes, same

TOBII = "tobii_prolab_ivt/I-VT-normal Data export_short.tsv"


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[list[str]]:
    lines = (shared_data / TOBII).read_text(encoding="utf-8").splitlines()[:161]
    return [line.split("\t") for line in lines]


@pytest.fixture(scope="module")
def reference(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> GazeSamples:
    return open_gaze(written(tmp_path_factory.mktemp("reference"), rows, "\t")).samples


def written(folder: Path, rows: list[list[str]], mark: str) -> Path:
    path = folder / "recording.txt"
    path.write_text("\n".join(mark.join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def typed(cell: str) -> str | int | float | None:
    """As Tobii Pro Lab fills a workbook: numbers as numbers."""
    bare = cell.replace(",", ".", 1)
    if re.fullmatch(r"-?\d+(\.\d+)?", bare):
        return float(bare) if "." in bare else int(bare)
    return cell or None


def workbook(rows: list[list[str]], *, before: int = 0) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    for _ in range(before):
        book.create_sheet()
    sheet = book.create_sheet("Data")
    sheet.append(rows[0])
    for row in rows[1:]:
        sheet.append([typed(cell) for cell in row])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.fixture(scope="module")
def packed(rows: list[list[str]]) -> bytes:
    return workbook(rows)


def test_a_workbook_reads_as_the_text_does(
    rows: list[list[str]], packed: bytes, reference: GazeSamples, tmp_path: Path
) -> None:
    path = tmp_path / "recording"  # a workbook is known by what it holds
    path.write_bytes(packed)
    recording = open_gaze(path)
    assert (recording.vendor, recording.metadata["encoding"]) == ("tobii_pro_lab", "xlsx")
    same(recording.samples, reference)
    assert recording.events is not None
    assert recording.events.fixations
    path.write_bytes(workbook([rows[0], [], *rows[1:]], before=1))
    same(open_gaze(path).samples, reference)


def test_a_workbook_with_its_columns_in_another_order_is_the_same(
    rows: list[list[str]], reference: GazeSamples, tmp_path: Path
) -> None:
    order = np.random.default_rng(3).permutation(len(rows[0])).tolist()
    path = tmp_path / "recording.xlsx"
    path.write_bytes(workbook([[row[place] for place in order] for row in rows]))
    same(open_gaze(path).samples, reference)


def test_a_workbook_cut_anywhere_is_refused(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording.xlsx"
    for cut in (*range(4, 60, 7), *np.random.default_rng(0).integers(60, len(packed), 40).tolist(), len(packed) - 1):
        path.write_bytes(packed[:cut])
        with pytest.raises(GazeFormatError, match=r"recording\.xlsx"):
            open_gaze(path)


def test_a_workbook_with_flipped_bytes_is_refused_or_the_same(
    packed: bytes, reference: GazeSamples, tmp_path: Path
) -> None:
    path = tmp_path / "recording.xlsx"
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(packed), 40).tolist():
        broken = bytearray(packed)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(bytes(broken))
        try:
            samples = open_gaze(path).samples
        except SourceError as error:
            assert "recording.xlsx" in str(error)  # noqa: PT017
            continue
        same(samples, reference)


@pytest.mark.parametrize(("cell", "title"), [("12abc", "Gaze point X [DACS px]"), ("soon", "Recording timestamp [ms]")])
def test_a_workbooks_bad_cell_is_named_by_row_and_column(
    rows: list[list[str]], tmp_path: Path, cell: str, title: str
) -> None:
    sensor, place = rows[0].index("Sensor"), rows[0].index(title)
    line = next(number for number, row in enumerate(rows) if row[sensor] == "Eye Tracker" and number > 20)
    broken = [list(row) for row in rows]
    broken[line][place] = cell
    path = tmp_path / "recording.xlsx"
    path.write_bytes(workbook(broken))
    with pytest.raises(GazeFormatError) as raised:
        open_gaze(path)
    assert f"line {line + 1}" in str(raised.value)
    assert title in str(raised.value)


def test_two_workbooks_rows_under_each_other_are_refused_at_the_second_header(
    rows: list[list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "recording.xlsx"
    path.write_bytes(workbook([*rows[:40], *rows[:40]]))
    with pytest.raises(GazeFormatError, match="line 41: the header again"):
        open_gaze(path)


def test_an_empty_workbook_and_another_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recording.xlsx"
    path.write_bytes(workbook([[]]))
    with pytest.raises(GazeFormatError, match="empty"):
        open_gaze(path)
    path.write_bytes(b"PK\x03\x04 and then something else")
    with pytest.raises(GazeFormatError, match="archive"):
        open_gaze(path)


def test_without_openpyxl_a_workbook_is_refused_with_the_remedy(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recording.xlsx"
    path.write_bytes(packed)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(SourceError, match=r"recording\.xlsx: .*emert-edge\[recordings\]"):
        open_gaze(path)


def test_a_csv_reads_as_the_tsv_does(rows: list[list[str]], reference: GazeSamples, tmp_path: Path) -> None:
    commas = [[f'"{cell}"' if "," in cell else cell for cell in row] for row in rows]
    assert any('"' in cell for row in commas for cell in row)
    same(open_gaze(written(tmp_path, commas, ",")).samples, reference)
    points = [[cell.replace(",", ".") for cell in row] for row in rows]
    same(open_gaze(written(tmp_path, points, ",")).samples, reference)
    same(open_gaze(written(tmp_path, rows, ";")).samples, reference)


def test_what_an_export_has_only_filtered_is_read_and_told(
    rows: list[list[str]], reference: GazeSamples, tmp_path: Path
) -> None:
    gone = ("Pupil diameter left", "Pupil diameter right", "Eye openness left", "Gaze point left", "Gaze point right")
    kept = [place for place, title in enumerate(rows[0]) if not title.startswith(gone)]
    lean = [[row[place] for place in kept] for row in rows]
    lean[0] = [title.replace("Gaze point X [DACS px]", "Gaze point X (filtered) [DACS px]") for title in lean[0]]
    lean[0] = [title.replace("Gaze point Y [DACS px]", "Gaze point Y (filtered) [DACS px]") for title in lean[0]]
    recording = open_gaze(written(tmp_path, lean, "\t"))
    samples = recording.samples
    np.testing.assert_array_equal(samples.t_ns, reference.t_ns)
    np.testing.assert_array_equal(samples.x, reference.x)
    sizes = rows[0].index("Pupil diameter filtered [mm]")
    sensor = rows[0].index("Sensor")
    theirs = [row[sizes].replace(",", ".") or "nan" for row in rows if row[sensor] == "Eye Tracker"]
    expected = np.array(theirs, dtype=np.float32)
    assert np.isfinite(expected).any()
    for eye in ("left", "right"):
        seen = np.isfinite(getattr(samples, f"pupil_{eye}"))
        np.testing.assert_array_equal(getattr(samples, f"pupil_{eye}")[seen], expected[seen])
    assert recording.metadata["filtered_columns"] == [
        "Gaze point X (filtered) [DACS px]", "Gaze point Y (filtered) [DACS px]", "Pupil diameter filtered [mm]",
    ]  # fmt: skip


def test_two_hours_at_1000_hz_would_need_less_than_500_mb(tmp_path: Path) -> None:
    eyes = [f"Gaze point {eye}{axis} [DACS px]" for eye in ("", "left ", "right ") for axis in "XY"]
    sizes = [f"{kind} {eye} [mm]" for kind in ("Pupil diameter", "Eye openness") for eye in ("left", "right")]
    header = [
        "Recording timestamp [ms]", "Sensor", "Recording resolution width [px]", "Recording resolution height [px]",
        "Eyetracker timestamp [μs]", *eyes, *sizes, "Validity left", "Validity right", "Eye movement type",
        "Eye movement type index",
    ]  # fmt: skip
    cells = ["\t".join([*["512"] * 6, *[f"3,{n:03d}"] * 4, "Valid", "Valid"]) for n in range(970)]
    peaks = []
    for count in (100_000, 300_000):
        rows = (
            f"{n}\tEye Tracker\t1920\t1080\t{10**9 + 1000 * n}\t{cells[n % 970]}\tFixation\t{n // 300}\n"
            for n in range(count)
        )
        path = tmp_path / f"{count}.tsv"
        path.write_text("\t".join(header) + "\n" + "".join(rows), encoding="utf-8")
        peaks.append(peak_bytes(path))
    (few, low), (many, high) = peaks
    assert (few, many) == (100_000, 300_000)
    each = (high - low) / (many - few)
    assert each < 64
    assert low + each * (2 * 3600 * 1000 - few) < 500e6
