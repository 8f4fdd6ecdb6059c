"""Emotional reaction intensity (ERI): how strongly a person reacts to what they watch, seven intensities in [0, 1].

The second system of this project, after arXiv 2303.10741: an encoder of single frames, a pooling over the clip's time,
seven sigmoids, scored by the mean Pearson correlation over all clips (`pearson`). Sound is one more modality: spans of
a log-mel spectrogram become tokens beside those of the frames.

Tokens that are missing are masked: what an input holds under a mask of 0 has no influence at all, in training neither
(it does not enter a batch normalisation). A learned *nothing* token is always there, so that an empty clip has an
answer as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from emert_edge.bundle.manifest import FaceInput
from emert_edge.errors import EmertError
from emert_edge.reference.checkpoint import load_checkpoint
from emert_edge.reference.face_encoder import FaceEncoder
from emert_edge.reference.published import read_checkpoint
from emert_edge.reference.resnet import ResNet, ResNet18, ResNet50
from emert_edge.reference.settings import Settings

__all__ = [
    "PRESETS",
    "REACTIONS",
    "HumeData",
    "ReactionConfig",
    "ReactionModel",
    "ReactionStage",
    "SimulatedReactions",
    "load_backbone_weights",
    "load_reaction_model",
    "pearson",
    "reaction_loss",
]

#: The seven reactions, in the order of every output and table.
REACTIONS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")

Encoder = Literal["resnet18", "resnet50", "nano", "base"]
Pooling = Literal["mean", "lstm", "transformer"]
LossKind = Literal["pearson", "mse", "both"]

_FACE = FaceInput()
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ReactionConfig:
    """What a reaction model is made of, and how its clips are cut. Everything else follows from it."""

    encoder: Encoder = "resnet18"
    """Of single frames: `resnet18` and `resnet50` as ImageNet knows them, `nano` and `base` as `FaceEncoder`."""
    pooling: Pooling = "transformer"
    """Over time: the mean, a bidirectional LSTM, or a transformer with a query of its own."""
    audio: bool = False
    """Whether sound is heard as well."""
    size: tuple[int, int] = (112, 112)
    """Rows and columns of a face crop."""
    face_scale: float = 1.12
    """Side of the square crop over the side of the face box."""
    frames: int = 8
    """Frames of a clip, evenly over its time, T."""
    spans: int = 8
    """Spans of sound of a clip, evenly over its time, A."""
    span_frames: int = 96
    """Spectra in a span, 10 ms apart, M."""
    mel_bins: int = 64
    """Bands of a spectrum, B."""
    width: int = 128
    """Of a token."""
    layers: int = 2
    """Of the LSTM or the transformer."""
    heads: int = 4
    dropout: float = 0.1
    reactions: int = len(REACTIONS)

    def __post_init__(self) -> None:
        for name, known in (("encoder", get_args(Encoder)), ("pooling", get_args(Pooling))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("frames", "spans", "span_frames", "mel_bins", "width", "layers", "heads", "reactions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 16:
            raise ValueError(f"size must be rows and columns of at least 16 pixels, got {self.size}")
        if not self.face_scale > 0:
            raise ValueError(f"face_scale must be positive, got {self.face_scale}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width ({self.width}) must be a multiple of twice the heads ({self.heads})")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ReactionConfig:
        """From what `to_dict` gave.

        Raises
        ------
        ValueError
            For a key that is none of this class, or a value that it cannot have.
        """
        unknown = set(content) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown model settings: {', '.join(sorted(unknown))}")
        values = dict(content)
        if "size" in values:
            values["size"] = tuple(values["size"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)


#: Configurations by name: five that see, two that hear as well.
PRESETS: dict[str, ReactionConfig] = {
    "resnet18-mean": ReactionConfig(pooling="mean"),
    "resnet18-lstm": ReactionConfig(pooling="lstm"),
    "resnet18-transformer": ReactionConfig(),
    "resnet50-transformer": ReactionConfig(encoder="resnet50"),
    "nano-transformer": ReactionConfig(encoder="nano", size=(48, 48)),
    "resnet18-audio": ReactionConfig(audio=True),
    "resnet50-audio": ReactionConfig(encoder="resnet50", audio=True),
}


class FrameEncoder(nn.Module):
    """Face crops to tokens, whatever the network behind.

    Frames come normalised as for every face encoder of ours (mean 0.5, deviation 0.25); the ResNets see them as those
    of ImageNet do.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, config: ReactionConfig) -> None:
        super().__init__()
        mean, std = _FACE.mean, _FACE.std
        self.features: nn.Module
        self.project: nn.Module
        if config.encoder in ("resnet18", "resnet50"):
            mean, std = _IMAGENET_MEAN, _IMAGENET_STD
            network = ResNet18(classes=0) if config.encoder == "resnet18" else ResNet50(classes=0)
            self.features, self.project = network, nn.Linear(network.width, config.width)
        else:
            encoder = FaceEncoder(config.encoder, config.width, 1)
            self.features, self.project = encoder.backbone, encoder.project
        ours, theirs = torch.tensor((_FACE.mean, _FACE.std)), torch.tensor((mean, std))
        self.register_buffer("gain", (ours[1] / theirs[1]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((ours[0] - theirs[0]) / theirs[1]).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, width)."""
        x = (frames * self.gain + self.shift).contiguous(memory_format=torch.channels_last)
        features = self.features.features(x) if isinstance(self.features, ResNet) else self.features(x)
        token: Tensor = self.project(features)
        return token


class SoundEncoder(nn.Module):
    """Spans of a log-mel spectrogram to tokens: pitch keeps its place, time within a span is averaged."""

    def __init__(self, config: ReactionConfig) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.BatchNorm2d(1),
            nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        )  # fmt: skip
        rows = -(-config.mel_bins // 8)
        self.project = nn.Linear(32 * rows, config.width)

    def forward(self, spans: Tensor) -> Tensor:
        """(N, mel bins, spectra), dB, to (N, width)."""
        token: Tensor = self.project(self.features(spans.unsqueeze(1)).mean(3).flatten(1))
        return token


class _Mean(nn.Module):
    """The mean over the tokens that are there; *nothing* where none is."""

    def __init__(self, config: ReactionConfig) -> None:
        super().__init__()
        self.nothing = nn.Parameter(0.02 * torch.randn(config.width))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        count = present.sum(1, keepdim=True)
        return torch.where(count > 0, tokens.sum(1) / count.clamp(min=1), self.nothing)


class _Lstm(nn.Module):
    """Both directions over the tokens that are there, *nothing* before them; the last state of each."""

    def __init__(self, config: ReactionConfig) -> None:
        super().__init__()
        self.nothing = nn.Parameter(0.02 * torch.randn(config.width))
        self.lstm = nn.LSTM(
            config.width, config.width // 2, config.layers, batch_first=True, bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )  # fmt: skip

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        # What is there moves to the front, in its order; the rest is never read.
        order = torch.argsort((~present).to(torch.uint8), dim=1, stable=True)
        moved = tokens.gather(1, order.unsqueeze(-1).expand_as(tokens))
        sequence = torch.cat([self.nothing.expand(len(tokens), 1, -1), moved], 1)
        packed = nn.utils.rnn.pack_padded_sequence(
            sequence, present.sum(1).cpu() + 1, batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.lstm(packed)
        return torch.cat([state[-2], state[-1]], 1)


class _Transformer(nn.Module):
    """A learned query reads the tokens that are there."""

    def __init__(self, config: ReactionConfig) -> None:
        super().__init__()
        self.nothing = nn.Parameter(0.02 * torch.randn(config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        sequence = torch.cat([self.nothing.expand(len(tokens), 1, -1), tokens], 1)
        absent = torch.cat([torch.zeros_like(present[:, :1]), ~present], 1)
        read: Tensor = self.layers(sequence, src_key_padding_mask=absent)
        return read[:, 0]


_POOLINGS: dict[str, type[nn.Module]] = {"mean": _Mean, "lstm": _Lstm, "transformer": _Transformer}


class ReactionModel(nn.Module):
    """Clips to reaction intensities.

    Parameters
    ----------
    config : ReactionConfig
    """

    order: Tensor
    seen: Tensor

    def __init__(self, config: ReactionConfig = ReactionConfig()) -> None:
        super().__init__()
        self.config = config
        self.frame_encoder = FrameEncoder(config)
        self.sound_encoder = SoundEncoder(config) if config.audio else None
        counts = [config.frames] + ([config.spans] if config.audio else [])
        # A deep encoder's tokens grow until they saturate the pooling, which then learns no more.
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in counts)
        self.place = nn.Parameter(0.02 * torch.randn(sum(counts), config.width))
        # Frames and spans both lie evenly over the clip: one sequence in the order of time.
        times = torch.cat([(torch.arange(count) + 0.5) / count for count in counts])
        self.register_buffer("order", torch.argsort(times, stable=True), persistent=False)
        self.register_buffer("seen", self.order < config.frames, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.pool = _POOLINGS[config.pooling](config)
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.reactions))

    def forward(
        self, frames: Tensor, frame_mask: Tensor, audio: Tensor | None = None, audio_mask: Tensor | None = None
    ) -> Tensor:
        """Intensities of a batch of clips.

        Parameters
        ----------
        frames : Tensor
            (batch, T, 3, H, W), normalised face crops, oldest first.
        frame_mask : Tensor
            (batch, T), above 0.5 where a frame is real.
        audio : Tensor, optional
            (batch, A, B, M), log-mel spans in dB, oldest first. A model that hears takes a batch without sound too.
        audio_mask : Tensor, optional
            (batch, A), above 0.5 where a span is real; all are where it is left out.

        Returns
        -------
        Tensor
            (batch, 7) in [0, 1], in the order of `REACTIONS`.

        Raises
        ------
        ValueError
            If a shape does not fit the configuration, or a model that only sees is given sound.
        """
        return self.answer(*self.encode(frames, frame_mask, audio, audio_mask))

    def encode(
        self, frames: Tensor, frame_mask: Tensor, audio: Tensor | None = None, audio_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The tokens of a batch of clips in the order of time, and which of them are there.

        Takes what `forward` takes.

        Returns
        -------
        (Tensor, Tensor)
            (batch, N, width) float32 and (batch, N) bool, N = T, or T + A for a model that hears; `seen` (N,) tells
            which of the N are frames.
        """
        config = self.config
        batch = frames.shape[0]
        _require("frames", frames, (batch, config.frames, 3, *config.size))
        _require("frame_mask", frame_mask, (batch, config.frames))
        tokens = [self.norms[0](_encoded(self.frame_encoder, frames, frame_mask, config.width))]
        present = [frame_mask > 0.5]
        if self.sound_encoder is None:
            if audio is not None:
                raise ValueError("audio was given to a model that only sees; configure it with audio=True")
        else:
            if audio is None:
                audio = frames.new_zeros(batch, config.spans, config.mel_bins, config.span_frames)
                audio_mask = frames.new_zeros(batch, config.spans)
            elif audio_mask is None:
                audio_mask = audio.new_ones(audio.shape[:2])
            assert audio_mask is not None
            _require("audio", audio, (batch, config.spans, config.mel_bins, config.span_frames))
            _require("audio_mask", audio_mask, (batch, config.spans))
            tokens.append(self.norms[1](_encoded(self.sound_encoder, audio, audio_mask, config.width)))
            present.append(audio_mask > 0.5)
        return (torch.cat(tokens, 1) + self.place)[:, self.order], torch.cat(present, 1)[:, self.order]

    def answer(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Intensities (batch, 7) from what `encode` gives; what is not `present` has no influence."""
        sequence = torch.where(present.unsqueeze(-1), self.dropout(tokens), 0.0)
        return torch.sigmoid(self.head(self.pool(sequence, present)).float())


def _require(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")


def _encoded(encoder: nn.Module, inputs: Tensor, mask: Tensor, width: int) -> Tensor:
    """(batch, N, ...) to (batch, N, width), float32; only what is there is encoded, the rest is 0."""
    there = (mask > 0.5).flatten()
    tokens = torch.zeros(there.shape[0], width, dtype=torch.float32, device=inputs.device)
    rows = there.nonzero().squeeze(1)
    if len(rows):
        tokens = tokens.index_copy(0, rows, encoder(inputs.flatten(0, 1)[rows]).float())
    return tokens.reshape(*mask.shape, width)


# Below this variance (a deviation of 1e-5 of the range) a column counts as constant.
_CONSTANT = 1e-10


def pearson(predicted: Tensor, target: Tensor) -> Tensor:
    """Pearson's correlation of each column, over all rows at once, differentiable.

    A constant column has no correlation; it counts as 0, and a constant prediction still has a gradient away from it.

    Parameters
    ----------
    predicted, target : Tensor
        (n, k).

    Returns
    -------
    Tensor
        (k,) float32 in [-1, 1].
    """
    x, y = predicted.float(), target.float()
    x, y = x - x.mean(0), y - y.mean(0)
    spread = ((x * x).mean(0) + _CONSTANT) * ((y * y).mean(0) + _CONSTANT)
    return (x * y).mean(0) / spread.sqrt()


def reaction_loss(
    predicted: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    kind: LossKind = "both",
    *,
    pearson_share: float = 0.5,
) -> Tensor:
    """How far intensities are from their labels.

    Parameters
    ----------
    predicted : Tensor
        (batch, k) in [0, 1].
    target : Tensor
        (batch, k) in [0, 1]; anything, also NaN, in rows without labels.
    mask : Tensor, optional
        (batch,), above 0.5 where a row has labels; all have where it is left out.
    kind : {"pearson", "mse", "both"}
        `pearson`: 1 minus the mean over the columns of `pearson` within the batch. `mse`: the mean squared error.
        `both`: `pearson_share` of the one and the rest of the other.
    pearson_share : float
        In [0, 1].

    Returns
    -------
    Tensor
        A scalar; 0 without gradient where no row has labels. A single row has no correlation: its `pearson` is 1.

    Raises
    ------
    ValueError
        For another `kind`, or tensors that do not fit each other.
    """
    if kind not in get_args(LossKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(LossKind))}, got {kind!r}")
    if predicted.shape != target.shape or predicted.ndim != 2:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"predicted and target must have one shape (batch, k), got {shapes}")
    if mask is not None:
        predicted, target = predicted[mask > 0.5], target[mask > 0.5]
    if not len(predicted):
        return predicted.sum()
    share = {"pearson": 1.0, "mse": 0.0, "both": pearson_share}[kind]
    loss = predicted.new_zeros((), dtype=torch.float32)
    if share > 0:
        loss = loss + share * (1 - pearson(predicted, target).mean())
    if share < 1:
        loss = loss + (1 - share) * F.mse_loss(predicted.float(), target.float())
    return loss


def _fill(module: nn.Module, tensors: Mapping[str, Any], where: str) -> None:
    """Load tensors into a module; the first that does not fit is named."""
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise EmertError(f"{where}: tensor {name} is missing")
        if tuple(tensors[name].shape) != tuple(tensor.shape):
            raise EmertError(
                f"{where}: tensor {name} has shape {tuple(tensors[name].shape)}, the model needs {tuple(tensor.shape)}"
            )
    surplus = [name for name in tensors if name not in wanted]
    if surplus:
        raise EmertError(f"{where}: tensor {surplus[0]} belongs to no part of the model")
    module.load_state_dict(dict(tensors))


def load_backbone_weights(model: ReactionModel, source: Path | FaceEncoder) -> None:
    """Begin from a frame encoder that was trained on something else.

    Parameters
    ----------
    model : ReactionModel
    source : Path or FaceEncoder
        For `resnet18` and `resnet50` a file (.pt, .pth) with a state_dict in torchvision's names, such as the weights
        of ImageNet that torchvision gives; its output layer is not used. For `nano` and `base` a face encoder, or the
        `face_encoder.pt` that a stage of expressions left.

    Raises
    ------
    EmertError
        If the file cannot be read as tensors, or is not of this network; the message names the first tensor.
    """
    encoder = model.frame_encoder
    if isinstance(encoder.features, ResNet):
        if not isinstance(source, Path):
            raise EmertError(
                f"a face encoder of ours cannot initialise {model.config.encoder}: give a file with torchvision's "
                "names, or configure the encoder as nano or base"
            )
        tensors = {name.removeprefix("module."): tensor for name, tensor in read_checkpoint(source).items()}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
        # Files from before PyTorch 0.4 count no batches; with a fixed momentum nothing reads the counter.
        for name, tensor in encoder.features.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensors.setdefault(name, tensor)
        _fill(encoder.features, tensors, str(source))
        return
    where = str(source) if isinstance(source, Path) else "face encoder"
    held: Any = load_checkpoint(source).get("face_encoder") if isinstance(source, Path) else source.state_dict()
    if not isinstance(held, Mapping):
        raise EmertError(f"{where}: holds no face encoder (a stage of expressions leaves face_encoder.pt)")
    wanted = nn.ModuleDict({"backbone": encoder.features, "project": encoder.project})
    _fill(wanted, {name: tensor for name, tensor in held.items() if not name.startswith("classify.")}, where)


def load_reaction_model(path: Path) -> tuple[ReactionModel, dict[str, Any]]:
    """The trained model of a finished stage of reactions, and what the checkpoint holds beside its weights.

    Returns
    -------
    (ReactionModel, dict)
        In evaluation mode; `reactions` in the dict names its outputs.

    Raises
    ------
    EmertError
        If the file is missing, not ours, or its weights do not fit its settings; the message names the first tensor.
    """
    content = load_checkpoint(path)
    for key in ("reaction_config", "reaction_model"):
        if key not in content:
            raise EmertError(f"{path}: not a finished reaction model of emert_edge ({key!r} is missing)")
    try:
        model = ReactionModel(ReactionConfig.from_dict(content["reaction_config"]))
    except (ValueError, TypeError) as error:
        raise EmertError(f"{path}: {error}") from error
    _fill(model, content["reaction_model"], str(path))
    return model.eval(), {key: value for key, value in content.items() if key != "reaction_model"}


class HumeData(Settings):
    """Clips in the layout of Hume-Reaction; the data are under their own licence and must be had from their owners."""

    kind: Literal["hume"]
    table: Path = Field(description="CSV: File_ID, the seven intensities, Split")
    media: Path = Field(description="folder of <id>.mp4, or of folders <id> with cropped frames")
    sound: Path | None = Field(None, description="folder of <id>.wav; the media folder and the videos if not given")
    detector: Literal["auto", "haar", "yunet", "whole"] = Field(
        "auto", description="what finds faces; auto: the best one to be had for videos, whole for folders of frames"
    )
    detector_model: Path | None = Field(None, description="YuNet's model file; the user's store's if not given")
    cache: Path | None = Field(None, description="where decoded clips are kept; in the run's folder if not given")
    workers: int = Field(2, ge=1, description="clips that are decoded at a time")


class SimulatedReactions(Settings):
    """Drawn clips whose intensities are known."""

    kind: Literal["simulated"]
    clips: int = Field(400, ge=2, description="for training")
    validation_clips: int = Field(100, ge=2)
    test_clips: int = Field(200, ge=2)
    people: int = Field(40, ge=1, description="drawn people in the training clips; other splits have others")


class ReactionStage(Settings):
    """Train a model of reaction intensities."""

    kind: Literal["reactions"]
    data: Annotated[HumeData | SimulatedReactions, Field(discriminator="kind")]
    preset: str = Field("resnet18-transformer", description="a name in PRESETS")
    model: dict[str, Any] = Field(default_factory=dict, description="what differs from the preset's ReactionConfig")
    backbone: Path | None = Field(
        None, description="weights to begin the frame encoder from: of ImageNet, or a face_encoder.pt"
    )
    after_expressions: bool = Field(False, description="begin from the face encoder that an earlier stage trained")
    loss: LossKind = "both"
    pearson_share: float = Field(0.5, ge=0, le=1, description="of the loss `both`")
    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=2)
    rate: float = Field(1e-3, gt=0, description="highest learning rate of AdamW")
    weight_decay: float = Field(0.05, ge=0)
    drop_modality: float = Field(0.2, ge=0, lt=1, description="share of clips that lose pictures or sound in training")
    drop_tokens: float = Field(0.1, ge=0, lt=1, description="share of tokens lost in training")
    by_sight: float = Field(
        0.5, ge=0, lt=1, description="share of the loss that is on answers from pictures alone, in a model that hears"
    )
    augment: bool = Field(True, description="mirror, move, turn and relight faces in training")
    averaging: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average; 0 averages nothing")
    patience: int = Field(10, ge=1, description="epochs without a better validation after which to stop")

    @property
    def config(self) -> ReactionConfig:
        """The model's configuration: the preset, and what differs from it."""
        return ReactionConfig.from_dict({**PRESETS[self.preset].to_dict(), **self.model})

    @model_validator(mode="after")
    def _possible(self) -> ReactionStage:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        try:
            config = self.config
        except TypeError as error:
            raise ValueError(f"model: {error}") from error
        if config.reactions != len(REACTIONS):
            raise ValueError(f"model: reactions must be {len(REACTIONS)}, got {config.reactions}")
        if self.backbone is not None and self.after_expressions:
            raise ValueError("backbone and after_expressions exclude each other")
        return self
