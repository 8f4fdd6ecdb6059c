"""The kernels on NVIDIA's GPUs: the same names, on arrays that a GPU can read.

Arrays are anything with ``__cuda_array_interface__`` or DLPack (CuPy, PyTorch, Numba, pycuda, `DeviceArray`),
page-locked NumPy arrays (`pinned`), which a GPU reads where they lie, and bare addresses such as TensorRT's bindings
(`at`). Images, maps and points may come in batches, along one more axis in front; what has no such axis serves the
whole batch. Outputs are float32 or float16 and C-contiguous.

Every call names its stream: a handle (an integer), or an object that has one (`Stream`, PyTorch's, CuPy's, pycuda's,
whatever has ``__cuda_stream__``). A call enqueues its work and returns. The ``_into`` twins neither allocate nor wait
nor touch another stream, so a CUDA graph can capture them. As everywhere in CUDA it is the caller who keeps the arrays
until the work is done, and orders streams that share them: no array is waited for, whatever its protocol says.

This module can be imported everywhere. Where the CUDA module was not built, or has no GPU, what needs one raises
`emert_edge.errors.DeviceUnavailable` with the reason; `fault` tells it beforehand. `definitions` holds what each kernel
means. The bodies ran on an H100 and on no Jetson yet; everywhere else the tests run them on the CPU, thread by thread
(docs/cuda.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import DeviceUnavailable
from emert_edge.kernels import Color

try:
    from emert_edge import _cuda
except ImportError as error:
    _cuda = None  # type: ignore[assignment]
    _absent = str(error)
else:
    _absent = ""

__all__ = [
    "DeviceArray",
    "FixationMap",
    "Stream",
    "assemble_tokens",
    "assemble_tokens_into",
    "at",
    "copy",
    "crop_normalize",
    "crop_normalize_into",
    "download",
    "empty",
    "fault",
    "fixation_map",
    "fixation_map_into",
    "fuse_gaze_frame",
    "fuse_gaze_frame_into",
    "pinned",
    "upload",
]

Array = Any
"""An array that a GPU can read: see the module's head."""

AnyStream = Any
"""A stream's handle, or an object that has one."""


def fault(device: int = 0) -> str | None:
    """Return why GPU `device` cannot run the kernels here, or None if it can."""
    if _cuda is None:
        if "_cuda" in _absent and ("cannot import name" in _absent or "No module named" in _absent):
            return "this build of emert_edge has no CUDA kernels (docs/cuda.md tells how to build them)"
        return f"the CUDA kernels cannot be loaded: {_absent}"
    return _cuda.fault(device)


def _module() -> Any:
    if _cuda is None:
        raise DeviceUnavailable(f"CUDA: {fault()}")
    return _cuda


# -- memory and streams -----------------------------------------------------------------------------------------------


class DeviceArray:
    """A C-contiguous array of a GPU, with ``__cuda_array_interface__``; `empty`, `upload` and `at` make them.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    address : int
        Where it lies on the GPU: what TensorRT takes for a tensor's address.
    """

    __slots__ = ("_owner", "address", "dtype", "shape")

    def __init__(self, address: int, shape: Sequence[int], dtype: npt.DTypeLike, owner: object = None) -> None:
        self.address = int(address)
        self.shape = tuple(int(side) for side in shape)
        self.dtype = np.dtype(dtype)
        self._owner = owner

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: int) -> DeviceArray:
        """Return one of the first axis, as a view."""
        if not self.shape:
            raise IndexError("an array without axes has no items")
        place = range(self.shape[0])[index]
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        return DeviceArray(self.address + place * step, self.shape[1:], self.dtype, self)

    def first(self, count: int) -> DeviceArray:
        """Return the first `count` of the first axis, as a view."""
        return DeviceArray(self.address, (count, *self.shape[1:]), self.dtype, self)

    def __repr__(self) -> str:
        return f"DeviceArray({self.shape}, {self.dtype}, at {self.address:#x})"


class Stream:
    """A stream that does not wait for the default one.

    Raises
    ------
    DeviceUnavailable
        There is no such GPU here, or no CUDA module.
    """

    __slots__ = ("_stream",)

    def __init__(self, device: int = 0) -> None:
        self._stream = _module().Stream(device)

    @property
    def handle(self) -> int:
        """The stream as CUDA's C interface knows it."""
        return int(self._stream.handle)

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle

    def synchronize(self) -> None:
        """Wait until all is done; other threads run meanwhile.

        Raises
        ------
        EngineError
            Something that was enqueued failed.
        """
        self._stream.synchronize()


def empty(shape: Sequence[int], dtype: npt.DTypeLike = np.float32, *, device: int = 0) -> DeviceArray:
    """Allocate an array on a GPU, freed with the last view of it.

    Raises
    ------
    DeviceUnavailable
        There is no such GPU here, or no CUDA module.
    EngineError
        Its memory does not suffice.
    """
    size = math.prod(int(side) for side in shape) * np.dtype(dtype).itemsize
    memory = _module().DeviceMemory(size, device)
    return DeviceArray(memory.address, shape, dtype, memory)


def pinned(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Allocate a page-locked NumPy array, uninitialised, which every GPU reads and writes where it lies.

    Raises
    ------
    DeviceUnavailable, EngineError
        As `empty`.
    """
    count = math.prod(int(side) for side in shape)
    memory = _module().PinnedMemory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(tuple(shape))


def at(address: int, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> DeviceArray:
    """Lay an array over memory that somebody else owns, such as a TensorRT binding's."""
    return DeviceArray(address, shape, dtype)


def copy(to: Array, source: Array, *, stream: AnyStream) -> None:
    """Enqueue a copy between arrays of one shape and dtype, C-contiguous, wherever they lie.

    From and to ordinary NumPy arrays CUDA copies through memory of its own, and waits.
    """
    _module().copy(to, source, stream)


def upload(host: npt.ArrayLike, *, stream: AnyStream, device: int = 0) -> DeviceArray:
    """Copy a NumPy array into a new one on a GPU."""
    source = np.ascontiguousarray(host)
    array = empty(source.shape, source.dtype, device=device)
    copy(array, source, stream=stream)
    return array


def download(array: Array, *, stream: AnyStream) -> npt.NDArray[Any]:
    """Copy a GPU's array, C-contiguous, into a new page-locked NumPy array, which is filled when the stream is done."""
    host = pinned(_shape(array, "array"), _dtype(array))
    copy(host, array, stream=stream)
    return host


def _shape(array: Array, name: str) -> tuple[int, ...]:
    shape: tuple[int, ...] = _module().shape_of(array, name)
    return shape


def _dtype(array: Array) -> np.dtype[Any]:
    interface = getattr(array, "__cuda_array_interface__", None)
    dtype: np.dtype[Any] = np.dtype(interface["typestr"] if interface is not None else array.dtype)
    return dtype


def _out(shape: Sequence[int], dtype: npt.DTypeLike, first: Array, name: str) -> DeviceArray:
    return empty(shape, dtype, device=max(0, _module().device_of(first, name)))


def _batch(*arrays: tuple[tuple[int, ...], int]) -> tuple[int, ...]:
    """Return the batch axis that the first array with one more axis than its own has."""
    return next((shape[:1] for shape, axes in arrays if len(shape) == axes + 1), ())


# -- kernels ----------------------------------------------------------------------------------------------------------


def fixation_map(
    xy: Array,
    weight: Array,
    shape: tuple[int, int],
    sigma: float,
    *,
    dtype: npt.DTypeLike = np.float32,
    stream: AnyStream,
) -> DeviceArray:
    """`emert_edge.kernels.fixation_map` on a GPU; one map for each set of points.

    Parameters
    ----------
    xy : (count, 2) or (n, count, 2), float32 or float64, any strides
    weight : (count,) or (n, count), float32 or float64, any strides
        Weights and sums are float32. Points that are NaN are skipped: they fill up sets of different sizes.
    shape : (height, width)
    sigma : float
        Standard deviation in pixels.
    dtype
        float32 or float16, of the maps.
    stream
        Where the work is enqueued.

    Returns
    -------
    (height, width) or (n, height, width)

    Raises
    ------
    ValueError, TypeError
        A shape, dtype, layout or device that does not fit, or an array in ordinary host memory.
    DeviceUnavailable
        There is no GPU here, or no CUDA module.
    EngineError
        CUDA failed.
    """
    batch = _batch((_shape(xy, "xy"), 2), (_shape(weight, "weight"), 1))
    out = _out((*batch, *shape), dtype, xy, "xy")
    fixation_map_into(out, xy, weight, sigma, stream=stream)
    return out


def fixation_map_into(out: Array, xy: Array, weight: Array, sigma: float, *, stream: AnyStream) -> None:
    """`fixation_map` into `out`."""
    _module().fixation_map_into(out, xy, weight, sigma, stream=stream)


class FixationMap:
    """`emert_edge.kernels.FixationMap` with its map on a GPU.

    Samples come from the host and travel inside of the launches, so their arrays are free when `add` returns. All calls
    name one stream, or streams that the caller orders. A CUDA graph that captured `add` or `read_into` repeats the same
    samples and the same time.

    Parameters
    ----------
    shape : (height, width)
    sigma : float
        Standard deviation in pixels.
    half_life_s : float
        In seconds; infinity means that nothing fades.
    stream
        Where the map is zeroed.
    device : int

    Raises
    ------
    ValueError
        A size, sigma or half-life that isn't above 0.
    DeviceUnavailable, EngineError
        As `empty`.
    """

    __slots__ = ("_stream", "_sum", "half_life_s", "shape", "sigma")

    def __init__(
        self, shape: tuple[int, int], sigma: float, half_life_s: float, *, stream: AnyStream, device: int = 0
    ) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape must have at least one pixel a side, not {shape}")
        self._sum = empty(shape, np.float64, device=device)
        self._stream = _module().FixationStream(self._sum, sigma, half_life_s, stream=stream)
        self.shape = (int(shape[0]), int(shape[1]))
        self.sigma = float(sigma)
        self.half_life_s = float(half_life_s)

    def add(
        self, t_ns: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike, *, stream: AnyStream
    ) -> None:
        """Add one sample or many, as `emert_edge.kernels.FixationMap.add` takes them: from the host."""
        self._stream.add(t_ns, x, y, weight, stream=stream)

    def read(self, t_ns: int, *, dtype: npt.DTypeLike = np.float32, stream: AnyStream) -> DeviceArray:
        """Return the map as of a time, not before the newest sample: (height, width), float32 or float16."""
        out = _out(self.shape, dtype, self._sum, "sum")
        self.read_into(out, t_ns, stream=stream)
        return out

    def read_into(self, out: Array, t_ns: int, *, stream: AnyStream) -> None:
        """`read` into `out`."""
        self._stream.read_into(out, t_ns, stream=stream)

    def reset(self, *, stream: AnyStream) -> None:
        """Forget every sample."""
        self._stream.reset(stream=stream)


def fuse_gaze_frame(
    frame: Array,
    fixation_map: Array,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
    dtype: npt.DTypeLike = np.float32,
    stream: AnyStream,
) -> DeviceArray:
    """`emert_edge.kernels.fuse_gaze_frame` on a GPU.

    Parameters
    ----------
    frame : (rows, columns, 3) or (n, rows, columns, 3) uint8, any strides
        Fastest where rows are packed and begin at multiples of four bytes.
    fixation_map : (rows', columns') or (n, rows', columns') float32, any strides
    size : (height, width)
    mean, std : (3,) arrays on the host
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
    dtype
        float32 or float16, of the result.
    stream
        Where the work is enqueued.

    Returns
    -------
    (4, height, width) or (n, 4, height, width)

    Raises
    ------
    ValueError, TypeError, DeviceUnavailable, EngineError
        As `fixation_map`.
    """
    batch = _batch((_shape(frame, "frame"), 3), (_shape(fixation_map, "fixation_map"), 2))
    out = _out((*batch, 4, *size), dtype, frame, "frame")
    fuse_gaze_frame_into(out, frame, fixation_map, mean, std, color=color, stream=stream)
    return out


def fuse_gaze_frame_into(
    out: Array,
    frame: Array,
    fixation_map: Array,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
    stream: AnyStream,
) -> None:
    """`fuse_gaze_frame` into `out`."""
    _module().fuse_gaze_frame_into(out, frame, fixation_map, mean, std, color=color, stream=stream)


def crop_normalize(
    frame: Array,
    affine: npt.ArrayLike | Array,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
    dtype: npt.DTypeLike = np.float32,
    stream: AnyStream,
) -> DeviceArray:
    """`emert_edge.kernels.crop_normalize` on a GPU; one crop for each affine, of one frame or of a frame each.

    Parameters
    ----------
    frame : (rows, columns, 3) or (n, rows, columns, 3) uint8, any strides
    affine : (2, 3) or (n, 2, 3) array
        On the host, or float64 on the GPU: then a graph reads anew at every replay, and a matrix without a finite
        inverse, which nobody can check beforehand, gives NaN.
    size : (height, width)
    mean, std : (3,) arrays on the host
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
    dtype
        float32 or float16, of the result.
    stream
        Where the work is enqueued.

    Returns
    -------
    (3, height, width) or (n, 3, height, width)

    Raises
    ------
    ValueError, TypeError, DeviceUnavailable, EngineError
        As `fixation_map`; ValueError for an affine on the host without a finite inverse as well.
    """
    on_gpu = hasattr(affine, "__cuda_array_interface__")
    affines = _shape(affine, "affine") if on_gpu else np.shape(affine)
    batch = _batch((tuple(affines), 2), (_shape(frame, "frame"), 3))
    out = _out((*batch, 3, *size), dtype, frame, "frame")
    crop_normalize_into(out, frame, affine, mean, std, color=color, stream=stream)
    return out


def crop_normalize_into(
    out: Array,
    frame: Array,
    affine: npt.ArrayLike | Array,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
    stream: AnyStream,
) -> None:
    """`crop_normalize` into `out`."""
    _module().crop_normalize_into(out, frame, affine, mean, std, color=color, stream=stream)


def assemble_tokens(
    tokens: Array, index: Array, *, dtype: npt.DTypeLike = np.float32, stream: AnyStream
) -> tuple[DeviceArray, DeviceArray]:
    """Lay tokens of a store out in the places of a head's input, and say which places have one.

    Parameters
    ----------
    tokens : (capacity, length), float32 or float16, C-contiguous
        Vectors that an encoder wrote.
    index : (…, places) int32, C-contiguous
        Which token stands at a place; one outside of [0, capacity), such as -1, means that none does.
    dtype
        float32 or float16, of both results.
    stream
        Where the work is enqueued.

    Returns
    -------
    (…, places, length), (…, places)
        The tokens, zeros where there is none; and 1 where there is one, else 0.

    Raises
    ------
    ValueError, TypeError, DeviceUnavailable, EngineError
        As `fixation_map`.
    """
    places = _shape(index, "index")
    out = _out((*places, _shape(tokens, "tokens")[-1]), dtype, tokens, "tokens")
    mask = _out(places, dtype, tokens, "tokens")
    assemble_tokens_into(out, mask, tokens, index, stream=stream)
    return out, mask


def assemble_tokens_into(out: Array, mask: Array | None, tokens: Array, index: Array, *, stream: AnyStream) -> None:
    """`assemble_tokens` into `out` and, unless it is None, `mask`."""
    _module().assemble_tokens_into(out, mask, tokens, index, stream=stream)
