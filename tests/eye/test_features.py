"""The 39 features: what they mean, that they are finite, and that each token sees its own span only."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emert_edge.eye.features as features_module
from emert_edge.eye import FEATURE_NAMES, FEATURE_UNITS, GazeSamples, definitions, eye_features
from emert_edge.eye.samples import ARRAY_NAMES
from emert_edge.sources import open_gaze

from .recordings import RECORDINGS

S = 1_000_000_000
DOCS = Path(__file__).resolve().parents[2] / "docs" / "eye-features.md"

LIKELY = st.one_of(st.floats(-1, 2, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
VALUES = st.one_of(LIKELY, st.sampled_from([3.4e38, -3.4e38, 1e-45]))


@st.composite
def wild_samples(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> GazeSamples:
    """Samples in no order, with doubled times, holes, NaN, infinities and absurd values; within 0–1 s mostly."""
    count = draw(st.integers(0, 60))
    times = draw(st.lists(st.integers(-S // 10, S + S // 10), min_size=count, max_size=count))
    arrays = {
        name: np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=np.float32)
        for name in draw(st.sets(st.sampled_from(ARRAY_NAMES)))
    }
    return GazeSamples(t_ns=np.array(times, dtype=np.int64), **arrays)


def row(samples: GazeSamples, start: int = 0, stop: int = S // 8) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, eye_features(samples, start, stop, tokens=1)[0].tolist(), strict=True))


def steady(seconds: float = 0.125, rate: int = 1000, **arrays: object) -> GazeSamples:
    t_ns = np.arange(round(seconds * rate)) * (S // rate)
    made = {name: value(t_ns / 1e9) if callable(value) else value for name, value in arrays.items()}
    return GazeSamples(t_ns=t_ns, **{name: np.broadcast_to(value, t_ns.shape) for name, value in made.items()})


def test_there_are_39_names_each_with_a_unit() -> None:
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 39
    assert tuple(FEATURE_UNITS) == FEATURE_NAMES
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in FEATURE_NAMES)


def defined_in(text: str, cell: str) -> list[tuple[str, str]]:
    return [(match[1], match[2].strip()) for match in re.finditer(cell, text, re.M)]


def test_module_and_docs_define_every_feature_in_order_with_its_unit() -> None:
    expected = list(FEATURE_UNITS.items())
    assert features_module.__doc__ is not None
    assert defined_in(features_module.__doc__, r"^\d+ +([a-z_]+)  +(\S.*?)  +\S.*$") == expected
    docs = DOCS.read_text(encoding="utf-8")
    assert defined_in(docs, r"^\| *\d+ *\| *`([a-z_]+)` *\|([^|]+)\|[^|]+\|$") == expected
    in_module = re.findall(r"^\d+ +[a-z_]+  +\S.*?  +(\S.*)$", features_module.__doc__, re.M)
    in_docs = re.findall(r"^\| *\d+ *\| *`[a-z_]+` *\|[^|]+\|([^|]+)\|$", docs, re.M)
    assert [text.strip() for text in in_docs] == in_module


def test_no_samples_give_zeros_and_validity_says_so() -> None:
    values = row(GazeSamples(t_ns=[]))
    assert values.pop("gap_longest") == pytest.approx(0.125)
    assert set(values.values()) == {0.0}


def test_a_steady_gaze_is_one_fixation() -> None:
    values = row(steady(x=0.25, y=0.75, pupil_left=3.0, pupil_right=3.5))
    assert values["gaze_x_mean"] == 0.25
    assert values["gaze_y_mean"] == 0.75
    assert values["gaze_valid_share"] == values["fixation_share"] == values["fixation_count"] == 1.0
    assert values["fixation_duration_mean"] == pytest.approx(0.124)
    assert values["velocity_max"] == values["gaze_path_length"] == values["saccade_count"] == 0.0
    assert values["pupil_mean"] == 3.25
    assert values["pupil_difference"] == -0.5
    assert values["sample_rate"] == 1000.0
    assert values["gap_longest"] == pytest.approx(0.001)


def test_a_constant_movement_has_its_velocity_in_widths_a_second() -> None:
    across = row(steady(x=lambda t: 0.5 * t, y=0.5))
    assert across["velocity_mean"] == pytest.approx(0.5, rel=1e-4)
    assert across["velocity_std"] == pytest.approx(0.0, abs=1e-4)
    assert across["gaze_path_length"] == pytest.approx(0.062, rel=1e-3)
    assert across["gaze_x_range"] == pytest.approx(0.062, rel=1e-3)
    # A height counts 9/16 of a width.
    down = row(steady(x=0.5, y=lambda t: 0.5 * t))
    assert down["velocity_mean"] == pytest.approx(0.5 * 9 / 16, rel=1e-4)


def test_a_jump_between_two_rests_is_one_saccade() -> None:
    values = row(steady(x=lambda t: np.clip((t - 0.050) / 0.030, 0, 1) * 0.2 + 0.4, y=0.5))
    assert values["fixation_count"] == 2
    assert values["saccade_count"] == 1
    assert values["saccade_amplitude_mean"] == pytest.approx(0.2, rel=0.05)
    assert values["saccade_peak_velocity"] == pytest.approx(0.2 / 0.030, rel=0.05)
    assert values["saccade_duration_mean"] == pytest.approx(0.045, abs=0.008)  # 30 ms and the velocity's window
    assert values["fixation_share"] + values["saccade_share"] == pytest.approx(1.0)


def test_a_loss_of_both_eyes_is_a_blink_and_a_look_beside_the_screen_is_not() -> None:
    def lost(t: np.ndarray) -> np.ndarray:
        return np.where((t >= 0.05) & (t < 0.08), np.nan, 0.5)

    blink = row(steady(x=lost, y=lost, pupil_left=lambda t: lost(t) * 6))
    assert blink["blink_count"] == 1
    assert blink["blink_share"] == pytest.approx(30 / 125)
    assert blink["gaze_valid_share"] == pytest.approx(95 / 125)
    assert blink["gap_longest"] == pytest.approx(0.031)
    away = row(steady(x=lost, y=lost, pupil_left=3.0))
    assert away["blink_count"] == away["blink_share"] == 0.0


def test_the_pupils_slope_is_per_second_and_an_eye_that_drops_out_is_no_change() -> None:
    def left(t: np.ndarray) -> np.ndarray:
        return 3.0 + 0.8 * t

    def right(t: np.ndarray) -> np.ndarray:
        return np.where(t < 0.06, np.nan, 5.0 + 0.8 * t)

    values = row(steady(pupil_left=left))
    assert values["pupil_slope"] == pytest.approx(0.8, rel=1e-3)
    assert values["pupil_range"] == pytest.approx(0.8 * 0.124, rel=1e-3)
    both = row(steady(pupil_left=left, pupil_right=right))
    assert both["pupil_range"] < 0.2  # millimetres: nothing of the 2 mm between the eyes
    assert both["left_valid_share"] == 1.0
    assert both["right_valid_share"] == pytest.approx(65 / 125)


def test_openness_disparity_and_each_eyes_share() -> None:
    values = row(
        steady(
            left_x=0.50,
            left_y=0.5,
            right_x=0.53,
            right_y=0.5,
            openness_left=lambda t: np.where(t < 0.1, 10.0, 1.0),
            openness_right=np.nan,
        )
    )
    assert values["disparity"] == pytest.approx(-0.03, abs=1e-6)
    assert values["openness_min"] == 1.0
    assert values["openness_mean"] == pytest.approx((100 * 10 + 25) / 125)
    assert values["openness_valid_share"] == values["left_valid_share"] == values["right_valid_share"] == 1.0


@given(samples=wild_samples(LIKELY), tokens=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_the_core_computes_what_the_definitions_say(samples: GazeSamples, tokens: int) -> None:
    with np.errstate(invalid="ignore"):
        defined = definitions.token_features(samples, 0, S, tokens)
    found = eye_features(samples, 0, S, tokens)
    for column, name in enumerate(FEATURE_NAMES):
        np.testing.assert_allclose(found[:, column], defined[:, column], rtol=1e-4, atol=1e-5, err_msg=name)


@given(samples=wild_samples(), tokens=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_rows_are_finite_and_the_same_alone_and_together(samples: GazeSamples, tokens: int) -> None:
    whole = eye_features(samples, 0, S, tokens)
    assert whole.shape == (tokens, 39)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    for token in range(tokens):
        start, stop = token * S // tokens, (token + 1) * S // tokens
        alone = eye_features(samples.between(start, stop), start, stop, 1)
        assert alone.tobytes() == whole[token : token + 1].tobytes()


@given(samples=wild_samples(), shift=st.integers(-(2**60), 2**60))
@settings(max_examples=60, deadline=None)
def test_rows_do_not_depend_on_the_clocks_zero(samples: GazeSamples, shift: int) -> None:
    here = eye_features(samples, 0, S, 8)
    there = eye_features(samples.shifted(shift), shift, S + shift, 8)
    assert here.tobytes() == there.tobytes()


def test_the_order_of_samples_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    walk = 0.5 + np.cumsum(rng.normal(0, 0.01, 500))
    t_ns = np.arange(500) * 2_000_000
    straight = GazeSamples(t_ns=t_ns, x=walk, y=walk[::-1], pupil_left=walk + 3)
    order = rng.permutation(500)
    mixed = GazeSamples(t_ns=t_ns[order], x=walk[order], y=walk[::-1][order], pupil_left=(walk + 3)[order])
    assert eye_features(straight, 0, S).tobytes() == eye_features(mixed, 0, S).tobytes()


def test_later_samples_have_no_influence() -> None:
    rng = np.random.default_rng(4)
    walk = (0.5 + np.cumsum(rng.normal(0, 0.01, 1000))).astype(np.float32)
    samples = GazeSamples(t_ns=np.arange(1000) * 4_000_000, x=walk, y=walk)
    assert eye_features(samples, 0, S, 8).tobytes() == eye_features(samples.between(0, S), 0, S, 8).tobytes()


def test_arrays_of_only_nan_equal_arrays_left_out() -> None:
    walk = np.linspace(0, 1, 100)
    nan = np.full(100, np.nan)
    with_nan = GazeSamples(t_ns=np.arange(100) * 10_000_000, x=walk, y=walk, pupil_left=nan, left_x=nan, left_y=nan)
    without = GazeSamples(t_ns=np.arange(100) * 10_000_000, x=walk, y=walk)
    assert eye_features(with_nan, 0, S).tobytes() == eye_features(without, 0, S).tobytes()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ((None, 0, S), TypeError, "samples"),
        ((GazeSamples(t_ns=[]), 0, S, 0), ValueError, "tokens"),
        ((GazeSamples(t_ns=[]), S, S), ValueError, "short"),
        ((GazeSamples(t_ns=[]), 0.5, S), TypeError, "float"),
        ((GazeSamples(t_ns=[]), 0, 2**62), ValueError, "span"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        eye_features(*arguments)


@pytest.mark.parametrize("name", RECORDINGS)
def test_rows_of_real_recordings_are_those_of_the_definitions(shared_data: Path, name: str) -> None:
    if not (shared_data / name).exists():
        pytest.skip(f"no real data here: {shared_data / name} is absent")
    samples = open_gaze(shared_data / name).samples.sorted()
    start = int(samples.t_ns[0])
    count = min(int(samples.t_ns[-1] - start) // (S // 8), 100)
    defined = definitions.token_features(samples, start, start + count * S // 8, count)
    found = eye_features(samples, start, start + count * S // 8, count)
    np.testing.assert_allclose(found, defined, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
@pytest.mark.parametrize("folder", RECORDINGS)
def test_streamed_rows_of_real_recordings_equal_recorded_ones(shared_data: Path, folder: str, piece: int) -> None:
    if not (shared_data / folder).exists():
        pytest.skip(f"no real data here: {shared_data / folder} is absent")
    samples = open_gaze(shared_data / folder).samples.sorted().part(0, 10_000 if piece > 1 else 3000)
    start, span = int(samples.t_ns[0]), S // 8
    count = int(samples.t_ns[-1] - start) // span
    recorded = eye_features(samples, start, start + count * span, count)
    held: list[GazeSamples] = []
    streamed: list[np.ndarray] = []
    for first in range(0, len(samples), piece):
        held.append(samples.part(first, first + piece))
        while len(streamed) < count and int(held[-1].t_ns[-1]) >= start + (len(streamed) + 1) * span:
            begin = start + len(streamed) * span
            arrived = GazeSamples.concatenate(held)
            streamed.append(eye_features(arrived, begin, begin + span, 1))
            held = [arrived.between(begin + span, 2**62)] if len(arrived.between(begin + span, 2**62)) else held[-1:]
    assert len(streamed) == count
    assert np.concatenate(streamed).tobytes() == recorded.tobytes()
    assert np.isfinite(recorded).all()
