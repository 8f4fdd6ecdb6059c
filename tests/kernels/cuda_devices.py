"""What the CUDA kernels' tests run on: a GPU, and everywhere the same bodies compiled for this process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.kernels import cuda

from .cuda_on_host.build import compiler, host_module


def module_of(kind: str) -> ModuleType:
    """The CUDA module of a kind of device; skips where there is none."""
    if kind == "gpu":
        if fault := cuda.fault():
            pytest.skip(f"no GPU here: {fault}")
        return cuda._cuda
    if compiler() is None:
        pytest.skip("the CUDA bodies cannot be compiled for the host: there is no C++ compiler")
    try:
        return host_module()
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.cmd[-3]}: {error.stderr}")


@pytest.fixture(scope="module", params=["host", "gpu"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which device `emert_edge.kernels.cuda` runs on."""
    before, cuda._cuda = cuda._cuda, module_of(request.param)
    yield request.param
    cuda._cuda = before


@pytest.fixture
def gpu() -> str:
    """A real GPU."""
    if fault := cuda.fault():
        pytest.skip(f"no GPU here: {fault}")
    return "gpu"


def up(array: npt.ArrayLike, stream: cuda.Stream) -> Any:
    """A GPU's copy of an array, C-contiguous."""
    return cuda.upload(array, stream=stream)


def down(array: Any, stream: cuda.Stream) -> npt.NDArray[Any]:
    """What stands in a GPU's array once the stream is done."""
    host = cuda.download(array, stream=stream)
    stream.synchronize()
    return np.array(host)


class Strided:
    """A view with strides over a buffer on the GPU, as CuPy and PyTorch make them."""

    def __init__(self, array: npt.NDArray[Any], stream: cuda.Stream) -> None:
        base: Any = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        begin = base.__array_interface__["data"][0]
        self.memory = cuda.upload(np.frombuffer(base.tobytes(), np.uint8), stream=stream)
        assert base.flags.c_contiguous
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.memory.address + array.__array_interface__["data"][0] - begin, False),
            "strides": array.strides,
            "version": 3,
        }
