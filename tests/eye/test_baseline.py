"""A subject's own baseline: the same rows however they come; people who differ by their pupils' size alone, alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge import Recognizer
from emert_edge.bundle import Bundle, packaged_dir, write_bundle
from emert_edge.eye import BASELINE_FEATURES, FEATURE_NAMES, GazeSamples, SubjectBaseline

S = 1_000_000_000


def test_the_first_tokens_that_have_a_size_are_what_later_ones_are_measured_from() -> None:
    names = ("gaze_x_mean", "pupil_mean", "openness_mean")
    rows = np.array([[0.1, 0, 9], [0.2, 3, 0], [0.3, 5, 7], [0.4, 6, 9], [0.5, 0, 4]], np.float32)
    SubjectBaseline(names, 2).apply(rows)
    np.testing.assert_allclose(rows[:, 0], [0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-6)  # no size
    np.testing.assert_allclose(rows[:, 1], [0, 3 - 3, 5 - 4, 6 - 4, 0])
    np.testing.assert_allclose(rows[:, 2], [9 - 9, 0, 7 - 8, 9 - 8, 4 - 8])
    assert set(BASELINE_FEATURES) < set(FEATURE_NAMES)


@given(cuts=st.lists(st.integers(0, 40), max_size=6), tokens=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_pieces_give_the_rows_of_the_whole(cuts: list[int], tokens: int) -> None:
    rows = np.random.default_rng(1).normal(4, 1, (40, len(FEATURE_NAMES))).astype(np.float32)
    rows[::7] = 0
    whole, pieces = rows.copy(), rows.copy()
    SubjectBaseline(FEATURE_NAMES, tokens).apply(whole)
    baseline = SubjectBaseline(FEATURE_NAMES, tokens)
    for part in np.split(pieces, sorted(cuts)):
        baseline.apply(part)
    assert pieces.tobytes() == whole.tobytes()


def with_baseline(folder: Path, tokens: int) -> Path:
    packaged = Bundle.open(packaged_dir() / "emert-demo")
    assert packaged.manifest.eye is not None
    eye = packaged.manifest.eye.model_copy(update={"baseline_tokens": tokens})
    manifest = packaged.manifest.model_copy(update={"eye": eye})
    write_bundle(folder, manifest, {name: packaged.read(name) for name in (*manifest.files, manifest.card)})
    return folder


@pytest.mark.parametrize("tokens", [0, 16])
def test_a_bundle_that_asks_for_it_does_not_see_whose_pupils_are_large(tmp_path: Path, tokens: int) -> None:
    t_ns = np.arange(8 * 120) * S // 120
    wave = 0.25 * np.sin(np.arange(t_ns.size) / 100)
    with Recognizer(with_baseline(tmp_path / "bundle", tokens), device="cpu") as recognizer:
        answers = []
        for size in (3.0, 5.0):
            gaze = GazeSamples(t_ns=t_ns, x=0.5 + wave, y=0.5 - wave, pupil_left=size + wave, pupil_right=size + wave)
            answers.append([list(one.emotion.probabilities.values()) for one in recognizer.run(gaze=gaze)])
        again = recognizer.session()
        for _ in range(2):  # a session that begins anew has a new baseline
            again.push_gaze(gaze)
            again.finish()
            last = [list(one.emotion.probabilities.values()) for one in again.estimates()]
            again.reset()
    np.testing.assert_allclose(last, answers[1], atol=1e-6)
    apart = float(np.abs(np.array(answers[0]) - np.array(answers[1])).max())
    assert apart < 2e-3 if tokens else apart > 1e-2


def test_training_takes_it_out_as_a_device_does(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra train is not installed")
    from emert_edge.reference.configuration import Configuration
    from emert_edge.reference.stages.run import load_session_data

    told = {
        "name": "baseline",
        "stages": [{"kind": "sessions", "data": {"kind": "simulated", "sessions": 2, "session_s": 8}}],
    }
    plain = Configuration.model_validate(told)
    asked = Configuration.model_validate({**told, "baseline_s": 2.0})
    assert (plain.baseline_tokens, asked.baseline_tokens) == (0, 16)
    raw, taken = (load_session_data(one, one.stages[0], tmp_path / "data") for one in (plain, asked))
    for before, after in zip(raw, taken, strict=True):
        rows = before.eye.copy()
        SubjectBaseline(FEATURE_NAMES, 16).apply(rows)
        np.testing.assert_array_equal(after.eye, rows)
        assert not np.array_equal(before.eye, after.eye)
