"""A simulated session: a drawn face, a simulated gaze stream, and what was really shown and felt.

A session is a function of its seed: frames and gaze come out the same every time, in any order of asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.eye import GazeSamples
from emert_edge.simulation.face import (
    EXPRESSIONS,
    FaceIdentity,
    FaceLight,
    FacePose,
    RenderedFace,
    render_face,
)
from emert_edge.simulation.gaze import EYE_GROUPS, GazeStimulus, GazeSubject, SimulatedGaze, simulate_gaze
from emert_edge.simulation.timeline import Segment, Timeline
from emert_edge.sources import Frame

__all__ = ["MASKED_SHARE", "MASKS", "SimulatedFrames", "SimulatedSession"]

#: In this share of the sessions that `SimulatedSession.from_seed` makes, the face shows something else than is felt.
MASKED_SHARE = 0.4

#: What a face typically shows over a felt class: a smile over sadness, calm over anger, pity over glee; invented, as
#: `EYE_GROUPS` are. Masks lie outside the felt class's own group, and no two classes of a group share one: who knows
#: the group from the eyes and the mask from the face can tell what lies beneath.
MASKS: dict[str, str] = {
    "happiness": "sadness",
    "sadness": "happiness",
    "fear": "neutral",
    "surprise": "happiness",
    "disgust": "anger",
    "anger": "neutral",
    "neutral": "surprise",
}

_TYPICAL_MASK = 0.8  # how often a mask is the typical one; else it is any class of another group
_GROUP = {name: group for group, names in EYE_GROUPS.items() for name in names}
_FELT_BY_STIMULUS = 0.4  # how often a segment's emotion is the one that the stimulus is about
_CLOCK = "simulated"


class _Sway(NamedTuple):
    """Slow movements of the head: amplitude, frequency and phase of dx, dy, scale, roll."""

    amplitude: npt.NDArray[np.float64]
    frequency: npt.NDArray[np.float64]
    phase: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedSession:
    """One person, one stimulus, one recording.

    Parameters
    ----------
    shown, felt : Timeline
        What the face shows and what is felt; the truth that estimates are held against.
    duration_s : float
        Length in seconds.
    seed : int
        Of all chance: noise, sway, scan path.
    subject, stimulus : int
        Numbers that stand for a person (face and eyes) and for what is looked at.
    fps, gaze_rate_hz : float
        Frames and gaze samples a second.
    size : (int, int)
        Height and width of the face camera's frames.
    scene : bool
        Whether there is a scene camera; then the gaze is in the scene's space.

    Examples
    --------
    >>> session = SimulatedSession.from_seed(1, duration_s=4.0)
    >>> len(session.gaze)
    480
    >>> session.frame(2.0).image.shape
    (480, 640, 3)
    """

    shown: Timeline
    felt: Timeline
    duration_s: float = 24.0
    seed: int = 0
    subject: int = 0
    stimulus: int = 0
    fps: float = 25.0
    gaze_rate_hz: float = 120.0
    size: tuple[int, int] = (480, 640)
    scene: bool = False

    def __post_init__(self) -> None:
        for name in ("duration_s", "fps", "gaze_rate_hz"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")

    @classmethod
    def from_seed(
        cls,
        seed: int,
        *,
        subject: int | None = None,
        stimulus: int | None = None,
        duration_s: float = 24.0,
        masked: bool | None = None,
        scene: bool = False,
        gaze_rate_hz: float = 120.0,
        fps: float = 25.0,
    ) -> SimulatedSession:
        """Invent a session.

        Parameters
        ----------
        seed : int
            Decides everything that is not given.
        masked : bool, optional
            Whether the face hides what is felt; by chance (`MASKED_SHARE`) if not given. In a masked session every
            segment shows a class of another group than the felt one's: mostly the typical mask (`MASKS`).
        """
        rng = np.random.default_rng([49979687, int(seed)])
        subject = int(rng.integers(1 << 30)) if subject is None else int(subject)
        stimulus = int(rng.integers(1 << 30)) if stimulus is None else int(stimulus)
        chance = bool(rng.random() < MASKED_SHARE)
        masked = chance if masked is None else bool(masked)
        about = EXPRESSIONS[int(np.random.default_rng([67867967, stimulus]).integers(len(EXPRESSIONS)))]
        shown: list[Segment] = []
        felt: list[Segment] = []
        start = 0.0
        while start < duration_s:
            previous = felt[-1].label if felt else None
            emotion = about if rng.random() < _FELT_BY_STIMULUS else str(rng.choice(EXPRESSIONS))
            if emotion == previous:
                emotion = str(rng.choice([name for name in EXPRESSIONS if name != previous]))
            strength = float(rng.uniform(0.75, 1.0))
            felt.append(Segment(start, emotion, strength))
            face = emotion
            if masked:
                others = [name for name in EXPRESSIONS if _GROUP[name] != _GROUP[emotion]]
                face = MASKS[emotion] if rng.random() < _TYPICAL_MASK else str(rng.choice(others))
            shown.append(Segment(start, face, float(rng.uniform(0.55, 1.0))))
            start += float(rng.uniform(5.0, 9.0))
        return cls(
            shown=Timeline(tuple(shown)),
            felt=Timeline(tuple(felt)),
            duration_s=float(duration_s),
            seed=int(seed),
            subject=subject,
            stimulus=stimulus,
            scene=scene,
            gaze_rate_hz=gaze_rate_hz,
            fps=fps,
        )

    @property
    def masked(self) -> bool:
        """Whether the face ever shows another class than is felt."""
        starts = {segment.start_s for segment in (*self.shown.segments, *self.felt.segments)}
        edges = sorted(max(0.0, start) for start in starts if start < self.duration_s)
        spans = zip(edges, [*edges[1:], self.duration_s], strict=True)
        return any(self.shown.label(a, b) != self.felt.label(a, b) for a, b in spans if b > a)

    @cached_property
    def _gaze(self) -> SimulatedGaze:
        return simulate_gaze(
            self.duration_s,
            self.felt.weights,
            rng=np.random.default_rng([86028121, self.seed]),
            subject=GazeSubject.from_seed(self.subject),
            stimulus=GazeStimulus.from_seed(self.stimulus),
            rate_hz=self.gaze_rate_hz,
            space="scene" if self.scene else "screen",
            clock=_CLOCK,
        )

    @property
    def gaze(self) -> GazeSamples:
        """The whole gaze stream; its times begin at 0."""
        return self._gaze.samples

    @property
    def identity(self) -> FaceIdentity:
        """The subject's drawn face."""
        return FaceIdentity.from_seed(self.subject)

    @cached_property
    def _sway(self) -> _Sway:
        rng = np.random.default_rng([122949823, self.seed])
        return _Sway(
            amplitude=rng.uniform(0.2, 1.0, 4) * np.array([0.012, 0.008, 0.02, 1.8]),
            frequency=rng.uniform(0.08, 0.3, 4),
            phase=rng.uniform(0, 2 * np.pi, 4),
            offset=rng.uniform(-1, 1, 4) * np.array([0.06, 0.03, 0.12, 2.0]) + np.array([0, 0, 1.02, 0]),
        )

    @cached_property
    def light(self) -> FaceLight:
        """How the face is lit throughout."""
        rng = np.random.default_rng([141650939, self.seed])
        return FaceLight(*np.round(rng.uniform((0.85, -0.5, -0.8), (1.1, 0.5, 0.8)), 3).tolist())

    def frame(self, t_s: float) -> RenderedFace:
        """The face camera's frame at a time in seconds, and the true face box."""
        sway = self._sway
        wave = np.sin(2 * np.pi * sway.frequency * t_s + sway.phase)
        dx, dy, scale, roll = (sway.offset + sway.amplitude * wave).tolist()
        blinks = self._gaze.blinks
        eyelids = 1.0
        for begin, end in blinks[(blinks[:, 0] <= t_s) & (blinks[:, 1] >= t_s)]:
            eyelids = min(1.0, 1.6 * abs(t_s - (begin + end) / 2) / max(1e-9, end - begin))
        fixations = self._gaze.fixations
        at = fixations[max(0, int(np.searchsorted(fixations[:, 0], t_s, side="right")) - 1)]
        return render_face(
            self.shown.weights(float(t_s)),
            identity=self.identity,
            size=self.size,
            pose=FacePose(dx, dy, scale, roll),
            light=self.light,
            background=self.stimulus % 997,
            eyelids=eyelids,
            look=(float(np.clip(2 * (0.5 - at[2]), -1, 1)), float(np.clip(2 * (at[3] - 0.5), -1, 1))),
            noise=3,
            rng=np.random.default_rng([self.seed, round(t_s * 1000)]),
        )

    def scene_frame(self, t_s: float) -> npt.NDArray[np.uint8]:
        """What the person sees at a time in seconds: (360, 640, 3) uint8, BGR.

        The stimulus's brightness as a grey field, and a coloured disc at each place that draws the eye.
        """
        look = GazeStimulus.from_seed(self.stimulus)
        field = _scene_discs(look)
        level = float(np.asarray(look.brightness(float(t_s))))
        return np.asarray(cv2.convertScaleAbs(field, alpha=0.35 + 0.65 * level), np.uint8)

    def frames(self) -> Iterator[Frame]:
        """All frames of the face camera in order; times begin at 0."""
        return self.face_source().frames()

    def face_source(self) -> SimulatedFrames:
        """The face camera as a recorded frame source, as `Recognizer.run` takes it."""
        return SimulatedFrames(self)

    def scene_source(self) -> SimulatedFrames:
        """The scene camera as a recorded frame source.

        Raises
        ------
        ValueError
            If the session has no scene camera.
        """
        if not self.scene:
            raise ValueError("this session has no scene camera; make it with scene=True")
        return SimulatedFrames(self, scene=True)


class SimulatedFrames:
    """A simulated camera as a frame source (`emert_edge.sources.FrameSource`)."""

    live = False
    clock = _CLOCK

    def __init__(self, session: SimulatedSession, *, scene: bool = False) -> None:
        self._session = session
        self._scene = scene
        kind = "scene" if scene else "face"
        self.name = f"simulated {kind} of session {session.seed}"
        height, width = (360, 640) if scene else session.size
        self.size: tuple[int, int] | None = (width, height)
        self.expected_frames: int | None = max(1, round(session.duration_s * session.fps))

    def frames(self) -> Iterator[Frame]:
        """Draw the frames one by one."""
        for index in range(self.expected_frames or 0):
            t_s = index / self._session.fps
            image = self._session.scene_frame(t_s) if self._scene else self._session.frame(t_s).image
            yield Frame(image, round(t_s * 1e9), index)

    def close(self) -> None:
        """Nothing is held."""


@lru_cache(maxsize=32)
def _scene_discs(look: GazeStimulus) -> npt.NDArray[np.uint8]:
    field = np.full((360, 640, 3), 150, np.uint8)
    for index, (x, y, weight) in enumerate(look.places):
        hue = np.array([[[(37 * index + 11) % 180, 160, 220]]], np.uint8)
        b, g, r = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        cv2.circle(field, (round(x * 640), round(y * 360)), round(18 + 26 * weight), (b, g, r), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 2.0), np.uint8)
