"""Clips with known reaction intensities: a drawn face over some seconds, and a sound.

How a reaction looks and sounds here is **invented**, plainly and linearly, so that the right answer is known and all
seven can be found; it says nothing about people. At time u in [0, 1] of a clip the face shows

    weight of an expression = sum over reactions of  intensity x strength x course(u)

with one expression, strength and course for each reaction (`LOOKS`): two reactions may look alike and differ in their
course alone, so that a model that forgets the order of frames cannot tell them apart. The sound is noise and one tone a
reaction (`SOUNDS`), with an amplitude of intensity x course(u). Anxiety and Empathic-Pain are faint in the face and
clear in the voice; Adoration, Disgust and Surprise make no sound at all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emert_edge.reference.data.clips import ClipData, ClipSource, cropped_face
from emert_edge.reference.data.log_mel import SAMPLE_RATE, log_mel_spans
from emert_edge.reference.reactions import REACTIONS, ReactionConfig
from emert_edge.simulation import EXPRESSIONS, FaceLight, FacePose, render_face

__all__ = ["LOOKS", "SECONDS", "SOUNDS", "SimulatedClips"]

#: Length of a clip.
SECONDS = 4.0


class Look(NamedTuple):
    """How a reaction shows in a face."""

    expression: str
    strength: float
    course: str
    """`held` throughout, `rising` from nothing, or `falling` to nothing."""


LOOKS = {
    "Adoration": Look("happiness", 0.8, "rising"),
    "Amusement": Look("happiness", 0.8, "falling"),
    "Anxiety": Look("anger", 0.4, "held"),
    "Disgust": Look("disgust", 0.8, "held"),
    "Empathic-Pain": Look("sadness", 0.4, "held"),
    "Fear": Look("fear", 0.8, "rising"),
    "Surprise": Look("surprise", 0.8, "falling"),
}

#: Frequency of each reaction's tone, Hz; others are silent.
SOUNDS = {"Amusement": 440.0, "Anxiety": 1200.0, "Empathic-Pain": 700.0, "Fear": 2400.0}

_IDENTITIES = {"train": 3 << 20, "val": 5 << 20, "test": 7 << 20}  # people of the splits never meet
_PEAK = 4 / 3  # of a rising or falling course
_TONE, _NOISE = 0.1, 0.01


class SimulatedClips(ClipSource):
    """One split of simulated clips, drawn at once.

    Parameters
    ----------
    count : int
    config : ReactionConfig
        How clips are cut; sound is made where it is heard.
    seed : int
    split : {"train", "val", "test"}
        Which people appear.
    people : int
        How many; a new person costs ten times a new face.
    """

    def __init__(self, count: int, config: ReactionConfig, seed: int, split: str, people: int) -> None:
        self.intensities = _intensities(count, seed, split)
        self._frames = _drawn(count, config.frames, config.size, config.face_scale, seed, split, people)
        self._audio = None
        if config.audio:
            self._audio = _heard(count, config.spans, config.span_frames, config.mel_bins, seed, split)

    def __len__(self) -> int:
        return len(self.intensities)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> ClipData:
        frames = self._frames[chosen]
        present = np.ones(frames.shape[:2], np.bool_)
        if self._audio is None:
            return ClipData(frames, present, None, None)
        audio, mask = self._audio
        return ClipData(frames, present, audio[chosen], mask[chosen])


def _intensities(count: int, seed: int, split: str) -> npt.NDArray[np.float32]:
    """Up to three reactions at a time, so that expressions stay within what a face can do."""
    rng = np.random.default_rng([seed, _IDENTITIES[split], 41])
    active = rng.random((count, len(REACTIONS))).argsort(1) < rng.integers(1, 4, (count, 1))
    return np.where(active, rng.uniform(0.1, 1.0, active.shape), 0.0).astype(np.float32)


def _course(kind: str, u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return {"held": np.ones_like(u), "rising": _PEAK * u, "falling": _PEAK * (1 - u)}[kind]


# Several models of one run see the same clips: they are drawn once.
@lru_cache(maxsize=3)
def _drawn(
    count: int, length: int, size: tuple[int, int], scale: float, seed: int, split: str, people: int
) -> npt.NDArray[np.uint8]:
    first = _IDENTITIES[split]
    # One person after the other: what is drawn of a person is kept for a while.
    who = first + np.sort(np.random.default_rng([seed, first, 42]).integers(people, size=count))
    times = (np.arange(length) + 0.5) / length
    frames = np.empty((count, length, 3, *size), np.uint8)
    for index, intensities in enumerate(_intensities(count, seed, split)):
        rng = np.random.default_rng([seed, first, 43, index])
        shown = np.zeros((length, len(EXPRESSIONS)))
        for reaction, intensity in zip(REACTIONS, intensities, strict=True):
            look = LOOKS[reaction]
            shown[:, EXPRESSIONS.index(look.expression)] += intensity * look.strength * _course(look.course, times)
        light = FaceLight(*rng.uniform((0.7, -0.7, -1.0), (1.15, 0.7, 1.0)))
        room, (x, y, near) = int(rng.integers(200)), rng.uniform((-0.08, -0.05, 1.1), (0.08, 0.05, 1.4))
        for number, weights in enumerate(shown):
            moved = rng.normal(0, (0.01, 0.01, 0.02, 2.0))
            frame, (left, top, width, height) = render_face(
                weights, identity=int(who[index]), size=(160, 200),
                pose=FacePose(x + moved[0], y + moved[1], near + moved[2], moved[3]), light=light, background=room,
                look=tuple(rng.uniform(-0.5, 0.5, 2)), noise=2, rng=rng,
            )  # fmt: skip
            dx, dy = rng.normal(0, 0.02, 2)  # about as much as a detector's boxes move
            frames[index, number] = cropped_face(
                frame, (left + dx * width, top + dy * height, width, height), size, scale
            )
    return frames


@lru_cache(maxsize=3)
def _heard(
    count: int, spans: int, length: int, bins: int, seed: int, split: str
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    audio, mask = np.empty((count, spans, bins, length), np.float16), np.empty((count, spans), np.bool_)
    seconds = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    for index, intensities in enumerate(_intensities(count, seed, split)):
        rng = np.random.default_rng([seed, _IDENTITIES[split], 47, index])
        sound = _NOISE * rng.standard_normal(len(seconds))
        for reaction, hertz in SOUNDS.items():
            tone = np.sin(2 * np.pi * (hertz * rng.uniform(0.97, 1.03) * seconds + rng.random()))
            sound += (
                _TONE
                * intensities[REACTIONS.index(reaction)]
                * tone
                * _course(LOOKS[reaction].course, seconds / SECONDS)
            )
        sound *= rng.uniform(0.5, 1.0)  # somebody sits nearer to the microphone
        audio[index], mask[index] = log_mel_spans(sound.astype(np.float32), spans, length, bins)
    return audio, mask
