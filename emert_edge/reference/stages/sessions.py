"""The whole model on windows of sessions.

The face encoder rests unless told otherwise: its tokens are computed once. Whole modalities, spans and single tokens
are dropped at random, so that a lost tracker or camera costs what it must and no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
import torchmetrics
from torch import Tensor

from emert_edge.reference.augment import augment_crops, normalise_crops
from emert_edge.reference.configuration import SessionStage
from emert_edge.reference.data.windows import UNKNOWN, SessionData, WindowBatch
from emert_edge.reference.emert import Decoupled, Emert
from emert_edge.reference.losses import decoupling_loss, task_loss
from emert_edge.reference.stages.batches import chance_of
from emert_edge.simulation import POLARITIES, POLARITY

__all__ = [
    "MODALITIES",
    "SessionTask",
    "drop_tokens",
    "encode_faces",
    "face_encoding",
    "keep_modalities",
    "polarity_of",
    "run_model",
]

MODALITIES = ("face", "eye", "fixation")


def polarity_of(classes: Sequence[str]) -> Tensor:
    """(classes,) int64: the polarity of each class, by its place in `POLARITIES`."""
    return torch.tensor([POLARITIES.index(POLARITY[name]) for name in classes])


def face_encoding(
    model: Emert, batch: int = 256
) -> Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """The face encoder as a function of crops (n, 3, rows, columns) uint8: tokens (n, D) and logits (n, classes)."""

    def encode(crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        model.face_encoder.eval()
        device = next(model.face_encoder.parameters()).device
        tokens, logits = [], []
        with torch.no_grad():
            for begin in range(0, len(crops), batch):
                part = normalise_crops(torch.from_numpy(crops[begin : begin + batch]).to(device))
                token, logit = model.face_encoder(part)
                tokens.append(token.float().cpu().numpy())
                logits.append(logit.float().cpu().numpy())
        return np.concatenate(tokens), np.concatenate(logits)

    return encode


def encode_faces(model: Emert, sessions: Sequence[SessionData]) -> list[npt.NDArray[np.float32]]:
    """Face tokens (P, D) of each session's crops, from the encoder at rest."""
    encode = face_encoding(model)
    return [encode(session.crops)[0] for session in sessions]


def run_model(model: Emert, batch: WindowBatch, faces: Tensor | None = None) -> tuple[dict[str, Tensor], Decoupled]:
    """Outputs for a batch of windows, and what the decoupling losses need.

    Parameters
    ----------
    faces : Tensor, optional
        (batch, 8, 3, rows, columns), normalised crops to encode; otherwise `batch.faces` are tokens.
    """
    tokens = batch.faces
    if faces is not None:
        tokens = model.face_encoder(faces.flatten(0, 1))[0].float().reshape(*faces.shape[:2], -1)
    if model.fixation_encoder is None:
        return model.head.train_forward(
            tokens, batch.face_mask, batch.eye_tokens, batch.eye_mask, gaze_points=batch.points
        )
    fixation = model.fixation_encoder(batch.fused.flatten(0, 1)).float().reshape(*batch.fused.shape[:2], -1)
    return model.head.train_forward(
        tokens, batch.face_mask, batch.eye_tokens, batch.eye_mask, fixation, batch.fixation_mask
    )


def drop_tokens(batch: WindowBatch, generator: torch.Generator) -> WindowBatch:
    """Lose whole modalities and spans of tokens, as trackers and cameras do."""
    count = len(batch.emotion)
    device = batch.face_mask.device

    def chance(probability: float) -> Tensor:
        return torch.rand(count, 1, generator=generator) < probability

    def span(length: int, probability: float) -> Tensor:
        begin = torch.rand(count, 1, generator=generator) * length
        size = torch.rand(count, 1, generator=generator) * 0.6 * length
        at = torch.arange(length)[None]
        return (at >= begin) & (at < begin + size) & chance(probability)

    def sparse(length: int, probability: float) -> Tensor:
        share = torch.rand(count, 1, generator=generator) * 0.7
        return (torch.rand(count, length, generator=generator) < share) & chance(probability)

    faces, spans = batch.face_mask.shape[1], batch.eye_mask.shape[1]
    fate = torch.rand(count, 1, generator=generator)
    no_face, no_gaze = fate < 0.14, (fate >= 0.14) & (fate < 0.28)
    lost_eye = span(spans, 0.25) | sparse(spans, 0.25) | no_gaze | chance(0.05)
    lost_fixation = sparse(faces, 0.2) | no_gaze | chance(0.12)
    lost_face = span(faces, 0.25) | sparse(faces, 0.2) | no_face
    return batch._replace(
        face_mask=batch.face_mask * ~lost_face.to(device),
        eye_mask=batch.eye_mask * ~lost_eye.to(device),
        fixation_mask=batch.fixation_mask * ~lost_fixation.to(device),
    )


def keep_modalities(batch: WindowBatch, kept: Sequence[str]) -> WindowBatch:
    """Mask every modality that is not named; gaze points go with the eyes."""
    return batch._replace(
        face_mask=batch.face_mask * float("face" in kept),
        eye_mask=batch.eye_mask * float("eye" in kept),
        fixation_mask=batch.fixation_mask * float("fixation" in kept),
    )


class SessionTask(lightning.LightningModule):
    """A model in training on windows.

    Parameters
    ----------
    model : Emert
    stage : SessionStage
    classes : sequence of str
    steps : int
        Optimiser steps of the whole run.
    seed : int
    modalities : sequence of str
        What this model may see; the others stay masked.
    """

    polarities: Tensor

    def __init__(
        self,
        model: Emert,
        stage: SessionStage,
        classes: Sequence[str],
        steps: int,
        seed: int,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        super().__init__()
        self.model, self.stage, self.steps, self.seed, self.modalities = model, stage, steps, seed, modalities
        for parameter in model.face_encoder.parameters():
            parameter.requires_grad_(stage.train_face_encoder)
        # No window is labelled through the classifier of single pictures.
        for parameter in model.face_encoder.classify.parameters():
            parameter.requires_grad_(False)
        self.register_buffer("polarities", polarity_of(classes), persistent=False)
        self.felt = torchmetrics.classification.MulticlassRecall(len(classes), average="macro", ignore_index=UNKNOWN)
        self.shown = torchmetrics.classification.MulticlassRecall(len(classes), average="macro", ignore_index=UNKNOWN)

    def on_train_epoch_start(self) -> None:
        """Let an encoder at rest use the statistics that it learnt."""
        if not self.stage.train_face_encoder:
            self.model.face_encoder.eval()

    def frames(self, batch: WindowBatch, generator: torch.Generator | None) -> Tensor | None:
        """Crops to encode, augmented if a generator is given; None where the batch holds tokens."""
        if not self.stage.train_face_encoder:
            return None
        crops = batch.faces.flatten(0, 1)
        frames = normalise_crops(crops) if generator is None else augment_crops(crops, generator)
        return frames.reshape(batch.faces.shape)

    def _loss(self, batch: WindowBatch, outputs: dict[str, Tensor]) -> Tensor:
        loss = task_loss(outputs, batch, self.polarities, label_smoothing=self.stage.label_smoothing)
        if "reactions" in outputs:
            from emert_edge.reference.reactions import reaction_loss

            known = torch.isfinite(batch.reactions).all(1)
            loss = loss + reaction_loss(outputs["reactions"], batch.reactions, known, "mse")
        return loss

    def training_step(self, batch: WindowBatch, index: int) -> Tensor:
        """Loss of one batch."""
        generator = chance_of(self.seed, self.current_epoch, index, self.global_rank)
        batch = keep_modalities(drop_tokens(batch, generator), self.modalities)
        outputs, decoupled = run_model(self.model, batch, self.frames(batch, generator))
        outputs = {name: value.float() for name, value in outputs.items()}
        loss = self._loss(batch, outputs)
        if len(self.modalities) > 1:
            loss = loss + decoupling_loss(
                decoupled, self.stage.decoupling_invariant, self.stage.decoupling_specific
            )  # fmt: skip
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.emotion))
        return loss

    def validation_step(self, batch: WindowBatch, index: int) -> None:
        """Loss and mean recall of both tasks on sessions held out from training, nothing dropped."""
        batch = keep_modalities(batch, self.modalities)
        outputs, _ = run_model(self.model, batch, self.frames(batch, None))
        outputs = {name: value.float() for name, value in outputs.items()}
        size = len(batch.emotion)
        self.log("validation_loss", self._loss(batch, outputs), on_epoch=True, batch_size=size, sync_dist=True)
        for name, metric, truth in (
            ("emotion", self.felt, batch.emotion),
            ("expression", self.shown, batch.expression),
        ):
            if (truth != UNKNOWN).any():
                metric(outputs[f"{name}_logits"], truth)
                self.log(f"validation_{name}_uar", metric, on_epoch=True, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        """AdamW: a short rise, then a cosine down to a hundredth."""
        stage = self.stage
        named = [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]
        # Gains, biases, positions and queries do not decay; matrices and kernels do.
        loose = ("place_specific", "place_invariant", "nothing", "_query")
        groups = []
        for encoder, rate in ((False, stage.rate), (True, stage.rate * stage.face_rate_share)):
            own = [(name, value) for name, value in named if name.startswith("face_encoder.") is encoder]
            flat = [value for name, value in own if value.ndim < 2 or name.endswith(loose)]
            deep = [value for name, value in own if not (value.ndim < 2 or name.endswith(loose))]
            groups += [
                {"params": values, "weight_decay": decay, "lr": rate}
                for values, decay in ((deep, stage.weight_decay), (flat, 0.0))
                if values
            ]
        optimiser = torch.optim.AdamW(groups)
        warm = max(1, self.steps // 20)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, self.steps - warm))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
