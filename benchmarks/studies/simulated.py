"""What fusing is worth on simulated sessions, over three seeds: python benchmarks/studies/simulated.py FER2013 WORK

FER2013 is the folder of the archives that `make bundle` takes, WORK a folder for caches and checkpoints, which a run
that was stopped goes on from. The face encoder is the shipped one, taken out of the packaged bundle's FP32 graph; with
each seed three models are trained over it, on everything, on faces alone and on eyes alone
(`emert_edge.reference.study`), and tested on sessions whose subjects, stimuli and faces no training session had. About
an hour on one core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from emert_edge.bundle import packaged_dir
from emert_edge.reference import packaged
from emert_edge.reference.configuration import Configuration, SessionStage, read_configuration
from emert_edge.reference.data.faces import FolderFaces
from emert_edge.reference.data.simulated import SimulatedSessions, load_simulated
from emert_edge.reference.emert import Emert
from emert_edge.reference.stages.run import load_session_data, split_sessions
from emert_edge.reference.study import simulated_study, spread

CONFIGURATION = Path(__file__).resolve().parents[2] / "examples" / "configurations" / "packaged.yaml"


def shipped_encoder(configuration: Configuration) -> nn.Module:
    """The packaged bundle's face encoder as a module: batch normalisation is folded into the graph's convolutions."""
    model = onnx.load(str(packaged_dir() / "emert-demo" / "face_encoder.fp32.onnx"))
    held = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
    encoder = Emert(configuration.model_config_of()).face_encoder.eval()
    modules = dict(encoder.named_modules())
    with torch.no_grad():
        for name, module in modules.items():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(held[f"{name}.weight"])
                head, _, last = name.rpartition(".")
                follows = last.replace("conv", "bn") if last.startswith("conv") else str(int(last) + 1)
                norm = modules[f"{head}.{follows}"]
                assert isinstance(norm, nn.BatchNorm2d)
                norm.bias.copy_(held[f"{name}.weight_bias"])
                norm.weight.fill_(1)
                norm.running_mean.zero_()  # type: ignore[union-attr]
                norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
            elif isinstance(module, nn.Linear):
                module.weight.copy_(held[f"{name}.weight"])
                module.bias.copy_(held[f"{name}.bias"])
    return encoder


def require_the_same(encoder: nn.Module) -> None:
    """The module must answer as the graph does."""
    import onnxruntime

    graph = onnxruntime.InferenceSession(str(packaged_dir() / "emert-demo" / "face_encoder.fp32.onnx"))
    frames = np.random.default_rng(0).normal(size=(4, 3, 48, 48)).astype(np.float32)
    expected = graph.run(None, {graph.get_inputs()[0].name: frames})[0]
    with torch.no_grad():
        found = encoder(torch.from_numpy(frames))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def main(faces: Path, work: Path) -> None:
    begun = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {line}", flush=True)

    os.environ["FER2013"] = str(faces.resolve())
    configuration = read_configuration(CONFIGURATION)
    stage = next(stage for stage in configuration.stages if isinstance(stage, SessionStage))
    source = stage.data
    assert isinstance(source, SimulatedSessions)
    encoder = shipped_encoder(configuration)
    require_the_same(encoder)
    public = FolderFaces(
        kind="folder", path=faces / "fer2013_publictest.tar.gz", names=packaged.NAMES, licence="research use only"
    )
    held_out = source.model_copy(
        update={
            "split": "test", "sessions": packaged.TEST_SESSIONS, "faces": (public,), "held_out": 0.0, "drawn": 0.0,
        }
    )  # fmt: skip
    unseen = configuration.model_copy(update={"seed": configuration.seed + packaged.UNSEEN_SEED})
    test = load_simulated(held_out, unseen, work / "data", report)
    learnt = load_session_data(configuration, stage, work / "data", report)
    training, validation = split_sessions(learnt, stage.validation, stage.validation_by, configuration.seed)
    found = simulated_study(
        configuration, stage, encoder, (training, validation, test), packaged.SEEDS, work / "study", report
    )
    (work / "study.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, (mean, deviation) in spread(found).items():
        report(f"{name} {mean:.3f} ± {deviation:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
