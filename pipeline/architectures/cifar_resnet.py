"""ResNets for 32 px images: ``resnet18``, ``resnet34``, ``resnet50``; ``-w<width>`` narrows them.

He et al., CVPR 2016, with the usual changes for CIFAR: a 3x3 stem of stride 1 and no max-pooling.
Weights carry the widespread names (``conv1``, ``layer1.0.conv1``, ``shortcut.0``, ``linear``).
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

REVISION = 1

NAME_PATTERN = re.compile(r"resnet(?P<depth>18|34|50)(-w(?P<width>[1-9]\d*))?")
NAME_FORMAT = "resnet<18|34|50>[-w<stem width, 64>]"
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def build_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """An empty module where the shapes agree, else a 1x1 convolution with BatchNorm."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = build_shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,width,H/stride,W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions with a shortcut; the output has 4 width channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = build_shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,4 width,H/stride,W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Stem, four stages of widths W, 2W, 4W, 8W, global average pooling and a linear head."""

    def __init__(self, depth: int, width: int, classes: int, channels: int):
        super().__init__()
        block = Bottleneck if depth == 50 else BasicBlock
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, in_channels = [], width
        for stage, blocks in enumerate(STAGES[depth]):
            layers, stage_width = [], width * 2**stage
            for place in range(blocks):
                layers.append(block(in_channels, stage_width, 2 if stage > 0 and place == 0 else 1))
                in_channels = stage_width * block.expansion
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(in_channels, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,8W) of normalised images (B,C,H,W); 32W for resnet50."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        return y.mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.linear(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network called ``name``."""
    match = NAME_PATTERN.fullmatch(name)
    return CifarResNet(int(match["depth"]), int(match["width"] or 64), classes, channels)
