"""What a precision answers for samples, through the engines that run it on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from emert_edge.bundle import Bundle
from emert_edge.engines import EngineSet
from emert_edge.estimate import jensen_shannon, softmax
from emert_edge.recognizer import write_whole_faces
from emert_edge.reference.assessment.bundles import BundleModel
from emert_edge.reference.data.windows import UNKNOWN

from .data import Data, Pictures

__all__ = ["Answers", "answers_of", "divergence"]

Floats: TypeAlias = npt.NDArray[np.float64]
TASKS = ("expression", "emotion")


@dataclass(frozen=True)
class Answers:
    """One head's answers for all samples."""

    head: str
    """"expression" or "emotion"."""
    probabilities: Floats
    """(n, classes)."""
    truth: npt.NDArray[np.int64]
    """(n,), -1 where unknown."""

    @property
    def said(self) -> npt.NDArray[np.int64]:
        """The most probable class of each."""
        return np.asarray(self.probabilities.argmax(1), np.int64)


def divergence(reference: Answers, tested: Answers) -> float:
    """Mean Jensen–Shannon divergence (base 2) of two precisions' answers, in [0, 1]."""
    return float(
        np.mean(
            [
                jensen_shannon(one, other)
                for one, other in zip(reference.probabilities, tested.probabilities, strict=True)
            ]
        )
    )


def answers_of(data: Data, bundle: Bundle, engines: EngineSet) -> tuple[Answers, ...]:
    """Let a bundle's engines answer for samples.

    Pictures are read as `Recognizer.expressions` reads them; where the face encoder has no expression head (the
    authors' checkpoints), as a window in which nothing but that face is seen. Sessions are read window by window.

    Parameters
    ----------
    engines : EngineSet
        Opened for this bundle; stays the caller's to close.

    Returns
    -------
    tuple of Answers
        One of each head that has classes.
    """
    if isinstance(data, Pictures):
        return _of_pictures(data, bundle, engines)
    model = BundleModel(bundle, engines, data.sessions)
    found = model.predict()
    truth = {"expression": found.expression, "emotion": found.emotion}
    return tuple(
        Answers(task, found.probabilities(task), truth[task]) for task in TASKS if f"{task}_logits" in found.outputs
    )  # fmt: skip


def _of_pictures(data: Pictures, bundle: Bundle, engines: EngineSet) -> tuple[Answers, ...]:
    encoder, head = engines.face_encoder, engines.head
    alone = "expression_logits" in encoder.outputs
    tasks = ("expression",) if alone else tuple(task for task in TASKS if f"{task}_logits" in head.outputs)
    temperature = bundle.manifest.temperature
    collected: dict[str, list[Floats]] = {task: [] for task in tasks}
    most = encoder.max_batch if alone else min(encoder.max_batch, head.max_batch)
    for begin in range(0, len(data), most):
        part = data.images[begin : begin + most]
        write_whole_faces(encoder.inputs["frame"], part, bundle.manifest.face)
        encoder.run(len(part))
        if alone:
            logits = encoder.outputs["expression_logits"][: len(part)]
            collected["expression"].append(softmax(logits, temperature.get("face_expression", 1.0)))
            continue
        for name, buffer in head.inputs.items():
            buffer[: len(part)] = 0
            if name == "face_tokens":
                buffer[: len(part)] = encoder.outputs["face_token"][: len(part), None]
            elif name == "face_mask":
                buffer[: len(part)] = 1
        head.run(len(part))
        for task in tasks:
            collected[task].append(softmax(head.outputs[f"{task}_logits"][: len(part)], temperature.get(task, 1.0)))
    # A picture's label is what it shows, which says nothing of what is felt.
    unknown = np.full(len(data), UNKNOWN, np.int64)
    return tuple(
        Answers(task, np.concatenate(collected[task]), data.labels if task == "expression" else unknown)
        for task in tasks
    )  # fmt: skip
