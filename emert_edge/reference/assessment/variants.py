"""What is taken from a model, and how: it never had it in training, or it is removed when the model is tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emert_edge.reference.assessment.predictions import Ablation, Predictions

__all__ = ["VARIANTS", "Variant", "removed_at_test_time"]


class Variant(NamedTuple):
    """One way to answer."""

    key: str
    title: str
    modalities: tuple[str, ...]
    """What its model saw in training, of "face", "eye", "fixation"."""
    ablation: Ablation
    """What it sees in the test."""
    eye_share: float = 1.0
    """Share of the eye tokens that stay in the test."""


_ALL = ("face", "eye", "fixation")
_EYES = ("eye", "fixation")

#: The first is the model as it is meant; the rest is compared with it.
VARIANTS = (
    Variant("fused", "face and eyes", _ALL, "fused"),
    Variant("face_trained", "face only, trained without eyes", ("face",), "face"),
    Variant("eye_trained", "eyes only, trained without faces", _EYES, "eye"),
    Variant("face_left", "face only, the eyes removed at test time", _ALL, "face"),
    Variant("eye_left", "eyes only, the face removed at test time", _ALL, "eye"),
    Variant("no_eye", "eye tokens removed at test time", _ALL, "no_eye"),
    Variant("no_fixation", "fixation tokens removed at test time", _ALL, "no_fixation"),
    Variant("half_eye", "half of the eye tokens removed at test time", _ALL, "fused", 0.5),
)


def variants_of(*, fixation: bool, trained: bool) -> tuple[Variant, ...]:
    """Return those that a model can have.

    Parameters
    ----------
    fixation : bool
        Whether it has fixation tokens. One with gaze points has none, and is left with the face without eye tokens.
    trained : bool
        Whether models are trained for this, without a modality too.
    """
    return tuple(
        variant
        for variant in VARIANTS
        if (trained or variant.modalities == _ALL) and (fixation or variant.ablation not in ("no_eye", "no_fixation"))
    )


def removed_at_test_time(
    predict: Callable[[Ablation, float], Predictions], *, fixation: bool
) -> dict[str, Predictions]:
    """Let one model answer in every variant that needs no other training."""
    return {
        variant.key: predict(variant.ablation, variant.eye_share)
        for variant in variants_of(fixation=fixation, trained=False)
    }
