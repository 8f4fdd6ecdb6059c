"""What training minimises: both tasks' errors, and the decoupling of modalities. Unknown labels cost nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from emert_edge.reference.data.windows import UNKNOWN, WindowBatch
from emert_edge.reference.emert import Decoupled

__all__ = ["decoupling_loss", "task_loss"]


def _mean_known(each: Tensor, known: Tensor) -> Tensor:
    """Mean over what is known; 0 where nothing is. What stands at unknown places has no influence, not even a NaN."""
    kept = torch.where(known, each, torch.zeros_like(each))
    return kept.sum() / known.sum().clamp(min=1)


def _value_loss(said: Tensor, truth: Tensor, beta: float) -> Tensor:
    known = torch.isfinite(truth)
    each = F.smooth_l1_loss(said, torch.where(known, truth, said.detach()), beta=beta, reduction="none")
    return _mean_known(each, known)


def task_loss(
    outputs: dict[str, Tensor],
    batch: WindowBatch,
    polarity_of: Tensor,
    *,
    label_smoothing: float = 0.05,
    polarity_weight: float = 0.3,
    intensity_weight: float = 0.3,
) -> Tensor:
    """Cross-entropy of classes and polarities, smooth L1 of valence, arousal and intensity, for both tasks.

    Parameters
    ----------
    outputs : dict of str to Tensor
        Of `FusionHead`.
    polarity_of : Tensor
        (classes,) int64, the polarity of each class.
    """
    loss = outputs["emotion_logits"].new_zeros(())
    for column, (task, truth) in enumerate((("emotion", batch.emotion), ("expression", batch.expression))):
        known = truth != UNKNOWN
        label = truth.clamp(min=0)
        classes = F.cross_entropy(
            outputs[f"{task}_logits"], label, label_smoothing=label_smoothing, reduction="none"
        )  # fmt: skip
        polarity = F.cross_entropy(outputs[f"{task}_polarity_logits"], polarity_of[label], reduction="none")
        loss = loss + _mean_known(classes + polarity_weight * polarity, known)
        affect = batch.affect[:, 2 * column : 2 * column + 2]
        loss = loss + _value_loss(outputs[f"{task}_valence_arousal"], affect, beta=0.3)
    return loss + intensity_weight * _value_loss(outputs["expression_intensity"], batch.affect[:, 4:5], beta=1.0)


def decoupling_loss(decoupled: Decoupled, invariant: float, specific: float) -> Tensor:
    """Which modality features come from: told by the specific ones, hidden (by the reversed gradient) in the others.

    Parameters
    ----------
    invariant, specific : float
        Weights; both 0.01 in the published scripts.
    """
    loss = decoupled.specific[0].new_zeros(())
    for weight, judged in ((invariant, decoupled.invariant), (specific, decoupled.specific)):
        for modality, (logits, present) in enumerate(zip(judged, decoupled.present, strict=True)):
            target = torch.full((len(logits),), modality, device=logits.device)
            loss = loss + weight * _mean_known(F.cross_entropy(logits, target, reduction="none"), present)
    return loss
