"""Checkpoints: written aside and renamed, read as tensors and plain values only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from emert_edge.errors import EmertError
from emert_edge.reference.emert import Emert, EmertConfig

__all__ = ["load_checkpoint", "load_model", "save_checkpoint"]


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a run that is killed leaves the old file or the new one, never half of one."""
    aside = path.with_suffix(path.suffix + ".part")
    torch.save(content, aside)
    aside.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; no code in the file is run.

    Raises
    ------
    EmertError
        If the file is missing, or is not a checkpoint of ours.
    """
    if not path.is_file():
        raise EmertError(f"{path}: there is no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EmertError(f"{path}: not a checkpoint of tensors and plain values ({reason})") from error
    if not isinstance(content, dict):
        raise EmertError(f"{path}: not a checkpoint of emert_edge (it holds a {type(content).__name__})")
    return content


def load_model(path: Path) -> tuple[Emert, dict[str, Any]]:
    """The trained model of a finished run, and what the checkpoint holds beside its weights.

    Raises
    ------
    EmertError
        If the file is missing, not ours, or its weights do not fit its settings; the message names the first tensor.
    """
    content = load_checkpoint(path)
    for key in ("config", "model"):
        if key not in content:
            raise EmertError(f"{path}: not a finished model of emert_edge ({key!r} is missing)")
    try:
        model = Emert(EmertConfig.from_dict(content["config"]))
    except (ValueError, TypeError) as error:
        raise EmertError(f"{path}: {error}") from error
    wanted, held = model.state_dict(), content["model"]
    for name, tensor in wanted.items():
        if name not in held:
            raise EmertError(f"{path}: tensor {name} is missing")
        if held[name].shape != tensor.shape:
            raise EmertError(
                f"{path}: tensor {name} has shape {tuple(held[name].shape)}, the model needs {tuple(tensor.shape)}"
            )
    surplus = [name for name in held if name not in wanted]
    if surplus:
        raise EmertError(f"{path}: tensor {surplus[0]} belongs to no part of the model")
    model.load_state_dict(held)
    model.eval()
    return model, {key: value for key, value in content.items() if key != "model"}
