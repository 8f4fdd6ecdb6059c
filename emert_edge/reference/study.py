"""What fusing is worth on simulated sessions: a model that sees everything beside models that see one source.

The face encoder is given and rests. For each seed three models are trained on the same sessions, on everything, on
faces alone and on eyes alone, and tested on sessions whose subjects, stimuli and faces no training session had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from emert_edge.reference.assessment.metrics import area_under_roc, calibration_error, class_scores
from emert_edge.reference.assessment.predictions import Ablation, Predictions, predict
from emert_edge.reference.configuration import Configuration, SessionStage
from emert_edge.reference.data.windows import EyeScale, SessionData, Windows, window_index
from emert_edge.reference.emert import Emert
from emert_edge.reference.stages.run import train_sessions
from emert_edge.reference.stages.sessions import MODALITIES, encode_faces

__all__ = ["fused_figures", "simulated_study", "spread"]

Report = Callable[[str], None]
ALONE = {"face": ("face",), "eye": ("eye", "fixation")}


def _windows(configuration: Configuration, model: Emert, sessions: Sequence[SessionData], scale: EyeScale) -> Windows:
    """Every second whole window."""
    window = configuration.window
    index = window_index(sessions, window, first=window.face_tokens, step=2)
    fixation = configuration.fixation if model.config.gaze == "maps" else None
    return Windows(sessions, index, scale, window, fixation, encode_faces(model, sessions))


def _uar(predictions: Predictions, task: str) -> float:
    truth = predictions.emotion if task == "emotion" else predictions.expression
    return class_scores(truth, predictions.outputs[f"{task}_logits"].argmax(1), predictions.classes).values["UAR"]


def fused_figures(
    configuration: Configuration,
    model: Emert,
    scale: EyeScale,
    sessions: Sequence[SessionData],
    temperature: dict[str, float],
) -> dict[str, float]:
    """What one model gets on held-out sessions, whole and with modalities removed; names as on a card."""
    windows = _windows(configuration, model, sessions, scale)

    def answered(ablation: Ablation, eye_share: float = 1.0) -> Predictions:
        told = predict(model, windows, 64, ablation=ablation, eye_share=eye_share, classes=configuration.classes)
        return told.with_temperature(temperature)

    fused = answered("fused")
    return {
        "expression_uar": _uar(fused, "expression"),
        "emotion_uar_fused": _uar(fused, "emotion"),
        "emotion_uar_face": _uar(answered("face"), "emotion"),
        "emotion_uar_eye": _uar(answered("eye"), "emotion"),
        "emotion_uar_half_eye": _uar(answered("fused", 0.5), "emotion"),
        "gap_auc": area_under_roc(fused.emotion != fused.expression, fused.gap()).values["ROC AUC"],
        "emotion_ece": calibration_error(fused.emotion, fused.probabilities("emotion")),
    }


def _fresh(configuration: Configuration, encoder: nn.Module, seed: int) -> Emert:
    torch.manual_seed(seed)
    model = Emert(configuration.model_config_of())
    model.face_encoder.load_state_dict(encoder.state_dict())
    return model


def simulated_study(
    configuration: Configuration,
    stage: SessionStage,
    encoder: nn.Module,
    sessions: tuple[Sequence[SessionData], Sequence[SessionData], Sequence[SessionData]],
    seeds: Sequence[int],
    folder: Path,
    report: Report = lambda line: None,
) -> dict[int, dict[str, float]]:
    """Train and test for each seed; takes up what lies in `folder`.

    Parameters
    ----------
    encoder : FaceEncoder
        Trained; it is not changed.
    sessions : tuple
        To learn from, to validate on, to test on.
    seeds : sequence of int
        Of the weights' beginnings, the order of batches and what is dropped; the sessions stay the same.

    Returns
    -------
    dict
        Of each seed the figures by their names on a card.
    """
    training, validation, test = sessions
    figures: dict[int, dict[str, float]] = {}
    for seed in seeds:
        seeded = configuration.model_copy(update={"seed": seed})
        found: dict[str, float] = {}
        for name, modalities in {"fused": MODALITIES, **ALONE}.items():
            report(f"study: seed {seed}, {name}")
            model = _fresh(seeded, encoder, seed)
            scale, fitted = train_sessions(
                seeded, stage, model, training, validation, folder / f"seed-{seed}-{name}", report,
                modalities=modalities,
            )  # fmt: skip
            temperature = {task: fitted[f"{task}_temperature"] for task in ("emotion", "expression")}
            if name == "fused":
                found |= fused_figures(seeded, model, scale, test, temperature)
                continue
            windows = _windows(seeded, model, test, scale)
            alone = predict(model, windows, 64, ablation="face" if name == "face" else "eye", classes=seeded.classes)
            found[f"emotion_uar_trained_{name}_only"] = _uar(alone, "emotion")
            if name == "face":
                found["expression_uar_face_only"] = _uar(alone, "expression")
        figures[seed] = found
        report(f"study: seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return figures


def spread(figures: dict[int, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean over the seeds and sample standard deviation (0 of a single seed) of each figure."""
    names = next(iter(figures.values()))
    columns = {name: [of_seed[name] for of_seed in figures.values()] for name in names}
    return {
        name: (float(np.mean(column)), float(np.std(column, ddof=1)) if len(column) > 1 else 0.0)
        for name, column in columns.items()
    }
