"""The other commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_version_and_help(emert: Run) -> None:
    from emert_edge import __version__

    assert emert("--version").stdout == f"emert-edge {__version__}\n"
    text = emert("--help").stdout
    for command in ("run", "record", "demo", "doctor", "bundle", "gaze", "train", "evaluate", "export", "build"):
        assert command in text


def test_every_command_of_the_public_face_has_its_place(emert: Run) -> None:
    names = "demo run record doctor bundle gaze train evaluate export quantize build bench"
    for command in names.split():
        assert emert(command, "--help").returncode == 0


def test_bundles_are_listed_shown_and_verified(emert: Run, tmp_path: Path) -> None:
    from emert_edge.bundle import packaged_dir

    rows = json.loads(emert("bundle", "list", "--json").stdout)
    assert ("emert-demo", "packaged") in [(row["name"], row["place"]) for row in rows]
    assert "emert-demo" in emert("bundle", "list").stdout
    manifest = json.loads(emert("bundle", "show", "emert-demo", "--json").stdout)
    assert manifest["labels"]["emotion"][0] == "happiness"
    assert "licence" in emert("bundle", "show").stdout
    assert json.loads(emert("bundle", "verify", "--json").stdout)["sound"] is True
    shutil.copytree(packaged_dir() / "emert-demo", tmp_path / "damaged")
    (tmp_path / "damaged" / "card.md").write_text("better than ever")
    done = emert("bundle", "verify", "damaged", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["sound"] is False
    assert "card.md" in done.stderr


def test_doctor_says_what_runs_and_why_not(emert: Run) -> None:
    report = json.loads(emert("doctor", "--json").stdout)
    devices = {device["device"]: device for device in report["devices"]}
    assert devices["cpu"]["available"] is True
    for device in ("cuda", "tensorrt"):
        assert devices[device]["available"] or devices[device]["reason"]
    assert set(report["tensorrt"]) == {"driver", "bindings", "pycuda", "provider"}
    assert report["engines"]["folder"].endswith("engines")
    assert report["versions"]["numpy"]
    assert any(bundle["name"] == "emert-demo" and bundle["state"] == "sound" for bundle in report["bundles"])
    from emert_edge.cli.doctor import SOURCES

    assert set(report["sources"]) == set(SOURCES)
    assert all(why_not is None or why_not.startswith("no: ") for why_not in report["sources"].values())
    text = emert("doctor")
    assert text.returncode == 0
    assert "cpu" in text.stdout


def test_doctor_names_the_extra_that_a_source_needs() -> None:
    start = "import sys; sys.modules['pylsl'] = None; from emert_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", start, "doctor", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["sources"]["live gaze over LSL"] == "no: pip install 'emert-edge[lsl]'"


def test_doctor_sees_a_double_installation(tmp_path: Path) -> None:
    for name in (
        "opencv_python-4.10.0",
        "opencv_python_headless-4.11.0",
        "onnxruntime-1.20.0",
        "onnxruntime_gpu-1.20.0",
    ):
        info = tmp_path / f"{name}.dist-info"
        info.mkdir()
        distribution, version = name.rsplit("-", 1)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from emert_edge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    report = json.loads(done.stdout)
    assert set(report["double_installations"]) == {"OpenCV", "ONNX Runtime"}
    text = " ".join(report["problems"])
    assert "opencv-python 4.10.0 and opencv-python-headless 4.11.0" in text
    assert "onnxruntime-gpu" in text


def test_the_demo_runs_as_it_stands_and_leaves_the_name_of_its_bundle_alone(emert: Run, tmp_path: Path) -> None:
    (tmp_path / "emert-demo").mkdir()  # a folder that happens to have the packaged bundle's name
    for _ in range(2):
        done = emert("demo", "--seconds", "3")
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "emert-edge-demo").iterdir()) == ["demo.png", "estimates.jsonl"]
    assert emert("bundle", "verify", "emert-demo").returncode == 0


@pytest.mark.parametrize("missing", ["numpy", "cv2", "onnxruntime"])
def test_doctor_works_where_a_library_is_missing_and_others_point_to_it(missing: str) -> None:
    start = f"import sys; sys.modules[{missing!r}] = None; from emert_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", start, "doctor", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert any(problem.startswith(f"{missing} cannot be imported") for problem in report["problems"])
    assert not any(device["available"] for device in report["devices"])
    done = subprocess.run([sys.executable, "-c", start, "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert missing in done.stderr


def test_a_fault_that_nobody_foresaw_is_one_line_too() -> None:
    start = (
        "import emert_edge.cli.bundle as room; from emert_edge.cli import main\n"
        "def fails(): raise KeyError('window')\n"
        "room.installed_bundles = fails\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", start, "bundle", "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "emert-edge: KeyError: 'window' (a fault nobody foresaw; --debug shows where)\n"
    done = subprocess.run(
        [sys.executable, "-c", start, "bundle", "list", "--debug"], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("Traceback")


def test_a_closed_pipe_ends_quietly(command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "bundle", "show", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
