"""`emert-edge train`: stages, logs, resuming, several processes, and what is wrong with a configuration."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emert_edge.cli.app import run_command_line
from emert_edge.errors import EmertError
from emert_edge.reference.checkpoint import load_model, save_checkpoint
from emert_edge.reference.configuration import ExpressionStage, TrainerSettings, read_configuration
from emert_edge.reference.data.faces import FaceImages
from emert_edge.reference.emert import Emert
from emert_edge.reference.face_encoder import FaceEncoder
from emert_edge.reference.stages.batches import BatchNumbers
from emert_edge.reference.stages.expressions import Teacher
from emert_edge.reference.stages.fitting import fit, resting_place, threads_of
from emert_edge.reference.stages.run import load_faces, split_sessions, train, train_expressions

TINY = """
name: tiny
seed: 3
trainer: {accelerator: cpu, precision: 32-true, threads: 1}
stages:
  - kind: expressions
    data:
      - {kind: drawn, count: 84}
    validation: 0.2
    epochs: 3
    batch: 16
    averaging: 0.9
  - kind: sessions
    data: {kind: simulated, sessions: 6, session_s: 5.0}
    validation: 0.3
    epochs: 3
    batch: 8
"""


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration and its finished run."""
    folder = tmp_path_factory.mktemp("tiny")
    file = folder / "tiny.yaml"
    file.write_text(TINY)
    train(read_configuration(file), folder / "run")
    return file, folder / "run"


def command(*arguments: object) -> int:
    """Run `emert-edge` here; its exit status."""
    try:
        run_command_line([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_model(run / "model.pt")[0].state_dict()


def test_a_run_leaves_a_model_its_logs_and_its_figures(tiny_run: tuple[Path, Path]) -> None:
    _, run = tiny_run
    model, content = load_model(run / "model.pt")
    assert model.config.size == "nano"
    assert set(content["temperature"]) == {"face_expression", "emotion", "expression"}
    assert len(content["eye_mean"]) == len(content["eye_features"]) == 39
    for stage in ("1-expressions", "2-sessions"):
        with (run / stage / "csv" / "version_0" / "metrics.csv").open() as handle:
            rows = list(csv.DictReader(handle))
        assert [int(row["epoch"]) for row in rows if row["validation_loss"]] == [0, 1, 2]
        assert all(float(row["train_loss"]) > 0 for row in rows if row["train_loss"])
        assert list((run / stage / "tensorboard").rglob("events.*"))
    measured = json.loads((run / "metrics.json").read_text())
    assert measured["1-expressions"]["epoch"] >= 1
    assert 0 <= measured["2-sessions"]["validation_emotion_uar"] <= 1


def test_the_same_seed_gives_the_same_weights(tiny_run: tuple[Path, Path], tmp_path: Path) -> None:
    file, run = tiny_run
    train(read_configuration(file), tmp_path / "again")
    first, second = weights(run), weights(tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_was_killed_ends_as_one_that_was_not(tiny_run: tuple[Path, Path], tmp_path: Path) -> None:
    file, run = tiny_run
    command = [sys.executable, "-m", "emert_edge", "train", str(file), "--out", str(tmp_path / "run")]
    killed = 0
    for stage in ("1-expressions", "2-sessions"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        last = tmp_path / "run" / stage / "last.ckpt"
        until = time.monotonic() + 120
        while not last.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed == 2, "no run was killed in its middle"
    assert not (tmp_path / "run" / "model.pt").exists()
    subprocess.run(command, check=True, capture_output=True)
    whole, resumed = weights(run), weights(tmp_path / "run")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) < 1e-6
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "run")]
    for stage, held in figures[0].items():
        assert held == pytest.approx(figures[1][stage], abs=1e-6)


def test_a_teacher_that_is_all_of_the_target_makes_labels_indifferent(tmp_path: Path) -> None:
    file = tmp_path / "taught.yaml"
    taught = (
        "  - {kind: expressions, data: [{kind: drawn, count: 84}], epochs: 1, batch: 16, balance: 0, distilled: 1}\n"
    )
    file.write_text(TINY.replace("  - kind: sessions", taught + "  - kind: sessions"))
    configuration = read_configuration(file)
    _, stage, _ = configuration.stages
    assert isinstance(stage, ExpressionStage)
    learnt, held = load_faces(configuration, stage, tmp_path / "data")
    wrong = FaceImages(learnt.crops, np.roll(learnt.labels, 1))

    def trained(faces: FaceImages, share: float) -> torch.Tensor:
        torch.manual_seed(0)
        model = Emert(configuration.model_config_of())
        with threads_of(configuration.trainer):
            told = stage.model_copy(update={"distilled": share})
            folder = tmp_path / f"{share}-{faces is wrong}"
            train_expressions(configuration, told, model, faces, held, folder)
        return model.face_encoder.classify[-1].weight.detach()

    assert torch.equal(trained(learnt, 1.0), trained(wrong, 1.0))
    assert not torch.equal(trained(learnt, 0.5), trained(wrong, 0.5))


def test_a_small_encoder_learns_from_the_file_of_a_large_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    large, file = FaceEncoder("base", 64, 7).eval(), tmp_path / "face_encoder.pt"
    save_checkpoint(file, {"face_encoder": large.state_dict(), "figures": {}})
    teacher = Teacher.read(file, 7)
    x, prior = torch.randn(3, 3, 48, 48), torch.linspace(-1, 1, 7)
    with torch.no_grad():
        wanted = (large(F.interpolate(x, (112, 112), mode="bilinear"))[1] + prior).softmax(1)
    assert torch.allclose(teacher(x, prior), wanted, atol=1e-6)
    other, second = FaceEncoder("nano", 64, 7).eval(), tmp_path / "second.pt"
    save_checkpoint(second, {"face_encoder": other.state_dict(), "figures": {}})
    with torch.no_grad():
        both = (wanted + (other(x)[1] + prior).softmax(1)) / 2
    assert torch.allclose(Teacher.read((file, second), 7)(x, prior), both, atol=1e-6)
    with pytest.raises(EmertError, match="tells 7 classes apart, this run 3"):
        Teacher.read(file, 3)
    narrowed = large.state_dict() | {"backbone.0.0.weight": torch.zeros(16, 3, 7, 7)}
    save_checkpoint(file, {"face_encoder": narrowed, "figures": {}})
    with pytest.raises(EmertError, match="of no size that this version knows"):
        Teacher.read(file, 7)
    save_checkpoint(file, {"model": {}})
    with pytest.raises(EmertError, match="holds no face encoder"):
        Teacher.read(file, 7)


@pytest.mark.parametrize("lost_in", [1, 3])
def test_a_loss_that_is_no_number_is_told_and_the_best_epoch_before_is_kept(tmp_path: Path, lost_in: int) -> None:
    class Task(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
            return (self.weight - batch).square().mean()

        def validation_step(self, batch: torch.Tensor, number: int) -> None:
            self.log(
                "validation_loss", float("nan") if self.current_epoch + 1 >= lost_in else 1.0 / (1 + self.current_epoch)
            )

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    told: list[str] = []
    loader = torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)
    given = {"settings": TrainerSettings(accelerator="cpu", precision="32-true", threads=1), "folder": tmp_path}

    def work() -> dict[str, float]:
        return fit(Task(), loader, loader, **given, stage="toy", epochs=6, patience=5, report=told.append)

    if lost_in == 1:
        with pytest.raises(EmertError, match="no epoch gave a finite validation_loss; lower the learning rate"):
            work()
        return
    assert work()["epoch"] == 2
    assert "toy: validation_loss was no number after epoch 3, which ended the stage; kept is epoch 2" in told[-1]


def test_a_finished_run_is_not_trained_again(tiny_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    file, run = tiny_run
    before = (run / "model.pt").stat().st_mtime_ns
    assert command("train", file, "--out", run, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert Path(said["checkpoint"]) == run / "model.pt"
    assert "validation_uar" in said["validation"]["1-expressions"]
    assert (run / "model.pt").stat().st_mtime_ns == before


def test_the_last_epoch_is_kept_whether_or_not_it_was_the_best(tiny_run: tuple[Path, Path]) -> None:
    _, run = tiny_run
    epochs = {}
    for name in ("best", "last"):
        held = torch.load(run / "1-expressions" / f"{name}.ckpt", weights_only=True)
        epochs[name] = held["epoch"]
    assert epochs["last"] == 2
    assert epochs["best"] + 1 == json.loads((run / "metrics.json").read_text())["1-expressions"]["epoch"]


def test_two_processes_train_together(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TINY.replace("epochs: 3", "epochs: 1"))
    command = [sys.executable, "-m", "emert_edge", "train", str(file), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--devices", "2", "--strategy", "ddp"], capture_output=True, text=True, timeout=240,
        env={name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "1-expressions" / "csv" / "version_0" / "metrics.csv").open() as handle:
        steps = max(int(row["step"]) for row in csv.DictReader(handle))
    learnt = 84 - sum(1 for _ in range(7)) * 2  # a fifth of each class of twelve is held out
    assert steps + 1 == learnt // 32  # each step takes a batch of 16 in each process
    assert weights(tmp_path / "run")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_an_epoch_without_overlap(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    for rank in range(processes):
        monkeypatch.setattr(BatchNumbers, "_place", staticmethod(lambda rank=rank: (rank, processes)))
        numbers = BatchNumbers(100, 8, seed=1)
        numbers.set_epoch(4)
        seen += list(numbers)
    rows = np.concatenate(seen)
    assert len(rows) == len(np.unique(rows)) == 100 // (8 * processes) * 8 * processes


def test_validation_sees_every_row_once() -> None:
    assert np.concatenate(list(BatchNumbers(21, 4))).tolist() == list(range(21))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("size: 5",), "stages"),
        (("seed: 3", "seed: -1"), "seed"),
        (("epochs: 3", "epoch: 3"), "epoch"),
        (("kind: simulated", "kind: invented"), "simulated"),
        (("{kind: drawn, count: 84}", "{kind: folder, path: nowhere, licence: none}"), "nowhere"),
        (
            ("{kind: drawn, count: 84}", "{kind: folder, path: '${NO_SUCH_VARIABLE}', licence: none}"),
            "NO_SUCH_VARIABLE",
        ),
        (("name: tiny", "name: [a"), "YAML"),
        (("averaging: 0.9", "distilled: 0.3"), "no earlier encoder"),
        (("averaging: 0.9", "distilled: 0.3\n    teacher: nowhere.pt"), "nowhere.pt"),
        (("averaging: 0.9", "distilled: 0.3\n    teacher: []"), "teacher"),
        (("averaging: 0.9", "teacher: nowhere.pt"), "say how much"),
        (("epochs: 3", "epoch: 3"), "is 'epochs' meant?"),
        (("seed: 3", "seed: 3\nmodel: {heads: 7}"), "heads"),
        (("trainer: {accelerator: cpu,", "trainer: {accelerator: cpu, strategy: dpp,"), "strategy dpp"),
        (("count: 84", "count: 7"), "give two or more of each"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(
    change: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(TINY.replace(*change) if len(change) == 2 else change[0])
    assert command("train", file, "--out", tmp_path / "run") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1]
    assert not (tmp_path / "run" / "model.pt").exists()


def test_only_what_is_wrong_is_called_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(TINY.replace("epochs: 3", "epoch: 3"))
    with pytest.raises(EmertError) as told:
        read_configuration(file)
    assert str(told.value).count(";") == 3  # two stages, each one fault and one question
    assert "at least 1 item" not in str(told.value)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file, folder = tmp_path / "tiny.yaml", tmp_path / "mine"
    file.write_text(TINY)
    folder.mkdir()
    for name in ("thesis.doc", "model.pt"):
        (folder / name).write_text("x")
    with pytest.raises(EmertError, match=r"holds no run, but model\.pt, thesis\.doc"):
        train(read_configuration(file), folder)
    assert sorted(entry.name for entry in folder.iterdir()) == ["model.pt", "thesis.doc"]


def test_a_run_that_never_began_claims_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("{kind: drawn, count: 84}", "{kind: folder, path: nowhere, licence: none}"))
    with pytest.raises(EmertError, match="nowhere"):
        train(read_configuration(file), tmp_path / "run")
    assert not (tmp_path / "run" / "configuration.json").exists()


def test_a_configuration_is_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faces").mkdir()
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("{kind: drawn, count: 84}", "{kind: folder, path: faces, licence: none}"))
    monkeypatch.chdir(tmp_path)
    near = read_configuration(Path("tiny.yaml"))
    monkeypatch.chdir("/")
    assert read_configuration(file) == near
    stage = near.stages[0]
    assert isinstance(stage, ExpressionStage)
    assert stage.data[0].path == tmp_path / "faces"


def test_damaged_checkpoints_are_named_with_the_remedy(tiny_run: tuple[Path, Path], tmp_path: Path) -> None:
    file, run = tiny_run
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for name in ("model.pt", "2-sessions/sessions.pt"):
        (copy / name).unlink()
    whole = (copy / "2-sessions" / "last.ckpt").read_bytes()
    for length in (0, len(whole) // 2):
        (copy / "2-sessions" / "last.ckpt").write_bytes(whole[:length])
        with pytest.raises(EmertError, match=r"last\.ckpt: .*remove the folder .*2-sessions to train this stage anew"):
            train(read_configuration(file), copy)


def test_a_run_goes_on_where_its_folder_was_moved_to(tiny_run: tuple[Path, Path], tmp_path: Path) -> None:
    file, run = tiny_run
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    for name in ("model.pt", "2-sessions/sessions.pt"):
        (copy / name).unlink()
    train(read_configuration(file), copy)
    first, second = weights(run), weights(copy)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_configuration_may_not_take_a_run_over(tiny_run: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = tiny_run
    file = tmp_path / "other.yaml"
    file.write_text(TINY.replace("seed: 3", "seed: 4"))
    with pytest.raises(EmertError, match="other settings \\(seed\\)"):
        train(read_configuration(file), run)


def test_validation_shares_no_subject_with_training(tiny_run: tuple[Path, Path]) -> None:
    from emert_edge.reference.data.simulated import load_simulated

    file, run = tiny_run
    configuration = read_configuration(file)
    sessions = load_simulated(configuration.stages[1].data, configuration, run / "data", lambda line: None)
    learnt, held = split_sessions(sessions, 0.3, "subject", 0)
    assert {session.subject for session in learnt}.isdisjoint({session.subject for session in held})
    assert len(learnt) + len(held) == len(sessions)
    nameless = [type(session)(**{**vars(session), "subject": None}) for session in sessions]
    with pytest.raises(EmertError, match="validation_by"):
        split_sessions(nameless, 0.3, "subject", 0)


def test_data_lie_on_a_gpu_only_where_one_trains_and_has_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4000, 8000))
    assert resting_place(TrainerSettings(), 1000).type == "cuda"
    assert resting_place(TrainerSettings(), 1001).type == "cpu"
    assert resting_place(TrainerSettings(accelerator="cpu"), 1).type == "cpu"
    assert resting_place(TrainerSettings(accelerator="gpu", devices=2), 1).type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resting_place(TrainerSettings(), 1).type == "cpu"
