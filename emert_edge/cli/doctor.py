"""`emert-edge doctor`: what is installed, what can run, what cannot, and why."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import typer

from emert_edge.cli.options import Json

__all__ = ["doctor", "examine"]

RIVALS = {
    "OpenCV": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "ONNX Runtime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-training",
    ),
}
"""Distributions that install the same module: whichever came last has overwritten parts of the others."""

MODULES = {"OpenCV": "cv2", "ONNX Runtime": "onnxruntime"}

SOURCES = {
    "live gaze over LSL": ("pylsl", "lsl"),
    "live gaze of Neon": ("pupil_labs.realtime_api", "neon"),
    "recorded sessions": ("mcap", "recordings"),
    "XDF": ("pyxdf", "recordings"),
    "workbooks": ("openpyxl", "recordings"),
    "Parquet": ("pyarrow", "recordings"),
}
"""What needs an extra: the module that does it, and the extra that brings it."""


def doctor(as_json: Json = False) -> None:
    """Say what is installed, what can run here and what can't, and why.

    The exit status is 0 when the report could be made, whatever it says: programs read `problems` in --json.
    """
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for name, version in report["versions"].items():
        typer.echo(f"{name:22} {version if version is not None else 'not installed'}")
    typer.echo("")
    for device in report["devices"]:
        state = "can run" if device["available"] else f"cannot run: {device['reason']}"
        through = f", through {device['through']}" if device.get("through") else ""
        typer.echo(f"{device['device']:22} {state}{through}")
    parts = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in report["tensorrt"].items())
    typer.echo(f"{'parts of TensorRT':22} {parts}")
    typer.echo(f"{'engines':22} {report['engines']['count']} in {report['engines']['folder']}")
    typer.echo(f"{'kernels':22} {report['kernels']}")
    typer.echo(f"{'OpenCV with GStreamer':22} {'yes' if report['opencv_gstreamer'] else 'no'}")
    typer.echo(f"{'face detector':22} {report['detector']}")
    for name, why_not in report["sources"].items():
        typer.echo(f"{name:22} {why_not or 'yes'}")
    for bundle in report["bundles"]:
        typer.echo(f"{'bundle':22} {bundle['name']} ({bundle['place']}): {bundle['state']}")
    typer.echo("")
    for problem in report["problems"]:
        typer.echo(f"problem: {problem}")
    if not report["problems"]:
        typer.echo("no problems found")


def examine() -> dict[str, Any]:
    """Collect the report as plain data."""
    problems: list[str] = []
    distributions = _distributions()
    broken = _broken_modules()
    problems += [
        f"{module} cannot be imported: {fault}; install it (docs/install.md)" for module, fault in broken.items()
    ]
    for subject, names in RIVALS.items():
        problems += _double_installation(subject, names, distributions)
    report: dict[str, Any] = {
        "versions": _versions(distributions),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "python": sys.version.split()[0],
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "jetson": _jetson(),
        },
        "double_installations": {
            subject: [f"{name} {distributions[name]}" for name in names if name in distributions]
            for subject, names in RIVALS.items()
            if sum(name in distributions for name in names) > 1
        },
        "devices": _devices(broken),
        "tensorrt": _tensorrt_parts(broken),
        "engines": _engines(broken),
        "providers": [] if "onnxruntime" in broken else _providers(),
        "kernels": "missing" if "numpy" in broken else _kernels(problems),
        "opencv_gstreamer": "cv2" not in broken and _gstreamer(),
        "detector": "none" if {"cv2", "numpy"} & set(broken) else _detector(problems),
        "sources": {name: _why_not(*needs) for name, needs in SOURCES.items()},
        "bundles": [] if {"pydantic", "numpy"} & set(broken) else _bundles(problems),
    }
    report["problems"] = problems
    return report


def _why_not(module: str, extra: str) -> str | None:
    """Why a source cannot be read; None where it can."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return f"no: pip install 'emert-edge[{extra}]'"
    except Exception as error:  # a library of its own that cannot be loaded, such as liblsl
        return f"no: {module} cannot be loaded: {' '.join(str(error).split())}"
    return None


def _distributions() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


def _double_installation(subject: str, names: tuple[str, ...], distributions: dict[str, str]) -> list[str]:
    installed = [name for name in names if name in distributions]
    module = MODULES[subject]
    problems = []
    if len(installed) > 1:
        listed = " and ".join(f"{name} {distributions[name]}" for name in installed)
        problems.append(
            f"{subject} is installed twice ({listed}); they overwrite each other's files: uninstall all of them, "
            "then install the one you want (docs/install.md)"
        )
    places = _copies(module)
    if len(places) > 1:
        problems.append(
            f"the module {module} lies in {len(places)} places ({', '.join(places)}); the first is used: "
            "remove the others, or install without dependencies beside the board's own (docs/install.md)"
        )
    return problems


def _copies(module: str) -> list[str]:
    places = []
    for entry in dict.fromkeys(sys.path):
        folder = Path(entry or ".")
        try:
            if (folder / module / "__init__.py").is_file() or any(folder.glob(f"{module}.*.so")):
                places.append(str(folder))
        except OSError:
            continue  # a path entry that cannot be read holds nothing that can be imported
    return places


def _versions(distributions: dict[str, str]) -> dict[str, str | None]:
    from emert_edge import __version__

    versions: dict[str, str | None] = {"emert_edge": __version__, "python": sys.version.split()[0]}
    versions["numpy"] = distributions.get("numpy")
    for subject, names in RIVALS.items():
        versions[subject] = next((f"{distributions[name]} ({name})" for name in names if name in distributions), None)
        if versions[subject] is None:  # a board's own build need not be a distribution
            versions[subject] = _module_version(MODULES[subject])
    for name in ("pydantic", "typer", "rich", "torch", "onnx", "pycuda"):
        versions[name] = distributions.get(name)
    # its packages are called after CUDA's version as well, and JetPack's is named as the module is
    found = sorted(name for name in distributions if re.fullmatch(r"tensorrt(-cu\d+)?(-bindings)?", name))
    versions["tensorrt"] = distributions[found[0]] if found else None
    return versions


def _module_version(module: str) -> str | None:
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return None


def _jetson() -> str | None:
    try:
        return Path("/etc/nv_tegra_release").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None


def _broken_modules() -> dict[str, str]:
    """Return the libraries that cannot be imported, with the reason."""
    broken: dict[str, str] = {}
    for module in ("numpy", "cv2", "onnxruntime", "pydantic"):
        if "numpy" in broken and module in ("cv2", "onnxruntime"):
            broken[module] = "it needs numpy"  # not tried: OpenCV would print advice of its own
            continue
        try:
            importlib.import_module(module)
        except ImportError as error:
            broken[module] = str(error)
    return broken


def _devices(broken: dict[str, str]) -> list[dict[str, Any]]:
    if broken:
        reason = f"{' and '.join(broken)} cannot be imported"
        return [{"device": name, "available": False, "reason": reason} for name in ("cpu", "cuda", "tensorrt")]
    from emert_edge.engines.device import cuda_fault, gpu, tensorrt_way

    ways = {"bindings": "TensorRT's own bindings", "provider": "ONNX Runtime's provider"}
    way, tensorrt_fault = tensorrt_way()
    devices: list[dict[str, Any]] = [{"device": "cpu", "available": True, "reason": None}]
    for name, fault, through in (
        ("cuda", cuda_fault(), "ONNX Runtime's provider"),
        ("tensorrt", tensorrt_fault, ways.get(way or "")),
    ):
        row: dict[str, Any] = {"device": name, "available": fault is None, "reason": fault}
        devices.append(row if fault else row | {"through": through, "gpu": str(gpu(0))})
    return devices


def _tensorrt_parts(broken: dict[str, str]) -> dict[str, bool]:
    """Say which parts of TensorRT are here: the first three, or the first and the last, are needed."""
    parts = {"driver": False, "bindings": False, "pycuda": False, "provider": False}
    if not broken:
        from emert_edge.engines.device import driver_fault, provider_fault

        parts["driver"] = driver_fault(0) is None
        parts["provider"] = provider_fault("TensorRT", "TensorrtExecutionProvider") is None
    for part, module in (("bindings", "tensorrt"), ("pycuda", "pycuda")):
        parts[part] = importlib.util.find_spec(module) is not None
    return parts


def _engines(broken: dict[str, str]) -> dict[str, Any]:
    if {"numpy", "pydantic"} & set(broken):
        return {"folder": None, "count": 0}
    from emert_edge.engines.cache import EngineCache

    cache = EngineCache()
    return {"folder": str(cache.folder), "count": sum(1 for _ in cache.entries())}


def _providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _kernels(problems: list[str]) -> str:
    try:
        from emert_edge.kernels import instruction_set

        return f"cpu ({instruction_set()})"
    except ImportError as error:
        problems.append(f"the compiled core cannot be imported: {error}; install the package anew")
        return "missing"


def _gstreamer() -> bool:
    import cv2

    return bool(re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()))


def _detector(problems: list[str]) -> str:
    from emert_edge.errors import EmertError
    from emert_edge.face import open_detector

    try:
        return open_detector().name
    except (EmertError, ImportError) as error:
        problems.append(f"no face detector: {error}")
        return "none"


def _bundles(problems: list[str]) -> list[dict[str, str]]:
    from emert_edge.bundle import Bundle, installed_bundles
    from emert_edge.errors import BundleError

    rows = []
    for place, path in installed_bundles():
        state = "sound"
        try:
            Bundle.open(path).verify()
        except BundleError as error:
            state = str(error)
            problems.append(state)
        rows.append({"name": path.stem if path.suffix == ".emert" else path.name, "place": place, "state": state})
    return rows
