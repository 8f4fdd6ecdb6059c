"""One person's stream: push what arrives, take what is ready.

A session keeps what its next windows need and no more: the newest frame of each grid cell until its place on the grid
has come, the tokens of one window, and the gaze that no eye token has swallowed yet. The work of a window is done when
it is taken, by the `Recognizer`, so that many sessions can share one batch.
"""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import Manifest
from emert_edge.clock import ClockMap
from emert_edge.encoder_inputs import EncoderInput, FaceCrop, GazeFrame
from emert_edge.errors import QueueOverflow, SessionClosed
from emert_edge.estimate import Estimate, FaceBox
from emert_edge.eye.baseline import SubjectBaseline
from emert_edge.eye.features import FEATURE_NAMES, eye_features
from emert_edge.eye.fixation import fixation_token_map_into
from emert_edge.eye.points import gaze_points
from emert_edge.eye.samples import GazeSamples
from emert_edge.face.crop import crop_affine
from emert_edge.face.detection import require_frame
from emert_edge.face.tracking import FaceTracker
from emert_edge.journal import Journal
from emert_edge.window import FrameCells, GazeStore, Grid, HeldFrame

if TYPE_CHECKING:
    from emert_edge.recognizer import Recognizer

__all__ = ["EyeTokens", "Session", "Token", "Window"]

FloatArray = npt.NDArray[np.float32]

MAX_WAITING_BYTES = 512 * 1024**2
"""How much may wait in frames before a push is refused: about three minutes of 720p that nobody took."""

MAX_JUMP_NS = 3_600 * 1_000_000_000
"""No stream leaps an hour ahead of the others: that is a wrong unit or another clock."""

_COLORS = ("bgr", "rgb")


@dataclass(slots=True)
class Token:
    """One grid point's face or fixation token; `vector` is None where it is missing, and filled in by an encoder."""

    vector: FloatArray | None = None
    slot: object | None = None  # where it also lies on a GPU
    skew_ns: int = 0
    face: FaceBox | None = None
    seen: bool = False  # a frame was there, whether or not it showed a face; of a fixation token: it shows a scene


Encode: TypeAlias = Callable[[Token, EncoderInput], None]
"""An encoder's way in: the token to fill, and what the encoder reads, to be released."""


@dataclass(slots=True)
class Window:
    """One window, ready for the head as soon as its tokens' vectors are filled in."""

    t_ns: int
    start_ns: int
    sequence: int
    faces: tuple[Token, ...]
    fixations: tuple[Token, ...]
    gaze: float  # share of eye tokens with valid gaze
    skew_ns: int
    pupil: bool
    dropped_frames: int
    late_samples: int
    synchronised: bool


@dataclass(slots=True)
class _Replayed:
    """What a replay holds ready: how many windows may be taken, and tokens where frames were not kept."""

    tokens: dict[int, tuple[Token, Token]] | None
    windows: int = 0


class EyeTokens:
    """The eye tokens of one window: features, already normalised, gaze points, and what they rest on. Oldest first.

    A token without valid gaze is 0 throughout: under a mask that means nothing, and a head without masks reads zeros.
    """

    def __init__(self, manifest: Manifest) -> None:
        count = manifest.window.eye_tokens
        width = len(manifest.eye.features) if manifest.eye is not None else 0
        self.features = np.zeros((count, width), np.float32)
        self.points = np.zeros((count, 2), np.float32)
        self.mask = np.zeros(count, np.float32)
        self.pupil = np.zeros(count, bool)
        self.skew_ns = np.zeros(count, np.int64)
        self._point_scale = None
        if manifest.points is not None:
            self._point_scale = np.asarray(manifest.points.scale, np.float32)
        if manifest.eye is not None:
            names = manifest.eye.features
            self._columns = np.array([FEATURE_NAMES.index(name) if name else 0 for name in names], np.intp)
            self._mean = np.asarray(manifest.eye.mean, np.float32)
            scale = 1.0 / np.asarray(manifest.eye.std, np.float64)
            self._scale = np.where([not name for name in names], 0.0, scale).astype(np.float32)
            self._clip = np.float32(np.inf if manifest.eye.clip is None else manifest.eye.clip)
            self._baseline: SubjectBaseline | None = None
            if manifest.eye.baseline_tokens:
                self._baseline = SubjectBaseline(names, manifest.eye.baseline_tokens)

    def shift(self, tokens: int) -> int:
        """Make room for tokens at the end and say how many are new."""
        count = len(self.mask)
        new = min(tokens, count)
        for array in (self.features, self.points, self.mask, self.pupil, self.skew_ns):
            array[: count - new] = array[new:].copy()
        return new

    def fill(self, samples: GazeSamples, start_ns: int, stop_ns: int, new: int) -> None:
        """Compute the last `new` tokens from the samples of [start, stop)."""
        last = slice(len(self.mask) - new, None)
        span = (stop_ns - start_ns) // new
        valid = samples.valid
        token = ((samples.t_ns - start_ns) // span).astype(np.intp)
        self.mask[last] = np.bincount(token[valid], minlength=new) > 0
        missing = self.mask[last] == 0
        if self.features.shape[1]:
            features = eye_features(samples, start_ns, stop_ns, new)[:, self._columns]
            if self._baseline is not None:
                self._baseline.apply(features)
            features -= self._mean
            features *= self._scale
            np.clip(features, -self._clip, self._clip, out=self.features[last])
            self.features[last][missing] = 0
        if self._point_scale is not None:
            self.points[last] = gaze_points(samples, start_ns, stop_ns, new) * self._point_scale
            self.points[last][missing] = 0
        pupil = (samples.pupil_left > 0) | (samples.pupil_right > 0)
        self.pupil[last] = np.bincount(token[pupil], minlength=new) > 0
        newest = np.full(new, start_ns, np.int64)
        np.maximum.at(newest, token[valid], samples.t_ns[valid])
        ends = start_ns + span * np.arange(1, new + 1, dtype=np.int64)
        self.skew_ns[last] = np.where(self.mask[last] > 0, ends - newest, 0)


class Session:
    """One stream's state; made by `Recognizer.session`.

    Time is data time: nothing here looks at the wall clock. `push_*` may be called from several threads; `estimates`
    and `Recognizer.step` belong to one.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        stride_s: float | None = None,
        clock: str = "monotonic",
        journal: Journal | None = None,
    ) -> None:
        if not isinstance(clock, str) or not clock:
            raise TypeError("clock must be the name of a clock domain")
        self._recognizer = recognizer
        self._manifest = recognizer.bundle.manifest
        self._stride_ns = _stride(stride_s, self._manifest)
        self._clocks = ClockMap(clock)
        self._lock = Lock()
        self._closed = False
        self._tracker = FaceTracker(recognizer._detector)
        self._map = np.zeros(self._manifest.fixation.size, np.float32) if self._manifest.fixation is not None else None
        self._journal = journal
        self._replayed: _Replayed | None = None
        self._clear()
        if journal is not None:
            journal.started(clock, self._stride_ns)

    def _clear(self) -> None:
        window = self._manifest.window
        self._grid: Grid | None = None
        self._newest: dict[str, int] = {}
        self._finished = False
        self._emitted = 0
        self._undelivered: list[Estimate] = []
        self._last_ns: int | None = None
        self._late = 0
        self._dropped = 0
        self._space: dict[str, str] = {}
        self._pupil_unit: str | None = None
        self._unsynchronised: list[tuple[int, int]] = []  # first and last times of gaze from a clock without an offset
        self._gaze = GazeStore()
        allocate = self._recognizer._frame_memory
        self._cells = {"face": FrameCells(allocate), "scene": FrameCells(allocate)}
        self._face_tokens: deque[Token] = deque(maxlen=window.face_tokens)
        self._fixation_tokens: deque[Token] = deque(maxlen=window.face_tokens)
        self._next_point: int | None = None
        self._eye = EyeTokens(self._manifest)
        self._tracker.reset()

    # -- pushing ------------------------------------------------------------------------------------------------------

    def push_face(self, frame: npt.NDArray[np.uint8], t_ns: int, *, color: str = "bgr") -> None:
        """Take a camera frame; what is kept is copied.

        Parameters
        ----------
        frame
            `(H, W, 3)` uint8, any strides.
        t_ns
            Time in the session's clock.
        color
            "bgr" or "rgb".

        Raises
        ------
        SessionClosed
            After `finish` or `close`.
        QueueOverflow
            Too many frames wait to be taken by `estimates`.
        TypeError, ValueError
            An argument is of the wrong type, shape or range, or `t_ns` leaps more than an hour ahead.
        """
        self._push_frame("face", frame, t_ns, color)

    def push_scene(self, frame: npt.NDArray[np.uint8], t_ns: int, *, color: str = "bgr", space: str = "scene") -> None:
        """Take a frame of what the person sees; as `push_face`.

        A bundle that takes gaze points has no use for scenes: the frame's time counts as any stream's does, the frame
        itself is not kept, and no estimate lacks it.

        Parameters
        ----------
        space
            "scene" for a head-worn scene camera, "screen" for a recording of the screen: the space that the gaze must
            be in.

        Raises
        ------
        ValueError
            The gaze is in another space, or as in `push_face`.
        """
        if space not in ("scene", "screen"):
            raise ValueError(f"space must be 'scene' or 'screen', not {space!r}")
        self._push_frame("scene", frame, t_ns, color, space)

    def push_gaze(self, samples: GazeSamples) -> None:
        """Take gaze samples, any number, in any order of time.

        Raises
        ------
        ValueError
            The samples are in another space than the scene or than earlier samples, their pupil unit changed, or their
            times leap more than an hour ahead.
        TypeError
            `samples` are no `GazeSamples`.
        SessionClosed
            After `finish` or `close`.
        """
        if not isinstance(samples, GazeSamples):
            raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
        with self._lock:
            self._require_open()
            if len(samples):
                self._take_gaze(samples)
                if self._journal is not None:
                    self._journal.gaze(samples)

    def _take_gaze(self, samples: GazeSamples) -> None:
        self._check_space("gaze", samples.space)
        if samples.pupil_unit is not None and self._pupil_unit not in (None, samples.pupil_unit):
            raise ValueError(
                f"samples: pupil_unit changed from {self._pupil_unit!r} to {samples.pupil_unit!r}; "
                "one session takes one unit: reset() begins anew"
            )
        offset = self._clocks.offset(samples.clock)
        times = samples.t_ns if not offset else samples.t_ns + np.int64(offset)
        first, last = int(times.min()), int(times.max())
        if offset is None and self._leaps(first, last):
            # Times of an unknown clock that cannot be meant: the face goes on alone, and the estimates say why.
            now = max(self._newest.values())
            self._note_unsynchronised(now, now)
            self._late += len(samples)
            return
        self._arrive("gaze", first, last)
        self._space["gaze"] = samples.space or self._space.get("gaze", "")
        self._pupil_unit = samples.pupil_unit or self._pupil_unit
        if offset is None:
            self._note_unsynchronised(first, last)
        keep: slice | npt.NDArray[np.bool_] = slice(None)
        if self._last_ns is not None and first < self._last_ns:  # at that time begins a token that is not due yet
            keep = times >= self._last_ns
            self._late += len(times) - int(np.count_nonzero(keep))
        self._gaze.append(times[keep], samples, keep)

    def _push_frame(
        self,
        stream: str,
        frame: npt.NDArray[np.uint8],
        t_ns: int,
        color: str,
        space: str | None = None,
    ) -> None:
        require_frame(frame)
        t_ns = _time(t_ns)
        if color not in _COLORS:
            raise ValueError(f"color must be 'bgr' or 'rgb', not {color!r}")
        with self._lock:
            self._require_open()
            self._take_frame(stream, frame, t_ns, color, space)
            if self._journal is not None:
                self._journal.frame(stream, frame, t_ns, color, space)

    def _take_frame(
        self, stream: str, frame: npt.NDArray[np.uint8] | None, t_ns: int, color: str, space: str | None
    ) -> None:
        """Note that a frame came, and keep it; of a recording that kept none there is only its time."""
        self._check_space("scene", space)
        late = self._last_ns is not None and t_ns <= self._last_ns
        kept = None if late or (stream == "scene" and self._manifest.fixation is None) else frame
        if kept is not None:  # before anything is noted: what is refused has not been
            held = sum(cells.held_bytes for cells in self._cells.values())
            if held + kept.nbytes > MAX_WAITING_BYTES:
                raise QueueOverflow(
                    f"{MAX_WAITING_BYTES >> 20} MiB of frames wait to be encoded; call estimates() more often"
                )
        grid = self._arrive(stream, t_ns, t_ns)
        if space is not None:
            self._space["scene"] = space
        self._late += late
        if kept is not None:
            self._cells[stream].put(grid.cell_of(t_ns), kept, t_ns, color)

    def _arrive(self, stream: str, first_ns: int, last_ns: int) -> Grid:
        """Note that a stream has reached a time; the first datum of all anchors the grid."""
        if self._leaps(first_ns, last_ns):
            raise ValueError(
                f"t_ns: {stream} at {last_ns / 1e9:.3f} s is more than an hour away from the session's newest datum "
                f"({max(self._newest.values()) / 1e9:.3f} s): a wrong unit, or another clock (set_clock_offset, reset)"
            )
        if last_ns - first_ns > MAX_JUMP_NS:
            raise ValueError(
                f"t_ns: {stream} samples span {(last_ns - first_ns) / 1e9:.0f} s in one push: a wrong unit?"
            )
        if self._grid is None:
            self._grid = Grid.of(self._manifest.window, first_ns, self._stride_ns)
        elif self._last_ns is None and first_ns < self._grid.anchor_ns:
            # Until the first estimate the grid begins with the earliest datum, whichever stream brought it first.
            self._grid = Grid.of(self._manifest.window, first_ns, self._stride_ns)
            for cells in self._cells.values():
                cells.rearrange(self._grid.cell_of)
        self._newest[stream] = max(last_ns, self._newest.get(stream, last_ns))
        return self._grid

    def _leaps(self, first_ns: int, last_ns: int) -> bool:
        """Say whether times lie more than an hour away from all that has come so far."""
        if not self._newest:
            return False
        newest = max(self._newest.values())
        return last_ns - newest > MAX_JUMP_NS or newest - first_ns > MAX_JUMP_NS

    def _note_unsynchronised(self, first_ns: int, last_ns: int) -> None:
        if self._unsynchronised:
            begin, end = self._unsynchronised[-1]
            span_ns = self._manifest.window.eye_span_ms * 1_000_000
            if first_ns <= end + span_ns and last_ns >= begin - span_ns:  # pieces that follow each other are one span
                self._unsynchronised[-1] = (min(begin, first_ns), max(end, last_ns))
                return
        self._unsynchronised.append((first_ns, last_ns))

    def _check_space(self, stream: str, space: str | None) -> None:
        if space is None:
            return
        other = next((name for name, known in self._space.items() if known and known != space), None)
        if other is not None:
            remedy = "reset() begins anew"
            if "scene" in (stream, other):
                remedy = (
                    "a recording of the screen is pushed with push_scene(…, space='screen') and given to run() with "
                    "scene_space='screen' (--scene-space screen)"
                )
            raise ValueError(
                f"{stream} is in {space!r} coordinates and the session's {other} in {self._space[other]!r}: they "
                f"cannot be laid over each other; {remedy}"
            )

    def set_clock_offset(self, domain: str, offset_ns: int) -> None:
        """Declare that session time = time in `domain` + `offset_ns` for all data pushed from now on."""
        if not isinstance(domain, str) or not domain:
            raise TypeError("domain must be the name of a clock domain")
        offset_ns = _time(offset_ns, "offset_ns")
        with self._lock:
            self._require_usable()
            self._clocks.set_offset(domain, offset_ns)
            if self._journal is not None:
                self._journal.offset(domain, offset_ns)

    def finish(self) -> None:
        """Say that no more input comes: what is left becomes due."""
        with self._lock:
            self._require_usable()
            self._finished = True
            if self._journal is not None:
                self._journal.finished()

    def reset(self) -> None:
        """Forget everything but the clock offsets and begin anew, as a new session would."""
        with self._lock:
            self._require_usable()
            self._clear()
            if self._journal is not None:
                self._journal.reset()

    def close(self) -> None:
        """End the session, and finish its recording; may be called twice.

        Raises
        ------
        EmertError
            What was recorded could not be written.
        """
        with self._lock:
            if self._closed:
                return
            self._clear()
            self._closed = True
        if self._journal is not None:
            self._journal.close()

    def _require_usable(self) -> None:
        if self._closed:
            raise SessionClosed("this session is closed; make a new one with Recognizer.session()")

    def _require_open(self) -> None:
        self._require_usable()
        if self._finished:
            raise SessionClosed("this session was finished and takes no more input; reset() begins anew")

    # -- taking -------------------------------------------------------------------------------------------------------

    def estimates(self) -> list[Estimate]:
        """Return what is due, each once, in order; never waits.

        Raises
        ------
        SessionClosed
            After `close`.
        EngineError
            The engine failed.
        """
        return self._recognizer.step([self])[0]

    def _count_lost(self, *, frames: int = 0, samples: int = 0) -> None:
        if not (frames or samples):
            return
        with self._lock:
            self._dropped += frames
            self._late += samples
            if self._journal is not None:
                self._journal.lost(frames, samples)

    def _settle(self, estimates: Sequence[Estimate]) -> None:
        """The tokens of the windows that were opened are as they will be, and this is what they say."""
        self._undelivered += estimates
        if self._journal is not None:
            self._journal.settled(estimates)

    def _delivered(self) -> list[Estimate]:
        """Take the estimates that nobody has been given yet."""
        estimates, self._undelivered = self._undelivered, []
        return estimates

    # -- replaying ----------------------------------------------------------------------------------------------------

    def _replay(self, *, tokens: bool) -> None:
        """Take windows only as `_grant` says; with `tokens`, take what was recorded instead of encoding frames."""
        self._replayed = _Replayed({} if tokens else None)

    def _push_mark(self, stream: str, t_ns: int, color: str, space: str | None) -> None:
        """Note that a frame came whose picture was not kept."""
        with self._lock:
            self._require_open()
            self._take_frame(stream, None, _time(t_ns), color, space)
            if self._journal is not None:
                self._journal.frame(stream, None, t_ns, color, space)

    def _grant(self, tokens: Mapping[int, tuple[Token, Token]]) -> None:
        """Let one more window be taken; its new tokens by the times of their grid points."""
        assert self._replayed is not None
        self._replayed.windows += 1
        if self._replayed.tokens is not None:
            self._replayed.tokens.update(tokens)

    def _due(self, most: int) -> list[int]:
        """Return the times of the next due windows, `most` at most."""
        with self._lock:
            self._require_usable()
            grid = self._grid
            if grid is None:
                return []
            if self._replayed is not None:
                most = min(most, self._replayed.windows)
            oldest, newest = min(self._newest.values()), max(self._newest.values())
            reached = newest if self._finished else max(oldest, newest - grid.max_wait_ns)
            times: list[int] = []
            while len(times) < most and grid.due_time(self._emitted + len(times)) <= reached:
                times.append(grid.due_time(self._emitted + len(times)))
            if self._finished and most and not times and self._last_ns is None:
                # A recording shorter than half a window still gets its answer, where all of it has been seen. Gaze at
                # an instant belongs to the token that begins there.
                ends = [t_ns + (stream == "gaze") for stream, t_ns in self._newest.items()]
                times.append(grid.point_time(max(grid.cell_of(max(ends)), 0)))
            if self._replayed is not None:
                self._replayed.windows -= len(times)
            return times

    def _open_window(
        self,
        t_ns: int,
        encode_face: Encode,
        encode_fixation: Encode,
        take_eye: Callable[[EyeTokens], None],
    ) -> Window:
        """Take a due window; hand its new frames to the encoders and its eye tokens to `take_eye`."""
        taken: list[tuple[Token, HeldFrame]] = []
        with self._lock:
            self._require_usable()
            grid = self._grid
            assert grid is not None
            start_ns = t_ns - grid.window_ns
            self._fill_eye(grid, t_ns)
            take_eye(self._eye)
            last_point = grid.last_point(t_ns)
            first_point = last_point - grid.face_tokens + 1
            next_point = first_point if self._next_point is None else max(first_point, self._next_point)
            recorded = None if self._replayed is None else self._replayed.tokens
            points: list[tuple[int, Token, Token]] = []
            for point in range(next_point, last_point + 1):
                time = grid.point_time(point)
                token, fixation = Token(), Token()
                if recorded is not None:
                    token, fixation = recorded.pop(time, (token, fixation))
                elif (held := self._cells["face"].take(point)) is not None:
                    token.seen, token.skew_ns = True, time - held.t_ns
                    taken.append((token, held))
                if recorded is None:
                    self._fill_fixation(fixation, self._cells["scene"].take(point), time, grid, encode_fixation)
                points.append((time, token, fixation))
                self._face_tokens.append(token)
                self._fixation_tokens.append(fixation)
            self._next_point = last_point + 1
            for cells in self._cells.values():
                cells.forget(last_point + 1)
            self._gaze.forget(t_ns - grid.window_ns)
            self._last_ns = t_ns
            sequence, self._emitted = self._emitted, self._emitted + 1
            dropped, late = self._dropped, self._late
            self._unsynchronised = [span for span in self._unsynchronised if span[1] >= start_ns]
            synchronised = not any(first < t_ns for first, _ in self._unsynchronised)
            if self._journal is not None:
                self._journal.window(t_ns, points)
        for token, held in taken:  # outside the lock: looking for a face must not hold up whoever pushes
            self._fill_face(token, held, encode_face)
        faces, fixations = tuple(self._face_tokens), tuple(self._fixation_tokens)
        skews = [token.skew_ns for token in (*faces, *fixations)]
        return Window(
            t_ns=t_ns,
            start_ns=start_ns,
            sequence=sequence,
            faces=faces,
            fixations=fixations,
            gaze=float(self._eye.mask.mean()),
            skew_ns=max(*skews, int(self._eye.skew_ns.max())),
            pupil=bool(self._eye.pupil.any()),
            dropped_frames=dropped,
            late_samples=late,
            synchronised=synchronised,
        )

    def _fill_eye(self, grid: Grid, t_ns: int) -> None:
        passed = grid.eye_tokens
        if self._last_ns is not None:
            passed = (t_ns - self._last_ns) // grid.eye_span_ns
        new = self._eye.shift(passed)
        if new:
            begin = t_ns - new * grid.eye_span_ns
            self._eye.fill(self._gaze.between(begin, t_ns), begin, t_ns, new)

    def _fill_fixation(
        self,
        token: Token,
        scene: HeldFrame | None,
        time: int,
        grid: Grid,
        encode: Encode,
    ) -> None:
        spec, fixation_map = self._manifest.fixation, self._map
        if scene is not None:
            token.seen, token.skew_ns = True, time - scene.t_ns
        if spec is None or fixation_map is None:
            return
        begin = time - grid.face_cadence_ns
        samples = self._gaze.between(begin, time)
        if fixation_token_map_into(fixation_map, samples, begin, time, spec.sigma_px):
            encode(token, GazeFrame(fixation_map, scene, spec, self._releaser("scene", scene)))
        elif scene is not None:
            self._cells["scene"].release(scene)

    def _fill_face(self, token: Token, held: HeldFrame, encode: Encode) -> None:
        spec = self._manifest.face
        frame = held.image if held.color == "bgr" else np.ascontiguousarray(held.image[:, :, ::-1])
        found = self._tracker.update(frame, held.t_ns)
        release = self._releaser("face", held)
        if found is None:
            token.skew_ns = 0
            release()
            return
        token.face = FaceBox(found.box, found.score, found.track_id)
        encode(token, FaceCrop(held, crop_affine(found.box, spec.size, spec.scale), spec, release))

    def _releaser(self, stream: str, held: HeldFrame | None) -> Callable[[], None]:
        """What gives a frame's memory back to its stream."""
        cells = self._cells[stream]
        return lambda: None if held is None else cells.release(held)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _time(value: Any, name: str = "t_ns") -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer (nanoseconds), not {type(value).__name__}")
    if not -(2**62) < int(value) < 2**62:
        raise ValueError(f"{name} is out of range: {value}")
    return int(value)


def _stride(stride_s: float | None, manifest: Manifest) -> int | None:
    if stride_s is None:
        return None
    if isinstance(stride_s, bool) or not isinstance(stride_s, numbers.Real):
        raise TypeError(f"stride_s must be a number of seconds, not {type(stride_s).__name__}")
    span_ms = manifest.window.eye_span_ms
    tokens = float(stride_s) * 1000 / span_ms
    if not 0 < tokens < 1e6 or abs(tokens - round(tokens)) > 1e-6:
        raise ValueError(f"stride_s must be a positive multiple of {span_ms / 1000} s (an eye token), not {stride_s}")
    return round(tokens) * span_ms * 1_000_000
