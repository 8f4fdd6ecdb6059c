"""The bundle that ships inside the wheel, made from nothing: `python -m emert_edge.reference.packaged --out FOLDER`.

Draws faces, trains, simulates sessions, trains, evaluates, exports, and runs the finished bundle end to end. Each step
leaves its result in the work folder; a run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emert_edge.reference.plan import TrainingPlan

__all__ = ["COMMAND", "END_TO_END_SESSIONS", "NAME", "VERSION", "end_to_end", "main", "make_packaged_bundle"]

NAME = "emert-demo"
VERSION = "1"
COMMAND = "python -m emert_edge.reference.packaged --out emert_edge/bundles/emert-demo"
END_TO_END_SESSIONS = 24

Report = Callable[[str], None]


def end_to_end(
    bundle: Path, sessions: int = END_TO_END_SESSIONS, report: Report = lambda line: None
) -> dict[str, float]:
    """Run a bundle over held-out simulated sessions as a user would, detector included.

    Returns
    -------
    dict of str to float
        Shares of estimates whose expression and emotion are right, and of face tokens that were found. Of each session
        only whole windows count.
    """
    from emert_edge import Recognizer
    from emert_edge.reference.simulated_data import LABEL_SPAN_S, SPLITS
    from emert_edge.simulation import SimulatedSession

    shown, felt, found = [], [], []
    with Recognizer(bundle, device="cpu", threads=1) as recognizer:
        window_s = recognizer.bundle.manifest.window.window_ms / 1000
        for number in range(sessions):
            session = SimulatedSession.from_seed(
                SPLITS["test"] + (1 << 21) + number,
                subject=SPLITS["test"] + 5000 + number,
                stimulus=SPLITS["test"] + 5000 + number,
                duration_s=16.0,
                fps=10.0,
            )
            for estimate in recognizer.run(face=session.face_source(), gaze=session.gaze):
                if estimate.time_s < window_s or estimate.emotion is None or estimate.expression is None:
                    continue
                span = (estimate.time_s - LABEL_SPAN_S, estimate.time_s)
                shown.append(estimate.expression.label == session.shown.label(*span))
                felt.append(estimate.emotion.label == session.felt.label(*span))
                found.append(estimate.quality.face)
            report(f"end to end: session {number + 1}/{sessions}, expression right in {np.mean(shown):.3f}")
    return {
        "end_to_end_expression": round(float(np.mean(shown)), 4),
        "end_to_end_emotion": round(float(np.mean(felt)), 4),
        "end_to_end_face": round(float(np.mean(found)), 4),
    }


def make_packaged_bundle(
    out: Path,
    work: Path,
    plan: TrainingPlan,
    report: Report = lambda line: None,
    *,
    threads: int | None = None,
    name: str = NAME,
    end_to_end_sessions: int = END_TO_END_SESSIONS,
) -> dict[str, float]:
    """Train, evaluate, export; returns the measured figures that the card shows.

    Parameters
    ----------
    out : Path
        The bundle: a folder, or a file that ends in `.emert`.
    work : Path
        Caches and checkpoints; may be removed afterwards.
    end_to_end_sessions : int
        How many sessions the finished bundle is run over; 0 leaves that out.
    """
    from emert_edge.export import export_checkpoint
    from emert_edge.reference.checkpoint import load_model
    from emert_edge.reference.evaluation import evaluate_simulated
    from emert_edge.reference.training import EyeScale, train

    checkpoint = train(plan, work, report, threads=threads)
    measured = work / "figures.json"
    if measured.exists():
        figures: dict[str, float] = json.loads(measured.read_text())
    else:
        model, content = load_model(checkpoint)
        scale = EyeScale(np.array(content["eye_mean"], np.float32), np.array(content["eye_std"], np.float32))
        figures = evaluate_simulated(model, scale, plan, work, report)
        measured.write_text(json.dumps(figures, indent=2) + "\n")
    for key, value in figures.items():
        report(f"{key}: {value:.3f}")
    report("exporting")
    bundle = export_checkpoint(checkpoint, out, name=name, version=VERSION, command=COMMAND, metrics=figures)
    if end_to_end_sessions:
        figures = figures | end_to_end(bundle.path, end_to_end_sessions, report)
        bundle = export_checkpoint(checkpoint, out, name=name, version=VERSION, command=COMMAND, metrics=figures)
    bundle.verify()
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m emert_edge.reference.packaged", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the bundle: a folder or a .emert file")
    parser.add_argument("--work", type=Path, default=Path("runs/emert-demo"), help="caches and checkpoints")
    parser.add_argument("--threads", type=int, default=None, help="threads for torch")
    parser.add_argument("--plan", type=Path, help="JSON with other settings than the packaged bundle's")
    given = parser.parse_args(arguments)
    plan = TrainingPlan() if given.plan is None else TrainingPlan.model_validate_json(given.plan.read_text())
    begun = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {line}", flush=True)

    try:
        figures = make_packaged_bundle(given.out, given.work, plan, report, threads=given.threads)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    report(f"{given.out} is written: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
