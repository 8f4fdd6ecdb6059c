"""`emert-edge gaze`: look into a gaze recording, and make tables and pictures of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from emert_edge.cli.options import Json
from emert_edge.cli.output import publish, refuse_to_replace
from emert_edge.errors import EmertError, FrameSourceError, SourceError
from emert_edge.eye import (
    FEATURE_NAMES,
    Events,
    clean_pupil,
    detect_events,
    eye_features,
    remove_light_response,
    scene_luminance,
)
from emert_edge.sources import open_frames
from emert_edge.sources.gaze import GAZE_FORMATS, GazeRecording, open_gaze, read_columns
from emert_edge.sources.luminance import read_luminance

__all__ = ["GazeColumns", "RecordingFormat", "RecordingPath", "gaze_app", "opened"]

gaze_app = typer.Typer(
    name="gaze", help="Look into a gaze recording: info, events, features, map.", no_args_is_help=True
)

# readable=False: the reader itself says what cannot be read, as work that failed and not as wrong usage
RecordingPath = Annotated[
    Path, typer.Argument(metavar="PATH", readable=False, help="The recording: a file, or its folder.")
]
RecordingFormat = Annotated[str, typer.Option("--format", help=f"The recording's format: {', '.join(GAZE_FORMATS)}.")]
GazeColumns = Annotated[
    Path | None,
    typer.Option("--gaze-columns", metavar="FILE", readable=False, help="A plain table's column map, as JSON."),
]
_TableOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", readable=False, help="The table, .csv or .parquet; left out: with --json."),
]
_ScreenSize = Annotated[
    str | None, typer.Option("--screen-mm", metavar="WxH", help="The screen's size in millimetres, e.g. 531x299.")
]
_Distance = Annotated[
    float | None, typer.Option("--distance-mm", min=1.0, help="Distance of the eyes from the screen, in millimetres.")
]
_EVENT_COLUMNS = (
    "kind", "start_ns", "stop_ns", "duration_ms", "x", "y", "dispersion_deg", "amplitude_deg", "peak_velocity_deg_s",
    "start_x", "start_y", "end_x", "end_y", "evidence",
)  # fmt: skip
_PARQUET = ".parquet"
_TEXTS = ("kind", "evidence", "name", "value")  # of all columns; those that end in _ns are int64, the others float64


@gaze_app.command()
def info(
    path: RecordingPath,
    out: _TableOut = None,
    as_json: Json = False,
    format: RecordingFormat = "auto",
    gaze_columns: GazeColumns = None,
) -> None:
    """Say what a recording holds; with --out as a table of names and values."""
    if out is not None:
        refuse_to_replace(out, path, gaze_columns)
    summary = opened(path, format, gaze_columns).summary()
    if out is not None:
        rows = [[name, _shown(value)] for name, value in _flat(summary)]
        publish(out, _table(out, ("name", "value"), rows))
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    for key, value in summary.items():
        if isinstance(value, dict):
            typer.echo(f"{key}:")
            for inner, held in value.items():
                typer.echo(f"  {inner}: {_shown(held)}")
        else:
            typer.echo(f"{key}: {_shown(value)}")


@gaze_app.command()
def events(
    path: RecordingPath,
    out: _TableOut = None,
    as_json: Json = False,
    method: Annotated[str, typer.Option(help="ivt, idt, or vendor for those in the recording.")] = "ivt",
    format: RecordingFormat = "auto",
    gaze_columns: GazeColumns = None,
    screen_mm: _ScreenSize = None,
    distance_mm: _Distance = None,
) -> None:
    """Find fixations, saccades and blinks, and write them as a table."""
    if method not in ("ivt", "idt", "vendor"):
        raise typer.BadParameter(f"{method!r} is none of ivt, idt, vendor", param_hint="--method")
    _require_answer(out, as_json, path, gaze_columns)
    size = _size_mm(screen_mm)
    recording = opened(path, format, gaze_columns)
    found = _events(recording, method, size, distance_mm)
    rows: list[list[Any]] = []
    for event in found:
        kind = type(event).__name__.lower()
        values = {name: getattr(event, name, "") for name in _EVENT_COLUMNS[1:]}
        rows.append([kind, *("" if value != value else value for value in values.values())])
    _answer(
        out,
        as_json,
        _EVENT_COLUMNS,
        rows,
        f"{len(found.fixations)} fixations, {len(found.saccades)} saccades, {len(found.blinks)} blinks"
        f"{_geometry_note(found)}",
    )


@gaze_app.command()
def features(
    path: RecordingPath,
    out: _TableOut = None,
    as_json: Json = False,
    token_ms: Annotated[float, typer.Option(min=1.0, help="Length of a row's span, in milliseconds.")] = 125.0,
    clean_pupils: Annotated[
        bool, typer.Option("--clean-pupils", help="Reject the pupils' artefacts first (docs/pupils.md).")
    ] = False,
    scene: Annotated[
        str | None,
        typer.Option(
            "--scene", metavar="VIDEO", help="What was seen from the first sample on: its light is taken out."
        ),
    ] = None,
    luminance: Annotated[
        Path | None,
        typer.Option(
            "--luminance",
            metavar="CSV",
            readable=False,
            help="The same by a table: luminance, and t_s, t_ms or t_ns from the first sample on.",
        ),
    ] = None,
    offset_s: Annotated[
        float, typer.Option(help="When the first sample was taken, in the scene's or the luminance's time.")
    ] = 0.0,
    format: RecordingFormat = "auto",
    gaze_columns: GazeColumns = None,
) -> None:
    """Describe the recording by the 39 features, a row a span from the first sample on, and write them as a table."""
    if scene is not None and luminance is not None:
        raise typer.BadParameter("give --scene or --luminance", param_hint="--luminance")
    _require_answer(out, as_json, path, scene, luminance, gaze_columns)
    samples = opened(path, format, gaze_columns).samples.sorted()
    note = ""
    series = None
    if scene is not None:
        series = _scene_light(scene)
    elif luminance is not None:
        series = read_luminance(luminance)
    if clean_pupils or series is not None:
        pupil = clean_pupil(samples)
        if series is not None:
            times, light = series
            pupil = remove_light_response(pupil, times + (int(samples.t_ns[0]) - round(offset_s * 1e9)), light)
        samples = pupil.put_into(samples)
        note = "; " + ", ".join(f"{step.name} {_facts(step.facts)}" for step in pupil.steps)
    span_ns = round(token_ms * 1e6)
    first, last = int(samples.t_ns[0]), int(samples.t_ns[-1])
    count = (last - first) // span_ns + 1
    if count > 10_000_000:
        raise SourceError(f"{path}: {count} spans of {token_ms:g} ms between the first and the last sample")
    values = eye_features(samples, first, first + count * span_ns, tokens=count)
    starts = first + span_ns * np.arange(count, dtype=np.int64)
    rows = [
        [start, start + span_ns, *map(_number, row)]
        for start, row in zip(starts.tolist(), values.tolist(), strict=True)
    ]
    _answer(
        out,
        as_json,
        ("start_ns", "stop_ns", *FEATURE_NAMES),
        rows,
        f"{count} rows of {len(FEATURE_NAMES)} features{note}",
    )


def opened(path: Path, format: str, gaze_columns: Path | None) -> GazeRecording:
    if format not in GAZE_FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(GAZE_FORMATS)}", param_hint="--format")
    if gaze_columns is None:
        return open_gaze(path, format)
    if format not in ("auto", "plain"):
        raise typer.BadParameter(f"a column map goes with a plain table, not {format!r}", param_hint="--gaze-columns")
    columns = read_columns(gaze_columns)
    try:
        return open_gaze(path, format, columns=columns)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{gaze_columns}: {error}") from None


def _events(
    recording: GazeRecording, method: str, size: tuple[float, float] | None, distance_mm: float | None
) -> Events:
    if method == "vendor":
        if recording.events is None:
            raise SourceError(f"{recording.name}: the recording holds no events of its own; use --method ivt or idt")
        return recording.events
    # Where the recording itself tells the screen's size or the distance, that is better than a default.
    return detect_events(
        recording.samples,
        method,
        screen_size_mm=size or recording.metadata.get("screen_size_mm"),
        screen_distance_mm=distance_mm or recording.metadata.get("screen_distance_mm"),
    )


def _scene_light(scene: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """A scene's luminance, its times from the first frame on."""
    frames = open_frames(scene)
    try:
        times, light = scene_luminance(frames.frames())
    finally:
        frames.close()
    if not times.size:
        raise FrameSourceError(f"{scene}: no frame to take the light from")
    return times - times[0], light


def _facts(facts: Mapping[str, float]) -> str:
    return "(" + ", ".join(f"{name} {value:.4g}" for name, value in facts.items()) + ")"


def _geometry_note(found: Events) -> str:
    if found.geometry is None:
        return ""
    (width, height), distance = found.geometry.screen_size_mm, found.geometry.screen_distance_mm
    origin = "assumed at least in part" if found.geometry.assumed else "from the recording or as given"
    return f"; angles for {width:g} × {height:g} mm seen from {distance:g} mm ({origin})"


def _size_mm(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        width, height = (float(side) for side in text.lower().replace("×", "x").split("x"))
        if not (0 < width < 1e6 and 0 < height < 1e6):
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no WIDTHxHEIGHT in millimetres", param_hint="--screen-mm") from None
    return width, height


def _flat(summary: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Names with those of the parts they stand in, and values."""
    for name, value in summary.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {held}" for key, held in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return " × ".join(map(str, value)) if len(value) == 2 else ", ".join(map(str, value))
    return str(value)


def _number(value: float) -> float:
    """A float32 in the fewest digits that give it back."""
    return float(str(np.float32(value)))


def _require_answer(out: Path | None, as_json: bool, *inputs: str | Path | None) -> None:
    if out is not None:
        refuse_to_replace(out, *inputs)
        if out.suffix.lower() == _PARQUET:
            _pyarrow(out)  # before the work is done
    if out is None and not as_json:
        raise typer.BadParameter("say where the table goes, or ask for --json", param_hint="--out")


def _csv(out: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _table(out: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A table as CSV, or as Parquet where the file's name says so."""
    return (_parquet if out.suffix.lower() == _PARQUET else _csv)(out, header, rows)


def _parquet(out: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    pyarrow, parquet = _pyarrow(out)
    columns = {}
    for place, name in enumerate(header):
        kind = pyarrow.string() if name in _TEXTS else pyarrow.int64() if name.endswith("_ns") else pyarrow.float64()
        columns[name] = pyarrow.array([None if row[place] == "" else row[place] for row in rows], kind)
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _pyarrow(out: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise EmertError(
            f"{out}: Parquet needs pyarrow: pip install 'emert-edge[recordings]', or name a .csv file"
        ) from None
    return pyarrow, parquet


def _answer(
    out: Path | None, as_json: bool, header: Sequence[str], rows: Sequence[Sequence[Any]], summary: str
) -> None:
    """Write a table to a file (CSV, or Parquet by its name), print it as JSON, or both."""
    if out is not None:
        publish(out, _table(out, header, rows))
    if as_json:
        cells = (dict(zip(header, (None if cell == "" else cell for cell in row), strict=True)) for row in rows)
        typer.echo(json.dumps(list(cells)))
    else:
        typer.echo(f"{out}: {summary}")
