"""The example configurations are read as they lie there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="configurations belong to the extra `train`")

from emert_edge.reference.configuration import ExpressionStage, read_configuration
from emert_edge.reference.data.faces import FaceImages
from emert_edge.reference.stages import run

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "configurations").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FER2013": "/f", "FACES": "/f", "EMER": "/e", "TEACHERS": "/t", "SEED": "2"}.items():
        monkeypatch.setenv(name, value)
    configuration = read_configuration(file)
    assert configuration.seed == (2 if file.stem == "teacher" else 0)
    if file.stem == "base":
        stage = configuration.stages[0]
        assert isinstance(stage, ExpressionStage)
        assert stage.teacher == tuple(Path(f"/t/teacher-{n}/1-expressions/face_encoder.pt") for n in (1, 2, 3))


def test_runs_of_one_split_hold_out_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = FaceImages(np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1), np.repeat(np.arange(7), 10))
    monkeypatch.setattr(run, "gather_faces", lambda *_: pictures)
    held = {}
    for seed, split in ((1, ""), (2, ""), (1, "split: 5"), (2, "split: 5")):
        file = tmp_path / "one.yaml"
        file.write_text(
            f"name: one\nseed: {seed}\nstages:\n  - kind: expressions\n    data: [{{kind: drawn, count: 70}}]\n"
            f"    validation: 0.2\n    {split}\n"
        )
        configuration = read_configuration(file)
        (stage,) = configuration.stages
        assert isinstance(stage, ExpressionStage)
        held[seed, split] = run.load_faces(configuration, stage, tmp_path)[1].crops.ravel().tolist()
    assert held[1, "split: 5"] == held[2, "split: 5"]
    assert held[1, ""] != held[2, ""]
