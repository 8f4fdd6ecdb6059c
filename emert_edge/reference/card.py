"""The card of a bundle that was trained on simulated sessions: what it is, and what it must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["METRICS", "simulated_card"]

#: What each measured figure means, in the order in which a card shows them.
METRICS: dict[str, str] = {
    "face_uar": "Expression from one crop, people never seen: mean recall over the classes",
    "face_accuracy": "the same: accuracy",
    "expression_uar": "Expression from a window, subjects and stimuli never seen: mean recall",
    "emotion_uar_fused": "Emotion from face, eyes and fixation maps: mean recall",
    "emotion_uar_face_only": "Emotion from the face alone (gaze masked): mean recall",
    "emotion_uar_gaze_only": "Emotion from eyes and fixation maps alone (face masked): mean recall",
    "emotion_uar_half_eye": "Emotion, fused, with half of the eye tokens masked: mean recall",
    "gap_auc": "Telling windows where felt and shown differ by the gap: area under the ROC curve",
    "emotion_valence_ccc": "Valence of the emotion, fused: concordance",
    "emotion_arousal_ccc": "Arousal of the emotion, fused: concordance",
    "expression_intensity_ccc": "Intensity of the expression: concordance",
    "end_to_end_expression": "Whole road (drawn video, Haar detector, crop, graphs): share of estimates with the right "
    "expression",
    "end_to_end_emotion": "Whole road: share of estimates with the right emotion",
    "end_to_end_face": "Whole road: share of face tokens that were found",
}


def simulated_card(
    name: str, version: str, plan: Mapping[str, Any], metrics: Mapping[str, float], *, licence: str, command: str
) -> str:
    """Write the card, Markdown.

    Parameters
    ----------
    plan : mapping
        The training plan's fields.
    metrics : mapping
        Measured figures by the names in `METRICS`; others are left out.
    """
    rows = [f"| {METRICS[key]} | {metrics[key]:.3f} |" for key in METRICS if key in metrics]
    table = "\n".join(["| measured on simulated data held out from training | value |", "|---|---|", *rows])
    chance = """Chance is 0.143 for mean recall over seven classes and 0.5 for the area under the curve. Held out means:
drawn people, gaze subjects and stimuli that no training session had."""
    return f"""# {name} {version}

**This model has never seen a person.** It was trained only on drawn faces and on gaze whose relation to emotion was
invented for the purpose. It is a proof of the machinery: that a face and an eye tracker can be fused on a device, that
a lost tracker costs what it must, that the whole road from camera to estimate works. Its answers about real people
mean nothing, and no figure below says anything about real people.

## What it is

The dual-task EMERT of the emert_edge project, size `{plan["size"]}`: our reading of what the abstracts of arXiv
2411.05879 and arXiv 2512.16485 describe. It is not the published model, and no published number is claimed for it. The
face encoder reads one crop of 112 × 112; a window holds 8 face tokens, 32 eye tokens of 39 features, and 8 fixation
tokens over 4 s. `expression` is what the face shows, `emotion` what is felt.

## What each part was trained on

- Face encoder: {plan["faces"]} drawn faces, {plan["face_epochs"]} epochs.
- Fixation encoder and both tasks' heads: {plan["sessions"]} simulated sessions of {plan["session_s"]:g} s, in
  {plan["session_epochs"] * plan["session_steps"]} batches of {plan["session_batch"]} windows. In about a third of the
  sessions the face shows something else than is felt.
- No photograph, no recording, no person's data. There is no head for reactions.

## Measured

{table if rows else "Nothing has been measured for this bundle."}

{chance if rows else ""}

Made with: `{command or "not recorded"}`

## What it must not be used for

An estimate is not a person's true emotion, from this or any model. The EU AI Act bans emotion inference at work and in
education, save for medical or safety reasons (Art. 5(1)(f)), counts other emotion recognition as high-risk (Annex III),
and asks that people be told (Art. 50(3)).

## Licence of the weights

{licence}.
"""
