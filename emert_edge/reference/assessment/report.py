"""The report: everything measured as JSON, the same as Markdown, and pictures; written whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emert_edge import __version__
from emert_edge.reference.assessment.metrics import (
    BINS,
    LEVEL,
    Figure,
    Layout,
    Scored,
    area_under_roc,
    calibration_error,
    chance_of_classes,
    chance_of_values,
    class_scores,
    figures,
    value_scores,
)
from emert_edge.reference.assessment.pictures import confusion_counts, confusion_picture, reliability_picture
from emert_edge.reference.assessment.predictions import Predictions
from emert_edge.reference.assessment.protocols import PROTOCOLS, READING, Classified, NotMeasurable, Protocol, Valued
from emert_edge.reference.assessment.splits import Fold, Labelled
from emert_edge.reference.assessment.variants import VARIANTS
from emert_edge.simulation import POLARITY

__all__ = ["DRAWS", "SCHEMA", "SplitResult", "assess", "fold_parts", "markdown", "write_report"]

SCHEMA = "emert-edge/evaluation/1"
#: Draws of the bootstrap.
DRAWS = 1000

NOT_TRUE = "An estimate is not a person's true emotion: it is compared here with labels, which are not that either."
STIMULI = (
    "On public eye-tracking emotion sets, accuracy falls to chance when the test videos are new, because the model had "
    "learnt which video was watched. Only the split by unseen stimuli shows whether that is so here."
)
PER_BATCH = (
    "“per batch” is the published way: the metric of each batch, averaged over a fold's batches, then over folds. It "
    "is given for comparison with such figures; for anything but accuracy it is not the metric of the whole."
)

Pictures = dict[str, bytes]


@dataclass(frozen=True)
class SplitResult:
    """One split and what was answered under it.

    Attributes
    ----------
    kind, title : str
    predictions : mapping of str to Predictions
        By the variants' keys; all have the same rows. Empty where the split was impossible.
    impossible : str, optional
        Why it was.
    parts : sequence of dict
        Sizes of the folds' parts, from `fold_parts`.
    notes : sequence of str
        What must be known to read its figures.
    """

    kind: str
    title: str
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    impossible: str | None = None
    parts: Sequence[Mapping[str, int]] = ()
    notes: Sequence[str] = ()


def fold_parts(folds: Iterable[Fold], sessions: Sequence[Labelled]) -> list[dict[str, int]]:
    """Count each fold's sessions, and the test sessions whose subject or stimulus was learnt from or validated on."""
    rows = []
    for fold in folds:
        known = [sessions[number] for number in (*fold.train, *fold.validation)]
        tested = [sessions[number] for number in fold.test]
        subjects = {session.subject for session in known if session.subject}
        stimuli = {session.stimulus for session in known if session.stimulus}
        rows.append(
            {
                "fold": fold.number,
                "train": len(fold.train),
                "validation": len(fold.validation),
                "test": len(fold.test),
                "test_of_known_subjects": sum(session.subject in subjects for session in tested),
                "test_of_known_stimuli": sum(session.stimulus in stimuli for session in tested),
            }
        )
    return rows


# -- measuring ---------------------------------------------------------------------------------------------------------


def assess(
    results: Sequence[SplitResult],
    about: Mapping[str, str],
    *,
    protocols: Sequence[Protocol] = PROTOCOLS,
    polarity: Mapping[str, str] = POLARITY,
    draws: int = DRAWS,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], Pictures]:
    """Measure everything that was answered.

    Parameters
    ----------
    results : sequence of SplitResult
    about : mapping of str to str
        What was evaluated, under names that are shown: model, data, licence, …; `title` is the report's.
    protocols : sequence of Protocol
    polarity : mapping
        Polarity of each class, for the protocols of three classes.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        The report, ready for JSON.
    dict of str to bytes
        Pictures by the names under which the report refers to them.
    """
    pictures: Pictures = {}
    splits = []
    for result in results:
        if result.impossible is not None:
            splits.append({"kind": result.kind, "title": result.title, "possible": False, "reason": result.impossible})
            continue
        report(f"measuring: {result.title}")
        splits.append(_split(result, protocols, polarity, draws, seed, pictures))
    return {
        "schema": SCHEMA,
        "emert_edge": __version__,
        "about": dict(about),
        "statements": [NOT_TRUE, READING, STIMULI, PER_BATCH],
        "polarity": dict(polarity),
        "bootstrap": {"draws": draws, "seed": seed, "level": LEVEL, "kind": "percentile, whole groups drawn"},
        "splits": splits,
    }, pictures


def _split(
    result: SplitResult,
    protocols: Sequence[Protocol],
    polarity: Mapping[str, str],
    draws: int,
    seed: int,
    pictures: Pictures,
) -> dict[str, Any]:
    whole = result.predictions["fused"]
    by_subject = bool((whole.subject != "").all())
    layout = Layout(whole.subject if by_subject else whole.session, whole.fold, whole.batch)
    measured = []
    for protocol in protocols:
        entry: dict[str, Any] = {"name": protocol.name, "task": protocol.task, "kind": protocol.kind}
        try:
            entry |= {"measurable": True} | _protocol(protocol, result, polarity, layout, draws, seed, pictures)
        except NotMeasurable as reason:
            entry |= {"measurable": False, "reason": str(reason)}
        measured.append(entry)
    titles = {variant.key: variant.title for variant in VARIANTS}
    return {
        "kind": result.kind,
        "title": result.title,
        "possible": True,
        "notes": list(result.notes),
        "counts": {
            "rows": len(whole),
            **{
                many: len(np.unique(column[column != ""]))
                for many, column in (
                    ("sessions", whole.session), ("subjects", whole.subject), ("stimuli", whole.stimulus)
                )
            },
        },
        "folds": [dict(part) for part in result.parts],
        "intervals_by": "subject" if by_subject else "session",
        "variants": {key: titles[key] for key in result.predictions},
        "protocols": measured,
        "gap": _gap(whole, layout, draws, seed),
    }  # fmt: skip


def _protocol(
    protocol: Protocol,
    result: SplitResult,
    polarity: Mapping[str, str],
    layout: Layout,
    draws: int,
    seed: int,
    pictures: Pictures,
) -> dict[str, Any]:
    variants = {}
    for key, predictions in result.predictions.items():
        read = protocol.read(predictions, polarity)
        variants[key] = _figures(figures(_score_of(read), layout.of(read.rows), draws, seed))
    read = protocol.read(result.predictions["fused"], polarity)
    if isinstance(read, Valued):
        return {"rows": len(read.rows), "chance": _rounded(chance_of_values(read.truth)), "variants": variants}
    counts = confusion_counts(read.truth, read.said, len(read.classes))
    plain = f"{result.kind}-{protocol.name.lower().replace(' ', '-')}"
    title = f"{protocol.name}, {result.title}"
    cooled = not np.array_equal(read.probabilities, read.unscaled)
    shown = {"confusion": f"confusion-{plain}.png", "reliability": f"reliability-{plain}.png"}
    pictures[shown["confusion"]] = confusion_picture(counts, read.classes, title)
    pictures[shown["reliability"]] = reliability_picture(
        read.truth, read.unscaled, read.probabilities if cooled else None, title
    )
    return {
        "rows": len(read.rows),
        "classes": dict(zip(read.classes, counts.sum(1).tolist(), strict=True)),
        "chance": _rounded(chance_of_classes(read.truth, read.classes)),
        "variants": variants,
        "calibration": _calibration(read, result.predictions["fused"], layout.of(read.rows), draws, seed),
        "confusion": counts.tolist(),
        "pictures": shown,
    }


def _score_of(read: Classified | Valued) -> Callable[[Any], Scored]:
    if isinstance(read, Valued):
        truth, values = read.truth, read.said
        return lambda rows: value_scores(truth[rows], values[rows])
    labels, said, classes = read.truth, read.said, read.classes
    return lambda rows: class_scores(labels[rows], said[rows], classes)


def _calibration(read: Classified, predictions: Predictions, layout: Layout, draws: int, seed: int) -> dict[str, Any]:
    def ece(probabilities: Any) -> dict[str, Any]:
        def score(rows: Any) -> Scored:
            return Scored({"ECE": calibration_error(read.truth[rows], probabilities[rows])}, {})

        return dict(_figures(figures(score, layout, draws, seed, published=False))["ECE"])

    # A head without a temperature answers at 1.
    temperature = predictions.temperature.get(read.head)
    return {
        "bins": BINS,
        "before": ece(read.unscaled),
        "after": None if temperature is None else ece(read.probabilities),
        "temperatures": None if temperature is None else sorted({round(float(value), 4) for value in temperature}),
    }


def _gap(whole: Predictions, layout: Layout, draws: int, seed: int) -> dict[str, Any]:
    """Measure whether the gap tells where felt and shown differ: row by row, and session by session by its mean."""
    lacking = [head for head in ("emotion_logits", "expression_logits") if head not in whole.outputs]
    known = (whole.emotion >= 0) & (whole.expression >= 0)
    if lacking or not known.any():
        reason = f"the model has no output {lacking[0]}" if lacking else "no row is labelled with both tasks' classes"
        return {"measurable": False, "reason": reason}
    rows = np.flatnonzero(known)
    apart, gap = (whole.emotion != whole.expression)[rows], whole.gap()[rows]

    def measure(positive: Any, score: Any, of: Layout) -> dict[str, Any]:
        found = figures(lambda some: area_under_roc(positive[some], score[some]), of, draws, seed, published=False)
        return {"rows": len(positive), "apart": int(positive.sum()), **_figures(found)["ROC AUC"]}

    entry = {"measurable": True, "chance": 0.5, "row": measure(apart, gap, layout.of(rows))}
    _, first, inverse = np.unique(whole.session[rows], return_index=True, return_inverse=True)
    if len(first) < len(rows):
        count = np.bincount(inverse)
        mostly = np.bincount(inverse, apart) / count > 0.5
        entry["session"] = measure(mostly, np.bincount(inverse, gap) / count, layout.of(rows[first]))
    return entry


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None  # JSON has no NaN


def _figures(found: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            key: _number(value) if isinstance(value, float) else list(value) for key, value in asdict(figure).items()
        }
        for name, figure in found.items()
    }


# -- writing -----------------------------------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any]) -> str:
    """Write a report for people to read.

    Parameters
    ----------
    report : mapping
        From `assess`, or read back from its JSON.
    """
    about = report["about"]
    lines = [f"# {about.get('title', 'Evaluation')}", "", f"**{report['statements'][0]}**", ""]
    lines += [f"- {name}: {value}" for name, value in about.items() if name != "title"]
    bootstrap = report["bootstrap"]
    lines += [
        f"- intervals, in brackets: {bootstrap['level']:.0%}, bootstrap ({bootstrap['kind']}), "
        f"{bootstrap['draws']} draws, seed {bootstrap['seed']}",
        f"- emert_edge {report['emert_edge']}, schema `{report['schema']}`",
        "",
        *(f"{statement}\n" for statement in report["statements"][1:]),
    ]
    for split in report["splits"]:
        lines += [f"## {_capital(split['title'])}", ""]
        lines += _split_lines(split) if split["possible"] else [f"Not possible: {split['reason']}", ""]
    return "\n".join(lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _split_lines(split: Mapping[str, Any]) -> list[str]:
    counts = split["counts"]
    lines = [", ".join(f"{count} {name}" for name, count in counts.items() if count) + ".", ""]
    lines += [f"> {note}\n" for note in split["notes"]]
    if split["folds"]:
        names = [name.replace("_", " ") for name in split["folds"][0]]
        lines += _table(names, [[str(value) for value in part.values()] for part in split["folds"]])
    lines += [f"Intervals draw whole {split['intervals_by']}s.", ""]
    for protocol in split["protocols"]:
        lines += [f"### {protocol['name']}", ""]
        lines += _protocol_lines(protocol, split) if protocol["measurable"] else [
            f"Not measurable: {protocol['reason']}.", ""
        ]  # fmt: skip
    lines += ["### Gap between felt and shown", ""]
    gap = split["gap"]
    if not gap["measurable"]:
        return [*lines, f"Not measurable: {gap['reason']}.", ""]
    rows = [
        [name, str(gap[kind]["rows"]), str(gap[kind]["apart"]), _cell(gap[kind])]
        for kind, name in (("row", "each row"), ("session", "each session, by its mean gap and most of its labels"))
        if kind in gap
    ]
    lines += _table(["telling where they differ", "count", "of them apart", "ROC AUC (chance 0.5)"], rows)
    return lines + _reasons({kind: {"ROC AUC": gap[kind]} for kind in ("row", "session") if kind in gap})


def _protocol_lines(protocol: Mapping[str, Any], split: Mapping[str, Any]) -> list[str]:
    metrics = list(protocol["chance"])
    head = ["", *(name for metric in metrics for name in (metric, "per batch"))]
    rows = [
        [split["variants"][key], *(cell for metric in metrics for cell in _pair(found[metric]))]
        for key, found in protocol["variants"].items()
    ]
    constant = "most frequent class" if "classes" in protocol else "mean"
    chance = [cell for metric in metrics for cell in (_text(protocol["chance"][metric]), "")]
    lines = _table(head, [*rows, [f"*chance: always the {constant}*", *chance]])
    if "classes" in protocol:
        lines.insert(0, "Rows: " + ", ".join(f"{count} {name}" for name, count in protocol["classes"].items()) + ".\n")
    else:
        lines.insert(0, f"Rows: {protocol['rows']}.\n")
    lines += _reasons(protocol["variants"])
    if "calibration" in protocol:
        calibration = protocol["calibration"]
        text = f"Expected calibration error ({calibration['bins']} bins): {_cell(calibration['before'])}"
        if calibration["after"] is not None:
            values = calibration["temperatures"]
            named = f"{values[0]:.3g}" if len(values) == 1 else f"{values[0]:.3g} to {values[-1]:.3g}, one a fold"
            text += f" at temperature 1, {_cell(calibration['after'])} at its own ({named})"
        lines += [text + ".", ""]
        pictures = protocol["pictures"]
        lines += [f"![{kind} of {protocol['name']}]({file})" for kind, file in pictures.items()] + [""]
    return lines


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return _text(figure["value"])
    return f"{_text(figure['value'])} [{_text(figure['low'])}, {_text(figure['high'])}]"


def _pair(figure: Mapping[str, Any]) -> tuple[str, str]:
    return _cell(figure), _text(figure["per_batch"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _reasons(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Say once what holds for several rows of a table."""
    told: dict[str, None] = {}
    for metrics in found.values():
        for metric, figure in metrics.items():
            told |= dict.fromkeys(f"- {metric}: {reason}" for reason in figure["reasons"])
    return [*told, ""] if told else []


def write_report(folder: Path, report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Path:
    """Write report.md, report.json and the pictures; a report that lies there is replaced as a whole.

    Parameters
    ----------
    folder : Path
        The report's own folder; the one above it must exist.

    Raises
    ------
    FileExistsError
        If something that is no report lies there.
    """
    if folder.exists() and not (folder / "report.json").is_file():
        raise FileExistsError(f"{folder} exists and is not a report; it is not overwritten")
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (aside / "report.json").write_text(content, encoding="utf-8")
        (aside / "report.md").write_text(markdown(report), encoding="utf-8")
        for name, picture in pictures.items():
            (aside / name).write_bytes(picture)
        aside.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            folder.rename(old / folder.name)
            aside.rename(folder)
            shutil.rmtree(old)
        else:
            aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder
