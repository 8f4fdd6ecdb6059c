"""`emert-edge export BUNDLE --triton`: what needs neither torch nor a checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_bundle_becomes_a_model_repository_without_torch_or_onnx(tmp_path: Path) -> None:
    code = "import sys; sys.modules.update({name: None for name in ('torch', 'onnx', 'onnxslim', 'onnxscript')}); "
    code += "from emert_edge.cli import main; main()"
    arguments = ["export", "emert-demo", "--triton", "models", "--precision", "fp32"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "emert-demo_face_encoder, emert-demo_fixation_encoder, emert-demo_head for Triton" in done.stdout
    assert f"tritonserver --model-repository={tmp_path / 'models'}" in done.stdout
    told = json.loads((tmp_path / "models" / "emert-edge.json").read_text())
    assert told["bundle"].startswith("emert-demo@")
    assert "research" in told["licence"]  # the weights' terms travel with them
    present = {str(path.relative_to(tmp_path / "models")) for path in (tmp_path / "models").rglob("*.*")}
    assert set(told["files"]) | {"emert-edge.json"} == present


def test_what_an_engine_needs_is_one_clear_line(emert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))
    done = emert("export", "emert-demo", "--triton", "models", "--platform", "tensorrt", "--precision", "fp32")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no TensorRT engines" in done.stderr
    assert "--precision fp32`, then this command again" in done.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("emert-demo",), 2, "--out"),
        (("emert-demo", "--triton", "models", "--name", "other"), 2, "--name"),
        (("emert-demo", "--triton", "models", "--no-fp16"), 2, "--fp16"),
        (("emert-demo", "--triton", "models", "--platform", "openvino"), 2, "openvino"),
        (("emert-demo", "--triton", "models", "--precision", "fp8"), 2, "fp8"),
        (("model.pt", "--triton", "models"), 2, "no bundle"),
        (("model.pt", "--out", "b", "--precision", "fp16"), 2, "--triton"),
        (("made.emert", "--out", "b"), 2, "a bundle already"),
        (("emert-demo", "--out", "b"), 2, "a bundle already"),
        (("nowhere", "--triton", "models"), 1, "no bundle 'nowhere'"),
        (("emert-demo", "--triton", "."), 1, "no model repository of emert-edge"),
    ],
)
def test_what_makes_no_sense_is_said(
    emert: Run, tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    (tmp_path / "model.pt").write_text("a checkpoint")
    done = emert("export", *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
