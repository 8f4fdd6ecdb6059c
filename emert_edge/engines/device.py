"""Which device a name means, and whether it can be had here."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import Literal

from emert_edge.errors import DeviceUnavailable

__all__ = ["Device", "cuda_fault", "default_threads", "parse_device", "tensorrt_fault"]


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


def cuda_fault(index: int = 0) -> str | None:
    """Return why ONNX Runtime cannot run on GPU `index` here, or None if it should."""
    if fault := driver_fault(index):
        return fault
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return (
            f"the installed ONNX Runtime {onnxruntime.__version__} was built without CUDA; "
            "install a GPU build instead of the CPU one (docs/install.md)"
        )
    return None


def tensorrt_fault(index: int = 0) -> str | None:
    """Return why TensorRT cannot run on GPU `index` here."""
    if fault := driver_fault(index):
        return fault
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT's Python bindings are not installed (they come with JetPack)"
    return "this version of emert_edge runs bundles through ONNX Runtime only; use device='cuda'"


def require(device: Device, name: str) -> None:
    """Raise `DeviceUnavailable` with the reason unless a device that was asked for by name can be had here."""
    fault = None
    if device.kind == "cuda":
        fault = cuda_fault(device.index)
    elif device.kind == "tensorrt":
        fault = tensorrt_fault(device.index)
    if fault:
        raise DeviceUnavailable(f"device {name!r} cannot be had: {fault}; device 'auto' takes the best there is")
