"""A bundle's card: what the model is, what it was trained on, what was measured, what it must not be used for.

The sentences follow from the run's configuration, so that a card cannot claim other data than were used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emert_edge.bundle.manifest import Evidence
from emert_edge.reference.configuration import Configuration, ExpressionStage, SessionStage
from emert_edge.reference.data.faces import DrawnFaces
from emert_edge.reference.data.simulated import SimulatedSessions

__all__ = ["METRICS", "data_lines", "model_card"]

#: What each measured figure means, in the order in which a card shows them.
METRICS: dict[str, str] = {
    "fer2013_accuracy": "Expression, FER2013 public test (3,589 pictures), `Recognizer().expressions`: accuracy",
    "fer2013_uar": "the same: mean recall over the classes (UAR)",
    "fer2013_ece_before": "the same: expected calibration error before temperature scaling",
    "fer2013_ece": "the same: after it, as shipped",
    "muxspace_accuracy": "Expression, muxspace (1,318 pictures of another kind, noisy labels): accuracy",
    "muxspace_uar": "the same: UAR",
    "expression_uar": "Expression from a window, simulated sessions, subjects, stimuli and faces never seen: UAR",
    "expression_uar_face_only": "the same by models that were trained on faces alone (mean over seeds)",
    "emotion_uar_fused": "Emotion from face, eyes and fixation maps, the same sessions: UAR",
    "emotion_uar_trained_face_only": "Emotion by models that were trained on faces alone: UAR (mean over seeds)",
    "emotion_uar_trained_eye_only": "Emotion by models that were trained on eyes and maps alone: UAR (mean over seeds)",
    "emotion_uar_face": "Emotion, fused model, gaze removed at test time: UAR",
    "emotion_uar_eye": "Emotion, fused model, face removed at test time: UAR",
    "emotion_uar_half_eye": "Emotion, fused model, half of the eye tokens masked: UAR",
    "gap_auc": "Telling windows where felt and shown differ by the gap: area under the ROC curve",
    "emotion_ece": "Emotion: expected calibration error, as shipped",
    "end_to_end_expression": "Whole road (drawn video, Haar detector, crop, graphs): share of estimates with the right "
    "expression",
    "end_to_end_emotion": "Whole road: share of estimates with the right emotion",
    "end_to_end_face": "Whole road: share of face tokens that were found",
}

_INVENTED = """**What this model says about feeling is invented.** Its face encoder has learnt expressions from
photographs, and `expression` can be taken as any such classifier's answer. Everything that joins faces with gaze was
trained on simulated sessions: gaze whose relation to emotion was made up for the purpose. `emotion` and `gap` prove the
machinery; about real people they mean nothing."""

_DRAWN = """**This model has never seen a person.** It was trained only on drawn faces and on gaze whose relation to
emotion was invented for the purpose. It proves the machinery; its answers about real people mean nothing."""

_GUESS = """**An estimate is a guess from outward signs.** How good it is outside the data below, nobody has
measured."""

_LEGAL = """An estimate is not a person's true emotion, from this or any model. The EU AI Act bans emotion inference at
work and in education, save for medical or safety reasons (Art. 5(1)(f)), counts other emotion recognition as high-risk
(Annex III), and asks that people be told (Art. 50(3))."""


def data_lines(configuration: Configuration) -> tuple[str, ...]:
    """What a run's weights were trained on, a line each, licences included."""
    lines = []
    for stage in configuration.stages:
        if isinstance(stage, ExpressionStage):
            for source in stage.data:
                if isinstance(source, DrawnFaces):
                    lines.append(f"face encoder: {source.count} faces drawn by emert_edge.simulation")
                else:
                    lines.append(f"face encoder: {source.path.name} ({source.licence})")
        elif isinstance(stage, SessionStage):
            lines.append(f"fusion and heads: {stage.data.describe()}")
    return tuple(dict.fromkeys(lines))  # two stages may learn from one source


def _kinds(configuration: Configuration) -> tuple[bool, bool]:
    """Whether photographs of people were learnt from, and whether every session was simulated."""
    stages = configuration.stages
    photographs = any(
        not isinstance(source, DrawnFaces) for s in stages if isinstance(s, ExpressionStage) for source in s.data
    )
    simulated = all(isinstance(s.data, SimulatedSessions) for s in stages if isinstance(s, SessionStage))
    return photographs, simulated


_TABLE = """Measured beside FP32 on the same data, by the engine that runs it:

| precision | for | on | agreement | accuracy (FP32) | UAR (FP32) | ECE (FP32) | accepted |
|---|---|---|---|---|---|---|---|
"""


def _row(one: Evidence) -> str:
    def beside(name: str) -> str:
        value, float32 = one.figures.get(name), one.figures.get(f"fp32_{name}")
        return "–" if value is None or float32 is None else f"{value:.4f} ({float32:.4f})"

    where = {"any": "any engine", "cpu": "CPU", "tensorrt": "TensorRT"}[one.target]
    figures = " | ".join((f"{one.figures['agreement']:.4f}", beside("accuracy"), beside("uar"), beside("ece")))
    verdict = "yes" if one.accepted else "no"
    return f"| {one.precision.upper()} | {where} | {one.data} ({one.samples}) | {figures} | {verdict} |"


def model_card(
    name: str,
    version: str,
    configuration: Configuration,
    metrics: Mapping[str, float],
    *,
    licence: str,
    command: str,
    evidence: Sequence[Evidence] = (),
) -> str:
    """Write the card, Markdown.

    Parameters
    ----------
    configuration : Configuration
        Of the run that made the weights.
    metrics : mapping
        Measured figures by the names in `METRICS`; others are left out.
    licence : str
        Of the weights.
    command : str
        What makes the bundle anew.
    evidence : sequence of Evidence
        What was measured of precisions other than FP32.
    """
    photographs, simulated = _kinds(configuration)
    rows = [f"| {METRICS[key]} | {metrics[key]:.3f} |" for key in METRICS if key in metrics]
    measured = "\n".join(["| measured on data held out from training | value |", "|---|---|", *rows])
    warning = (_INVENTED if photographs else _DRAWN) if simulated else _GUESS
    window = configuration.window
    seconds = window.face_tokens * window.face_cadence_ms / 1000
    rows_columns = " × ".join(str(side) for side in configuration.face.size)
    third = "gaze points" if configuration.model.gaze == "points" else "fixation maps, one with each face token"
    no_reactions = "" if configuration.model.reactions else "There is no head for reactions."
    chance = "Chance is 0.143 for mean recall over seven classes and 0.5 for the area under the curve." if rows else ""
    precisions = ""
    if evidence:
        precisions = "\n\n".join(("", "## Precisions", _TABLE + "\n".join(map(_row, evidence))))
    listed = "\n".join(f"- {line}." for line in data_lines(configuration))
    return f"""# {name} {version}

{warning}

## What it is

The dual-task EMERT of the emert_edge project, size `{configuration.model.size}`: our reading of what the abstracts of
arXiv 2411.05879 and arXiv 2512.16485 describe. It is not the published model, and no published number is claimed for
it. The face encoder reads one crop of {rows_columns}; a window of {seconds:g} s holds {window.face_tokens} face tokens,
{window.eye_tokens} eye tokens, and {third}. `expression` is what the face shows, `emotion` what is felt.

## What it was trained on

{listed}

{no_reactions}

## Measured

{measured if rows else "Nothing has been measured for this bundle."}

{chance}

Made with: `{command or "not recorded"}`{precisions}

## What it must not be used for

{_LEGAL}

## Licence of the weights

{licence}.
"""
