"""The EMER data set, in the layouts that its authors have used, as rows of the table of sessions.

**EMER is for non-commercial research only. Neither it nor anything derived from it may be copied on, published, sold or
used commercially; who wants it applies to its authors.** This project holds nothing of it; its tests draw their own.

Older layout::

    face/set1/CLIP/FRAME.jpg …  face/set5/…    face crops, in five sets: the folds
    eye/CLIP.xlsx                              Tobii's columns
    ANY.xlsx                                   ID, Emotion, Valence, Arousal, Intensity

Newer layout::

    face_light_align image/CLIP/FRAME.jpg      face crops, aligned        (`faces: images`)
    face video/CLIP.mp4                        face videos                (`faces: video`)
    eye_movement data/CLIP.xlsx                Tobii's columns
    eye_track video/CLIP.mp4                   what was watched, with the gaze drawn into it (`scene: true`)
    EMER_label.xlsx                            labels of emotion and of expression
    emer_set.txt                               the folds

What is not published is asked for instead of guessed: which number means which class, and the names of the newer
workbook's columns. Of the newer layout only the names above are published. `emer_set.txt` is read in two forms: lines
of a clip and the number of its set (``CLIP 3``), or lines ``set3``, each followed by the set's clips. Valence and
arousal are published to lie in [-1, 1], the intensity in [0, 3].

Frames come in the order of their numbers: frame2 before frame10.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from emert_edge.errors import EmertError
from emert_edge.reference.data.gathering import DetectorName
from emert_edge.reference.data.gaze_workbook import read_gaze_workbook
from emert_edge.reference.data.sessions import DataInputs, RecordedSessions, SessionRow, load_rows
from emert_edge.reference.data.tables import Faults, TableRow, label_map, read_rows
from emert_edge.reference.data.windows import AFFECT, UNKNOWN, SessionData
from emert_edge.reference.settings import Settings
from emert_edge.sources import GazeRecording, open_gaze

__all__ = ["EmerSessions", "EmerTask", "load_emer", "read_emer"]

log = logging.getLogger("emert_edge")

Report = Callable[[str], None]
Range = tuple[float, float]

TERMS = "EMER: for non-commercial research only; neither it nor what derives from it may be passed on or published"

_IMAGES, _VIDEO, _EYE, _SCENE = "face_light_align image", "face video", "eye_movement data", "eye_track video"
_SET = re.compile(r"set\s*_?([0-9]+)\s*:?", re.IGNORECASE)
_VIDEOS = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
_TABLES = frozenset((".csv", ".tsv", ".xlsx"))


class EmerTask(Settings):
    """One task's labels: a workbook's columns, and what their values mean."""

    task: Literal["emotion", "expression"]
    workbook: str | None = Field(
        None, description="below the data set's folder; EMER_label.xlsx, or its only workbook, if not given"
    )
    sheet: str | int = 0
    id_column: str = "ID"
    class_column: str | None = "Emotion"
    valence_column: str | None = "Valence"
    arousal_column: str | None = "Arousal"
    intensity_column: str | None = Field("Intensity", description="read for the expression only")
    labels: dict[str | int, str] = Field(
        default_factory=dict, description='what the column of classes holds, to classes; "" leaves a label unknown'
    )
    valence_range: Range = Field((-1.0, 1.0), description="what the workbook's ends are, laid on -1 and 1")
    arousal_range: Range = (-1.0, 1.0)
    intensity_range: Range = Field((0.0, 3.0), description="laid on 0 and 3")

    @field_validator("valence_range", "arousal_range", "intensity_range")
    @classmethod
    def _rising(cls, value: Range) -> Range:
        if not value[0] < value[1]:
            raise ValueError("the lower end comes first, and the two differ")
        return value


class EmerSessions(RecordedSessions):
    """The EMER data set, which one has been given by its authors."""

    kind: Literal["emer"]
    tasks: tuple[EmerTask, ...] = Field(min_length=1, max_length=2)
    faces: Literal["images", "video"] = Field("images", description="which of the newer layout's faces")
    detector: DetectorName = Field("whole", description="what finds faces; the images are face crops already")
    scene: bool = Field(False, description="whether the newer layout's videos of the screen are taken as scenes")
    fps: float = Field(30.0, gt=0, description="images a second")
    screen_px: tuple[int, int] | None = Field(None, description="width and height, where a workbook does not say it")
    gaze_rate_hz: float | None = Field(None, gt=0, description="samples a second, for workbooks without times")
    names: str | None = Field(
        None, description="a clip's name as a regular expression with the groups subject and stimulus"
    )
    sets: str = Field("emer_set.txt", description="the folds of the newer layout, below the data set's folder")
    leave_out: tuple[str, ...] = Field((), description="clips that are not read")
    licence: str = TERMS

    def describe(self) -> str:
        """What it is, for a card."""
        return "the EMER data set (no redistribution, no commercial use)"

    @field_validator("names")
    @classmethod
    def _groups(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = set(re.compile(value).groupindex)
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
            if not groups or groups - {"subject", "stimulus"}:
                raise ValueError(r"needs the groups (?P<subject>…), (?P<stimulus>…) or both, and no others")
        return value

    @model_validator(mode="after")
    def _sound(self) -> EmerSessions:
        if len({task.task for task in self.tasks}) != len(self.tasks):
            raise ValueError("tasks: one task stands twice")
        if self.faces == "video" and "detector" not in self.model_fields_set:
            raise ValueError("detector: say what finds the faces in the videos (haar, yunet; whole if they are crops)")
        return self

    def open_gaze(self, path: Path) -> GazeRecording:
        """Read a clip's eye behaviour: a Tobii export as a workbook or as text."""
        if path.suffix.lower() == ".xlsx":
            return read_gaze_workbook(path, screen_px=self.screen_px, rate_hz=self.gaze_rate_hz)
        return open_gaze(path)

    def decoding(self) -> dict[str, Any]:
        """As `RecordedSessions.decoding`, with what is said of the workbooks."""
        return {**super().decoding(), "screen": self.screen_px, "rate": self.gaze_rate_hz}


def load_emer(source: EmerSessions, inputs: DataInputs, folder: Path, report: Report = log.info) -> list[SessionData]:
    """Read the EMER data set, from the cache where it is there; `report` is told its terms.

    Parameters and errors are those of `emert_edge.reference.data.sessions.load_sessions`.
    """
    return load_rows(read_emer(source, inputs.classes, report), source, inputs, folder, report)


def read_emer(source: EmerSessions, classes: Sequence[str], report: Report = log.info) -> list[SessionRow]:
    """Find the clips, their labels and their folds; opens no recording.

    Raises
    ------
    EmertError
        If the folder is in neither layout, a clip lacks a file or a label, a label cannot be read, or what a label
        means is not said; the first ten faults in one message.
    """
    report(TERMS)
    root = source.path
    faces, eyes, scenes = _folders(source)
    recordings = _by_name(eyes, _TABLES)
    screens = _by_name(scenes, _VIDEOS) if scenes else {}
    folds = _folds(root / source.sets)
    faults = Faults(root)
    labelled = [_read_labels(task, root, classes, faults) for task in source.tasks]
    rows = []
    clips = list(_clips(faces))
    for clip in sorted(set(source.leave_out) - {clip for clip, *_ in clips}):
        near = difflib.get_close_matches(clip, [held for held, *_ in clips], 1)
        faults.add(f"`leave_out`: no clip is called {clip!r}" + (f"; is {near[0]!r} meant?" if near else ""))
    for clip, face, fold in clips:
        if clip in source.leave_out:
            continue
        place = f"clip {clip!r}"
        for folder, files in ((eyes, recordings), *(((scenes, screens),) if scenes else ())):
            if clip not in files:
                faults.add(
                    f"{place}: nothing in {folder.name!r} has its name; mend it, or name the clip in `leave_out`"
                )
        whose = re.fullmatch(source.names, clip) if source.names else None
        if source.names and whose is None:
            faults.add(f"{place}: its name does not fit `names`: {source.names}")
        named = whose.groupdict() if whose else {}
        row = SessionRow(
            id=clip,
            place=place,
            face=face,
            gaze=recordings.get(clip),
            scene=screens.get(clip),
            scene_space="screen",
            fps=source.fps,
            subject=named.get("subject"),
            stimulus=named.get("stimulus"),
            fold=folds.get(clip) if fold is None else fold,
        )
        for labels in labelled:
            if clip not in labels.rows:
                faults.add(f"{place}: no label of the {labels.task.task} has its name; mend it, or leave the clip out")
            else:
                row = labels.laid_on(row, classes)
        rows.append(row)
    if not rows:
        faults.add(f"{faces.name!r} holds no clips")
    faults.settle()
    without = sum(row.fold is None for row in rows)
    report(f"EMER: {len(rows)} clips" + (f", {without} of them in no set" if without else ""))
    return rows


def _folders(source: EmerSessions) -> tuple[Path, Path, Path | None]:
    """Where faces, eye behaviour and scenes lie."""
    root = source.path
    if not root.is_dir():
        raise EmertError(f"{root}: there is no such folder; EMER is given by its authors, on application")
    if any((root / name).is_dir() for name in (_IMAGES, _VIDEO, _EYE)):
        chosen = [_IMAGES if source.faces == "images" else _VIDEO, _EYE, *([_SCENE] if source.scene else [])]
    elif (root / "face").is_dir() and source.faces == "images" and not source.scene:
        chosen = ["face", "eye"]
    else:
        found = ", ".join(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise EmertError(
            f"{root}: not EMER as its settings say: 'face' and 'eye', or {_IMAGES!r} (or {_VIDEO!r}) and {_EYE!r} "
            f"are looked for, there is {found}"
        )
    for name in chosen:
        if not (root / name).is_dir():
            raise EmertError(f"{root}: the folder {name!r} is missing")
    faces, eyes, *scenes = (root / name for name in chosen)
    return faces, eyes, scenes[0] if scenes else None


def _clips(folder: Path) -> Iterator[tuple[str, Path, int | None]]:
    """Name, face and set of each clip: a folder of images, or a video."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and (match := _SET.fullmatch(entry.name)):
            yield from ((clip, path, int(match[1])) for clip, path, _ in _clips(entry))
        elif entry.is_dir():
            yield entry.name, entry, None
        elif entry.suffix.lower() in _VIDEOS:
            yield entry.stem, entry, None


def _by_name(folder: Path, endings: frozenset[str]) -> dict[str, Path]:
    """Files by their names without ending; Excel's lock files are none."""
    return {
        file.stem: file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in endings and not file.name.startswith((".", "~$"))
    }


def _folds(file: Path) -> dict[str, int]:
    """The set of each clip, where the file is there."""
    folds: dict[str, int] = {}
    if not file.is_file():
        return folds
    current: int | None = None
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise EmertError(f"{file}: no text in UTF-8; save it as such") from None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        pair = re.fullmatch(r"(.*\S)[\s,;]+(?:set\s*_?)?([0-9]+)", text, re.IGNORECASE)
        if heading := _SET.fullmatch(text):
            current = int(heading[1])
        elif text and current is not None:
            folds[text] = current
        elif pair:
            folds[pair[1].rstrip(" \t,;")] = int(pair[2])
        elif text:
            raise EmertError(f"{file}: line {number}: {text!r} is neither a clip with its set nor a set's heading")
    return folds


@dataclass(frozen=True)
class _Labels:
    """A task's labels by clip."""

    task: EmerTask
    rows: dict[str, TableRow]
    known: dict[str, str]

    def laid_on(self, row: SessionRow, classes: Sequence[str]) -> SessionRow:
        """A clip's row with these labels."""
        task, cells, affect = self.task, self.rows[row.id], list(row.affect)
        for name, ends in (("valence", (-1.0, 1.0)), ("arousal", (-1.0, 1.0)), ("intensity", (0.0, 3.0))):
            column = getattr(task, f"{name}_column")
            if column is not None and (title := f"{task.task}_{name}") in AFFECT:
                low, high = getattr(task, f"{name}_range")
                share = (cells.number(column, low, high) - low) / (high - low)
                affect[AFFECT.index(title)] = ends[0] + share * (ends[1] - ends[0])
        label = UNKNOWN if task.class_column is None else cells.label(task.class_column, classes, self.known)
        if task.task == "emotion":
            return replace(row, affect=tuple(affect), emotion=label)
        return replace(row, affect=tuple(affect), expression=label)


def _read_labels(task: EmerTask, root: Path, classes: Sequence[str], faults: Faults) -> _Labels:
    """A task's rows, once all that their classes say is known to mean something."""
    workbook = root / task.workbook if task.workbook else _workbook(root)
    rows = read_rows(workbook, (task.id_column,), faults, task.sheet)
    there = rows[0].cells
    for name in ("class", "valence", "arousal", *(("intensity",) if task.task == "expression" else ())):
        column = getattr(task, f"{name}_column")
        if column is not None and column not in there:
            raise EmertError(
                f"{workbook}: column {column!r} is missing; it has {', '.join(filter(None, there))}. Say with "
                f"`{name}_column` which one it is, or null if there is none"
            )
    known = label_map(task.labels, classes, f"{workbook}, {task.task}")
    if task.class_column is not None:
        values = sorted({word for row in rows if (word := row.word(task.class_column)) is not None}, key=_by_value)
        if any(known.get(value.lower(), value.lower()) not in (*classes, "") for value in values):
            raise EmertError(
                f"{workbook}: column {task.class_column!r} holds {', '.join(values)}. What they mean is not published: "
                f"say with `labels` of the {task.task} which class each is, as in {{{values[0]}: {classes[0]}, …}}; "
                f"classes are {', '.join(classes)}"
            )
    held: dict[str, TableRow] = {}
    for row in rows:
        clip = row.word(task.id_column)
        if clip is None:
            row.fault(task.id_column, "is empty")
        elif clip in held:
            row.fault(task.id_column, f"{clip!r} stands in {held[clip].place} already")
        else:
            held[clip] = row
    return _Labels(task, held, known)


def _workbook(root: Path) -> Path:
    """The data set's labels, where the settings do not name them."""
    there = [file for file in sorted(root.glob("*.xlsx")) if not file.name.startswith((".", "~$"))]
    named = [file for file in there if file.name == "EMER_label.xlsx"]
    if len(chosen := named or there) == 1:
        return chosen[0]
    found = ", ".join(file.name for file in there) or "none"
    raise EmertError(f"{root}: which workbook holds the labels? Say it with `workbook`; there is {found}")


def _by_value(text: str) -> tuple[float, str]:
    """Numbers by value, then words."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text
