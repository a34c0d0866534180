"""VGG for 32 px images: ``vgg16-bn`` (Simonyan and Zisserman, ICLR 2015, with BatchNorm).

As usual on CIFAR, one linear layer replaces the three large ones.
"""

import re

from torch import Tensor, nn

REVISION = 1

NAME_PATTERN = re.compile("vgg16-bn")
NAME_FORMAT = "vgg16-bn"
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width, convolutions


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each ended by max-pooling, and a linear head."""

    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.min_side = 2 ** len(STAGES)
        layers, in_channels = [], channels
        for width, convolutions in STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(in_channels, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
                in_channels = width
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(in_channels, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,512) of normalised images (B,C,H,W), H and W at least 32."""
        return self.layers(x).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.linear(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network; ``name`` can only be ``vgg16-bn``."""
    return VGG(classes, channels)
