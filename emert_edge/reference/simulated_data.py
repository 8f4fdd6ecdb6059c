"""Simulated sessions as training data, made by the very code that a device runs.

A face goes through `crop_affine` and `crop_normalize`, gaze through `eye_features` and `fixation_token_map_into`, a
scene frame through `fuse_gaze_frame`. Only the detector is left out: its place takes the true box, moved and scaled
about as much as detectors move and scale theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.eye import FEATURE_NAMES, eye_features
from emert_edge.eye.fixation import fixation_token_map_into
from emert_edge.face import crop_affine
from emert_edge.kernels import crop_normalize, fuse_gaze_frame
from emert_edge.reference.plan import FACE, FIXATION, WINDOW
from emert_edge.simulation import (
    AROUSAL,
    EXPRESSIONS,
    POLARITIES,
    POLARITY,
    VALENCE,
    FaceLight,
    FacePose,
    SimulatedSession,
    render_face,
)

__all__ = ["LABEL_SPAN_S", "SPLITS", "FaceSet", "SessionSet", "jittered_box", "make_faces", "make_sessions"]

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

#: Subjects and stimuli of the splits never meet: each has its own range of numbers.
SPLITS = {"train": 0, "test": 1 << 20}
_SUBJECTS = {"train": 4000, "test": 2000}
_STIMULI = 400

#: A window's labels are those of its last two seconds: an answer is about now, and four seconds are its evidence.
LABEL_SPAN_S = 2.0

_FACES_A_PERSON = 7
_GAZE_RATES_HZ = (60.0, 90.0, 120.0, 250.0)
_SCENE_SHARE = 0.2


@dataclass(frozen=True)
class FaceSet:
    """Cropped faces and what they show."""

    crops: npt.NDArray[np.uint8]
    """(n, 3, 112, 112), RGB planes in [0, 255], before normalisation."""
    weights: Floats
    """(n, 7), what is shown; rows add up to 1."""
    intensity: Floats
    """(n,), in [0, 1]."""

    def __len__(self) -> int:
        return len(self.crops)

    def save(self, path: Path) -> None:
        """Write aside, then rename."""
        _save(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> FaceSet:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class SessionSet:
    """Sessions as their tokens; P grid points and E eye spans a session."""

    face_tokens: Floats
    """(n, P, D), from a face encoder."""
    face_logits: Floats
    """(n, P, 7), of single frames."""
    eye: Floats
    """(n, E, 39), eye features as they are computed, not normalised."""
    eye_mask: npt.NDArray[np.bool_]
    """(n, E), spans with any valid gaze."""
    maps: npt.NDArray[np.uint8]
    """(n, P, 112, 112), fixation maps; 255 is their maximum."""
    map_mask: npt.NDArray[np.bool_]
    """(n, P), maps with any gaze in them."""
    scene_index: npt.NDArray[np.int64]
    """(n,), row in `scenes`, or -1 without a scene camera."""
    scenes: npt.NDArray[np.uint8]
    """(scene sessions, P, 3, 112, 112), RGB planes in [0, 255]."""
    labels: npt.NDArray[np.int64]
    """(n, P, 4): emotion, expression, their polarities; by the window that ends at the point."""
    affect: Floats
    """(n, P, 5): valence and arousal of the emotion, then of the expression, then its intensity in [0, 3]."""

    def __len__(self) -> int:
        return len(self.eye)

    def save(self, path: Path) -> None:
        """Write aside, then rename."""
        _save(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> SessionSet:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def _save(path: Path, arrays: dict[str, Any]) -> None:
    aside = path.with_suffix(path.suffix + ".part")
    with aside.open("wb") as handle:
        np.savez(handle, **arrays)
    aside.replace(path)


def jittered_box(box: Box, rng: np.random.Generator) -> Box:
    """A box as a detector might have drawn it.

    Against the canonical box of drawn faces, the Haar cascade's came out 4 to 6 % larger with a spread of 6 %, YuNet's
    6 % smaller with 3.5 %, both centred within 1.5 %; this covers both and a little more.
    """
    x, y, width, height = box
    factor = float(np.clip(np.exp(rng.normal(0.015, 0.085)), 0.83, 1.28))
    dx, dy = rng.normal(0, 0.02, 2).tolist()
    return (
        x + width * (dx + (1 - factor) / 2),
        y + height * (dy + (1 - factor) / 2),
        width * factor,
        height * factor,
    )


def _crop(frame: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.uint8]:
    affine = crop_affine(box, FACE.size, FACE.scale)
    planes = crop_normalize(frame, affine, FACE.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return np.rint(planes * 255).astype(np.uint8)


def _mixture(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Weights to draw, weights to learn, and the intensity: mostly one class, now and then between two."""
    first, second = rng.choice(len(EXPRESSIONS), 2, replace=False).tolist()
    strength = float(rng.uniform(0.45, 1.0))
    share = float(rng.uniform(0.1, 0.9)) if rng.random() < 0.12 else 1.0
    target = np.zeros(len(EXPRESSIONS))
    target[first], target[second] = share, 1 - share
    drawn = target * strength
    neutral = EXPRESSIONS.index("neutral")
    drawn[neutral] += 1 - drawn.sum()
    return drawn, target, 1 - float(drawn[neutral])


def make_faces(count: int, seed: int, split: str, tick: Callable[[int], None] = lambda done: None) -> FaceSet:
    """Draw faces, seven of a person, each in its own light, place and size.

    Parameters
    ----------
    count : int
    seed : int
    split : str
        "train" or "test": which people may appear.
    tick : callable
        Is told how many are done.
    """
    rng = np.random.default_rng([seed, SPLITS[split], 1])
    rows, columns = FACE.size
    crops = np.empty((count, 3, rows, columns), np.uint8)
    weights = np.empty((count, len(EXPRESSIONS)), np.float32)
    intensity = np.empty(count, np.float32)
    person, room = 0, 0
    for index in range(count):
        if index % _FACES_A_PERSON == 0:  # a new person costs ten times a new face
            person, room = int(rng.integers(_SUBJECTS[split])), int(rng.integers(200))
        drawn, target, strength = _mixture(rng)
        size = ((480, 640), (360, 480), (240, 320))[int(rng.choice(3, p=(0.2, 0.3, 0.5)))]
        frame, box = render_face(
            drawn,
            identity=SPLITS[split] + person,
            size=size,
            pose=FacePose(
                float(rng.uniform(-0.1, 0.1)),
                float(rng.uniform(-0.06, 0.06)),
                float(rng.uniform(0.6, 1.4)),
                float(rng.normal(0, 4)),
            ),
            light=FaceLight(float(rng.uniform(0.6, 1.2)), float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-1, 1))),
            background=room,
            eyelids=float(rng.uniform(0, 0.6)) if rng.random() < 0.06 else 1.0,
            look=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
            noise=int(rng.choice((0, 2, 4, 6))),
            rng=rng,
        )
        crops[index] = _crop(frame, jittered_box(box, rng))
        weights[index], intensity[index] = target, strength
        if index % 500 == 499:
            tick(index + 1)
    return FaceSet(crops, weights, intensity)


def _sessions(count: int, seed: int, split: str, duration_s: float) -> Iterator[tuple[SimulatedSession, bool, bool]]:
    """Sessions, and whether their tracker reports pupils and lids."""
    rng = np.random.default_rng([seed, SPLITS[split], 2])
    for _ in range(count):
        session = SimulatedSession.from_seed(
            SPLITS[split] + int(rng.integers(1 << 20)),
            subject=SPLITS[split] + int(rng.integers(_SUBJECTS[split])),
            stimulus=SPLITS[split] + int(rng.integers(_STIMULI)),
            duration_s=duration_s,
            scene=bool(rng.random() < _SCENE_SHARE),
            gaze_rate_hz=float(rng.choice(_GAZE_RATES_HZ)),
        )
        yield session, bool(rng.random() > 0.08), bool(rng.random() > 0.15)


def make_sessions(
    count: int,
    seed: int,
    split: str,
    duration_s: float,
    encode: Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats]],
    tick: Callable[[int], None] = lambda done: None,
) -> SessionSet:
    """Make sessions and everything that windows are cut from.

    Parameters
    ----------
    encode : callable
        Crops (n, 3, 112, 112) uint8 to face tokens (n, D) and logits (n, 7).
    split : str
        "train" or "test": which subjects and stimuli may appear.
    """
    rng = np.random.default_rng([seed, SPLITS[split], 3])
    cadence_s, span_s = WINDOW.face_cadence_ms / 1000, WINDOW.eye_span_ms / 1000
    points, spans = int(duration_s / cadence_s) + 1, int(duration_s / span_s)
    rows, columns = FIXATION.size
    tokens, logits, eye, eye_mask, maps, map_mask, labels, affect = ([] for _ in range(8))
    scene_index: list[int] = []
    scenes: list[npt.NDArray[np.uint8]] = []
    for done, (session, pupils, lids) in enumerate(_sessions(count, seed, split, duration_s), start=1):
        small = (240, 320) if rng.random() < 0.7 else (480, 640)
        drawn = replace(session, size=small)
        crops = []
        for point in range(points):
            frame, box = drawn.frame(point * cadence_s)
            crops.append(_crop(frame, jittered_box(box, rng)))
        token, logit = encode(np.stack(crops))
        tokens.append(token)
        logits.append(logit)

        gaze = session.gaze
        valid_at = gaze.t_ns[gaze.valid] // (WINDOW.eye_span_ms * 1_000_000)
        eye_mask.append(np.bincount(valid_at, minlength=spans)[:spans] > 0)
        features = eye_features(gaze, 0, spans * WINDOW.eye_span_ms * 1_000_000, spans)
        for name, there in (("pupil", pupils), ("openness", lids)):
            if not there:
                features[:, [index for index, own in enumerate(FEATURE_NAMES) if own.startswith(name)]] = 0
        eye.append(features)

        session_maps = np.zeros((points, rows, columns), np.uint8)
        reached = np.zeros(points, bool)
        scene = np.zeros((points, 3, rows, columns), np.uint8) if session.scene else None
        scratch = np.empty((rows, columns), np.float32)
        for point in range(points):
            stop = round(point * cadence_s * 1e9)
            begin = stop - WINDOW.face_cadence_ms * 1_000_000
            reached[point] = fixation_token_map_into(scratch, gaze, begin, stop, FIXATION.sigma_px)
            session_maps[point] = np.rint(scratch * 255)
            if scene is not None:
                seen = session.scene_frame(point * cadence_s)
                fused = fuse_gaze_frame(seen, scratch, FIXATION.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
                scene[point] = np.rint(np.clip(fused[:3], 0, 1) * 255)
        maps.append(session_maps)
        map_mask.append(reached)
        scene_index.append(len(scenes) if scene is not None else -1)
        if scene is not None:
            scenes.append(scene)
        label, values = _truth(session, points, cadence_s)
        labels.append(label)
        affect.append(values)
        if done % 20 == 0:
            tick(done)
    return SessionSet(
        face_tokens=np.stack(tokens),
        face_logits=np.stack(logits),
        eye=np.stack(eye),
        eye_mask=np.stack(eye_mask),
        maps=np.stack(maps),
        map_mask=np.stack(map_mask),
        scene_index=np.array(scene_index, np.int64),
        scenes=np.stack(scenes) if scenes else np.zeros((0, points, 3, rows, columns), np.uint8),
        labels=np.stack(labels),
        affect=np.stack(affect),
    )


def _truth(session: SimulatedSession, points: int, cadence_s: float) -> tuple[npt.NDArray[np.int64], Floats]:
    labels = np.zeros((points, 4), np.int64)
    affect = np.zeros((points, 5), np.float32)
    for point in range(points):
        stop = max(point * cadence_s, cadence_s)
        start = max(0.0, stop - LABEL_SPAN_S)
        felt, shown = session.felt.label(start, stop), session.shown.label(start, stop)
        labels[point] = (
            EXPRESSIONS.index(felt), EXPRESSIONS.index(shown),
            POLARITIES.index(POLARITY[felt]), POLARITIES.index(POLARITY[shown]),
        )  # fmt: skip
        affect[point, :2] = session.felt.valence_arousal(start, stop)
        affect[point, 2:4] = session.shown.valence_arousal(start, stop)
        affect[point, 4] = 3 * session.shown.intensity(start, stop)
    return labels, affect


#: Valence and arousal of the classes, (7, 2): what a single drawn face is worth.
CLASS_AFFECT = np.array([(VALENCE[name], AROUSAL[name]) for name in EXPRESSIONS], np.float32)
