"""Sessions as what windows are cut from, and the windows.

Whatever a session comes from (a recording, the EMER layout, the simulation), it becomes a `SessionData`: crops, eye
features and fixation maps on the grid that a device uses, made by the functions that a device runs. A window is eight
grid points of a session and the eye spans between them; it is cut when a batch asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emert_edge.bundle.manifest import FixationInput, WindowSpec
from emert_edge.eye import FEATURE_NAMES, SubjectBaseline

__all__ = [
    "AFFECT",
    "EYE_CLIP",
    "EyeScale",
    "SessionData",
    "WindowBatch",
    "Windows",
    "eye_scale",
    "window_index",
    "with_baseline",
]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Columns of `SessionData.affect`; valence and arousal in [-1, 1], the intensity in [0, 3].
AFFECT = (
    "emotion_valence",
    "emotion_arousal",
    "expression_valence",
    "expression_arousal",
    "expression_intensity",
)
UNKNOWN = -1
EYE_CLIP = 8.0


@dataclass(frozen=True)
class SessionData:
    """One session: P points of the grid (every `face_cadence_ms`, the first at 0) and E eye spans."""

    id: str
    subject: str | None
    """Whose session it is; None where the data do not say."""
    stimulus: str | None
    """What was looked at; None where the data do not say."""
    fold: int | None
    """The fold that the data set gives it."""
    crops: npt.NDArray[np.uint8]
    """(P, 3, rows, columns), RGB planes in [0, 255]."""
    face_mask: Bools
    """(P,), whether a face was seen."""
    eye: Floats
    """(E, 39), eye features as `emert_edge.eye.eye_features` gives them."""
    eye_mask: Bools
    """(E,), spans with any valid gaze."""
    points: Floats
    """(E, 2), mean gaze of each span, 0–1; 0 where there is none."""
    maps: npt.NDArray[np.uint8]
    """(P, rows, columns), fixation maps; 255 is their maximum."""
    map_mask: Bools
    """(P,), maps with any gaze in them."""
    scenes: npt.NDArray[np.uint8] | None
    """(P, 3, rows, columns), RGB planes in [0, 255]; None without a scene camera."""
    emotion: Ints
    """(P,), the class that the window ending there is labelled with; -1 where unknown."""
    expression: Ints
    """(P,), the same of what is shown."""
    affect: Floats
    """(P, 5), the columns of `AFFECT`; NaN where unknown."""
    reactions: Floats | None = None
    """(7,), reaction intensities of the whole session, or None."""

    def save(self, path: Path) -> None:
        """Write as one .npz, aside and then renamed."""
        held = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                held[field.name] = np.asarray(value)
        aside = path.with_suffix(f"{path.suffix}.{os.getpid()}.part")  # several processes may make the same
        with aside.open("wb") as handle:
            np.savez(handle, **held)  # type: ignore[arg-type]
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> SessionData:
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:  # closed also where it is damaged
            held = {name: stored[name] for name in stored.files}
        plain = {name: (str(held[name]) if name in held else None) for name in ("id", "subject", "stimulus")}
        fold = int(held["fold"]) if "fold" in held else None
        arrays = {field.name: held.get(field.name) for field in fields(cls) if field.name not in (*plain, "fold")}
        return cls(**plain, fold=fold, **arrays)  # type: ignore[arg-type]


def with_baseline(sessions: Sequence[SessionData], tokens: int) -> list[SessionData]:
    """Sessions whose eye features have the subject's baseline taken out, as a device does it; all as they are for 0."""
    if not tokens:
        return list(sessions)
    made = []
    for session in sessions:
        eye = session.eye.copy()
        SubjectBaseline(FEATURE_NAMES, tokens).apply(eye)
        made.append(replace(session, eye=eye))
    return made


class EyeScale(NamedTuple):
    """Training statistics of the eye features: (value - mean) / std, cut at ±`EYE_CLIP`."""

    mean: Floats
    std: Floats

    def __call__(self, features: Floats) -> Floats:
        """Normalise rows of features."""
        scaled = np.clip((features - self.mean) / self.std, -EYE_CLIP, EYE_CLIP)
        return np.asarray(scaled, np.float32)


def eye_scale(sessions: Sequence[SessionData]) -> EyeScale:
    """Mean and standard deviation of each feature over the spans that have gaze; a constant one is left as it is.

    Raises
    ------
    ValueError
        If no session has any gaze.
    """
    rows = np.concatenate([session.eye[session.eye_mask] for session in sessions])
    if not len(rows):
        raise ValueError("sessions: no span has any gaze")
    mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    return EyeScale(mean.astype(np.float32), std.astype(np.float32))


class WindowBatch(NamedTuple):
    """Windows as the model takes them, and their truth. Masks are 1 where a token is real."""

    faces: Tensor
    """(batch, 8, D) face tokens, or (batch, 8, 3, rows, columns) uint8 crops where the encoder learns too."""
    face_mask: Tensor
    eye_tokens: Tensor
    """(batch, 32, 39), normalised."""
    eye_mask: Tensor
    points: Tensor
    """(batch, 32, 2), gaze points; masked by `eye_mask`."""
    fused: Tensor
    """(batch, 8, 4, rows, columns), the fixation encoder's input; empty for a model that takes points."""
    fixation_mask: Tensor
    emotion: Tensor
    """(batch,) int64, -1 where unknown."""
    expression: Tensor
    affect: Tensor
    """(batch, 5), NaN where unknown."""
    reactions: Tensor
    """(batch, 7), NaN where unknown."""


def window_index(
    sessions: Sequence[SessionData], window: WindowSpec, *, first: int | None = None, step: int = 1
) -> Ints:
    """All windows: (n, 2), the session's number and the grid point at which a window ends.

    Parameters
    ----------
    first : int, optional
        First point of a session at which a window may end; half a window unless told. A session that is shorter gives
        its last point.
    """
    first = window.face_tokens // 2 if first is None else first
    rows = [
        (number, point)
        for number, session in enumerate(sessions)
        for point in range(min(first, len(session.face_mask) - 1), len(session.face_mask), step)
    ]
    return np.array(rows, np.int64).reshape(-1, 2)


class Windows(torch.utils.data.Dataset[WindowBatch]):
    """Windows by number; indexed with an array of numbers it gives a whole batch.

    Parameters
    ----------
    sessions : sequence of SessionData
    index : ndarray
        (n, 2), as `window_index` gives it.
    scale : callable
        An `EyeScale`, or whatever makes model input of eye features.
    window : WindowSpec
    fixation : FixationInput, optional
        How maps and scenes become the fixation encoder's input; None leaves them out (a model that takes gaze points).
    tokens : sequence of ndarray, optional
        (P, D) face tokens of each session, from an encoder at rest; without them windows hold crops.
    """

    def __init__(
        self,
        sessions: Sequence[SessionData],
        index: Ints,
        scale: EyeScale | Callable[[Floats], Floats],
        window: WindowSpec,
        fixation: FixationInput | None,
        tokens: Sequence[Floats] | None = None,
    ) -> None:
        self.sessions, self.index, self.window, self.fixation = sessions, index, window, fixation
        self.eyes = [scale(session.eye) for session in sessions]
        self.faces: Sequence[npt.NDArray[np.generic]] = tokens if tokens is not None else [s.crops for s in sessions]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Ints) -> WindowBatch:
        chosen = self.index[rows]
        count, faces, spans = len(chosen), self.window.face_tokens, self.window.eye_tokens
        each = self.window.face_cadence_ms // self.window.eye_span_ms
        face = np.zeros((count, faces, *self.faces[0].shape[1:]), self.faces[0].dtype)
        face_mask = np.zeros((count, faces), np.float32)
        eye = np.zeros((count, spans, self.eyes[0].shape[1]), np.float32)
        eye_mask = np.zeros((count, spans), np.float32)
        points = np.zeros((count, spans, 2), np.float32)
        rows_columns = self.fixation.size if self.fixation else (0, 0)
        fused = np.zeros((count, faces if self.fixation else 0, 4, *rows_columns), np.float32)
        fixation_mask = np.zeros((count, faces), np.float32)
        reactions = np.full((count, 7), np.nan, np.float32)
        for row, (number, point) in enumerate(chosen.tolist()):
            session = self.sessions[number]
            # Tokens before the session's beginning stay masked.
            begin, there = max(0, point + 1 - faces), min(faces, point + 1)
            part, place = slice(begin, point + 1), slice(faces - there, faces)
            face[row, place] = self.faces[number][part]
            face_mask[row, place] = session.face_mask[part]
            fixation_mask[row, place] = session.map_mask[part]
            if self.fixation:
                fused[row, place, 3] = session.maps[part].astype(np.float32) / 255
                if session.scenes is not None:
                    mean = np.asarray(self.fixation.mean, np.float32)[:, None, None]
                    std = np.asarray(self.fixation.std, np.float32)[:, None, None]
                    fused[row, place, :3] = (session.scenes[part].astype(np.float32) / 255 - mean) / std
            stop = min(point * each, len(session.eye))
            start = max(0, point * each - spans)
            seen = slice(spans - (point * each - start), spans - (point * each - stop))
            eye[row, seen] = self.eyes[number][start:stop]
            eye_mask[row, seen] = session.eye_mask[start:stop]
            points[row, seen] = session.points[start:stop]
            if session.reactions is not None:
                reactions[row] = session.reactions
        return WindowBatch(
            faces=torch.from_numpy(face),
            face_mask=torch.from_numpy(face_mask),
            eye_tokens=torch.from_numpy(eye),
            eye_mask=torch.from_numpy(eye_mask),
            points=torch.from_numpy(points),
            fused=torch.from_numpy(fused),
            fixation_mask=torch.from_numpy(fixation_mask),
            emotion=torch.tensor([self.sessions[n].emotion[p] for n, p in chosen.tolist()]),
            expression=torch.tensor([self.sessions[n].expression[p] for n, p in chosen.tolist()]),
            affect=torch.from_numpy(np.stack([self.sessions[n].affect[p] for n, p in chosen.tolist()])),
            reactions=torch.from_numpy(reactions),
        )
