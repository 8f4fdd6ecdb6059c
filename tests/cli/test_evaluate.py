"""`emert-edge evaluate` as a user types it: over tiny models and a few short simulated sessions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="evaluating needs the extra `train`")
pytest.importorskip("lightning", reason="evaluating needs the extra `train`")

from emert_edge.cli.app import run_command_line  # noqa: E402
from emert_edge.reference.checkpoint import save_checkpoint  # noqa: E402
from emert_edge.reference.configuration import read_configuration  # noqa: E402
from emert_edge.reference.evaluate import _lent_encoder  # noqa: E402
from emert_edge.reference.stages.run import settled  # noqa: E402

TINY = """
name: tiny
model: {token_width: 16, fused_width: 16, blocks: 1, heads: 2}
trainer: {accelerator: cpu, precision: 32-true, threads: 1}
stages:
  - kind: sessions
    data: {kind: simulated, sessions: 8, session_s: 4.0}
    epochs: 1
    steps: 1
    batch: 8
"""

Command = Callable[..., "tuple[int, str, str]"]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Small networks: several threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command here; its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = 0
        try:
            run_command_line(["evaluate", *map(str, arguments)])
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration."""
    file = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> Path:
    """A finished model, as `train` leaves it, that has learnt nothing."""
    from emert_edge.eye import FEATURE_NAMES
    from emert_edge.reference.checkpoint import save_checkpoint
    from emert_edge.reference.configuration import read_configuration
    from emert_edge.reference.emert import Emert

    torch.manual_seed(0)
    configuration = read_configuration(tiny)
    model = Emert(configuration.model_config_of())
    save_checkpoint(
        tiny.parent / "model.pt",
        {
            "config": model.config.to_dict(),
            "model": model.state_dict(),
            "configuration": configuration.model_dump_json(exclude={"trainer"}),
            "classes": list(configuration.classes),
            "temperature": {"emotion": 2.0, "expression": 3.0},
            "eye_features": list(FEATURE_NAMES),
            "eye_mean": [0.1] * 39,
            "eye_std": [2.0] * 39,
            "eye_clip": 8.0,
        },
    )
    return tiny.parent / "model.pt"


def test_a_model_is_trained_for_each_fold_and_the_report_stands_in_the_folder(
    evaluate: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "evaluation"
    asked = (tiny, "--out", out, "--split", "folds", "--draws", "3", "--protocol", "er-7", "--protocol", "FER valence")
    status, said, told = evaluate(*asked)
    assert status == 0, told
    assert said.strip() == str(out / "report" / "report.md")
    report = json.loads((out / "report" / "report.json").read_text())
    (split,) = report["splits"]
    assert split["counts"]["sessions"] == 8
    assert [part["test_of_known_subjects"] for part in split["folds"]] == [0, 0]
    assert [protocol["name"] for protocol in split["protocols"]] == ["ER-7", "FER valence"]
    assert {"fused", "face_trained", "eye_trained", "face_left", "eye_left", "half_eye"} <= set(split["variants"])
    assert any("simulated" in note for note in split["notes"])
    assert "trained anew for each fold" in report["about"]["model"]
    assert len(list((out / "folds").glob("folds-*-fused.npz"))) == 2
    assert (out / "report" / "confusion-folds-er-7.png").exists()

    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("emert_edge.reference.evaluate.train_sessions", refuse)
    status, said, told = evaluate(*asked, "--json")
    assert status == 0, told
    assert json.loads(said) == report
    status, _, told = evaluate(*asked, "--seed", "4")
    assert status == 1
    assert "holds another evaluation (configuration, sessions differ)" in told


def test_a_split_that_was_named_and_cannot_be_had_is_an_error(evaluate: Command, tiny: Path, tmp_path: Path) -> None:
    status, _, told = evaluate(tiny, "--out", tmp_path, "--split", "stimuli")
    assert status == 1
    assert told.splitlines()[-1] == ("emert-edge: unseen stimuli need three stimuli or more; these sessions have 2")
    assert not (tmp_path / "report").exists()


def test_a_finished_model_is_asked_about_all_sessions(
    evaluate: Command, tiny: Path, checkpoint: Path, tmp_path: Path
) -> None:
    longer = tmp_path / "longer.yaml"
    longer.write_text(TINY.replace("sessions: 8, session_s: 4.0", "sessions: 2, session_s: 14.0"))
    status, said, told = evaluate(longer, "--model", checkpoint, "--draws", "2", "--json")
    assert status == 0, told
    report = json.loads(said)
    (split,) = report["splits"]
    assert split["counts"]["sessions"] == 2
    assert split["counts"]["rows"] == 2 * (29 - 4)
    assert split["kind"] == "given"
    assert set(split["variants"]) == {"fused", "face_left", "eye_left", "no_eye", "no_fixation", "half_eye"}
    assert "vouches that the model never saw these sessions" in split["notes"][0]
    protocols = {protocol["name"]: protocol for protocol in split["protocols"]}
    assert len(protocols) == 9
    assert protocols["FER-7"]["calibration"]["temperatures"] == [3.0]
    faces = protocols["FER-7"]["variants"]
    assert faces["face_left"]["UAR"]["value"] == faces["fused"]["UAR"]["value"]  # the face answers for itself


def test_without_a_folder_the_report_is_printed(evaluate: Command, tiny: Path, checkpoint: Path) -> None:
    status, said, told = evaluate(tiny, "--model", checkpoint, "--draws", "0", "--protocol", "ER valence")
    assert status == 0, told
    assert "trained on these very data" in said
    assert "a row is a: session (labels are of whole sessions)" in said
    assert said.startswith("# Evaluation: tiny")
    assert "### ER valence" in said
    assert "not a person's true emotion" in said


def test_a_bundle_answers_through_its_engine(evaluate: Command, tmp_path: Path) -> None:
    from emert_edge.bundle import open_bundle

    manifest = open_bundle("emert-demo").manifest
    size = "nano" if manifest.face.size == (48, 48) else "base"
    (tmp_path / "demo.yaml").write_text(
        TINY.replace("model: {", f"model: {{size: {size}, ").replace("sessions: 8", "sessions: 4, split: test")
    )
    asked = (tmp_path / "demo.yaml", "--bundle", "emert-demo", "--device", "cpu", "--draws", "0", "--json")
    status, said, told = evaluate(*asked, "--out", tmp_path / "out")
    assert status == 0, told
    report = json.loads(said)
    assert "int8 on cpu" in report["about"]["engine"]
    assert report["about"]["licence"] == manifest.licence
    (split,) = report["splits"]
    assert split["counts"]["sessions"] == 4
    assert all(protocol["measurable"] for protocol in split["protocols"])
    assert json.loads((tmp_path / "out" / "report" / "report.json").read_text()) == report


def test_a_bundle_of_another_window_is_refused(evaluate: Command, tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TINY + "window: {face_tokens: 4, eye_tokens: 16}\n")
    status, _, told = evaluate(other, "--bundle", "emert-demo", "--device", "cpu")
    assert status == 1
    assert "its window is not the configuration's" in told


def test_a_model_of_other_classes_is_refused(evaluate: Command, tiny: Path, checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TINY + "classes: [happiness, sadness, neutral]\n")
    status, _, told = evaluate(other, "--model", checkpoint)
    assert status == 1
    assert "model.pt: classes" in told


def test_a_run_lends_its_face_encoder_or_it_is_said_what_it_lacks(
    evaluate: Command, tiny: Path, tmp_path: Path
) -> None:
    status, _, told = evaluate(tiny, "--out", tmp_path / "a", "--split", "folds", "--run", tmp_path)
    assert status == 1
    assert "trains no face encoder" in told
    taught = tmp_path / "taught.yaml"
    taught.write_text(
        TINY.replace("stages:\n", "stages:\n  - {kind: expressions, data: [{kind: drawn, count: 28}], epochs: 1}\n")
    )
    status, _, told = evaluate(taught, "--out", tmp_path / "b", "--split", "folds", "--run", tmp_path / "run")
    assert status == 1
    assert "run holds no run" in told
    (tmp_path / "run").mkdir()
    claim = tmp_path / "run" / "configuration.json"
    own = settled(read_configuration(taught))
    claim.write_text(json.dumps(own | {"model": own["model"] | {"size": "base"}}))
    status, _, told = evaluate(taught, "--out", tmp_path / "b", "--split", "folds", "--run", tmp_path / "run")
    assert status == 1
    assert "another configuration (model)" in told
    claim.write_text(json.dumps(own))
    status, _, told = evaluate(taught, "--out", tmp_path / "b", "--split", "folds", "--run", tmp_path / "run")
    assert status == 1
    assert "has no finished face encoder (face_encoder.pt in 1-expressions)" in told


def test_the_encoder_lent_is_the_one_that_the_sessions_began_from(tmp_path: Path) -> None:
    taught = tmp_path / "taught.yaml"
    stage = "  - {kind: expressions, data: [{kind: drawn, count: 28}], epochs: 1}\n"
    taught.write_text(TINY.replace("stages:\n", "stages:\n" + 2 * stage))
    configuration, run = read_configuration(taught), tmp_path / "run"
    for number in (1, 2):
        (run / f"{number}-expressions").mkdir(parents=True)
        save_checkpoint(run / f"{number}-expressions" / "face_encoder.pt", {"face_encoder": {"number": number}})
    (run / "configuration.json").write_text(json.dumps(settled(configuration)))
    assert _lent_encoder(configuration, 3, run) == {"number": 2}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 2, "--out"),
        (("--model", "m.pt", "--bundle", "b"), 2, "not both"),
        (("--model", "m.pt", "--precision", "int8"), 2, "are of a --bundle"),
        (("--out", "o", "--device", "tensorrt"), 2, "are of a --bundle"),
        (("--model", "m.pt", "--split", "folds"), 2, "belong to training"),
        (("--out", "o", "--split", "weekdays"), 2, "weekdays"),
        (("--out", "o", "--folds", "1"), 2, "--folds"),
        (("--out", "o", "--protocol", "ER-9"), 1, "protocol 'ER-9' is unknown"),
        (("--model", "m.pt"), 1, "m.pt: there is no such checkpoint"),
    ],
)
def test_what_does_not_go_together_is_said(
    evaluate: Command,
    tiny: Path,
    arguments: tuple[str, ...],
    status: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = evaluate(tiny, *arguments)
    assert found[0] == status
    assert told in found[2]


def test_a_configuration_without_sessions_has_nothing_to_evaluate(evaluate: Command, tmp_path: Path) -> None:
    (tmp_path / "faces.yaml").write_text(
        "name: faces\nstages:\n  - {kind: expressions, data: [{kind: drawn, count: 28}]}\n"
    )
    status, _, told = evaluate(tmp_path / "faces.yaml", "--out", tmp_path / "out")
    assert status == 1
    assert "no stage of sessions" in told
    assert told.count("\n") == 1


def test_without_its_extra_the_command_says_which_one_is_missing(tmp_path: Path) -> None:
    code = "import sys; sys.modules['lightning'] = None; from emert_edge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "c.yaml", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "evaluating needs lightning: pip install 'emert-edge[train]'" in done.stderr
    assert not (tmp_path / "out").exists()
