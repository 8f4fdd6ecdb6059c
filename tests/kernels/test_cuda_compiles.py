"""The CUDA bodies compile for each GPU that the documents name: without a warning and without spilled registers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ..gpu.resources import ARCHITECTURES, SOURCES, compile_bodies, known, nvcc

pytestmark = pytest.mark.skipif(nvcc() is None, reason="there is no CUDA compiler here")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_bodies_compile_for_every_gpu_without_warnings_and_spills(source: Path) -> None:
    architectures = known()
    assert {"sm_87", "sm_90"} <= set(architectures)
    try:
        found, said = compile_bodies(source, architectures)
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    assert "warning" not in said.lower()
    assert {one.architecture for one in found} == set(architectures)
    assert [one for one in found if one.spilled_bytes or one.stack_bytes] == []
    assert all(one.registers <= 64 for one in found)  # four blocks of 256 threads on a multiprocessor


def test_the_compiler_of_the_newest_cuda_knows_them_all() -> None:
    told = subprocess.run([str(nvcc()), "--version"], check=True, capture_output=True, text=True).stdout
    if "release 13" not in told:
        pytest.skip("Jetson Thor needs CUDA 13")
    assert known() == list(ARCHITECTURES)
