"""The published EMERT code's four variants, exact: for the authors' checkpoints, and as a yardstick for our own model.

Written from facts about the code (docs/published.md), not from the code, and held to its outputs by parity vectors in
the tests. Attribute names below that look odd (`distriminator`, `subnet.v_lstm` for the gaze) are the tensor names of
the authors' checkpoints; they cannot be chosen here.

For a model that is new, see `emert_edge.reference.emert`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emert_edge.errors import EmertError
from emert_edge.reference.checkpoint import read_content
from emert_edge.reference.emert import reverse_gradient
from emert_edge.reference.resnet import ResNet18

__all__ = ["PublishedEmert", "PublishedShape", "load_published", "published_loss", "read_checkpoint"]

FACE_TOKENS, SEQUENCE_TOKENS = 8, 32
FACE_SHAPE = (FACE_TOKENS, 3, 112, 112)
EYE_SHAPE = (SEQUENCE_TOKENS, 39)
GAZE_SHAPE = (SEQUENCE_TOKENS, 2)
MODALITIES = ("face", "eye", "gaze")
"""In the order of the discriminator's classes."""

_STREAM_WIDTH = 128
_TOKENS = FACE_TOKENS + 2 * SEQUENCE_TOKENS
_ATTENTION_HEADS, _ATTENTION_WIDTH = 8, 64
_BLOCKS = 2


class _Attention(nn.Module):
    """Attention with 8 heads of 64, whatever the width of the tokens."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        inner = _ATTENTION_HEADS * _ATTENTION_WIDTH
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1], _ATTENTION_HEADS, _ATTENTION_WIDTH).transpose(1, 2)

        q, k, v = split(self.to_q(queries)), split(self.to_k(keys)), split(self.to_v(values))
        weights = torch.softmax(q @ k.transpose(2, 3) * _ATTENTION_WIDTH**-0.5, dim=-1)
        mixed: Tensor = self.to_out((weights @ v).transpose(1, 2).flatten(2))
        return mixed


class _NormedAttention(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(width)
        self.norm_k = nn.LayerNorm(width)
        self.norm_v = nn.LayerNorm(width)
        self.fn = _Attention(width, dropout)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        mixed: Tensor = self.fn(self.norm_q(moving), self.norm_k(fixed), self.norm_v(fixed))
        return mixed


class _FeedForward(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


class _NormedFeedForward(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = _FeedForward(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fn(self.norm(x))
        return y


class _Blocks(nn.Module):
    """Blocks in which the invariant tokens question the specific ones, which stay as they are."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([_NormedAttention(width, dropout), _NormedFeedForward(width, dropout)])
            for _ in range(_BLOCKS)
        )

    def forward(self, specific: Tensor, invariant: Tensor) -> Tensor:
        for block in self.layers:
            attend, feed = block.children()
            invariant = attend(invariant, specific) + invariant
            invariant = feed(invariant) + invariant
        return invariant


class _Transformer(nn.Module):
    def __init__(self, width: int, dropout: float, block_dropout: float) -> None:
        super().__init__()
        self.pos_embedding_s = nn.Parameter(torch.randn(1, _TOKENS, width))
        self.pos_embedding_t = nn.Parameter(torch.randn(1, _TOKENS, width))
        self.dropout = nn.Dropout(dropout)
        self.CrossTransformerEncoder = _Blocks(width, block_dropout)

    def forward(self, specific: Tensor, invariant: Tensor) -> Tensor:
        """Twice (B, 72, D) to the mean over the tokens, (B, D)."""
        specific = self.dropout(specific + self.pos_embedding_s)
        invariant = self.dropout(invariant + self.pos_embedding_t)
        fused: Tensor = self.CrossTransformerEncoder(specific, invariant)
        return fused.mean(dim=1)


class _Streams(nn.Module):
    """Encoders of the three streams; `classifier` is in every checkpoint and in no path of the forward pass."""

    def __init__(self, spare_rows: int) -> None:
        super().__init__()
        self.f_extractor = ResNet18()
        self.e_lstm = nn.LSTM(EYE_SHAPE[1], _STREAM_WIDTH, num_layers=3, batch_first=True)
        self.v_lstm = nn.LSTM(GAZE_SHAPE[1], _STREAM_WIDTH, num_layers=3, batch_first=True)
        self.classifier = nn.Linear(6 * _STREAM_WIDTH, spare_rows)


@dataclass(frozen=True)
class PublishedShape:
    """Which of the four variants, and the sizes that a checkpoint may choose."""

    variant: str
    """``"model_D"``, ``"model"``, ``"in_model"`` or ``"model_D_2023"``."""
    outputs: int = 7
    """Width of `out`: classes, or regression outputs."""
    intensities: int = 1
    """Width of the second head of ``"in_model"``; no other variant has one."""
    spare_rows: int = 7
    """Rows of a linear layer that checkpoints hold and no forward pass uses."""

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(_VARIANTS)}, got {self.variant!r}")
        for name in ("outputs", "intensities", "spare_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def width(self) -> int:
        """D, the width of decoupled tokens: 32 or 64."""
        return _VARIANTS[self.variant].width


@dataclass(frozen=True)
class _Variant:
    width: int
    output_layer: str
    """Where the number of outputs shows."""
    heads: Callable[[PublishedShape], dict[str, nn.Module]]


def _linear(shape: PublishedShape) -> dict[str, nn.Module]:
    return {"cls_head": nn.Sequential(nn.Linear(32, shape.outputs))}


def _funnel(shape: PublishedShape) -> dict[str, nn.Module]:
    layers: list[nn.Module] = []
    for width in (64, 32, 16):
        layers += [nn.Linear(width, width // 2), nn.LeakyReLU(0.01)]
    return {"cls_head": nn.Sequential(*layers, nn.Linear(8, shape.outputs))}


def _classes_and_intensity(shape: PublishedShape) -> dict[str, nn.Module]:
    return {
        "cls_head_e": nn.Sequential(nn.Linear(64, shape.outputs)),
        "cls_head_in": nn.Sequential(nn.Linear(64, shape.intensities)),
    }


def _two_linear(shape: PublishedShape) -> dict[str, nn.Module]:
    return {"cls_head": nn.Sequential(nn.Linear(64, 32), nn.Linear(32, shape.outputs))}


_VARIANTS = {
    "model_D": _Variant(32, "cls_head.0", _linear),
    "model": _Variant(64, "cls_head.6", _funnel),
    "in_model": _Variant(64, "cls_head_e.0", _classes_and_intensity),
    "model_D_2023": _Variant(64, "cls_head.1", _two_linear),
}
_INTENSITY_LAYER = "cls_head_in.0"
_SPARE_LAYER = "subnet.classifier"


def _projection(width: int) -> nn.Sequential:
    if width == 64:
        return nn.Sequential(nn.Linear(_STREAM_WIDTH, width))
    return nn.Sequential(nn.Linear(_STREAM_WIDTH, 64), nn.LeakyReLU(0.1), nn.Linear(64, width))


class PublishedEmert(nn.Module):
    """One of the four published variants. `load_published` makes it from a checkpoint; this makes an untrained one.

    In training mode the dropouts work, and the invariant features' gradient is reversed (λ = 1) before the
    discriminator. `subnet.f_extractor.fc` and `subnet.classifier` get no gradient: no output depends on them.

    Parameters
    ----------
    shape : PublishedShape
    """

    cls_head: nn.Sequential
    cls_head_e: nn.Sequential
    cls_head_in: nn.Sequential

    def __init__(self, shape: PublishedShape) -> None:
        super().__init__()
        self.shape = shape
        variant, width = _VARIANTS[shape.variant], shape.width
        self.subnet = _Streams(shape.spare_rows)
        self.proj_v1 = nn.Linear(ResNet18.width, _STREAM_WIDTH)
        self.specific_projection_v = _projection(width)
        self.specific_projection_a = _projection(width)
        self.specific_projection_l = _projection(width)
        self.invariant_projection = _projection(width)
        self.distriminator = nn.Sequential(nn.Linear(width, len(MODALITIES)))
        self.transformer = _Transformer(width, dropout=0.1, block_dropout=0.5)
        self.dropout = nn.Dropout(0.5)
        for name, head in variant.heads(shape).items():
            self.add_module(name, head)

    def encode_face(self, pictures: Tensor) -> Tensor:
        """Face crops (N, 3, 112, 112) to face tokens (N, 128): what a stream can compute once a frame."""
        tokens: Tensor = self.proj_v1(self.subnet.f_extractor.features(pictures))
        return tokens

    def fuse(self, face_tokens: Tensor, eye: Tensor, gaze: Tensor) -> dict[str, Tensor]:
        """Face tokens (B, 8, 128), eye (B, 32, 39) and gaze (B, 32, 2) to what `forward` returns."""
        streams = (face_tokens, self.subnet.e_lstm(eye)[0], self.subnet.v_lstm(gaze)[0])
        streams = tuple(self.dropout(stream) for stream in streams)
        # The checkpoints' letters: v(ision) is the face, a(udio) the eye, l(anguage) the gaze.
        projections = (self.specific_projection_v, self.specific_projection_a, self.specific_projection_l)
        specific = [project(stream) for project, stream in zip(projections, streams, strict=True)]
        invariant = [self.invariant_projection(stream) for stream in streams]

        outputs: dict[str, Tensor] = {}
        for name, tokens in zip(MODALITIES, invariant, strict=True):
            outputs[f"inv_{name}"] = self.distriminator(reverse_gradient(tokens.mean(dim=1)))
        for name, tokens in zip(MODALITIES, specific, strict=True):
            outputs[f"spec_{name}"] = self.distriminator(tokens.mean(dim=1))

        pooled = self.transformer(torch.cat(specific, dim=1), torch.cat(invariant, dim=1))
        if self.shape.variant == "in_model":
            outputs["out"] = self.cls_head_e(pooled)
            outputs["extra"] = self.cls_head_in(pooled)
            return outputs
        outputs["out"] = self.cls_head(pooled)
        if self.shape.variant == "model_D":
            outputs["extra"] = pooled
        return outputs

    def forward(self, face: Tensor, eye: Tensor, gaze: Tensor) -> dict[str, Tensor]:
        """Answer for a batch of clips.

        Parameters
        ----------
        face : Tensor
            (B, 8, 3, 112, 112) float, blue, green and red planes in [0, 1] (the published preprocessing).
        eye : Tensor
            (B, 32, 39) float, the eye tracker's columns as recorded.
        gaze : Tensor
            (B, 32, 2) float, gaze points.

        Returns
        -------
        dict of str to Tensor
            `inv_face`, `inv_eye`, `inv_gaze`, `spec_face`, `spec_eye`, `spec_gaze`: (B, 3) logits of the modality
            discriminator; `out`: (B, outputs); `extra`: for ``"in_model"`` the intensity (B, intensities), for
            ``"model_D"`` the pooled features (B, 32), else absent.

        Raises
        ------
        TypeError
            If an argument is no tensor.
        ValueError
            If an argument's shape or dtype is another, or the batches differ; the message names the argument.
        """
        for name, value, expected in (("face", face, FACE_SHAPE), ("eye", eye, EYE_SHAPE), ("gaze", gaze, GAZE_SHAPE)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
            if value.ndim != len(expected) + 1 or value.shape[1:] != expected:
                wanted = ", ".join(str(side) for side in expected)
                raise ValueError(f"{name} must have shape (B, {wanted}), got {tuple(value.shape)}")
            if not value.is_floating_point():
                raise ValueError(f"{name} must be of a floating-point dtype, got {value.dtype}")
            if value.shape[0] != face.shape[0]:
                raise ValueError(f"{name} has a batch of {value.shape[0]}, face one of {face.shape[0]}")
        tokens = self.encode_face(face.flatten(0, 1)).reshape(face.shape[0], FACE_TOKENS, _STREAM_WIDTH)
        return self.fuse(tokens, eye, gaze)


def load_published(state_dict: Mapping[str, Any]) -> PublishedEmert:
    """Make the published variant whose tensors these are.

    The variant, its number of classes or regression outputs, and its heads are found from names and shapes. Names may
    all begin with ``module.``, as PyTorch's DataParallel writes them.

    Parameters
    ----------
    state_dict : mapping of str to Tensor or numpy.ndarray
        All tensors of a checkpoint: float32, but for the counters of the batch norms, which are int64. They are copied.

    Returns
    -------
    PublishedEmert
        On the CPU, in evaluation mode.

    Raises
    ------
    TypeError
        If `state_dict` is no mapping, or a name in it is no string.
    ValueError
        If it is none of the four variants. The message names the first tensor that does not fit the nearest one: in
        the model's order what is missing or of a wrong shape or dtype, then in the mapping's order what is too much.

    Examples
    --------
    >>> untrained = PublishedEmert(PublishedShape("model_D", outputs=3))
    >>> model = load_published(untrained.state_dict())
    >>> model.shape.outputs, model.shape.width
    (3, 32)
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping of names to tensors, got {type(state_dict).__name__}")
    for name in state_dict:
        if not isinstance(name, str):
            raise TypeError(f"state_dict must have strings as names, got {name!r}")
    prefix = "module." if state_dict and all(name.startswith("module.") for name in state_dict) else ""
    tensors = {name[len(prefix) :]: _as_tensor(name, value) for name, value in state_dict.items()}

    candidates = [_Candidate.of(_shape_seen(variant, tensors), tensors, prefix) for variant in _VARIANTS]
    # What contradicts a variant weighs more than what is missing: a file that was cut short is still of its kind.
    nearest = min(candidates, key=lambda candidate: (candidate.contradictions, candidate.missing))
    if nearest.first_fault is not None:
        raise ValueError(
            f"not a published EMERT checkpoint (compared with its nearest variant, {nearest.shape.variant!r}): "
            f"{nearest.first_fault}"
        )
    model = _on_no_device(nearest.shape).to_empty(device="cpu")
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth`` or ``.pt`` file; no code in it is run.

    A file that holds the tensors under ``state_dict``, ``model_state_dict`` or ``model``, beside an epoch or an
    optimiser, is unwrapped.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the file's order; what `load_published` takes.

    Raises
    ------
    EmertError
        If there is no such file, it is broken, or it holds other things than named tensors.
    """
    path = Path(path)
    return _unwrapped(path, read_content(path))


def published_loss(
    outputs: Mapping[str, Tensor],
    targets: Tensor,
    *,
    intensity: Tensor | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    delta: float = 1.0,
) -> Tensor:
    """Loss of the published training: α · Σ CE(invariant) + β · Σ CE(specific) + δ · task.

    The sums run over face, eye and gaze: the cross-entropy of the discriminator's answer against the modality that the
    features came from. The task's loss is the cross-entropy of `out` for integer targets, smooth L1 for real ones, and
    with `intensity` given the cross-entropy of `out` plus the smooth L1 of `extra`. All are means over the batch.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        What `PublishedEmert.forward` returned.
    targets : Tensor
        (B,) int64 classes; or (B, n) float, (B,) where n is 1, the values to regress.
    intensity : Tensor, optional
        (B,) or (B, n) float, for the variant ``"in_model"``.
    alpha, beta, delta : float
        Weights; left out they are the published scripts': 0.01 and 0.01, with `intensity` 0.3 and 0.1, and 1.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        If targets do not fit the outputs; the message names the argument.
    """
    out = outputs["out"]
    if targets.is_floating_point():
        if intensity is not None:
            raise ValueError(f"targets must be int64 classes where intensity is given, got {targets.dtype}")
        task = F.smooth_l1_loss(out, _shaped_as(out, "targets", targets))
    else:
        if targets.dtype != torch.int64 or targets.shape != out.shape[:1]:
            raise ValueError(
                f"targets must be int64 classes of shape ({out.shape[0]},), got {targets.dtype} {tuple(targets.shape)}"
            )
        if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < out.shape[1]:
            raise ValueError(f"targets must be classes from 0 to {out.shape[1] - 1}, got {targets.tolist()}")
        task = F.cross_entropy(out, targets)
    if intensity is not None:
        if "extra" not in outputs:
            raise ValueError("intensity was given, but the outputs have no `extra`: only 'in_model' estimates it")
        task = task + F.smooth_l1_loss(outputs["extra"], _shaped_as(outputs["extra"], "intensity", intensity))
        alpha, beta = 0.3 if alpha is None else alpha, 0.1 if beta is None else beta
    alpha, beta = 0.01 if alpha is None else alpha, 0.01 if beta is None else beta

    def domain(kind: str) -> Tensor:
        terms = [
            F.cross_entropy(logits, torch.full_like(logits[:, 0], label, dtype=torch.int64))
            for label, logits in enumerate(outputs[f"{kind}_{name}"] for name in MODALITIES)
        ]
        return torch.stack(terms).sum()

    return alpha * domain("inv") + beta * domain("spec") + delta * task


def _shaped_as(output: Tensor, name: str, target: Tensor) -> Tensor:
    # A (B,) target against a (B, 1) output would broadcast to (B, B) and train on every pair.
    if target.ndim == 1 and output.shape[1] == 1:
        target = target[:, None]
    if target.shape != output.shape or not target.is_floating_point():
        raise ValueError(
            f"{name} must be float of shape {tuple(output.shape)}, got {target.dtype} {tuple(target.shape)}"
        )
    return target


def _on_no_device(shape: PublishedShape) -> PublishedEmert:
    # Meta tensors have shapes alone: neither memory nor random numbers are spent on weights that a file will give.
    with torch.device("meta"):
        return PublishedEmert(shape)


@functools.lru_cache(maxsize=16)
def _expected(shape: PublishedShape) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in _on_no_device(shape).state_dict().items()}


def _as_tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray | np.generic):
        try:
            return torch.tensor(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"tensor {name!r} cannot be read from an array of dtype {value.dtype}") from error
    raise ValueError(f"tensor {name!r} is not a tensor but of type {type(value).__name__}")


def _rows(tensors: Mapping[str, Tensor], layer: str, default: int) -> int:
    """Width of a linear layer's output as its weight says, else its bias, else `default`."""
    for name, ndim in ((f"{layer}.weight", 2), (f"{layer}.bias", 1)):
        if name in tensors and tensors[name].ndim == ndim and tensors[name].shape[0] > 0:
            return int(tensors[name].shape[0])
    return default


def _shape_seen(variant: str, tensors: Mapping[str, Tensor]) -> PublishedShape:
    return PublishedShape(
        variant,
        outputs=_rows(tensors, _VARIANTS[variant].output_layer, PublishedShape.outputs),
        intensities=_rows(tensors, _INTENSITY_LAYER, PublishedShape.intensities),
        spare_rows=_rows(tensors, _SPARE_LAYER, PublishedShape.spare_rows),
    )


@dataclass(frozen=True)
class _Candidate:
    """A variant beside the tensors that were given."""

    shape: PublishedShape
    contradictions: int
    missing: int
    first_fault: str | None

    @classmethod
    def of(cls, shape: PublishedShape, tensors: Mapping[str, Tensor], prefix: str) -> _Candidate:
        wanted = _expected(shape)
        missing, wrong, faults = 0, 0, []
        for name, (sides, dtype) in wanted.items():
            if name not in tensors:
                missing += 1
                faults.append(f"tensor {prefix + name!r} is missing")
                continue
            given = tensors[name]
            if given.shape != sides:
                wrong += 1
                faults.append(
                    f"tensor {prefix + name!r} has shape {tuple(given.shape)}, expected is {tuple(sides)}"
                    + _why(name, tensors, prefix)
                )
            elif given.dtype != dtype:
                wrong += 1
                faults.append(f"tensor {prefix + name!r} has dtype {given.dtype}, expected is {dtype}")
        surplus = [name for name in tensors if name not in wanted]
        faults += [f"tensor {prefix + name!r} belongs to no part of it" for name in surplus]
        return cls(shape, wrong + len(surplus), missing, faults[0] if faults else None)


def _why(name: str, tensors: Mapping[str, Tensor], prefix: str) -> str:
    """Where a bias was measured by its weight, the weight may be the one that is wrong: name it as well."""
    weight = name.removesuffix("bias") + "weight"
    if not name.endswith(".bias") or weight not in tensors:
        return ""
    return f" beside {prefix + weight!r} of shape {tuple(tensors[weight].shape)}"


def _unwrapped(path: Path, content: object) -> dict[str, Tensor]:
    inside = ""
    while isinstance(content, Mapping):
        wrapper = next(
            (key for key in ("state_dict", "model_state_dict", "model") if isinstance(content.get(key), Mapping)), None
        )
        if wrapper is None:
            break
        content, inside = content[wrapper], f"{inside}[{wrapper!r}]"
    if not isinstance(content, Mapping):
        raise EmertError(f"{path}: holds a {type(content).__name__}{inside and f' under {inside}'}, not named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise EmertError(
                f"{path}: entry {inside}[{name!r}] is of type {type(value).__name__}, not a tensor; "
                "tensors are looked for at the top, or under 'state_dict', 'model_state_dict' or 'model'"
            )
    return dict(content)
