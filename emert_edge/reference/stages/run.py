"""A training run from its configuration: data first, then the stages in order, each taken up where it stopped.

The folder of a run::

    configuration.json      what is being trained; another configuration may not take the folder over
    data/                   caches: crops, eye features and maps, so that an epoch decodes nothing
    1-expressions/          checkpoints, csv/metrics.csv and TensorBoard's events of the first stage
    2-sessions/             … and of the second
    model.pt                the finished model, for `emert-edge export` and `emert-edge evaluate`
    metrics.json            what was measured on validation data, a part a stage
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.assessment.temperature import fit_temperature
from emert_edge.reference.checkpoint import load_checkpoint, save_checkpoint
from emert_edge.reference.configuration import Configuration, ExpressionStage, ReactionStage, SessionStage
from emert_edge.reference.data.emer import EmerSessions, load_emer
from emert_edge.reference.data.faces import DrawnFaces, FaceImages, stratified_split
from emert_edge.reference.data.sessions import TableSessions, load_sessions
from emert_edge.reference.data.simulated import gather_faces, load_simulated
from emert_edge.reference.data.windows import (
    EYE_CLIP,
    UNKNOWN,
    EyeScale,
    SessionData,
    Windows,
    eye_scale,
    window_index,
    with_baseline,
)
from emert_edge.reference.emert import Emert
from emert_edge.reference.reactions import ReactionModel, load_backbone_weights
from emert_edge.reference.stages.batches import batches
from emert_edge.reference.stages.expressions import ExpressionTask, FaceBatches, Teacher
from emert_edge.reference.stages.fitting import fit, require_trainer, resting_place, threads_of
from emert_edge.reference.stages.reactions import load_reactions, train_reactions
from emert_edge.reference.stages.sessions import MODALITIES, SessionTask, encode_faces, face_encoding, run_model

__all__ = [
    "load_faces",
    "load_session_data",
    "read_claim",
    "settled",
    "split_sessions",
    "train",
    "train_expressions",
    "train_sessions",
]

Report = Callable[[str], None]


# -- data -------------------------------------------------------------------------------------------------------------


def load_faces(
    configuration: Configuration, stage: ExpressionStage, folder: Path, report: Report = lambda line: None
) -> tuple[FaceImages, FaceImages]:
    """Pictures to learn from, and those held out from every source (from photographs, where there are any).

    Parameters
    ----------
    folder : Path
        Where caches lie.
    """
    kept: list[FaceImages] = []
    photographs: list[FaceImages] = []
    drawings: list[FaceImages] = []
    for source in stage.data:
        report(f"faces: {getattr(source, 'path', source.kind)}")
        faces = gather_faces(source, configuration.seed, configuration.classes, configuration.face, folder)
        split = configuration.seed if stage.split is None else stage.split
        learnt_rows, held_rows = stratified_split(faces.labels, stage.validation, split)
        kept.append(faces[learnt_rows])
        (drawings if isinstance(source, DrawnFaces) else photographs).append(faces[held_rows])
    learnt, held = FaceImages.joined(kept), FaceImages.joined(photographs or drawings)
    if not len(learnt) or not len(held):
        raise EmertError("faces: one picture of a class cannot be learnt from and held out; give two or more of each")
    return learnt, held


def load_session_data(
    configuration: Configuration, stage: SessionStage, folder: Path, report: Report = lambda line: None
) -> list[SessionData]:
    """The stage's sessions, each subject's baseline taken out where that is asked for; caches lie in `folder`."""
    source = stage.data
    if isinstance(source, TableSessions):
        sessions = load_sessions(source, configuration, folder, report)
    elif isinstance(source, EmerSessions):
        sessions = load_emer(source, configuration, folder, report)
    else:
        sessions = load_simulated(source, configuration, folder, report)
    return with_baseline(sessions, configuration.baseline_tokens)


def split_sessions(
    sessions: Sequence[SessionData], share: float, by: str, seed: int
) -> tuple[list[SessionData], list[SessionData]]:
    """Sessions to learn from and to validate on; no subject (or stimulus) is in both.

    Raises
    ------
    EmertError
        If the sessions do not say whose they are (or what was looked at), or there is only one group.
    """
    if by == "session":
        groups = [session.id for session in sessions]
    else:
        named = [getattr(session, by) for session in sessions]
        lacking = [session.id for session, name in zip(sessions, named, strict=True) if name is None]
        if lacking:
            raise EmertError(
                f"session {lacking[0]!r} names no {by}; give a column {by!r}, or say `validation_by: session`"
            )
        groups = [str(name) for name in named]
    names = sorted(set(groups))
    if len(names) < 2:
        raise EmertError(f"validation needs two or more {by}s, the sessions have {len(names)}")
    order = np.random.default_rng([seed, 13]).permutation(len(names))
    held = {names[index] for index in order[: min(max(1, round(share * len(names))), len(names) - 1)]}
    return (
        [session for session, group in zip(sessions, groups, strict=True) if group not in held],
        [session for session, group in zip(sessions, groups, strict=True) if group in held],
    )


# -- stages -----------------------------------------------------------------------------------------------------------


def train_expressions(
    configuration: Configuration,
    stage: ExpressionStage,
    model: Emert,
    learnt: FaceImages,
    held: FaceImages,
    folder: Path,
    report: Report = lambda line: None,
) -> dict[str, float]:
    """Train the model's face encoder in place, or take up the run that lies in `folder`.

    Where the stage distils and names no teacher, the encoder as it comes in is the teacher of what it becomes.

    Returns
    -------
    dict of str to float
        Measured on the pictures held out; `temperature` is fitted on them.
    """
    final = folder / "face_encoder.pt"
    if final.exists():
        content = load_checkpoint(final)
        model.face_encoder.load_state_dict(content["face_encoder"])
        return dict(content["figures"])
    count = len(configuration.classes)
    frequencies = np.bincount(learnt.labels, minlength=count) / len(learnt)
    teacher = None
    if stage.distilled:
        teacher = Teacher.read(stage.teacher, count) if stage.teacher else Teacher(model.face_encoder)
    place = resting_place(configuration.trainer, learnt.crops.nbytes + held.crops.nbytes)
    loader = batches(FaceBatches(learnt, place), len(learnt), stage.batch, configuration.seed)
    task = ExpressionTask(
        model.face_encoder.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        stage, frequencies, stage.epochs * len(loader), configuration.seed, teacher,
    )  # fmt: skip
    figures = fit(
        task, loader, batches(FaceBatches(held, place), len(held), 256), settings=configuration.trainer, folder=folder,
        stage="face encoder", epochs=stage.epochs, patience=stage.patience, averaging=stage.averaging, report=report,
    )  # fmt: skip
    # As a run that is taken up loads it: the order of channels decides the last digits of sums.
    model.face_encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    logits = face_encoding(model)(held.crops)[1]
    figures["temperature"] = fit_temperature(logits, held.labels)
    if _first_process():
        save_checkpoint(final, {"face_encoder": model.face_encoder.state_dict(), "figures": figures})
    return figures


def train_sessions(
    configuration: Configuration,
    stage: SessionStage,
    model: Emert,
    training: Sequence[SessionData],
    validation: Sequence[SessionData],
    folder: Path,
    report: Report = lambda line: None,
    *,
    modalities: Sequence[str] = MODALITIES,
) -> tuple[EyeScale, dict[str, float]]:
    """Train the rest of the model in place, or take up the run that lies in `folder`.

    Parameters
    ----------
    modalities : sequence of str
        What the model may see, of "face", "eye", "fixation"; the others are always masked.

    Returns
    -------
    EyeScale
        How eye features must be scaled for this model.
    dict of str to float
        Measured on the validation sessions, and the temperatures that were fitted on them.
    """
    final = folder / "sessions.pt"
    if final.exists():
        content = load_checkpoint(final)
        model.load_state_dict(content["model"])
        return EyeScale(content["eye_mean"].numpy(), content["eye_std"].numpy()), dict(content["figures"])
    scale = eye_scale(training)
    resting = not stage.train_face_encoder
    window, fixation = configuration.window, configuration.fixation if model.config.gaze == "maps" else None
    parts = []
    for sessions, step in ((training, 1), (validation, 2)):
        tokens = encode_faces(model, sessions) if resting else None
        parts.append(Windows(sessions, window_index(sessions, window, step=step), scale, window, fixation, tokens))
    loader = batches(parts[0], len(parts[0]), stage.batch, configuration.seed)
    steps = min(stage.steps or len(loader), len(loader))
    task = SessionTask(
        model, stage, configuration.classes, stage.epochs * steps, configuration.seed, modalities
    )  # fmt: skip
    checked = batches(parts[1], len(parts[1]), stage.batch)
    figures = fit(
        task, loader, checked, settings=configuration.trainer, folder=folder, stage="sessions", epochs=stage.epochs,
        patience=stage.patience, steps=steps, report=report,
    )  # fmt: skip
    model.eval()
    answers: dict[str, list[Any]] = {"emotion": [], "expression": []}
    with torch.no_grad():
        for batch in checked:
            outputs, _ = run_model(model, batch, task.frames(batch, None))
            for name, truth in (("emotion", batch.emotion), ("expression", batch.expression)):
                known = truth != UNKNOWN
                answers[name].append((outputs[f"{name}_logits"][known].numpy(), truth[known].numpy()))
    for name, pairs in answers.items():
        logits, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
        if len(labels):
            figures[f"{name}_temperature"] = fit_temperature(logits, labels)
    if _first_process():
        save_checkpoint(
            final,
            {
                "model": model.state_dict(),
                "eye_mean": torch.from_numpy(scale.mean),
                "eye_std": torch.from_numpy(scale.std),
                "figures": figures,
            },
        )
    return scale, figures


# -- a run ------------------------------------------------------------------------------------------------------------


def _first_process() -> bool:
    """Whether this process writes: of several, DDP numbers them, only the first does."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0


def _write(file: Path, text: str) -> None:
    if _first_process():
        aside = file.with_suffix(file.suffix + ".part")
        aside.write_text(text, encoding="utf-8")
        aside.replace(file)


_CLAIM = "configuration.json"


def settled(configuration: Configuration) -> dict[str, Any]:
    """What may not change when a run goes on; how it is run (`trainer`) may."""
    wanted: dict[str, Any] = json.loads(configuration.model_dump_json(exclude={"trainer"}))
    return wanted


def read_claim(folder: Path) -> dict[str, Any]:
    """What the run in a folder trains, as `settled` says it.

    Raises
    ------
    EmertError
        If no run lies there, or its configuration cannot be read.
    """
    file = folder / _CLAIM
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EmertError(f"{folder} holds no run: there is no {_CLAIM} in it") from None
    except (OSError, ValueError) as error:
        raise EmertError(f"{file}: not a run's configuration ({error}); give another folder") from error
    if not isinstance(held, dict):
        raise EmertError(f"{file}: not a run's configuration; give another folder")
    return held


def _require_own(folder: Path, configuration: Configuration) -> None:
    """A folder is new, or holds this very run, or no more than the caches of one that never began."""
    file = folder / _CLAIM
    if not file.exists():
        if folder.exists() and (foreign := sorted(entry.name for entry in folder.iterdir() if entry.name != "data")):
            raise EmertError(f"{folder} holds no run, but {', '.join(foreign[:3])}; give another folder")
        return
    held, wanted = read_claim(folder), settled(configuration)
    if held != wanted:
        differing = sorted(name for name in {*held, *wanted} if held.get(name) != wanted.get(name))
        raise EmertError(
            f"{folder} holds a run with other settings ({', '.join(differing)}); give another folder, or remove it"
        )


def train(configuration: Configuration, folder: Path, report: Report = lambda line: None) -> Path:
    """Train what the configuration says, or go on with the run in `folder`.

    Parameters
    ----------
    configuration : Configuration
    folder : Path
        The run's; see above.
    report : callable
        Is given a line of progress now and then.

    Returns
    -------
    Path
        The finished `model.pt`; `reactions.pt` of a run that trains nothing but reactions.

    Raises
    ------
    EmertError
        If the folder holds another run, or data are missing or wrong.
    KeyboardInterrupt
        If it was interrupted; the same call goes on.
    """
    _require_own(folder, configuration)
    require_trainer(configuration.trainer)
    data = folder / "data"
    stages = configuration.stages
    finished = folder / ("reactions.pt" if all(isinstance(s, ReactionStage) for s in stages) else "model.pt")
    if finished.exists():
        load_checkpoint(finished)
        report(f"{finished} is finished already")
        return finished
    with threads_of(configuration.trainer):
        lightning.seed_everything(configuration.seed, verbose=False)
        model = Emert(configuration.model_config_of())
        # All data first: what is wrong with them is an error before the first hour of training, not after it.
        prepared: list[Any] = []
        for stage in stages:
            if isinstance(stage, ExpressionStage):
                if stage.teacher is not None:
                    Teacher.read(stage.teacher, len(configuration.classes))
                prepared.append(load_faces(configuration, stage, data, report))
            elif isinstance(stage, SessionStage):
                sessions = load_session_data(configuration, stage, data, report)
                prepared.append(split_sessions(sessions, stage.validation, stage.validation_by, configuration.seed))
                eye_scale(prepared[-1][0])
            else:
                if stage.backbone is not None:
                    load_backbone_weights(ReactionModel(stage.config), stage.backbone)
                prepared.append(load_reactions(configuration, stage, data, report))
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _CLAIM, json.dumps(settled(configuration), indent=2) + "\n")
        scale: EyeScale | None = None
        measured: dict[str, dict[str, float]] = {}
        for number, (stage, ready) in enumerate(zip(stages, prepared, strict=True), start=1):
            name = f"{number}-{stage.kind}"
            if isinstance(stage, ExpressionStage):
                learnt, held = ready
                figures = train_expressions(configuration, stage, model, learnt, held, folder / name, report)
            elif isinstance(stage, SessionStage):
                training, validation = ready
                scale, figures = train_sessions(
                    configuration, stage, model, training, validation, folder / name, report
                )
            else:
                trained = any(isinstance(earlier, ExpressionStage) for earlier in stages[: number - 1])
                figures = train_reactions(
                    configuration,
                    stage,
                    ready,
                    folder / name,
                    report,
                    face_encoder=model.face_encoder if trained else None,
                )
            measured[name] = figures
            _write(folder / "metrics.json", json.dumps(measured, indent=2) + "\n")
        if _first_process():
            content = _content(configuration, model, scale, measured)
            if finished.name == "reactions.pt":
                content = load_checkpoint(folder / name / "reactions.pt")  # of several the last
            save_checkpoint(finished, content)
    return finished


def _content(
    configuration: Configuration, model: Emert, scale: EyeScale | None, measured: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What a finished model carries: weights, and all that a bundle's manifest must say about them."""
    temperature = {}
    for figures in measured.values():
        for key, name in (
            ("temperature", "face_expression"),
            ("emotion_temperature", "emotion"),
            ("expression_temperature", "expression"),
        ):
            if key in figures:
                temperature[name] = figures[key]
    return {
        "config": model.config.to_dict(),
        "model": model.state_dict(),
        "configuration": configuration.model_dump_json(exclude={"trainer"}),
        "classes": list(configuration.classes),
        "temperature": temperature,
        "validation": measured,
        "eye_features": list(FEATURE_NAMES),
        "eye_mean": [float(value) for value in scale.mean] if scale else None,
        "eye_std": [float(value) for value in scale.std] if scale else None,
        "eye_clip": EYE_CLIP,
    }
