"""How the house is laid out: what may import what. CONTRIBUTING.md tells it in words."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "clock", "asynchronous", "_core", "_cuda"}),
    frozenset({"kernels", "estimate"}),
    frozenset({"bundle", "eye"}),
    frozenset({"face", "sources", "engines", "window", "journal"}),
    frozenset({"recording", "encoder_inputs"}),
    frozenset({"session", "simulation"}),
    frozenset({"inputs", "forward"}),
    frozenset({"replay", "live"}),
    frozenset({"recognizer"}),
    frozenset({"emert_edge"}),
    frozenset({"benchmarking"}),
    frozenset({"reference"}),
    frozenset({"export"}),
    frozenset({"calibration"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""From the ground up. A room imports rooms of lower floors and itself; `emert_edge` is the package's own file."""

HEAVY = {
    "torch", "onnx", "onnxslim", "onnxscript", "lightning", "torchmetrics", "pandas", "matplotlib", "tensorrt", "scipy",
    "sklearn", "librosa", "soundfile", "av", "yaml", "pycuda",
}  # fmt: skip
"""What no device needs: only training, export and calibration may know these."""

WHEN_USED = {("engines/tensorrt_library.py", "tensorrt"), ("engines/cuda_memory.py", "pycuda")}
"""What a board brings: one file may import it, in the moment it is used."""

OFF_DEVICE = {"reference", "export", "calibration"}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every source file with its room."""
    package = ROOT / "emert_edge"
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        yield ("emert_edge" if parts == ("__init__",) else parts[0]), file
    for room in ("export", "calibration"):
        for file in sorted((ROOT / room).rglob("*.py")):
            yield room, file


def imports(file: Path) -> Iterator[tuple[str, int, bool]]:
    """Yield the modules that a file imports, with the line, and whether at import time."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno, id(node) not in deferred
        elif isinstance(node, ast.ImportFrom) and not node.level:  # a relative import stays in its room
            module = node.module or ""
            names = [f"{module}.{name.name}" for name in node.names] if module == "emert_edge" else [module]
            for name in names:
                yield name, node.lineno, id(node) not in deferred


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"room {room!r} stands on no floor: add it to FLOORS and to CONTRIBUTING.md")


def room_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else "emert_edge"
    return "emert_edge" if name.startswith("__") else name


def test_no_room_imports_a_higher_floor() -> None:
    faults = []
    for room, file in modules():
        for module, line, at_import in imports(file):
            if module.split(".")[0] != "emert_edge" or not at_import:
                continue
            other = room_of(module)
            if module == "emert_edge.__version__" or other == room:
                continue
            if floor_of(other) >= floor_of(room):
                faults.append(f"{file.relative_to(ROOT)}:{line}: {room} imports {other}")
    assert not faults, "\n".join(faults)


def test_the_device_side_knows_no_training_or_export_library() -> None:
    faults = [
        f"{file.relative_to(ROOT)}:{line}: {module}"
        for room, file in modules()
        if room not in OFF_DEVICE and room != "cli"
        for module, line, at_import in imports(file)
        if (name := module.split(".")[0]) in HEAVY and (at_import or ("/".join(file.parts[-2:]), name) not in WHEN_USED)
    ]
    assert not faults, "\n".join(faults)


def test_files_have_subjects() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "tools"}
    assert not [file for _, file in modules() if file.stem in vague]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_no_heavy_library_and_prints_nothing() -> None:
    code = "import sys; import emert_edge; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(ast.literal_eval(python(code)))
    assert not loaded & (HEAVY | {"onnxruntime", "typer", "rich"})


def test_everything_works_without_torch(tmp_path: Path) -> None:
    code = f"""
import sys
for name in {sorted(HEAVY)}:
    sys.modules[name] = None
sys.argv = ["emert-edge", "demo", "--out", {str(tmp_path / "demo")!r}, "--seconds", "4"]
from emert_edge.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    import emert_edge

    for name in emert_edge.__all__:
        assert hasattr(emert_edge, name)
    with pytest.raises(ImportError):
        from emert_edge import nonsense  # type: ignore[attr-defined]  # noqa: F401
