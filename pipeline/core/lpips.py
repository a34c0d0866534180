"""LPIPS, the perceptual distance of two images by VGG-16 (Zhang et al., CVPR 2018)."""

import torch
from torch import Tensor, nn

REVISION = 1

BLOCK_ENDS = (4, 9, 16, 23, 30)  # layers of VGG-16 after the last ReLU before each pooling
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1,1]
EPSILON = 1e-10


class LPIPS(nn.Module):
    """Maps images x and y (B,3,H,W) in [0,1], at least 16 px wide and high, to a distance (B,).

    Features of unit length are subtracted; ``lins`` weigh the squared differences by channel. The
    distance is their mean over positions, summed over five depths.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers  # seconds to import

        self.features = make_layers(cfgs["D"])  # VGG-16 without its classifier
        lins = [nn.Conv2d(channels, 1, 1, bias=False) for channels in BLOCK_CHANNELS]
        self.lins = nn.ModuleList(lins)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def extract_features(self, x: Tensor) -> list[Tensor]:
        """Features of unit length at the five depths."""
        x, features = (2 * x - 1 - self.shift) / self.scale, []
        for start, stop in zip((0, *BLOCK_ENDS), BLOCK_ENDS, strict=False):
            x = self.features[start:stop](x)
            features.append(x / ((x**2).sum(1, keepdim=True).sqrt() + EPSILON))
        return features

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance (B,)."""
        pairs = zip(self.lins, self.extract_features(x), self.extract_features(y), strict=True)
        return sum(lin((a - b) ** 2).flatten(1).mean(1) for lin, a, b in pairs)
