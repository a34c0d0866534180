"""Wide ResNets for 32 px images: ``wrn-<depth>-<widening>``, such as ``wrn-34-10``.

Zagoruyko and Komodakis, BMVC 2016, with the weights' names and the initialisation of TRADES
(Zhang et al., ICML 2019), which most robust checkpoints of this family share.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

NAME_PATTERN = re.compile(r"wrn-(?P<depth>\d+)-(?P<widening>[1-9]\d*)")
NAME_FORMAT = "wrn-<28|34|70|…, 6 n + 4>-<widening>"


class BasicBlock(nn.Module):
    """BatchNorm and ReLU before each 3x3 convolution; a 1x1 shortcut where the widths differ."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.convShortcut = None
        if in_channels != out_channels:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,O,H/stride,W/stride)."""
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    """Blocks of one width; the first may stride."""

    def __init__(self, blocks: int, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        rest = [BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,H,W) -> (B,O,H/stride,W/stride)."""
        return self.layer(x)


class WideResNet(nn.Module):
    """Stem of 16, three stages of 16k, 32k, 64k, global average pooling and a linear head."""

    def __init__(self, blocks: int, widening: int, classes: int, channels: int):
        super().__init__()
        widths = [16, 16 * widening, 32 * widening, 64 * widening]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.block1 = Stage(blocks, widths[0], widths[1], 1)
        self.block2 = Stage(blocks, widths[1], widths[2], 2)
        self.block3 = Stage(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,64k) of normalised images (B,C,H,W)."""
        y = self.block3(self.block2(self.block1(self.conv1(x))))
        return F.relu(self.bn1(y)).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.fc(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network called ``name``: depth 6 n + 4 has n blocks a stage.

    Raises:
        RetortError: the depth is none of 10, 16, 22, 28, 34, …
    """
    match = NAME_PATTERN.fullmatch(name)
    blocks, rest = divmod(int(match["depth"]) - 4, 6)
    if rest or blocks < 1:
        raise RetortError(f"model '{name}': the depth must be 6 n + 4, such as wrn-34-10")
    return WideResNet(blocks, int(match["widening"]), classes, channels)
