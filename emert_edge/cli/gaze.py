"""`emert-edge gaze`: look into a gaze recording, and make tables and pictures of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from emert_edge.cli.options import Json
from emert_edge.cli.output import publish, refuse_to_replace
from emert_edge.errors import EmertError, FrameSourceError, SourceError
from emert_edge.eye import (
    FEATURE_NAMES,
    Events,
    GazeSamples,
    Pupil,
    clean_pupil,
    detect_events,
    eye_features,
    remove_light_response,
    scene_luminance,
)
from emert_edge.eye.fixation import fixation_token_map_into, heat_overlay
from emert_edge.sources import open_frames
from emert_edge.sources.gaze import GAZE_FORMATS, GazeRecording, open_gaze, read_columns

__all__ = ["gaze_app"]

gaze_app = typer.Typer(
    name="gaze", help="Look into a gaze recording: info, events, features, map.", no_args_is_help=True
)

# readable=False: the reader itself says what cannot be read, as work that failed and not as wrong usage
_Recording = Annotated[
    Path, typer.Argument(metavar="PATH", readable=False, help="The recording: a file, or its folder.")
]
_Format = Annotated[str, typer.Option("--format", help=f"The recording's format: {', '.join(GAZE_FORMATS)}.")]
_Columns = Annotated[
    Path | None,
    typer.Option("--gaze-columns", metavar="FILE", readable=False, help="A plain table's column map, as JSON."),
]
_MapOut = Annotated[Path, typer.Option("--out", metavar="PNG", readable=False, help="The picture to write.")]
_TableOut = Annotated[
    Path | None, typer.Option("--out", metavar="CSV", readable=False, help="The table to write; left out: with --json.")
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
_CANVAS_WIDTH = 1280


@gaze_app.command()
def info(
    path: _Recording,
    as_json: Json = False,
    format: _Format = "auto",
    gaze_columns: _Columns = None,
) -> None:
    """Say what a recording holds."""
    summary = _opened(path, format, gaze_columns).summary()
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
    path: _Recording,
    out: _TableOut = None,
    as_json: Json = False,
    method: Annotated[str, typer.Option(help="ivt, idt, or vendor for those in the recording.")] = "ivt",
    format: _Format = "auto",
    gaze_columns: _Columns = None,
    screen_mm: _ScreenSize = None,
    distance_mm: _Distance = None,
) -> None:
    """Find fixations, saccades and blinks, and write them as a table."""
    if method not in ("ivt", "idt", "vendor"):
        raise typer.BadParameter(f"{method!r} is none of ivt, idt, vendor", param_hint="--method")
    _require_answer(out, as_json, path, gaze_columns)
    size = _size_mm(screen_mm)
    recording = _opened(path, format, gaze_columns)
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
    path: _Recording,
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
    format: _Format = "auto",
    gaze_columns: _Columns = None,
) -> None:
    """Describe the recording by the 39 features, a row a span from the first sample on, and write them as a table."""
    _require_answer(out, as_json, path, scene, gaze_columns)
    samples = _opened(path, format, gaze_columns).samples.sorted()
    note = ""
    if clean_pupils or scene is not None:
        pupil = clean_pupil(samples)
        if scene is not None:
            pupil = _without_light(pupil, scene)
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


@gaze_app.command(name="map")
def fixation_map(
    path: _Recording,
    out: _MapOut,
    image: Annotated[
        Path | None, typer.Option("--image", readable=False, help="What was looked at; left out: a dark screen.")
    ] = None,
    sigma_px: Annotated[
        float | None,
        typer.Option(min=0.1, max=10_000, help="Width of a point's heat in pixels; default 2 % of the width."),
    ] = None,
    scan_path: Annotated[bool, typer.Option(help="Draw the fixations in their order.")] = True,
    format: _Format = "auto",
    gaze_columns: _Columns = None,
) -> None:
    """Draw where the person looked, as heat over an image, with the scan path."""
    import cv2

    refuse_to_replace(out, path, image, gaze_columns)
    recording = _opened(path, format, gaze_columns)
    picture = _image(image, recording.samples)
    height, width = picture.shape[:2]
    heat = np.zeros((height, width), dtype=np.float32)
    times = recording.samples.t_ns
    sigma = 0.02 * width if sigma_px is None else sigma_px
    if not fixation_token_map_into(heat, recording.samples, int(times.min()), int(times.max()) + 1, sigma):
        raise SourceError(f"{path}: no point of gaze lies on the picture")
    path_drawn = detect_events(recording.samples).fixations if scan_path else None
    done, encoded = cv2.imencode(".png", heat_overlay(picture, heat, path_drawn))
    if not done:
        raise EmertError(f"{out}: the picture could not be encoded")
    publish(out, encoded.tobytes())
    typer.echo(f"{out}: {width} × {height} pixels, {int(recording.samples.valid.sum())} points of gaze")


def _opened(path: Path, format: str, gaze_columns: Path | None) -> GazeRecording:
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


def _without_light(pupil: Pupil, scene: str) -> Pupil:
    """The pupils without what the scene's light explains; both begin together."""
    frames = open_frames(scene)
    try:
        times, light = scene_luminance(frames.frames())
    finally:
        frames.close()
    if not times.size:
        raise FrameSourceError(f"{scene}: no frame to take the light from")
    return remove_light_response(pupil, times - times[0] + pupil.t_ns[0], light)


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


def _image(path: Path | None, samples: GazeSamples) -> np.ndarray[Any, np.dtype[np.uint8]]:
    import cv2

    if path is None:
        width, height = samples.size_px or (16, 9)
        scale = _CANVAS_WIDTH / width
        return np.full((max(round(height * scale), 1), _CANVAS_WIDTH, 3), 24, dtype=np.uint8)
    try:
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise FrameSourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        picture = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    except cv2.error:
        picture = None
    if picture is None:
        raise FrameSourceError(f"{path}: no picture that OpenCV can read")
    return np.asarray(picture, dtype=np.uint8)


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
    if out is None and not as_json:
        raise typer.BadParameter("say where the table goes, or ask for --json", param_hint="--out")


def _answer(
    out: Path | None, as_json: bool, header: Sequence[str], rows: Sequence[Sequence[Any]], summary: str
) -> None:
    """Write a table to a file, print it as JSON, or both."""
    if out is not None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        publish(out, text.getvalue().encode())
    if as_json:
        cells = (dict(zip(header, (None if cell == "" else cell for cell in row), strict=True)) for row in rows)
        typer.echo(json.dumps(list(cells)))
    else:
        typer.echo(f"{out}: {summary}")
