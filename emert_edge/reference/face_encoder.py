"""Encoders of pictures: a face crop to a face token, a gaze-fused scene frame to a fixation token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["FACE_SIZES", "FaceEncoder", "FixationEncoder", "ResidualBlock", "residual_network"]

#: Rows and columns of the crop that each size of encoder takes.
FACE_SIZES = {"nano": (48, 48), "base": (112, 112), "large": (112, 112)}


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut, as in ResNet-18; plain ReLU, so that it quantises well."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


def residual_network(stem: nn.Module, width_in: int, widths: Sequence[int], depths: Sequence[int]) -> nn.Sequential:
    """A stem, stages of residual blocks, a mean over the picture; every stage but the first halves it.

    Returns
    -------
    nn.Sequential
        (batch, 3, H, W) to (batch, widths[-1]).
    """
    stages: list[nn.Module] = [stem]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        stride = 2 if index else 1
        rest = [ResidualBlock(width, width) for _ in range(depth - 1)]
        stages.append(nn.Sequential(ResidualBlock(width_in, width, stride), *rest))
        width_in = width
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


class Luminance(nn.Module):
    """Weighted sum of red, green and blue (ITU-R BT.601): public sets of labelled faces are mostly grey."""

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """(batch, 3, H, W), the same mean and deviation for each plane, to (batch, 1, H, W)."""
        return (frame * self.weights).sum(1, keepdim=True)


def _backbone(size: str) -> tuple[nn.Sequential, int]:
    if size == "base":  # ResNet-18: 7 × 7 stem, four stages of two blocks
        stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        widths: tuple[int, ...] = (64, 128, 256, 512)
        return residual_network(stem, 64, widths, (2, 2, 2, 2)), widths[-1]
    if size == "large":  # ResNet-18 that keeps 56 × 56 where `base` pools to 28 × 28; 11.2 M parameters, 1.7 GMAC
        stem = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        widths = (64, 128, 256, 512)
        return residual_network(stem, 64, widths, (2, 2, 2, 2)), widths[-1]
    # nano: one block at the picture's own 48 pixels, then stages at 24, 12 and 6; 1.5 M parameters, 149 MMAC
    stem = nn.Sequential(
        Luminance(),
        nn.Conv2d(1, 24, 3, 1, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(inplace=True),
    )
    widths = (24, 48, 96, 184)
    return residual_network(stem, 24, widths, (1, 2, 2, 2)), widths[-1]


class FaceEncoder(nn.Module):
    """One face crop to one token, and to the expression that this frame alone shows.

    Parameters
    ----------
    size : {"nano", "base", "large"}
        Which residual network: `base` is ResNet-18 at 112 × 112, `nano` a smaller one of the same blocks, at 48 × 48
        and on the luminance alone; `large` is `base` without the stem's pooling, 3.5 times its work, made to teach.
    width : int
        Width of the token.
    classes : int
        Number of expressions.
    """

    def __init__(self, size: str, width: int, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.size = size
        self.backbone, features = _backbone(size)
        self.project = nn.Linear(features, width)
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 3, H, W) to a token (batch, D) and logits (batch, classes); H and W by `FACE_SIZES`."""
        token = self.project(self.backbone(frame))
        return token, self.classify(token)


class FixationEncoder(nn.Module):
    """One gaze-fused scene frame (RGB and fixation map) to one token.

    The last feature map is flattened, not averaged: where somebody looks is what a fixation map says.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 16, 5, 4, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 48, 3, 2, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
            nn.Conv2d(48, 12, 1), nn.ReLU(inplace=True), nn.Flatten(1),
        )  # fmt: skip
        self.project = nn.Linear(12 * 7 * 7, width)

    def forward(self, fused: Tensor) -> Tensor:
        """(batch, 4, 112, 112) to (batch, D)."""
        token: Tensor = self.project(self.features(fused))
        return token


def multiply_accumulates(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulate operations of convolutions and linear layers for one pass over `example`."""
    total = 0

    def conv(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        taps = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        total += taps * out.numel()

    def linear(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Linear)
        total += layer.in_features * out.numel()

    hooks = [layer.register_forward_hook(conv) for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    hooks += [layer.register_forward_hook(linear) for layer in module.modules() if isinstance(layer, nn.Linear)]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(example)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
