"""The bundle that ships inside the wheel, made from nothing: `make bundle FER2013=FOLDER`.

Trains `examples/configurations/packaged.yaml`, compares with models that see one source alone over three seeds,
exports, quantises, and runs the finished bundle through the public API: on FER2013's public test, and end to end over
drawn videos. What was measured goes into the card. Each step leaves its result in the work folder; a run that was
stopped goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from emert_edge.bundle import Bundle, write_bundle
from emert_edge.errors import EmertError
from emert_edge.recognizer import Recognizer
from emert_edge.reference.assessment.metrics import calibration_error, class_scores
from emert_edge.reference.card import model_card
from emert_edge.reference.checkpoint import load_model
from emert_edge.reference.configuration import Configuration, SessionStage, read_configuration
from emert_edge.reference.data.faces import FolderFaces, folder_pictures, table_pictures
from emert_edge.reference.data.simulated import LABEL_SPAN_S, SPLITS, SimulatedSessions, load_simulated
from emert_edge.reference.data.windows import EyeScale
from emert_edge.reference.stages.run import load_session_data, split_sessions, train
from emert_edge.reference.study import fused_figures, simulated_study, spread
from emert_edge.simulation import SimulatedSession

__all__ = ["LICENCE", "NAME", "VERSION", "end_to_end", "main", "make_packaged_bundle", "picture_figures"]

NAME = "emert-demo"
VERSION = "5"
LICENCE = (
    "emert-demo research licence: these weights are for research and evaluation only, not for commercial use, because "
    "the pictures that the face encoder learnt from (FER2013) are for research use; they come without any warranty. "
    "The code of emert_edge is under Apache-2.0, these weights are not"
)
COMMAND = "make bundle FER2013=FOLDER"
SEEDS = (0, 1, 2)
TARGETS: tuple[Literal["cpu", "tensorrt"], ...] = ("cpu", "tensorrt")
UNSEEN_SEED = 20
TEST_SESSIONS = 150
END_TO_END_SESSIONS = 24
NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness"}

Report = Callable[[str], None]
Image = npt.NDArray[np.uint8]


def picture_figures(recognizer: Recognizer, pictures: Sequence[tuple[Image, str]], name: str) -> dict[str, float]:
    """Accuracy, UAR and ECE of `Recognizer.expressions` on labelled pictures; the names begin with `name`."""
    classes = recognizer.bundle.manifest.labels.expression
    assert classes is not None
    truth = np.array([classes.index(label) for _, label in pictures], np.int64)
    probabilities = recognizer.expressions([image for image, _ in pictures]).astype(np.float64)
    temperature = recognizer.bundle.manifest.temperature.get("face_expression", 1.0)
    raw = probabilities**temperature  # softmax(logits / T) to the power of T, normalised, is softmax(logits)
    raw /= raw.sum(1, keepdims=True)
    scored = class_scores(truth, probabilities.argmax(1), classes).values
    return {
        f"{name}_accuracy": scored["WAR"],
        f"{name}_uar": scored["UAR"],
        f"{name}_ece_before": calibration_error(truth, raw),
        f"{name}_ece": calibration_error(truth, probabilities),
    }


def end_to_end(
    recognizer: Recognizer, sessions: int = END_TO_END_SESSIONS, report: Report = lambda line: None
) -> dict[str, float]:
    """Run a bundle over drawn videos of held-out subjects as a user would, detector included.

    Returns
    -------
    dict of str to float
        Shares of estimates whose expression and emotion are right, and of face tokens that were found. Of each session
        only whole windows count.
    """
    shown, felt, found = [], [], []
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
        "end_to_end_expression": float(np.mean(shown)),
        "end_to_end_emotion": float(np.mean(felt)),
        "end_to_end_face": float(np.mean(found)),
    }


def _simulated(
    configuration: Configuration, faces: Path, checkpoint: Path, work: Path, seeds: Sequence[int], report: Report
) -> dict[str, float]:
    """Figures on simulated sessions: the shipped model's, and means over the seeds of models that see one source."""
    kept = work / "simulated.json"
    if kept.exists():
        held: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return held
    stage = next(stage for stage in configuration.stages if isinstance(stage, SessionStage))
    source = stage.data
    assert isinstance(source, SimulatedSessions)
    model, content = load_model(checkpoint)
    scale = EyeScale(np.array(content["eye_mean"], np.float32), np.array(content["eye_std"], np.float32))
    public = FolderFaces(
        kind="folder", path=faces / "fer2013_publictest.tar.gz", names=NAMES, licence="research use only"
    )
    # Sessions of a seed that nobody looked at while the invented gaze was designed.
    unseen = configuration.model_copy(update={"seed": configuration.seed + UNSEEN_SEED})
    held_out = source.model_copy(
        update={"split": "test", "sessions": TEST_SESSIONS, "faces": (public,), "held_out": 0.0, "drawn": 0.0}
    )
    test = load_simulated(held_out, unseen, work / "data", report)
    figures = fused_figures(configuration, model, scale, test, content["temperature"])
    if seeds:
        learnt = load_session_data(configuration, stage, work / "data", report)
        training, validation = split_sessions(learnt, stage.validation, stage.validation_by, configuration.seed)
        found = simulated_study(
            configuration, stage, model.face_encoder, (training, validation, test), seeds, work / "study", report
        )
        _write(work / "study.json", {str(seed): of_seed for seed, of_seed in found.items()})
        for name, (mean, deviation) in spread(found).items():
            report(f"seeds {', '.join(map(str, seeds))}: {name} {mean:.3f} ± {deviation:.3f}")
            if name not in figures:
                figures[name] = mean
    _write(kept, figures)
    return figures


def _write(file: Path, content: object) -> None:
    aside = file.with_suffix(file.suffix + ".part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    aside.replace(file)


def make_packaged_bundle(
    configuration: Configuration,
    faces: Path,
    out: Path,
    work: Path,
    report: Report = lambda line: None,
    *,
    other_faces: Sequence[tuple[Image, str]] = (),
    seeds: Sequence[int] = SEEDS,
    name: str = NAME,
) -> dict[str, float]:
    """Train, compare, export, measure; returns the figures that the card shows.

    Parameters
    ----------
    faces : Path
        The folder of FER2013's archives.
    out : Path
        The bundle: a folder, or a file that ends in `.emert`.
    work : Path
        Caches and checkpoints; may be removed afterwards.
    other_faces : sequence of (image, label), optional
        Labelled pictures of another kind (muxspace), to be measured too.
    seeds : sequence of int
        For which models that see one source alone are trained, to compare with; without any none is.
    """
    from emert_edge.calibration import quantize
    from emert_edge.export import export_checkpoint

    checkpoint = train(configuration, work, report)
    figures = _simulated(configuration, faces, checkpoint, work, seeds, report)
    report("exporting")
    bundle: Bundle = export_checkpoint(
        checkpoint, out, name=name, version=VERSION, licence=LICENCE, command=COMMAND
    )  # fmt: skip
    public = list(folder_pictures(faces / "fer2013_publictest.tar.gz", configuration.classes, names=NAMES))
    learnt, held_out = (_described(faces / f"fer2013_{part}.tar.gz", work) for part in ("training", "publictest"))
    for target in TARGETS:
        quantize(bundle.path, learnt, target, gate_data=held_out, report=report)
    with Recognizer(bundle.path, device="cpu") as recognizer:  # in the precision that a user gets
        report(f"measuring in {recognizer.precision}")
        figures |= picture_figures(recognizer, public, "fer2013")
        if other_faces:
            figures |= picture_figures(recognizer, other_faces, "muxspace")
        figures |= end_to_end(recognizer, report=report)
    _write_figures(Bundle.open(bundle.path), configuration, figures)
    _write(work / "figures.json", figures)
    return figures


def _described(archive: Path, work: Path) -> Path:
    """Write down for `quantize` what an archive of FER2013's holds."""
    file = work / f"{archive.name.partition('.')[0]}.yaml"
    source = {"kind": "folder", "path": str(archive.resolve()), "names": NAMES, "licence": "research use only"}
    _write(file, {"kind": "expressions", "data": [source]})
    return file


def _write_figures(bundle: Bundle, configuration: Configuration, figures: dict[str, float]) -> None:
    """Put what was measured into a bundle's card and manifest; the rest stays."""
    manifest = bundle.manifest
    rounded = {key: round(value, 4) for key, value in figures.items()}
    training = manifest.training.model_copy(update={"metrics": manifest.training.metrics | rounded})
    card = model_card(
        manifest.name, manifest.version, configuration, rounded, licence=LICENCE, command=COMMAND,
        evidence=manifest.evidence,
    )  # fmt: skip
    files = {name: bundle.read(name) for name in manifest.files} | {manifest.card: card.encode()}
    write_bundle(bundle.path, manifest.model_copy(update={"training": training}), files).verify()


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m emert_edge.reference.packaged", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of fer2013_training.tar.gz and …_publictest…")
    parser.add_argument(
        "--other-faces", type=Path, help="folder of muxspace's legend.csv and images.zip, to measure on"
    )
    parser.add_argument("--out", type=Path, required=True, help="the bundle: a folder or a .emert file")
    parser.add_argument("--work", type=Path, default=Path("runs/emert-demo"), help="caches and checkpoints")
    parser.add_argument("--threads", type=int, default=None, help="threads for torch")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds to compare single sources with")
    parser.add_argument("--configuration", type=Path, default=Path("examples/configurations/packaged.yaml"))
    given = parser.parse_args(arguments)
    begun = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {line}", flush=True)

    if not given.faces.is_dir():
        print(f"{given.faces}: there is no such folder; FER2013's two archives are needed", file=sys.stderr)
        return 1
    os.environ["FER2013"] = str(given.faces.resolve())
    try:
        configuration = read_configuration(given.configuration)
        if given.threads:
            settings = configuration.trainer.model_copy(update={"threads": given.threads})
            configuration = configuration.model_copy(update={"trainer": settings})
        other: list[tuple[Image, str]] = []
        if given.other_faces is not None:
            pictures = table_pictures(
                given.other_faces / "legend.csv", configuration.classes, images=given.other_faces / "images.zip",
                names={"contempt": ""},
            )  # fmt: skip
            other = list(pictures)
        figures = make_packaged_bundle(
            configuration, given.faces, given.out, given.work, report, other_faces=other, seeds=range(given.seeds)
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except EmertError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    report(f"{given.out} is written: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
