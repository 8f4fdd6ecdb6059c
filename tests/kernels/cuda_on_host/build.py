"""Compiles the CUDA module with the host's compiler: once for each state of its sources, kept in build/."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pybind11

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]


def compiler() -> str | None:
    """The host's C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def _sources() -> list[Path]:
    csrc = ROOT / "csrc"
    shared = [csrc / "kernels" / "fading.cpp"] + [csrc / "python" / f"{name}.cpp" for name in ("arguments", "samples")]
    cuda = ["bind_cuda_kernels", "bind_cuda_memory", "cuda_arguments", "module_cuda"]
    bodies = sorted((csrc / "kernels").glob("*_cuda.cu"))
    return [*bodies, *shared, *(csrc / "python" / f"{name}.cpp" for name in cuda), HERE / "runtime.cpp"]


def host_module() -> ModuleType:
    """The module `_cuda`, its device being this process.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not compile; the compiler's words are in `stderr`.
    """
    sources = _sources()
    headers = [*(ROOT / "csrc").rglob("*.hpp"), *HERE.glob("*.h*")]
    state = hashlib.sha256()
    for file in sorted({*sources, *headers}):
        state.update(file.read_bytes())
    state.update(repr((FLAGS, sys.version_info[:2], np.__version__, pybind11.__version__)).encode())
    folder = ROOT / "build" / "cuda-on-host" / state.hexdigest()[:16]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    library = folder / f"_cuda{suffix}"
    if not library.exists():
        _compile(sources, folder, library)
    loader = importlib.machinery.ExtensionFileLoader("_cuda", str(library))
    spec = importlib.util.spec_from_loader("_cuda", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _compile(sources: list[Path], folder: Path, library: Path) -> None:
    own = folder / f"parts-{os.getpid()}"
    own.mkdir(parents=True)
    found = [HERE, ROOT / "csrc" / "include", ROOT / "csrc", sysconfig.get_paths()["include"], pybind11.get_include()]
    includes = [f"-I{path}" for path in found]

    def compiled(source: Path) -> Path:
        part = own / f"{source.name}.o"
        command = [str(compiler()), *FLAGS, *includes, "-x", "c++", "-c", str(source), "-o", str(part)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return part

    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        parts = [str(part) for part in workers.map(compiled, sources)]
    aside = own / library.name
    subprocess.run([str(compiler()), "-shared", *parts, "-o", str(aside)], check=True, capture_output=True, text=True)
    aside.replace(library)
    shutil.rmtree(own)
