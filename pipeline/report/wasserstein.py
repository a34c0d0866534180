"""Distance between two distributions of images, from the inputs of a network's BatchNorms.

DAD (Zhou et al., NeurIPS 2023, Sec. 3.4 and D) compares distributions by BatchNorm statistics and
gives no formula. Here the channels are independent Gaussians, between which the 2-Wasserstein
distance is exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import RetortError
from pipeline.models.generator import collect_batchnorm_moments

REVISION = 1


@dataclass(frozen=True)
class BatchNormStatistics:
    """Mean and standard deviation (C,) of each BatchNorm's input, one pair for each layer."""

    layers: tuple[tuple[Tensor, Tensor], ...]


@torch.no_grad()
def collect_batchnorm_statistics(
    network: nn.Module, batches: Iterable[Tensor]
) -> BatchNormStatistics:
    """Statistics of the inputs of a network's BatchNorms on images (B,C,H,W) in [0,1].

    The network is in eval mode.

    Raises:
        RetortError: the network has no BatchNorm with running statistics.
    """
    image_count, mean_sums, square_sums = 0, [], []
    for x in batches:
        with collect_batchnorm_moments(network) as moments:
            network(x)
        if not moments:
            raise RetortError("the network has no BatchNorm whose inputs could be compared")
        means = [len(x) * layer.mean.double() for layer in moments]
        squares = [len(x) * (m.var.double() + m.mean.double() ** 2) for m in moments]
        mean_sums = (
            means if not image_count else [a + b for a, b in zip(mean_sums, means, strict=True)]
        )
        square_sums = (
            squares
            if not image_count
            else [a + b for a, b in zip(square_sums, squares, strict=True)]
        )
        image_count += len(x)
    pairs = [
        (a / image_count, b / image_count) for a, b in zip(mean_sums, square_sums, strict=True)
    ]
    return BatchNormStatistics(
        tuple((mean, (square - mean**2).clamp_min(0).sqrt()) for mean, square in pairs)
    )


def wasserstein_distance(first: BatchNormStatistics, second: BatchNormStatistics) -> float:
    """W: the root of the mean over layers of mean_c (mu_1 - mu_2)^2 + (sigma_1 - sigma_2)^2."""
    squares = [
        ((mean - other_mean) ** 2 + (std - other_std) ** 2).mean()
        for (mean, std), (other_mean, other_std) in zip(first.layers, second.layers, strict=True)
    ]
    return torch.stack(squares).mean().sqrt().item()
