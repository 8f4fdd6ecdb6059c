"""Take the answer to light out of a pupil: python examples/pupil.py [PICTURE.png]

A simulated person watches scenes that are bright and dark in turn; in the middle they are surprised. The pupil shows
both. With a path, the three curves are drawn (needs matplotlib).
"""

from __future__ import annotations

import sys

import numpy as np

from emert_edge.eye import clean_pupil, remove_light_response
from emert_edge.simulation.face import EXPRESSIONS
from emert_edge.simulation.gaze import GazeStimulus, simulate_gaze

SECONDS = 60.0
SURPRISED = (25.0, 35.0)


def felt(t_s: np.ndarray) -> np.ndarray:
    """Surprise for ten seconds, nothing in particular before and after: weights over the seven classes."""
    surprised = (t_s >= SURPRISED[0]) & (t_s < SURPRISED[1])
    weights = np.zeros((t_s.size, len(EXPRESSIONS)))
    weights[surprised, EXPRESSIONS.index("surprise")] = 1.0
    weights[~surprised, EXPRESSIONS.index("neutral")] = 1.0
    return weights


def main() -> None:
    stimulus = GazeStimulus(luminance=0.5, flicker=0.9, period_s=6.0)
    samples = simulate_gaze(SECONDS, felt, rng=np.random.default_rng(7), stimulus=stimulus).samples
    frames_s = np.arange(0, SECONDS + 1, 0.04)
    luminance = stimulus.brightness(frames_s)

    cleaned = clean_pupil(samples)
    without_light = remove_light_response(cleaned, np.round(frames_s * 1e9).astype(np.int64), luminance)
    for step in without_light.steps:
        print(step.name, ", ".join(f"{name} {value:.3g}" for name, value in step.facts.items()))
    t_s = samples.t_ns / 1e9
    surprised = (t_s >= SURPRISED[0] + 1) & (t_s < SURPRISED[1])
    for name, pupil in (("with light", cleaned), ("without", without_light)):
        apart = np.nanmean(pupil.size[surprised]) - np.nanmean(pupil.size[~surprised])
        print(f"{name:10}: surprise {apart:+.2f} mm, all else ±{np.nanstd(pupil.size[~surprised]):.2f} mm")
    if len(sys.argv) > 1:
        draw(sys.argv[1], t_s, (frames_s, luminance), (samples.pupil_left, cleaned.size, without_light.size))


def draw(path: str, t_s: np.ndarray, light: tuple[np.ndarray, np.ndarray], sizes: tuple[np.ndarray, ...]) -> None:
    """Draw the luminance, and the pupil as measured, cleaned, and without its answer to light."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9, 5), gridspec_kw={"height_ratios": (1, 3)}, layout="constrained"
    )
    above.plot(*light, color="#c98a00")
    above.set_ylabel("luminance")
    titles = ("left pupil as measured", "both eyes, artefacts out", "the same without the answer to light")
    for values, title, colour in zip(sizes, titles, ("#c8c8c8", "#4a78b8", "#b8402a"), strict=True):
        below.plot(t_s, values, color=colour, label=title, linewidth=1.2)
    for axes in (above, below):
        axes.axvspan(*SURPRISED, color="#eee4f4", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    below.annotate("surprised", (sum(SURPRISED) / 2, 0.02), xycoords=("data", "axes fraction"), ha="center")
    below.set(xlabel="seconds", ylabel="pupil, mm", xlim=(0, SECONDS))
    below.legend(loc="lower left", frameon=False, ncols=3, bbox_to_anchor=(0, 1.0))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
