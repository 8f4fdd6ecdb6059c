"""`emert-edge build`, without TensorRT and with its double."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..engines.board import PREAMBLE

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ON_A_BOARD = """
from emert_edge.cli import main
faults = {faults!r}
with board({version!r}) as made:
    made.trt.faults.update(faults)
    main()
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="making small graphs needs onnx")
    from ..engines.small_bundle import write_small_bundle

    return write_small_bundle(tmp_path / "small", ("fp32", "fp16", "int8")).path


@pytest.fixture
def on_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `emert-edge` where TensorRT's double is."""
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))

    def run(*arguments: Any, version: str = "10.3.0", faults: Any = ()) -> subprocess.CompletedProcess[str]:
        code = PREAMBLE + ON_A_BOARD.format(version=version, faults=dict(faults))
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip

    return run


def without_driver() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")


def test_a_dry_run_says_what_would_be_built_and_why_it_cannot_be(emert: Run, small: Path) -> None:
    without_driver()
    done = emert("build", small, "--dry-run", "--json", "--max-batch", 4)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["can_build"] is False
    assert "no NVIDIA driver" in plan["reason"]
    assert plan["platform"] == {"tensorrt": None, "gpu": None, "sm": None}
    assert (plan["precision"], plan["device"]) == ("fp32", "tensorrt:0")
    assert [row["role"] for row in plan["engines"]] == ["face_encoder", "head"]
    for row in plan["engines"]:
        assert row["profiles"] == [[1, 1, 1], [2, 4, 4]]
        assert row["state"] == "unknown"
        assert len(row["onnx_sha256"]) == 64
    text = emert("build", small, "--dry-run", "--precision", "int8").stdout
    assert "int8: it was asked for" in text
    assert "face_encoder.int8.onnx" in text
    assert "head.fp32.onnx" in text
    assert "batches of 1 and 2 to 8" in text
    assert "cannot be built   no NVIDIA driver" in text


def test_a_build_without_a_driver_is_refused_with_its_reason(emert: Run, small: Path) -> None:
    without_driver()
    for device in ("tensorrt", "tensorrt:1"):
        done = emert("build", small, "--device", device)
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert device in done.stderr
        assert "driver" in done.stderr


def test_wrong_usage_and_wrong_bundles(emert: Run, small: Path) -> None:
    for arguments in (["--device", "cuda"], ["--max-batch", "0"]):
        assert emert("build", small, "--dry-run", *arguments).returncode == 2, arguments
    assert "no bundle" in emert("build", "nowhere", "--dry-run").stderr
    (small / "head.fp32.onnx").write_bytes(b"damaged")
    done = emert("build", small, "--dry-run")
    assert done.returncode == 1
    assert "head.fp32.onnx" in done.stderr


def test_build_fills_the_cache_once_and_says_what_it_built(on_a_board: Run, small: Path, tmp_path: Path) -> None:
    planned = json.loads(on_a_board("build", small, "--dry-run", "--json").stdout)
    assert planned["can_build"] is True
    assert planned["platform"] == {"tensorrt": "10.3.0", "gpu": "Orin", "sm": "8.7"}
    assert [row["state"] for row in planned["engines"]] == ["to build", "to build"]
    assert "no engine of this graph" in planned["engines"][0]["why"]
    assert not (tmp_path / "home" / "engines").exists()

    done = on_a_board("build", small, "--json")
    assert done.returncode == 0, done.stderr
    assert "face_encoder.fp32.onnx for Orin: Building" in done.stderr
    rows = json.loads(done.stdout)["engines"]
    assert [row["state"] for row in rows] == ["built", "built"]
    for row in rows:
        assert Path(row["path"]).parent == tmp_path / "home" / "engines"
        assert row["strongly_typed"] is True
        assert row["difference"] < 1e-6

    again = on_a_board("build", small)
    assert again.stdout.count("cached:") == 2
    assert again.stderr == ""
    assert "built:" in on_a_board("build", small, "--force").stdout
    other = json.loads(on_a_board("build", small, "--dry-run", "--json", version="11.4.1").stdout)
    assert "TensorRT 10.3.0, this is 11.4.1" in other["engines"][0]["why"]


def test_another_cache_and_another_precision(on_a_board: Run, small: Path, tmp_path: Path) -> None:
    done = on_a_board("build", small, "--cache", tmp_path / "image" / "engines", "--precision", "fp16", "--json")
    assert done.returncode == 0, done.stderr
    assert {Path(row["path"]).parent for row in json.loads(done.stdout)["engines"]} == {tmp_path / "image" / "engines"}
    assert not (tmp_path / "home").exists()


def test_a_failed_build_is_one_line_and_leaves_no_engine(on_a_board: Run, small: Path, tmp_path: Path) -> None:
    faults = {"parse": ("/conv1/Conv", "Conv", "kernel weights must be known")}
    done = on_a_board("build", small, faults=faults)
    assert done.returncode == 1
    assert "node '/conv1/Conv' (Conv): kernel weights must be known" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "home" / "engines").glob("*.engine"))


def test_doctor_says_how_tensorrt_runs_and_what_is_missing(on_a_board: Run, tmp_path: Path) -> None:
    report = json.loads(on_a_board("doctor", "--json").stdout)
    tensorrt = next(device for device in report["devices"] if device["device"] == "tensorrt")
    assert tensorrt["available"] is True
    assert (tensorrt["through"], tensorrt["gpu"]) == ("TensorRT's own bindings", "Orin (sm_87)")
    assert report["tensorrt"] == {"driver": True, "bindings": True, "pycuda": True, "provider": False}
    assert report["engines"] == {"folder": str(tmp_path / "home" / "engines"), "count": 0}
    text = on_a_board("doctor", version="9.2.0").stdout
    assert "TensorRT 9.2.0 is too old; 10.3 or newer is needed" in text
    assert "driver yes, bindings yes, pycuda yes, provider no" in text
