"""ResNet-18 and ResNet-50 under torchvision's tensor names, so that checkpoints which hold one can be loaded.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (arXiv 1512.03385). The face encoders of the product's
own model are made of the same blocks in `face_encoder`; only names and the output layer differ here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from emert_edge.reference.face_encoder import ResidualBlock

__all__ = ["Bottleneck", "ResNet", "ResNet18", "ResNet50"]


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3, 1 × 1 convolutions and a shortcut; the stride is the 3 × 3 one's, as in torchvision."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        width_out = width * self.expansion
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, a mean, and an output layer; tensors are named as torchvision names them.

    Parameters
    ----------
    classes : int
        Rows of the output layer `fc` (1000 on ImageNet), which `features` does not use; 0 leaves it out.
    """

    block: ClassVar[type[ResidualBlock] | type[Bottleneck]]
    depths: ClassVar[tuple[int, int, int, int]]
    width: ClassVar[int]
    """Of `features`."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(64, 0)
        self.layer2 = self._stage(self.width // 8, 1)
        self.layer3 = self._stage(self.width // 4, 2)
        self.layer4 = self._stage(self.width // 2, 3)
        if classes:
            self.fc = nn.Linear(self.width, classes)

    def _stage(self, width_in: int, index: int) -> nn.Sequential:
        width, width_out = 64 << index, self.width >> (3 - index)
        rest = [self.block(width_out, width) for _ in range(self.depths[index] - 1)]
        return nn.Sequential(self.block(width_in, width, 2 if index else 1), *rest)

    def features(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) to the mean over the last feature map, (N, width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pictures))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.mean(x, dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes)."""
        logits: Tensor = self.fc(self.features(pictures))
        return logits


class ResNet18(ResNet):
    """Stages of two blocks of two convolutions each."""

    block, depths, width = ResidualBlock, (2, 2, 2, 2), 512


class ResNet50(ResNet):
    """Stages of 3, 4, 6 and 3 bottlenecks."""

    block, depths, width = Bottleneck, (3, 4, 6, 3), 2048
