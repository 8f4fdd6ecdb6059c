"""The report says what was measured, how sure it is, and what was not measured and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emert_edge.reference.assessment.metrics import class_scores
from emert_edge.reference.assessment.pictures import confusion_counts, confusion_picture, reliability_picture
from emert_edge.reference.assessment.predictions import Predictions
from emert_edge.reference.assessment.protocols import PROTOCOLS, protocols_by_name
from emert_edge.reference.assessment.report import SCHEMA, SplitResult, assess, fold_parts, markdown, write_report
from emert_edge.reference.assessment.splits import split
from emert_edge.reference.data.windows import SessionData

Invent = Callable[..., Predictions]
ABOUT = {"title": "Evaluation: test", "data": "invented answers", "model": "none"}


def split_of(report: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = report["splits"][number]
    return found


def protocol_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in split_of(report)["protocols"] if entry["name"] == name)


@pytest.fixture(scope="module")
def measured(invent: Invent) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A split with two variants, and one that was impossible."""
    fused = invent().with_temperature({"emotion": 2.0, "expression": 2.0})
    results = [
        SplitResult("subjects", "unseen people", {"fused": fused, "face_trained": invent(skill=0.5)}, notes=["Mind."]),
        SplitResult("stimuli", "unseen stimuli", impossible="session 'a' names no stimulus"),
    ]
    return assess(results, ABOUT, draws=12)


def test_pooled_figures_stand_beside_intervals_averages_and_chance(
    measured: tuple[dict[str, Any], dict[str, bytes]], invent: Invent
) -> None:
    report, _ = measured
    assert report["schema"] == SCHEMA
    assert [entry["name"] for entry in split_of(report)["protocols"]] == [one.name for one in PROTOCOLS]
    entry = protocol_of(report, "ER-7")
    made = invent()
    said = np.asarray(made.outputs["emotion_logits"]).argmax(1)
    pooled = class_scores(made.emotion, said, made.classes).values
    for metric in ("WAR", "UAR", "weighted F1"):
        figure = entry["variants"]["fused"][metric]
        assert figure["value"] == pytest.approx(pooled[metric], abs=1e-6)
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["low"] < figure["high"]
    batches = [
        np.mean([(made.emotion == said)[(made.fold == fold) & (made.batch == batch)].mean() for batch in of_fold])
        for fold in (0, 1)
        for of_fold in [np.unique(made.batch[made.fold == fold])]
    ]
    assert entry["variants"]["fused"]["WAR"]["per_batch"] == pytest.approx(np.mean(batches), abs=1e-6)
    assert entry["variants"]["fused"]["UAR"]["value"] > entry["variants"]["face_trained"]["UAR"]["value"]
    assert entry["chance"]["UAR"] == pytest.approx(1 / 7, abs=1e-6)
    assert sum(map(sum, entry["confusion"])) == entry["rows"] == 120
    assert protocol_of(report, "FER intensity")["chance"]["CCC"] == 0.0


def test_calibration_is_told_before_and_after_scaling(measured: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    report, _ = measured
    calibration = protocol_of(report, "FER-7")["calibration"]
    assert calibration["bins"] == 15
    assert calibration["temperatures"] == [2.0]
    assert calibration["before"]["value"] != calibration["after"]["value"]
    assert protocol_of(report, "FER-3")["calibration"]["after"] is None  # a device gives polarity as it is


def test_the_gap_is_judged_by_row_and_by_session(invent: Invent) -> None:
    made = invent(skill=6.0)
    same = np.repeat(np.arange(12) % 2 == 0, 10)
    truth = np.where(same, made.emotion, (made.emotion + 1) % 7)
    shown = np.where(same, made.outputs["emotion_logits"].argmax(1), truth)
    outputs = {**made.outputs, "expression_logits": 6.0 * np.eye(7)[shown]}
    told = replace(made, expression=truth, outputs=outputs)
    report, _ = assess([SplitResult("given", "all", {"fused": told})], ABOUT, protocols=[], draws=10)
    gap = split_of(report)["gap"]
    assert (gap["row"]["rows"], gap["row"]["apart"]) == (120, 60)
    assert (gap["session"]["rows"], gap["session"]["apart"]) == (12, 6)
    assert gap["row"]["value"] > 0.9
    assert gap["session"]["value"] == 1.0


def test_what_cannot_be_measured_is_listed_with_the_reason(invent: Invent) -> None:
    made = invent()
    bare = replace(made, expression=np.full(120, -1), affect=np.full((120, 5), np.nan))
    report, pictures = assess([SplitResult("given", "all", {"fused": bare})], ABOUT, draws=0)
    told = {entry["name"]: entry for entry in split_of(report)["protocols"]}
    assert len(told) == 9
    assert [name for name, entry in told.items() if entry["measurable"]] == ["ER-3", "ER-7"]
    assert told["FER-7"]["reason"] == "the data have no expression labels"
    assert "both tasks" in split_of(report)["gap"]["reason"]
    text = markdown(report)
    assert "### FER-7\n\nNot measurable: the data have no expression labels." in text
    assert set(pictures) == {
        f"{kind}-given-{name}.png" for kind in ("confusion", "reliability") for name in ("er-3", "er-7")
    }


def test_a_report_without_any_defined_correlation_is_still_json(invent: Invent, tmp_path: Path) -> None:
    made = invent(1)
    flat = replace(made, outputs={**made.outputs, "expression_intensity": np.ones((10, 1))})
    report, pictures = assess(
        [SplitResult("given", "all", {"fused": flat})], ABOUT, protocols=protocols_by_name(["FER intensity"]), draws=9
    )
    figure = protocol_of(report, "FER intensity")["variants"]["fused"]["PCC"]
    assert figure["value"] is None
    assert "every answer is the same" in figure["reasons"]
    assert "there is no interval with one group of rows" in figure["reasons"]
    write_report(tmp_path / "report", report, pictures)
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert "- PCC: every answer is the same" in (tmp_path / "report" / "report.md").read_text()


def test_the_text_says_what_a_reader_must_know(measured: tuple[dict[str, Any], dict[str, bytes]]) -> None:
    report, pictures = measured
    text = markdown(report)
    for said in (
        "not a person's true emotion",
        "this list is our reading",
        "falls to chance when the test videos are new",
        "the published way",
        "invented answers",
        "12 draws",
        "12 sessions, 4 subjects, 4 stimuli",
        "> Mind.",
        "Intervals draw whole subjects.",
        "face only, trained without eyes",
        "*chance: always the most frequent class*",
        "Not possible: session 'a' names no stimulus",
        "ROC AUC (chance 0.5)",
    ):
        assert said in text, said
    for name in pictures:
        assert f"]({name})" in text


def test_sessions_are_drawn_where_subjects_are_unknown(invent: Invent) -> None:
    made = replace(invent(), subject=np.full(120, ""))
    report, _ = assess([SplitResult("given", "all", {"fused": made})], ABOUT, protocols=[], draws=5)
    assert split_of(report)["intervals_by"] == "session"
    assert split_of(report)["counts"] == {"rows": 120, "sessions": 12, "subjects": 0, "stimuli": 4}


def test_folds_tell_what_the_test_had_in_common_with_training(sessions: list[SessionData]) -> None:
    by_subject = fold_parts(split("subjects", sessions, 4), sessions)
    assert sum(part["test"] for part in by_subject) == len(sessions)
    assert all(part["test_of_known_subjects"] == 0 for part in by_subject)
    assert all(part["test_of_known_stimuli"] == part["test"] for part in by_subject)  # each stimulus is looked at twice
    by_stimulus = fold_parts(split("stimuli", sessions, 4), sessions)
    assert all(part["test_of_known_stimuli"] == 0 for part in by_stimulus)


def test_a_report_replaces_a_report_and_nothing_else(
    measured: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, pictures = measured
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "thesis.md").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a report"):
        write_report(folder, report, pictures)
    (folder / "thesis.md").unlink()
    folder.rmdir()
    write_report(folder, report, {"old.png": b"", **pictures})
    write_report(folder, report, pictures)
    assert {file.name for file in folder.iterdir()} == {"report.md", "report.json", *pictures}
    before = (folder / "report.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_report(folder, {**report, "wrong": float("nan")}, pictures)
    assert (folder / "report.json").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_pictures_are_pictures_and_the_same_each_time(invent: Invent) -> None:
    made = invent()
    warm, plain = made.with_temperature({"emotion": 3.0}).probabilities("emotion"), made.probabilities("emotion")
    counts = confusion_counts(made.emotion, plain.argmax(1), 7)
    assert counts.sum(1).tolist() == np.bincount(made.emotion, minlength=7).tolist()
    for draw in (
        lambda: confusion_picture(counts, made.classes, "ER-7"),
        lambda: reliability_picture(made.emotion, plain, warm, "ER-7"),
    ):
        picture = draw()
        shape = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape
        assert min(shape[:2]) > 300
        assert draw() == picture


def test_a_class_that_is_never_true_has_an_empty_row(invent: Invent) -> None:
    counts = confusion_counts(np.array([0, 0]), np.array([0, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert confusion_picture(counts, ("a", "b", "c"), "three")[:4] == b"\x89PNG"
