"""What this package and its double use of TensorRT, held against the real Python bindings of each version.

The bindings come from the package index, into a cache beside the user's others. They are NVIDIA's, under the "NVIDIA
Software License Agreement" with the supplement for TensorRT that lies in each wheel (LICENSE.txt): free to install and
to test with, not to be passed on. They load without TensorRT's libraries over stubs that this test writes and compiles;
nothing can be computed that way, but every class, member, argument and enum can be looked up.

`EMERT_TENSORRT_BINDINGS` names another folder for the wheels; set to nothing, it leaves these tests out.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emert_edge import EngineError
from emert_edge.bundle import Bundle
from emert_edge.engines import Device, open_engines, tensor_shapes, tensorrt_build, tensorrt_library
from emert_edge.engines.provision import EngineSupply

from .board import board

BINDINGS = {
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.13.3": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16.1": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0": "tensorrt-cu13-bindings==11.4.0.106",
}

STUBS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
        "getBuilderPluginRegistry", "getPluginRegistry", "getInferLibVersion",
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
    "nvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
}  # fmt: skip
"""The entry points that the bindings ask of each of TensorRT's libraries."""

SOURCES = sorted(Path(tensorrt_build.__file__).parent.glob("tensorrt*.py"))


# -- the real bindings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheels() -> Path:
    named = os.environ.get("EMERT_TENSORRT_BINDINGS")
    if named == "":
        pytest.skip("EMERT_TENSORRT_BINDINGS is empty: TensorRT's bindings are not to be had here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else cache / "emert-edge-tests" / "tensorrt-bindings"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile libraries that have the entry points and nothing behind them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stubs of TensorRT's libraries")
    folder = tmp_path_factory.mktemp("stubs")
    for library, entries in STUBS.items():
        source = folder / f"{library}.c"
        source.write_text("".join(f"void *{entry}(void) {{ return 0; }}\n" for entry in entries))
        for major in {version.split(".")[0] for version in BINDINGS}:
            name = f"lib{library}.so.{major}"
            subprocess.run(
                [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source], check=True
            )
    return folder


@pytest.fixture(params=BINDINGS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@functools.cache
def download(requirement: str, folder: Path) -> str:
    """Fetch a wheel; return what went wrong, if something did. Asked once a version: a machine may be offline."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--retries=0", "--timeout=15", f"--dest={folder}", requirement,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        return "the download took too long"
    return (done.stderr.strip() or "no wheel for this Python").splitlines()[-1]


@pytest.fixture
def real(version: str, wheels: Path, stubs: Path, tmp_path: Path) -> Any:
    """Return a function that runs code in a process where `trt` is the real module of a version."""
    name, exact = BINDINGS[version].split("==")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pattern = f"{name.replace('-', '_')}-{exact}-{tag}-*.whl"
    if not list(wheels.glob(pattern)):
        fault = download(BINDINGS[version], wheels)
        if not list(wheels.glob(pattern)):
            pytest.skip(f"{BINDINGS[version]} cannot be had: {fault}")
    with zipfile.ZipFile(next(wheels.glob(pattern))) as wheel:
        wheel.extractall(tmp_path)

    def run(code: str, given: Any = None) -> Any:
        preamble = (
            "import json, sys; import tensorrt_bindings as trt; sys.modules['tensorrt'] = trt\n"
            "given = json.load(sys.stdin)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", preamble + code],
            input=json.dumps(given), capture_output=True, text=True, check=False,
            env=os.environ | {"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


# -- what is used -----------------------------------------------------------------------------------------------------


def members_of(double: ModuleType) -> dict[str, dict[str, str]]:
    """Return the members of the double's classes by class, each with its kind."""
    found: dict[str, dict[str, str]] = {}
    for name, kind in vars(double).items():
        if not isinstance(kind, type):
            continue
        members = found.setdefault(name, {})
        if hasattr(kind, "__members__"):
            members |= dict.fromkeys(kind.__members__, "value")
            continue
        for member, value in vars(kind).items():
            if not member.startswith("_"):
                settable = isinstance(value, property) and value.fset is not None
                kinds = {property: "settable property" if settable else "property", type(kind): "class"}
                members[member] = next((word for of, word in kinds.items() if isinstance(value, of)), "method")
    return found


def calls_of(version: str, bundle: Bundle, home: Path) -> tuple[ModuleType, list[tuple[Any, ...]]]:
    """Drive this package through builds, runs and failures on the double; return the double and what was called."""
    with board(version) as made:
        engines = open_engines(bundle, device="tensorrt", precision="fp16")
        for batch in (1, 2, 2):
            engines.head.run(batch)
        engines.close()
        for fault, words in (("parse", ("node", "Operator", "words")), ("strong typing", "words")):
            made.trt.faults[fault] = words
            with contextlib.suppress(EngineError):  # TensorRT 11 has no second way
                open_engines(bundle, device="tensorrt", precision="int8").close()
            made.trt.faults.clear()
        shapes = tensor_shapes(bundle.manifest)["head"]
        EngineSupply(Device("tensorrt")).build(
            bundle, "head", "fp32", shapes, force=True, progress=lambda phase, done: None
        )
        return made.trt, sorted({tuple(call) for call in made.trt.calls})


def chains() -> set[str]:
    """Return every name that the sources take from the module: "BuilderFlag.TF32" and the like."""

    def chain(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return "" if node.id == "trt" else None
        if isinstance(node, ast.Call):
            return "" if isinstance(node.func, ast.Name) and node.func.id == "tensorrt" else None
        if isinstance(node, ast.Attribute):
            front = chain(node.value)
            return None if front is None else f"{front}.{node.attr}".lstrip(".")
        return None

    return {
        found
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and (found := chain(node))
    }


CHECK = r"""
import re

def parameters(text):
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    parts = [part.strip() for part in [*parts, current] if part.strip()]
    return [(part.split(":")[0].split("=")[0].strip(), "=" in part) for part in parts]

def signatures(kind, member):
    text = getattr(getattr(trt, kind), member).__doc__ or ""
    found = re.findall(r"(?m)^(?:\d+\. )?" + member + r"\((.*)\) ->", text)
    return [parameters(one)[1:] for one in found]  # without self

def takes(signature, places, names):
    by_name = {name for name, _ in signature[places:]}
    needed = {name for name, optional in signature[places:] if not optional}
    return places <= len(signature) and set(names) <= by_name and needed <= set(names)

faults = []
for path in given["chains"]:
    place = trt
    for name in path.split("."):
        place = getattr(place, name, None)
    if place is None:
        faults.append(f"{path}: no such name")
for kind, members in given["members"].items():
    for member, wanted in members.items():
        value = getattr(getattr(trt, kind, None), member, None)
        seen = "settable property" if isinstance(value, property) and value.fset else (
            "property" if isinstance(value, property) else "value" if wanted == "value" and hasattr(value, "value")
            else "class" if isinstance(value, type) else "method" if callable(value) else "nothing"
        )
        if not (seen == wanted or (seen, wanted) == ("settable property", "property")):
            faults.append(f"{kind}.{member}: {seen}, {wanted} is used")
for kind, member, places, names in given["calls"]:
    known = signatures(kind, member) if hasattr(getattr(trt, kind, None), member) else []
    if not any(takes(one, places, names) for one in known):
        faults.append(f"{kind}.{member}: {places} arguments and {names}, known are {known}")
for kind, member, names in given["overridden"]:
    if [[name for name, _ in one] for one in signatures(kind, member)] != [names]:
        faults.append(f"{kind}.{member}: takes {signatures(kind, member)}, ours takes {names}")
print(json.dumps(faults))
"""


def expectations(version: str, bundle: Bundle, home: Path) -> dict[str, Any]:
    double, calls = calls_of(version, bundle, home)
    with board(version) as made:
        log, monitor = tensorrt_library.tensorrt_log(), tensorrt_build._monitor(made.trt, print)
    ours = (("ILogger", log), ("IProgressMonitor", monitor))
    overridden = [
        (kind, name, list(inspect.signature(getattr(one, name)).parameters))
        for kind, one in ours
        for name in vars(type(one))
        if not name.startswith("_")
    ]
    return {"chains": sorted(chains()), "members": members_of(double), "calls": calls, "overridden": overridden}


# -- the contract -----------------------------------------------------------------------------------------------------


def test_every_name_argument_and_enum_that_is_used_exists(real: Any, version: str, small: Bundle, home: Path) -> None:
    expected = expectations(version, small, home)
    assert len(expected["calls"]) > 25
    assert {"Builder", "OnnxParser", "Runtime", "ICudaEngine", "IExecutionContext"} <= set(expected["members"])
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in expected["chains"]
    assert {name for _, name, _ in expected["overridden"]} == {"log", "phase_start", "step_complete", "phase_finish"}
    assert real(CHECK, expected) == []


def test_a_misspelt_name_and_a_wrong_argument_are_found(real: Any) -> None:
    wrong = {
        "chains": ["BuilderFlag.TF23", "Bilder"],
        "members": {
            "IExecutionContext": {"exeucte_async_v3": "method"},
            "TensorIOMode": {"INPUTS": "value"},
            "INetworkDefinition": {"num_inputs": "method"},
            "ICudaEngine": {"num_io_tensors": "settable property"},
        },
        "calls": [
            ["IExecutionContext", "execute_async_v3", 0, []],
            ["IExecutionContext", "execute_async_v3", 2, []],
            ["IExecutionContext", "set_input_shape", 1, ["shapes"]],
            ["Runtime", "deserialize_engine", 1, []],
        ],
        "overridden": [["ILogger", "log", ["severity", "message"]]],
    }
    assert len(real(CHECK, wrong)) == 11
    right = {
        "chains": [], "members": {}, "overridden": [],
        "calls": [["IExecutionContext", "set_input_shape", 1, ["shape"]], ["Builder", "create_network", 0, []]],
    }  # fmt: skip
    assert real(CHECK, right) == []


def test_flags_of_precision_are_there_on_10_and_gone_on_11(real: Any, version: str) -> None:
    """What decides about the second way of building."""
    has = real("print(json.dumps([hasattr(trt.BuilderFlag, name) for name in ('FP16', 'INT8')]))")
    assert has == [version.startswith("10.")] * 2


def test_our_log_and_our_monitor_are_classes_that_the_bindings_take(real: Any, version: str) -> None:
    code = """
from emert_edge.engines.tensorrt_library import take_errors, tensorrt_log
from emert_edge.engines.tensorrt_build import _monitor
log = tensorrt_log()
log.log(trt.ILogger.Severity.ERROR, "no implementation")
log.log(trt.ILogger.Severity.WARNING, "slow")
told = []
monitor = _monitor(trt, lambda *one: told.append(one))
monitor.phase_start("Building", None, 2)
told.append(monitor.step_complete("Building", 0))
typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
print(json.dumps([take_errors(), told, isinstance(log, trt.ILogger), isinstance(monitor, trt.IProgressMonitor), typed,
                  trt.DataType.FLOAT == trt.DataType.FLOAT, trt.DataType.HALF.name]))
"""
    said, told, *kinds = real(code)
    assert said == "no implementation"
    assert told == [["Building", 0], ["Building", 0.5], True]
    assert kinds == [True, True, 1 if version.startswith("11.") else 2, True, "HALF"]
