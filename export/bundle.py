"""A bundle out of a trained model: graphs, manifest, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emert_edge.bundle import Bundle, require_place, write_bundle
from emert_edge.bundle.manifest import (
    Evidence,
    EyeInput,
    FileEntry,
    FixationInput,
    Graph,
    Labels,
    Manifest,
    PointInput,
    Role,
    Training,
    WindowSpec,
)
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.card import data_lines, model_card
from emert_edge.reference.checkpoint import load_model
from emert_edge.reference.configuration import Configuration, face_input
from emert_edge.reference.emert import Emert
from emert_edge.reference.reactions import REACTIONS
from emert_edge.simulation import EXPRESSIONS, POLARITIES

from .graphs import export_graphs
from .parity import GraphReport
from .precision import half_graphs

__all__ = ["Exported", "export_bundle", "export_checkpoint", "with_half"]

NO_LICENCE = "not stated by whoever exported these weights"
WINDOW, FIXATION = WindowSpec(), FixationInput()


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
    classes: Sequence[str] = EXPRESSIONS,
    window: WindowSpec = WINDOW,
    fixation: FixationInput = FIXATION,
    temperature: Mapping[str, float] | None = None,
    description: str = "",
    summary: str = "",
    command: str = "",
    metrics: Mapping[str, float] | None = None,
    reactions: Sequence[str] | None = None,
    fp16: bool = True,
    baseline_tokens: int = 0,
) -> Bundle:
    """Export a model's graphs in FP32 and FP16, and write them as a bundle, whole or not at all.

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
    classes : sequence of str
        In the order of the outputs.
    window : WindowSpec
        The window that the model was trained on.
    fixation : FixationInput
        How maps and scenes become fixation tokens; of no account for a model that takes gaze points.
    temperature : mapping, optional
        Softmax temperatures: `emotion`, `expression`, `face_expression`.
    metrics : mapping, optional
        Measured figures; the largest difference of each graph is added: from PyTorch as `parity_ROLE`, of FP16 from
        FP32 as `parity_ROLE_fp16`.
    reactions : sequence of str, optional
        Names of the reactions, where the model has that head.
    fp16 : bool
        Whether the bundle gets FP16 graphs beside the FP32 ones.
    baseline_tokens : int
        How many of a session's first eye tokens made the subject's baseline in training; 0 for none.

    Returns
    -------
    Bundle
        The bundle, opened anew from where it was written.

    Raises
    ------
    ExportFailed
        If a graph is not what the model is; nothing is written then.
    ValueError
        If statistics, names, classes, window or reactions do not fit the model.
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
    if model.config.classes != len(classes) or model.config.polarities != len(POLARITIES):
        raise ValueError(
            f"the model has {model.config.classes} classes and {model.config.polarities} polarities; "
            f"{len(classes)} and {len(POLARITIES)} are named"
        )
    if (model.config.face_tokens, model.config.eye_tokens) != (window.face_tokens, window.eye_tokens):
        raise ValueError(
            f"the model takes {model.config.face_tokens} face and {model.config.eye_tokens} eye tokens, "
            f"the window has {window.face_tokens} and {window.eye_tokens}"
        )
    # Before the slow part: what is wrong with the place or the statistics is an error at once.
    require_place(out)
    eye = EyeInput(
        features=tuple(eye_features), mean=tuple(eye_mean), std=tuple(eye_std), clip=eye_clip,
        baseline_tokens=baseline_tokens,
    )  # fmt: skip
    exported = with_half(export_graphs(model), fp16=fp16)
    points = model.config.gaze == "points"
    manifest = Manifest(
        name=name,
        version=version,
        description=description,
        size=model.config.size,
        token_width=model.config.token_width,
        labels=Labels(
            emotion=tuple(classes),
            expression=tuple(classes),
            polarity=POLARITIES,
            reactions=tuple(reactions) if reactions else None,
        ),
        face=face_input(model.config.size),
        fixation=None if points else fixation,
        points=PointInput() if points else None,
        eye=eye,
        window=window,
        temperature=dict(temperature or {}),
        training=Training(
            data=tuple(data), summary=summary, command=command, metrics={**(metrics or {}), **exported.parity()}
        ),
        licence=licence,
        **exported.entries(),
    )
    return write_bundle(out, manifest, exported.files(card))


class Exported(NamedTuple):
    """A model's graphs in all precisions, and what a bundle says of them."""

    reports: tuple[GraphReport, ...]
    evidence: tuple[Evidence, ...] = ()

    def parity(self) -> dict[str, float]:
        """The largest differences, as a manifest's metrics name them."""
        return {
            f"parity_{report.role}" + ("" if report.precision == "fp32" else f"_{report.precision}"): float(
                f"{report.largest_difference:.2g}"
            )
            for report in self.reports
        }

    def files(self, card: str) -> dict[str, bytes]:
        """A bundle's files by name."""
        return {report.file: report.onnx for report in self.reports} | {"card.md": card.encode()}

    def entries(self) -> dict[str, Any]:
        """What a manifest says of those files; `write_bundle` fills in sizes and sums."""
        return {
            "card": "card.md",
            "graphs": tuple(
                Graph(role=report.role, precision=report.precision, target="any", file=report.file)
                for report in self.reports
            ),
            "evidence": self.evidence,
            "files": {name: FileEntry(sha256="0" * 64, size=0) for name in self.files("")},
        }


def with_half(full: Mapping[Role, GraphReport], *, fp16: bool = True) -> Exported:
    """The FP32 graphs and, where wanted, those in FP16 beside them, checked.

    Raises
    ------
    ExportFailed
        If half precision is not enough for the model.
    """
    reports = tuple(full.values())
    if not fp16:
        return Exported(reports)
    half = half_graphs({role: report.onnx for role, report in full.items()})
    return Exported((*reports, *half.reports.values()), (half.evidence,))


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    version: str = "1",
    licence: str = NO_LICENCE,
    command: str = "",
    metrics: Mapping[str, float] | None = None,
    fp16: bool = True,
) -> Bundle:
    """Export a checkpoint that `train` has finished, with a card that says what it was trained on.

    Raises
    ------
    EmertError
        If the checkpoint is not a finished one of ours.
    """
    model, content = load_model(checkpoint)
    needed = ("configuration", "classes", "eye_features", "eye_mean", "eye_std", "eye_clip")
    missing = [key for key in needed if content.get(key) is None]
    if missing:
        raise EmertError(f"{checkpoint}: holds weights, but not {', '.join(missing)}; it cannot become a bundle")
    try:
        configuration = Configuration.model_validate_json(content["configuration"])
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise EmertError(
            f"{checkpoint}: holds a configuration that this emert_edge does not read ({reason})"
        ) from error
    measured = dict(metrics or {})
    data = data_lines(configuration)
    return export_bundle(
        model,
        out,
        name=name,
        version=version,
        eye_features=content["eye_features"],
        eye_mean=content["eye_mean"],
        eye_std=content["eye_std"],
        eye_clip=content["eye_clip"],
        baseline_tokens=configuration.baseline_tokens,
        classes=content["classes"],
        window=configuration.window,
        fixation=configuration.fixation,
        temperature=content.get("temperature"),
        data=data,
        licence=licence,
        card=model_card(name, version, configuration, measured, licence=licence, command=command),
        description=f"Dual-task EMERT, {configuration.model.size}; trained on " + "; ".join(data),
        summary=f"run {configuration.name!r}: " + ", then ".join(stage.kind for stage in configuration.stages),
        command=command,
        metrics=measured,
        reactions=REACTIONS if model.config.reactions else None,
        fp16=fp16,
    )
