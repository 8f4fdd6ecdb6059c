"""SR Research's EyeLink recordings as text (ASC, as edf2asc writes them), one or both eyes, one or several blocks.

- A sample is a line that begins with its time, between START and END. Time is milliseconds of the tracker's clock; at
  2000 Hz they have halves, or each comes twice, and both samples stay.
- Points are in pixels of the display, divided by the size that the message GAZE_COORDS (else DISPLAY_COORDS) gives:
  the pixels from the first to the last, both counted (1279 means 1280), unless that were an odd number.
- A `.` is a missing value, and so is a pupil of 0. Pupils are areas or diameters in arbitrary units:
  `metadata["pupil_kind"]`.
- The tracker's own fixations, saccades and blinks (EFIX, ESACC, EBLINK) become the recording's events, each eye's its
  own; `metadata["event_eyes"]` says whose.
- `metadata["messages"]` and `metadata["message_times_ns"]` hold every MSG, `metadata["blocks"]` what the blocks were.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Events, Fixation, Saccade
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import Block, Cells
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate
from emert_edge.sources.text_lines import TextLines, as_utf8

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "eyelink_asc"
TITLE = "an EyeLink ASC file"

_MS = 1_000_000
_MISSING = frozenset({"."})
_SPACE = np.zeros(256, dtype=np.bool_)
_SPACE[list(b" \t\r\n")] = True
_DIGITS = (ord("0"), ord("9"))
_EYES = {"LEFT": "left", "RIGHT": "right"}
#: First words of lines that say nothing about the samples behind them (but for the screen's size).
_WORDS = frozenset(
    (b"MSG", b"SFIX", b"SSACC", b"SBLINK", b"EFIX", b"ESACC", b"EBLINK", b"INPUT", b"BUTTON", b"PUPIL", b"EVENTS",
     b"PRESCALER", b"VPRESCALER")
)  # fmt: skip
_TOLD = frozenset((b"SFIX", b"SSACC", b"SBLINK", b"EVENTS", b"PRESCALER", b"VPRESCALER"))
_COORDS = re.compile(r"(GAZE|DISPLAY)_COORDS\s+(.*)")
#: Facts of the preamble, under the names they get in the metadata.
_PREAMBLE = {
    "CONVERTED FROM": "converted_from",
    "DATE": "recording_date",
    "VERSION": "version",
    "CAMERA": "camera",
    "SERIAL NUMBER": "serial_number",
    "RECORDED BY": "recorded_by",
}


def recognises(start: bytes) -> bool:
    """Whether a file that begins so is such a recording."""
    text = as_utf8(start)
    return bool(
        re.match(rb"\s*\*\* (CONVERTED FROM|DATE:)", text)
        or re.search(rb"^(MSG\s+\d|START\s+\d|SAMPLES\s+GAZE|PRESCALER\s)", text, re.M)
    )


def read(path: Path, name: str) -> GazeRecording:
    """Read such a recording.

    Raises
    ------
    GazeFormatError
        If a line cannot be read, samples are no gaze on a screen of known size, or two recordings are in one file.
    """
    return _Recording(path, name).recording()


class _Recording:
    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.text = TextLines(path)
        self.header = ["time"]
        self.words: int | None = None  # in each sample of the block
        self.inside = False
        self.eyes: list[str] = []
        self.coords: dict[str, tuple[float, float, float, float]] = {}
        self.size: tuple[int, int] | None = None
        self.blocks: list[dict[str, Any]] = []
        self.facts: dict[str, str] = {}
        self.pupil_kinds: set[str] = set()
        self.messages: list[str] = []
        self.message_times: list[int] = []
        self.found: dict[str, list[tuple[Any, str]]] = {"fixations": [], "saccades": [], "blinks": []}
        self.skipped: Counter[str] = Counter()

    @property
    def encoding(self) -> str:
        return self.text.encoding

    def recording(self) -> GazeRecording:
        samples = GazeSamples.concatenate(self._pieces())
        if not len(samples):
            raise GazeFormatError(f"{self.path}: the file holds no samples; convert it with edf2asc, samples included")
        require_plausible_rate(samples, "ms", f"{self.path}, times")
        for found in self.found.values():
            found.sort(key=lambda pair: pair[0].start_ns)
        fixations, saccades, blinks = (tuple(event for event, _ in found) for found in self.found.values())
        events = Events(fixations, saccades, blinks, method=VENDOR)
        rates = sorted({block["rate_hz"] for block in self.blocks if block["rate_hz"]})
        metadata = {
            "device": self.facts.pop("device", "EyeLink"),
            "rate_hz_stated": rates[0] if len(rates) == 1 else rates or None,
            **self.facts,
            **measured(samples),
            "time_unit": "ms",
            "encoding": self.encoding,
            "pupil_kind": "/".join(sorted(self.pupil_kinds)).lower() or None,
            "blocks": self.blocks,
            "rows_skipped": dict(self.skipped),
            "event_eyes": {kind: "".join(eye for _, eye in found) for kind, found in self.found.items()},
            "messages": np.array(self.messages, dtype=object),
            "message_times_ns": np.array(self.message_times, dtype=np.int64),
        }
        return GazeRecording(samples, VENDOR, self.name, events if len(events) else None, metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        for text, first_line in self.text.blocks():
            if b"\0" in text:
                at = first_line + text[: text.index(b"\0")].count(b"\n")
                raise GazeFormatError(f"{self.path}, line {at}: NUL bytes; the file is damaged")
            yield from self._of_block(text if text.endswith(b"\n") else text + b"\n", first_line)

    def _of_block(self, text: bytes, first_line: int) -> Iterator[GazeSamples]:
        data = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.append(0, ends[:-1] + 1)
        space = _SPACE[data]
        borders = np.flatnonzero(space[1:] != space[:-1]) + 1
        if not space[0]:
            borders = np.append(0, borders)
        words, word_ends = borders[0::2], borders[1::2]  # the text's last byte is a line's end
        first_word = np.searchsorted(words, starts)
        count = np.diff(np.append(first_word, words.size))
        is_sample = (data[starts] >= _DIGITS[0]) & (data[starts] <= _DIGITS[1])
        waiting = 0  # samples before this line have been read

        def taken(until: int) -> GazeSamples | None:
            rows = waiting + np.flatnonzero(is_sample[waiting:until])
            if not rows.size:
                return None
            return self._samples(text, words, word_ends, first_word[rows], count[rows], first_line + rows)

        for row in np.flatnonzero(~is_sample & (count > 0)).tolist():
            line = text[starts[row] : ends[row]]
            if (_first_word(line) not in _WORDS or b"_COORDS" in line) and (piece := taken(row)) is not None:
                yield piece
                waiting = row
            self._line(line, first_line + row)
        if (piece := taken(starts.size)) is not None:
            yield piece

    def _samples(
        self,
        text: bytes,
        words: npt.NDArray[np.intp],
        word_ends: npt.NDArray[np.intp],
        first: npt.NDArray[np.intp],
        count: npt.NDArray[np.intp],
        lines: npt.NDArray[np.int64],
    ) -> GazeSamples:
        place = f"{self.path}, line {int(lines[0])}"
        if not self.inside:
            raise GazeFormatError(
                f"{place}: a sample outside of START … END; convert the file with edf2asc, events included"
            )
        if not self.eyes:
            raise GazeFormatError(f"{place}: a sample, and no SAMPLES line says of which eye")
        needed = 1 + 3 * len(self.eyes)
        if self.words is None:
            self.words = max(int(count[0]), needed)
        wrong = np.flatnonzero(count != self.words)
        if wrong.size:
            row = int(wrong[0])
            raise GazeFormatError(
                f"{self.path}, line {int(lines[row])}: {int(count[row])} words where this block's samples have "
                f"{self.words}; the file is damaged or cut off"
            )
        left, top, width, height = self._screen(place)
        begins, ends = (places.astype(np.int32) for places in (words, word_ends))
        cells = {column: Cells(text, begins[first + column], ends[first + column]) for column in range(needed)}
        block = Block(self, lines, cells)
        named: dict[str, npt.NDArray[np.float64]] = {}
        for number, eye in enumerate(self.eyes):
            x, y, pupil = (block.numbers(1 + 3 * number + part, _MISSING) for part in range(3))
            pupil[pupil == 0] = np.nan
            named |= {f"{eye}_x": (x - left) / width, f"{eye}_y": (y - top) / height, f"pupil_{eye}": pupil}
        return GazeSamples(
            t_ns=block.times_ns(0, _MS),
            **named,
            pupil_unit="au",
            space="screen",
            size_px=(width, height),
            clock=f"file:{self.name}",
        )

    def _screen(self, place: str) -> tuple[float, float, int, int]:
        coords = self.coords.get("GAZE") or self.coords.get("DISPLAY")
        if coords is None:
            raise GazeFormatError(
                f"{place}: no message GAZE_COORDS or DISPLAY_COORDS says how large the screen is; convert the file "
                "with edf2asc, messages included"
            )
        left, top, right, bottom = coords
        # The last pixel's number makes a screen of one more; programs that give the size instead make it odd.
        width, height = (round(span) + round(span) % 2 for span in (right - left, bottom - top))
        if min(width, height) < 2:
            raise GazeFormatError(f"{place}: the screen's coordinates {coords} leave no screen")
        if self.size not in (None, (width, height)):
            raise GazeFormatError(f"{place}: the screen changes from {self.size} to {(width, height)} within the file")
        self.size = width, height
        return left, top, width, height

    def _line(self, line: bytes, number: int) -> None:
        """A line that is no sample."""
        word = _first_word(line)
        if word == b"MSG":
            self._message(self.text.decoded(line), number)
        elif word in (b"EFIX", b"ESACC", b"EBLINK"):
            self._event(line.decode("ascii", errors="replace").split(), number)
        elif word == b"START":
            self.inside, self.eyes, self.words = True, [], None
            words = line.decode("ascii", errors="replace").split()
            self.blocks.append(
                {"start_ns": self._time(words[1:2], number), "rate_hz": None, "eyes": "", "ended": False}
            )
        elif word == b"END":
            if self.blocks:
                self.blocks[-1]["ended"] = True
            self.inside = False
        elif word == b"SAMPLES":
            self._says_samples(line.decode("ascii", errors="replace").split(), number)
        elif word == b"PUPIL":
            self.pupil_kinds.update(line.decode("ascii", errors="replace").split()[1:2])
        elif line.startswith(b"**"):
            self._preamble(self.text.decoded(line), number)
        elif self.inside and word not in _TOLD:
            if self.words is not None and len(line.split()) == self.words:
                shown = line[:60].decode("ascii", errors="replace")
                raise GazeFormatError(f"{self.path}, line {number}: neither a sample nor an event: {shown!r}")
            self.skipped[word.decode("ascii", errors="replace")[:20] or "text"] += 1

    def _time(self, words: list[str], number: int) -> int:
        try:
            value = Decimal(words[0])
            if not value.is_finite() or not 0 <= value < 10**12:
                raise InvalidOperation
            return int((value * _MS).to_integral_value())
        except (IndexError, InvalidOperation):
            shown = words[0][:40] if words else ""
            raise GazeFormatError(f"{self.path}, line {number}: not a time: {shown!r}") from None

    def _message(self, line: str, number: int) -> None:
        words = line.split(None, 2)
        self.message_times.append(self._time(words[1:2], number))
        text = words[2].rstrip() if len(words) > 2 else ""
        self.messages.append(text)
        if (match := _COORDS.match(text)) is not None:
            try:
                sides = [float(word) for word in match[2].split()]
            except ValueError:
                sides = []
            if len(sides) != 4 or not all(abs(side) < 1e6 for side in sides):
                raise GazeFormatError(
                    f"{self.path}, line {number}: not four coordinates of a screen: {match[2][:60]!r}"
                )
            self.coords[match[1]] = (sides[0], sides[1], sides[2], sides[3])

    def _says_samples(self, words: list[str], number: int) -> None:
        place = f"{self.path}, line {number}"
        kind = words[1] if len(words) > 1 else ""
        if kind != "GAZE":
            raise GazeFormatError(
                f"{place}: samples are {kind or 'of no kind'}, not GAZE: points on the screen are needed; convert the "
                "file with edf2asc -sg"
            )
        if not self.inside:
            raise GazeFormatError(f"{place}: SAMPLES outside of START … END; the file is damaged")
        self.eyes = [_EYES[word] for word in words if word in _EYES]
        self.words = None
        self.header = ["time", *(f"{eye} {what}" for eye in self.eyes for what in ("x", "y", "pupil"))]
        block = self.blocks[-1]
        block["eyes"] = " ".join(self.eyes)
        block["remote"] = "HTARGET" in words
        for word, key in (("RATE", "rate_hz"), ("TRACKING", "tracking"), ("FILTER", "filter")):
            if word in words[:-1]:
                block[key] = words[words.index(word) + 1]
        try:
            block["rate_hz"] = float(block["rate_hz"]) if block["rate_hz"] else None
        except ValueError:
            raise GazeFormatError(f"{place}: RATE is no number: {block['rate_hz'][:40]!r}") from None

    def _event(self, words: list[str], number: int) -> None:
        kind = words[0]
        values = {"EFIX": 6, "ESACC": 9, "EBLINK": 3}[kind]
        place = f"{self.path}, line {number}"
        if len(words) < 2 + values or words[1] not in ("L", "R"):
            raise GazeFormatError(f"{place}: {kind} needs an eye and {values} values; the file is damaged or cut off")
        start, stop = self._time(words[2:3], number), self._time(words[3:4], number)
        try:
            told = [float("nan") if word == "." else float(word) for word in words[4 : 2 + values]]
        except ValueError as error:
            raise GazeFormatError(f"{place}: {kind}: {error}") from None
        if kind == "EBLINK":
            self.found["blinks"].append((Blink(start, stop, "vendor"), words[1]))
            return
        left, top, width, height = self._screen(place)
        points = [
            ((value - top) / height if axis % 2 else (value - left) / width) for axis, value in enumerate(told[1:5])
        ]
        if kind == "EFIX":
            self.found["fixations"].append((Fixation(start, stop, points[0], points[1], float("nan")), words[1]))
        else:
            self.found["saccades"].append((Saccade(start, stop, told[5], told[6], *points), words[1]))

    def _preamble(self, line: str, number: int) -> None:
        text = line[2:].strip()
        if self.blocks and text.startswith(("CONVERTED FROM", "DATE:")):
            raise GazeFormatError(f"{self.path}, line {number}: a second recording begins here; one recording a file")
        for title, key in _PREAMBLE.items():
            if text.startswith(title):
                self.facts.setdefault(key, text[len(title) :].lstrip(": "))
                return
        # The one line without a title: software, its version and date, and the model in brackets.
        if text.startswith("EYELINK"):
            self.facts["software_version"] = text
            if (match := re.search(r"\((.+)\)", text)) is not None:
                self.facts["device"] = match[1]


def _first_word(line: bytes) -> bytes:
    """The word that says what a line is; calibrations go on in lines that begin with space."""
    return b"" if line[:1].isspace() else line.split(None, 1)[0]
