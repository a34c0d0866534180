"""The data-free generator's network, and the statistics of a network's BatchNorm inputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1


def build_upsampling_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """A non-linear block that maps (B,I,H,W) to (B,O,2H,2W)."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(in_channels, out_channels, 3, 1, 1),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2),
    )


@dataclass(frozen=True)
class GeneratorSize:
    """How large a generator and its images are.

    Attributes:
        latent: length Z of the noise.
        channels: width after the linear layer; each doubling but the first halves it.
        side: of the images, a multiple of 2**doublings (16, 28, 32 and 224 are usual).
        image_channels: channels O of the images.
        drawn: side at which the convolutions work, a multiple like ``side``; the result is
            enlarged to ``side`` bilinearly. 0 means ``side``. Half the side costs a quarter.
        doublings: how often the side doubles: 2, or DCGAN's 4 for 224 px (Radford et al., 2016).
        halves_first: whether the first doubling halves the width too: with 256 channels, DataFree's
            ``LargeGenerator`` (256, 128, 64), with which CMI's code runs DAFL, DFAD and ZSKT.

    Raises:
        RetortError: a side or number of channels that cannot be halved so often.
    """

    latent: int
    channels: int
    side: int
    image_channels: int = 3
    drawn: int = 0
    doublings: int = 2
    halves_first: bool = False

    def __post_init__(self):
        unit = 2**self.doublings
        units = {
            "image": (self.side, unit),
            "drawn": (self.drawn or self.side, unit),
            "channels": (self.channels, unit if self.halves_first else unit // 2),
        }
        for name, (value, unit) in units.items():
            if value <= 0 or value % unit:
                raise RetortError(f"generator.{name}: {value} must be a multiple of {unit}")


class Generator(nn.Module):
    """Noise (B,Z) to images (B,O,side,side) in [0,1], as in DataFree but smoothly enlarged."""

    def __init__(self, size: GeneratorSize):
        super().__init__()
        halved = range(1 if size.halves_first else 0, size.doublings + size.halves_first)
        self.latent, self.side = size.latent, size.side
        self.base_side = (size.drawn or size.side) >> size.doublings
        self.start = nn.Linear(size.latent, size.channels * self.base_side**2)
        widths = [size.channels, *(size.channels >> times for times in halved)]
        self.layers = nn.Sequential(
            nn.BatchNorm2d(size.channels),
            *(build_upsampling_block(*pair) for pair in zip(widths, widths[1:], strict=False)),
            nn.Conv2d(widths[-1], size.image_channels, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B,Z) -> (B,O,side,side)."""
        x = self.layers(self.start(z).view(len(z), -1, self.base_side, self.base_side))
        if x.shape[-1] != self.side:
            x = F.interpolate(x, (self.side, self.side), mode="bilinear")
        return x


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance (C,) of one BatchNorm's input, beside its running ones."""

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor

    def compute_distance(self) -> Tensor:
        """||mean - running mean||_2 + ||var - running var||_2, a scalar."""
        return (self.mean - self.running_mean).norm() + (self.var - self.running_var).norm()


@contextmanager
def collect_batchnorm_moments(network: nn.Module) -> Iterator[list[Moments]]:
    """The moments of every BatchNorm2d's input, collected during a forward inside the block.

    The list fills in the order of execution and keeps the graph, so that its distances can be
    backpropagated to the input. Layers without running statistics are skipped.
    """
    collected: list[Moments] = []

    def record_moments(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean = inputs[0].mean((0, 2, 3), keepdim=True)
        var = (inputs[0] - mean).square().mean((0, 2, 3))
        collected.append(Moments(mean.flatten(), var, layer.running_mean, layer.running_var))

    handles = [
        layer.register_forward_pre_hook(record_moments)
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
    ]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()
