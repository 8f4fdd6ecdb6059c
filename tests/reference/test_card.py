"""A bundle's card says what was learnt from, what was measured, and what speaks for each precision."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="cards are written by the extra `train`")

from emert_edge.bundle.manifest import Evidence
from emert_edge.reference.card import data_lines, model_card
from emert_edge.reference.configuration import Configuration, read_configuration

PACKAGED = Path(__file__).resolve().parents[2] / "examples" / "configurations" / "packaged.yaml"


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setenv("FER2013", "/data")
    return read_configuration(PACKAGED)


def test_a_source_of_two_stages_is_named_once(configuration: Configuration) -> None:
    lines = data_lines(configuration)
    assert sum("fer2013_training.tar.gz" in line for line in lines if line.startswith("face encoder")) == 1
    assert len(set(lines)) == len(lines)


def test_precisions_stand_beside_what_they_were_measured_against(configuration: Configuration) -> None:
    told = {"agreement": 0.991, "uar": 0.64, "fp32_uar": 0.641, "accuracy": 0.68, "fp32_accuracy": 0.682}
    evidence = (
        Evidence(
            precision="int8", target="cpu", data="faces", samples=9, labelled=True, figures=told, accepted=True
        ),
        Evidence(
            precision="fp16", data="random inputs", samples=3, labelled=False, figures={"agreement": 1.0}, accepted=True
        ),
    )  # fmt: skip
    said = {"licence": "none", "command": "make bundle"}
    card = model_card("b", "1", configuration, {"fer2013_uar": 0.64}, **said, evidence=evidence)
    assert "| INT8 | CPU | faces (9) | 0.9910 | 0.6800 (0.6820) | 0.6400 (0.6410) | – | yes |" in card
    assert "| FP16 | any engine | random inputs (3) | 1.0000 | – | – | – | yes |" in card
    assert "mean recall over the classes (UAR) | 0.640 |" in card
    assert "## Precisions" not in model_card("b", "1", configuration, {}, **said)
