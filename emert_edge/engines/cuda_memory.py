"""Memory, streams and graphs of one GPU: the only file that touches CUDA.

pycuda carries it, in the GPU's primary context, which TensorRT and ONNX Runtime use as well. CUDA graphs, which pycuda
does not know, are captured through the driver itself. Another layer takes its place by being a `CudaDevice`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.errors import EngineError

__all__ = ["CudaDevice", "CudaGraph", "CudaStream", "DeviceMemory", "open_cuda"]

FloatArray = npt.NDArray[np.float32]

NON_BLOCKING = 1
"""Stream flag: it does not wait for the default stream, which other libraries use."""

THREAD_LOCAL = 1
"""Capture mode: what other threads do meanwhile, allocating say, does not spoil the capture."""


class DeviceMemory(Protocol):
    """Memory on the GPU."""

    @property
    def address(self) -> int:
        """Where it lies on the GPU."""

    def free(self) -> None:
        """Give it back; may be called twice."""


class CudaGraph(Protocol):
    """Work that was captured once and is started as one."""

    def launch(self) -> None:
        """Enqueue all of it on the stream that it was captured from."""

    def close(self) -> None:
        """Forget it; may be called twice."""


class CudaStream(Protocol):
    """Work in order, in the background."""

    @property
    def handle(self) -> int:
        """The stream as CUDA's C interface knows it."""

    def upload(self, memory: DeviceMemory, host: FloatArray) -> None:
        """Enqueue a copy from page-locked host memory."""

    def download(self, host: FloatArray, memory: DeviceMemory) -> None:
        """Enqueue a copy into page-locked host memory."""

    def synchronize(self) -> None:
        """Wait until all is done."""

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Capture what `work` enqueues, without doing it.

        Raises
        ------
        EngineError
            Something in it cannot be captured. The stream is as before.
        """

    def close(self) -> None:
        """Forget it; may be called twice."""


class CudaDevice(Protocol):
    """One GPU. All that belongs to it is made, used and freed inside `current`."""

    def current(self, subject: str) -> AbstractContextManager[None]:
        """Make the GPU this thread's for a while; a CUDA error inside becomes an `EngineError` about `subject`."""

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        """Allocate a page-locked array of zeros, freed with the last view of it."""

    def allocate(self, size: int) -> DeviceMemory:
        """Allocate bytes on the GPU."""

    def stream(self) -> CudaStream:
        """Make a stream that does not wait for the default one."""


def open_cuda(index: int) -> CudaDevice:
    """Open GPU `index` through pycuda."""
    return _PycudaDevice(index)


_contexts: dict[int, Any] = {}
_contexts_lock = Lock()


def _primary_context(driver: Any, index: int) -> Any:
    """Retain a GPU's primary context once for the life of the process: it is shared with other libraries."""
    with _contexts_lock:
        if index not in _contexts:
            _contexts[index] = driver.Device(index).retain_primary_context()
        return _contexts[index]


class _PycudaDevice:
    def __init__(self, index: int) -> None:
        import pycuda.driver as driver

        self._driver: Any = driver
        self._index = index
        try:
            driver.init()
            self._context = _primary_context(driver, index)
        except driver.Error as error:
            raise EngineError(f"CUDA cannot open GPU {index}: {error}") from error

    @contextmanager
    def current(self, subject: str) -> Iterator[None]:
        driver = self._driver
        try:
            self._context.push()
            try:
                yield
            finally:
                driver.Context.pop()
        except driver.MemoryError as error:
            raise EngineError(
                f"{subject}: the memory of GPU {self._index} is exhausted ({error}); "
                "end other programs, or build the engine for a smaller batch"
            ) from error
        except driver.Error as error:
            raise EngineError(f"{subject}: CUDA failed on GPU {self._index}: {error}") from error

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        array: FloatArray = np.asarray(_Pinned(self, self._driver.pagelocked_empty(shape, np.float32)))
        array[:] = 0
        return array

    def allocate(self, size: int) -> _PycudaMemory:
        return _PycudaMemory(self._driver.mem_alloc(size))

    def stream(self) -> _PycudaStream:
        return _PycudaStream(self._driver, self._driver.Stream(NON_BLOCKING))


class _Pinned:
    """Owner of page-locked memory, behind the arrays over it: frees it in its context, whatever thread drops it."""

    def __init__(self, device: _PycudaDevice, array: Any) -> None:
        self._device = device
        self._array = array
        self.__array_interface__ = array.__array_interface__

    def __del__(self) -> None:
        with suppress(Exception), self._device.current("page-locked memory"):
            del self._array, self.__array_interface__


class _PycudaMemory:
    def __init__(self, allocation: Any) -> None:
        self._allocation = allocation
        self.address = int(allocation)

    def free(self) -> None:
        if self._allocation is not None:
            self._allocation.free()
            self._allocation = None


class _PycudaStream:
    def __init__(self, driver: Any, stream: Any) -> None:
        self._driver = driver
        self._stream = stream
        self.handle = int(stream.handle)

    def upload(self, memory: DeviceMemory, host: FloatArray) -> None:
        self._driver.memcpy_htod_async(memory.address, host, self._stream)

    def download(self, host: FloatArray, memory: DeviceMemory) -> None:
        self._driver.memcpy_dtoh_async(host, memory.address, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> _DriverGraph:
        driver = _driver_functions()
        graph = ctypes.c_void_p()
        _check("cuStreamBeginCapture", driver.cuStreamBeginCapture_v2(self.handle, THREAD_LOCAL))
        try:
            work()
        except BaseException as error:
            driver.cuStreamEndCapture(self.handle, ctypes.byref(graph))
            if graph:
                driver.cuGraphDestroy(graph)
            if isinstance(error, self._driver.Error):
                raise EngineError(str(error)) from error
            raise
        _check("cuStreamEndCapture", driver.cuStreamEndCapture(self.handle, ctypes.byref(graph)))
        executable = ctypes.c_void_p()
        try:
            _check("cuGraphInstantiate", driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0))
        finally:
            driver.cuGraphDestroy(graph)
        return _DriverGraph(executable, self.handle)

    def close(self) -> None:
        self._stream = None


class _DriverGraph:
    def __init__(self, executable: ctypes.c_void_p, stream: int) -> None:
        self._executable: ctypes.c_void_p | None = executable
        self._stream = stream

    def launch(self) -> None:
        _check("cuGraphLaunch", _driver_functions().cuGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        if self._executable is not None:
            _driver_functions().cuGraphExecDestroy(self._executable)
            self._executable = None


@cache
def _driver_functions() -> Any:
    """Load the driver's library, the very one that pycuda is linked to, for what pycuda leaves out."""
    driver = ctypes.CDLL("libcuda.so.1")
    pointer = ctypes.POINTER(ctypes.c_void_p)
    driver.cuStreamBeginCapture_v2.argtypes = (ctypes.c_void_p, ctypes.c_int)
    driver.cuStreamEndCapture.argtypes = (ctypes.c_void_p, pointer)
    driver.cuGraphInstantiateWithFlags.argtypes = (pointer, ctypes.c_void_p, ctypes.c_ulonglong)
    driver.cuGraphLaunch.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    driver.cuGraphExecDestroy.argtypes = (ctypes.c_void_p,)
    driver.cuGraphDestroy.argtypes = (ctypes.c_void_p,)
    driver.cuGetErrorName.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    return driver


def _check(call: str, status: int) -> None:
    if status:
        name = ctypes.c_char_p()
        _driver_functions().cuGetErrorName(status, ctypes.byref(name))
        raise EngineError(f"{call} failed with {(name.value or b'an unknown error').decode()} ({status})")
