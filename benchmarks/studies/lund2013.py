"""Fixations against two human coders on Lund 2013, beside pymovements: python benchmarks/studies/lund2013.py FOLDER

FOLDER is a checkout of richardandersson/EyeMovementDetectorEvaluation. Each sample is fixation or not, by coder and by
detector; the figure is Cohen's kappa over all samples of a stimulus class, the mean over both coders. Our settings for
a trial are those that do best, by kappa, on the other trials of its class, and beside that those that do best on all;
pymovements gets the best threshold for the very trials that it is measured on, and the better of two ways to compute
velocity and of two shortest fixations. Durations are compared by the number and the median of fixations.

Times are those of the samples where a file holds them: one trial with an image was sampled at 200 Hz, not at the 500
that its file states. Some files end in padding, which is left out.

Needs scipy, scikit-learn and pymovements, none of which the SDK needs.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from sklearn.metrics import cohen_kappa_score

from emert_edge.eye import GazeSamples, detect_events

CODERS = ("MN", "RA")
FIXATION = 1
SCREEN_MM, DISTANCE_MM, SCREEN_PX = (380.0, 300.0), 670.0, (1024, 768)
IVT = {
    "velocity_deg_s": (4, 6, 8, 12, 16, 20, 25, 30, 40, 50), "window_ms": (4, 10, 20, 40, 80, 120),
    "min_fixation_ms": (40, 60, 100), "merge_deg": (0, 0.5, 1.0),
}  # fmt: skip
IDT = {"dispersion_deg": (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0), "min_fixation_ms": (40, 60, 80, 100, 150)}
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class Trial:
    """One person looking at one thing."""

    name: str
    kind: str
    samples: GazeSamples
    pixels: np.ndarray[Any, np.dtype[np.float64]]
    coded: list[Bools]

    @classmethod
    def read(cls, first: Path) -> Trial:
        held = [first, first.with_name(first.name.replace(CODERS[0], CODERS[1]))]
        tables = [loadmat(file, squeeze_me=True, struct_as_record=False)["ETdata"].pos for file in held]
        count = min(int((table[:, 0] != 0).sum()) for table in tables)
        time_us = tables[0][:count, 0]
        timed = bool(np.isfinite(time_us).all())
        t_ns = np.round((time_us - time_us[0]) * 1000).astype(np.int64) if timed else np.arange(count) * 2_000_000
        pixels = tables[0][:count, 3:5].astype(np.float64)
        pixels[(pixels == 0).all(1)] = np.nan  # how these files write a lost eye
        samples = GazeSamples(t_ns=t_ns, x=pixels[:, 0] / SCREEN_PX[0], y=pixels[:, 1] / SCREEN_PX[1])
        return cls(first.name, first.parent.name, samples, pixels, [table[:count, 5] == FIXATION for table in tables])


def covered(times: np.ndarray[Any, np.dtype[np.int64]], spans: list[tuple[int, int]]) -> Bools:
    """Which samples lie in a span, both ends included."""
    member = np.zeros(len(times), bool)
    for start, stop in spans:
        member[np.searchsorted(times, start) : np.searchsorted(times, stop, "right")] = True
    return member


def ours(trial: Trial, method: str, settings: dict[str, float]) -> tuple[Bools, list[float]]:
    found = detect_events(
        trial.samples, method, screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM, **settings  # type: ignore[arg-type]
    ).fixations  # fmt: skip
    member = covered(trial.samples.t_ns, [(event.start_ns, event.stop_ns) for event in found])
    return member, [event.duration_ms for event in found]


def theirs(
    trial: Trial, method: str, threshold: float, minimum_ms: int, velocity: str = ""
) -> tuple[Bools, list[float]]:
    import pymovements as pm
    from pymovements import events

    step_ms = round(float(np.median(np.diff(trial.samples.t_ns))) / 1e6)  # pymovements wants steps of one length
    timesteps = np.arange(len(trial.samples)) * step_ms
    experiment = pm.Experiment(
        *SCREEN_PX, SCREEN_MM[0] / 10, SCREEN_MM[1] / 10, DISTANCE_MM / 10, origin="upper left",
        sampling_rate=1000 / step_ms,
    )  # fmt: skip
    gaze = pm.gaze.from_numpy(time=timesteps, pixel=trial.pixels.T, experiment=experiment)
    gaze.pix2deg()
    if method == "ivt":
        gaze.pos2vel(velocity, **({"window_length": 7, "degree": 2} if velocity == "savitzky_golay" else {}))
        given = {"velocities": np.array(gaze.samples["velocity"].to_list(), float), "velocity_threshold": threshold}
    else:
        given = {"positions": np.array(gaze.samples["position"].to_list(), float), "dispersion_threshold": threshold}
    found = getattr(events, method)(**given, timesteps=timesteps, minimum_duration=minimum_ms).frame
    spans = [(int(on), int(off)) for on, off in zip(found["onset"].to_list(), found["offset"].to_list(), strict=True)]
    return covered(timesteps, spans), [float(duration) for duration in found["duration"].to_list()]


def kappa(members: list[Bools], trials: list[Trial]) -> float:
    """Over the samples of all trials together, the mean over both coders."""
    told = np.concatenate(members)
    return float(np.mean([cohen_kappa_score(np.concatenate([t.coded[c] for t in trials]), told) for c in range(2)]))


def grid(settings: dict[str, tuple[float, ...]]) -> Iterator[dict[str, float]]:
    for values in itertools.product(*settings.values()):
        yield dict(zip(settings, values, strict=True))


def agreement(member: Bools, coded: Bools) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The four counts that kappa rests on; those of several trials add up."""
    return np.array(
        [(member & coded).sum(), (member & ~coded).sum(), (~member & coded).sum(), (~member & ~coded).sum()]
    )


def kappa_of(counts: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    both, only_told, only_coded, none = (float(value) for value in counts)
    total = both + only_told + only_coded + none
    expected = ((both + only_told) * (both + only_coded) + (none + only_told) * (none + only_coded)) / total**2
    return ((both + none) / total - expected) / (1 - expected) if expected < 1 else 0.0


def chosen(
    trials: list[Trial], method: str, settings: list[dict[str, float]], *, on_others: bool
) -> tuple[list[Bools], list[float]]:
    """Each trial with the settings that do best on the other trials, or on all of them."""
    counts = np.array(
        [[[agreement(ours(t, method, s)[0], coded) for coded in t.coded] for t in trials] for s in settings]
    )  # (settings, trials, coders, 4)
    members: list[Bools] = []
    durations: list[float] = []
    for place, trial in enumerate(trials):
        learnt = counts.sum(1) - counts[:, place] * on_others
        best = int(np.argmax([sum(kappa_of(of_coder) for of_coder in of_settings) for of_settings in learnt]))
        member, held = ours(trial, method, settings[best])
        members.append(member)
        durations += held
    return members, durations


def joined(answers: list[tuple[Bools, list[float]]]) -> tuple[list[Bools], list[float]]:
    """What several trials' answers say together."""
    return [member for member, _ in answers], [duration for _, held in answers for duration in held]


def best_threshold(
    trials: list[Trial], detect: Callable[[Trial, float], tuple[Bools, list[float]]], thresholds: tuple[float, ...]
) -> tuple[float, float, list[float]]:
    """The threshold that does best on these very trials."""
    found = []
    for threshold in thresholds:
        members, durations = joined([detect(trial, threshold) for trial in trials])
        found.append((kappa(members, trials), threshold, durations))
    return max(found, key=lambda one: one[0])


def coded_durations(trials: list[Trial], coder: int) -> list[float]:
    durations = []
    for trial in trials:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], trial.coded[coder].astype(int), [0]])))
        times_ms = trial.samples.t_ns / 1e6
        durations += (times_ms[edges[1::2] - 1] - times_ms[edges[::2]]).tolist()
    return durations


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    files = sorted((folder / "annotated_data" / "data used in the article").rglob(f"*_labelled_{CODERS[0]}.mat"))
    trials = [Trial.read(file) for file in files]
    print("| stimulus | detector | kappa | fixations | median, ms |\n|---|---|---|---|---|")
    for kind in ("img", "dots", "video"):
        own = [trial for trial in trials if trial.kind == kind]

        def row(name: str, value: float, durations: list[float], kind: str = kind) -> None:
            print(
                f"| {kind} | {name} | {value:.3f} | {len(durations)} | {np.median(durations or [0]):.0f} |", flush=True
            )

        first, second = (np.concatenate([trial.coded[coder] for trial in own]) for coder in range(2))
        between = float(cohen_kappa_score(first, second))
        for coder, name in enumerate(CODERS):
            row(f"coder {name}", between, coded_durations(own, coder))
        for method, settings in (("ivt", IVT), ("idt", IDT)):
            members, durations = joined([ours(trial, method, {}) for trial in own])
            row(f"ours, {method}, defaults", kappa(members, own), durations)
            for name, on_others in (("chosen on other trials", True), ("best settings here", False)):
                members, durations = chosen(own, method, list(grid(settings)), on_others=on_others)
                row(f"ours, {method}, {name}", kappa(members, own), durations)
        for method, thresholds in (("ivt", (4, 6, 8, 12, 16, 20, 25, 30, 40, 50, 70, 100)),
                                   ("idt", (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0))):  # fmt: skip
            ways = ("fivepoint", "savitzky_golay") if method == "ivt" else ("",)
            best = max(
                (
                    best_threshold(own, lambda t, x, m=method, n=n, v=way: theirs(t, m, x, n, v), thresholds)
                    for n in (60, 100)
                    for way in ways
                ),
                key=lambda one: one[0],
            )
            row(f"pymovements, {method}, best threshold here ({best[1]:g})", best[0], best[2])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
