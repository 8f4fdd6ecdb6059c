"""The layout of Hume-Reaction: a table of clips and their intensities, and the clips as videos or as cropped frames.

**Hume-Reaction is under a licence of its own and is given out by its owners, for research, to who signs it. This
project holds nothing of it; its tests draw their own.**

The table is a CSV with the columns File_ID, Adoration, Amusement, Anxiety, Disgust, Empathic-Pain, Fear, Surprise and
Split, in any order, upper and lower case alike.

An id may stand in brackets (``[00042]``), a split is Train, Val or Test. Intensities lie in [0, 1]; those of the test
split may be empty, for they are not given out: such clips are not scored. Below the media folder, or below a folder of
it that bears the split's name, a clip is either of::

    <id>.mp4        a video (.avi, .mkv, .mov, .webm too): the face is looked for in each frame
    <id>/*.jpg      frames of the cropped face, in the order of their numbers

and its sound, where it is heard, ``<id>.wav`` (.flac) or else the video's own sound track. A clip is decoded once: what
a model takes of it is kept, under a key of its files' names, sizes and times and of the settings.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import FaceInput
from emert_edge.errors import EmertError
from emert_edge.face import FaceDetector, stored_yunet
from emert_edge.reference.data.clips import ClipData, ClipSource, cropped_face, even_rows
from emert_edge.reference.data.gathering import DetectorName, detector_named
from emert_edge.reference.data.log_mel import log_mel_spans, read_sound, read_sound_track
from emert_edge.reference.data.tables import Faults, TableRow, read_text_table
from emert_edge.reference.reactions import REACTIONS, HumeData, ReactionConfig
from emert_edge.sources import open_frames
from emert_edge.sources.images import ImageFolderSource

__all__ = ["HumeClip", "HumeSplit", "load_hume", "read_hume_table"]

Report = Callable[[str], None]
Arrays = dict[str, npt.NDArray[np.generic]]

_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_SOUNDS = (".wav", ".flac")
_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "devel": "val", "development": "val",
    "test": "test",
}  # fmt: skip
_COLUMNS = ("File_ID", *REACTIONS, "Split")
#: Another meaning of what is kept needs another number.
_CACHE_VERSION = 1


@dataclass(frozen=True)
class HumeClip:
    """One row of the table."""

    id: str
    """Without brackets."""
    split: str
    """train, val or test."""
    folder: str
    """The split as the table has it."""
    intensities: tuple[float, ...]
    """Seven, in the order of `REACTIONS`; NaN where they are not given out."""
    place: str
    """Where it stands, for messages."""


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def read_hume_table(table: Path) -> list[HumeClip]:
    """Read and check the table of clips.

    Raises
    ------
    EmertError
        If the file or a column is missing, a clip stands twice, a split is unknown, or an intensity is missing, no
        number or outside [0, 1]; names line and column.
    """
    text = read_text_table(table)
    known = {_plain(name): name for name in _COLUMNS} | {"id": "File_ID", "filename": "File_ID"}
    columns = [known.get(_plain(name), "") for name in text.columns]
    for column in _COLUMNS:
        if column not in columns:
            raise EmertError(f"{table}: column {column!r} is missing; it has {', '.join(filter(None, text.columns))}")
    faults = Faults(table)
    clips, seen = [], set()
    for line, cells in zip(text.lines, text.rows, strict=True):
        row = TableRow(f"line {line}", dict(zip(columns, cells, strict=True)), faults)
        identity = (row.word("File_ID") or "").strip("[]")
        split = _SPLITS.get((row.word("Split") or "").lower())
        if not identity:
            row.fault("File_ID", "is empty")
        elif identity in seen:
            row.fault("File_ID", f"{identity!r} stands twice")
        seen.add(identity)
        if split is None:
            row.fault("Split", f"{row.word('Split') or ''!r} is no split out of Train, Val and Test")
        unlabelled = split == "test" and not any(row.word(name) for name in REACTIONS)
        values = []
        for name in REACTIONS:
            if row.word(name) is None and not unlabelled:
                row.fault(name, "is empty; an intensity in [0, 1] belongs there")
            values.append(row.number(name, 0.0, 1.0))
            if (row.word(name) or "").lower() == "nan" and split != "test":
                row.fault(name, "'nan' is not a number")
        clips.append(HumeClip(identity, split or "", row.word("Split") or "", tuple(values), row.place))
    faults.settle()
    return clips


@dataclass(frozen=True)
class _Media:
    """Where a clip's pictures and sound lie."""

    clip: HumeClip
    pictures: Path
    sound: Path | None
    """Its own file, or the video; None where nothing is heard."""


def _roots(base: Path, clip: HumeClip) -> Sequence[Path]:
    return (base, base / clip.folder, base / clip.split)


def _pictures(clip: HumeClip, source: HumeData) -> Path | None:
    for root in _roots(source.media, clip):
        if (root / clip.id).is_dir():
            return root / clip.id
        for path in (root / clip.id, *(root / f"{clip.id}{ending}" for ending in _VIDEOS)):
            if path.is_file():
                return path
    return None


def _sound(clip: HumeClip, source: HumeData, pictures: Path) -> Path | None:
    stem = clip.id if Path(clip.id).suffix.lower() not in _VIDEOS else Path(clip.id).stem
    for root in _roots(source.sound or source.media, clip):
        for ending in _SOUNDS:
            if (root / f"{stem}{ending}").is_file():
                return root / f"{stem}{ending}"
    return pictures if pictures.is_file() else None


def _find(clips: Sequence[HumeClip], source: HumeData, audio: bool) -> list[_Media]:
    if not source.media.is_dir():
        raise EmertError(f"{source.media}: there is no such folder of clips")
    faults = Faults(source.table)
    found = []
    for clip in clips:
        pictures = _pictures(clip, source)
        if pictures is None:
            faults.add(
                f"{clip.place}, column 'File_ID': neither a video {clip.id}{_VIDEOS[0]} "
                f"nor a folder {clip.id} of frames lies in {source.media}"
            )
            continue
        sound = _sound(clip, source, pictures) if audio else None
        if audio and sound is None:
            faults.add(
                f"{clip.place}, column 'File_ID': no sound {clip.id}{_SOUNDS[0]} lies in "
                f"{source.sound or source.media}, and frames have none; take a preset that only sees"
            )
        found.append(_Media(clip, pictures, sound))
    faults.settle()
    return found


def _key(path: Path, *settings: object) -> str:
    """What a cache is named by: a file's, or a folder's files', name, size and time, and the settings."""
    if path.is_dir():
        with os.scandir(path) as entries:
            stats = [entry.stat() for entry in entries]
        state = (len(stats), sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0))
    else:
        stat = path.stat()
        state = (1, stat.st_size, stat.st_mtime_ns)
    return hashlib.sha256(repr((str(path.resolve()), state, _CACHE_VERSION, settings)).encode()).hexdigest()[:32]


def _cached(file: Path, make: Callable[[], Arrays]) -> None:
    if file.exists():
        return
    made = make()
    aside = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    with aside.open("wb") as handle:
        np.savez(handle, **made)  # type: ignore[arg-type]
    aside.replace(file)


def _decoded_frames(path: Path, config: ReactionConfig, detector: FaceDetector) -> Arrays:
    clip = ClipData.empty(1, config)
    for index, image in enumerate(_even_images(path, config.frames)):
        faces = detector.detect(image)
        if faces:
            clip.frames[0, index] = cropped_face(image, faces[0].box, config.size, config.face_scale)
            clip.frame_mask[0, index] = True
    return {"frames": clip.frames[0], "frame_mask": clip.frame_mask[0]}


def _even_images(path: Path, wanted: int) -> list[npt.NDArray[np.uint8]]:
    """Pictures evenly over a video or a folder; all where they are fewer."""
    if path.is_dir():
        files = ImageFolderSource(path).files
        return [next(iter(open_frames(files[row]).frames())).image for row in even_rows(len(files), wanted)]
    video = open_frames(path)
    try:
        count = video.expected_frames
        if count is None:
            count = sum(1 for _ in video.frames())
        rows = set(even_rows(count, wanted).tolist())
        # A container may declare a few frames more than it holds: what they should have shown is then missing.
        return [frame.image for frame in video.frames() if frame.sequence in rows]
    finally:
        video.close()


def _decoded_sound(path: Path, config: ReactionConfig) -> Arrays:
    sound = read_sound(path) if path.suffix.lower() in _SOUNDS else read_sound_track(path)
    audio, mask = log_mel_spans(sound, config.spans, config.span_frames, config.mel_bins)
    return {"audio": audio, "audio_mask": mask}


class HumeSplit(ClipSource):
    """One split's clips, read from what was kept of them.

    Attributes
    ----------
    ids : tuple of str
    intensities : ndarray
        (n, 7) float32; NaN where they are not given out.
    """

    def __init__(
        self, clips: Sequence[HumeClip], files: Sequence[tuple[Path, Path | None]], config: ReactionConfig
    ) -> None:
        self.ids = tuple(clip.id for clip in clips)
        self.intensities = np.array([clip.intensities for clip in clips], np.float32).reshape(-1, len(REACTIONS))
        self._files, self._config = files, config

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> ClipData:
        clips = ClipData.empty(len(chosen), self._config)
        for place, row in enumerate(chosen.tolist()):
            pictures, sound = self._files[row]
            with np.load(pictures, allow_pickle=False) as held:
                clips.frames[place], clips.frame_mask[place] = held["frames"], held["frame_mask"]
            if sound is not None and clips.audio is not None and clips.audio_mask is not None:
                with np.load(sound, allow_pickle=False) as held:
                    clips.audio[place], clips.audio_mask[place] = held["audio"], held["audio_mask"]
        return clips


def load_hume(
    source: HumeData, config: ReactionConfig, cache: Path, report: Report = lambda line: None
) -> dict[str, HumeSplit]:
    """Decode all clips that are not yet kept, and give the splits.

    Parameters
    ----------
    source : HumeData
    config : ReactionConfig
        How clips are cut.
    cache : Path
        Where decoded clips are kept, unless `source.cache` says another place.
    report : callable
        Is given a line of progress now and then.

    Returns
    -------
    dict of str to HumeSplit
        "train", "val" and "test"; one that the table does not have is empty.

    Raises
    ------
    EmertError
        As `read_hume_table`, or if a clip's files are missing or cannot be read; names line and column.
    """
    media = _find(read_hume_table(source.table), source, config.audio)
    cache = source.cache or cache
    cache.mkdir(parents=True, exist_ok=True)
    face = FaceInput(size=config.size, scale=config.face_scale)
    best: DetectorName = "haar" if stored_yunet() is None else "yunet"

    def keep(item: _Media) -> tuple[Path, Path | None, bool, str | None]:
        found: DetectorName = "whole" if item.pictures.is_dir() else best
        name = found if source.detector == "auto" else source.detector
        key = _key(item.pictures, name, str(source.detector_model), config.frames, config.size, config.face_scale)
        pictures, sound, seen = cache / f"{key}.frames.npz", None, False
        try:
            _cached(
                pictures,
                lambda: _decoded_frames(item.pictures, config, detector_named(name, face, source.detector_model)),
            )
            with np.load(pictures, allow_pickle=False) as held:
                seen = bool(held["frame_mask"].any())
            if (heard := item.sound) is not None:
                sound = cache / f"{_key(heard, config.spans, config.span_frames, config.mel_bins)}.sound.npz"
                _cached(sound, lambda: _decoded_sound(heard, config))
        except EmertError as error:
            return pictures, sound, seen, f"{item.clip.place}: {error}"
        return pictures, sound, seen, None

    kept, faults = [], Faults(source.table)
    with ThreadPoolExecutor(source.workers) as pool:
        for done, one in enumerate(pool.map(keep, media), start=1):
            kept.append(one)
            faults.add(one[3])
            if done % max(1, len(media) // 20) == 0:
                report(f"clips: {done}/{len(media)}")
    faults.settle()
    faceless = sum(not seen for _, _, seen, _ in kept)
    if faceless:
        report(f"clips: no face was found in {faceless} of {len(media)}; they count as clips without pictures")
    rows = {split: [row for row, item in enumerate(media) if item.clip.split == split] for split in _SPLITS.values()}
    return {
        split: HumeSplit([media[row].clip for row in chosen], [kept[row][:2] for row in chosen], config)
        for split, chosen in rows.items()
    }
