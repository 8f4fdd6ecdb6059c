"""One stage's fit through Lightning: resumed where it stopped, logged, ended early, and left with its best weights."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from emert_edge.errors import EmertError
from emert_edge.reference.checkpoint import read_content
from emert_edge.reference.configuration import TrainerSettings

__all__ = ["EpochLines", "fit", "mixed_precision", "require_trainer", "resting_place", "threads_of"]

Report = Callable[[str], None]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def mixed_precision(wanted: str, accelerator: str = "auto") -> Precision:
    """The precision that this machine trains in: mixed where the hardware multiplies in it, else float32."""
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"


def resting_place(settings: TrainerSettings, size: int) -> torch.device:
    """Where data of `size` bytes lie in training: on the one GPU that trains, if a quarter of what is free suffices."""
    one = settings.devices == 1 or (settings.devices == "auto" and torch.cuda.device_count() == 1)
    if settings.accelerator in ("auto", "gpu", "cuda") and one and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        if 4 * size <= free:
            return torch.device("cuda")
    return torch.device("cpu")


class EpochLines(lightning.Callback):
    """Reports a line an epoch: what a log or a pipe gets in place of a progress bar."""

    def __init__(self, report: Report, stage: str) -> None:
        self.report, self.stage = report, stage

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Say where the run is and what was measured."""
        if trainer.is_global_zero:
            figures = ", ".join(
                f"{name} {float(value):.4f}" for name, value in sorted(trainer.callback_metrics.items())
            )
            self.report(f"{self.stage}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {figures}")


@contextmanager
def threads_of(settings: TrainerSettings) -> Iterator[None]:
    """Torch's threads as asked: their number decides the last digits of sums, in training and around it."""
    held = torch.get_num_threads()
    try:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        yield
    finally:
        torch.set_num_threads(held)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advertisements and hints off, its errors and warnings on."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            # A checkpoint's folder that is not empty is what resuming needs; the rest is Lightning's own housekeeping.
            for told in ("Checkpoint directory", "Experiment logs directory", "You're resuming from a checkpoint",
                         "The `srun` command", "`isinstance\\(treespec", "Detected call of `lr_scheduler",
                         "Found .* module.* in eval mode", "The epoch parameter in"):  # fmt: skip
                warnings.filterwarnings("ignore", f".*{told}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def fit(
    task: lightning.LightningModule,
    training: DataLoader[Any],
    validation: DataLoader[Any],
    *,
    settings: TrainerSettings,
    folder: Path,
    stage: str,
    epochs: int,
    patience: int,
    steps: int | None = None,
    averaging: float = 0.0,
    monitor: str = "validation_loss",
    mode: Literal["min", "max"] = "min",
    report: Report = lambda line: None,
) -> dict[str, float]:
    """Train, or take up the run that lies in `folder`; `task` is left with the weights of its best epoch.

    Parameters
    ----------
    folder : Path
        Receives `last.ckpt` and `best.ckpt` after each epoch, `csv/metrics.csv` and TensorBoard's events.
    stage : str
        What progress lines call it.
    steps : int, optional
        Batches in an epoch; all that the loader gives if not given.
    averaging : float
        Decay of a moving average of the weights, which is then validated and kept; 0 averages nothing.

    Returns
    -------
    dict of str to float
        What was measured in the best epoch, by the names in the log.

    Raises
    ------
    EmertError
        If a checkpoint in `folder` does not fit, or the loss is no number.
    KeyboardInterrupt
        If it was interrupted; what the last whole epoch left is taken up by the next call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = _Checkpoints(folder, filename="best", monitor=monitor, mode=mode, enable_version_counter=False)
    # One of its own: `save_last` would keep the last of those that were the best.
    latest = _Checkpoints(folder, filename="last", enable_version_counter=False)
    kept = _Figures(monitor, mode)
    callbacks: list[lightning.Callback] = [
        kept,
        EarlyStopping(monitor, mode=mode, patience=patience, check_finite=True),
        EpochLines(report, stage),
    ]
    if averaging > 0:
        callbacks.append(_MovingAverage(averaging))
    last = folder / "last.ckpt"
    if last.exists():
        _require_whole(last)
    with threads_of(settings), _quiet():
        trainer = lightning.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=mixed_precision(settings.precision, settings.accelerator),
            max_epochs=epochs,
            limit_train_batches=steps,
            callbacks=[*callbacks, best, latest],
            logger=[
                # A part for each time that the run is taken up.
                CSVLogger(folder, name="csv"),
                TensorBoardLogger(folder, name="tensorboard"),
            ],
            use_distributed_sampler=False,
            log_every_n_steps=20,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            num_sanity_val_steps=0,
            benchmark=True,  # one size of batch: the search for the fastest convolutions pays at once
        )
        try:
            trainer.fit(
                task, training, validation,
                ckpt_path=str(last) if last.exists() else None, weights_only=True if last.exists() else None,
            )  # fmt: skip
        except SystemExit as error:  # Lightning ends the process with 1 when it is interrupted
            if error.code != 1:
                raise
            raise KeyboardInterrupt from error
        except RuntimeError as error:
            if last.exists() and "state_dict" in str(error):
                reason = " ".join(str(error).split())[:200]
                raise EmertError(f"{last}: does not fit this configuration ({reason}); give another folder") from error
            raise
        if trainer.interrupted:
            raise KeyboardInterrupt
    score = best.best_model_score  # of a loss that is no number Lightning makes an infinite one
    if not best.best_model_path or score is None or not math.isfinite(float(score)):
        raise EmertError(f"{stage}: no epoch gave a finite {monitor}; lower the learning rate")
    if not math.isfinite(float(trainer.callback_metrics.get(monitor, 0.0))):
        report(
            f"{stage}: {monitor} was no number after epoch {trainer.current_epoch}, which ended the stage; kept is "
            f"epoch {kept.figures['epoch']:.0f}. A lower rate would go on"
        )
    task.load_state_dict(_require_whole(folder / "best.ckpt")["state_dict"])
    return kept.figures


def _require_whole(file: Path) -> dict[str, Any]:
    """Read one of Lightning's checkpoints."""
    try:
        held = read_content(file)
    except EmertError as error:
        raise EmertError(f"{error}; remove the folder {file.parent} to train this stage anew") from error
    if not isinstance(held, dict) or "state_dict" not in held:
        raise EmertError(f"{file}: not a checkpoint of this stage; remove the folder {file.parent} to train it anew")
    return held


def require_trainer(settings: TrainerSettings) -> None:
    """Raise `EmertError` if Lightning cannot run as asked on this machine."""
    with _quiet():
        try:
            lightning.Trainer(
                accelerator=settings.accelerator, devices=settings.devices, strategy=settings.strategy,
                precision=mixed_precision(settings.precision, settings.accelerator), logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            asked = f"accelerator {settings.accelerator}, devices {settings.devices}, strategy {settings.strategy}"
            reason = str(error).strip().splitlines()[0]
            raise EmertError(f"trainer: cannot run with {asked} here ({reason})") from error


class _Checkpoints(ModelCheckpoint):
    """Checkpoints of a run whose folder may have been moved since it was stopped."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept, with its paths below the folder of now."""
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        ranked = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            state_dict
            | {name: moved(state_dict[name]) for name in paths}
            | {"dirpath": str(here), "best_k_models": ranked}
        )


class _MovingAverage(WeightAveraging):
    """Exponential moving average of weights and buffers, in a few launches and without waiting for a GPU.

    The decay rises to its value over the first steps, min(decay, (1 + n) / (10 + n)), so that a short run's average is
    not of the untrained weights.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the step's weights into the average."""
        step = trainer.global_step
        if step <= self._latest_update_step or self._average_model is None:
            return
        self._latest_update_step = step
        averaged, current = (
            [value.detach() for value in (*module.parameters(), *module.buffers())]
            for module in (self._average_model.module, pl_module)
        )
        real = [value.is_floating_point() for value in current]
        share = 1 - min(self.decay, step / (9 + step))
        torch._foreach_lerp_([*compress(averaged, real)], [*compress(current, real)], share)
        counts = [not value for value in real]  # of batches that a norm has seen
        torch._foreach_copy_([*compress(averaged, counts)], [*compress(current, counts)])


class _Figures(lightning.Callback):
    """What was measured in the epoch with the best monitored figure; survives resuming."""

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor, self.sign = monitor, 1.0 if mode == "max" else -1.0
        self.figures: dict[str, float] = {}

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep what is better than what is kept."""
        measured = trainer.callback_metrics.items()  # a training loss among them would be the epoch before's
        now = {name: float(value) for name, value in measured if name.startswith("validation")}
        if self.monitor not in now:
            return
        if not self.figures or self.sign * now[self.monitor] > self.sign * self.figures[self.monitor]:
            self.figures = {**now, "epoch": float(trainer.current_epoch + 1)}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"figures": self.figures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.figures = dict(state["figures"])
