"""Which device a name means, and whether it can be had here."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import Literal

from emert_edge.engines.tensorrt_library import tensorrt
from emert_edge.errors import DeviceUnavailable

__all__ = [
    "Device",
    "Gpu",
    "bindings_fault",
    "cuda_fault",
    "default_threads",
    "driver_fault",
    "gpu",
    "parse_device",
    "tensorrt_fault",
    "tensorrt_way",
]

OLDEST_TENSORRT = (10, 3)
COMPUTE_CAPABILITY = (75, 76)
"""The driver's numbers for a GPU's compute capability, major and minor."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device by kind and index."""

    kind: Literal["cpu", "cuda", "tensorrt"]
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def parse_device(name: str) -> Device | None:
    """Read a device's name; None stands for `auto`.

    Raises
    ------
    ValueError
        The name is none of auto, cpu, cuda, cuda:N, tensorrt, tensorrt:N.
    """
    if not isinstance(name, str):
        raise TypeError(f"device must be a string, not {type(name).__name__}")
    if name == "auto":
        return None
    if name == "cpu":
        return Device("cpu")
    if match := re.fullmatch(r"(cuda|tensorrt)(?::(\d{1,3}))?", name):
        kind: Literal["cuda", "tensorrt"] = "cuda" if match[1] == "cuda" else "tensorrt"
        return Device(kind, int(match[2] or 0))
    raise ValueError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N")


def default_threads() -> int:
    """Choose a thread count for small machines: the cores this process may use, four at most."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def driver_fault(index: int) -> str | None:
    """Ask NVIDIA's driver whether GPU `index` is there; return why not, or None.

    The driver is asked first because some libraries crash, instead of failing, on a machine without one.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed (libcuda.so.1 was not found)"
    if status := driver.cuInit(0):
        return f"the NVIDIA driver cannot start (cuInit returned {status})"
    count = ctypes.c_int()
    if status := driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver cannot count its GPUs (cuDeviceGetCount returned {status})"
    if index >= count.value:
        return f"GPU {index} was asked for and the driver sees {count.value}"
    return None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its name and its compute capability, as "8.7"."""

    name: str
    sm: str

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.sm.replace('.', '')})"


def gpu(index: int) -> Gpu:
    """Ask the driver what GPU `index` is; only where `driver_fault` found none.

    Raises
    ------
    DeviceUnavailable
        The driver does not tell.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    numbers = [ctypes.c_int() for _ in COMPUTE_CAPABILITY]
    status = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, len(name), device)
        or any(
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            for number, attribute in zip(numbers, COMPUTE_CAPABILITY, strict=True)
        )
    )
    if status:
        raise DeviceUnavailable(f"the NVIDIA driver does not tell what GPU {index} is ({int(status)})")
    return Gpu(name.value.decode(errors="replace"), ".".join(str(number.value) for number in numbers))


def cuda_fault(index: int = 0) -> str | None:
    """Return why ONNX Runtime cannot run on GPU `index` here, or None if it should."""
    return driver_fault(index) or provider_fault("CUDA", "CUDAExecutionProvider")


def provider_fault(what: str, provider: str) -> str | None:
    """Return why ONNX Runtime lacks a provider, or None."""
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        return None
    return (
        f"the installed ONNX Runtime {onnxruntime.__version__} was built without {what}; "
        "install a GPU build instead of the CPU one (docs/install.md)"
    )


def bindings_fault() -> str | None:
    """Return why TensorRT's own bindings cannot be used, or None; only where there is a driver."""
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT's Python bindings are not installed (they come with JetPack; docs/tensorrt.md)"
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed (pip install 'emert-edge[tensorrt]')"
    try:
        version = str(tensorrt().__version__)
        importlib.import_module("pycuda.driver")
    except Exception as error:  # a library that does not load shows as several kinds of error
        return f"TensorRT's Python bindings or pycuda cannot be imported ({error})"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_TENSORRT:
        return f"TensorRT {version} is too old; {'.'.join(map(str, OLDEST_TENSORRT))} or newer is needed"
    return None


Way = Literal["bindings", "provider"]
"""How TensorRT is reached: through its own bindings, or as ONNX Runtime's provider."""


def tensorrt_way(index: int = 0) -> tuple[Way | None, str | None]:
    """Return how TensorRT can run on GPU `index` here, or None and why it cannot."""
    if fault := driver_fault(index):
        return None, fault
    if (bindings := bindings_fault()) is None:
        return "bindings", None
    if (provider := provider_fault("TensorRT", "TensorrtExecutionProvider")) is None:
        return "provider", None
    return None, f"{bindings}; and {provider}"


def tensorrt_fault(index: int = 0) -> str | None:
    """Return why TensorRT cannot run on GPU `index` here, or None if it should."""
    return tensorrt_way(index)[1]


def require(device: Device, name: str) -> None:
    """Raise `DeviceUnavailable` with the reason unless a device that was asked for by name can be had here."""
    fault = None
    if device.kind == "cuda":
        fault = cuda_fault(device.index)
    elif device.kind == "tensorrt":
        fault = tensorrt_fault(device.index)
    if fault:
        raise DeviceUnavailable(f"device {name!r} cannot be had: {fault}; device 'auto' takes the best there is")
