"""A GPU that is none: pycuda's driver module and the driver's own functions, over NumPy.

It is stricter than the real thing: work waits in its stream until somebody synchronises, memory must be page-locked and
of the right size, and whatever is done without a current context is an error.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["FakeGpu"]

CAPTURE_INVALIDATED = 901


class FakeGpu:
    """State of one invented GPU, and what was asked of it.

    Attributes
    ----------
    events : list of str
        What streams and graphs were told, in order.
    limit : int
        Bytes that may be allocated.
    capture_fails : bool
        Whether ending a capture is refused, as after work that cannot be captured.
    """

    def __init__(self, name: str = "Orin", sm: tuple[int, int] = (8, 7), count: int = 1) -> None:
        self.name, self.sm, self.count = name, sm, count
        self.events: list[str] = []
        self.limit = 1 << 30
        self.capture_fails = False
        self.allocations = 0
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.pinned: dict[int, int] = {}
        self.streams: dict[int, _Stream] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self._next = 0x7F00_0000_0000
        self._stacks = threading.local()
        self.driver = _Driver(self)

    # -- contexts -----------------------------------------------------------------------------------------------------

    @property
    def contexts(self) -> list[Any]:
        """This thread's stack of contexts."""
        if not hasattr(self._stacks, "contexts"):
            self._stacks.contexts = []
        return self._stacks.contexts  # type: ignore[no-any-return]

    def require_context(self) -> None:
        if not self.contexts:
            raise self.pycuda.driver.LogicError("invalid device context: no context is current in this thread")

    # -- memory and streams -------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        self.require_context()
        if size <= 0:
            raise self.pycuda.driver.LogicError("cuMemAlloc failed: invalid argument")
        if sum(len(block) for block in self.memory.values()) + size > self.limit:
            raise self.pycuda.driver.MemoryError("cuMemAlloc failed: out of memory")
        self._next += 0x1000_0000
        self.memory[self._next] = np.full(size, 0xFF, np.uint8)  # NaN until something is copied there
        self.allocations += 1
        return self._next

    def at(self, address: int, size: int) -> np.ndarray[Any, Any]:
        return self.memory[address][:size]

    def enqueue(self, handle: int, event: str, work: Callable[[], None]) -> None:
        self.require_context()
        stream = self.streams[handle]
        if stream.captured is not None:
            stream.captured.append(work)
            self.events.append(f"capture {event}")
        else:
            stream.queue.append(work)
            self.events.append(event)

    # -- pycuda -------------------------------------------------------------------------------------------------------

    def make_pycuda(self) -> dict[str, ModuleType]:
        """Return the modules `pycuda` and `pycuda.driver`."""
        gpu = self
        package, driver = (_module(name) for name in ("pycuda", "pycuda.driver"))
        package.driver = driver  # type: ignore[attr-defined]

        class Error(Exception):
            pass

        class MemoryError(Error):  # pycuda's name
            pass

        class LogicError(Error):
            pass

        class Context:
            def __init__(self, index: int) -> None:
                self.index = index

            def push(self) -> None:
                gpu.contexts.append(self)

            @staticmethod
            def pop() -> None:
                if not gpu.contexts:
                    raise LogicError("cannot pop context from empty stack")
                gpu.contexts.pop()

        class Device:
            def __init__(self, index: int) -> None:
                if index >= gpu.count:
                    raise LogicError("cuDeviceGet failed: invalid device ordinal")
                self.index = index

            def retain_primary_context(self) -> Context:
                return Context(self.index)

        class DeviceAllocation:
            def __init__(self, size: int) -> None:
                self._address = gpu.allocate(size)

            def __int__(self) -> int:
                return self._address

            def free(self) -> None:
                gpu.require_context()
                del gpu.memory[self._address]

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                gpu.require_context()
                assert flags == 1, "a stream that waits for the default one"
                self.handle = 0x5000 + len(gpu.streams)
                gpu.streams[self.handle] = _Stream()

            def synchronize(self) -> None:
                gpu.require_context()
                gpu.events.append("synchronize")
                queue, gpu.streams[self.handle].queue = gpu.streams[self.handle].queue, []
                for work in queue:
                    work()

        def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> Any:
            gpu.require_context()
            array = np.full(shape, np.nan, dtype)
            address = array.ctypes.data
            gpu.pinned[address] = array.nbytes
            gpu.allocations += 1

            def release() -> None:
                assert gpu.contexts, "page-locked memory was freed without its context"
                del gpu.pinned[address]

            weakref.finalize(array, release).atexit = False
            return array

        def pinned_bytes(array: Any) -> Any:
            first, last = array.ctypes.data, array.ctypes.data + array.nbytes
            assert array.flags.c_contiguous
            assert any(begin <= first and last <= begin + size for begin, size in gpu.pinned.items()), "not page-locked"
            return array.reshape(-1).view(np.uint8)

        def memcpy_htod_async(dest: int, src: Any, stream: Stream) -> None:
            source = pinned_bytes(src)
            target = gpu.at(dest, source.nbytes)
            assert len(target) == source.nbytes
            gpu.enqueue(stream.handle, "upload", lambda: np.copyto(target, source))

        def memcpy_dtoh_async(dest: Any, src: int, stream: Stream) -> None:
            target = pinned_bytes(dest)
            source = gpu.at(src, target.nbytes)
            assert len(source) == target.nbytes
            gpu.enqueue(stream.handle, "download", lambda: np.copyto(target, source))

        for name, member in (
            *((kind.__name__, kind) for kind in (Error, MemoryError, LogicError, Context, Device, Stream)),
            ("init", lambda: None),
            ("mem_alloc", DeviceAllocation),
            ("pagelocked_empty", pagelocked_empty),
            ("memcpy_htod_async", memcpy_htod_async),
            ("memcpy_dtoh_async", memcpy_dtoh_async),
        ):
            setattr(driver, name, member)
        self.pycuda = SimpleNamespace(driver=driver)
        return {"pycuda": package, "pycuda.driver": driver}


class _Stream:
    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


class _Function:
    """A function of a C library: called, and told its arguments' types."""

    def __init__(self, body: Callable[..., int]) -> None:
        self._body = body
        self.argtypes: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> int:
        return self._body(*arguments)


class _Driver:
    """What `ctypes` finds in the driver's library."""

    def __init__(self, gpu: FakeGpu) -> None:
        def get_name(buffer: Any, size: int, device: Any) -> int:
            buffer.value = gpu.name.encode()[: size - 1]
            return 0

        def get_attribute(number: Any, attribute: int, device: Any) -> int:
            number._obj.value = {75: gpu.sm[0], 76: gpu.sm[1]}[attribute]
            return 0

        def begin_capture(stream: int, mode: int) -> int:
            gpu.require_context()
            gpu.events.append("begin capture")
            assert mode == 1, "another thread's allocation would spoil this capture"
            assert not gpu.streams[stream].queue, "a capture begins while work is waiting"
            gpu.streams[stream].captured = []
            return 0

        def end_capture(stream: int, graph: Any) -> int:
            gpu.events.append("end capture")
            captured, gpu.streams[stream].captured = gpu.streams[stream].captured, None
            if gpu.capture_fails:
                return CAPTURE_INVALIDATED
            assert captured is not None
            graph._obj.value = _keep(captured)
            return 0

        def _keep(work: list[Callable[[], None]]) -> int:
            gpu.graphs[handle := 0x9000 + len(gpu.graphs)] = work
            return handle

        def instantiate(executable: Any, graph: Any, flags: int) -> int:
            executable._obj.value = _keep(list(gpu.graphs[graph.value]))
            return 0

        def launch(executable: Any, stream: int) -> int:
            gpu.require_context()
            gpu.events.append("launch")
            gpu.streams[stream].queue.extend(gpu.graphs[executable.value])
            return 0

        def destroy(graph: Any) -> int:
            gpu.graphs[graph.value] = []  # its number is not given to another
            return 0

        def error_name(status: int, name: Any) -> int:
            name._obj.value = {CAPTURE_INVALIDATED: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"}.get(status, b"CUDA_ERROR")
            return 0

        def get_count(count: Any) -> int:
            count._obj.value = gpu.count
            return 0

        def get_device(device: Any, index: int) -> int:
            device._obj.value = index
            return 0 if index < gpu.count else 101

        self.cuInit = _Function(lambda flags: 0)
        self.cuDeviceGetCount = _Function(get_count)
        self.cuDeviceGet = _Function(get_device)
        self.cuDeviceGetName = _Function(get_name)
        self.cuDeviceGetAttribute = _Function(get_attribute)
        self.cuStreamBeginCapture_v2 = _Function(begin_capture)
        self.cuStreamEndCapture = _Function(end_capture)
        self.cuGraphInstantiateWithFlags = _Function(instantiate)
        self.cuGraphLaunch = _Function(launch)
        self.cuGraphExecDestroy = _Function(destroy)
        self.cuGraphDestroy = _Function(destroy)
        self.cuGetErrorName = _Function(error_name)


def library_loader(gpu: FakeGpu) -> Callable[..., Any]:
    """Return what stands in for `ctypes.CDLL`: the invented driver, and any other library as it is."""
    real = ctypes.CDLL

    def load(name: Any, *arguments: Any, **options: Any) -> Any:
        return gpu.driver if name == "libcuda.so.1" else real(name, *arguments, **options)

    return load
