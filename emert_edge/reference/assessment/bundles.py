"""What a device would answer: a bundle's graphs, through an engine, on windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import FaceInput
from emert_edge.engines import Engine, EngineSet
from emert_edge.errors import BundleIncompatible
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.assessment.predictions import PUBLISHED_BATCH, Ablation, Predictions, collect
from emert_edge.reference.data.windows import SessionData, WindowBatch, Windows, window_index

__all__ = ["BundleModel", "normalised_crops"]

Array = npt.NDArray[np.float32]


class BundleModel:
    """A bundle on a device, answering for windows of sessions.

    Preprocessing is the manifest's: crops are normalised, eye features chosen and scaled, probabilities cooled as it
    says. Detection is not part of it; sessions hold crops.

    Parameters
    ----------
    bundle : Bundle
    engines : EngineSet
        Opened for this bundle; stays the caller's to close.
    sessions : sequence of SessionData
        Their crops and maps must have the sizes that the manifest asks for.

    Raises
    ------
    BundleIncompatible
        If the bundle has no classes to compare, asks for eye features that are unknown, or for crops or maps of another
        size than the sessions hold.
    """

    def __init__(
        self, bundle: Bundle, engines: EngineSet, sessions: Sequence[SessionData], baseline_tokens: int = 0
    ) -> None:
        manifest = bundle.manifest
        if manifest.eye is not None and manifest.eye.baseline_tokens != baseline_tokens:
            raise BundleIncompatible(
                f"{bundle.path}: takes out a subject's baseline of {manifest.eye.baseline_tokens} tokens, the sessions "
                f"have one of {baseline_tokens}; give the configuration that this bundle was trained with (baseline_s)"
            )
        labels = manifest.labels
        classes = labels.expression if labels.emotion is None else labels.emotion
        if labels.emotion is not None and labels.expression is not None and labels.emotion != labels.expression:
            raise BundleIncompatible(f"{bundle.path}: emotion and expression have different classes; they must be one")
        for kind, size, held in (
            ("face crops", manifest.face.size, sessions[0].crops.shape[-2:]),
            ("fixation maps", manifest.fixation.size if manifest.fixation else None, sessions[0].maps.shape[-2:]),
        ):
            if size is not None and tuple(size) != tuple(held):
                raise BundleIncompatible(
                    f"{bundle.path}: takes {kind} of {size[0]} × {size[1]}, the sessions hold {held[0]} × {held[1]}; "
                    "give the configuration that this bundle was trained with"
                )
        self.classes = classes or ()
        self._manifest, self._engines = manifest, engines
        self.windows = Windows(
            sessions,
            window_index(sessions, manifest.window),
            self._eye_scale(bundle),
            manifest.window,
            manifest.fixation,
            [self._encode_faces(session) for session in sessions],
        )

    @property
    def has_fixation(self) -> bool:
        """Whether there are fixation tokens to remove."""
        return self._manifest.fixation is not None

    def _eye_scale(self, bundle: Bundle) -> _ManifestScale:
        eye = self._manifest.eye
        if eye is None:
            return _ManifestScale((), np.zeros(0), np.ones(0), None)
        if unknown := [name for name in eye.features if name and name not in FEATURE_NAMES]:
            raise BundleIncompatible(f"{bundle.path}: takes eye features that are unknown here ({unknown[0]}, …)")
        return _ManifestScale(eye.features, np.asarray(eye.mean), np.asarray(eye.std), eye.clip)

    def _encode_faces(self, session: SessionData) -> Array:
        frames = normalised_crops(session.crops, self._manifest.face)
        return _run(self._engines.face_encoder, {"frame": frames})["face_token"]

    def _answer(self, batch: WindowBatch) -> dict[str, Array]:
        held = {name: tensor.numpy() for name, tensor in batch._asdict().items()}
        inputs = {
            "face_tokens": held["faces"] * held["face_mask"][..., None],
            "face_mask": held["face_mask"],
            "eye_tokens": held["eye_tokens"] * held["eye_mask"][..., None],
            "eye_mask": held["eye_mask"],
        }  # a head without masks reads zeros where a token is missing
        if self._manifest.points is not None:
            scale = np.asarray(self._manifest.points.scale, np.float32)
            inputs["gaze_points"] = held["points"] * scale * held["eye_mask"][..., None]
        if self._manifest.fixation is not None and self._engines.fixation_encoder is not None:
            fused = held["fused"]
            if self._manifest.fixation.color == "bgr":
                fused = fused[:, :, [2, 1, 0, 3]]
            tokens = _run(self._engines.fixation_encoder, {"fused": fused.reshape(-1, *fused.shape[2:])})
            rows = tokens["fixation_token"].reshape(*fused.shape[:2], -1)
            inputs |= {
                "fixation_tokens": rows * held["fixation_mask"][..., None],
                "fixation_mask": held["fixation_mask"],
            }
        return _run(self._engines.head, inputs)

    def predict(
        self, ablation: Ablation = "fused", eye_share: float = 1.0, batch_size: int = PUBLISHED_BATCH
    ) -> Predictions:
        """Answer for all windows of the sessions; parameters as for `emert_edge.reference.assessment.predictions`."""
        answered = collect(
            self._answer, self.windows, batch_size, ablation=ablation, eye_share=eye_share, classes=self.classes
        )
        return answered.with_temperature(self._manifest.temperature)


def normalised_crops(crops: npt.NDArray[np.uint8], spec: FaceInput) -> Array:
    """Crops of sessions, `(n, 3, H, W)` RGB planes in [0, 255], as a bundle's face encoder takes them."""
    mean, std = (np.asarray(value, np.float32)[:, None, None] for value in (spec.mean, spec.std))
    frames = (crops.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(frames[:, ::-1] if spec.color == "bgr" else frames)


class _ManifestScale:
    """The manifest's columns and scale; "" is a column of zeros."""

    def __init__(
        self, names: Sequence[str], mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64], clip: float | None
    ) -> None:
        self.columns = np.array([FEATURE_NAMES.index(name) if name else 0 for name in names], np.intp)
        self.mean, self.clip = mean, np.inf if clip is None else clip
        self.factor = np.where([not name for name in names], 0.0, 1.0 / std)

    def __call__(self, features: Array) -> Array:
        scaled = (features[:, self.columns] - self.mean) * self.factor
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)


def _run(engine: Engine, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run any number of rows, as many at a time as the engine takes."""
    count = len(next(iter(inputs.values())))
    collected: dict[str, list[Array]] = {name: [] for name in engine.outputs}
    for begin in range(0, count, engine.max_batch):
        rows = min(engine.max_batch, count - begin)
        for name, buffer in engine.inputs.items():
            buffer[:rows] = inputs[name][begin : begin + rows]
        engine.run(rows)
        for name, values in engine.outputs.items():
            collected[name].append(values[:rows].copy())
    return {name: np.concatenate(parts) for name, parts in collected.items()}
