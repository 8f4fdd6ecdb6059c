"""Gaze samples in their canonical form: arrays of one length, int64 nanoseconds, screen fractions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from emert_edge.eye.growing import GrowingArray

__all__ = ["ARRAY_NAMES", "GazeSamples"]

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Array = TypeVar("Array", bound=npt.NDArray[Any])

#: The float32 arrays of `GazeSamples`, in the order in which they are documented.
ARRAY_NAMES = (
    "x",
    "y",
    "left_x",
    "left_y",
    "right_x",
    "right_y",
    "pupil_left",
    "pupil_right",
    "openness_left",
    "openness_right",
)

_SPACES = ("screen", "scene", None)
_PUPIL_UNITS = ("mm", "px", "au", None)
_LABELS = ("pupil_unit", "space", "size_px", "clock")
_NAN = np.array(np.nan, dtype=np.float32)
_INT64 = np.iinfo(np.int64)
_RATE_SAMPLES = 1 << 18  # so many times are looked at together, and tell the usual step


def _frozen(array: Array) -> Array:
    """A read-only view: what was handed over stays its owner's, but nobody writes through us."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _times(value: npt.ArrayLike) -> Int64Array:
    array = np.asarray(value)
    if array.size == 0 and array.ndim == 1 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    if array.dtype.kind not in "iu":
        raise TypeError(f"t_ns must hold integers (nanoseconds), not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"t_ns must have one dimension, not {array.ndim}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > _INT64.max:
        raise ValueError("t_ns has times beyond the range of int64")
    return np.asarray(_frozen(array.astype(np.int64, copy=False)))


def _values(name: str, value: npt.ArrayLike | None, length: int) -> Float32Array:
    if value is None:
        return np.asarray(np.broadcast_to(_NAN, (length,)))
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    if array.shape[0] != length:
        raise ValueError(f"{name} has {array.shape[0]} values, t_ns has {length}: all arrays have one length")
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which counts as not valid
        return np.asarray(_frozen(array.astype(np.float32, copy=False)))


class GazeSamples:
    """Gaze samples of one person: arrays of one length, in the order in which they came.

    Every argument is a keyword. What a caller doesn't have is left out, and reads as an array of NaN (which takes no
    memory); an array of only NaN means the same. Nothing is copied that has the right type already, and the
    attributes are read-only views.

    Parameters
    ----------
    t_ns : array_like of int, shape (n,)
        Times in nanoseconds, int64. They need not rise.
    x, y : array_like, shape (n,), optional
        Point of gaze as a fraction of the width and height, origin top left, float32, NaN where not seen. The
        vendor's combined point; where a sample has none, the mean of its valid eyes is put in its place. Points
        outside 0–1 (beside the screen) are kept as they are.
    left_x, left_y, right_x, right_y : array_like, shape (n,), optional
        The same for each eye.
    pupil_left, pupil_right : array_like, shape (n,), optional
        Pupil sizes in `pupil_unit`, NaN where missing.
    openness_left, openness_right : array_like, shape (n,), optional
        Eye openness as the tracker gives it (Tobii: millimetres), NaN where missing.
    pupil_unit : {"mm", "px", "au"}, optional
        Millimetres, pixels of the eye camera, or arbitrary units.
    space : {"screen", "scene"}, optional
        What the fractions are fractions of. Not stated: the space of what the gaze is shown with.
    size_px : (width, height), optional
        Pixels of that screen or scene.
    clock : str, optional
        The domain of the times; not stated: that of the session they are pushed to.

    Raises
    ------
    TypeError
        For an argument of the wrong kind; the message names it.
    ValueError
        For a wrong number of dimensions or values, or an unknown unit or space; the message names it.

    Examples
    --------
    >>> samples = GazeSamples(t_ns=[0, 4_000_000], left_x=[0.25, 0.5], left_y=[0.5, 0.5])
    >>> samples.x.tolist(), bool(np.isnan(samples.pupil_left).all())
    ([0.25, 0.5], True)
    """

    __slots__ = ("_rising", "clock", "pupil_unit", "size_px", "space", "t_ns", *ARRAY_NAMES)

    t_ns: Int64Array
    x: Float32Array
    y: Float32Array
    left_x: Float32Array
    left_y: Float32Array
    right_x: Float32Array
    right_y: Float32Array
    pupil_left: Float32Array
    pupil_right: Float32Array
    openness_left: Float32Array
    openness_right: Float32Array
    pupil_unit: str | None
    space: str | None
    size_px: tuple[int, int] | None
    clock: str | None
    _rising: bool | None

    def __init__(
        self,
        *,
        t_ns: npt.ArrayLike,
        x: npt.ArrayLike | None = None,
        y: npt.ArrayLike | None = None,
        left_x: npt.ArrayLike | None = None,
        left_y: npt.ArrayLike | None = None,
        right_x: npt.ArrayLike | None = None,
        right_y: npt.ArrayLike | None = None,
        pupil_left: npt.ArrayLike | None = None,
        pupil_right: npt.ArrayLike | None = None,
        openness_left: npt.ArrayLike | None = None,
        openness_right: npt.ArrayLike | None = None,
        pupil_unit: str | None = None,
        space: str | None = None,
        size_px: tuple[int, int] | None = None,
        clock: str | None = None,
    ) -> None:
        times = _times(t_ns)
        length = times.shape[0]
        given = {
            "x": x,
            "y": y,
            "left_x": left_x,
            "left_y": left_y,
            "right_x": right_x,
            "right_y": right_y,
            "pupil_left": pupil_left,
            "pupil_right": pupil_right,
            "openness_left": openness_left,
            "openness_right": openness_right,
        }
        arrays = {name: _values(name, value, length) for name, value in given.items()}
        if left_x is not None or right_x is not None:
            arrays["x"], arrays["y"] = _combined(arrays)
        if pupil_unit not in _PUPIL_UNITS:
            raise ValueError(f"pupil_unit must be 'mm', 'px' or 'au', not {pupil_unit!r}")
        if space not in _SPACES:
            raise ValueError(f"space must be 'screen' or 'scene', not {space!r}")
        if clock is not None and not isinstance(clock, str):
            raise TypeError(f"clock must be a string, not {type(clock).__name__}")
        self._set(times, arrays, pupil_unit, space, _size(size_px), clock)

    def _set(
        self,
        t_ns: Int64Array,
        arrays: dict[str, Float32Array],
        pupil_unit: str | None,
        space: str | None,
        size_px: tuple[int, int] | None,
        clock: str | None,
    ) -> None:
        put = object.__setattr__
        put(self, "t_ns", t_ns)
        for name, array in arrays.items():
            put(self, name, array)
        put(self, "pupil_unit", pupil_unit)
        put(self, "space", space)
        put(self, "size_px", size_px)
        put(self, "clock", clock)
        put(self, "_rising", None)

    def _like(self, t_ns: Int64Array, arrays: dict[str, Float32Array]) -> GazeSamples:
        """Samples with these arrays, already checked, and this one's labels."""
        return GazeSamples._checked(t_ns, arrays, self.pupil_unit, self.space, self.size_px, self.clock)

    @staticmethod
    def _checked(
        t_ns: Int64Array,
        arrays: dict[str, Float32Array],
        pupil_unit: str | None = None,
        space: str | None = None,
        size_px: tuple[int, int] | None = None,
        clock: str | None = None,
    ) -> GazeSamples:
        """Samples out of what was checked before, x and y combined: costs a fraction of the constructor."""
        made = object.__new__(GazeSamples)
        made._set(t_ns, arrays, pupil_unit, space, size_px, clock)
        return made

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"GazeSamples are frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"GazeSamples are frozen: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: getattr(self, name) for name in ARRAY_NAMES if self.has(name)}
        state.update({name: getattr(self, name) for name in ("t_ns", *_LABELS)})
        return _restored, (state,)

    def __len__(self) -> int:
        return int(self.t_ns.shape[0])

    def __repr__(self) -> str:
        held = [name for name in ARRAY_NAMES if self.has(name)]
        span = f", {(int(self.t_ns.max()) - int(self.t_ns.min())) / 1e9:.3f} s" if len(self) else ""
        return f"<GazeSamples: {len(self)} samples{span}, with {', '.join(held) if held else 'no values'}>"

    def has(self, name: str) -> bool:
        """Whether the array of this name holds any finite value."""
        if name not in ARRAY_NAMES:
            raise ValueError(f"no array is called {name!r}; there are {', '.join(ARRAY_NAMES)}")
        array: Float32Array = getattr(self, name)
        if array.strides == (0,):
            array = array[:1]
        return bool(np.isfinite(array).any())

    @property
    def valid(self) -> BoolArray:
        """Which samples have a point of gaze: `x` and `y` are finite. Shape (n,), bool."""
        return np.isfinite(self.x) & np.isfinite(self.y)

    @property
    def rising(self) -> bool:
        """Whether the times never fall from one sample to the next."""
        known = self._rising
        if known is None:
            known = bool((self.t_ns[1:] >= self.t_ns[:-1]).all())
            object.__setattr__(self, "_rising", known)
        return known

    @property
    def rate_hz(self) -> float | None:
        """Samples a second, measured: the mean of the steps in time that are no gaps (at most four times the median).

        Steps back in time don't count (where they are many the times are sorted first), and samples of one time count
        as samples. None where no two times differ. (Of very many steps, evenly spread ones tell the median.)
        """
        times = self.t_ns
        count = times.shape[0] - 1
        if (times[1:] < times[:-1]).sum() > 0.25 * count:
            times = np.sort(times)
        every = max(count // _RATE_SAMPLES, 0) | 1  # odd: times that come twice must not hide all steps
        steps = times[1::every] - times[:-1:every]
        if not (steps > 0).any():
            steps = np.diff(times)
        forward = steps[steps > 0]
        if not forward.size:
            return None
        longest = 4.0 * float(np.median(forward))
        number, total = 0, 0.0
        for first in range(0, count, _RATE_SAMPLES):
            steps = np.diff(times[first : first + _RATE_SAMPLES + 1])
            usual = steps[(steps >= 0) & (steps <= longest)]
            number += usual.size
            total += float(usual.sum(dtype=np.float64))
        return float(number * 1e9 / total)

    def part(self, first: int, last: int) -> GazeSamples:
        """The samples from `first` up to, not including, `last`, by place; without a copy."""
        return self._taken(slice(first, last))

    def _taken(self, chosen: slice | npt.NDArray[Any]) -> GazeSamples:
        length = self.t_ns[chosen].shape[0]
        arrays = {}
        for name in ARRAY_NAMES:
            array = getattr(self, name)
            absent = array.strides == (0,) and len(self) > 0
            arrays[name] = np.broadcast_to(array[0], (length,)) if absent else _frozen(array[chosen])
        return self._like(np.asarray(_frozen(self.t_ns[chosen])), arrays)

    def between(self, start_ns: int, stop_ns: int) -> GazeSamples:
        """The samples with times in [start_ns, stop_ns), in their order; without a copy where the times rise."""
        start_ns, stop_ns = (min(max(edge, _INT64.min), _INT64.max) for edge in (start_ns, stop_ns))
        if self.rising:
            first, last = np.searchsorted(self.t_ns, np.array([start_ns, stop_ns], dtype=np.int64))
            return self._taken(slice(int(first), max(int(first), int(last))))
        return self._taken((self.t_ns >= start_ns) & (self.t_ns < stop_ns))

    def shifted(self, offset_ns: int) -> GazeSamples:
        """The same samples, every time later by `offset_ns`.

        Raises
        ------
        ValueError
            If a time would leave the range of int64.
        """
        if len(self):
            lowest, highest = int(self.t_ns.min()) + offset_ns, int(self.t_ns.max()) + offset_ns
            if lowest < _INT64.min or highest > _INT64.max:
                raise ValueError(f"offset_ns = {offset_ns} moves times beyond the range of int64")
        moved = np.asarray(_frozen(self.t_ns + np.int64(offset_ns if len(self) else 0)))
        return self._like(moved, {name: getattr(self, name) for name in ARRAY_NAMES})

    def in_clock(self, clock: str, offset_ns: int) -> GazeSamples:
        """The same samples in another clock's domain, every time later by `offset_ns`.

        Raises
        ------
        ValueError
            As `shifted` does.
        """
        moved = self.shifted(offset_ns)
        arrays = {name: getattr(self, name) for name in ARRAY_NAMES}
        made = object.__new__(GazeSamples)
        made._set(moved.t_ns, arrays, self.pupil_unit, self.space, self.size_px, clock)
        return made

    def sorted(self) -> GazeSamples:
        """The same samples by rising time; samples of one time keep their order."""
        if self.rising:
            return self
        return self._taken(np.argsort(self.t_ns, kind="stable"))

    @staticmethod
    def concatenate(pieces: Iterable[GazeSamples]) -> GazeSamples:
        """One after the other. A label (unit, space, size, clock) that some pieces state holds for all.

        Pieces are taken one at a time: of an iterator's none is kept, and little more memory is needed than the result
        takes.

        Raises
        ------
        ValueError
            If two pieces state different labels.
        """
        times = GrowingArray(np.int64)
        columns: dict[str, GrowingArray] = {}
        labels: dict[str, Any] = dict.fromkeys(_LABELS)
        for piece in pieces:
            for label, known in labels.items():
                stated = getattr(piece, label)
                if None not in (known, stated) and known != stated:
                    raise ValueError(f"pieces differ in {label}: {', '.join(sorted(map(repr, (known, stated))))}")
                labels[label] = stated if known is None else known
            for name in ARRAY_NAMES:
                column = getattr(piece, name)
                if len(piece) and column.strides == (0,) and np.isnan(column[0]):
                    if name in columns:
                        columns[name].repeat(np.nan, len(piece))
                    continue
                if name not in columns:
                    columns[name] = GrowingArray(np.float32)
                    columns[name].repeat(np.nan, len(times))
                columns[name].extend(column)
            times.extend(piece.t_ns)
        nothing = np.asarray(np.broadcast_to(_NAN, (len(times),)))
        arrays = {name: _frozen(columns[name].array()) if name in columns else nothing for name in ARRAY_NAMES}
        made = object.__new__(GazeSamples)
        made._set(_frozen(times.array()), arrays, **labels)
        return made


def _restored(state: dict[str, Any]) -> GazeSamples:
    return GazeSamples(**state)


def _size(size_px: tuple[int, int] | None) -> tuple[int, int] | None:
    if size_px is None:
        return None
    try:
        width, height = size_px
        size = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"size_px must be (width, height), not {size_px!r}") from None
    if min(size) <= 0:
        raise ValueError(f"size_px must be positive, not {size_px!r}")
    return size


def _combined(arrays: dict[str, Float32Array]) -> tuple[Float32Array, Float32Array]:
    """The combined point, sample by sample: so it does not matter into which pieces a stream was cut."""
    x, y = arrays["x"], arrays["y"]
    unseen = ~(np.isfinite(x) & np.isfinite(y))
    if not unseen.any():
        return x, y
    left = np.isfinite(arrays["left_x"]) & np.isfinite(arrays["left_y"])
    right = np.isfinite(arrays["right_x"]) & np.isfinite(arrays["right_y"])
    filled = []
    for vendor, axis in ((x, "x"), (y, "y")):
        left_value, right_value = arrays[f"left_{axis}"], arrays[f"right_{axis}"]
        with np.errstate(invalid="ignore"):  # infinities of the other eye, which are not chosen
            both = 0.5 * left_value + 0.5 * right_value
        mean = np.where(left, np.where(right, both, left_value), right_value)
        filled.append(_frozen(np.where(unseen & (left | right), mean, vendor).astype(np.float32, copy=False)))
    return np.asarray(filled[0]), np.asarray(filled[1])
