"""From an FP32 bundle and samples to INT8 graphs that may take its place, or to the reason why not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import onnx

from emert_edge.bundle import Bundle, open_bundle, write_bundle
from emert_edge.bundle.manifest import FileEntry, Graph, Role, Target
from emert_edge.engines import default_threads
from emert_edge.errors import BundleIncompatible, CalibrationRejected

from .candidate import CandidateBundle, open_candidate, open_precision
from .data import Data, DataSource, Pictures, Recordings, classes_of, read_data
from .gate import Bounds, Verdict, judge
from .layers import read_layers
from .lint import lint_tensorrt
from .placement import place_for_tensorrt
from .placement import quantised_tensors as tensorrt_tensors
from .placement_cpu import place_for_cpu
from .placement_cpu import quantised_layers as cpu_layers
from .placement_cpu import quantised_tensors as cpu_tensors
from .probes import Answers, answers_of, divergence
from .ranges import CALIBRATORS, Calibrator, Histogram, Inputs, Range, collect_histograms, find_ranges
from .report import CalibratorScore, Report, worst_layers
from .samples import GATE_SAMPLES, LEAST, class_counts, divide, encoder_inputs, sample_pictures
from .sensitivity import LayerNoise, layer_noise
from .soundness import picture_faults, unlike_samples

__all__ = ["SAMPLES", "QuantizationTarget", "quantize"]

QuantizationTarget: TypeAlias = Literal["cpu", "tensorrt"]
Progress: TypeAlias = Callable[[str, int, int], None]
SAMPLES = 512
ENCODERS: tuple[Role, ...] = ("face_encoder", "fixation_encoder")
_LOOKED_AT = 256  # samples whose soundness is looked at
_FEW = 200  # samples, of which each counts half a point and more
_NOISE_SAMPLES = 64  # that the layers' signal-to-noise is measured on


def quantize(
    bundle: str | Path | Bundle,
    data: DataSource,
    target: QuantizationTarget,
    *,
    gate_data: DataSource | None = None,
    out: str | Path | None = None,
    samples: int = SAMPLES,
    calibrator: Calibrator | Literal["compare"] = "compare",
    keep_float: Sequence[str] = (),
    bounds: Bounds | None = None,
    seed: int = 0,
    threads: int | None = None,
    report: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda step, done, total: None,
) -> Report:
    """Quantise a bundle's encoders to INT8 for a target, judge them, and write them with the evidence.

    The head stays float. The fixation encoder is quantised where the data are sessions. FP16 graphs, where the bundle
    has them, are judged on the same samples, and their evidence is renewed.

    Parameters
    ----------
    bundle : name, path or Bundle
        With FP32 graphs.
    data : path, sequence of (image, label), or sequence of SessionData
        What ranges are found on, and unless there is `gate_data` what is judged on; never the same samples. See
        `emert_edge.calibration.data.read_data`.
    target : {"cpu", "tensorrt"}
        Which engine the graphs are placed for.
    gate_data : as `data`, optional
        What the gate judges on.
    out : path, optional
        Where the bundle is written; in its own place if not given. Other graphs, evidence and files are kept.
    samples : int
        Pictures, or frames of sessions, on which ranges are found and calibrators compared: half of them each.
    calibrator : {"compare", "minmax", "entropy", "percentile"}
        How ranges are found; "compare" tries all three.
    keep_float : sequence of str
        Names of layers (nodes of the graphs) that stay float; "fixation_encoder" is all of that graph.
    bounds : Bounds, optional
        What may be lost.
    seed : int
        Of every draw.
    threads : int, optional
        Of ONNX Runtime.
    report : callable
        Is told what is being done, a line at a time.
    progress : callable
        Is told a step's name, and how much of how much of it is done.

    Returns
    -------
    Report

    Raises
    ------
    CalibrationRejected
        A bound was not kept, or the samples cannot be right; its `report` holds the table. Nothing is written.
    BundleIncompatible
        The bundle has no FP32 graphs, or no classes.
    EmertError
        Data cannot be read, or are too few.
    ValueError
        An argument is wrong; a layer's name is unknown.
    """
    opened = open_bundle(bundle)
    bounds = bounds or Bounds()
    if target not in get_args(QuantizationTarget):
        raise ValueError(f"target must be cpu or tensorrt, not {target!r}")
    if calibrator != "compare" and calibrator not in CALIBRATORS:
        raise ValueError(f"calibrator must be compare or one of {', '.join(CALIBRATORS)}, not {calibrator!r}")
    if samples < LEAST:
        raise ValueError(f"samples must be at least {LEAST}, not {samples}")
    work = _Work(opened, target, tuple(keep_float), bounds, seed, threads, report, progress)
    gate: Data | None = None
    if gate_data is not None:
        gate = read_data(gate_data, opened.manifest, most=1 << 62, seed=seed, report=report)
        work.require_sound(gate)
    most = max(4 * samples, samples + GATE_SAMPLES)
    given = read_data(data, opened.manifest, most=most, seed=seed, report=report)
    work.require_sound(given)
    calibration, comparison, held = divide(given, samples, seed, own_gate=gate is not None)
    tried = CALIBRATORS if calibrator == "compare" else (calibrator,)
    return work.run(
        calibration,
        comparison,
        held if gate is None else gate,
        samples,
        tried,
        Path(out) if out is not None else opened.path,
    )


@dataclass(frozen=True)
class _Candidate:
    """The graphs that one calibrator leads to."""

    score: CalibratorScore
    graphs: Mapping[Role, bytes]
    noise: Mapping[Role, tuple[LayerNoise, ...]]
    ranges: Mapping[Role, Mapping[str, Range]]


class _Work:
    """One run: what its steps share."""

    def __init__(
        self,
        bundle: Bundle,
        target: QuantizationTarget,
        keep_float: tuple[str, ...],
        bounds: Bounds,
        seed: int,
        threads: int | None,
        report: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self.bundle, self.target, self.keep_float, self.bounds = bundle, target, keep_float, bounds
        self.seed, self.report, self.progress = seed, report, progress
        self.threads = threads or default_threads()
        self.manifest = bundle.manifest
        self.classes = classes_of(bundle.manifest)
        self.models = {
            role: _named(self._fp32(role)) for role in ENCODERS if bundle.has_role(role) and role not in keep_float
        }
        self._require_layers()

    def _fp32(self, role: Role) -> onnx.ModelProto:
        return onnx.load_from_string(self.bundle.read(self.bundle.graph(role, "fp32", "cpu").file))

    def _require_layers(self) -> None:
        layers = cpu_layers if self.target == "cpu" else lambda model: read_layers(model)[0]
        known = [layer.name for model in self.models.values() for layer in layers(model)]
        for name in self.keep_float:
            if name not in (*known, "fixation_encoder"):
                near = difflib.get_close_matches(name, known, 1)
                hint = f"is {near[0]!r} meant?" if near else f"there are {', '.join(known)}"
                raise ValueError(f"keep_float: {name!r} is no layer that would be quantised; {hint}")
        if not set(known) - set(self.keep_float):
            raise ValueError("keep_float: no layer is left to quantise")

    def require_sound(self, data: Data) -> None:
        """Raise `CalibrationRejected` if the samples cannot be right, whatever was measured on them."""
        if faults := picture_faults(sample_pictures(data, _LOOKED_AT, self.seed)):
            raise CalibrationRejected(
                f"{data.words} is not calibrated or judged on: {'; '.join(faults)}. Give pictures of faces as the "
                "device sees them"
            )

    # -- one run ------------------------------------------------------------------------------------------------------

    def run(
        self, calibration: Data, comparison: Data, gate: Data, samples: int, tried: Sequence[Calibrator], out: Path
    ) -> Report:
        """Find ranges, place, compare, judge, write."""
        most = samples // 2 + len(self.classes)  # each class has at least one
        inputs = encoder_inputs(calibration, self.manifest, most, self.seed, least=LEAST // 2)
        held_apart = encoder_inputs(comparison, self.manifest, _NOISE_SAMPLES, self.seed)
        roles = tuple(role for role in self.models if role in inputs and role in held_apart)
        histograms = {role: self._histograms(role, inputs[role]) for role in roles}
        with closing(open_precision(self.bundle, "fp32", self.threads)) as engines:
            self.report(f"FP32 on {_counted(comparison)} held apart")
            reference = answers_of(comparison, self.bundle, engines)
        made = {one: self._candidate(one, roles, histograms, held_apart, comparison, reference) for one in tried}
        # Not by agreement: of a few hundred samples one or two change their class, which is chance.
        best = min(made.values(), key=lambda candidate: candidate.score.divergence)
        self.report(f"calibrator {best.score.calibrator}")
        verdicts = self._verdicts(best, gate)
        report = Report(
            bundle=self.manifest.identity,
            target=self.target,
            data=calibration.words,
            samples={role: len(next(iter(inputs[role].values()))) for role in roles},
            classes=class_counts(calibration, self.classes),
            scores=tuple(candidate.score for candidate in made.values()),
            chosen=best.score.calibrator,
            layers=best.noise,
            kept_float=self._kept_float(roles),
            sizes={role: (self._size(role), len(best.graphs[role])) for role in roles},
            verdicts=verdicts,
        )
        if not report.accepted:
            raise CalibrationRejected(self._why(report, best, gate), report)
        written = self._write(best.graphs, report, out)
        return replace(report, written=str(written.path))

    def _histograms(self, role: Role, inputs: Inputs) -> dict[str, Histogram]:
        model = self.models[role]
        tensors = (cpu_tensors if self.target == "cpu" else tensorrt_tensors)(model, self.keep_float)
        step = f"ranges of the {role.replace('_', ' ')}"
        self.report(f"{step}: {len(next(iter(inputs.values())))} samples, {len(tensors)} activations")
        return collect_histograms(
            model,
            tensors,
            inputs,
            threads=self.threads,
            progress=lambda done, total: self.progress(step, done, total),
        )

    def _candidate(
        self,
        calibrator: Calibrator,
        roles: Sequence[Role],
        histograms: Mapping[Role, Mapping[str, Histogram]],
        held_apart: Mapping[Role, Inputs],
        comparison: Data,
        reference: Sequence[Answers],
    ) -> _Candidate:
        self.report(f"calibrator {calibrator}: placing, and comparing on {_counted(comparison)} held apart")
        graphs: dict[Role, bytes] = {}
        noise: dict[Role, tuple[LayerNoise, ...]] = {}
        ranges: dict[Role, dict[str, Range]] = {}
        place = place_for_cpu if self.target == "cpu" else place_for_tensorrt
        for role in roles:
            ranges[role] = find_ranges(histograms[role], calibrator, signed=self.target == "tensorrt")
            placed = place(self.models[role], ranges[role], self.keep_float)
            if self.target == "tensorrt" and (findings := lint_tensorrt(placed)):
                raise CalibrationRejected(f"the {role} breaks TensorRT's rules: {'; '.join(map(str, findings))}")
            graphs[role] = placed.SerializeToString(deterministic=True)
            few = {name: values[:_NOISE_SAMPLES] for name, values in held_apart[role].items()}
            noise[role] = layer_noise(self.models[role], placed, few, threads=self.threads)
        candidate = CandidateBundle(self.bundle, graphs)
        with closing(open_candidate(candidate, self.target, self.threads)) as engines:
            answers = answers_of(comparison, candidate, engines)
        verdict = self._judge("int8", cast("Target", self.target), reference, answers, comparison)
        known = [head.accuracy for head in verdict.heads if head.accuracy is not None]
        finite = [layer.decibels for layers in noise.values() for layer in layers if np.isfinite(layer.decibels)]
        score = CalibratorScore(
            calibrator,
            divergence=float(np.mean([divergence(*pair) for pair in zip(reference, answers, strict=True)])),
            agreement=float(np.mean([head.agreement for head in verdict.heads])),
            accuracy=float(np.mean(known)) if known else None,
            decibels=float(np.mean(finite)) if finite else float("inf"),
        )
        return _Candidate(score, graphs, noise, ranges)

    # -- the gate -----------------------------------------------------------------------------------------------------

    def _judge(
        self, precision: Any, target: Target, reference: Sequence[Answers], tested: Sequence[Answers], data: Data
    ) -> Verdict:
        kind = "pictures" if isinstance(data, Pictures) else "windows of sessions"
        return judge(precision, target, reference, tested, self.classes, self.bounds, f"{kind}, {data.words}")

    def _verdicts(self, best: _Candidate, gate: Data) -> tuple[Verdict, ...]:
        self.report(f"gate: FP32 and INT8 on {_counted(gate)}")
        self.progress("gate", 0, 3)
        with closing(open_precision(self.bundle, "fp32", self.threads)) as engines:
            reference = answers_of(gate, self.bundle, engines)
        self.progress("gate", 1, 3)
        candidate = CandidateBundle(self.bundle, best.graphs)
        with closing(open_candidate(candidate, self.target, self.threads)) as engines:
            answers = answers_of(gate, candidate, engines)
        self.progress("gate", 2, 3)
        found = [self._judge("int8", cast("Target", self.target), reference, answers, gate)]
        if "fp16" in self.bundle.precisions("cpu"):
            self.report("gate: FP16 on the same")
            with closing(open_precision(self.bundle, "fp16", self.threads)) as engines:
                answers = answers_of(gate, self.bundle, engines)
            found.append(self._judge("fp16", "any", reference, answers, gate))
        self.progress("gate", 3, 3)
        return tuple(found)

    def _why(self, report: Report, best: _Candidate, gate: Data) -> str:
        """The message of a rejection: what was lost, the likely cause, the layers to look at."""
        causes = []
        seen = encoder_inputs(gate, self.manifest, _NOISE_SAMPLES, self.seed)
        for role, ranges in best.ranges.items():
            if role not in seen:
                continue
            few = {name: values[:_NOISE_SAMPLES] for name, values in seen[role].items()}
            histograms = collect_histograms(self.models[role], list(ranges), few, threads=self.threads)
            if cause := unlike_samples(ranges, histograms):
                causes.append(cause)
        layers = [
            f"{layer.layer} ({layer.decibels:.1f} dB)"
            for noise in report.layers.values()
            for layer in worst_layers(noise)
        ]
        count = report.verdicts[0].samples
        said = f"INT8 for {self.target} is rejected on {count} samples: {'; '.join(report.verdicts[0].faults)}"
        said += f" (each of so few counts {100 / count:.1f} points: judge on more)" if count < _FEW else ""
        said += f". Likely cause: {'; '.join(causes)}" if causes else ""
        return (
            f"{said}. Layers to look at: {', '.join(layers)}; --keep-float NAME leaves one float. Nothing was written"
        )

    # -- the bundle ---------------------------------------------------------------------------------------------------

    def _kept_float(self, roles: Sequence[Role]) -> dict[str, str]:
        kept = {"head": "LayerNorm, Softmax, attention and the heads stay float"}
        for role in self.models:
            if role not in roles:
                kept[role] = "no sessions with gaze among the data, so no fused frames to find ranges on"
        return kept | dict.fromkeys(self.keep_float, "as told")

    def _size(self, role: Role) -> int:
        return self.manifest.files[self.bundle.graph(role, "fp32", "cpu").file].size

    def _write(self, graphs: Mapping[Role, bytes], report: Report, out: Path) -> Bundle:
        manifest, target = self.manifest, cast("Target", self.target)
        replaced = [graph for graph in manifest.graphs if (graph.precision, graph.target) == ("int8", target)]
        kept = [graph for graph in manifest.graphs if graph not in replaced]
        gone = {graph.file for graph in replaced} - {graph.file for graph in kept}
        files = {name: self.bundle.read(name) for name in manifest.files if name not in gone}
        for role, content in graphs.items():
            name = f"{role}.int8.{target}.onnx"
            files[name] = content
            kept.append(Graph(role=role, precision="int8", target=target, file=name))
        held = {(one.precision, one.target): one for one in manifest.evidence}
        for verdict in report.verdicts:
            key = (verdict.precision, verdict.target)
            before = held.get(key)
            if verdict.precision == "int8":
                held[key] = verdict.evidence(report.method)
            elif before is None:
                held[key] = verdict.evidence()
            else:  # what the export measured and promised of FP16 stays beside what the gate did
                found = verdict.evidence(before.method)
                held[key] = found.model_copy(
                    update={
                        "figures": dict(before.figures) | dict(found.figures),
                        "bounds": dict(before.bounds) | dict(found.bounds),
                    }
                )
        changed = manifest.model_copy(
            update={
                "graphs": tuple(kept),
                "evidence": tuple(held.values()),
                "files": {name: FileEntry(sha256="0" * 64, size=0) for name in files},
            }
        )
        return write_bundle(out, changed, files)


def _counted(data: Data) -> str:
    return f"{len(data)} {'sessions' if isinstance(data, Recordings) else 'pictures'}"


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every node a name of its own, in place: layers are spoken of by name."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise BundleIncompatible("an FP32 graph of the bundle is quantised already; export the bundle anew")
    return model
