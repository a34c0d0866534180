"""MobileNetV2 for 32 px images: ``mobilenetv2``.

Sandler et al., CVPR 2018, in the form that robust distillation uses on CIFAR: the stem and the
second stage have stride 1, and a block of stride 1 whose widths differ has a 1x1 shortcut.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

REVISION = 1

NAME_PATTERN = re.compile("mobilenetv2")
NAME_FORMAT = "mobilenetv2"
STAGES = (  # expansion, width, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_WIDTH, LAST_WIDTH = 32, 1280


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1, linear)."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        hidden_channels = expansion * in_channels
        self.has_residual = stride == 1
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden_channels)
        self.conv2 = nn.Conv2d(
            hidden_channels, hidden_channels, 3, stride, 1, groups=hidden_channels, bias=False
        )
        self.bn2 = nn.BatchNorm2d(hidden_channels)
        self.conv3 = nn.Conv2d(hidden_channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride == 1 and in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,O,H/stride,W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return y + self.shortcut(x) if self.has_residual else y


class MobileNetV2(nn.Module):
    """Stem, seven stages, a 1x1 convolution to 1280, global average pooling and a linear head."""

    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        layers, in_channels = [], STEM_WIDTH
        for expansion, width, blocks, stride in STAGES:
            for place in range(blocks):
                layers.append(
                    InvertedResidual(in_channels, width, expansion, stride if place == 0 else 1)
                )
                in_channels = width
        self.layers = nn.Sequential(*layers)
        self.conv2 = nn.Conv2d(in_channels, LAST_WIDTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST_WIDTH)
        self.linear = nn.Linear(LAST_WIDTH, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,1280) of normalised images (B,C,H,W)."""
        y = self.layers(F.relu(self.bn1(self.conv1(x))))
        return F.relu(self.bn2(self.conv2(y))).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.linear(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network; ``name`` can only be ``mobilenetv2``."""
    return MobileNetV2(classes, channels)
