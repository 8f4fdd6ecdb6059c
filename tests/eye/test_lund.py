"""Fixations against two human coders: what docs/events.md says of images, held by public calls alone.

The whole table, with pymovements beside, is `benchmarks/studies/lund2013.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.eye import GazeSamples, detect_events

CHOSEN = {"velocity_deg_s": 30, "window_ms": 10, "min_fixation_ms": 40}


def kappa(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    p, q = float(a.mean()), float(b.mean())
    chance = p * q + (1 - p) * (1 - q)
    return (float((a == b).mean()) - chance) / (1 - chance)


def test_fixations_on_images_are_those_of_the_coders(shared_data: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    folder = shared_data / "lund2013_annotated" / "annotated_data" / "data used in the article" / "img"
    coded: dict[str, list[npt.NDArray[np.bool_]]] = {"RA": [], "MN": []}
    found: dict[str, list[npt.NDArray[np.bool_]]] = {"defaults": [], "chosen": []}
    for file in sorted(folder.glob("*_RA.mat")):
        for coder in coded:
            data = scipy_io.loadmat(file.with_name(file.name.replace("RA", coder)), squeeze_me=True)["ETdata"]
            rows = data["pos"].item()
            coded[coder].append(rows[:, 5] == 1)
        lost = (rows[:, 3] == 0) & (rows[:, 4] == 0)
        samples = GazeSamples(
            t_ns=np.round((rows[:, 0] - rows[0, 0]) * 1000).astype(np.int64),
            x=np.where(lost, np.nan, rows[:, 3] / 1024),
            y=np.where(lost, np.nan, rows[:, 4] / 768),
        )
        for name, thresholds in (("defaults", {}), ("chosen", CHOSEN)):
            events = detect_events(samples, screen_size_mm=(380, 300), screen_distance_mm=670, **thresholds)
            inside = np.zeros(len(samples), dtype=np.bool_)
            for one in events.fixations:
                inside |= (samples.t_ns >= one.start_ns) & (samples.t_ns <= one.stop_ns)
            found[name].append(inside)
    labels = [np.concatenate(coded[coder]) for coder in coded]
    agreement = {name: np.mean([kappa(np.concatenate(own), label) for label in labels]) for name, own in found.items()}
    assert kappa(*labels) == pytest.approx(0.868, abs=0.001)
    assert agreement["defaults"] == pytest.approx(0.762, abs=0.005)
    assert agreement["chosen"] == pytest.approx(0.797, abs=0.005)
