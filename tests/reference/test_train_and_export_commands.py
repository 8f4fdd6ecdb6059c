"""`emert-edge train` and `export` as a user types them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from emert_edge.bundle import Bundle


def command(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules.update({{name: None for name in {without.split()!r}}}); "
    code += "from emert_edge.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "absent", "extra"),
    [
        (("train", "run.yaml", "--out", "run"), "torch", "train"),
        (("export", "model.pt", "--out", "b"), "torch", "export"),
        (("export", "model.pt", "--out", "b"), "onnx", "export"),
        (("export", "model.pt", "--out", "b"), "onnxslim", "export"),
    ],
)
def test_without_its_extra_a_command_says_which_one_is_missing(
    arguments: tuple[str, ...], absent: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments, without=absent)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"emert-edge[{extra}]" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_train_finishes_export_makes_a_bundle_of(tmp_path: Path) -> None:
    pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
    from emert_edge.eye import FEATURE_NAMES
    from emert_edge.reference.checkpoint import save_checkpoint
    from emert_edge.reference.configuration import Configuration
    from emert_edge.reference.emert import Emert

    checkpoint = tmp_path / "model.pt"
    drawn = {"kind": "expressions", "data": [{"kind": "drawn", "count": 20}]}
    sessions = {"kind": "sessions", "data": {"kind": "simulated"}}
    settings = {"token_width": 16, "fused_width": 16, "heads": 2, "blocks": 1}
    configuration = Configuration.model_validate({"name": "tiny", "model": settings, "stages": [drawn, sessions]})
    model = Emert(configuration.model_config_of())
    save_checkpoint(
        checkpoint,
        {
            "config": model.config.to_dict(),
            "model": model.state_dict(),
            "configuration": configuration.model_dump_json(exclude={"trainer"}),
            "classes": list(configuration.classes),
            "temperature": {"expression": 1.5},
            "eye_features": list(FEATURE_NAMES),
            "eye_mean": [0.0] * 39,
            "eye_std": [1.0] * 39,
            "eye_clip": 8.0,
        },
    )
    done = command(
        "export", str(checkpoint), "--out", str(tmp_path / "own.emert"), "--name", "own",
        "--triton", str(tmp_path / "models"), "--precision", "fp16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "own@1, 6 graphs" in done.stdout
    assert re.search(r"head\.fp32\.onnx +\d+\.\d\d MB, largest difference from PyTorch \d\.\de-0[67]\n", done.stdout)
    assert re.search(r"head\.fp16\.onnx +\d+\.\d\d MB, largest difference from FP32 \d\.\de-0[34]\n", done.stdout)
    assert "fp16 on random inputs at batches 1, 3 and 8: agreement" in done.stdout
    bundle = Bundle.open(tmp_path / "own.emert")
    bundle.verify()
    assert "has never seen a person" in bundle.card
    assert bundle.manifest.temperature == {"expression": 1.5}
    assert bundle.manifest.face == configuration.face
    served = tmp_path / "models" / "own_head" / "1" / "model.onnx"
    assert served.read_bytes() == bundle.read("head.fp16.onnx")
    assert "not stated" in bundle.manifest.licence  # nobody may be told that weights are free who was not told so


def test_a_file_that_is_no_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
    (tmp_path / "model.pt").write_text("nothing")
    done = command("export", str(tmp_path / "model.pt"), "--out", str(tmp_path / "b"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "model.pt" in done.stderr
    assert not (tmp_path / "b").exists()
