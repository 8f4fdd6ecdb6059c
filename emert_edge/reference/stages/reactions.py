"""A model of reaction intensities on whole clips.

The loss within a batch is a mixture of 1 minus the mean Pearson correlation, which is what is scored, and the squared
error, which holds the scale. Frames, spans of sound and whole modalities are dropped at random, so that a clip without
sound, or without a face in it, costs what it must and no more. A model that hears is also asked what it would answer
from the pictures alone: sound is learnt so much faster that faces would hardly be learnt beside it (arXiv 1905.12681
describes this, and weighs a loss for each modality against it). The epoch is chosen on the validation split; the test
split is only measured, at the end.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset
from torchmetrics import PearsonCorrCoef

from emert_edge.errors import EmertError
from emert_edge.reference.augment import augment_crops, normalise_crops
from emert_edge.reference.checkpoint import load_checkpoint, save_checkpoint
from emert_edge.reference.configuration import Configuration
from emert_edge.reference.data.clips import ClipSource
from emert_edge.reference.data.hume import load_hume
from emert_edge.reference.data.simulated_reactions import SimulatedClips
from emert_edge.reference.face_encoder import FaceEncoder
from emert_edge.reference.reactions import (
    REACTIONS,
    HumeData,
    ReactionModel,
    ReactionStage,
    load_backbone_weights,
    reaction_loss,
)
from emert_edge.reference.stages.batches import batches, chance_of
from emert_edge.reference.stages.fitting import fit

__all__ = ["ReactionTask", "load_reactions", "score_reactions", "train_reactions"]

Report = Callable[[str], None]
Floats = npt.NDArray[np.float32]


class ReactionBatch(NamedTuple):
    """Whole clips; see `ReactionModel.forward`."""

    frames: Tensor
    """(batch, T, 3, H, W) uint8."""
    frame_mask: Tensor
    audio: Tensor | None
    audio_mask: Tensor | None
    intensities: Tensor
    """(batch, 7); NaN where they are not known."""


class ReactionBatches(Dataset[ReactionBatch]):
    """Batches of clips by number."""

    def __init__(self, clips: ClipSource) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> ReactionBatch:
        held = self.clips[chosen]
        return ReactionBatch(
            torch.from_numpy(held.frames),
            torch.from_numpy(held.frame_mask),
            None if held.audio is None else torch.from_numpy(held.audio).float(),
            None if held.audio_mask is None else torch.from_numpy(held.audio_mask),
            torch.from_numpy(self.clips.intensities[chosen]),
        )


def _known(batch: ReactionBatch) -> Tensor:
    return torch.isfinite(batch.intensities).all(1)


def _correlation() -> PearsonCorrCoef:
    # In double precision: sums over thousands of clips, and deviations far below the range.
    return PearsonCorrCoef(num_outputs=len(REACTIONS)).set_dtype(torch.float64)  # type: ignore[return-value]


def _observe(correlation: PearsonCorrCoef, model: ReactionModel, batch: ReactionBatch) -> None:
    frames = normalise_crops(batch.frames.flatten(0, 1)).view(batch.frames.shape)
    predicted = model(frames, batch.frame_mask, batch.audio, batch.audio_mask)
    known = _known(batch)
    if known.any():
        correlation.update(predicted[known].double(), batch.intensities[known].double())


def _figures(correlation: PearsonCorrCoef) -> dict[str, float]:
    """The mean over the reactions, and each; a constant column has no correlation and counts as 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(variance|compute).*", UserWarning)  # of constant columns, and of no rows
        values = torch.nan_to_num(correlation.compute(), nan=0.0).tolist()
    return {"pearson": sum(values) / len(values)} | {
        f"pearson_{name}": value for name, value in zip(REACTIONS, values, strict=True)
    }


def _lost(batch: ReactionBatch, modality: float, token: float, generator: torch.Generator) -> ReactionBatch:
    """Tokens, and whole modalities where there are two, dropped at random; no clip loses both."""
    count = len(batch.frames)
    order = torch.randperm(count, generator=generator)
    # A fixed share of the batch, so that there is always a clip left for each encoder.
    each = int(modality * count / 2) if batch.audio is not None else 0

    def kept(mask: Tensor, lost: Tensor) -> Tensor:
        keep = torch.rand(mask.shape, generator=generator) >= token
        keep[lost] = False
        return mask & keep.to(mask.device)

    frame_mask = kept(batch.frame_mask, order[:each])
    audio_mask = None if batch.audio_mask is None else kept(batch.audio_mask, order[each : 2 * each])
    return batch._replace(frame_mask=frame_mask, audio_mask=audio_mask)


class ReactionTask(lightning.LightningModule):
    """A reaction model in training.

    Parameters
    ----------
    model : ReactionModel
    stage : ReactionStage
    steps : int
        Optimiser steps of the whole run.
    seed : int
    """

    def __init__(self, model: ReactionModel, stage: ReactionStage, steps: int, seed: int) -> None:
        super().__init__()
        self.model, self.stage, self.steps, self.seed = model, stage, steps, seed
        self.correlation = _correlation()

    def training_step(self, batch: ReactionBatch, index: int) -> Tensor:
        """Loss of one batch."""
        stage = self.stage
        generator = chance_of(self.seed, self.current_epoch, index, self.global_rank)
        batch = _lost(batch, stage.drop_modality, stage.drop_tokens, generator)
        crops = batch.frames.flatten(0, 1)
        frames = augment_crops(crops, generator) if stage.augment else normalise_crops(crops)
        tokens, present = self.model.encode(
            frames.view(batch.frames.shape), batch.frame_mask, batch.audio, batch.audio_mask
        )
        loss = self._loss(tokens, present, batch, _known(batch))
        if batch.audio is not None and stage.by_sight > 0:
            seen = present & self.model.seen
            alone = self._loss(tokens, seen, batch, _known(batch) & seen.any(1))
            loss = (1 - stage.by_sight) * loss + stage.by_sight * alone
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(tokens))
        return loss

    def _loss(self, tokens: Tensor, present: Tensor, batch: ReactionBatch, known: Tensor) -> Tensor:
        stage, predicted = self.stage, self.model.answer(tokens, present)
        return reaction_loss(predicted, batch.intensities, known, stage.loss, pearson_share=stage.pearson_share)

    def configure_gradient_clipping(self, optimizer: Any, *arguments: Any, **settings: Any) -> None:
        """A correlation's gradient grows without bound as predictions draw together."""
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")

    def validation_step(self, batch: ReactionBatch, index: int) -> None:
        """Predictions of the validation split, nothing dropped."""
        _observe(self.correlation, self.model, batch)

    def on_validation_epoch_end(self) -> None:
        """Correlations over all clips at once, not a mean over batches."""
        self.log("validation_pearson", _figures(self.correlation)["pearson"], prog_bar=True, sync_dist=True)
        self.correlation.reset()

    def configure_optimizers(self) -> Any:
        """AdamW; a short rise, then one cosine."""
        stage = self.stage
        flat = [value for name, value in self.model.named_parameters() if value.ndim < 2 or name == "place"]
        deep = [value for name, value in self.model.named_parameters() if not (value.ndim < 2 or name == "place")]
        optimiser = torch.optim.AdamW(
            [{"params": deep, "weight_decay": stage.weight_decay}, {"params": flat, "weight_decay": 0.0}], lr=stage.rate
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, stage.rate, total_steps=max(2, self.steps), pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def score_reactions(model: ReactionModel, clips: ClipSource, batch: int = 32) -> dict[str, float]:
    """Correlations of a model's answers with the labels, over all clips at once.

    Parameters
    ----------
    model : ReactionModel
        Is put into evaluation mode.
    clips : ClipSource
        Those without labels do not count.

    Returns
    -------
    dict of str to float
        `pearson`, the mean over the seven reactions, and `pearson_<reaction>` of each; 0 where a column is constant.
    """
    device = next(model.parameters()).device
    model.eval()
    correlation = _correlation().to(device)
    held = ReactionBatches(clips)
    with torch.no_grad():
        for first in range(0, len(held), batch):
            part = held[np.arange(first, min(first + batch, len(held)))]
            _observe(correlation, model, move_data_to_device(part, device))
    return _figures(correlation)


def load_reactions(
    configuration: Configuration, stage: ReactionStage, folder: Path, report: Report = lambda line: None
) -> dict[str, ClipSource]:
    """The stage's clips: "train", "val" and "test"; caches lie in `folder`.

    Raises
    ------
    EmertError
        If data are missing or wrong, or there is nothing to train or to validate on.
    """
    config, source = stage.config, stage.data
    if isinstance(source, HumeData):
        splits: dict[str, ClipSource] = dict(load_hume(source, config, folder / "reactions", report))
        for split, word in (("train", "Train"), ("val", "Val")):
            if len(splits[split]) < 2:
                raise EmertError(f"{source.table}: fewer than two clips are of the split {word}")
        return splits
    counts = {"train": source.clips, "val": source.validation_clips, "test": source.test_clips}
    report(f"clips: {sum(counts.values())}, simulated")
    return {
        split: SimulatedClips(
            count, config, configuration.seed, split, max(2, round(source.people * count / source.clips))
        )
        for split, count in counts.items()
    }


def train_reactions(
    configuration: Configuration,
    stage: ReactionStage,
    clips: dict[str, ClipSource],
    folder: Path,
    report: Report = lambda line: None,
    *,
    face_encoder: FaceEncoder | None = None,
) -> dict[str, float]:
    """Train a reaction model, or take up the run that lies in `folder`; it is left there as `reactions.pt`.

    Parameters
    ----------
    clips : dict of str to ClipSource
        As `load_reactions` gives them.
    face_encoder : FaceEncoder, optional
        What an earlier stage trained, for `after_expressions`.

    Returns
    -------
    dict of str to float
        What was measured on the validation split in the best epoch, and, where the test split has labels,
        `test_pearson`, `test_pearson_<reaction>`, and `untrained_pearson`: the test split before this stage.

    Raises
    ------
    EmertError
        If weights to begin from do not fit.
    """
    final = folder / "reactions.pt"
    if final.exists():
        return dict(load_checkpoint(final)["figures"])
    torch.manual_seed(configuration.seed)
    model = ReactionModel(stage.config)
    if stage.backbone is not None:
        load_backbone_weights(model, stage.backbone)
    elif stage.after_expressions:
        if face_encoder is None:
            raise EmertError("after_expressions: no earlier stage trains a face encoder; put one of expressions first")
        load_backbone_weights(model, face_encoder)
    test = clips["test"]
    labelled = bool(np.isfinite(test.intensities).all(1).sum() > 1)
    before = score_reactions(model, test)["pearson"] if labelled else None
    loader = batches(ReactionBatches(clips["train"]), len(clips["train"]), stage.batch, configuration.seed)
    task = ReactionTask(model, stage, stage.epochs * len(loader), configuration.seed)
    figures = fit(
        task, loader, batches(ReactionBatches(clips["val"]), len(clips["val"]), stage.batch),
        settings=configuration.trainer, folder=folder, stage=f"reactions {stage.preset}", epochs=stage.epochs,
        patience=stage.patience, averaging=stage.averaging, monitor="validation_pearson", mode="max", report=report,
    )  # fmt: skip
    if before is not None:
        measured = score_reactions(model, test)
        figures |= {f"test_{name}": value for name, value in measured.items()} | {"untrained_pearson": before}
        report(f"reactions {stage.preset}: test_pearson {measured['pearson']:.4f}, untrained {before:.4f}")
    rank_zero_only(save_checkpoint)(
        final,
        {
            "reaction_config": stage.config.to_dict(),
            "reaction_model": model.state_dict(),
            "reactions": list(REACTIONS),
            "stage": json.loads(stage.model_dump_json()),
            "figures": figures,
        },
    )
    return figures
