"""What a calibration found, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from emert_edge.bundle.manifest import Role

from .gate import Verdict
from .lint import RULES
from .ranges import Calibrator
from .sensitivity import LayerNoise

__all__ = ["CalibratorScore", "Report", "worst_layers"]

WORST = 3
"""Layers that are named as the worst."""


@dataclass(frozen=True)
class CalibratorScore:
    """How the graphs that one calibrator leads to did on samples held apart."""

    calibrator: Calibrator
    divergence: float
    """Mean Jensen–Shannon divergence (base 2) of the answers from FP32's, over all heads: the least is chosen."""
    agreement: float
    """With FP32, in [0, 1], over all heads."""
    accuracy: float | None
    """In [0, 1]; None without labels."""
    decibels: float
    """Mean signal-to-noise ratio of the layers."""


def worst_layers(layers: Sequence[LayerNoise]) -> list[LayerNoise]:
    """The layers that add most noise of their own."""
    return sorted(layers, key=lambda layer: layer.added, reverse=True)[:WORST]


@dataclass(frozen=True)
class Report:
    """One run of `emert_edge.calibration.quantize`."""

    bundle: str
    """Name and version."""
    target: str
    data: str
    """What the ranges were found on, in words."""
    samples: Mapping[Role, int]
    """By encoder, how many samples its ranges were found on."""
    classes: Mapping[str, int]
    """How many of them there were of each class."""
    scores: tuple[CalibratorScore, ...]
    """Of each calibrator that was tried; of one alone if none was compared."""
    chosen: Calibrator
    layers: Mapping[Role, tuple[LayerNoise, ...]]
    """The quantised layers."""
    kept_float: Mapping[str, str]
    """Roles and layers that stayed float, and why."""
    sizes: Mapping[Role, tuple[int, int]]
    """Bytes in FP32 and in INT8."""
    verdicts: tuple[Verdict, ...]
    """INT8's first, then FP16's where the bundle has it."""
    written: str | None = field(default=None)
    """Where the bundle was written; None if it was rejected."""

    @property
    def accepted(self) -> bool:
        """Whether INT8 was accepted."""
        return self.verdicts[0].accepted

    @property
    def method(self) -> str:
        """How the graphs were made, in a line for the manifest."""
        counts = ", ".join(f"{count} for the {role.replace('_', ' ')}" for role, count in self.samples.items())
        kept = f"; float: {', '.join(self.kept_float)}" if self.kept_float else ""
        return f"calibrator {self.chosen}, samples of {self.data}: {counts}{kept}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values; an infinite ratio is None."""

        def finite(value: float) -> float | None:
            return round(value, 2) if math.isfinite(value) else None

        return {
            "bundle": self.bundle,
            "target": self.target,
            "data": self.data,
            "samples": dict(self.samples),
            "classes": dict(self.classes),
            "calibrators": [asdict(score) | {"decibels": finite(score.decibels)} for score in self.scores],
            "chosen": self.chosen,
            "layers": {
                role: {layer.layer: finite(layer.decibels) for layer in layers} for role, layers in self.layers.items()
            },
            "kept_float": dict(self.kept_float),
            "sizes": {role: {"fp32": sizes[0], "int8": sizes[1]} for role, sizes in self.sizes.items()},
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "accepted": self.accepted,
            "written": self.written,
        }

    def text(self) -> str:
        """As lines to read."""
        counts = ", ".join(f"{name} {count}" for name, count in self.classes.items())
        lines = [f"{self.bundle} for {self.target}: ranges of {self.data} ({counts})"]
        lines += [f"  {role}: {count} samples" for role, count in self.samples.items()]
        lines += [f"  float: {name}: {reason}" for name, reason in self.kept_float.items()]
        lines.append("")
        lines.append("calibrator    divergence   agreement   accuracy   mean SNR")
        for score in self.scores:
            accuracy = "-" if score.accuracy is None else f"{100 * score.accuracy:.2f} %"
            mark = "  <- chosen" if score.calibrator == self.chosen and len(self.scores) > 1 else ""
            agreement, ratio = f"{100 * score.agreement:7.2f} %", f"{score.decibels:5.1f} dB"
            lines.append(
                f"{score.calibrator:12}  {score.divergence:10.2e}   {agreement}   {accuracy:>8}   {ratio}{mark}"
            )
        for role, layers in self.layers.items():
            lines += ["", f"{role}: {len(layers)} layers in INT8; signal-to-noise of what each gives"]
            worst = {layer.layer for layer in worst_layers(layers)}
            lines += [
                f"  {layer.decibels:5.1f} dB  {layer.layer}{'  <- adds most noise' if layer.layer in worst else ''}"
                for layer in layers
            ]
        lines.append("")
        for role, (before, after) in self.sizes.items():
            lines.append(
                f"{role}: {before / 1e6:.2f} MB in FP32, {after / 1e6:.2f} MB in INT8 ({100 * after / before:.1f} %)"
            )
        if self.target == "tensorrt":
            lines.append(f"TensorRT's {len(RULES)} rules are kept (docs/quantization.md)")
        for verdict in self.verdicts:
            lines += ["", *_verdict_lines(verdict)]
        lines += ["", f"written to {self.written}" if self.written else "nothing was written"]
        return "\n".join(lines)


def _verdict_lines(verdict: Verdict) -> list[str]:
    name = f"{verdict.precision.upper()} ({verdict.target})"
    said = "accepted" if verdict.accepted else "rejected"
    lines = [f"{name}: {said} on {verdict.samples} samples, {verdict.data}"]
    lines.append("  head          FP32      here   bound")
    bounds = verdict.bounds
    for head in verdict.heads:
        lines.append(
            f"  {head.head:10}  agreement  {100 * head.agreement:6.2f} %   at least {bounds.min_agreement:g} %"
        )  # fmt: skip
        for label, before, after, bound in (
            ("UAR", head.fp32_uar, head.uar, f"drop at most {bounds.max_uar_drop:g} points"),
            ("accuracy", head.fp32_accuracy, head.accuracy, ""),
            ("ECE", head.fp32_ece, head.ece, f"rise at most {bounds.max_ece_rise:g} points"),
        ):
            if before is not None and after is not None:
                lines.append(f"    {label:8}  {100 * before:6.2f} %  {100 * after:6.2f} %   {bound}".rstrip())
    return lines + [f"  not kept: {fault}" for fault in verdict.faults]
