"""The dual-task EMERT: what a face shows, what a person feels, and how the one helps the other.

This is our model, not the published code: the papers' abstracts (arXiv 2411.05879, 2512.16485) describe modality-
adversarial feature decoupling and a multi-task transformer with eye behaviour beside the face; the authors' code holds
no such dual-task model. Where the abstracts are silent, docs/model.md says what was chosen, and why.

It is made of three parts that a device runs apart, because they are due at different times: `FaceEncoder` and
`FixationEncoder` once a frame, `FusionHead` once an estimate. `Emert` is the three together. Gaze may come as points
instead of fixation maps, as in the published code: then there is no fixation encoder, and the head takes the points.

Tokens that are missing are masked: what an input holds under a mask of 0 has no influence at all. A learned *nothing*
token is always there to be attended to, so that an empty window has an answer as well.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emert_edge.reference.face_encoder import FACE_SIZES, FaceEncoder, FixationEncoder

__all__ = ["HEAD_OUTPUTS", "Decoupled", "Emert", "EmertConfig", "FusionHead", "reverse_gradient"]

#: Outputs of the head in the order of the exported graph; `reactions` follows where the model has that head.
HEAD_OUTPUTS = (
    "emotion_logits",
    "emotion_polarity_logits",
    "emotion_valence_arousal",
    "expression_logits",
    "expression_polarity_logits",
    "expression_valence_arousal",
    "expression_intensity",
)
MAX_INTENSITY = 3.0
_MODALITIES = ("face", "eye", "gaze")  # gaze: fixation maps or points
_BLOCKED = -1e4  # added to a score before the softmax: far below any score, and still finite in half precision


@dataclass(frozen=True)
class EmertConfig:
    """What a model is made of. Everything else follows from it."""

    size: str = "nano"
    """`nano` or `base`: the face encoder's network."""
    token_width: int = 128
    """Width of face and fixation tokens, D."""
    fused_width: int = 64
    """Width of decoupled and fused tokens."""
    face_tokens: int = 8
    eye_tokens: int = 32
    eye_features: int = 39
    classes: int = 7
    polarities: int = 3
    reactions: int = 0
    """Number of reaction intensities; 0 leaves the head out."""
    gaze: Literal["maps", "points"] = "maps"
    """What the third modality is: fixation maps of scene frames, or the gaze points of the eye tokens' spans."""
    blocks: int = 2
    heads: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.size not in FACE_SIZES:
            raise ValueError(f"size must be one of {', '.join(FACE_SIZES)}, got {self.size!r}")
        if self.gaze not in ("maps", "points"):
            raise ValueError(f"gaze must be 'maps' or 'points', got {self.gaze!r}")
        for name in ("token_width", "fused_width", "face_tokens", "eye_tokens", "eye_features", "classes", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.fused_width % self.heads:
            raise ValueError(f"fused_width ({self.fused_width}) must be a multiple of heads ({self.heads})")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> EmertConfig:
        """From what `to_dict` gave.

        Raises
        ------
        ValueError
            For a key that is none of this class.
        """
        unknown = set(content) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown model settings: {', '.join(sorted(unknown))}")
        return cls(**content)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """`x` itself; on the way back its gradient times `-strength`."""
    return _ReverseGradient.apply(x, strength)  # type: ignore[no-any-return, no-untyped-call]


class MaskedAttention(nn.Module):
    """Multi-head attention with an additive bias on the scores; q, k and v without bias, the output with one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.head_width).transpose(1, 2)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """(batch, Q, W) and twice (batch, K, W), bias broadcast to (batch, 1, Q, K), to (batch, Q, W)."""
        q, k, v = self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(values))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_width) + bias
        mixed = torch.softmax(scores, dim=-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CrossAttentionBlock(nn.Module):
    """`t + Attn(LN t, LN s, LN s)`, then `t + FF(LN t)`: as published, queries move and keys stay."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(width)
        self.norm_values = nn.LayerNorm(width)
        self.attention = MaskedAttention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, source: Tensor, bias: Tensor) -> Tensor:
        attended = self.attention(self.norm_queries(tokens), self.norm_keys(source), self.norm_values(source), bias)
        tokens = tokens + self.dropout(attended)
        return tokens + self.dropout(self.feed_forward(tokens))  # type: ignore[no-any-return]


class SequenceTokens(nn.Module):
    """Rows of eye features, or gaze points, to tokens that know their neighbours in time.

    Convolutions over the 32 tokens, not an LSTM as published: each output depends on a bounded past, the graph has no
    loop, and a missing token is a learned vector in its place.
    """

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.missing = nn.Parameter(torch.zeros(width))
        self.mix1 = nn.Conv1d(width, width, 5, padding=2)
        self.mix2 = nn.Conv1d(width, width, 5, padding=2)
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: Tensor, present: Tensor) -> Tensor:
        """(batch, tokens, features) and (batch, tokens, 1) bool to (batch, tokens, width)."""
        tokens = torch.where(present, self.embed(rows), self.missing)
        mixed = tokens.transpose(1, 2)
        mixed = mixed + torch.relu(self.mix1(mixed))
        mixed = mixed + torch.relu(self.mix2(mixed))
        return self.norm(mixed.transpose(1, 2))  # type: ignore[no-any-return]


class TaskHead(nn.Module):
    """From a task's vector to its answers."""

    def __init__(self, config: EmertConfig, *, intensity: bool) -> None:
        super().__init__()
        width = config.fused_width
        self.trunk = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(config.dropout))
        self.classes = nn.Linear(width, config.classes)
        self.polarity = nn.Linear(width, config.polarities)
        self.affect = nn.Linear(width, 2)
        self.intensity = nn.Linear(width, 1) if intensity else None

    def forward(self, vector: Tensor, prefix: str) -> dict[str, Tensor]:
        x = self.trunk(vector)
        outputs = {
            f"{prefix}_logits": self.classes(x),
            f"{prefix}_polarity_logits": self.polarity(x),
            f"{prefix}_valence_arousal": torch.tanh(self.affect(x)),
        }
        if self.intensity is not None:
            outputs[f"{prefix}_intensity"] = MAX_INTENSITY * torch.sigmoid(self.intensity(x))
        return outputs


class Decoupled(NamedTuple):
    """What the decoupling losses need, one entry a modality: face, eye, gaze (fixation maps or points)."""

    specific: tuple[Tensor, ...]
    """Discriminator logits (batch, 3) of the specific features' masked means."""
    invariant: tuple[Tensor, ...]
    """The same of the invariant features, behind a gradient reversal."""
    present: tuple[Tensor, ...]
    """(batch,) bool: whether the modality has any token."""


class FusionHead(nn.Module):
    """Tokens of a window to both answers: decoupling, fusion, one query a task.

    Attributes
    ----------
    input_names : tuple of str
        The inputs that a head of this configuration takes, in the order of the exported graph.
    """

    structure: Tensor
    face_keys: Tensor

    def __init__(self, config: EmertConfig) -> None:
        super().__init__()
        self.config = config
        width, fused, dropout = config.token_width, config.fused_width, config.dropout
        points = config.gaze == "points"
        self.input_names: tuple[str, ...] = ("face_tokens", "face_mask", "eye_tokens", "eye_mask")
        self.input_names += ("gaze_points",) if points else ("fixation_tokens", "fixation_mask")
        total = config.face_tokens + config.eye_tokens + (config.eye_tokens if points else config.face_tokens)
        self.face_in = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))
        self.eye_in = SequenceTokens(config.eye_features, width, dropout)
        if points:
            self.points_in = SequenceTokens(2, width, dropout)
        else:
            self.fixation_in = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))
        # One linear layer each, as published for its wider tokens; the invariant one is shared by all modalities.
        self.specific = nn.ModuleList([nn.Linear(width, fused) for _ in _MODALITIES])
        self.invariant = nn.Linear(width, fused)
        self.discriminator = nn.Linear(fused, len(_MODALITIES))
        self.place_specific = nn.Parameter(0.02 * torch.randn(total, fused))
        self.place_invariant = nn.Parameter(0.02 * torch.randn(total, fused))
        self.nothing = nn.Parameter(0.02 * torch.randn(2, 1, fused))
        self.blocks = nn.ModuleList([CrossAttentionBlock(fused, config.heads, dropout) for _ in range(config.blocks)])
        self.expression_query = nn.Parameter(0.02 * torch.randn(1, fused))
        self.emotion_query = nn.Parameter(0.02 * torch.randn(1, fused))
        self.expression_task = CrossAttentionBlock(fused, config.heads, dropout)
        self.emotion_task = CrossAttentionBlock(fused, config.heads, dropout)
        self.expression = TaskHead(config, intensity=True)
        self.emotion = TaskHead(config, intensity=False)
        self.reactions = nn.Linear(fused, config.reactions) if config.reactions else None
        # Key 0 is the nothing token. A face token may look at face tokens alone, so that what the face shows stays
        # what the face shows; eye and gaze tokens may look at all.
        face = torch.zeros(1 + total, dtype=torch.bool)
        face[: 1 + config.face_tokens] = True
        allowed = face[None, :] | ~face[:, None]
        self.register_buffer("structure", torch.where(allowed, 0.0, _BLOCKED)[None, None], persistent=False)
        self.register_buffer("face_keys", torch.where(face, 0.0, _BLOCKED)[None, None, None], persistent=False)

    def _features(
        self,
        face_tokens: Tensor,
        face_mask: Tensor,
        eye_tokens: Tensor,
        eye_mask: Tensor,
        fixation_tokens: Tensor | None,
        fixation_mask: Tensor | None,
        gaze_points: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        third, mask = fixation_tokens, fixation_mask
        if self.config.gaze == "points":
            third, mask = gaze_points, eye_mask  # a span has a point exactly where it has valid gaze
        if third is None or mask is None:
            raise TypeError(f"this head takes {', '.join(self.input_names)}")
        present = [(mask > 0.5).unsqueeze(-1) for mask in (face_mask, eye_mask, mask)]
        face, eye, gaze = (
            torch.where(there, tokens, 0.0)
            for there, tokens in zip(present, (face_tokens, eye_tokens, third), strict=True)
        )
        streams = [self.face_in(face), self.eye_in(eye, present[1])]
        if self.config.gaze == "points":
            # To about unit spread around the middle; half a screen outside says no more than further away.
            streams.append(self.points_in(4.0 * (gaze.clamp(-0.5, 1.5) - 0.5), present[2]))
        else:
            streams.append(self.fixation_in(gaze))
        specific = [project(stream) for project, stream in zip(self.specific, streams, strict=True)]
        invariant = [self.invariant(stream) for stream in streams]
        return specific, invariant, [there.to(face_tokens.dtype) for there in present]

    def _fuse(self, specific: list[Tensor], invariant: list[Tensor], present: list[Tensor]) -> dict[str, Tensor]:
        batch = specific[0].shape[0]
        nothing = self.nothing.unsqueeze(1).expand(-1, batch, -1, -1)
        source = torch.cat([nothing[0], torch.cat(specific, 1) + self.place_specific], 1)
        tokens = torch.cat([nothing[1], torch.cat(invariant, 1) + self.place_invariant], 1)
        mask = torch.cat([torch.ones_like(present[0][:, :1]), *present], 1)
        keys = ((1.0 - mask) * _BLOCKED).transpose(1, 2).unsqueeze(1)  # (batch, 1, 1, keys)
        bias = keys + self.structure
        for block in self.blocks:
            tokens = block(tokens, source, bias)
        shown = self.expression_query.expand(batch, -1, -1)
        shown = self.expression_task(shown, tokens, keys + self.face_keys)
        felt = self.emotion_query.expand(batch, -1, -1)
        memory = torch.cat([tokens, shown], 1)
        felt = self.emotion_task(felt, memory, torch.cat([keys, torch.zeros_like(keys[..., :1])], -1))
        outputs: dict[str, Tensor] = self.emotion(felt[:, 0], "emotion")
        outputs.update(self.expression(shown[:, 0], "expression"))
        if self.reactions is not None:
            outputs["reactions"] = torch.sigmoid(self.reactions(felt[:, 0]))
        return outputs

    def forward(
        self,
        face_tokens: Tensor,
        face_mask: Tensor,
        eye_tokens: Tensor,
        eye_mask: Tensor,
        fixation_tokens: Tensor | None = None,
        fixation_mask: Tensor | None = None,
        gaze_points: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Answer for a batch of windows; tokens oldest first, masks 1 where a token is real.

        Parameters
        ----------
        face_tokens, fixation_tokens : Tensor
            (batch, 8, D); fixation tokens where the model takes fixation maps.
        eye_tokens : Tensor
            (batch, 32, 39), normalised features.
        face_mask, eye_mask, fixation_mask : Tensor
            (batch, 8), (batch, 32), (batch, 8) float.
        gaze_points : Tensor
            (batch, 32, 2), x and y as fractions of width and height, where the model takes points. Their mask is the
            eye tokens': a span has a point exactly where it has valid gaze.

        Returns
        -------
        dict of str to Tensor
            The names in `HEAD_OUTPUTS`, and `reactions` where the model has that head.

        Raises
        ------
        TypeError
            If fixation tokens are missing where the model takes maps, or points where it takes points.
        """
        return self._fuse(
            *self._features(face_tokens, face_mask, eye_tokens, eye_mask, fixation_tokens, fixation_mask, gaze_points)
        )

    def train_forward(
        self,
        face_tokens: Tensor,
        face_mask: Tensor,
        eye_tokens: Tensor,
        eye_mask: Tensor,
        fixation_tokens: Tensor | None = None,
        fixation_mask: Tensor | None = None,
        gaze_points: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Decoupled]:
        """As `forward`, with what the decoupling losses need."""
        specific, invariant, present = self._features(
            face_tokens, face_mask, eye_tokens, eye_mask, fixation_tokens, fixation_mask, gaze_points
        )

        def judged(features: Tensor, there: Tensor) -> Tensor:
            mean = (features * there).sum(1) / there.sum(1).clamp(min=1.0)
            return self.discriminator(mean)  # type: ignore[no-any-return]

        decoupled = Decoupled(
            tuple(judged(features, there) for features, there in zip(specific, present, strict=True)),
            tuple(
                judged(reverse_gradient(features), there) for features, there in zip(invariant, present, strict=True)
            ),
            tuple(there.sum((1, 2)) > 0 for there in present),
        )
        return self._fuse(specific, invariant, present), decoupled


class Emert(nn.Module):
    """The whole model: both encoders and the head; with gaze points there is no fixation encoder.

    Parameters
    ----------
    config : EmertConfig
    """

    def __init__(self, config: EmertConfig = EmertConfig()) -> None:
        super().__init__()
        self.config = config
        self.face_encoder = FaceEncoder(config.size, config.token_width, config.classes)
        self.fixation_encoder = FixationEncoder(config.token_width) if config.gaze == "maps" else None
        self.head = FusionHead(config)

    def forward(
        self,
        frames: Tensor,
        face_mask: Tensor,
        eye_tokens: Tensor,
        eye_mask: Tensor,
        fused_frames: Tensor | None = None,
        fixation_mask: Tensor | None = None,
        gaze_points: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Answer for a batch of windows from their frames.

        Parameters
        ----------
        frames : Tensor
            (batch, 8, 3, H, W), normalised face crops, oldest first; H and W by `face_encoder.FACE_SIZES`.
        eye_tokens : Tensor
            (batch, 32, 39), normalised features.
        fused_frames : Tensor
            (batch, 8, 4, 112, 112), normalised scene and fixation map, where the model takes maps.
        face_mask, eye_mask, fixation_mask : Tensor
            (batch, 8), (batch, 32), (batch, 8): 1 where a token is real.
        gaze_points : Tensor
            (batch, 32, 2), fractions of width and height, where the model takes points.

        Raises
        ------
        TypeError
            If fused frames are missing where the model takes maps, or points where it takes points.
        """
        face = self.face_encoder(frames.flatten(0, 1))[0].reshape(*frames.shape[:2], -1)
        fixation = None
        if self.fixation_encoder is not None and fused_frames is not None:
            fixation = self.fixation_encoder(fused_frames.flatten(0, 1)).reshape(*fused_frames.shape[:2], -1)
        outputs: dict[str, Tensor] = self.head(
            face, face_mask, eye_tokens, eye_mask, fixation, fixation_mask, gaze_points
        )
        return outputs
