"""A drawn face whose seven expressions can be morphed into each other.

The face is a drawing, not a person: an oval with shading, brows, lids, nose and mouth, moved by a handful of controls
(brow up, lid open, mouth corner, ...). It exists so that demos, tests and training have faces that belong to nobody,
that are the same on every machine, and that OpenCV's detectors find. How the controls move for an expression follows
what anatomists describe for it in broad strokes (brows raised in surprise, lip raised in disgust); it is a caricature,
and a model that has only seen it knows nothing about people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.face import canonical_box

__all__ = ["EXPRESSIONS", "FaceIdentity", "FaceLight", "FacePose", "RenderedFace", "expression_weights", "render_face"]

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: The seven classes in the order every bundle of ours uses.
EXPRESSIONS = ("happiness", "sadness", "fear", "surprise", "disgust", "anger", "neutral")

# What moves, each about in [-1, 1], 0 at rest.
_CONTROLS = (
    "brow_inner",  # inner end of the brows, up +
    "brow_outer",  # outer end, up +
    "brow_close",  # brows drawn together
    "lid_upper",  # upper lid, wide open +
    "lid_lower",  # lower lid, squinting +
    "cheek",  # cheeks raised, folds beside the nose
    "nose",  # nose wrinkled
    "smile",  # mouth corners, up +
    "width",  # mouth wide +
    "open",  # mouth open
    "lip_raise",  # upper lip raised
    "press",  # lips pressed
    "teeth",  # how much of the opening is teeth
)
_CONTROL = {name: index for index, name in enumerate(_CONTROLS)}

_EXPRESSION_CONTROLS: dict[str, dict[str, float]] = {
    "happiness": {
        "brow_outer": 0.15, "lid_upper": -0.1, "lid_lower": 0.65, "cheek": 1.0, "smile": 1.0, "width": 0.6,
        "open": 0.4, "teeth": 1.0,
    },
    "sadness": {
        "brow_inner": 1.0, "brow_outer": -0.6, "brow_close": 0.5, "lid_upper": -0.45, "smile": -0.95, "width": -0.15,
        "press": 0.15,
    },
    "fear": {
        "brow_inner": 0.95, "brow_outer": 0.35, "brow_close": 0.6, "lid_upper": 0.85, "smile": -0.45, "width": 0.5,
        "open": 0.45, "teeth": 0.75,
    },
    "surprise": {
        "brow_inner": 1.05, "brow_outer": 1.1, "lid_upper": 0.95, "width": -0.45, "open": 0.95, "smile": 0.0,
    },
    "disgust": {
        "brow_inner": -0.55, "brow_outer": -0.1, "brow_close": 0.4, "lid_upper": -0.35, "lid_lower": 0.75,
        "nose": 1.0, "cheek": 0.5, "smile": -0.55, "open": 0.14, "lip_raise": 1.0, "teeth": 0.6,
    },
    "anger": {
        "brow_inner": -1.05, "brow_outer": 0.35, "brow_close": 1.0, "lid_upper": 0.25, "lid_lower": 0.5, "nose": 0.25,
        "smile": -0.35, "width": -0.1, "press": 1.0,
    },
    "neutral": {},
}  # fmt: skip


def _control_matrix() -> Floats:
    matrix = np.zeros((len(EXPRESSIONS), len(_CONTROLS)))
    for row, name in enumerate(EXPRESSIONS):
        for control, value in _EXPRESSION_CONTROLS[name].items():
            matrix[row, _CONTROL[control]] = value
    return matrix


_CONTROL_MATRIX = _control_matrix()

# The drawing's own canvas; a face is drawn upright here and then laid into the frame by one affine.
_CANVAS_W, _CANVAS_H = 400, 500
_CENTRE_X, _EYE_Y = 200.0, 222.0
_MOUTH = 100.0  # from the eyes down to the mouth at rest
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_FIXED = 1 << _SHIFT


def expression_weights(expression: str | Mapping[str, float] | Sequence[float] | npt.NDArray[Any]) -> Floats:
    """Weights over `EXPRESSIONS` from a name, a mapping of names, or seven numbers.

    Returns
    -------
    ndarray, shape (7,), float64
        As given; weights of the six that are not neutral add up to how far the face is from rest.

    Raises
    ------
    ValueError
        For an unknown name, a wrong length, or a value that is not finite.

    Examples
    --------
    >>> expression_weights("fear").tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    weights = np.zeros(len(EXPRESSIONS))
    if isinstance(expression, str):
        expression = {expression: 1.0}
    if isinstance(expression, Mapping):
        for name, value in expression.items():
            if name not in EXPRESSIONS:
                raise ValueError(f"expression: {name!r} is not one of {', '.join(EXPRESSIONS)}")
            weights[EXPRESSIONS.index(name)] = value
    else:
        given = np.asarray(expression, dtype=np.float64)
        if given.shape != weights.shape:
            raise ValueError(f"expression: seven weights are wanted, got shape {given.shape}")
        weights[:] = given
    if not np.isfinite(weights).all():
        raise ValueError("expression: weights must be finite")
    return weights


class FacePose(NamedTuple):
    """Where the head is in the frame."""

    dx: float = 0.0
    """Shift to the right, as a share of the frame's width."""
    dy: float = 0.0
    """Shift downwards, as a share of the frame's height."""
    scale: float = 1.0
    """Size; at 1 the face (hairline to chin) is about 46 % of the frame's height."""
    roll: float = 0.0
    """Degrees, positive tilts the head to the viewer's right."""


class FaceLight(NamedTuple):
    """How the face is lit."""

    gain: float = 1.0
    """Overall brightness."""
    side: float = 0.0
    """From the viewer's left (-1) to the right (+1)."""
    warmth: float = 0.0
    """Colour, cold (-1) to warm (+1)."""


_UPRIGHT = FacePose()
_EVEN_LIGHT = FaceLight()


class RenderedFace(NamedTuple):
    """A frame and where its face is."""

    image: Image
    """(H, W, 3) uint8, BGR."""
    box: tuple[float, float, float, float]
    """x, y, width, height in pixels: the canonical box (`emert_edge.face.canonical_box`) of the face at rest."""


_SKINS = (
    (176, 206, 240),
    (150, 188, 232),
    (132, 170, 222),
    (110, 148, 204),
    (90, 128, 186),
    (74, 106, 160),
    (62, 88, 134),
)
_HAIRS = ((28, 26, 30), (30, 38, 58), (38, 58, 92), (70, 116, 168), (120, 178, 216), (150, 152, 156), (36, 52, 128))
_IRISES = ((60, 80, 110), (40, 56, 84), (150, 120, 84), (96, 128, 96), (128, 128, 116))
_SHIRTS = ((110, 84, 56), (60, 60, 130), (80, 110, 70), (90, 90, 90), (140, 120, 150), (190, 190, 180), (50, 46, 44))


@dataclass(frozen=True)
class FaceIdentity:
    """What stays the same about a drawn person; `FaceIdentity.from_seed` invents one.

    Sizes are factors about 1 of an average drawing.
    """

    skin: tuple[int, int, int] = _SKINS[1]
    hair: tuple[int, int, int] = _HAIRS[1]
    iris: tuple[int, int, int] = _IRISES[0]
    shirt: tuple[int, int, int] = _SHIRTS[0]
    face_width: float = 1.0
    jaw: float = 1.0
    eye_size: float = 1.0
    eye_spread: float = 1.0
    eye_slant: float = 0.0
    brow_height: float = 1.0
    brow_thickness: float = 1.0
    nose_length: float = 1.0
    nose_width: float = 1.0
    mouth_width: float = 1.0
    lip_thickness: float = 1.0
    hair_style: int = 0
    """0 short, 1 long, 2 fringe, 3 receding."""
    stubble: float = 0.0
    glasses: bool = False
    rest: tuple[float, ...] = field(default=(0.0,) * len(_CONTROLS))
    """This person's controls at rest (nobody's neutral is quite zero)."""

    @classmethod
    def from_seed(cls, seed: int) -> FaceIdentity:
        """The person that belongs to a number, always the same one."""
        return _identity_from_seed(int(seed))


@lru_cache(maxsize=4096)
def _identity_from_seed(seed: int) -> FaceIdentity:
    rng = np.random.default_rng([7919, seed])

    def about(spread: float) -> float:
        return float(np.clip(1.0 + spread * rng.standard_normal(), 1.0 - 2 * spread, 1.0 + 2 * spread))

    def tinted(colours: Sequence[tuple[int, int, int]], spread: float) -> tuple[int, int, int]:
        base = np.asarray(colours[int(rng.integers(len(colours)))]) * about(spread) + rng.normal(0, 4, 3)
        b, g, r = np.clip(base, 8, 250).astype(int).tolist()
        return b, g, r

    skin = tinted(_SKINS, 0.05)
    rest = np.clip(rng.normal(0, 0.09, len(_CONTROLS)), -0.18, 0.18)
    rest[[_CONTROL[name] for name in ("open", "lip_raise", "nose", "cheek", "teeth", "press")]] = 0.0
    hair_style = int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    hairs = _HAIRS if sum(skin) > 430 else [hair for hair in _HAIRS if sum(hair) < 300]
    return FaceIdentity(
        skin=skin,
        hair=tinted(hairs, 0.12),
        iris=tinted(_IRISES, 0.1),
        shirt=tinted(_SHIRTS, 0.1),
        face_width=about(0.05),
        jaw=about(0.07),
        eye_size=about(0.07),
        eye_spread=about(0.04),
        eye_slant=float(np.clip(rng.normal(0, 1.5), -3, 3)),
        brow_height=about(0.1),
        brow_thickness=about(0.2),
        nose_length=about(0.06),
        nose_width=about(0.1),
        mouth_width=about(0.08),
        lip_thickness=about(0.15),
        hair_style=hair_style,
        stubble=float(rng.uniform(0.1, 0.4)) if hair_style != 1 and rng.random() < 0.25 else 0.0,
        glasses=bool(rng.random() < 0.08),
        rest=tuple(float(value) for value in rest),
    )


class _Plate(NamedTuple):
    """What does not move, drawn once a person: colours, and where the person is opaque."""

    colour: Image
    alpha: npt.NDArray[np.float32]
    brow: tuple[int, int, int]
    lid: tuple[int, int, int]
    lip: tuple[int, int, int]
    fold: npt.NDArray[np.float64]


def _fixed(points: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    fixed: npt.NDArray[np.int32] = np.rint(np.asarray(points) * _FIXED).astype(np.int32).reshape(-1, 1, 2)
    return fixed


def _fill(image: npt.NDArray[Any], points: npt.NDArray[Any], colour: float | tuple[int, int, int]) -> None:
    cv2.fillPoly(image, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)


def _ellipse(cx: float, cy: float, rx: float, ry: float, count: int = 48) -> Floats:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def _soft(shapes: Sequence[tuple[npt.NDArray[Any], float]], blur: float) -> npt.NDArray[np.float32]:
    """A blurred mask of several polygons, each at its own strength."""
    # What is blurred away needs no resolution: a quarter of it for wide blurs.
    shrink = 4 if blur >= 7 else 1
    mask = np.zeros((_CANVAS_H // shrink, _CANVAS_W // shrink), np.uint8)
    for points, strength in shapes:
        _fill(mask, np.asarray(points) / shrink, float(255 * strength))
    blurred = np.asarray(cv2.GaussianBlur(mask, (0, 0), blur / shrink), np.float32)
    if shrink > 1:
        blurred = np.asarray(cv2.resize(blurred, (_CANVAS_W, _CANVAS_H), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(blurred / np.float32(255), np.float32)


def _scaled(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    b, g, r = (int(min(255, max(0, value * factor))) for value in colour)
    return b, g, r


def _outline(who: FaceIdentity) -> Floats:
    """Hairline, cheeks, jaw and chin."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    s, c = np.sin(angle), np.cos(angle)
    x = 104 * who.face_width * c
    # Below the eyes the oval narrows to a jaw and a flat chin.
    below = np.clip(s, 0, None)
    x = x * (1 - 0.11 * below**1.5 / who.jaw + 0.05 * np.sin(2 * np.pi * below) * (below > 0))
    y = np.where(s > 0, 152 * s, 118 * s)
    return np.stack([_CENTRE_X + x, _EYE_Y + 10 + y], axis=1)


@lru_cache(maxsize=256)
def _plate(who: FaceIdentity) -> _Plate:
    shape = (_CANVAS_H, _CANVAS_W)
    outline = _outline(who)
    half = 104 * who.face_width
    chin = float(outline[:, 1].max())
    spread = 45 * who.eye_spread
    nose_y = _EYE_Y + 62 * who.nose_length
    mouth_y = _EYE_Y + _MOUTH
    hair_dark = _scaled(who.hair, 0.75)

    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = who.hair
    alpha = np.zeros(shape, np.uint8)

    def body(points: Floats, colour: tuple[int, int, int]) -> None:
        _fill(canvas, points, colour)
        _fill(alpha, points, 255.0)

    canvas[400:] = who.shirt  # so that no foreign colour bleeds in at the shoulders' edge
    if who.hair_style == 1:
        body(_ellipse(_CENTRE_X, _EYE_Y + 60, half + 34, 190), hair_dark)
    else:
        body(_ellipse(_CENTRE_X, _EYE_Y - 30, half + 12, 118), hair_dark)
    shoulders = np.array([(20, 520), (34, 466), (88, 436), (150, 420), (250, 420), (312, 436), (366, 466), (380, 520)])
    body(shoulders, who.shirt)
    neck = np.array([(150, chin - 60), (146, 428), (200, 462), (254, 428), (250, chin - 60)])
    body(neck, _scaled(who.skin, 0.78))
    for side in (-1, 1):
        body(_ellipse(_CENTRE_X + side * (half - 1), _EYE_Y + 22, 14, 30), _scaled(who.skin, 0.84))
    neck_shadow = _soft([(_ellipse(_CENTRE_X, chin + 2, half * 0.72, 34), 0.55)], 9)
    canvas = _shade(canvas, neck_shadow, 0.55)

    face = np.zeros(shape, np.uint8)
    _fill(face, outline, 255.0)
    _fill(alpha, outline, 255.0)
    skin = np.empty((*shape, 3), np.float32)
    skin[:] = who.skin
    yy, xx = np.mgrid[0:_CANVAS_H, 0:_CANVAS_W].astype(np.float32)
    rounding = ((xx - _CENTRE_X) / half) ** 2
    height = (yy - _EYE_Y) / 150
    light = 1.06 - 0.26 * rounding**1.3 - 0.05 * height - 0.08 * np.clip(height - 0.55, 0, None)
    # Sockets, the shadows beside and under the nose, under the lip: what detectors built on contrast look for.
    dark = _soft(
        [
            (_ellipse(_CENTRE_X - spread, _EYE_Y - 3, 34 * who.eye_size, 19), 0.95),
            (_ellipse(_CENTRE_X + spread, _EYE_Y - 3, 34 * who.eye_size, 19), 0.95),
            (_ellipse(_CENTRE_X, nose_y + 9, 22 * who.nose_width, 5), 0.7),
            (_ellipse(_CENTRE_X, mouth_y + 34, 26, 6), 0.35),
        ],
        8,
    )
    dark += _soft(
        [
            (np.array([(x0, _EYE_Y - 16), (x1, _EYE_Y + 6), (x2, nose_y - 4), (x3, nose_y + 4)]), 0.22)
            for side in (-1, 1)
            for x0, x1, x2, x3 in [
                tuple(_CENTRE_X + side * width for width in (14, 11, 13 * who.nose_width, 21 * who.nose_width))
            ]
        ],
        3.5,
    )
    bright = _soft(
        [
            (np.array([(192, _EYE_Y - 40), (208, _EYE_Y - 40), (206, nose_y - 6), (194, nose_y - 6)]), 0.8),
            (_ellipse(_CENTRE_X, nose_y - 6, 11 * who.nose_width, 10), 0.9),
            (_ellipse(_CENTRE_X - 56, _EYE_Y + 42, 24, 16), 0.75),
            (_ellipse(_CENTRE_X + 56, _EYE_Y + 42, 24, 16), 0.75),
            (_ellipse(_CENTRE_X, _EYE_Y - 68, 60, 22), 0.8),
            (_ellipse(_CENTRE_X, chin - 20, 22, 9), 0.5),
        ],
        10,
    )
    blush = _soft([(_ellipse(_CENTRE_X + side * 58, _EYE_Y + 52, 26, 18), 1.0) for side in (-1, 1)], 12)
    skin *= (light * (1 - 0.55 * dark) * (1 + 0.1 * bright))[..., None]
    skin += (64 - 36 * min(1.0, sum(who.skin) / 600)) * bright[
        ..., None
    ]  # a sheen, which dark skin shows as much as fair skin
    skin *= 1 - blush[..., None] * np.array([0.09, 0.09, -0.02], np.float32)
    if who.stubble:
        beard = _soft(
            [
                (_ellipse(_CENTRE_X, mouth_y + 18, half * 0.74, 46), 1.0),
                (
                    np.array(
                        [(_CENTRE_X - half, _EYE_Y + 60), (_CENTRE_X + half, _EYE_Y + 60), (_CENTRE_X, chin + 30)]
                    ),
                    0.8,
                ),
            ],
            12,
        )
        skin *= 1 - who.stubble * beard[..., None] * np.array([0.7, 0.75, 0.8], np.float32)
    # The face's rim stands off the hair and the neck.
    rim = _soft([(outline, 1.0)], 7)
    skin *= (0.8 + 0.2 * np.clip(rim * 1.6 - 0.55, 0, 1))[..., None]
    cover = (np.asarray(face, np.float32) / 255)[..., None]
    blended = canvas.astype(np.float32) * (1 - cover) + np.clip(skin, 0, 255) * cover
    canvas = np.rint(blended).astype(np.uint8)

    # Nostrils and the nose's tip are the same in every expression.
    for side in (-1, 1):
        _fill(
            canvas,
            _ellipse(_CENTRE_X + side * 9 * who.nose_width, nose_y + 3, 5 * who.nose_width, 3),
            _scaled(who.skin, 0.42),
        )
    _hair(canvas, alpha, who, half, hair_dark)

    opaque = cv2.GaussianBlur(alpha, (0, 0), 0.8).astype(np.float32) / np.float32(255)
    return _Plate(
        colour=canvas,
        alpha=opaque,
        brow=_scaled(who.hair, 0.72) if sum(who.hair) < 330 else _scaled(who.skin, 0.5),
        lid=_scaled(who.skin, 0.3),
        lip=(int(who.skin[0] * 0.62), int(who.skin[1] * 0.58), int(min(255, who.skin[2] * 0.86))),
        fold=np.array([0.5, 0.46, 0.42]),
    )


#: The middle of the hairline from the eyes, canvas pixels, by hair style.
_HAIRLINES = (-84.0, -78.0, -66.0, -100.0)


def _hair(canvas: Image, alpha: Image, who: FaceIdentity, half: float, dark: tuple[int, int, int]) -> None:
    top = _EYE_Y - 118
    x = np.linspace(-1, 1, 25)
    line = _HAIRLINES[who.hair_style]
    dip = {0: 24.0, 1: 46.0, 2: 14.0, 3: 30.0}[who.hair_style]  # how far it falls at the temples
    lower = np.stack([_CENTRE_X + x * (half + 10), _EYE_Y + line + dip * np.abs(x) ** 3], axis=1)
    if who.hair_style == 0:
        lower[:, 1] += 6 * np.sin(4 * x + 0.6)
    upper = np.stack(
        [_CENTRE_X + x * (half + 12), _EYE_Y + line + dip - (120 + line + dip + 26) * np.sqrt(1 - x**2)], 1
    )
    crown = np.concatenate([lower, upper[::-1]])
    _fill(canvas, crown, who.hair)
    _fill(alpha, crown, 255.0)
    for offset in (-0.5, -0.18, 0.2, 0.55):  # a few strands, so that it is not a cap
        strand = np.stack(
            [
                _CENTRE_X + half * (offset + 0.16 * (1 - np.linspace(0, 1, 9))),
                np.linspace(top + 2, _EYE_Y + line - 6, 9),
            ],
            1,
        )
        cv2.polylines(canvas, [_fixed(strand)], False, dark, 2, cv2.LINE_AA, _SHIFT)
    if who.hair_style == 1:
        for side in (-1, 1):
            lock = np.array(
                [
                    (_CENTRE_X + side * (half - 16), _EYE_Y - 70),
                    (_CENTRE_X + side * (half - 1), _EYE_Y - 20),
                    (_CENTRE_X + side * (half + 1), _EYE_Y + 60),
                    (_CENTRE_X + side * (half - 8), _EYE_Y + 150),
                    (_CENTRE_X + side * (half + 30), _EYE_Y + 150),
                    (_CENTRE_X + side * (half + 28), _EYE_Y - 20),
                    (_CENTRE_X + side * (half + 6), _EYE_Y - 84),
                ]
            )
            _fill(canvas, lock, who.hair)
            _fill(alpha, lock, 255.0)


def _shade(canvas: Image, mask: npt.NDArray[np.float32], strength: float) -> Image:
    shaded = canvas.astype(np.float32) * (1 - strength * mask)[..., None]
    return np.rint(shaded).astype(np.uint8)


def _white(who: FaceIdentity) -> float:
    """How bright eyes and teeth are: beside dark skin, full white would be a lamp."""
    return 0.45 + 0.4 * min(1.0, sum(who.skin) / 600)


_U = np.linspace(-1, 1, 17)
_BUMP = 1 - _U**2


def _draw_eye(
    canvas: Image, who: FaceIdentity, plate: _Plate, side: int, act: Floats, eyelids: float, look: tuple[float, float]
) -> None:
    cx = _CENTRE_X + side * 45 * who.eye_spread
    width = 25 * who.eye_size
    openness = float(np.clip(1 + 0.62 * act[_CONTROL["lid_upper"]], 0.15, 1.8)) * eyelids
    upper = max(0.0, 11.5 * who.eye_size * openness)
    lower = max(
        0.0,
        8.0 * who.eye_size * (1 - 0.6 * float(np.clip(act[_CONTROL["lid_lower"]], -0.3, 1))) * min(1.0, eyelids * 1.2),
    )
    slant = -who.eye_slant * _U * side
    x = cx + width * _U
    top = _EYE_Y + slant - upper * _BUMP**0.75
    bottom = _EYE_Y + slant + lower * _BUMP
    shape = np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]])
    if upper + lower > 2.5:
        x0, x1 = int(cx - width) - 2, int(cx + width) + 3
        y0, y1 = int(top.min()) - 2, int(bottom.max()) + 3
        patch = canvas[y0:y1, x0:x1]
        mask = np.zeros(patch.shape[:2], np.uint8)
        offset = np.array([x0, y0])
        _fill(mask, shape - offset, 255.0)
        eye = np.empty_like(patch)
        white = _white(who)
        eye[:] = _scaled((222, 228, 232), white)
        eye[: max(1, int(0.35 * len(eye)))] = _scaled((170, 178, 184), white)  # the lid's shadow on the eyeball
        ix, iy = cx + 6.5 * look[0] - x0, _EYE_Y - 1.5 + 4 * look[1] - y0
        radius = 10.2 * who.eye_size
        centre = (round(ix * _FIXED), round(iy * _FIXED))
        cv2.circle(eye, centre, int(radius * _FIXED), who.iris, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(eye, centre, int(radius * _FIXED), _scaled(who.iris, 0.5), 1, cv2.LINE_AA, _SHIFT)
        cv2.circle(eye, centre, int(radius * 0.48 * _FIXED), (14, 12, 12), -1, cv2.LINE_AA, _SHIFT)
        spot = (round((ix - 3) * _FIXED), round((iy - 3.5) * _FIXED))
        cv2.circle(eye, spot, int(2.2 * _FIXED), (250, 250, 250), -1, cv2.LINE_AA, _SHIFT)
        weight = mask.astype(np.uint16)[..., None]
        patch[:] = ((eye * weight + patch * (255 - weight)) // 255).astype(np.uint8)
    lid_line = np.stack([x, top], 1)
    cv2.polylines(canvas, [_fixed(lid_line)], False, plate.lid, 3, cv2.LINE_AA, _SHIFT)
    cv2.polylines(
        canvas, [_fixed(np.stack([x, bottom], 1)[2:-2])], False, _scaled(who.skin, 0.6), 1, cv2.LINE_AA, _SHIFT
    )
    crease = np.stack([x, np.minimum(top - 5, _EYE_Y - 9 + slant - 6 * _BUMP)], 1)[1:-1]
    cv2.polylines(canvas, [_fixed(crease)], False, _scaled(who.skin, 0.55), 1, cv2.LINE_AA, _SHIFT)


_V = np.linspace(0, 1, 13)


def _draw_brow(canvas: Image, who: FaceIdentity, plate: _Plate, side: int, act: Floats) -> None:
    inner, outer, close = (float(act[_CONTROL[name]]) for name in ("brow_inner", "brow_outer", "brow_close"))
    cx = _CENTRE_X + side * 45 * who.eye_spread
    x = cx + side * (-27 - 5 * close + (60 + 5 * close) * _V)
    base = _EYE_Y - 31 * who.brow_height
    y = base - 14 * inner * (1 - _V) ** 1.4 - 15 * outer * _V**1.2 - 7 * np.sin(np.pi * (0.1 + 0.8 * _V)) + 4
    half = 4.6 * who.brow_thickness * (1 - 0.62 * _V**1.5)
    brow = np.concatenate([np.stack([x, y - half], 1), np.stack([x, y + half], 1)[::-1]])
    _fill(canvas, brow, plate.brow)


def _draw_mouth(canvas: Image, who: FaceIdentity, plate: _Plate, act: Floats) -> None:
    smile, wide, opened, raised, press, teeth = (
        float(act[_CONTROL[name]]) for name in ("smile", "width", "open", "lip_raise", "press", "teeth")
    )
    opened, raised, teeth = max(0.0, opened), float(np.clip(raised, 0, 1.3)), float(np.clip(teeth, 0, 1))
    press = float(np.clip(press, 0, 1))
    half = 35 * who.mouth_width * (1 + 0.3 * wide)
    middle = _EYE_Y + _MOUTH + 5 * opened + 2 * smile
    line = middle - 15 * smile * (np.abs(_U) ** 1.7 - 0.35)
    x = _CENTRE_X + half * _U
    lift = 9 * raised * np.clip(1 - np.abs(_U) * 1.1, 0, 1) ** 0.5
    inner_top = line - 15 * opened * _BUMP**0.8 - lift * 0.55
    inner_bottom = line + 24 * opened * _BUMP**0.7
    thick = who.lip_thickness * (1 - 0.72 * press)
    bow = 1 - 0.22 * np.exp(-((_U / 0.14) ** 2))  # the dip in the upper lip's middle
    outer_top = inner_top - 8.2 * thick * _BUMP**0.6 * bow - 1.2 - lift * 0.45
    outer_bottom = inner_bottom + 10.5 * thick * _BUMP**0.7 + 1.2
    lips_upper = np.concatenate([np.stack([x, outer_top], 1), np.stack([x, inner_top + 0.8], 1)[::-1]])
    lips_lower = np.concatenate([np.stack([x, inner_bottom - 0.8], 1), np.stack([x, outer_bottom], 1)[::-1]])
    inside = np.concatenate([np.stack([x, inner_top], 1), np.stack([x, inner_bottom], 1)[::-1]])
    gap = float((inner_bottom - inner_top).max())
    if gap > 3:
        _fill(canvas, inside, (52, 40, 78))
        if opened > 0.6:
            _fill(canvas, _ellipse(_CENTRE_X, float(inner_bottom.max()) - 7, half * 0.5, 8, 24), (84, 78, 158))
        if teeth > 0.05:
            row_bottom = inner_top + (inner_bottom - inner_top) * (0.35 + 0.5 * teeth * (opened < 0.8))
            row = np.concatenate([np.stack([x, inner_top], 1), np.stack([x, row_bottom], 1)[::-1]])[2:-2]
            shade = int((130 + 90 * teeth) * _white(who))
            _fill(canvas, row, (shade - 8, shade - 2, shade))
    _fill(canvas, lips_upper, _scaled(plate.lip, 0.86))
    _fill(canvas, lips_lower, plate.lip)
    if gap <= 3:
        seam = np.stack([x, (inner_top + inner_bottom) / 2], 1)
        cv2.polylines(canvas, [_fixed(seam)], False, _scaled(plate.lip, 0.42), 2, cv2.LINE_AA, _SHIFT)
    for side, end in ((-1, 0), (1, -1)):
        corner = np.array([(x[end] - side * 2, line[end]), (x[end] + side * 3, line[end] - 2.5 * smile)])
        cv2.polylines(canvas, [_fixed(corner)], False, _scaled(who.skin, 0.5), 2, cv2.LINE_AA, _SHIFT)


def _draw_folds(canvas: Image, who: FaceIdentity, act: Floats) -> None:
    """Furrows, folds and wrinkles: soft lines that darken the skin under them."""
    region = (slice(110, 350), slice(90, 310))
    offset = np.array([90, 110])
    mask = np.zeros((240, 220), np.uint8)

    def crease(points: npt.NDArray[Any], strength: float, width: int) -> None:
        if strength > 0.05:
            level = float(255 * min(1.0, strength))
            cv2.polylines(mask, [_fixed(points - offset)], False, level, width, cv2.LINE_AA, _SHIFT)

    inner, outer, close = (float(act[_CONTROL[name]]) for name in ("brow_inner", "brow_outer", "brow_close"))
    cheek, nose = float(act[_CONTROL["cheek"]]), float(act[_CONTROL["nose"]])
    smile = float(act[_CONTROL["smile"]])
    nose_y = _EYE_Y + 62 * who.nose_length
    for side in (-1, 1):
        brow_y = _EYE_Y - 27 * who.brow_height - 10 * inner
        crease(np.array([(_CENTRE_X + side * 6, brow_y - 8), (_CENTRE_X + side * 7, brow_y + 9)]), 0.85 * close, 2)
        fold = np.array(
            [
                (_CENTRE_X + side * 23 * who.nose_width, nose_y - 8),
                (_CENTRE_X + side * (36 + 4 * cheek), nose_y + 10),
                (_CENTRE_X + side * (44 + 6 * cheek), nose_y + 34 - 4 * smile),
            ]
        )
        crease(fold, 0.18 + 0.55 * max(cheek, 0.9 * nose), 3)
        if cheek > 0.3:
            bag = np.stack([_CENTRE_X + side * 45 * who.eye_spread + 22 * _U, _EYE_Y + 15 + 4 * _BUMP], 1)
            crease(bag, 0.5 * cheek, 2)
        for step in range(3):
            wrinkle = np.array(
                [(_CENTRE_X + side * 3, _EYE_Y + 4 + 9 * step), (_CENTRE_X + side * 14, _EYE_Y - 4 + 9 * step)]
            )
            crease(wrinkle, 0.75 * nose, 2)
        droop = np.array([(_CENTRE_X + side * 40, _EYE_Y + 116), (_CENTRE_X + side * 46, _EYE_Y + 128)])
        crease(droop, -0.6 * smile, 2)
    raised = 0.5 * (inner + outer)
    for step in range(3):
        height = -56 - 11 * step - 5 * raised + 6 * (inner < outer - 0.3)
        if height < _HAIRLINES[who.hair_style] + 10:
            break  # under the hair
        y = _EYE_Y + height - 3 * _BUMP
        width = 52 if outer > 0.3 else 26  # fear and sadness wrinkle the middle of the brow only
        crease(np.stack([_CENTRE_X + width * _U, y], 1), 0.6 * max(raised, 0.7 * inner), 2)
    if not mask.any():
        return
    soft = cv2.GaussianBlur(mask, (0, 0), 1.3)
    patch = canvas[region]
    factor = np.asarray(255 - (soft.astype(np.uint16) * 46) // 100, np.uint16)[..., None]
    patch[:] = ((patch * factor) // 255).astype(np.uint8)


def _draw_glasses(canvas: Image, who: FaceIdentity) -> None:
    for side in (-1, 1):
        rim = _ellipse(_CENTRE_X + side * 45 * who.eye_spread, _EYE_Y + 3, 34, 25, 32)
        cv2.polylines(canvas, [_fixed(rim)], True, (40, 36, 34), 2, cv2.LINE_AA, _SHIFT)
    bridge = np.array([(_CENTRE_X - 12, _EYE_Y), (_CENTRE_X, _EYE_Y - 4), (_CENTRE_X + 12, _EYE_Y)])
    cv2.polylines(canvas, [_fixed(bridge)], False, (40, 36, 34), 2, cv2.LINE_AA, _SHIFT)


@lru_cache(maxsize=32)
def _background(seed: int, height: int, width: int) -> Image:
    """A room out of focus: a gradient and a few blurred blocks."""
    rng = np.random.default_rng([104729, seed])
    small = np.empty((48, 64, 3), np.float32)
    left, right = rng.uniform(70, 200, (2, 3))
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None]
    grey = 0.8 * np.array([left.mean(), right.mean()])[:, None] + 0.2 * np.stack([left, right])
    small[:] = grey[0] * (1 - ramp) + grey[1] * ramp
    for _ in range(int(rng.integers(2, 6))):
        x, y = int(rng.integers(0, 60)), int(rng.integers(0, 44))
        w, h = int(rng.integers(5, 24)), int(rng.integers(5, 30))
        small[y : y + h, x : x + w] += rng.uniform(-45, 45) + rng.uniform(-12, 12, 3)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), 2.0), np.float32)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(large, 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


_NOISE_MARGIN = 64


@lru_cache(maxsize=16)
def _noise(level: int, height: int, width: int) -> npt.NDArray[np.int16]:
    """Grain a little larger than the frame, so that a shifted view of it serves every frame."""
    rng = np.random.default_rng([31, level])
    grain = rng.normal(0, level, (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 1)).astype(np.float32)
    return np.repeat(np.rint(grain).astype(np.int16), 3, axis=2)


@lru_cache(maxsize=64)
def _light_map(light: FaceLight) -> npt.NDArray[np.float32]:
    ramp = np.linspace(-1, 1, _CANVAS_W, dtype=np.float32)[None, :, None]
    colour = np.array([1 - 0.1 * light.warmth, 1.0, 1 + 0.1 * light.warmth], np.float32)
    lit = light.gain * (1 + 0.3 * light.side * ramp) * colour
    return np.ascontiguousarray(np.broadcast_to(lit, (_CANVAS_H, _CANVAS_W, 3)), np.float32)


def render_face(
    expression: str | Mapping[str, float] | Sequence[float] | npt.NDArray[Any] = "neutral",
    *,
    intensity: float = 1.0,
    identity: int | FaceIdentity = 0,
    size: tuple[int, int] = (480, 640),
    pose: FacePose | tuple[float, float, float, float] = _UPRIGHT,
    light: FaceLight | tuple[float, float, float] = _EVEN_LIGHT,
    background: int | Image | None = None,
    eyelids: float = 1.0,
    look: tuple[float, float] = (0.0, 0.0),
    noise: int = 0,
    rng: np.random.Generator | None = None,
) -> RenderedFace:
    """Draw one face into a frame.

    Parameters
    ----------
    expression : str, mapping or seven weights
        A name out of `EXPRESSIONS`, or a mixture: weights of two expressions morph between them.
    intensity : float
        Factor on the mixture; 0 is this person at rest.
    identity : int or FaceIdentity
        Who: a number stands for the person `FaceIdentity.from_seed` makes of it.
    size : (int, int)
        The frame's height and width in pixels.
    pose : FacePose
        Shift, scale and roll of the head.
    light : FaceLight
        Brightness, side and warmth.
    background : int, ndarray or None
        A number for a blurred room, a picture (H, W, 3) uint8 BGR of the frame's size, or None for the identity's own.
    eyelids : float
        Factor on the eyes' opening: 0 is a blink.
    look : (float, float)
        Where the eyes turn: right and down, in [-1, 1].
    noise : int
        Standard deviation of sensor noise in grey levels; needs no `rng`, but then every frame has the same noise.
    rng : numpy.random.Generator, optional
        Moves the noise from frame to frame.

    Returns
    -------
    RenderedFace
        The frame, (H, W, 3) uint8 BGR, and the true box of the face.

    Raises
    ------
    ValueError
        For an unknown expression, a frame smaller than 16 pixels, or a background of another size.

    Examples
    --------
    >>> frame, box = render_face({"surprise": 0.7, "happiness": 0.3}, identity=3, size=(240, 320))
    >>> frame.shape
    (240, 320, 3)
    """
    height, width = int(size[0]), int(size[1])
    if height < 16 or width < 16:
        raise ValueError(f"size: at least 16 x 16 pixels are needed, got {size}")
    who = identity if isinstance(identity, FaceIdentity) else FaceIdentity.from_seed(identity)
    where = FacePose(*pose)
    plate = _plate(who)
    act = float(intensity) * (expression_weights(expression) @ _CONTROL_MATRIX) + np.asarray(who.rest)

    canvas = plate.colour.copy()
    _draw_folds(canvas, who, act)
    for side in (-1, 1):
        _draw_eye(canvas, who, plate, side, act, float(np.clip(eyelids, 0, 1.2)), look)
        _draw_brow(canvas, who, plate, side, act)
    _draw_mouth(canvas, who, plate, act)
    if who.glasses:
        _draw_glasses(canvas, who)

    if background is None:
        background = sum(31**place * value for place, value in enumerate((*who.skin, *who.shirt, *who.hair))) % 100_003
    if isinstance(background, (int, np.integer)):
        frame = _background(int(background), height, width).copy()
    else:
        if background.shape != (height, width, 3) or background.dtype != np.uint8:
            raise ValueError(
                f"background: expected ({height}, {width}, 3) uint8, got {background.shape} {background.dtype}"
            )
        frame = background.copy()

    # At scale 1 the face, 270 canvas pixels high, takes 46 % of the frame's height.
    factor = where.scale * 0.46 * height / 270.0
    radians = np.deg2rad(where.roll)
    cos, sin = factor * np.cos(radians), factor * np.sin(radians)
    target = np.array([width * (0.5 + where.dx), height * (0.5 + where.dy)])
    linear = np.array([[cos, -sin], [sin, cos]])
    affine = np.column_stack([linear, target - linear @ np.array([_CENTRE_X, _EYE_Y + 27])])

    # The body goes on below the canvas: its last row is repeated.
    corners = np.array([(0, 0), (_CANVAS_W, 0), (_CANVAS_W, 3 * _CANVAS_H), (0, 3 * _CANVAS_H)], np.float64)
    placed = corners @ affine[:, :2].T + affine[:, 2]
    x0, y0 = np.clip(np.floor(placed.min(0)), 0, (width, height)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(placed.max(0)), 0, (width, height)).astype(int).tolist()
    if x1 > x0 and y1 > y0:
        lit = FaceLight(*light)
        if lit != _EVEN_LIGHT:
            canvas = np.asarray(cv2.multiply(canvas, _light_map(lit), dtype=cv2.CV_8U), np.uint8)
        shifted = affine - np.array([[0, 0, x0], [0, 0, y0]])
        flags = cv2.INTER_LINEAR if factor > 0.6 else cv2.INTER_AREA
        if factor < 0.6:  # an antialiased reduction before the warp: INTER_LINEAR alone would sparkle
            reduced = (max(8, round(_CANVAS_W * factor)), max(8, round(_CANVAS_H * factor)))
            ratio = np.array([_CANVAS_W / reduced[0], _CANVAS_H / reduced[1]])
            canvas = np.asarray(cv2.resize(canvas, reduced, interpolation=flags), np.uint8)
            alpha = np.asarray(cv2.resize(plate.alpha, reduced, interpolation=flags), np.float32)
            shifted = shifted.copy()
            # Pixel centres: canvas = (reduced + 0.5) * ratio - 0.5.
            shifted[:, 2] += shifted[:, :2] @ (0.5 * ratio - 0.5)
            shifted[:, :2] = shifted[:, :2] * ratio
        else:
            alpha = plate.alpha
        window = (x1 - x0, y1 - y0)
        person = np.asarray(
            cv2.warpAffine(canvas, shifted, window, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
        cover = np.asarray(
            cv2.warpAffine(alpha, shifted, window, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )
        room = np.ascontiguousarray(frame[y0:y1, x0:x1])
        frame[y0:y1, x0:x1] = cv2.blendLinear(person, room, cover, np.float32(1) - cover)
    if noise > 0:
        dy, dx = (0, 0) if rng is None else (int(value) for value in rng.integers(0, _NOISE_MARGIN, 2))
        grain = _noise(int(noise), height, width)[dy : dy + height, dx : dx + width]
        frame = np.asarray(cv2.add(frame, grain, dtype=cv2.CV_8U), np.uint8)

    eyes, mouth = np.array([(_CENTRE_X, _EYE_Y), (_CENTRE_X, _EYE_Y + _MOUTH)]) @ affine[:, :2].T + affine[:, 2]
    return RenderedFace(frame, canonical_box((float(eyes[0]), float(eyes[1])), (float(mouth[0]), float(mouth[1]))))
