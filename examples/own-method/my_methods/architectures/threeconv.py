"""Three convolutions with BatchNorm, for images of any size."""

from torch import nn


class Network(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        widths = (channels, 16, 32, 64)
        layers = []
        for narrow, wide in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.BatchNorm2d(wide), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.linear = nn.Linear(64, classes)

    def features(self, x):
        return self.body(x).mean((2, 3))

    def head(self, features):
        return self.linear(features)


def build(classes, channels):
    return Network(classes, channels)
