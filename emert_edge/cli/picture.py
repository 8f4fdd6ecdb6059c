"""A picture of a session: what was shown and felt over time, the gap between them, and what was looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.estimate import Estimate
from emert_edge.eye import detect_events
from emert_edge.eye.fixation import fixation_token_map_into, heat_overlay
from emert_edge.kernels import fuse_gaze_frame
from emert_edge.simulation import EXPRESSIONS, SimulatedSession, Timeline

__all__ = ["draw_session"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

SCALE = 2  # drawn larger and reduced, so that lines and letters are smooth
WIDTH, HEIGHT = 1400, 1010
LEFT, RIGHT = 150, 1370
INK: Colour = (50, 45, 40)
FAINT: Colour = (205, 200, 195)
PAPER: Colour = (252, 252, 252)
GAP: Colour = (70, 60, 200)

# happiness, sadness, fear, surprise, disgust, anger, neutral (BGR)
COLOURS: dict[str, Colour] = dict(
    zip(
        EXPRESSIONS,
        (
            (60, 190, 245),
            (190, 130, 75),
            (150, 95, 140),
            (185, 180, 70),
            (95, 160, 110),
            (70, 75, 215),
            (185, 185, 180),
        ),
        strict=True,
    )
)


class _Sheet:
    """A canvas in the picture's own units."""

    def __init__(self) -> None:
        self.image: Image = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), PAPER, np.uint8)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        corners = [(round(x * SCALE), round(y * SCALE)) for x, y in ((left, top), (right, bottom))]
        cv2.rectangle(self.image, corners[0], corners[1], colour, -1)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1.5) -> None:
        scaled = np.round(np.array(points) * SCALE).astype(np.int32)
        cv2.polylines(self.image, [scaled], False, colour, round(width * SCALE), cv2.LINE_AA)

    def area(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        cv2.fillPoly(self.image, [np.round(np.array(points) * SCALE).astype(np.int32)], colour, cv2.LINE_AA)

    def text(
        self, x: float, y: float, words: str, size: float = 0.5, colour: Colour = INK, *, end: bool = False
    ) -> None:
        if end:
            x -= self.width(words, size)
        place = (round(x * SCALE), round(y * SCALE))
        cv2.putText(self.image, words, place, cv2.FONT_HERSHEY_SIMPLEX, size * SCALE, colour, SCALE, cv2.LINE_AA)

    @staticmethod
    def width(words: str, size: float) -> float:
        return cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size * SCALE, SCALE)[0][0] / SCALE

    def paste(self, left: float, top: float, picture: Image, width: float, height: float) -> None:
        size = (round(width * SCALE), round(height * SCALE))
        shrinks = size[0] < picture.shape[1]
        resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        x, y = round(left * SCALE), round(top * SCALE)
        self.image[y : y + size[1], x : x + size[0]] = resized

    def finished(self) -> Image:
        return np.asarray(cv2.resize(self.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def draw_session(session: SimulatedSession, estimates: Sequence[Estimate]) -> Image:
    """Draw a simulated session with its estimates.

    Returns
    -------
    ndarray
        `(1010, 1400, 3)` uint8, BGR.
    """
    sheet = _Sheet()

    def at(t_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(max(t_s / session.duration_s, 0.0), 1.0)

    sheet.text(24, 38, "What the face shows, what the person feels", 0.85)
    sheet.text(
        24, 62, "a drawn face and invented gaze: a proof of the machinery, not of psychology", 0.45, (120, 115, 110)
    )
    _faces(sheet, session, 84)
    _lane(sheet, at, 236, "truly shown", _truth_spans(session.shown, session.duration_s), 18)
    _lane(sheet, at, 258, "read as shown", _read_spans(estimates, "expression"), 42)
    _lane(sheet, at, 314, "read as felt", _read_spans(estimates, "emotion"), 42)
    _lane(sheet, at, 360, "truly felt", _truth_spans(session.felt, session.duration_s), 18)
    _gap(sheet, at, estimates, session, 400, 520)
    _axis(sheet, at, session.duration_s, 520)
    _legend(sheet, 580)
    _looked_at(sheet, session, 610)
    return sheet.finished()


def _faces(sheet: _Sheet, session: SimulatedSession, top: float) -> None:
    count = 9
    width = (RIGHT - LEFT) / count
    sheet.text(LEFT - 12, top + 68, "face camera", 0.45, end=True)
    for index in range(count):
        t_s = session.duration_s * (index + 0.5) / count
        rendered = session.frame(t_s)
        x, y, w, h = rendered.box
        side = 1.55 * max(w, h)
        left, up = int(max(0, x + w / 2 - side / 2)), int(max(0, y + h / 2 - side / 2))
        crop = rendered.image[up : int(up + side), left : int(left + side)]
        sheet.paste(LEFT + index * width + (width - 128) / 2, top, crop, 128, 128)


Span = tuple[float, float, str, float]  # start, stop, class, probability


def _truth_spans(truth: Timeline, duration_s: float) -> list[Span]:
    starts = [segment.start_s for segment in truth.segments if segment.start_s < duration_s]
    stops = [*starts[1:], duration_s]
    return [
        (start, stop, segment.label, 1.0) for start, stop, segment in zip(starts, stops, truth.segments, strict=False)
    ]


def _read_spans(estimates: Sequence[Estimate], task: str) -> list[Span]:
    spans: list[Span] = []
    for previous, estimate in zip([None, *estimates], estimates, strict=False):
        part = getattr(estimate, task)
        if part is not None and part.label is not None:
            start = previous.time_s if previous is not None else estimate.time_s - 0.5
            spans.append((start, estimate.time_s, part.label, part.probability))
    return spans


def _lane(sheet: _Sheet, at: Callable[[float], float], top: float, name: str, spans: list[Span], height: float) -> None:
    sheet.text(LEFT - 12, top + height / 2 + 5, name, 0.45, end=True)
    for start, stop, label, probability in spans:
        colour = COLOURS.get(label, FAINT)
        strength = 0.25 + 0.75 * probability
        faded = tuple(round(255 + (channel - 255) * strength) for channel in colour)
        sheet.box(at(start), top, at(stop) - 0.5, top + height, (faded[0], faded[1], faded[2]))
    for start, stop, label in _runs(spans):
        if sheet.width(label, 0.42) < at(stop) - at(start) - 6:
            sheet.text(at(start) + 5, top + height / 2 + 5, label, 0.42)


def _runs(spans: list[Span]) -> list[tuple[float, float, str]]:
    runs: list[tuple[float, float, str]] = []
    for start, stop, label, _ in spans:
        if runs and runs[-1][2] == label:
            runs[-1] = (runs[-1][0], stop, label)
        else:
            runs.append((start, stop, label))
    return runs


def _gap(
    sheet: _Sheet,
    at: Callable[[float], float],
    estimates: Sequence[Estimate],
    session: SimulatedSession,
    top: float,
    bottom: float,
) -> None:
    edges = sorted({segment.start_s for segment in (*session.shown.segments, *session.felt.segments)})
    for start, stop in zip(edges, [*edges[1:], session.duration_s], strict=True):
        if start < session.duration_s and session.shown.label(start, stop) != session.felt.label(start, stop):
            sheet.box(at(start), top, at(stop), bottom, (236, 232, 250))
            sheet.text(at(start) + 6, top + 16, "truly apart", 0.4, (150, 130, 190))
    for value in (0.0, 0.5, 1.0):
        y = bottom - (bottom - top) * value
        sheet.line([(LEFT, y), (RIGHT, y)], FAINT, 0.5)
        sheet.text(LEFT - 12, y + 4, f"{value:g}", 0.4, end=True)
    sheet.text(LEFT - 40, (top + bottom) / 2 - 14, "gap", 0.45, end=True)
    points = [(at(one.time_s), bottom - (bottom - top) * one.gap) for one in estimates if one.gap is not None]
    if points:
        sheet.area([(points[0][0], bottom), *points, (points[-1][0], bottom)], (205, 200, 240))
        sheet.line([(LEFT, bottom), (RIGHT, bottom)], FAINT, 0.5)
        sheet.line(points, GAP, 2.0)


def _axis(sheet: _Sheet, at: Callable[[float], float], duration_s: float, y: float) -> None:
    step = next((step for step in (0.5, 1, 2, 5, 10, 30, 60) if duration_s / step <= 12), 120)
    for tick in np.arange(0.0, duration_s + 1e-9, step):
        sheet.line([(at(tick), y), (at(tick), y + 5)], INK, 0.75)
        sheet.text(at(tick) - sheet.width(f"{tick:g} s", 0.4) / 2, y + 20, f"{tick:g} s", 0.4)
    sheet.text(
        LEFT, y + 42, "an estimate looks back over its window of 4 s; pale: a low probability", 0.4, (120, 115, 110)
    )


def _legend(sheet: _Sheet, y: float) -> None:
    x = float(LEFT)
    for label, colour in COLOURS.items():
        sheet.box(x, y - 11, x + 14, y + 3, colour)
        sheet.text(x + 20, y + 1, label, 0.42)
        x += 48 + sheet.width(label, 0.42)


def _looked_at(sheet: _Sheet, session: SimulatedSession, top: float) -> None:
    """Draw the scene with heat and scan path, and the four planes that the model is given for one token."""
    half = session.duration_s / 2
    start, stop = (
        round(max(0.0, min(half, session.duration_s - 4)) * 1e9),
        round(min(half + 4, session.duration_s) * 1e9),
    )
    samples = session.gaze.between(start, stop)
    scene = session.scene_frame(start / 1e9) if session.scene else np.full((360, 640, 3), 225, np.uint8)
    heat = np.zeros((180, 320), np.float32)
    fixation_token_map_into(heat, samples, start, stop, sigma_px=9.0)
    fixations = detect_events(samples).fixations
    sheet.text(24, top + 16, f"looked at from {start / 1e9:g} s to {stop / 1e9:g} s: fixation map and scan path", 0.45)
    sheet.paste(24, top + 28, heat_overlay(scene, heat, fixations), 608, 342)

    token = np.zeros((112, 112), np.float32)
    begin = max(start, stop - 500_000_000)
    fixation_token_map_into(token, samples, begin, stop, sigma_px=3.0)
    fused = fuse_gaze_frame(scene, token, (112, 112), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    planes = np.round(np.clip(fused, 0, 1) * 255).astype(np.uint8)
    sheet.text(
        668, top + 16, "what the model is given for its last half second: red, green, blue and the fixation map", 0.45
    )
    for index, plane in enumerate(planes):
        side, gap = 168.0, 8.0
        tinted = cv2.applyColorMap(plane, cv2.COLORMAP_TURBO) if index == 3 else _tint(plane, 2 - index)
        sheet.paste(668 + (index % 2) * (side + gap), top + 28 + (index // 2) * (side + gap - 2), tinted, side, side)
    sheet.paste(668 + 2 * 176 + 8, top + 28, heat_overlay(_colour(planes), token), 342, 342)


def _tint(plane: Image, channel: int) -> Image:
    tinted = np.zeros((*plane.shape, 3), np.uint8)
    tinted[:] = (plane // 4)[..., None]
    tinted[..., channel] = plane
    return tinted


def _colour(planes: Image) -> Image:
    return np.ascontiguousarray(planes[2::-1].transpose(1, 2, 0))
