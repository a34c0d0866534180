"""LPIPS: how different two images look to VGG-16 (Zhang et al., CVPR 2018), from given weights."""

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

REVISION = 1

CUTS = (4, 9, 16, 23, 30)  # layers of VGG-16 after the last ReLU before each pooling
CHANNELS = (64, 128, 256, 512, 512)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1,1]
TINY = 1e-10


class Lpips(nn.Module):
    """Images x and y (B,3,H,W) in [0,1], 16 px at least, to their distance (B,).

    Features of unit length are compared channel by channel; ``lin`` weighs the squares, and the
    mean over places is summed over five depths.
    """

    def __init__(self):
        super().__init__()
        self.features = make_layers(cfgs["D"])  # VGG-16 without its classifier
        lins = [nn.Conv2d(channels, 1, 1, bias=False) for channels in CHANNELS]
        self.lins = nn.ModuleList(lins)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def depths(self, x: Tensor) -> list[Tensor]:
        """Features of unit length at the five depths."""
        x, found = (2 * x - 1 - self.shift) / self.scale, []
        for start, stop in zip((0, *CUTS), CUTS, strict=False):
            x = self.features[start:stop](x)
            found.append(x / ((x**2).sum(1, keepdim=True).sqrt() + TINY))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance (B,)."""
        pairs = zip(self.lins, self.depths(x), self.depths(y), strict=True)
        return sum(lin((a - b) ** 2).flatten(1).mean(1) for lin, a, b in pairs)
