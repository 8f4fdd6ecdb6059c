"""ResNet-18 under torchvision's tensor names, so that checkpoints which hold one can be loaded.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (arXiv 1512.03385). The face encoders of the product's
own model are made of the same blocks in `face_encoder`; only names and the output layer differ here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emert_edge.reference.face_encoder import ResidualBlock

__all__ = ["ResNet18"]


class ResNet18(nn.Module):
    """Four stages of two residual blocks; tensors are named as torchvision names them.

    Parameters
    ----------
    classes : int
        Rows of the output layer `fc` (1000 on ImageNet). `features` does not use it.
    """

    width = 512

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64))
        self.layer2 = nn.Sequential(ResidualBlock(64, 128, stride=2), ResidualBlock(128, 128))
        self.layer3 = nn.Sequential(ResidualBlock(128, 256, stride=2), ResidualBlock(256, 256))
        self.layer4 = nn.Sequential(ResidualBlock(256, 512, stride=2), ResidualBlock(512, 512))
        self.fc = nn.Linear(self.width, classes)

    def features(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) to the mean over the last feature map, (N, 512)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pictures))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.mean(x, dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes)."""
        logits: Tensor = self.fc(self.features(pictures))
        return logits
