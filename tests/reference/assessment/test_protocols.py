"""Nine questions, each with its output and its truth; what cannot be measured says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from emert_edge.reference.assessment.predictions import Predictions
from emert_edge.reference.assessment.protocols import (
    PROTOCOLS,
    Classified,
    NotMeasurable,
    Protocol,
    Valued,
    protocols_by_name,
)
from emert_edge.simulation import POLARITIES, POLARITY

Invent = Callable[..., Predictions]


def protocol(name: str) -> Protocol:
    (found,) = protocols_by_name([name])
    return found


def test_there_are_nine_and_they_go_by_their_names() -> None:
    assert [one.name for one in PROTOCOLS] == [
        "ER-3", "ER-7", "ER valence", "ER arousal", "FER-3", "FER-7", "FER valence", "FER arousal", "FER intensity"
    ]  # fmt: skip
    assert protocols_by_name([]) == PROTOCOLS
    assert [one.name for one in protocols_by_name(["fer_intensity", "er-7", "ER7"])] == ["ER-7", "FER intensity"]
    with pytest.raises(ValueError, match="'ER-5' is unknown; known are ER-3"):
        protocols_by_name(["ER-5"])


def test_classes_are_compared_where_they_are_known(invent: Invent) -> None:
    made = invent().with_temperature({"emotion": 2.0})
    made.emotion[:15] = -1
    read = protocol("ER-7").read(made)
    assert isinstance(read, Classified)
    assert read.rows.tolist() == list(range(15, 120))
    np.testing.assert_array_equal(read.truth, made.emotion[15:])
    np.testing.assert_array_equal(read.said, np.asarray(made.outputs["emotion_logits"]).argmax(1)[15:])
    np.testing.assert_array_equal(read.probabilities, made.probabilities("emotion")[15:])
    np.testing.assert_array_equal(read.unscaled, made.probabilities("emotion", scaled=False)[15:])


def test_three_classes_come_from_the_map_of_polarities(invent: Invent) -> None:
    made = invent()
    read = protocol("FER-3").read(made)
    assert isinstance(read, Classified)
    assert read.classes == POLARITIES
    assert [POLARITIES[label] for label in read.truth] == [POLARITY[made.classes[label]] for label in made.expression]
    np.testing.assert_array_equal(read.said, np.asarray(made.outputs["expression_polarity_logits"]).argmax(1))


def test_another_map_may_leave_a_class_out(invent: Invent) -> None:
    made = invent()
    surprise = made.classes.index("surprise")
    read = protocol("ER-3").read(made, {**POLARITY, "surprise": ""})
    assert read.rows.tolist() == np.flatnonzero(made.emotion != surprise).tolist()
    read = protocol("ER-3").read(made, {"surprise": "negative"})
    assert read.rows.tolist() == np.flatnonzero(made.emotion == surprise).tolist()
    assert set(read.truth) == {POLARITIES.index("negative")}
    with pytest.raises(ValueError, match="'mixed' is unknown"):
        protocol("ER-3").read(made, {"surprise": "mixed"})
    with pytest.raises(NotMeasurable, match="map"):
        protocol("ER-3").read(made, {})


@pytest.mark.parametrize(
    ("name", "output", "column", "truth"),
    [
        ("ER valence", "emotion_valence_arousal", 0, 0),
        ("ER arousal", "emotion_valence_arousal", 1, 1),
        ("FER valence", "expression_valence_arousal", 0, 2),
        ("FER arousal", "expression_valence_arousal", 1, 3),
        ("FER intensity", "expression_intensity", 0, 4),
    ],
)
def test_values_are_compared_where_they_are_known(
    invent: Invent, name: str, output: str, column: int, truth: int
) -> None:
    made = invent()
    made.affect[40:, truth] = np.nan
    read = protocol(name).read(made)
    assert isinstance(read, Valued)
    assert read.rows.tolist() == list(range(40))
    np.testing.assert_array_equal(read.truth, made.affect[:40, truth])
    np.testing.assert_array_equal(read.said, np.asarray(made.outputs[output])[:40, column])


def test_a_published_variant_may_give_valence_alone(invent: Invent) -> None:
    made = invent()
    alone = replace(made, outputs={"emotion_valence": np.ones((120, 1))})
    assert set(protocol("ER valence").read(alone).said) == {1.0}  # type: ignore[union-attr]
    with pytest.raises(NotMeasurable, match="no output for emotion arousal"):
        protocol("ER arousal").read(alone)


@pytest.mark.parametrize("one", PROTOCOLS, ids=lambda one: one.name)
def test_without_labels_or_without_the_output_the_reason_is_said(invent: Invent, one: Protocol) -> None:
    made = invent()
    unknown = np.full(120, -1)
    bare = replace(made, emotion=unknown, expression=unknown, affect=np.full((120, 5), np.nan))
    with pytest.raises(NotMeasurable, match="the data have no"):
        one.read(bare)
    with pytest.raises(NotMeasurable, match="the model has no output"):
        one.read(replace(made, outputs={}))
