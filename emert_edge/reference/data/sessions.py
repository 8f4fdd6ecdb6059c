"""The table of sessions: one row a recorded session, with its files and its labels.

================================================  =====================================================================
column                                            what it holds
================================================  =====================================================================
``id``                                            the session's name; no two rows share one
``face``                                          a video, an animated GIF or a folder of images; empty without a face
``gaze``, ``scene``                               a gaze recording (file or folder), and a video of what was seen
``subject``, ``stimulus``, ``fold``               whose session, what was watched (both texts), and a whole number
``gaze_offset_ms``                                added to the gaze's times once both begin at 0
``fps``                                           frames a second of a folder of images; 30 where nothing is said
``scene_space``                                   ``scene`` (head-worn camera) or ``screen`` (recording of it)
``emotion``, ``expression``                       classes: what is felt and what is shown
``emotion_valence``, ``emotion_arousal``,         numbers in [-1, 1]
``expression_valence``, ``expression_arousal``
``expression_intensity``                          a number in [0, 3]
``reaction_adoration``, ``reaction_amusement``,   numbers in [0, 1]
``reaction_anxiety``, ``reaction_disgust``,
``reaction_empathic_pain``, ``reaction_fear``,
``reaction_surprise``
================================================  =====================================================================

Only ``id`` and ``face`` must be there. An empty cell is unknown. Paths are relative to the table's folder.

What a recording becomes is kept in a cache, a file a session, under a key of its files (path, size, time of change) and
of everything else that decides the outcome. Labels are not part of it: they are laid over what the cache holds.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from emert_edge import __version__
from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.face import stored_yunet
from emert_edge.inputs import Inputs, Space, gaze_offset_ns
from emert_edge.reference.data.gathering import DetectorName, detector_named, gather
from emert_edge.reference.data.gaze_workbook import read_gaze_workbook
from emert_edge.reference.data.tables import Faults, TableRow, label_map, read_rows
from emert_edge.reference.data.windows import AFFECT, UNKNOWN, SessionData
from emert_edge.reference.reactions import REACTIONS
from emert_edge.reference.settings import Settings
from emert_edge.sources import GazeRecording, open_frames, open_gaze, read_columns

__all__ = [
    "COLUMNS",
    "DataInputs",
    "RecordedSessions",
    "SessionRow",
    "TableSessions",
    "load_rows",
    "load_sessions",
    "read_session_table",
]

log = logging.getLogger("emert_edge")

Report = Callable[[str], None]

#: Columns of the reactions, in the order of `REACTIONS`.
REACTION_COLUMNS = tuple("reaction_" + name.lower().replace("-", "_") for name in REACTIONS)
_FILES = ("face", "gaze", "scene")
#: All columns that a table of sessions may have.
COLUMNS = (
    "id", *_FILES, "subject", "stimulus", "fold", "gaze_offset_ms", "fps", "scene_space", "emotion", "expression",
    *AFFECT, *REACTION_COLUMNS,
)  # fmt: skip

#: Of what the cache holds; another number, and everything is decoded anew.
_FORMAT = 1


class DataInputs(Protocol):
    """What data are made for; a `Configuration` says it."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def face(self) -> FaceInput: ...

    @property
    def fixation(self) -> FixationInput: ...

    @property
    def window(self) -> WindowSpec: ...


class RecordedSessions(Settings):
    """What all sources of recorded sessions have in common."""

    path: Path
    detector: DetectorName = Field("haar", description="what finds faces; whole: frames are face crops already")
    detector_model: Path | None = Field(None, description="YuNet's model file; the user's store if not given")
    workers: int = Field(1, ge=1, description="threads that decode recordings")

    def describe(self) -> str:
        """What it is, for a card."""
        return f"sessions of {self.path.name}"

    def open_gaze(self, path: Path) -> GazeRecording:
        """Read a gaze recording."""
        return read_gaze_workbook(path) if path.suffix.lower() == ".xlsx" else open_gaze(path)

    def require(self, face: FaceInput) -> None:
        """Raise `EmertError` if what every session needs is not there: told once, not once a session."""
        detector_named(self.detector, face, self.detector_model)

    def decoding(self) -> dict[str, Any]:
        """What of these settings decides what a recording becomes, as plain values."""
        model = (self.detector_model or stored_yunet()) if self.detector == "yunet" else None
        return {"detector": self.detector, "model": _stamps(model)}


class TableSessions(RecordedSessions):
    """Sessions as a table names them: CSV, Parquet or Excel."""

    kind: Literal["table"]
    labels: dict[str | int, str] = Field(
        default_factory=dict, description='other words for classes; "" leaves a label unknown'
    )
    gaze_columns: Path | None = Field(None, description="JSON file that says what the columns of plain gaze tables are")
    licence: str = Field(description="under which terms these recordings may be used, for the card")

    def describe(self) -> str:
        """What it is, for a card."""
        return f"sessions of {self.path.name} ({self.licence})"

    def open_gaze(self, path: Path) -> GazeRecording:
        """Read a gaze recording; a plain table by the map of its columns."""
        if self.gaze_columns is None:
            return super().open_gaze(path)
        return open_gaze(path, columns=read_columns(self.gaze_columns))

    def require(self, face: FaceInput) -> None:
        """As `RecordedSessions.require`, with the map of the gaze's columns."""
        super().require(face)
        if self.gaze_columns is not None:
            read_columns(self.gaze_columns)

    def decoding(self) -> dict[str, Any]:
        """As `RecordedSessions.decoding`, with the map of the gaze's columns."""
        return {**super().decoding(), "gaze_columns": _stamps(self.gaze_columns)}


@dataclass(frozen=True)
class SessionRow:
    """One recorded session: its files, and what is known of it."""

    id: str
    place: str
    """Where it stands, for messages."""
    face: Path | None
    gaze: Path | None = None
    scene: Path | None = None
    scene_space: Space = "scene"
    fps: float = 30.0
    gaze_offset_ms: float = 0.0
    subject: str | None = None
    stimulus: str | None = None
    fold: int | None = None
    emotion: int = UNKNOWN
    expression: int = UNKNOWN
    affect: tuple[float, ...] = (math.nan,) * len(AFFECT)
    """In the order of `AFFECT`; NaN where unknown."""
    reactions: tuple[float, ...] | None = None
    """In the order of `REACTIONS`; NaN where unknown."""


def load_sessions(
    source: TableSessions, inputs: DataInputs, folder: Path, report: Report = log.info
) -> list[SessionData]:
    """Read a table of sessions and everything that it names, from the cache where it is there.

    Parameters
    ----------
    source : TableSessions
    inputs : DataInputs
        Classes, window and sizes that the data are made for: a `Configuration`.
    folder : Path
        Where the cache lies; made if it is not there.
    report : callable
        Is told what is being done, a line at a time.

    Raises
    ------
    EmertError
        If the table or a file in it is missing, or a cell, a video or a gaze recording cannot be read: with file, row
        and column, the first ten faults in one message. Cells are checked, and files looked for, before anything is
        decoded.
    """
    return load_rows(read_session_table(source, inputs.classes, report), source, inputs, folder, report)


# -- the table --------------------------------------------------------------------------------------------------------


def read_session_table(source: TableSessions, classes: Sequence[str], report: Report = log.info) -> list[SessionRow]:
    """Read and check a table of sessions; opens none of the files that it names.

    Raises
    ------
    EmertError
        If the table is missing or a cell is wrong, with row and column; the first ten faults in one message.
    """
    labels = label_map(source.labels, classes, str(source.path))
    faults = Faults(source.path)
    rows = read_rows(source.path, ("id", "face"), faults)
    for column in rows[0].cells:
        if column and column not in COLUMNS:
            if near := difflib.get_close_matches(column.lower(), COLUMNS, 1, 0.85):
                faults.add(f"column {column!r} is unknown; is {near[0]!r} meant?")
            else:
                report(f"{source.path}: column {column!r} is not read")
    made = [_session_row(row, source.path.parent, classes, labels) for row in rows]
    seen: dict[str, str] = {}
    for row, session in zip(rows, made, strict=True):
        if session.id in seen:
            row.fault("id", f"{session.id!r} is already that of {seen[session.id]}")
        seen.setdefault(session.id, row.place)
    faults.settle()
    return made


def _session_row(row: TableRow, base: Path, classes: Sequence[str], labels: dict[str, str]) -> SessionRow:
    if row.word("id") is None:
        row.fault("id", "is empty; give each session a name of its own")
    if row.word("face") is None and row.word("gaze") is None:
        row.fault("face", "nothing to read: neither a face nor a gaze recording")
    space: Space = "screen" if row.word("scene_space") == "screen" else "scene"
    if row.word("scene_space") not in (None, "scene", "screen"):
        row.fault("scene_space", f"{row.word('scene_space')!r} is neither 'scene' nor 'screen'")
    fold = row.number("fold")
    if not math.isnan(fold) and not fold.is_integer():
        row.fault("fold", f"{row.word('fold')} is not a whole number")
    fps = row.number("fps", 0.001, 100_000.0)
    offset = row.number("gaze_offset_ms", -3.6e6, 3.6e6)
    bounds = {name: (0.0, 3.0) if name.endswith("intensity") else (-1.0, 1.0) for name in AFFECT}
    reactions = tuple(row.number(name, 0.0, 1.0) for name in REACTION_COLUMNS)
    return SessionRow(
        id=row.word("id") or "",
        place=row.place,
        face=row.file("face", base),
        gaze=row.file("gaze", base),
        scene=row.file("scene", base),
        scene_space=space,
        fps=30.0 if math.isnan(fps) else fps,
        gaze_offset_ms=0.0 if math.isnan(offset) else offset,
        subject=row.word("subject"),
        stimulus=row.word("stimulus"),
        fold=None if math.isnan(fold) else int(fold),
        emotion=row.label("emotion", classes, labels),
        expression=row.label("expression", classes, labels),
        affect=tuple(row.number(name, *bounds[name]) for name in AFFECT),
        reactions=None if all(map(math.isnan, reactions)) else reactions,
    )


# -- the recordings ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One recording to decode."""

    row: SessionRow
    source: RecordedSessions
    face: FaceInput
    fixation: FixationInput
    window: WindowSpec
    file: Path

    def fault(self, error: Exception) -> str:
        """What is wrong, and in which row and column: a reader's message names the file."""
        named = [name for name in _FILES if (path := getattr(self.row, name)) and str(path) in str(error)]
        return f"{self.row.place}{f', column {named[0]!r}' if named else ''}: {error}"


def load_rows(
    rows: Sequence[SessionRow], source: RecordedSessions, inputs: DataInputs, folder: Path, report: Report = log.info
) -> list[SessionData]:
    """Decode what the cache does not hold, and lay the rows' labels over it all.

    Every recording that was decoded stays in the cache, also when another one cannot be read.

    Raises
    ------
    EmertError
        If recordings cannot be read; the first ten of them in one message.
    """
    files = [folder / f"{_key(row, source, inputs)}.npz" for row in rows]
    held = {file: _cached(file) for file in files}
    jobs = {
        file: _Job(row, source, inputs.face, inputs.fixation, inputs.window, file)
        for row, file in zip(rows, files, strict=True)
        if held[file] is None
    }
    if jobs:
        source.require(inputs.face)
        faults = Faults(source.path)
        for job in jobs.values():
            faults.add(_unopenable(job))
        faults.settle()
        folder.mkdir(parents=True, exist_ok=True)
        for done, fault in enumerate(_decoded(list(jobs.values()), source.workers), start=1):
            faults.add(fault)
            report(f"sessions: {done} of {len(jobs)} decoded")
        faults.settle()
        held.update({file: _cached(file) for file in jobs})
    return [_labelled(held[file], row) for file, row in zip(files, rows, strict=True)]


def _unopenable(job: _Job) -> str | None:
    """Decode the first frame of what has frames: what is no video shows before anything slow begins."""
    try:
        for path in filter(None, (job.row.face, job.row.scene)):
            open_frames(path, fps=job.row.fps).close()
    except EmertError as error:
        return job.fault(error)
    return None


def _decoded(jobs: Sequence[_Job], workers: int) -> Iterator[str | None]:
    """Decode; of each recording what is wrong with it, or None."""
    with ThreadPoolExecutor(workers) as pool:  # decoding, detection and kernels run outside the interpreter's lock
        try:
            yield from pool.map(_decode, jobs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _decode(job: _Job) -> str | None:
    row, source = job.row, job.source
    try:
        opened = Inputs(
            face=None if row.face is None else open_frames(row.face, fps=row.fps),
            gaze=None if row.gaze is None else source.open_gaze(row.gaze),
            scene=None if row.scene is None else open_frames(row.scene, fps=row.fps),
            scene_space=row.scene_space,
        )
        detector = detector_named(source.detector, job.face, source.detector_model)
        offset = gaze_offset_ns(row.gaze_offset_ms)
        data = gather(opened, job.face, job.fixation, job.window, detector, gaze_offset_ns=offset)
    except (EmertError, ValueError) as error:  # a ValueError says that sources do not belong together
        return job.fault(error)
    data.save(job.file)
    return None


def _labelled(data: SessionData | None, row: SessionRow) -> SessionData:
    assert data is not None  # what could not be decoded was raised
    count = len(data.face_mask)
    return replace(
        data,
        id=row.id,
        subject=row.subject,
        stimulus=row.stimulus,
        fold=row.fold,
        emotion=np.full(count, row.emotion, np.int64),
        expression=np.full(count, row.expression, np.int64),
        affect=np.tile(np.array(row.affect, np.float32), (count, 1)),
        reactions=None if row.reactions is None else np.array(row.reactions, np.float32),
    )


# -- the cache --------------------------------------------------------------------------------------------------------


def _cached(file: Path) -> SessionData | None:
    try:
        return SessionData.load(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged: decoded anew
        return None


def _key(row: SessionRow, source: RecordedSessions, inputs: DataInputs) -> str:
    decides = {
        "format": [_FORMAT, __version__],
        "files": {name: _stamps(getattr(row, name)) for name in _FILES},
        "row": [row.fps, row.gaze_offset_ms, row.scene_space],
        "source": source.decoding(),
        "face": inputs.face.model_dump(include={"size", "scale"}),
        "fixation": inputs.fixation.model_dump(include={"size", "sigma_px", "mean"}),
        "window": inputs.window.model_dump(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _stamps(path: Path | None) -> list[tuple[str, int, int]]:
    """Path, size and time of change of a file, or of all files in a folder."""
    if path is None:
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    return [(str(file.resolve()), state.st_size, state.st_mtime_ns) for file, state in states]
