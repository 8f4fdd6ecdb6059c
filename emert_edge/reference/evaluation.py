"""How well a model does on simulated data that it was not trained on: people, subjects and stimuli are all new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emert_edge.estimate import jensen_shannon
from emert_edge.reference.emert import Emert
from emert_edge.reference.plan import WINDOW, TrainingPlan
from emert_edge.reference.simulated_data import FaceSet, SessionSet, make_faces, make_sessions
from emert_edge.reference.training import EyeScale, face_encoding, windows_of

__all__ = ["accuracy", "area_under_roc", "concordance", "evaluate_simulated", "unweighted_average_recall"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


def accuracy(truth: Ints, said: Ints) -> float:
    """Share of right answers."""
    return float((truth == said).mean())


def unweighted_average_recall(truth: Ints, said: Ints) -> float:
    """Mean over the classes that occur of the share of each that was recognised (UAR)."""
    return float(np.mean([(said[truth == label] == label).mean() for label in np.unique(truth)]))


def area_under_roc(positive: npt.NDArray[np.bool_], score: Floats) -> float:
    """Probability that a positive scores higher than a negative; ties count half. NaN if there is only one kind."""
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def concordance(truth: Floats, said: Floats) -> float:
    """Lin's concordance correlation coefficient (CCC)."""
    spread = truth.var() + said.var() + (truth.mean() - said.mean()) ** 2
    covariance = ((truth - truth.mean()) * (said - said.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else 0.0


def _cached(path: Path, kind: type[FaceSet] | type[SessionSet], make: Callable[[], FaceSet | SessionSet]) -> object:
    if path.exists():
        return kind.load(path)
    made = make()
    made.save(path)
    return made


def _answers(
    model: Emert, sessions: SessionSet, scale: EyeScale, masks: tuple[float, float, float], eye_share: float = 1.0
) -> dict[str, Tensor]:
    """Outputs for whole windows at every other grid point, with each modality's mask multiplied."""
    collected: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for chosen, points in _whole_windows(sessions):
            batch = windows_of(sessions, chosen, points, scale)
            fixation = model.fixation_encoder(batch.fused.flatten(0, 1)).reshape(*batch.fused.shape[:2], -1)
            kept = torch.rand(batch.eye_mask.shape, generator=generator) < eye_share
            outputs = model.head(
                batch.face_tokens, batch.face_mask * masks[0], batch.eye_tokens, batch.eye_mask * masks[1] * kept,
                fixation, batch.fixation_mask * masks[2],
            )  # fmt: skip
            outputs |= {"labels": batch.labels, "affect": batch.affect}
            for name, value in outputs.items():
                collected.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in collected.items()}


def _whole_windows(sessions: SessionSet) -> Iterator[tuple[Ints, Ints]]:
    points = np.arange(WINDOW.face_tokens, sessions.labels.shape[1], 2)
    for index in range(len(sessions)):
        yield np.full(len(points), index), points


def evaluate_simulated(
    model: Emert, scale: EyeScale, plan: TrainingPlan, folder: Path, report: Callable[[str], None] = lambda line: None
) -> dict[str, float]:
    """Figures on held-out drawn faces and simulated sessions; `emert_edge.reference.card.METRICS` explains each.

    Parameters
    ----------
    folder : Path
        Where the held-out data are cached.
    """
    model.eval()
    faces = _cached(folder / "test_faces.npz", FaceSet, lambda: make_faces(plan.test_faces, plan.seed, "test"))
    assert isinstance(faces, FaceSet)
    encode = face_encoding(model)
    truth, said = faces.weights.argmax(1), encode(faces.crops)[1].argmax(1)
    figures = {"face_accuracy": accuracy(truth, said), "face_uar": unweighted_average_recall(truth, said)}
    report(f"held-out faces: accuracy {figures['face_accuracy']:.3f}")
    sessions = _cached(
        folder / "test_sessions.npz",
        SessionSet,
        lambda: make_sessions(
            plan.test_sessions, plan.seed, "test", plan.session_s, encode,
            lambda done: report(f"simulated {done} of {plan.test_sessions} held-out sessions"),
        ),
    )  # fmt: skip
    assert isinstance(sessions, SessionSet)
    fused = _answers(model, sessions, scale, (1, 1, 1))
    felt, shown = fused["labels"][:, 0].numpy(), fused["labels"][:, 1].numpy()
    figures["expression_uar"] = unweighted_average_recall(shown, fused["expression_logits"].argmax(1).numpy())
    for name, masks, share in (
        ("fused", (1.0, 1.0, 1.0), 1.0),
        ("face_only", (1.0, 0.0, 0.0), 1.0),
        ("gaze_only", (0.0, 1.0, 1.0), 1.0),
        ("half_eye", (1.0, 1.0, 1.0), 0.5),
    ):
        answers = fused if name == "fused" else _answers(model, sessions, scale, masks, share)
        said = answers["emotion_logits"].argmax(1).numpy()
        figures[f"emotion_uar_{name}"] = unweighted_average_recall(felt, said)
    pairs = zip(
        torch.softmax(fused["emotion_logits"].double(), 1).numpy(),
        torch.softmax(fused["expression_logits"].double(), 1).numpy(),
        strict=True,
    )
    gap = np.array([jensen_shannon(emotion, expression) for emotion, expression in pairs])
    figures["gap_auc"] = area_under_roc(felt != shown, gap)
    affect = fused["affect"].numpy()
    figures["emotion_valence_ccc"] = concordance(affect[:, 0], fused["emotion_valence_arousal"][:, 0].numpy())
    figures["emotion_arousal_ccc"] = concordance(affect[:, 1], fused["emotion_valence_arousal"][:, 1].numpy())
    figures["expression_intensity_ccc"] = concordance(affect[:, 4], fused["expression_intensity"][:, 0].numpy())
    return {name: round(value, 4) for name, value in figures.items()}
