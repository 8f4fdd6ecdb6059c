"""Checkpoints: written aside and renamed, read as tensors and plain values only."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from emert_edge.errors import EmertError
from emert_edge.reference.emert import Emert, EmertConfig

__all__ = ["load_checkpoint", "load_model", "read_content", "save_checkpoint"]


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a run that is killed leaves the old file or the new one, never half of one."""
    aside = path.with_suffix(path.suffix + ".part")
    torch.save(content, aside)
    aside.replace(path)


def read_content(path: Path) -> object:
    """Read tensors and plain values out of a file that PyTorch wrote; no code in the file is run.

    Raises
    ------
    EmertError
        If there is no such file, it is broken, or only code in it could rebuild what it holds.
    """
    if not path.is_file():
        raise EmertError(f"{path}: there is no such checkpoint file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a TorchScript archive PyTorch warns first, then refuses it
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EmertError(f"{path}: {_pickle_fault(error)}") from error
    except OSError as error:
        raise EmertError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a broken archive or pickle fails in as many ways as it has bytes
        raise EmertError(
            f"{path}: not a PyTorch checkpoint of tensors, or one that was cut short{_brief(error)}"
        ) from error
    return content


def _pickle_fault(error: pickle.UnpicklingError) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found:
        return (
            f"holds a pickled {found.group(1)}, which only code in the file could rebuild; none was run. "
            "Where the file comes from, save model.state_dict() instead of the model"
        )
    return f"not a PyTorch checkpoint of tensors, or one that was cut short{_brief(error)}"


def _brief(error: Exception) -> str:
    """PyTorch's first sentence in brackets; not where it goes on to advise reading the file unsafely."""
    text = str(error)
    if isinstance(error, KeyError) or not text or "weights_only" in text:
        return ""
    return f" ({text.splitlines()[0].split('. ')[0].rstrip('.')})"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; no code in the file is run.

    Raises
    ------
    EmertError
        If the file is missing, or is not a checkpoint of ours.
    """
    content = read_content(path)
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
        if not isinstance(held[name], torch.Tensor):
            raise EmertError(f"{path}: {name} is no tensor, but a {type(held[name]).__name__}")
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
