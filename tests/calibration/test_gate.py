"""The gate: what is compared, which bounds decide, and what the bundle records of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration.gate import Bounds, compare, judge
from emert_edge.calibration.probes import Answers

CLASSES = ("happiness", "sadness", "neutral")


def answers(said: list[int], truth: list[int] | None, sure: float = 0.8, head: str = "expression") -> Answers:
    probabilities = np.full((len(said), 3), (1 - sure) / 2)
    probabilities[np.arange(len(said)), said] = sure
    return Answers(head, probabilities, np.array(truth if truth is not None else [-1] * len(said), np.int64))


TRUTH = [0] * 100 + [1] * 80 + [2] * 20


def test_figures_are_those_of_both_precisions_on_the_labelled_rows() -> None:
    truth = [*TRUTH, -1, -1]
    fp32 = answers([*TRUTH, 0, 1], truth)
    said = [*TRUTH, 0, 2]
    said[180:182] = [0, 1]  # two of the rarest class are lost
    found = compare(fp32, answers(said, truth), CLASSES)
    assert found.agreement == pytest.approx(199 / 202)
    assert (found.fp32_uar, found.fp32_accuracy) == (1.0, 1.0)
    assert found.uar == pytest.approx((1 + 1 + 0.9) / 3)
    assert found.accuracy == pytest.approx(0.99)
    assert found.fp32_ece == pytest.approx(0.2, abs=1e-4)  # torchmetrics sums in float32
    assert found.ece == pytest.approx(0.19, abs=1e-4)


def test_each_bound_is_told_when_it_is_not_kept() -> None:
    said = list(TRUTH)
    said[180:182] = [0, 1]
    verdict = judge("int8", "cpu", [answers(TRUTH, TRUTH)], [answers(said, TRUTH)], CLASSES, Bounds(), "pictures")
    assert not verdict.accepted
    assert verdict.faults == ("expression: UAR drop 3.33 points (bound 0.5)",)
    loose = judge(
        "int8", "cpu", [answers(TRUTH, TRUTH)], [answers(said, TRUTH)], CLASSES, Bounds(max_uar_drop=4), "pictures"
    )  # fmt: skip
    assert loose.accepted
    unsure = judge(
        "int8", "cpu", [answers(TRUTH, TRUTH)], [answers(TRUTH, TRUTH, sure=0.7)], CLASSES, Bounds(), "pictures"
    )  # fmt: skip
    assert unsure.faults == ("expression: ECE rise 10.00 points (bound 1)",)


def test_without_labels_agreement_decides_alone() -> None:
    said = list(TRUTH)
    said[:5] = [1] * 5
    for changed, accepted in ((4, True), (5, False)):
        other = said[:changed] + TRUTH[changed:]
        verdict = judge("int8", "cpu", [answers(TRUTH, None)], [answers(other, None)], CLASSES, Bounds(), "pictures")
        assert verdict.accepted is accepted
        assert verdict.figures() == {"agreement": 1 - changed / 200}
        assert verdict.evidence().labelled is False


def test_agreement_on_one_class_alone_is_no_evidence() -> None:
    black = answers([0] * 200, None)
    verdict = judge("int8", "cpu", [black], [black], CLASSES, Bounds(), "pictures")
    assert not verdict.accepted
    assert "one class" in verdict.faults[0]


def test_every_head_has_to_keep_its_bounds() -> None:
    worse = [1, *TRUTH[1:190], *[1] * 10]
    heads = [answers(TRUTH, TRUTH), answers(TRUTH, None, head="emotion")]
    tested = [answers(TRUTH, TRUTH), answers(worse, None, head="emotion")]
    verdict = judge("int8", "tensorrt", heads, tested, CLASSES, Bounds(), "windows")
    assert verdict.faults == ("emotion: agreement 94.50 % (bound 98 %)",)
    figures = verdict.figures()
    assert (figures["agreement"], figures["expression_agreement"], figures["emotion_agreement"]) == (0.945, 1.0, 0.945)
    assert figures["expression_fp32_uar"] == 1.0


def test_evidence_says_all_that_a_reader_of_the_bundle_needs() -> None:
    verdict = judge(
        "int8", "cpu", [answers(TRUTH, TRUTH)], [answers(TRUTH, TRUTH)], CLASSES, Bounds(), "pictures, mine"
    )
    evidence = verdict.evidence("calibrator minmax")
    assert (evidence.precision, evidence.target, evidence.samples, evidence.labelled) == ("int8", "cpu", 200, True)
    assert evidence.bounds == {"max_uar_drop": 0.5, "min_agreement": 98.0, "max_ece_rise": 1.0}
    assert evidence.method == "calibrator minmax"
    assert set(evidence.figures) == {
        "agreement", "uar", "fp32_uar", "accuracy", "fp32_accuracy", "ece", "fp32_ece",
    }  # fmt: skip
    assert evidence.accepted


@pytest.mark.parametrize("wrong", [{"max_uar_drop": -1.0}, {"min_agreement": 101.0}, {"max_ece_rise": float("nan")}])
def test_bounds_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Bounds(**wrong)
