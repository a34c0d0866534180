"""Three-stage ResNets for small images on small machines: ``resnet<depth>-s2-w<width>``."""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

NAME_PATTERN = re.compile(r"resnet(?P<depth>\d+)-s(?P<stride>[12])-w(?P<width>\d+)")
NAME_FORMAT = "resnet<8|14|20|…>-s<stem stride>-w<width>"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,O,H/s,W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """Stem, three stages of widths W, 2W, 4W, global average pooling and a linear head."""

    def __init__(self, blocks: int, stem_stride: int, width: int, classes: int, channels: int):
        super().__init__()
        kernel = 4 if stem_stride == 2 else 3
        self.conv = nn.Conv2d(channels, width, kernel, stem_stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        layers, in_channels = [], width
        for stage in range(3):
            out_channels = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(in_channels, out_channels, stride))
                in_channels = out_channels
        self.stages = nn.Sequential(*layers)
        self.fc = nn.Linear(in_channels, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, 4W) of normalised images (B,C,H,W)."""
        y = self.stages(F.relu(self.bn(self.conv(x))))
        return y.mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.fc(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network called ``name``: depth 6 n + 2 has n blocks a stage, resnet8 one.

    Raises:
        RetortError: the depth is none of 8, 14, 20, …
    """
    match = NAME_PATTERN.fullmatch(name)
    blocks, rest = divmod(int(match["depth"]) - 2, 6)
    if rest or blocks < 1:
        raise RetortError(f"model '{name}': the depth must be 6 n + 2, such as resnet8")
    return SmallResNet(blocks, int(match["stride"]), int(match["width"]), classes, channels)
