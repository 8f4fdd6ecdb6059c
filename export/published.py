"""A bundle out of a checkpoint of the authors': two graphs, their preprocessing, and plain words on what nobody knows.

The published code knows no missing data and names neither its classes nor its eye columns. What a device needs beyond
the weights is therefore asked of whoever exports (`Meaning`, `EyeColumn`), and what is assumed stands in the manifest
and the card; docs/published.md gives the reasons.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from emert_edge.bundle import Bundle, write_bundle
from emert_edge.bundle.manifest import EyeInput, FaceInput, Labels, Manifest, PointInput, Training, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.checkpoint import read_content
from emert_edge.reference.configuration import FACE_SCALE
from emert_edge.reference.published import (
    EYE_SHAPE,
    FACE_SHAPE,
    GAZE_SHAPE,
    PublishedEmert,
    PublishedShape,
    load_published,
    read_checkpoint,
)

from .bundle import with_half
from .graphs import GraphSpec, HeadGraph, Parts, export_parts, require_finite

__all__ = [
    "PUBLISHED_LICENCE",
    "PUBLISHED_WINDOW",
    "TARGETS",
    "EyeColumn",
    "Meaning",
    "export_published",
    "is_published",
    "meaning_of",
    "published_parts",
    "read_eye_columns",
]

Task = Literal["emotion", "expression"]

TARGETS = ("emotion_valence", "emotion_arousal", "expression_valence", "expression_arousal", "expression_intensity")
"""What a checkpoint with one output may have been trained to estimate."""

PUBLISHED_LICENCE = "unknown: the authors' weights, whose repository names no licence; ask them before any use"

PUBLISHED_WINDOW = WindowSpec(face_cadence_ms=1200, eye_span_ms=300, stride_ms=1200)
"""9.6 s: eight faces and thirty-two rows were drawn from clips of about 10 s, and spans are whole milliseconds."""

_TOKEN_WIDTH = 128


@dataclass(frozen=True)
class Meaning:
    """What a checkpoint's numbers mean, which it does not say itself."""

    labels: Labels
    outputs: Mapping[str, tuple[str, float, float]]
    """By the name of the graph's output: which of the model's, the factor and the offset that bring it to the SDK's
    scale."""

    @property
    def words(self) -> str:
        """What is estimated, in a line."""
        classes = self.labels.emotion or self.labels.expression
        task = "emotion" if self.labels.emotion else "expression"
        parts = [f"{task} in {len(classes)} classes ({', '.join(classes)})"] if classes else []
        return " and ".join(parts + [name.replace("_", " ") for name in self.outputs if not name.endswith("_logits")])


@dataclass(frozen=True)
class EyeColumn:
    """What stands in one of the checkpoint's 39 eye columns."""

    feature: str
    """One of `emert_edge.eye.FEATURE_NAMES`; "" is a column of zeros."""
    factor: float = 1.0
    """From the feature's unit to the column's: a fraction of the screen to pixels, seconds to milliseconds."""


def meaning_of(
    shape: PublishedShape,
    *,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    target: str | None = None,
    target_range: tuple[float, float] | None = None,
) -> Meaning:
    """Tell what a checkpoint's outputs are from what its user knows.

    Parameters
    ----------
    shape : PublishedShape
        Of the checkpoint.
    task : {"emotion", "expression"}, optional
        Which labels it was trained on: what is felt (ER) or what is shown (FER). ``in_model`` is for what is shown.
    labels : sequence of str, optional
        The classes in the checkpoint's order.
    target : str, optional
        One of `TARGETS`, for a checkpoint with one output.
    target_range : (float, float), optional
        The ends of the scale of the values it was trained on; -1 and 1, of an intensity 0 and 3, if not given.

    Raises
    ------
    ValueError
        If something is missing, or does not fit the checkpoint; the message names the argument.
    """
    intensity = shape.variant == "in_model"
    if shape.outputs == 1 and not intensity:
        if labels is not None:
            raise ValueError("labels: this checkpoint has one output, a value and no classes; give a target (--target)")
        if target not in TARGETS:
            raise ValueError(
                f"target: this checkpoint has one output and does not say what it estimates; "
                f"give --target {'|'.join(TARGETS)}" + ("" if target is None else f", not {target!r}")
            )
        if task is not None and not target.startswith(task):
            raise ValueError(f"task: {task} does not fit the target {target}")
        none = Labels(emotion=None, expression=None, polarity=None)
        return Meaning(none, {target: ("out", *_to_scale(target, target_range))})

    if target is not None:
        raise ValueError(
            f"target: this checkpoint has {shape.outputs} outputs, which are classes; give labels (--labels) instead"
        )
    if labels is None:
        raise ValueError(
            f"labels: this checkpoint tells {shape.outputs} classes apart and does not say which is which, for their "
            f"order is unpublished; name the {shape.outputs} in its order (--labels happiness,sadness,…)"
        )
    names = tuple(labels)
    if len(names) != shape.outputs or len(set(names)) != len(names) or not all(names):
        raise ValueError(
            f"labels: this checkpoint tells {shape.outputs} classes apart; give {shape.outputs} different names, "
            f"not {', '.join(map(repr, names))}"
        )
    if intensity and task == "emotion":
        raise ValueError("task: the variant in_model estimates an expression and its intensity, not an emotion")
    if intensity and shape.intensities != 1:
        raise ValueError(f"the checkpoint estimates {shape.intensities} intensities; an expression has one")
    if not intensity and target_range is not None:
        raise ValueError("target_range: this checkpoint estimates classes alone")
    told = "expression" if intensity else task
    if told not in ("emotion", "expression"):
        raise ValueError(
            "task: the checkpoint does not say whether it was trained on what is felt or on what is shown; "
            "give --task emotion or --task expression"
        )
    outputs = {f"{told}_logits": ("out", 1.0, 0.0)}
    if intensity:
        outputs["expression_intensity"] = ("extra", *_to_scale("expression_intensity", target_range))
    return Meaning(
        Labels(
            emotion=names if told == "emotion" else None,
            expression=names if told == "expression" else None,
            polarity=None,
        ),
        outputs,
    )


def _to_scale(target: str, given: tuple[float, float] | None) -> tuple[float, float]:
    """Factor and offset from the scale of the labels to the SDK's."""
    low, high = (0.0, 3.0) if target.endswith("intensity") else (-1.0, 1.0)
    first, last = given or (low, high)
    if not first < last:
        raise ValueError(f"target_range: {first:g} to {last:g} is no scale; its first end must be the lower")
    factor = (high - low) / (last - first)
    return factor, low - factor * first


def read_eye_columns(path: Path) -> tuple[EyeColumn, ...]:
    """Read which feature stands in each of the checkpoint's 39 eye columns.

    A text file with a line for each column, in the checkpoint's order: the name of one of `emert_edge.eye`'s features,
    or ``-`` for a column of zeros; behind a comma, if need be, the factor from the feature's unit to the column's.
    Blank lines, and what follows a ``#``, are left out.

    Raises
    ------
    EmertError
        If the file cannot be read, names an unknown feature or has another number of columns; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EmertError(f"{path}: the eye columns cannot be read ({reason})") from error
    columns: list[EyeColumn] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        name, _, factor = (part.strip() for part in content.partition(","))
        if name != "-" and name not in FEATURE_NAMES:
            near = difflib.get_close_matches(name, FEATURE_NAMES, 1)
            raise EmertError(
                f"{path}, line {number}: {name!r} is no feature of emert_edge.eye"
                + (f"; is {near[0]!r} meant?" if near else ", nor '-' for a column of zeros")
            )
        try:
            value = float(factor or 1)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise EmertError(f"{path}, line {number}: the factor {factor!r} is not a positive number")
        columns.append(EyeColumn("" if name == "-" else name, value))
    if len(columns) != EYE_SHAPE[1]:
        raise EmertError(f"{path}: names {len(columns)} eye columns; a published checkpoint takes {EYE_SHAPE[1]}")
    return tuple(columns)


class _FaceTokens(nn.Module):
    def __init__(self, model: PublishedEmert) -> None:
        super().__init__()
        self.extractor, self.project = model.subnet.f_extractor, model.proj_v1

    def forward(self, frame: Tensor) -> Tensor:
        tokens: Tensor = self.project(self.extractor.features(frame))
        return tokens


class _Head(nn.Module):
    """Tokens to the outputs that a meaning names."""

    def __init__(self, model: PublishedEmert, meaning: Meaning) -> None:
        super().__init__()
        self.model = model
        self.meaning = meaning

    def forward(self, face_tokens: Tensor, eye_tokens: Tensor, gaze_points: Tensor) -> dict[str, Tensor]:
        return self.named(self.model.fuse(face_tokens, eye_tokens, gaze_points))

    def named(self, answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = {}
        for name, (source, factor, offset) in self.meaning.outputs.items():
            value = answers[source]
            outputs[name] = value if (factor, offset) == (1.0, 0.0) else value * factor + offset
        return outputs


def published_parts(model: PublishedEmert, meaning: Meaning) -> Parts:
    """The two graphs of a published model, and itself."""
    head = _Head(model, meaning)
    taken = {"face_tokens": (FACE_SHAPE[0], _TOKEN_WIDTH), "eye_tokens": EYE_SHAPE, "gaze_points": GAZE_SHAPE}
    given = {name: ((model.shape.outputs,) if name.endswith("_logits") else (1,)) for name in meaning.outputs}

    def whole(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return head.named(model(inputs["frame"], inputs["eye_tokens"], inputs["gaze_points"]))

    return Parts(
        {
            "face_encoder": GraphSpec(_FaceTokens(model), {"frame": FACE_SHAPE[1:]}, {"face_token": (_TOKEN_WIDTH,)}),
            "head": GraphSpec(HeadGraph(head, tuple(taken), tuple(given)), taken, given),
        },
        whole,
    )


def is_published(checkpoint: Path) -> bool:
    """Say whether a file is to be read as the authors' (its tensors tell), or is what our own training finished.

    Raises
    ------
    EmertError
        If it is no checkpoint at all.
    """
    content = read_content(checkpoint)
    return not (isinstance(content, dict) and "config" in content)


def export_published(
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    version: str = "1",
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    target: str | None = None,
    target_range: tuple[float, float] | None = None,
    eye_columns: Sequence[EyeColumn] | None = None,
    gaze_scale: tuple[float, float] = (1.0, 1.0),
    licence: str = PUBLISHED_LICENCE,
    command: str = "",
    fp16: bool = True,
) -> Bundle:
    """Make a bundle of a checkpoint of the authors'.

    Parameters
    ----------
    checkpoint : Path
        What `read_checkpoint` reads and `load_published` knows.
    out : Path
        A folder, or a file that ends in `.emert`.
    name, version : str
        What the bundle is called.
    task, labels, target, target_range
        See `meaning_of`.
    eye_columns : sequence of EyeColumn, optional
        What stands in the checkpoint's 39 eye columns. Without it the 39 features of `emert_edge.eye` stand there in
        their own order, and the bundle says that this is a guess.
    gaze_scale : (float, float)
        What a gaze point, in fractions of width and height, is multiplied by: the screen's pixels where the checkpoint
        was trained on pixels.
    licence : str
        Of the weights.
    fp16 : bool
        Whether the bundle gets FP16 graphs beside the FP32 ones.

    Raises
    ------
    EmertError
        If the file is none of the four variants, naming the first tensor that does not fit; `ExportFailed` if a graph
        is not what the model is. Nothing is written then.
    ValueError
        If what is told of the checkpoint is not enough, or does not fit it.
    FileExistsError
        If something else than a bundle lies at `out`.
    """
    try:
        model = load_published(read_checkpoint(checkpoint))
    except (ValueError, TypeError) as error:
        raise EmertError(f"{checkpoint}: no finished model of `emert-edge train`, and {error}") from error
    meaning = meaning_of(model.shape, task=task, labels=labels, target=target, target_range=target_range)
    if not all(0 < side < float("inf") for side in gaze_scale):
        raise ValueError(f"gaze_scale must be two positive numbers, not {gaze_scale}")
    columns = tuple(eye_columns) if eye_columns is not None else tuple(EyeColumn(name) for name in FEATURE_NAMES)
    if len(columns) != EYE_SHAPE[1]:
        raise ValueError(f"eye_columns: {len(columns)} are named; a published checkpoint takes {EYE_SHAPE[1]}")
    require_finite(model)
    exported = with_half(export_parts(published_parts(model, meaning)), fp16=fp16)
    variant = model.shape.variant
    description = f"The authors' EMERT, variant {variant}: {meaning.words}."
    manifest = Manifest(
        name=name,
        version=version,
        description=description,
        architecture="emert-published",
        size=variant,
        token_width=_TOKEN_WIDTH,
        labels=meaning.labels,
        profile="published",
        face=FaceInput(color="bgr", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=FACE_SCALE),
        points=PointInput(scale=gaze_scale),
        eye=EyeInput(
            features=tuple(column.feature for column in columns),
            mean=(0.0,) * len(columns),
            std=tuple(1.0 / column.factor for column in columns),
            clip=None,
            normalization="none",
            assumed=eye_columns is None,
        ),
        window=PUBLISHED_WINDOW,
        training=Training(
            data=("unknown: a checkpoint of the authors' code, which was published with the EMER data set",),
            summary="not trained by emert_edge; the checkpoint does not say how it was trained",
            command=command,
            metrics=exported.parity(),
        ),
        licence=licence,
        **exported.entries(),
    )
    card = _card(manifest, meaning, checkpoint.name)
    return write_bundle(out, manifest, exported.files(card))


def _card(manifest: Manifest, meaning: Meaning, file: str) -> str:
    eye, points, window = manifest.eye, manifest.points, manifest.window
    assert eye is not None
    assert points is not None
    columns = (
        "**The eye stream is a guess.** Nobody published which 39 columns the checkpoint was trained on, nor their "
        "order.\n  The 39 features of emert_edge stand in their place, in their own order and units: expect nothing of "
        "what the\n  model makes of them. Whoever knows the columns exports anew with `--eye-columns`."
        if eye.assumed
        else "The eye columns were named by whoever exported this bundle; the manifest lists them."
    )
    unit = "fractions of the screen" if points.scale == (1.0, 1.0) else "{:g} × {:g} pixels".format(*points.scale)
    return f"""# {manifest.name} {manifest.version}

Weights of the published EMERT code (kejun1/EMER), read from `{file}`: variant `{manifest.size}`. It estimates
{meaning.words}.
emert_edge did not train it and has measured nothing of it; no number of the papers is claimed for it.

## What is not known of it

- Classes, task and scale are what whoever exported this bundle said; the checkpoint does not hold them.
- {columns}
- Gaze points are given in {unit}, the mean of each {window.eye_span_ms} ms; what the checkpoint saw is not published.
- How tightly faces were cut is not published. Here a square of {manifest.face.scale:g} times the face's box is cut.
- A clip of its training lasted about 10 s, and segments of it were drawn at random. Here 8 frames and 32 rows are
  spread evenly over {window.window_ms / 1000:g} s.
- The code knows no missing data. What is missing is given as zeros, which the checkpoint never saw; `quality` says how
  much was missing, and an estimate with much of it missing is worth little.

## Preprocessing profile: published

Face crops of 112 × 112, planes blue, green, red, divided by 255; eye values as they are, neither normalised nor cut.

## What it must not be used for

An estimate is not a person's true emotion, from this or any model. The EU AI Act bans emotion inference at work and in
education, save for medical or safety reasons (Art. 5(1)(f)), counts other emotion recognition as high-risk (Annex III),
and asks that people be told (Art. 50(3)). EMER may be neither redistributed nor used commercially.

## Licence of the weights

{manifest.licence}.
"""
