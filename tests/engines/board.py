"""A board that is none: the doubles of CUDA and TensorRT in the place of the real ones, in this process or another."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from emert_edge.engines import cuda_memory, tensorrt_library

from .cuda_double import FakeGpu, library_loader
from .tensorrt_double import make_tensorrt

__all__ = ["PREAMBLE", "Board", "board"]


class Board(NamedTuple):
    """An invented GPU, and the bindings on it."""

    gpu: FakeGpu
    trt: ModuleType


@contextmanager
def board(version: str = "10.3.0", *, gpu: str = "Orin", sm: tuple[int, int] = (8, 7)) -> Iterator[Board]:
    """Put a board of a TensorRT version in the place of what is here."""
    fake = FakeGpu(gpu, sm)
    trt = make_tensorrt(version, fake)
    modules = {**fake.make_pycuda(), "tensorrt": trt}
    before = {name: sys.modules.get(name) for name in modules}
    loader = ctypes.CDLL
    _forget()
    sys.modules.update(modules)
    ctypes.CDLL = library_loader(fake)  # type: ignore[misc,assignment]
    try:
        yield Board(fake, trt)
    finally:
        ctypes.CDLL = loader  # type: ignore[misc]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        _forget()


def _forget() -> None:
    """Clear what the package keeps for the life of a process."""
    cuda_memory._contexts.clear()
    cuda_memory._driver_functions.cache_clear()
    tensorrt_library.tensorrt_log.cache_clear()


PREAMBLE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
from engines.board import board
"""
"""What a process of its own runs first, to have `board`."""
