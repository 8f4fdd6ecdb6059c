"""What the CUDA bodies take of a GPU, by the compiler's report: `python tests/gpu/resources.py` prints the table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "csrc" / "kernels").glob("*_cuda.cu"))
ARCHITECTURES = {"sm_87": "Jetson Orin", "sm_90": "H100, H200", "sm_110": "Jetson Thor"}
FLAGS = ["-std=c++17", "-O3", "-Xptxas=-v", "-Xptxas=-warn-spills", "-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings"]
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Resources:
    """One body on one architecture."""

    body: str
    architecture: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spilled_bytes: int


def nvcc() -> str | None:
    """Return CUDA's compiler, or None."""
    return shutil.which(os.environ.get("CUDACXX", "nvcc"))


def known() -> list[str]:
    """Return those of the architectures that this compiler knows."""
    told = subprocess.run([str(nvcc()), "--list-gpu-code"], check=True, capture_output=True, text=True).stdout
    return [architecture for architecture in ARCHITECTURES if architecture in told.split()]


def compile_bodies(source: Path, architectures: list[str]) -> tuple[list[Resources], str]:
    """Compile one file; return what its bodies take, and all that the compiler said.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not compile without a warning; the compiler's words are in `stderr`.
    """
    codes = [f"-gencode=arch=compute_{name[3:]},code={name}" for name in architectures]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(nvcc()), *FLAGS, *codes, f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}", "-c", str(source),
            "-o", str(Path(folder) / "body.o"),
        ]  # fmt: skip
        # A sanitizer that this process runs under is not for the compiler.
        plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=plain).stderr
    return [_resources(part) for part in said.split("Compiling entry function ")[1:]], said


def _resources(report: str) -> Resources:
    def number(before: str, after: str) -> int:
        found = re.search(rf"{before}(\d+){after}", report)
        if found is None:
            raise ValueError(f"the compiler's report has no number of {after.strip()!r}:\n{report}")
        return int(found[1])

    heading = re.match(r"'\w*?(?P<body>[A-Z][A-Za-z]+Body)\w*' for '(?P<architecture>\w+)'", report)
    if heading is None:
        raise ValueError(f"the compiler's report names no body:\n{report}")
    shared = SHARED.search(report)
    spilled = number("", " bytes spill stores") + number("", " bytes spill loads")
    stack, registers = number("", " bytes stack frame"), number("Used ", " registers")
    return Resources(
        heading["body"], heading["architecture"], registers, int(shared[1]) if shared else 0, stack, spilled
    )


def main() -> int:
    """Print the table."""
    if nvcc() is None:
        print("there is no CUDA compiler here", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        found = [one for bodies, _ in workers.map(lambda one: compile_bodies(one, known()), SOURCES) for one in bodies]
    print("| body | GPU | registers a thread | shared bytes a block | stack bytes | spilled bytes |")
    print("|---|---|---|---|---|---|")
    for one in found:
        gpu = f"{one.architecture} ({ARCHITECTURES[one.architecture]})"
        print(
            f"| {one.body} | {gpu} | {one.registers} | {one.shared_bytes} | {one.stack_bytes} | {one.spilled_bytes} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
