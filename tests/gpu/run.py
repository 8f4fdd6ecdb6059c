"""All that needs a GPU, in one command: `python tests/gpu/run.py --report FOLDER`.

Builds the compiled modules for this machine's GPU beside their Python code, runs the kernels' suite, once more and in
part under compute-sanitizer where that is installed, and the benchmarks; writes report.md and report.json. A part that
fails does not keep the next from running; the exit status says whether all passed.

Needs a CUDA compiler, cmake, and the Python packages numpy, pybind11, pytest, hypothesis and opencv; PyTorch for the
graph's test and the benchmarks' peers, CuPy where it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("tests/kernels/test_cuda.py", "tests/forward")
SANITIZED = "equals_its_definition or batch or tokens or many_crops or wherever or wide_frames or maps_of_any_size"
PARTS = ("build", "tests", "sanitizer", "benchmarks")


def run(command: list[str], log: Path, limit_s: float, **environment: str) -> tuple[int, float, str]:
    """Exit status (124 where the time was up), seconds, and what was printed, which also goes to `log`."""
    begun = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=os.environ | environment)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = 124
    return status, time.monotonic() - begun, log.read_text(encoding="utf-8", errors="replace")


def build(folder: Path, jobs: int) -> list[list[str]]:
    """Commands that build both modules and put them beside their Python code."""
    import pybind11

    configure = [
        "cmake", "-S", str(ROOT), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DEMERT_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={os.environ.get('CUDAARCHS', 'native')}", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DSKBUILD_PROJECT_NAME=emert_edge",
        "-DSKBUILD_PROJECT_VERSION=0", *(["-G", "Ninja"] if shutil.which("ninja") else []),
    ]  # fmt: skip
    return [configure, ["cmake", "--build", str(folder), "-j", str(jobs)]]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "out" / "gpu", help="folder of the report")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    report: Path = given.report.resolve()
    report.mkdir(parents=True, exist_ok=True)
    wanted = given.parts.split(",")
    logs = ROOT / "build" / "gpu"
    logs.mkdir(parents=True, exist_ok=True)
    python = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "PYTHONUNBUFFERED": "1"}
    pytest = [
        sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib", "-p",
        "no:cacheprovider", "-q", "-ra", "--tb=short", *(str(ROOT / part) for part in SUITE),
    ]  # fmt: skip
    results: dict[str, dict[str, object]] = {}

    def note(part: str, status: int, seconds: float, text: str, lines: int) -> None:
        tail = "\n".join(text.strip().splitlines()[-lines:])
        results[part] = {"status": status, "seconds": round(seconds, 1), "tail": tail}
        print(f"== {part}: {'passed' if status == 0 else f'FAILED ({status})'} in {seconds:.0f} s\n{tail}", flush=True)

    if "build" in wanted:
        begun, status, text = time.monotonic(), 0, ""
        for command in build(logs / "modules", given.jobs):
            status, _, text = run(command, logs / "build.log", 400)
            if status:
                break
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for name in ("_core", "_cuda"):
            module = logs / "modules" / f"{name}{suffix}"
            if module.exists():
                shutil.copy(module, ROOT / "emert_edge" / module.name)
        note("build", status, time.monotonic() - begun, text, 40 if status else 2)
    if "tests" in wanted:
        note("tests", *run([*pytest, "-k", "gpu or graph or pytorch"], logs / "tests.log", 240, **python), 60)
    if "sanitizer" in wanted and (sanitizer := shutil.which("compute-sanitizer")):
        for tool in ("memcheck", "racecheck"):
            checked = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
            chosen = f"gpu and ({SANITIZED}) and not test_any and not host"
            status, seconds, text = run([*checked, *pytest, "-k", chosen], logs / f"{tool}.log", 90, **python)
            note(f"sanitizer {tool}", status, seconds, text, 25)
    elif "sanitizer" in wanted:
        print("== compute-sanitizer is not installed here: skipped", flush=True)
    if "benchmarks" in wanted:
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_kernels.py"), str(report / "benchmarks.json")]
        note("benchmarks", *run(command, logs / "benchmarks.log", 150, **python), 80)
    (report / "report.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    pages = [
        f"## {part}\n\nStatus {one['status']}, {one['seconds']} s\n\n```\n{one['tail']}\n```\n"
        for part, one in results.items()
    ]
    (report / "report.md").write_text("# The kernels on a GPU\n\n" + "\n".join(pages), encoding="utf-8")
    return int(any(one["status"] for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
