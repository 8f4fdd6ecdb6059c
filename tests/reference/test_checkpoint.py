"""Checkpoints: read as tensors and plain values; what is no model of ours is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the reference model needs the extra `train`")

from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.reference.checkpoint import load_model, save_checkpoint  # noqa: E402
from emert_edge.reference.emert import Emert, EmertConfig  # noqa: E402


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    model = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1))
    save_checkpoint(tmp_path / "model.pt", {"config": model.config.to_dict(), "model": model.state_dict(), "more": [1]})
    held, content = load_model(tmp_path / "model.pt")
    assert held.config == model.config
    assert not held.training
    assert content["more"] == [1]
    assert all(torch.equal(value, held.state_dict()[name]) for name, value in model.state_dict().items())


def test_files_that_are_no_models_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EmertError, match="no such checkpoint"):
        load_model(tmp_path / "absent.pt")
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    with pytest.raises(EmertError, match=r"text\.pt"):
        load_model(text)
    model = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1))
    weights = model.state_dict()
    broken, name = tmp_path / "broken.pt", "head.invariant.weight"
    for held, told in (
        ({**weights, name: torch.zeros(2, 2)}, r"head\.invariant\.weight has shape \(2, 2\)"),
        ({key: value for key, value in weights.items() if key != name}, r"head\.invariant\.weight is missing"),
        ({**weights, "extra": torch.zeros(1)}, "extra belongs to no part"),
    ):
        save_checkpoint(broken, {"config": model.config.to_dict(), "model": held})
        with pytest.raises(EmertError, match=told):
            load_model(broken)
