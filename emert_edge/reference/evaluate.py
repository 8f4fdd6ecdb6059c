"""`emert-edge evaluate`: a configuration's sessions, answered by models trained for that, a finished one, or a bundle.

The folder of an evaluation::

    evaluation.json     what is being evaluated; another evaluation may not take the folder over
    data/               caches of the sessions
    1-expressions/      the face encoder, where no run lends its own
    training/           a run for each split, fold and choice of modalities
    folds/              what each of them answered about what it never saw
    report/             report.md, report.json and pictures
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from emert_edge import __version__
from emert_edge.bundle.bundle import Bundle
from emert_edge.engines import open_engines
from emert_edge.errors import EmertError
from emert_edge.reference.assessment.bundles import BundleModel
from emert_edge.reference.assessment.crossvalidation import (
    claim,
    cross_validate,
    digest,
    model_windows,
    of_whole_sessions,
)
from emert_edge.reference.assessment.predictions import PUBLISHED_BATCH, Ablation, Predictions, predict
from emert_edge.reference.assessment.report import SCHEMA, SplitResult, fold_parts
from emert_edge.reference.assessment.splits import SPLITS, Fold, Labelled, SplitImpossible, SplitKind, split
from emert_edge.reference.assessment.variants import removed_at_test_time
from emert_edge.reference.checkpoint import load_checkpoint, load_model
from emert_edge.reference.configuration import Configuration, ExpressionStage, SessionStage
from emert_edge.reference.data.simulated import SimulatedSessions
from emert_edge.reference.data.windows import EyeScale, SessionData
from emert_edge.reference.emert import Emert
from emert_edge.reference.stages.run import (
    load_faces,
    load_session_data,
    read_claim,
    settled,
    train_expressions,
    train_sessions,
)
from emert_edge.reference.stages.sessions import encode_faces

__all__ = ["evaluate_bundle", "evaluate_model", "evaluate_training"]

Report = Callable[[str], None]
Found = tuple[list[SplitResult], dict[str, str]]
"""What was answered under each split, and what the report says of data and model."""

_VOUCHED = (
    "No model was trained here: whoever ran this vouches that the model never saw these sessions, their subjects or "
    "their stimuli. Nothing checked it."
)
_SEEN = (
    "This model says of itself that it was trained on these very data: the figures tell how well it remembers, not how "
    "well it recognises."
)
_SIMULATED = "These sessions are simulated: their figures prove the machinery, and say nothing about people."
_PICTURES = (
    "The faces are pictures, which sessions of one fold of the data share: only the split by folds as given tests on "
    "pictures, subjects and stimuli that are all new."
)


def _session_stage(configuration: Configuration) -> tuple[int, SessionStage]:
    for number, stage in enumerate(configuration.stages, start=1):
        if isinstance(stage, SessionStage):
            return number, stage
    raise EmertError(f"configuration {configuration.name!r} has no stage of sessions: there is nothing to evaluate")


def _about(configuration: Configuration, stage: SessionStage, sessions: Sequence[SessionData]) -> dict[str, str]:
    rows = "session (labels are of whole sessions)" if of_whole_sessions(sessions) else "window"
    return {"title": f"Evaluation: {configuration.name}", "data": stage.data.describe(), "a row is a": rows}


def _notes(stage: SessionStage, kind: str) -> list[str]:
    if not isinstance(stage.data, SimulatedSessions):
        return []
    return [_SIMULATED, _PICTURES] if stage.data.faces and kind in ("subjects", "stimuli") else [_SIMULATED]


# -- cross-validation -------------------------------------------------------------------------------------------------


def evaluate_training(
    configuration: Configuration,
    folder: Path,
    *,
    splits: Sequence[SplitKind] = (),
    folds: int | None = None,
    run: Path | None = None,
    report: Report = lambda line: None,
) -> Found:
    """Train the configuration's stage of sessions anew for each fold, and ask each model about what it never saw.

    Parameters
    ----------
    folder : Path
        The evaluation's; one that was stopped goes on.
    splits : sequence of str
        Which; all that the sessions allow if none is named.
    folds : int, optional
        How many, of unseen subjects and of unseen stimuli.
    run : Path, optional
        Folder of a run of the same configuration, whose face encoder is taken; otherwise it is trained here.

    Raises
    ------
    EmertError
        If a split that was named is not possible, or none is; if the folder holds another evaluation.
    """
    number, stage = _session_stage(configuration)
    sessions = load_session_data(configuration, stage, folder / "data", report)
    made, impossible = _splits(sessions, splits, folds, configuration.seed)
    encoder = None if run is None else _lent_encoder(configuration, number, run)
    settings = {
        "schema": SCHEMA,
        "emert_edge": __version__,
        "configuration": json.loads(configuration.model_dump_json(exclude={"trainer"})),
        "folds": folds,
        "sessions": digest(sessions),
        "face encoder": None if encoder is None else _digest(encoder),
    }
    claim(folder, settings)
    if encoder is None:
        encoder = _own_encoder(configuration, number, folder, report)
    learnt = encoder

    def fit(
        training: Sequence[SessionData], validation: Sequence[SessionData], place: Path, modalities: tuple[str, ...]
    ) -> tuple[Emert, EyeScale]:
        lightning.seed_everything(configuration.seed, verbose=False)
        model = Emert(configuration.model_config_of())
        model.face_encoder.load_state_dict(learnt)
        scale, _ = train_sessions(
            configuration, stage, model, training, validation, place, report, modalities=modalities
        )
        return model, scale

    results = []
    for kind, title in SPLITS.items():
        if kind in impossible:
            results.append(SplitResult(kind, title, impossible=impossible[kind]))
        if kind in made:
            answers = cross_validate(
                kind, sessions, made[kind], fit, folder, encode=encode_faces, window=configuration.window,
                fixation=configuration.fixation, classes=configuration.classes,
                fixation_tokens=configuration.model.gaze == "maps", report=report,
            )  # fmt: skip
            notes = [*_notes(stage, kind), *_shared(made[kind], sessions)]
            results.append(SplitResult(kind, title, answers, parts=fold_parts(made[kind], sessions), notes=notes))
    model = configuration.model
    taught = any(isinstance(one, ExpressionStage) for one in configuration.stages[: number - 1])
    about = _about(configuration, stage, sessions) | {
        "model": f"EMERT {model.size}, gaze as {model.gaze}, trained anew for each fold; seed {configuration.seed}",
        "face encoder": (
            ("trained once, on the pictures of the configuration's own stage" if taught else "not trained before")
            + (", and further on each fold's sessions" if stage.train_face_encoder else ", at rest in every fold")
        ),
    }
    return results, about


def _splits(
    sessions: Sequence[Labelled], wanted: Sequence[SplitKind], folds: int | None, seed: int
) -> tuple[dict[SplitKind, tuple[Fold, ...]], dict[SplitKind, str]]:
    """Return the splits that can be had, and why the others cannot; what was named must be had."""
    made: dict[SplitKind, tuple[Fold, ...]] = {}
    impossible: dict[SplitKind, str] = {}
    for kind in SPLITS:
        if wanted and kind not in wanted:
            continue
        try:
            made[kind] = split(kind, sessions, folds, seed)
        except SplitImpossible as reason:
            if wanted:
                raise
            impossible[kind] = str(reason)
    if not made:
        raise EmertError(f"no split is possible: {'; '.join(impossible.values())}")
    return made, impossible


def _shared(folds: Sequence[Fold], sessions: Sequence[SessionData]) -> list[str]:
    """Say what test sessions have in common with what their models learnt from."""
    parts = fold_parts(folds, sessions)
    tested = sum(part["test"] for part in parts)
    notes = []
    for what, key in (("subject", "test_of_known_subjects"), ("stimulus", "test_of_known_stimuli")):
        if shared := sum(part[key] for part in parts):
            notes.append(
                f"{shared} of {tested} test sessions have a {what} that their model was trained or validated on."
            )
    if any(part["test_of_known_stimuli"] for part in parts):
        notes.append("What was recognised may be the stimulus; see the split by unseen stimuli.")
    return notes


def _digest(state: dict[str, Any]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(state.items()):
        found.update(name.encode())
        found.update(tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def _lent_encoder(configuration: Configuration, before: int, run: Path) -> dict[str, Any]:
    """Take the face encoder of a run, as it was before its stage of sessions.

    Raises
    ------
    EmertError
        If the run is of a configuration whose encoder would be another, or is not that far.
    """
    earlier = [
        (number, stage)
        for number, stage in enumerate(configuration.stages[: before - 1], start=1)
        if isinstance(stage, ExpressionStage)
    ]
    if not earlier:
        raise EmertError(f"configuration {configuration.name!r} trains no face encoder that {run} could lend")
    held, wanted = read_claim(run), settled(configuration)
    for content in (held, wanted):
        content["stages"] = content.get("stages", [])[: before - 1]
    if differing := [name for name in ("seed", "classes", "model", "stages") if held.get(name) != wanted[name]]:
        raise EmertError(
            f"{run} is a run of another configuration ({', '.join(differing)}); it cannot lend its encoder"
        )
    number, stage = earlier[-1]
    file = run / f"{number}-{stage.kind}" / "face_encoder.pt"
    if not file.exists():
        raise EmertError(f"{run} has no finished face encoder ({file.name} in {file.parent.name}); finish it first")
    return dict(load_checkpoint(file)["face_encoder"])


def _own_encoder(configuration: Configuration, before: int, folder: Path, report: Report) -> dict[str, Any]:
    lightning.seed_everything(configuration.seed, verbose=False)
    model = Emert(configuration.model_config_of())
    for number, stage in enumerate(configuration.stages[: before - 1], start=1):
        if isinstance(stage, ExpressionStage):
            place = folder / f"{number}-{stage.kind}"
            learnt, held = load_faces(configuration, stage, folder / "data", report)
            train_expressions(configuration, stage, model, learnt, held, place, report)
    return model.face_encoder.state_dict()


# -- what is finished already -----------------------------------------------------------------------------------------


def _tested(
    configuration: Configuration, stage: SessionStage, answers: dict[str, Predictions], *, whole: bool, origin: str
) -> list[SplitResult]:
    notes = [origin, *_notes(stage, "given")]
    if whole:
        answers = {key: found.by_session() for key, found in answers.items()}
        notes.append("A session's answer is the mean of its windows' probabilities, each with the model's temperature.")
    return [SplitResult("given", f"all sessions of {configuration.name}", answers, notes=notes)]


def evaluate_model(
    configuration: Configuration, checkpoint: Path, folder: Path, *, report: Report = lambda line: None
) -> Found:
    """Ask a finished model about all sessions of a configuration, as they are and with modalities removed.

    Parameters
    ----------
    checkpoint : Path
        A `model.pt` of `emert-edge train`.
    folder : Path
        Receives ``data/``, caches of the sessions.

    Raises
    ------
    EmertError
        If the checkpoint is not a finished model, or does not fit the configuration.
    """
    _, stage = _session_stage(configuration)
    model, content = load_model(checkpoint)
    wanted = configuration.model_config_of()
    if content.get("eye_mean") is None:
        raise EmertError(f"{checkpoint}: its training had no sessions; only its face encoder has learnt anything")
    for name, held, asked in (
        ("classes", tuple(content.get("classes", configuration.classes)), configuration.classes),
        ("size", model.config.size, wanted.size),
        ("face tokens", model.config.face_tokens, wanted.face_tokens),
        ("eye tokens", model.config.eye_tokens, wanted.eye_tokens),
    ):
        if held != asked:
            raise EmertError(f"{checkpoint}: {name} {held} do not fit the configuration's, {asked}")
    sessions = load_session_data(configuration, stage, folder / "data", report)
    scale = EyeScale(*(np.asarray(content[name], np.float32) for name in ("eye_mean", "eye_std")))
    windows = model_windows(model, scale, sessions, encode_faces, configuration.window, configuration.fixation)
    report(f"answering for {len(windows)} windows of {len(sessions)} sessions")

    def answer(ablation: Ablation, share: float) -> Predictions:
        found = predict(
            model, windows, PUBLISHED_BATCH, ablation=ablation, eye_share=share, classes=configuration.classes
        )
        return found.with_temperature(content.get("temperature", {}))

    answers = removed_at_test_time(answer, fixation=model.config.gaze == "maps")
    about = _about(configuration, stage, sessions) | {
        "model": f"{checkpoint.name}: EMERT {model.config.size}, gaze as {model.config.gaze}, in PyTorch"
    }
    origin = _SEEN if _trained_on(content, configuration, stage) else _VOUCHED
    return _tested(configuration, stage, answers, whole=of_whole_sessions(sessions), origin=origin), about


def _trained_on(content: dict[str, Any], configuration: Configuration, stage: SessionStage) -> bool:
    """Whether a checkpoint's own configuration has the same sessions; simulated ones are others under another seed."""
    held = json.loads(content.get("configuration") or "{}")
    if isinstance(stage.data, SimulatedSessions) and held.get("seed") != configuration.seed:
        return False
    return json.loads(stage.data.model_dump_json()) in [one.get("data") for one in held.get("stages", [])]


def evaluate_bundle(
    configuration: Configuration,
    bundle: Bundle,
    folder: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    report: Report = lambda line: None,
) -> Found:
    """Ask a bundle's graphs, through an engine, about all sessions of a configuration: what a device would answer.

    Parameters
    ----------
    folder : Path
        Receives ``data/``, caches of the sessions.
    device, precision, threads
        As for `Recognizer`.

    Raises
    ------
    EmertError
        If the bundle does not fit the sessions, or the device cannot be had.
    """
    _, stage = _session_stage(configuration)
    if bundle.manifest.window != configuration.window.model_copy(
        update={name: getattr(bundle.manifest.window, name) for name in ("stride_ms", "max_wait_ms")}
    ):
        raise EmertError(f"{bundle.path}: its window is not the configuration's; give the one it was trained with")
    engines = open_engines(bundle, device=device, precision=precision, threads=threads)
    try:
        sessions = load_session_data(configuration, stage, folder / "data", report)
        runner = BundleModel(bundle, engines, sessions, configuration.baseline_tokens)
        if runner.classes and runner.classes != configuration.classes:
            raise EmertError(
                f"{bundle.path}: its classes ({', '.join(runner.classes)}) are not the configuration's "
                f"({', '.join(configuration.classes)})"
            )
        report(f"answering for {len(runner.windows)} windows of {len(sessions)} sessions")
        answers = removed_at_test_time(runner.predict, fixation=runner.has_fixation)
        providers = engines.head.describe()
    finally:
        engines.close()
    manifest = bundle.manifest
    about = _about(configuration, stage, sessions) | {
        "model": f"bundle {manifest.identity}, {manifest.architecture} {manifest.size}",
        "licence": manifest.licence,
        "engine": f"{providers.runtime} ({providers.providers[0]}), {engines.precision} on {engines.device}",
    }
    named = any(stage.data.describe() in line for line in manifest.training.data)
    origin = f"{_VOUCHED} The bundle names such data as its own." if named else _VOUCHED
    return _tested(configuration, stage, answers, whole=of_whole_sessions(sessions), origin=origin), about
