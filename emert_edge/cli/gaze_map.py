"""`emert-edge gaze map`: where somebody looked, over a picture or a video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import typer

from emert_edge.cli.gaze import GazeColumns, RecordingFormat, RecordingPath, opened
from emert_edge.cli.output import naming, publish, refuse_to_replace
from emert_edge.errors import EmertError, FrameSourceError, SourceError
from emert_edge.eye import Events, Fixation, GazeSamples, detect_events
from emert_edge.eye.fixation import fixation_token_map_into, heat_overlay
from emert_edge.kernels import fuse_gaze_frame
from emert_edge.sources import FrameSource, GazeRecording, open_frames

__all__ = ["fixation_map"]

Image = npt.NDArray[np.uint8]

_CANVAS_WIDTH = 1280
_ASPECT_TOLERANCE = 0.02
_FUSED, _SHOWN = 112, 448  # what the model sees, and how large it is shown


def fixation_map(
    path: RecordingPath,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", readable=False, help="The picture (PNG), or with --video an .mp4.")
    ],
    image: Annotated[
        Path | None, typer.Option("--image", readable=False, help="What was looked at; left out: a dark screen.")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--video", readable=False, help="What was looked at, from the first sample on: a video of heat."),
    ] = None,
    trail_s: Annotated[
        float, typer.Option(min=0.01, max=3600, help="How long gaze stays on a video's frames, in seconds.")
    ] = 1.0,
    offset_s: Annotated[float, typer.Option(help="When the first sample was taken, in the video's time.")] = 0.0,
    sigma_px: Annotated[
        float | None,
        typer.Option(min=0.1, max=10_000, help="Width of a point's heat in pixels; default 2 % of the width."),
    ] = None,
    scan_path: Annotated[bool, typer.Option(help="Draw the fixations in their order.")] = True,
    fused: Annotated[
        bool, typer.Option("--fused", help="Draw what the model sees: the frame at 112 × 112, and its fixation map.")
    ] = False,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Take a picture of another shape than the recording's screen, too.")
    ] = False,
    format: RecordingFormat = "auto",
    gaze_columns: GazeColumns = None,
) -> None:
    """Draw where the person looked: heat with the scan path over a picture or a video, or what the model sees of it."""
    if image is not None and video is not None:
        raise typer.BadParameter("give --image or --video", param_hint="--image")
    refuse_to_replace(out, path, image, video, gaze_columns)
    recording = opened(path, format, gaze_columns)
    events = _events(recording) if scan_path and not fused else None
    drawn = int(recording.samples.valid.sum())
    if video is not None:
        frames = open_frames(video)
        try:
            _require_same_view(recording, frames.name, frames.size, stretch=stretch, still=False)
            number, size = _draw_video(out, recording.samples, frames, events, trail_s, offset_s, sigma_px, fused)
        finally:
            frames.close()
        typer.echo(f"{out}: {number} frames of {size[0]} × {size[1]} pixels, {drawn} points of gaze")
        return
    picture = _picture(image, recording.samples)
    if image is not None:
        _require_same_view(recording, image.name, (picture.shape[1], picture.shape[0]), stretch=stretch, still=True)
    times = recording.samples.t_ns
    span = int(times.min()), int(times.max()) + 1
    path_drawn = events.fixations if events is not None else ()
    picture, any_gaze = _drawn(picture, recording.samples, *span, path_drawn, sigma_px, fused)
    if not any_gaze:
        raise SourceError(f"{path}: no point of gaze lies on the picture")
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise EmertError(f"{out}: the picture could not be encoded")
    publish(out, encoded.tobytes())
    typer.echo(f"{out}: {picture.shape[1]} × {picture.shape[0]} pixels, {drawn} points of gaze")


def _events(recording: GazeRecording) -> Events:
    return detect_events(
        recording.samples,
        screen_size_mm=recording.metadata.get("screen_size_mm"),
        screen_distance_mm=recording.metadata.get("screen_distance_mm"),
    )


def _require_same_view(
    recording: GazeRecording, name: str, size: tuple[int, int] | None, *, stretch: bool, still: bool
) -> None:
    """Check that the gaze's fractions are fractions of this picture: drawn over another one it would look as good."""
    if still and recording.samples.space == "scene":
        raise SourceError(
            f"{recording.name}: its gaze lies in the picture of a head-worn camera, which moves with the head; draw it "
            f"over that camera's --video, not over the still {name}"
        )
    if recording.samples.size_px is None or size is None or stretch:
        return
    width, height = recording.samples.size_px
    if abs(size[0] * height / (size[1] * width) - 1) > _ASPECT_TOLERANCE:
        raise SourceError(
            f"{name} has {size[0]} × {size[1]} pixels, but the gaze of {recording.name} is for {width} × {height}: it "
            "would land beside what was seen; pad the picture to what was shown, or stretch it (--stretch)"
        )


def _drawn(
    picture: Image,
    samples: GazeSamples,
    start_ns: int,
    stop_ns: int,
    path: tuple[Fixation, ...],
    sigma_px: float | None,
    fused: bool,
) -> tuple[Image, bool]:
    """A picture with the gaze of a stretch of time, and whether there was any on it."""
    height, width = picture.shape[:2]
    heat = np.zeros((height, width), np.float32)
    any_gaze = fixation_token_map_into(heat, samples, start_ns, stop_ns, 0.02 * width if sigma_px is None else sigma_px)
    if not fused:
        return heat_overlay(picture, heat, path), any_gaze
    planes = fuse_gaze_frame(picture, heat, (_FUSED, _FUSED), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    seen = np.ascontiguousarray(planes[2::-1].transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
    own = cv2.applyColorMap((planes[3] * 255).round().clip(0, 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    beside = np.concatenate([seen, own], axis=1)
    return np.asarray(cv2.resize(beside, (2 * _SHOWN, _SHOWN), interpolation=cv2.INTER_NEAREST), np.uint8), any_gaze


def _draw_video(
    out: Path,
    samples: GazeSamples,
    frames: FrameSource,
    events: Events | None,
    trail_s: float,
    offset_s: float,
    sigma_px: float | None,
    fused: bool,
) -> tuple[int, tuple[int, int]]:
    """Write the video; say how many frames of what size."""
    ordered = samples.sorted()
    shift = int(ordered.t_ns[0]) - round(offset_s * 1e9)
    number, first_ns, reached = 0, None, False
    size: tuple[int, int] | None = None
    fps = getattr(frames, "fps", None) or 30.0
    with _video_writer(out, fps) as write:
        for frame in frames.frames():
            first_ns = frame.t_ns if first_ns is None else first_ns
            stop_ns = frame.t_ns - first_ns + shift + 1
            start_ns = stop_ns - round(trail_s * 1e9)
            path = () if events is None else tuple(  # a fixation that goes on is as long as it is so far
                replace(one, stop_ns=min(one.stop_ns, stop_ns - 1))
                for one in events.fixations
                if one.stop_ns >= start_ns and one.start_ns < stop_ns
            )  # fmt: skip
            picture, any_gaze = _drawn(frame.image, ordered, start_ns, stop_ns, path, sigma_px, fused)
            reached = reached or any_gaze
            write(picture)
            number, size = number + 1, size or (picture.shape[1], picture.shape[0])
        if not reached:
            raise SourceError(f"{frames.name}: no point of gaze lies on any frame; does --offset-s fit?")
    assert size is not None  # the writer refuses a video without frames
    return number, size


@contextmanager
def _video_writer(out: Path, fps: float) -> Iterator[Callable[[Image], None]]:
    """Writes frames to a video that takes its place when all are written."""
    if out.suffix.lower() != ".mp4":
        raise EmertError(f"{out}: a video over gaze is an .mp4 file")
    place = Path(os.path.realpath(out))
    with naming(out):
        descriptor, name = tempfile.mkstemp(prefix=f".{place.stem}.", suffix=".part.mp4", dir=place.parent)
    os.close(descriptor)
    aside = Path(name)
    writer: Any = None
    size = 0, 0
    try:

        def write(picture: Image) -> None:
            nonlocal writer, size
            if writer is None:
                size = max(picture.shape[1] // 2 * 2, 2), max(picture.shape[0] // 2 * 2, 2)  # MPEG-4 takes even ones
                writer = cv2.VideoWriter(str(aside), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise EmertError(f"{out}: this OpenCV cannot write MPEG-4 video")
            fits = (picture.shape[1], picture.shape[0]) == size
            writer.write(picture if fits else cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

        yield write
        if writer is None:
            raise FrameSourceError(f"{out}: the video holds no frame")
        writer.release()
        writer = None
        if aside.stat().st_size == 0:
            raise EmertError(f"{out}: the video could not be written; is the disk full?")
        with naming(out):
            aside.chmod(0o644)
            aside.replace(place)
    finally:
        if writer is not None:
            writer.release()
        aside.unlink(missing_ok=True)


def _picture(path: Path | None, samples: GazeSamples) -> Image:
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
