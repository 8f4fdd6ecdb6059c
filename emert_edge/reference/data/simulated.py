"""Simulated sessions as training data, over drawn faces or real pictures, made by the very code that a device runs.

A drawn face goes through `crop_affine` and `crop_normalize`, gaze through `eye_features`, `gaze_points` and
`fixation_token_map_into`, a scene frame through `fuse_gaze_frame`. Only the detector is left out: its place takes the
true box, moved and scaled about as much as detectors move and scale theirs.

Over pictures, what a session shows is played by labelled pictures of that class. A picture stands for one or two
seconds of expression, seen by a camera that is not quite still. Labelled sets such as FER2013 hold single pictures of
many people, so a session's pictures are of one expression but not of one person, and how strong an expression is
labelled has no bearing on the picture.

What must not be shared is dealt out: the splits "train" and "test" have subjects and stimuli of their own, and within a
split each fold has subjects, stimuli and pictures of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES, GazeSamples, eye_features, gaze_points
from emert_edge.eye.fixation import fixation_token_map_into
from emert_edge.face import Box, crop_affine
from emert_edge.kernels import crop_normalize, fuse_gaze_frame
from emert_edge.reference.data.faces import (
    DrawnFaces,
    FaceImages,
    FaceSource,
    FolderFaces,
    cached_faces,
    read_face_folder,
    read_face_table,
    stratified_split,
)
from emert_edge.reference.data.windows import AFFECT, UNKNOWN, SessionData
from emert_edge.reference.settings import Settings
from emert_edge.simulation import EXPRESSIONS, FaceLight, FacePose, SimulatedSession, Timeline, render_face

__all__ = [
    "LABEL_SPAN_S",
    "SPLITS",
    "FaceBank",
    "SimulatedSessions",
    "gather_faces",
    "jittered_box",
    "load_simulated",
    "make_faces",
    "make_session_data",
    "read_faces",
]

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Report: TypeAlias = Callable[[str], None]
Split: TypeAlias = Literal["train", "test"]

#: Subjects and stimuli of the splits never meet: each has its own range of numbers.
SPLITS = {"train": 0, "test": 1 << 20}

#: A window's labels are those of its last two seconds: an answer is about now, and four seconds are its evidence.
LABEL_SPAN_S = 2.0

_PEOPLE = 4000  # whom `make_faces` draws
_SITTERS = 1 << 14  # where the numbers of sessions' subjects begin: nobody whom `make_faces` draws
_FACES_A_PERSON = 7
_SESSIONS_A_SUBJECT, _SESSIONS_A_STIMULUS = 3, 6
_EPISODE_S = (1.0, 2.0)  # how long a picture stands: a window of four seconds shows about three
_GAZE_RATES_HZ = (60.0, 90.0, 120.0, 250.0)
_SCENE_SHARE = 0.2
_NO_PUPIL_SHARE, _NO_LIDS_SHARE = 0.08, 0.15  # of trackers, that do not report them
_LOST_EVERY_S, _LOST_POINTS = 20.0, 3  # a face is lost about so often, for at most so many points
_CACHE_FORMAT = 1


class SimulatedSessions(Settings):
    """Sessions whose truth is known, because they are made up."""

    kind: Literal["simulated"]
    sessions: int = Field(600, ge=1)
    session_s: float = Field(24.0, ge=1.0, description="length of each in seconds")
    faces: tuple[FaceSource, ...] = Field((), description="labelled pictures that play the faces; else faces are drawn")
    held_out: float = Field(
        0.0, ge=0, lt=1,
        description="take only those pictures that a stage `expressions` with this `validation` held out: an encoder "
        "reads what it was trained on too well; 0 takes all",
    )  # fmt: skip
    drawn: float = Field(0.15, ge=0, le=1, description="share of sessions over drawn faces, where there are pictures")
    split: Split = Field("train", description="whose subjects and stimuli; `test` shares none with `train`")
    folds: int = Field(5, ge=1, description="parts that share no subject, no stimulus and no picture")

    def describe(self) -> str:
        """What it is, for a card."""
        over = "drawn faces"
        if self.faces:
            names = [f"{face.path.name} ({face.licence})" for face in self.faces if not isinstance(face, DrawnFaces)]
            which = "pictures that the face encoder did not learn from, of " if self.held_out else "pictures of "
            over = which + ", ".join(names or ["drawn faces"])
            if self.drawn:
                over += f", and {self.drawn:.0%} of them over drawn faces"
        return f"{self.sessions} simulated sessions of {self.session_s:g} s (invented gaze and emotion) over {over}"


# -- faces ------------------------------------------------------------------------------------------------------------


def jittered_box(box: Box, rng: np.random.Generator) -> Box:
    """A box as a detector might have drawn it.

    Against the canonical box of drawn faces, the Haar cascade's came out 4 to 6 % larger with a spread of 6 %, YuNet's
    6 % smaller with 3.5 %, both centred within 1.5 %; this covers both and a little more.
    """
    x, y, width, height = box
    factor, dx, dy = _jitter(rng)
    return (
        x + width * (dx + (1 - factor) / 2),
        y + height * (dy + (1 - factor) / 2),
        width * factor,
        height * factor,
    )


def _jitter(rng: np.random.Generator) -> tuple[float, float, float]:
    """A detector's error: factor on the side, shift in sides."""
    factor = float(np.clip(np.exp(rng.normal(0.015, 0.085)), 0.83, 1.28))
    dx, dy = rng.normal(0, 0.02, 2).tolist()
    return factor, dx, dy


def _crop(frame: Bytes, box: Box, spec: FaceInput) -> Bytes:
    affine = crop_affine(box, spec.size, spec.scale)
    planes = crop_normalize(frame, affine, spec.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return np.asarray(np.rint(planes * 255), np.uint8)


def make_faces(
    count: int, seed: int, split: Split, spec: FaceInput, classes: Sequence[str] = EXPRESSIONS
) -> FaceImages:
    """Draw faces, seven of a person, each in its own light, place and size; now and then between two classes.

    Parameters
    ----------
    count : int
    seed : int
    split : {"train", "test"}
        Which people may appear.
    spec : FaceInput
        Size and scale of the crops.
    classes : sequence of str
        Some of `EXPRESSIONS`; labels are places in it, and they come in turn.
    """
    rng = np.random.default_rng([seed, SPLITS[split], 1])
    crops = np.empty((count, 3, *spec.size), np.uint8)
    labels = np.arange(count) % len(classes)
    person, room = 0, 0
    for index, label in enumerate(labels):
        if index % _FACES_A_PERSON == 0:  # a new person costs ten times a new face
            person, room = int(rng.integers(_PEOPLE)), int(rng.integers(200))
        strength = float(rng.uniform(0.45, 1.0))
        share = float(rng.uniform(0.6, 0.95)) if rng.random() < 0.1 else 1.0
        drawn = np.zeros(len(EXPRESSIONS))
        drawn[EXPRESSIONS.index(classes[int(label)])] += strength * share
        drawn[EXPRESSIONS.index(str(rng.choice(classes)))] += strength * (1 - share)
        drawn[EXPRESSIONS.index("neutral")] += 1 - drawn.sum()
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
        crops[index] = _crop(frame, jittered_box(box, rng), spec)
    return FaceImages(crops, labels.astype(np.int64))


def read_faces(source: FaceSource, seed: int, classes: Sequence[str], spec: FaceInput) -> FaceImages:
    """Labelled pictures of any source, as crops of the size that a face encoder takes."""
    if isinstance(source, DrawnFaces):
        return make_faces(source.count, seed, "train", spec, classes)
    if isinstance(source, FolderFaces):
        return read_face_folder(source.path, classes, spec.size, names=source.names)
    return read_face_table(
        source.path, classes, spec.size, images=source.images, image_column=source.image_column,
        label_column=source.label_column, names=source.names, where=source.where,
    )  # fmt: skip


def _state(source: FaceSource) -> tuple[float, int] | None:
    """What tells that a source's files have changed."""
    if isinstance(source, DrawnFaces) or not source.path.exists():
        return None
    state = source.path.stat()
    return state.st_mtime, state.st_size


def gather_faces(source: FaceSource, seed: int, classes: Sequence[str], spec: FaceInput, folder: Path) -> FaceImages:
    """As `read_faces`, kept in `folder` for as long as source, seed, classes and crops stay what they are."""
    key = hashlib.sha256(repr((source, _state(source), seed, tuple(classes), spec)).encode()).hexdigest()[:16]
    return cached_faces(folder / f"faces-{key}.npz", lambda: read_faces(source, seed, classes, spec))


@dataclass(frozen=True)
class FaceBank:
    """Labelled pictures that play the faces of sessions.

    Parameters
    ----------
    pictures : FaceImages
    classes : tuple of str
        What the labels mean.

    Raises
    ------
    EmertError
        If an expression has no picture.
    """

    pictures: FaceImages
    classes: tuple[str, ...] = EXPRESSIONS

    def __post_init__(self) -> None:
        for name in EXPRESSIONS:
            if not len(self._rows.get(name, ())):
                raise EmertError(f"faces: no picture of {name}; sessions show all of {', '.join(EXPRESSIONS)}")

    @cached_property
    def _rows(self) -> dict[str, npt.NDArray[np.int64]]:
        return {name: np.flatnonzero(self.pictures.labels == label) for label, name in enumerate(self.classes)}

    @property
    def rarest(self) -> int:
        """How many pictures the class with the fewest has."""
        return min(len(rows) for rows in self._rows.values())

    def dealt(self, parts: int, seed: int) -> list[FaceBank]:
        """Deal the pictures of each class out into banks that share none."""
        rng = np.random.default_rng([seed, 17])
        shuffled = [rng.permutation(rows) for rows in self._rows.values()]
        return [
            FaceBank(self.pictures[np.concatenate([rows[part::parts] for rows in shuffled])], self.classes)
            for part in range(parts)
        ]

    def play(self, shown: Timeline, times_s: Sequence[float], rng: np.random.Generator) -> Bytes:
        """Crops at some times, (n, 3, rows, columns): what is shown, each picture for a second or two."""
        camera = _Camera.from_rng(rng)
        crops = np.empty((len(times_s), *self.pictures.crops.shape[1:]), np.uint8)
        name, until, picture = "", -np.inf, np.empty((0, 0, 3), np.uint8)
        for index, t_s in enumerate(times_s):
            now = shown.label(t_s, t_s + 1e-6)
            if now != name or t_s >= until:
                name, until = now, t_s + rng.uniform(*_EPISODE_S)
                planes = self.pictures.crops[rng.choice(self._rows[name])]
                if rng.random() < 0.5:
                    planes = planes[:, :, ::-1]
                picture = np.ascontiguousarray(planes.transpose(1, 2, 0))
            crops[index] = camera.take(picture, rng).transpose(2, 0, 1)
        return crops


class _Camera(NamedTuple):
    """How a session's camera, and the detector behind it, see a picture."""

    gain: float
    offset: float
    noise: float
    roll: float

    @classmethod
    def from_rng(cls, rng: np.random.Generator) -> _Camera:
        return cls(
            float(rng.uniform(0.85, 1.15)), float(rng.normal(0, 8)), float(rng.uniform(0, 4)), float(rng.normal(0, 3))
        )

    def take(self, picture: Bytes, rng: np.random.Generator) -> Bytes:
        """One crop of a picture (rows, columns, 3)."""
        rows, columns = picture.shape[:2]
        factor, dx, dy = _jitter(rng)
        affine = cv2.getRotationMatrix2D(
            ((columns - 1) / 2, (rows - 1) / 2), self.roll + float(rng.normal(0, 2)), 1 / factor
        )
        affine[:, 2] -= dx * columns / factor, dy * rows / factor
        seen = cv2.warpAffine(picture, affine, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        gain = self.gain * float(rng.uniform(0.97, 1.03))
        lit = (seen.astype(np.float32) - 128) * gain + 128 + self.offset
        lit += self.noise * rng.standard_normal((rows, columns, 1), np.float32)
        return np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8)


# -- sessions ---------------------------------------------------------------------------------------------------------


def make_session_data(
    count: int,
    seed: int,
    split: Split,
    duration_s: float,
    faces: FaceBank | None,
    spec: FaceInput,
    window: WindowSpec,
    fixation: FixationInput,
    report: Report = lambda line: None,
    *,
    classes: Sequence[str] = EXPRESSIONS,
    drawn: float = 0.0,
    folds: int = 5,
) -> list[SessionData]:
    """Make sessions and everything that windows are cut from.

    Parameters
    ----------
    count : int
        Number of sessions; about three of a subject, six on a stimulus.
    seed : int
        Of all chance.
    split : {"train", "test"}
        Which subjects and stimuli may appear.
    duration_s : float
        Length of each.
    faces : FaceBank, optional
        Pictures that play the faces; drawn ones without.
    spec, window, fixation
        Preprocessing and grid, as the bundle's manifest will say them.
    report : callable
        Is given a line of progress now and then.
    classes : sequence of str
        What labels are places in; one that is not among them is unknown.
    drawn : float
        Share of sessions over drawn faces, where there are pictures.
    folds : int
        Parts that share no subject, stimulus or picture; fewer where there are too few of any.

    Returns
    -------
    list of SessionData

    Raises
    ------
    ValueError
        If the pictures are not of the size that `spec` asks for.
    """
    if faces is not None and faces.pictures.crops.shape[2:] != tuple(spec.size):
        raise ValueError(f"faces: pictures of {faces.pictures.crops.shape[2:]} pixels, the encoder takes {spec.size}")
    rng = np.random.default_rng([seed, SPLITS[split], 2])
    subjects = max(min(count, 2), count // _SESSIONS_A_SUBJECT)
    stimuli = max(min(count, 2), count // _SESSIONS_A_STIMULUS)
    folds = min(folds, subjects, stimuli, count if faces is None else faces.rarest)
    banks = [None] * folds if faces is None else faces.dealt(folds, seed)
    base = SPLITS[split] + _SITTERS * (1 + seed % 50)  # sessions of another seed are of other people
    made = []
    for number in range(count):
        subject = number % subjects
        fold = subject % folds
        # Of the stimuli of the same fold, one by chance.
        stimulus = fold + folds * int(rng.integers(-(-(stimuli - fold) // folds)))
        session = SimulatedSession.from_seed(
            SPLITS[split] + int(rng.integers(1 << 20)),
            subject=base + subject,
            stimulus=base + stimulus,
            duration_s=duration_s,
            scene=bool(rng.random() < _SCENE_SHARE),
            gaze_rate_hz=float(rng.choice(_GAZE_RATES_HZ)),
        )
        bank = None if rng.random() < drawn else banks[fold]
        chance = np.random.default_rng([seed, SPLITS[split], 3, number])
        made.append(
            replace(
                _gathered(session, bank, spec, window, fixation, classes, chance),
                id=f"{split}-{seed}-{number:04d}",
                subject=f"{split}-{base + subject}",
                stimulus=f"{split}-{base + stimulus}",
                fold=fold,
            )
        )
        if number % 50 == 49:
            report(f"simulated {number + 1} of {count} sessions")
    return made


def _gathered(
    session: SimulatedSession,
    faces: FaceBank | None,
    spec: FaceInput,
    window: WindowSpec,
    fixation: FixationInput,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> SessionData:
    """Everything of one session, nameless."""
    cadence_s = window.face_cadence_ms / 1000
    times_s = [point * cadence_s for point in range(int(session.duration_s / cadence_s) + 1)]
    spans = int(session.duration_s * 1000) // window.eye_span_ms
    face_mask = ~_lost(len(times_s), session.duration_s, rng)
    crops = _drawn(session, times_s, spec, rng) if faces is None else faces.play(session.shown, times_s, rng)
    crops[~face_mask] = 0

    gaze, stop_ns = session.gaze, spans * window.eye_span_ms * 1_000_000
    features = eye_features(gaze, 0, stop_ns, spans)
    for kind, share in (("pupil", _NO_PUPIL_SHARE), ("openness", _NO_LIDS_SHARE)):
        if rng.random() < share:
            features[:, [index for index, name in enumerate(FEATURE_NAMES) if name.startswith(kind)]] = 0
    points = gaze_points(gaze, 0, stop_ns, spans)
    maps, map_mask, scenes = _looks(session, gaze, times_s, window, fixation)
    emotion, expression, affect = _truth(session, times_s, classes)
    return SessionData(
        id="", subject=None, stimulus=None, fold=None,
        crops=crops, face_mask=face_mask,
        eye=features, eye_mask=np.isfinite(points[:, 0]), points=np.nan_to_num(points),
        maps=maps, map_mask=map_mask, scenes=scenes,
        emotion=emotion, expression=expression, affect=affect,
    )  # fmt: skip


def _lost(points: int, duration_s: float, rng: np.random.Generator) -> Bools:
    """Points at which no face is found: turned away, covered, out of the picture."""
    lost = np.zeros(points, bool)
    for _ in range(rng.poisson(duration_s / _LOST_EVERY_S)):
        begin = int(rng.integers(points))
        lost[begin : begin + int(rng.integers(1, _LOST_POINTS + 1))] = True
    return lost


def _drawn(session: SimulatedSession, times_s: Sequence[float], spec: FaceInput, rng: np.random.Generator) -> Bytes:
    small = replace(session, size=(240, 320) if rng.random() < 0.7 else (480, 640))
    crops = []
    for t_s in times_s:
        frame, box = small.frame(t_s)
        crops.append(_crop(frame, jittered_box(box, rng), spec))
    return np.stack(crops)


def _looks(
    session: SimulatedSession, gaze: GazeSamples, times_s: Sequence[float], window: WindowSpec, fixation: FixationInput
) -> tuple[Bytes, Bools, Bytes | None]:
    """Fixation maps, whether any gaze is in them, and the scene where there is a camera for it."""
    count = len(times_s)
    maps = np.zeros((count, *fixation.size), np.uint8)
    reached = np.zeros(count, bool)
    scenes = np.zeros((count, 3, *fixation.size), np.uint8) if session.scene else None
    scratch = np.empty(fixation.size, np.float32)
    for point, t_s in enumerate(times_s):
        stop = round(t_s * 1e9)
        reached[point] = fixation_token_map_into(
            scratch, gaze, stop - window.face_cadence_ms * 1_000_000, stop, fixation.sigma_px
        )
        maps[point] = np.rint(scratch * 255)
        if scenes is not None:
            seen = fuse_gaze_frame(session.scene_frame(t_s), scratch, fixation.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
            scenes[point] = np.rint(np.clip(seen[:3], 0, 1) * 255)
    return maps, reached, scenes


def _truth(
    session: SimulatedSession, times_s: Sequence[float], classes: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Labels of the window that ends at each point: what holds for most of its last two seconds."""
    place = {name: classes.index(name) if name in classes else UNKNOWN for name in EXPRESSIONS}
    labels = np.zeros((2, len(times_s)), np.int64)
    affect = np.zeros((len(times_s), len(AFFECT)), np.float32)
    for point, t_s in enumerate(times_s):
        stop = max(t_s, times_s[1] if len(times_s) > 1 else 1.0)
        span = (max(0.0, stop - LABEL_SPAN_S), stop)
        for row, line in enumerate((session.felt, session.shown)):
            labels[row, point] = place[line.label(*span)]
            affect[point, 2 * row : 2 * row + 2] = line.valence_arousal(*span)
        affect[point, 4] = 3 * session.shown.intensity(*span)
    return labels[0], labels[1], affect


# -- as a configuration asks for them ---------------------------------------------------------------------------------


class _Run(NamedTuple):
    """What of a configuration decides how sessions come out."""

    seed: int
    classes: tuple[str, ...]
    face: FaceInput
    window: WindowSpec
    fixation: FixationInput


def load_simulated(
    source: SimulatedSessions, configuration: Any, folder: Path, report: Report = lambda line: None
) -> list[SessionData]:
    """Make the sessions that a configuration asks for, or take them from the cache.

    Parameters
    ----------
    source : SimulatedSessions
    configuration : Configuration
        Its seed, classes, face, window and fixation are read.
    folder : Path
        Where caches lie.

    Raises
    ------
    EmertError
        If pictures cannot be read, or an expression has none.
    """
    run = _Run(*(getattr(configuration, name) for name in _Run._fields))
    decides = repr((_CACHE_FORMAT, source, run, [_state(face) for face in source.faces]))
    key = hashlib.sha256(decides.encode()).hexdigest()[:16]

    def make() -> list[SessionData]:
        return make_session_data(
            source.sessions, run.seed, source.split, source.session_s, _bank(source, run, folder, report),
            run.face, run.window, run.fixation, report, classes=run.classes, drawn=source.drawn, folds=source.folds,
        )  # fmt: skip

    return _cached(folder / f"simulated-{key}.npz", make)


def _bank(source: SimulatedSessions, run: _Run, folder: Path, report: Report) -> FaceBank | None:
    if not source.faces:
        return None
    parts = []
    for face in source.faces:
        report(f"faces of the sessions: {getattr(face, 'path', face.kind)}")
        pictures = gather_faces(face, run.seed, run.classes, run.face, folder)
        if source.held_out:
            pictures = pictures[stratified_split(pictures.labels, source.held_out, run.seed)[1]]
        parts.append(pictures)
    return FaceBank(FaceImages.joined(parts), run.classes)


def _cached(file: Path, make: Callable[[], list[SessionData]]) -> list[SessionData]:
    """What a file holds, or what `make` gives, which is then kept there."""
    if not file.exists():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}.part")
        with aside.open("wb") as handle:
            np.savez(handle, **dict(_entries(made)))  # type: ignore[arg-type]
        aside.replace(file)
        return made
    plain = ("id", "subject", "stimulus")
    sessions: dict[str, dict[str, Any]] = {}
    with np.load(file, allow_pickle=False) as stored:
        for entry in stored.files:
            number, name = entry.split("/")
            value = stored[entry]
            sessions.setdefault(number, {"scenes": None})[name] = (
                str(value) if name in plain else int(value) if name == "fold" else value
            )
    return [SessionData(**held) for held in sessions.values()]


def _entries(sessions: Sequence[SessionData]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for number, session in enumerate(sessions):
        for field in fields(session):
            value = getattr(session, field.name)
            if value is not None:
                yield f"{number}/{field.name}", np.asarray(value)
