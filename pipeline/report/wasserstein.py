"""Distance between two distributions of images, by what a network's BatchNorms see of them.

DAD (Zhou et al., NeurIPS 2023, Sec. 3.4 and D) compares distributions by BatchNorm statistics and
gives no formula. Here the channels are independent Gaussians, between which the 2-Wasserstein
distance is exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import RetortError
from pipeline.models.generator import batch_stats

REVISION = 1


@dataclass(frozen=True)
class Seen:
    """Mean and standard deviation (C,) of each BatchNorm's input, a pair a layer."""

    layers: tuple[tuple[Tensor, Tensor], ...]


@torch.no_grad()
def seen(network: nn.Module, batches: Iterable[Tensor]) -> Seen:
    """What the BatchNorms of a network in eval mode see of images (B,C,H,W) in [0,1].

    Raises:
        RetortError: the network has no BatchNorm with running statistics.
    """
    images, firsts, seconds = 0, [], []
    for x in batches:
        with batch_stats(network) as moments:
            network(x)
        if not moments:
            raise RetortError("the network has no BatchNorm whose inputs could be compared")
        means = [len(x) * layer.mean.double() for layer in moments]
        squares = [len(x) * (m.var.double() + m.mean.double() ** 2) for m in moments]
        firsts = means if not images else [a + b for a, b in zip(firsts, means, strict=True)]
        seconds = squares if not images else [a + b for a, b in zip(seconds, squares, strict=True)]
        images += len(x)
    pairs = [(a / images, b / images) for a, b in zip(firsts, seconds, strict=True)]
    return Seen(tuple((mean, (square - mean**2).clamp_min(0).sqrt()) for mean, square in pairs))


def distance(one: Seen, two: Seen) -> float:
    """W: the root of the mean over layers of mean_c (mu_1 - mu_2)^2 + (sigma_1 - sigma_2)^2."""
    squares = [
        ((mean - other) ** 2 + (std - wide) ** 2).mean()
        for (mean, std), (other, wide) in zip(one.layers, two.layers, strict=True)
    ]
    return torch.stack(squares).mean().sqrt().item()
