"""Cross-validation: a model a fold, trained without it and asked about it. Who trains, and how, is the caller's.

A fold's answers lie in ``folds/`` as soon as they are there, so an evaluation that was stopped goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.reference.assessment.predictions import PUBLISHED_BATCH, Predictions, predict
from emert_edge.reference.assessment.splits import Fold, SplitKind
from emert_edge.reference.assessment.temperature import fit_temperature
from emert_edge.reference.assessment.variants import Variant, variants_of
from emert_edge.reference.data.windows import EyeScale, SessionData, Windows, window_index
from emert_edge.reference.emert import Emert

__all__ = [
    "Encode",
    "Fit",
    "claim",
    "cross_validate",
    "digest",
    "fit_temperatures",
    "model_windows",
    "of_whole_sessions",
]

Fit = Callable[[Sequence[SessionData], Sequence[SessionData], Path, tuple[str, ...]], tuple[Emert, EyeScale]]
"""Trains on some sessions, validates on others, keeps its things in a folder; the model sees these modalities alone."""

Encode = Callable[[Emert, Sequence[SessionData]], Sequence[npt.NDArray[np.float32]]]
"""Face tokens (P, D) of each session."""


def of_whole_sessions(sessions: Sequence[SessionData]) -> bool:
    """Whether every session has one label throughout, as clips of EMER have: then a session is a row, not a window."""
    return all(
        np.array_equal(labels, np.broadcast_to(labels[:1], labels.shape), equal_nan=labels.dtype.kind == "f")
        for session in sessions
        for labels in (session.emotion, session.expression, session.affect)
    )


def digest(sessions: Sequence[SessionData]) -> str:
    """Return a fingerprint of the sessions' names, groups and labels."""
    found = hashlib.blake2b(digest_size=16)
    for session in sessions:
        found.update(repr((session.id, session.subject, session.stimulus, session.fold)).encode())
        for labels in (session.emotion, session.expression, session.affect):
            found.update(np.ascontiguousarray(labels).tobytes())
    return found.hexdigest()


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make an evaluation's folder, or take up the one that lies there.

    Raises
    ------
    EmertError
        If that was another evaluation: its folds are not this one's. Names the settings that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "evaluation.json"
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        aside = file.with_suffix(".json.part")
        aside.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        aside.replace(file)
        return
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        differing = sorted(name for name in {*held, *wanted} if held.get(name) != wanted.get(name))
    except (ValueError, TypeError, AttributeError) as error:
        raise EmertError(f"{file}: not an evaluation's settings ({error}); give another folder") from error
    if differing:
        raise EmertError(
            f"{folder} holds another evaluation ({', '.join(differing)} differ); give another folder, or remove it"
        )


def model_windows(
    model: Emert,
    scale: EyeScale,
    sessions: Sequence[SessionData],
    encode: Encode,
    window: WindowSpec,
    fixation: FixationInput,
) -> Windows:
    """Cut all windows of sessions as a model takes them."""
    return Windows(
        sessions,
        window_index(sessions, window),
        scale,
        window,
        None if model.fixation_encoder is None else fixation,
        encode(model, sessions),
    )


def fit_temperatures(validation: Predictions) -> dict[str, float]:
    """Fit a temperature for each head of classes whose labels the validation rows have.

    Polarity has no temperature: a device gives it as it is.
    """
    return {
        head: fit_temperature(np.asarray(validation.outputs[f"{head}_logits"]), labels)
        for head, labels in (("emotion", validation.emotion), ("expression", validation.expression))
        if f"{head}_logits" in validation.outputs and (labels >= 0).any()
    }


def cross_validate(
    kind: SplitKind,
    sessions: Sequence[SessionData],
    folds: Sequence[Fold],
    fit: Fit,
    folder: Path,
    *,
    encode: Encode,
    window: WindowSpec,
    fixation: FixationInput,
    classes: Sequence[str],
    fixation_tokens: bool = True,
    batch_size: int = PUBLISHED_BATCH,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Predictions]:
    """Train a model a fold and pool what they answer about what they never saw.

    Parameters
    ----------
    kind : str
        The split's, for the names of files.
    fit : callable
        Trains; is called again for the models that never have a modality.
    folder : Path
        Receives ``folds/`` with each fold's predictions and ``training/`` with what `fit` keeps.
    fixation_tokens : bool
        Whether the model has them; one with gaze points has not.

    Returns
    -------
    dict of str to Predictions
        By the variants' keys, all folds pooled, a row a window, or a session where labels are of whole sessions. Their
        temperatures were fitted on validation rows, which no test row is among.
    """
    (folder / "folds").mkdir(parents=True, exist_ok=True)
    whole = of_whole_sessions(sessions)
    variants = variants_of(fixation=fixation_tokens, trained=True)
    pooled: dict[str, list[Predictions]] = {variant.key: [] for variant in variants}
    for fold in folds:
        parts = [[sessions[number] for number in part] for part in (fold.train, fold.validation, fold.test)]
        for modalities, group in groupby(sorted(variants, key=_modalities), key=_modalities):
            files = {variant: folder / "folds" / f"{kind}-{fold.number}-{variant.key}.npz" for variant in group}
            if not all(file.exists() for file in files.values()):
                name = f"{kind}-{fold.number}-{'-'.join(modalities)}"
                report(f"{kind}, fold {fold.number} of {len(folds)}: training on {' and '.join(modalities)}")
                training, validation, test = parts
                model, scale = fit(training, validation, folder / "training" / name, modalities)
                made = _answers(
                    model, scale, validation, test, list(files),
                    encode=encode, window=window, fixation=fixation, classes=classes, whole=whole,
                    batch_size=batch_size,
                )  # fmt: skip
                for variant, file in files.items():
                    made[variant].in_fold(fold.number).save(file)
            for variant, file in files.items():
                pooled[variant.key].append(Predictions.load(file))
    return {key: Predictions.joined(found) for key, found in pooled.items()}


def _modalities(variant: Variant) -> tuple[str, ...]:
    return variant.modalities


def _answers(
    model: Emert,
    scale: EyeScale,
    validation: Sequence[SessionData],
    test: Sequence[SessionData],
    variants: Sequence[Variant],
    *,
    encode: Encode,
    window: WindowSpec,
    fixation: FixationInput,
    classes: Sequence[str],
    whole: bool,
    batch_size: int,
) -> dict[Variant, Predictions]:
    """Let one model answer about the test sessions, at temperatures from the validation sessions."""

    def answer(windows: Windows, variant: Variant) -> Predictions:
        found = predict(
            model, windows, batch_size, ablation=variant.ablation, eye_share=variant.eye_share, classes=classes
        )
        return found.by_session(batch_size) if whole else found

    held_out, tested = (model_windows(model, scale, part, encode, window, fixation) for part in (validation, test))
    # As the model is meant; what is then removed from it is removed under the same temperatures.
    temperatures = fit_temperatures(answer(held_out, variants[0]))
    return {variant: answer(tested, variant).with_temperature(temperatures) for variant in variants}
