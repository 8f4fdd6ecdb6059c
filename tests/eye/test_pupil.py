"""Pupils: artefacts go, what is known to be there stays, and a result says what was done to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.eye import (
    FEATURE_NAMES,
    GazeSamples,
    clean_pupil,
    eye_features,
    remove_common_response,
    remove_light_response,
    scene_luminance,
)
from emert_edge.sources import open_gaze

MS = 1_000_000
S = 1000 * MS


def trace(seconds: float = 20, rate: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Times in seconds, a slow wave about 3.5 mm, and the generator that made it."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    return t, 3.5 + 0.2 * np.sin(2 * np.pi * t / 7 + rng.random()), rng


def samples(t: np.ndarray, left: np.ndarray, right: np.ndarray | None = None, unit: str = "mm") -> GazeSamples:
    return GazeSamples(t_ns=np.round(t * S).astype(np.int64), pupil_left=left, pupil_right=right, pupil_unit=unit)


def step_of(pupil: object, name: str) -> dict[str, float]:
    return dict(next(step.facts for step in pupil.steps if step.name == name))  # type: ignore[attr-defined]


@given(seed=st.integers(0, 1000), rate=st.sampled_from([60, 120, 250, 500]))
@settings(max_examples=25, deadline=None)
def test_spikes_go_and_the_rest_stays(seed: int, rate: int) -> None:
    t, true, rng = trace(rate=rate, seed=seed)
    left = true + rng.normal(0, 0.003, t.size)
    spikes = rng.choice(np.arange(5, t.size - 5, 12), 8, replace=False)
    left[spikes] += rng.choice([-1.5, 1.5], 8)
    pupil = clean_pupil(samples(t, left))
    assert np.isnan(pupil.size[spikes]).all()
    beside = np.unique(np.concatenate([spikes - 1, spikes + 1]))  # their speed to the spike is as large
    others = np.setdiff1d(np.arange(t.size), np.concatenate([spikes, beside]))
    assert np.isfinite(pupil.size[others]).mean() > 0.99
    np.testing.assert_allclose(pupil.size[others], left[others].astype(np.float32), equal_nan=True)
    assert step_of(pupil, "speed")["rejected_left"] >= 8
    assert pupil.unit == "mm"


def test_what_lids_cover_beside_a_blink_goes() -> None:
    t, left, _ = trace()
    blink = (t >= 5) & (t < 5.15)
    left[blink] = np.nan
    left[(t >= 9) & (t < 9.03)] = np.nan  # too short for a blink
    left[(t >= 12) & (t < 15)] = 0.0  # too long: a lost tracker
    pupil = clean_pupil(samples(t, left))
    missing = t[np.isnan(pupil.size)]
    assert (
        missing[(missing > 4) & (missing < 6)].min(),
        missing[(missing > 4) & (missing < 6)].max(),
    ) == pytest.approx((4.94, 5.19), abs=0.011)
    assert ((missing > 8) & (missing < 10)).sum() == 3
    assert ((missing > 11) & (missing < 16)).sum() == 300
    assert step_of(pupil, "margins")["rejected_left"] in (9, 10, 11)
    unmoved = clean_pupil(samples(t, left), margin_ms=0)
    assert step_of(unmoved, "margins")["rejected_left"] in (0, 1)


@given(
    times=st.integers(1, 8), step=st.sampled_from([0.0, 0.01, 0.05, 0.1]), spike=st.integers(20, 900),
    seed=st.integers(0, 100),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_tracker_that_repeats_or_rounds_its_sizes_loses_spikes_alone(
    times: int, step: float, spike: int, seed: int
) -> None:
    t, true, rng = trace(10, 120, seed)
    told = np.repeat((true + rng.normal(0, 0.003, t.size))[::times], times)[: t.size]
    told = np.round(told / step) * step if step else told
    assert np.isfinite(clean_pupil(samples(t, told)).size).all()
    first = spike // times * times
    told[first : first + times] = 8.0
    kept = np.isfinite(clean_pupil(samples(t, told), margin_ms=0).size)
    assert not kept[[first, first + times - 1]].any()
    assert (~kept).sum() <= 4  # its first and last sample, and their neighbours


def test_clocks_that_jitter_make_no_jumps() -> None:
    t, left, rng = trace(20, 250)
    left += rng.normal(0, 0.003, t.size)
    t[1000:4000:100] = t[999:3999:100] + 1e-5
    assert np.isfinite(clean_pupil(samples(t, left)).size).all()
    t[1000:4000:100] = t[999:3999:100]
    assert np.isfinite(clean_pupil(samples(t, left)).size).all()


def test_lids_that_close_over_a_pupil_that_is_measured_all_the_same_are_a_blink() -> None:
    t, left, _ = trace()
    opened = np.where((t >= 5) & (t < 5.15), 1.0, 9.0)
    both = {"openness_left": opened, "openness_right": opened}
    made = GazeSamples(t_ns=np.round(t * S).astype(np.int64), pupil_left=left, pupil_unit="mm", **both)
    missing = t[np.isnan(clean_pupil(made).size)]
    assert (missing.min(), missing.max()) == pytest.approx((4.95, 5.19), abs=0.011)
    assert missing.size in range(23, 27)


def test_sizes_that_no_pupil_has_are_none_in_millimetres_alone() -> None:
    t, left, _ = trace()
    left[:50] = 9.5
    assert np.isnan(clean_pupil(samples(t, left)).size[:50]).all()
    assert np.isfinite(clean_pupil(samples(t, left * 100, unit="au")).size[:40]).all()


def test_an_eye_that_drops_out_makes_no_step() -> None:
    t, left, _ = trace()
    right = left + 0.6
    right[(t >= 8) & (t < 12)] = np.nan
    pupil = clean_pupil(samples(t, left, right), margin_ms=0)
    np.testing.assert_allclose(pupil.size, left + 0.3, atol=1e-5)
    assert step_of(pupil, "eyes")["difference"] == pytest.approx(-0.6, abs=1e-5)


def test_the_baseline_is_the_median_of_its_stretch() -> None:
    t, left, _ = trace()
    left[t < 2] = 3.0
    pupil = clean_pupil(samples(t, left), baseline_ns=(0, 2 * S), outlier_mads=np.inf)
    assert pupil.baseline == 3.0
    np.testing.assert_allclose(pupil.change[t < 2], 0)
    assert step_of(pupil, "baseline") == {"size": 3.0, "samples": 200}
    assert np.isnan(clean_pupil(samples(t, left), baseline_ns=(100 * S, 101 * S)).baseline)


def lit(t: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A scene that changes its brightness every two seconds, and a pupil's answer to it, a low-pass of another form."""
    times = np.arange(0, t[-1], 2.0)
    light = rng.uniform(0.02, 1.0, times.size)
    level = np.log10(light[np.clip(np.searchsorted(times, t - 0.25, "right") - 1, 0, None)])
    answer = np.empty(t.size)
    state = level[0]
    for place in range(t.size):
        state += (level[place] - state) * (t[1] - t[0]) / 0.35
        answer[place] = state
    return np.stack([times, light]), -0.5 * answer


@pytest.mark.parametrize("seed", range(4))
def test_light_is_taken_out_and_emotion_stays(seed: int) -> None:
    t, _, rng = trace(60, 60, seed)
    scene, answer = lit(t, rng)
    felt = 0.3 * np.exp(-0.5 * ((t - 31) / 3) ** 2)
    pupil = clean_pupil(samples(t, 4 + answer + felt + rng.normal(0, 0.01, t.size)))
    free = remove_light_response(pupil, np.round(scene[0] * S).astype(np.int64), scene[1])
    good = np.isfinite(free.size)

    def off(size: np.ndarray) -> float:
        return float(np.std(size[good] - felt[good]))

    assert off(free.size) < 0.4 * off(pupil.size)
    assert np.corrcoef(free.size[good], felt[good])[0, 1] > 0.75 > abs(np.corrcoef(pupil.size[good], felt[good])[0, 1])
    facts = step_of(free, "light")
    assert -0.55 < facts["gain"] < -0.35  # this pupil's answer has another form than the model's
    assert facts["explained"] > 0.6
    assert np.nanmean(free.size) == pytest.approx(np.nanmean(pupil.size), abs=1e-5)
    assert np.array_equal(np.isnan(free.size), np.isnan(pupil.size))


def test_where_luminance_is_not_known_there_is_no_pupil_without_light() -> None:
    t, _, rng = trace(60, 60)
    scene, answer = lit(t, rng)
    pupil = clean_pupil(samples(t, 4 + answer + rng.normal(0, 0.01, t.size)))
    times, light = np.round(scene[0] * S).astype(np.int64), scene[1]
    part = remove_light_response(pupil, times[5:20], light[5:20])
    known = (t >= 10) & (t < 40)
    np.testing.assert_array_equal(np.isfinite(part.size), np.isfinite(pupil.size) & known)
    assert step_of(part, "light")["rejected"] == (np.isfinite(pupil.size) & ~known).sum()
    assert step_of(part, "light")["explained"] > 0.6
    for offset in (10**15, -(10**15)):
        with pytest.raises(ValueError, match="one clock"):
            remove_light_response(pupil, times + offset, light)
    constant = remove_light_response(pupil, [times[0]], [0.5])  # a single value holds throughout
    np.testing.assert_array_equal(constant.size, pupil.size)
    assert step_of(constant, "light")["gain"] == 0


def test_times_that_nobody_means_are_no_endless_work() -> None:
    t = np.arange(100) * 0.01
    t[-1] = 1e9
    pupil = clean_pupil(samples(t, np.full(100, 3.0) + 0.01 * np.sin(t)))
    with pytest.raises(ValueError, match="two days"):
        remove_light_response(pupil, [0, 10**9, 10**18], [1, 2, 3])


def test_where_brighter_does_not_make_smaller_nothing_is_taken_out() -> None:
    t, _, rng = trace(60, 60)
    scene, answer = lit(t, rng)
    pupil = clean_pupil(samples(t, 4 - answer))
    kept = remove_light_response(pupil, np.round(scene[0] * S).astype(np.int64), scene[1])
    np.testing.assert_array_equal(kept.size, pupil.size)
    assert step_of(kept, "light")["gain"] == 0
    dark = remove_light_response(pupil, [0], [0.0])
    np.testing.assert_array_equal(dark.size, pupil.size)


def test_what_many_viewers_have_in_common_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(60 * 40) / 60
    _, shared = lit(t, rng)
    pupils, own, starts = [], [], []
    for person in range(12):
        mine = 0.15 * np.sin(2 * np.pi * t / rng.uniform(5, 15) + rng.uniform(0, 6))
        size = 3.5 + rng.uniform(0.5, 1.5) * shared + mine + rng.normal(0, 0.01, t.size)
        size[rng.random(t.size) < 0.1] = np.nan
        starts.append(person * S)
        own.append(mine)
        pupils.append(clean_pupil(samples(t + person, size, unit="au")))
    free = remove_common_response(pupils, starts)
    for before, after, mine in zip(pupils, free, own, strict=True):
        good = np.isfinite(after.size)
        assert np.corrcoef(after.size[good], mine[good])[0, 1] > 0.85
        assert np.std(after.size[good] - mine[good]) < 0.5 * np.std(before.size[good] - mine[good])
        facts = step_of(after, "common")
        assert facts["explained"] > 0.5
        assert facts["people"] == 12
    with pytest.raises(ValueError, match="two people"):
        remove_common_response(pupils[:1], starts[:1])
    with pytest.raises(ValueError, match="beginnings"):
        remove_common_response(pupils, starts[:3])


@dataclass
class Frame:
    image: np.ndarray
    t_ns: int


def test_luminance_is_linear_light() -> None:
    grey = np.full((90, 160, 3), 188, np.uint8)  # half of white's light, in sRGB
    green = np.zeros((360, 640, 3), np.uint8)
    green[..., 1] = 255
    half = np.zeros((90, 160, 3), np.uint8)
    half[:, :80] = 255
    times, light = scene_luminance([Frame(image, number) for number, image in enumerate((grey, green, half))])
    assert times.tolist() == [0, 1, 2]
    assert light == pytest.approx([0.5, 0.7152, 0.5], abs=0.005)


def test_cleaned_pupils_go_into_the_features() -> None:
    t, left, _ = trace(4)
    left[[60, 61, 200]] = 8.0
    raw = samples(t, left, left + 0.5)
    clean = clean_pupil(raw).put_into(raw)
    column = FEATURE_NAMES.index("pupil_range")
    assert eye_features(raw, 0, 4 * S, 4)[:, column].max() > 3
    assert eye_features(clean, 0, 4 * S, 4)[:, column].max() < 0.3
    with pytest.raises(ValueError, match="not the ones"):
        clean_pupil(raw).put_into(raw.part(0, 10))


@pytest.mark.parametrize(
    "name",
    [
        "tobii_prolab_ivt/I-VT-normal Data export_short.tsv",
        "tobii_studio_d2lab/data.tsv",
        "neon_native_demo",
        "eyelink_asc_pymovements/eyelink_monocular_no_dummy_example.asc",
    ],
)
def test_real_recordings_lose_little(shared_data: Path, name: str) -> None:
    if not (shared_data / name).exists():
        pytest.skip(f"no real data here: {shared_data / name} is absent")
    recording = open_gaze(shared_data / name).samples.sorted()
    pupil = clean_pupil(recording)
    seen = (recording.pupil_left > 0) | (recording.pupil_right > 0)
    assert not np.isfinite(pupil.size[~seen]).any()
    assert np.isfinite(pupil.size).sum() > 0.85 * seen.sum()
    eyes = np.stack([recording.pupil_left, recording.pupil_right])
    raw = np.median(eyes[np.isfinite(eyes) & (eyes > 0)])
    assert np.nanmedian(pupil.size) == pytest.approx(raw, rel=0.05)


@given(
    sizes=st.lists(st.one_of(st.floats(-1, 12, width=32), st.sampled_from([np.nan, np.inf, 0.0])), max_size=60),
    steps=st.lists(st.integers(0, 400), max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_nothing_is_invented_whatever_comes(sizes: list[float], steps: list[int]) -> None:
    count = min(len(sizes), len(steps))
    made = GazeSamples(
        t_ns=np.cumsum(np.array(steps[:count], np.int64)) * MS, pupil_right=np.array(sizes[:count], np.float32)
    )
    pupil = clean_pupil(made)
    good = np.isfinite(pupil.size)
    assert (pupil.size[good] == made.pupil_right[good]).all()
    assert len(pupil.size) == count


def test_wrong_arguments_are_named() -> None:
    pupil = clean_pupil(samples(*trace()[:2]))
    with pytest.raises(TypeError, match="samples"):
        clean_pupil(np.zeros(3))  # type: ignore[arg-type]
    for wrong in ({"outlier_mads": -1}, {"margin_ms": np.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            clean_pupil(samples(*trace()[:2]), **wrong)
    for t_ns, light, told in (
        ([], [], "length"),
        ([0, 1], [1], "length"),
        ([0], [-1], "negative"),
        ([1, 0], [1, 1], "fall"),
    ):
        with pytest.raises(ValueError, match=told):
            remove_light_response(pupil, t_ns, light)
