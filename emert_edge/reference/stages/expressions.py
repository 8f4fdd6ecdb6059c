"""The face encoder on pictures of single faces, each labelled with what it shows.

The recipe is for small noisy sets such as FER2013 (48 × 48, about a third of the labels disputed): strong geometric
augmentation, mixup (arXiv 1710.09412), label smoothing, SGD with one cosine, and a moving average of the weights, which
is what is validated and kept. Rare classes are favoured by logit adjustment (arXiv 2007.07314): the logarithm of the
classes' frequencies, times `balance`, is added to the logits in the loss and left away afterwards.

A stage may distil a teacher: part of each target is what an encoder trained before says of the very same augmented
picture (arXiv 2106.05237), which tells a disputed label from a clear one. The teacher is the encoder of the stage
before (arXiv 1805.04770), or larger ones that other runs have trained; of several the mean teaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from emert_edge.errors import EmertError
from emert_edge.reference.augment import augment_crops, normalise_crops, sent
from emert_edge.reference.checkpoint import load_checkpoint
from emert_edge.reference.configuration import ExpressionStage
from emert_edge.reference.data.faces import FaceImages
from emert_edge.reference.face_encoder import FACE_SIZES, FaceEncoder
from emert_edge.reference.stages.batches import chance_of

__all__ = ["ExpressionTask", "FaceBatches", "Teacher"]


class Teacher:
    """Trained face encoders at rest, asked for the shares of the classes.

    Parameters
    ----------
    encoders : FaceEncoder
        Are copied. The mean of their shares is what they say.
    """

    def __init__(self, *encoders: FaceEncoder) -> None:
        self.encoders = [deepcopy(encoder).eval().requires_grad_(False) for encoder in encoders]

    @classmethod
    def read(cls, files: Path | Sequence[Path], classes: int) -> Teacher:
        """From the `face_encoder.pt` that stages of other runs have left; each of any size.

        Raises
        ------
        EmertError
            If a file holds no face encoder, or one of another number of classes.
        """
        return cls(*(cls._encoder(file, classes) for file in ([files] if isinstance(files, Path) else files)))

    @staticmethod
    def _encoder(file: Path, classes: int) -> FaceEncoder:
        weights = load_checkpoint(file).get("face_encoder")
        if not isinstance(weights, dict) or "project.weight" not in weights:
            raise EmertError(f"{file}: holds no face encoder; name the face_encoder.pt of a run's expressions stage")
        width, answers = len(weights["project.weight"]), len(weights["classify.2.weight"])
        if answers != classes:
            raise EmertError(f"{file}: tells {answers} classes apart, this run {classes}")
        for size in FACE_SIZES:
            encoder = FaceEncoder(size, width, classes)
            if {name: value.shape for name, value in encoder.state_dict().items()} == {
                name: value.shape for name, value in weights.items()
            }:
                encoder.load_state_dict(weights)
                return encoder
        raise EmertError(f"{file}: its face encoder is of no size that this version knows ({', '.join(FACE_SIZES)})")

    def __call__(self, x: Tensor, prior: Tensor) -> Tensor:
        """(n, 3, H, W) normalised pictures of any size to (n, classes) shares; `prior` is added to the logits."""
        with torch.no_grad():
            return torch.stack([self._shares(encoder, x, prior) for encoder in self.encoders]).mean(0)

    @staticmethod
    def _shares(encoder: FaceEncoder, x: Tensor, prior: Tensor) -> Tensor:
        rows_columns = FACE_SIZES[encoder.size]
        encoder.to(x.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if x.shape[2:] != rows_columns:
            x = F.interpolate(x, rows_columns, mode="bilinear", align_corners=False)
        return F.softmax(encoder(x)[1].float() + prior, 1)


class ExpressionTask(lightning.LightningModule):
    """One face encoder in training.

    Parameters
    ----------
    encoder : FaceEncoder
    stage : ExpressionStage
    frequencies : sequence of float
        How often each class occurs in the training data.
    steps : int
        Optimiser steps of the whole run.
    seed : int
    teacher : Teacher, optional
        Needed where the stage distils.
    """

    prior: Tensor

    def __init__(
        self,
        encoder: FaceEncoder,
        stage: ExpressionStage,
        frequencies: npt.NDArray[np.float64],
        steps: int,
        seed: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.teacher = teacher  # no module of this one: its weights are no part of what is trained
        self.stage = stage
        self.steps = steps
        self.seed = seed
        self.register_buffer("prior", torch.tensor(np.log(np.maximum(frequencies, 1e-6)), dtype=torch.float32))
        count = len(frequencies)
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(count, average="micro")
        self.recall = torchmetrics.classification.MulticlassRecall(count, average="macro")

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        stage = self.stage
        generator = chance_of(self.seed, self.current_epoch, index, self.global_rank)
        x = augment_crops(batch["crops"], generator, covered=stage.covered).to(memory_format=torch.channels_last)
        target = F.one_hot(batch["labels"], len(self.prior)).float()
        if stage.mixup > 0:
            beta = torch.distributions.Beta(stage.mixup, stage.mixup)
            share = float(beta.sample())
            order = sent(torch.randperm(len(x)), x.device)
            x = share * x + (1 - share) * x[order]
            target = share * target + (1 - share) * target[order]
        prior = stage.balance * self.prior
        if self.teacher is not None:
            target = torch.lerp(target, self.teacher(x, prior), stage.distilled)
        logits = self.encoder(x)[1].float() + prior
        loss = F.cross_entropy(logits, target, label_smoothing=stage.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Accuracy, mean recall and loss on pictures held out from training."""
        logits = self.encoder(normalise_crops(batch["crops"]).to(memory_format=torch.channels_last))[1].float()
        labels = batch["labels"]
        self.accuracy(logits, labels)
        self.recall(logits, labels)
        size = len(labels)
        self.log("validation_loss", F.cross_entropy(logits, labels), on_epoch=True, batch_size=size, sync_dist=True)
        self.log("validation_accuracy", self.accuracy, on_epoch=True, prog_bar=True, batch_size=size)
        self.log("validation_uar", self.recall, on_epoch=True, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        """SGD with Nesterov's momentum; a short rise, then one cosine."""
        stage = self.stage
        deep = [value for value in self.encoder.parameters() if value.ndim >= 2]
        flat = [value for value in self.encoder.parameters() if value.ndim < 2]
        optimiser = torch.optim.SGD(
            [{"params": deep, "weight_decay": stage.weight_decay}, {"params": flat, "weight_decay": 0.0}],
            lr=stage.rate, momentum=stage.momentum, nesterov=stage.momentum > 0,
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, stage.rate, total_steps=self.steps, pct_start=0.06, cycle_momentum=False,
            div_factor=20, final_div_factor=50,
        )  # fmt: skip
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class FaceBatches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Whole batches of pictures by number.

    Parameters
    ----------
    device : torch.device
        Where all pictures lie; on a GPU no step then waits for its batch to be gathered and copied.
    """

    def __init__(self, faces: FaceImages, device: torch.device | str = "cpu") -> None:
        self.crops = torch.from_numpy(faces.crops).to(device)
        self.labels = torch.from_numpy(faces.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        rows = sent(torch.from_numpy(chosen), self.crops.device)
        return {"crops": self.crops[rows], "labels": self.labels[rows]}
