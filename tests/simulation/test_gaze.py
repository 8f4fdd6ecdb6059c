"""The simulated gaze stream: in range, lawful in form, and coloured by what is felt."""

from __future__ import annotations

import numpy as np
import pytest

from emert_edge.eye import FEATURE_NAMES, eye_features
from emert_edge.simulation import (
    EXPRESSIONS,
    EYE_GROUPS,
    FELT,
    GazeStimulus,
    GazeSubject,
    SimulatedGaze,
    Timeline,
    simulate_gaze,
)


def stream(felt: str = "neutral", seed: int = 0, duration_s: float = 30.0, **options: object) -> SimulatedGaze:
    rng = np.random.default_rng(seed)
    return simulate_gaze(duration_s, Timeline.constant(felt).weights, rng=rng, **options)  # type: ignore[arg-type]


def features(felt: str, seeds: range = range(4)) -> dict[str, float]:
    rows = [eye_features(stream(felt, seed).samples, 0, 30_000_000_000, 240) for seed in seeds]
    return dict(zip(FEATURE_NAMES, np.concatenate(rows).mean(0).tolist(), strict=True))


def test_values_stay_where_a_tracker_would_report_them() -> None:
    for seed in range(6):
        made = stream("fear", seed, subject=GazeSubject.from_seed(seed), stimulus=GazeStimulus.from_seed(seed))
        samples = made.samples
        assert len(samples) == 3600
        assert samples.space == "screen"
        assert samples.pupil_unit == "mm"
        for name in ("x", "y", "left_x", "right_y"):
            values = getattr(samples, name)
            inside = values[np.isfinite(values)]
            assert inside.min() > -0.1
            assert inside.max() < 1.1
        assert samples.valid.mean() > 0.8
        pupil = samples.pupil_left[np.isfinite(samples.pupil_left)]
        assert pupil.min() > 1.2
        assert pupil.max() < 8.5
        assert np.nanmin(samples.openness_left) >= 0


def test_times_rise_evenly_from_the_start_that_was_asked_for() -> None:
    samples = stream(duration_s=2.0, rate_hz=250.0, start_ns=7_000).samples
    assert samples.t_ns[0] == 7_000
    assert np.array_equal(np.unique(np.diff(samples.t_ns)), [4_000_000])


def test_gaze_and_pupil_are_missing_in_a_blink_and_lids_are_down() -> None:
    made = stream("disgust", 3)
    assert len(made.blinks) > 3
    t_s = made.samples.t_ns / 1e9
    for begin, end in made.blinks:
        middle = np.abs(t_s - (begin + end) / 2) < 0.02
        assert not made.samples.valid[middle].any()
        assert np.isnan(made.samples.pupil_left[middle]).all()
        assert np.nanmax(made.samples.openness_left[middle], initial=0.0) < 1.0


def test_saccades_keep_to_the_main_sequence() -> None:
    made = stream("neutral", 5)
    starts, stops = made.fixations[1:, 0], made.fixations[:-1, 1]
    flight = starts - stops
    step = np.hypot(np.diff(made.fixations[:, 2]), 9 / 16 * np.diff(made.fixations[:, 3])) * 44.4
    assert flight.min() >= 0.021
    assert np.corrcoef(flight, step)[0, 1] > 0.98


def test_the_pupil_answers_to_light() -> None:
    dark = stream(stimulus=GazeStimulus(luminance=0.2, flicker=0.0)).samples
    bright = stream(stimulus=GazeStimulus(luminance=0.8, flicker=0.0)).samples
    assert np.nanmean(dark.pupil_left) > np.nanmean(bright.pupil_left) + 0.5


def test_the_documented_relation_can_be_measured() -> None:
    of = {name: features(name) for name in EXPRESSIONS}
    group = {
        name: {key: np.mean([of[felt][key] for felt in EYE_GROUPS[name]]) for key in FEATURE_NAMES}
        for name in EYE_GROUPS
    }
    drawn, alert, away = group["drawn"], group["alert"], group["turned_away"]
    assert alert["saccade_count"] > 1.2 * away["saccade_count"] > 1.2 * 1.1 * drawn["saccade_count"]
    assert alert["gaze_dispersion"] > 1.5 * drawn["gaze_dispersion"]
    assert alert["pupil_mean"] > drawn["pupil_mean"] + 0.1 > away["pupil_mean"] + 0.3
    assert alert["openness_mean"] > 1.1 * max(drawn["openness_mean"], away["openness_mean"])
    assert away["gaze_y_mean"] > drawn["gaze_y_mean"] + 0.05
    assert away["blink_share"] > 1.3 * drawn["blink_share"]


def test_classes_of_a_group_differ_less_than_groups_do() -> None:
    table = np.array([[*FELT[name][:2], *FELT[name][3:]] for name in EXPRESSIONS])  # all look to the middle, x
    table = (table - table.mean(0)) / table.std(0)
    apart = np.linalg.norm(table[:, None] - table, axis=2)
    group = np.array([[name in names for names in EYE_GROUPS.values()].index(True) for name in EXPRESSIONS])
    same = (group[:, None] == group) & ~np.eye(7, dtype=bool)
    assert 0 < apart[same].max() < 0.7 * apart[group[:, None] != group].min()


def test_the_same_chance_makes_the_same_stream() -> None:
    first, again, other = stream("anger", 1).samples, stream("anger", 1).samples, stream("anger", 2).samples
    assert np.array_equal(first.x, again.x, equal_nan=True)
    assert not np.array_equal(first.x, other.x, equal_nan=True)


def test_subjects_and_stimuli_differ_and_stay_the_same() -> None:
    assert GazeSubject.from_seed(1) == GazeSubject.from_seed(1) != GazeSubject.from_seed(2)
    assert GazeStimulus.from_seed(1) == GazeStimulus.from_seed(1) != GazeStimulus.from_seed(2)


@pytest.mark.parametrize(("name", "value"), [("duration_s", 0.0), ("duration_s", float("nan")), ("rate_hz", -1.0)])
def test_lengths_and_rates_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        stream(**{name: value})  # type: ignore[arg-type]


def test_the_shortest_stream_has_one_sample() -> None:
    assert len(stream(duration_s=0.001).samples) == 1
