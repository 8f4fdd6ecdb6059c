"""Training on simulated sessions, in two stages: the face encoder on drawn faces, the rest on sessions.

Every epoch draws its chance from the seed and its own number, so a run that was killed and taken up again does what an
uninterrupted one does. Nothing is printed: whoever wants to see progress passes `report`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.augment import augment_crops, normalise_crops
from emert_edge.reference.checkpoint import load_checkpoint, save_checkpoint
from emert_edge.reference.emert import Decoupled, Emert, EmertConfig
from emert_edge.reference.plan import FIXATION, WINDOW, TrainingPlan, claim_folder
from emert_edge.reference.simulated_data import CLASS_AFFECT, FaceSet, SessionSet, make_faces, make_sessions

__all__ = ["EyeScale", "WindowBatch", "eye_scale", "face_encoding", "train", "windows_of"]

Report = Callable[[str], None]
EYE_CLIP = 8.0


class EyeScale(NamedTuple):
    """Training statistics of the eye features: (value - mean) / std, cut at ±`EYE_CLIP`."""

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Normalise rows of features."""
        scaled = np.clip((features - self.mean) / self.std, -EYE_CLIP, EYE_CLIP)
        return np.asarray(scaled, np.float32)


class WindowBatch(NamedTuple):
    """Windows as the head takes them, and their truth."""

    face_tokens: Tensor
    face_mask: Tensor
    eye_tokens: Tensor
    eye_mask: Tensor
    fused: Tensor
    """(batch, 8, 4, 112, 112), the fixation encoder's input."""
    fixation_mask: Tensor
    labels: Tensor
    affect: Tensor


def eye_scale(sessions: SessionSet) -> EyeScale:
    """Mean and standard deviation of each feature over the spans that have gaze; a constant one is left as it is."""
    rows = sessions.eye[sessions.eye_mask]
    if not len(rows):
        raise ValueError("sessions: no span has any gaze")
    mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    return EyeScale(mean.astype(np.float32), std.astype(np.float32))


def _reduced_precision() -> AbstractContextManager[object]:
    """bfloat16 where this CPU multiplies it in hardware (there it more than doubles the speed), else nothing."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def _rate(step: int, steps: int, highest: float) -> float:
    """A short rise, then a cosine down to a hundredth."""
    warm = max(1, steps // 20)
    if step < warm:
        return highest * (step + 1) / warm
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def _groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices and kernels decay; gains, biases, positions and queries do not."""
    named = list(module.named_parameters())
    loose = ("place_specific", "place_invariant", "nothing", "_query")
    flat = [value for name, value in named if value.ndim < 2 or name.endswith(loose)]
    taken = {id(value) for value in flat}
    deep = [value for _, value in named if id(value) not in taken]
    return [{"params": deep, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def face_encoding(
    model: Emert, batch: int = 98
) -> Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """The face encoder as a function of crops (n, 3, 112, 112) uint8: tokens (n, D) and logits (n, classes)."""

    def encode(crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        model.eval()
        tokens, logits = [], []
        with torch.no_grad():
            for begin in range(0, len(crops), batch):
                token, logit = model.face_encoder(normalise_crops(torch.from_numpy(crops[begin : begin + batch])))
                tokens.append(token.numpy())
                logits.append(logit.numpy())
        return np.concatenate(tokens), np.concatenate(logits)

    return encode


def train(plan: TrainingPlan, folder: Path, report: Report = lambda line: None, *, threads: int | None = None) -> Path:
    """Train a model, or go on with the run in `folder`.

    Parameters
    ----------
    plan : TrainingPlan
    folder : Path
        Receives caches, checkpoints and the finished `model.pt`.
    report : callable
        Is given a line of progress now and then.
    threads : int, optional
        Threads for torch; its own choice if not given.

    Returns
    -------
    Path
        The finished checkpoint.

    Raises
    ------
    ValueError
        If `folder` holds a run with another plan.
    """
    claim_folder(folder, plan)
    finished = folder / "model.pt"
    if finished.exists():
        report(f"{finished} is finished already")
        return finished
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(plan.seed)
    model = Emert(EmertConfig(size=plan.size, eye_features=len(FEATURE_NAMES)))
    _train_face_encoder(plan, model, folder, report)
    sessions = _cached_sessions(plan, model, folder, report)
    scale = eye_scale(sessions)
    _train_head(plan, model, sessions, scale, folder, report)
    save_checkpoint(
        finished,
        {
            "config": model.config.to_dict(),
            "model": model.state_dict(),
            "plan": plan.model_dump(),
            "eye_features": list(FEATURE_NAMES),
            "eye_mean": [float(value) for value in scale.mean],
            "eye_std": [float(value) for value in scale.std],
            "eye_clip": EYE_CLIP,
        },
    )
    return finished


def _partly_augmented(crops: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The first part of a batch augmented, the rest only normalised."""
    count = round(share * len(crops))
    parts = [normalise_crops(crops[count:])]
    if count:
        parts.insert(0, augment_crops(crops[:count], generator))
    return torch.cat(parts)


def _train_face_encoder(plan: TrainingPlan, model: Emert, folder: Path, report: Report) -> None:
    final = folder / "face_encoder.pt"
    if final.exists():
        model.face_encoder.load_state_dict(load_checkpoint(final)["face_encoder"])
        return
    cache = folder / "faces.npz"
    if cache.exists():
        faces = FaceSet.load(cache)
    else:
        report(f"drawing {plan.faces} faces")
        faces = make_faces(plan.faces, plan.seed, "train", lambda done: report(f"drawn {done} of {plan.faces} faces"))
        faces.save(cache)
    encoder = model.face_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Thrown away afterwards: it makes the token carry valence, arousal and intensity as well.
    affect = nn.Linear(model.config.token_width, 3)
    both = nn.ModuleDict({"encoder": encoder, "affect": affect})
    optimiser = torch.optim.AdamW(_groups(both, 0.05), lr=plan.face_rate)
    batches = max(1, len(faces) // plan.face_batch)
    steps = plan.face_epochs * batches
    progress = folder / "face_encoder.progress.pt"
    first = 0
    if progress.exists():
        held = load_checkpoint(progress)
        both.load_state_dict(held["model"])
        optimiser.load_state_dict(held["optimiser"])
        first = int(held["epoch"])
    targets = torch.from_numpy(faces.weights)
    levels = torch.from_numpy(faces.intensity)
    feelings = torch.from_numpy(faces.weights @ CLASS_AFFECT) * levels[:, None]
    for epoch in range(first, plan.face_epochs):
        generator = torch.Generator().manual_seed(1000003 * (plan.seed + 1) + epoch)
        torch.manual_seed(1000003 * (plan.seed + 1) + epoch)
        order = torch.randperm(len(faces), generator=generator)
        both.train()
        # Plain crops first: under full augmentation from the start nothing is learnt for a long time.
        share = 0.0 if plan.face_epochs == 1 else min(0.8, 1.6 * epoch / (plan.face_epochs - 1))
        right, seen, total = 0.0, 0, 0.0
        for number in range(batches):
            for group in optimiser.param_groups:
                group["lr"] = _rate(epoch * batches + number, steps, plan.face_rate)
            chosen = order[number * plan.face_batch : (number + 1) * plan.face_batch]
            x = _partly_augmented(torch.from_numpy(faces.crops[chosen.numpy()]), share, generator)
            with _reduced_precision():
                token, logits = encoder(x.contiguous(memory_format=torch.channels_last))
                scales = affect(torch.relu(token))
            target = targets[chosen]
            loss = F.cross_entropy(logits.float(), target, label_smoothing=0.05)
            truth = torch.cat([feelings[chosen], levels[chosen, None]], 1)
            loss = loss + F.smooth_l1_loss(scales.float(), truth)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            right += float((logits.argmax(1) == target.argmax(1)).float().sum())
            seen += len(chosen)
            total += float(loss.detach()) * len(chosen)
            if number % 20 == 19 or number == batches - 1:
                report(
                    f"face encoder: epoch {epoch + 1}/{plan.face_epochs}, batch {number + 1}/{batches}, "
                    f"loss {total / seen:.3f}, right {right / seen:.3f}"
                )
        save_checkpoint(progress, {"model": both.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1})
    save_checkpoint(final, {"face_encoder": encoder.state_dict()})
    progress.unlink(missing_ok=True)


def _cached_sessions(plan: TrainingPlan, model: Emert, folder: Path, report: Report) -> SessionSet:
    cache = folder / "sessions.npz"
    if cache.exists():
        return SessionSet.load(cache)
    report(f"simulating {plan.sessions} sessions")
    sessions = make_sessions(
        plan.sessions, plan.seed, "train", plan.session_s, face_encoding(model),
        lambda done: report(f"simulated {done} of {plan.sessions} sessions"),
    )  # fmt: skip
    sessions.save(cache)
    return sessions


def windows_of(
    sessions: SessionSet, chosen: npt.NDArray[np.int64], points: npt.NDArray[np.int64], scale: EyeScale
) -> WindowBatch:
    """Cut windows: each ends at a grid point of a session.

    Parameters
    ----------
    chosen, points : ndarray
        (batch,): the session, and the grid point at which its window ends.
    """
    faces, spans = WINDOW.face_tokens, WINDOW.eye_tokens
    each = WINDOW.face_cadence_ms // WINDOW.eye_span_ms
    point = points[:, None] + np.arange(1 - faces, 1)
    span = points[:, None] * each + np.arange(-spans, 0)
    began, heard = point >= 0, span >= 0
    point, span = np.maximum(point, 0), np.maximum(span, 0)
    row = chosen[:, None]
    maps = sessions.maps[row, point]
    rows, columns = FIXATION.size
    fused = np.zeros((*maps.shape[:2], 4, rows, columns), np.float32)
    fused[:, :, 3] = maps.astype(np.float32) / 255
    with_scene = np.flatnonzero(sessions.scene_index[chosen] >= 0)
    if len(with_scene):
        seen = sessions.scenes[sessions.scene_index[chosen[with_scene]][:, None], point[with_scene]]
        mean = np.asarray(FIXATION.mean, np.float32)[:, None, None]
        std = np.asarray(FIXATION.std, np.float32)[:, None, None]
        fused[with_scene, :, :3] = (seen.astype(np.float32) / 255 - mean) / std
    return WindowBatch(
        face_tokens=torch.from_numpy(sessions.face_tokens[row, point]),
        face_mask=torch.from_numpy(began.astype(np.float32)),
        eye_tokens=torch.from_numpy(scale(sessions.eye[row, span])),
        eye_mask=torch.from_numpy((heard & sessions.eye_mask[row, span]).astype(np.float32)),
        fused=torch.from_numpy(fused),
        fixation_mask=torch.from_numpy((began & sessions.map_mask[row, point]).astype(np.float32)),
        labels=torch.from_numpy(sessions.labels[chosen, points]),
        affect=torch.from_numpy(sessions.affect[chosen, points]),
    )


def _drop_tokens(batch: WindowBatch, generator: torch.Generator) -> WindowBatch:
    """Lose whole modalities and spans of tokens, as trackers and cameras do."""
    count = batch.labels.shape[0]

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
        face_mask=batch.face_mask * ~lost_face,
        eye_mask=batch.eye_mask * ~lost_eye,
        fixation_mask=batch.fixation_mask * ~lost_fixation,
    )


def _task_loss(outputs: dict[str, Tensor], batch: WindowBatch) -> Tensor:
    loss = torch.zeros(())
    for column, task in enumerate(("emotion", "expression")):
        loss = loss + F.cross_entropy(outputs[f"{task}_logits"], batch.labels[:, column], label_smoothing=0.05)
        loss = loss + 0.3 * F.cross_entropy(outputs[f"{task}_polarity_logits"], batch.labels[:, 2 + column])
        truth = batch.affect[:, 2 * column : 2 * column + 2]
        loss = loss + F.smooth_l1_loss(outputs[f"{task}_valence_arousal"], truth, beta=0.3)
    return loss + 0.3 * F.smooth_l1_loss(outputs["expression_intensity"][:, 0], batch.affect[:, 4])


def _decoupling_loss(decoupled: Decoupled, invariant: float, specific: float) -> Tensor:
    loss = torch.zeros(())
    for weight, judged in ((invariant, decoupled.invariant), (specific, decoupled.specific)):
        for modality, (logits, present) in enumerate(zip(judged, decoupled.present, strict=True)):
            each = F.cross_entropy(logits, torch.full((len(logits),), modality), reduction="none")
            loss = loss + weight * (each * present).sum() / present.sum().clamp(min=1)
    return loss


def _epoch_of_windows(sessions: SessionSet, plan: TrainingPlan, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    rng = np.random.default_rng([plan.seed, epoch, 5])
    first = WINDOW.face_tokens // 2
    points = sessions.labels.shape[1]
    for _ in range(plan.session_steps):
        yield np.stack(
            [rng.integers(len(sessions), size=plan.session_batch), rng.integers(first, points, size=plan.session_batch)]
        )


def _train_head(
    plan: TrainingPlan, model: Emert, sessions: SessionSet, scale: EyeScale, folder: Path, report: Report
) -> None:
    parts = nn.ModuleDict({"fixation_encoder": model.fixation_encoder, "head": model.head})
    optimiser = torch.optim.AdamW(_groups(parts, 0.05), lr=plan.session_rate)
    progress = folder / "head.progress.pt"
    first = 0
    if progress.exists():
        held = load_checkpoint(progress)
        parts.load_state_dict(held["model"])
        optimiser.load_state_dict(held["optimiser"])
        first = int(held["epoch"])
    steps = plan.session_epochs * plan.session_steps
    for epoch in range(first, plan.session_epochs):
        generator = torch.Generator().manual_seed(2000003 * (plan.seed + 1) + epoch)
        torch.manual_seed(2000003 * (plan.seed + 1) + epoch)
        parts.train()
        total, felt, shown = 0.0, 0.0, 0.0
        for number, (chosen, points) in enumerate(_epoch_of_windows(sessions, plan, epoch), start=1):
            for group in optimiser.param_groups:
                group["lr"] = _rate(epoch * plan.session_steps + number - 1, steps, plan.session_rate)
            batch = _drop_tokens(windows_of(sessions, chosen, points, scale), generator)
            with _reduced_precision():
                tokens = model.fixation_encoder(batch.fused.flatten(0, 1))
            fixation = tokens.float().reshape(*batch.fused.shape[:2], -1)
            outputs, decoupled = model.head.train_forward(
                batch.face_tokens, batch.face_mask, batch.eye_tokens, batch.eye_mask, fixation, batch.fixation_mask
            )
            loss = _task_loss(outputs, batch)
            loss = loss + _decoupling_loss(decoupled, plan.decoupling_invariant, plan.decoupling_specific)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach())
            felt += float((outputs["emotion_logits"].argmax(1) == batch.labels[:, 0]).float().mean())
            shown += float((outputs["expression_logits"].argmax(1) == batch.labels[:, 1]).float().mean())
            if number % 20 == 0 or number == plan.session_steps:
                report(
                    f"sessions: epoch {epoch + 1}/{plan.session_epochs}, batch {number}/{plan.session_steps}, "
                    f"loss {total / number:.3f}, emotion {felt / number:.3f}, expression {shown / number:.3f}"
                )
        save_checkpoint(
            progress, {"model": parts.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
        )
