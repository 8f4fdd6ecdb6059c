"""A bundle out of a trained model: graphs, manifest, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emert_edge.bundle import Bundle, Manifest, write_bundle
from emert_edge.bundle.manifest import EyeInput, FileEntry, Graph, Labels, Training
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.card import simulated_card
from emert_edge.reference.checkpoint import load_model
from emert_edge.reference.emert import Emert
from emert_edge.reference.plan import FACE, FIXATION, WINDOW
from emert_edge.simulation import EXPRESSIONS, POLARITIES

from .graphs import export_graphs

__all__ = ["export_bundle", "export_checkpoint"]

SIMULATED_DATA = ("drawn faces and invented gaze of emert_edge.simulation; no person's data",)


def export_bundle(
    model: Emert,
    out: str | Path,
    *,
    name: str,
    version: str,
    eye_mean: Sequence[float],
    eye_std: Sequence[float],
    eye_clip: float,
    data: Sequence[str],
    licence: str,
    card: str,
    eye_features: Sequence[str] = FEATURE_NAMES,
    description: str = "",
    summary: str = "",
    command: str = "",
    metrics: Mapping[str, float] | None = None,
    reactions: Sequence[str] | None = None,
) -> Bundle:
    """Export a model's graphs and write them as a bundle, whole or not at all.

    Parameters
    ----------
    model : Emert
    out : path
        A folder, or a file that ends in `.emert`; a bundle that lies there is replaced.
    name, version : str
        What the bundle is called.
    eye_mean, eye_std, eye_clip
        Training statistics of the eye features, in the order of `eye_features`.
    data : sequence of str
        What the weights were trained on, a line each.
    licence : str
        Of the weights.
    card : str
        The bundle's card, Markdown.
    metrics : mapping, optional
        Measured figures; the largest difference of each graph from PyTorch is added as `parity_ROLE`.
    reactions : sequence of str, optional
        Names of the reactions, where the model has that head.

    Returns
    -------
    Bundle
        The bundle, opened anew from where it was written.

    Raises
    ------
    ExportFailed
        If a graph is not what the model is; nothing is written then.
    ValueError
        If statistics, names or reactions do not fit the model.
    FileExistsError
        If something else than a bundle lies at `out`.
    """
    if not isinstance(model, Emert):
        raise TypeError(f"model must be an Emert, not {type(model).__name__}")
    if len(eye_features) != model.config.eye_features:
        raise ValueError(
            f"eye_features: the model takes {model.config.eye_features} columns, {len(eye_features)} are named"
        )
    if len(reactions or ()) != model.config.reactions:
        raise ValueError(f"reactions: the model has {model.config.reactions}, {len(reactions or ())} are named")
    if model.config.classes != len(EXPRESSIONS) or model.config.polarities != len(POLARITIES):
        raise ValueError(
            f"the model has {model.config.classes} classes and {model.config.polarities} polarities; "
            f"a bundle's are {len(EXPRESSIONS)} and {len(POLARITIES)}"
        )
    if (model.config.face_tokens, model.config.eye_tokens) != (WINDOW.face_tokens, WINDOW.eye_tokens):
        raise ValueError(
            f"the model takes {model.config.face_tokens} face and {model.config.eye_tokens} eye tokens, "
            f"the window has {WINDOW.face_tokens} and {WINDOW.eye_tokens}"
        )
    # Before the slow part: what is wrong with the statistics is an error at once.
    eye = EyeInput(features=tuple(eye_features), mean=tuple(eye_mean), std=tuple(eye_std), clip=eye_clip)
    reports = export_graphs(model)
    files = {f"{role}.fp32.onnx": report.onnx for role, report in reports.items()} | {"card.md": card.encode()}
    parity = {f"parity_{role}": float(f"{report.largest_difference:.2g}") for role, report in reports.items()}
    manifest = Manifest(
        name=name,
        version=version,
        description=description,
        size=model.config.size,
        token_width=model.config.token_width,
        labels=Labels(
            emotion=EXPRESSIONS,
            expression=EXPRESSIONS,
            polarity=POLARITIES,
            reactions=tuple(reactions) if reactions else None,
        ),
        face=FACE,
        fixation=FIXATION,
        eye=eye,
        window=WINDOW,
        training=Training(data=tuple(data), summary=summary, command=command, metrics={**(metrics or {}), **parity}),
        licence=licence,
        card="card.md",
        graphs=tuple(Graph(role=role, precision="fp32", target="any", file=f"{role}.fp32.onnx") for role in reports),
        files={name: FileEntry(sha256="0" * 64, size=0) for name in files},  # write_bundle fills them in
    )
    return write_bundle(out, manifest, files)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    version: str = "1",
    licence: str = "Apache-2.0",
    command: str = "",
    metrics: Mapping[str, float] | None = None,
) -> Bundle:
    """Export a checkpoint that `train` has finished, with a card that says what it was trained on.

    Raises
    ------
    EmertError
        If the checkpoint is not a finished one of ours.
    """
    model, content = load_model(checkpoint)
    missing = [key for key in ("eye_features", "eye_mean", "eye_std", "eye_clip", "plan") if key not in content]
    if missing:
        raise EmertError(f"{checkpoint}: holds weights, but not {', '.join(missing)}; it cannot become a bundle")
    plan: dict[str, Any] = content["plan"]
    measured = dict(metrics or {})
    return export_bundle(
        model,
        out,
        name=name,
        version=version,
        eye_features=content["eye_features"],
        eye_mean=content["eye_mean"],
        eye_std=content["eye_std"],
        eye_clip=content["eye_clip"],
        data=SIMULATED_DATA,
        licence=licence,
        card=simulated_card(name, version, plan, measured, licence=licence, command=command),
        description="Dual-task EMERT, trained on drawn faces and invented gaze only: a proof of the machinery.",
        summary=(
            f"{plan['faces']} drawn faces for {plan['face_epochs']} epochs, then {plan['sessions']} simulated sessions "
            f"for {plan['session_epochs'] * plan['session_steps']} batches of {plan['session_batch']} windows"
        ),
        command=command,
        metrics=measured,
    )
