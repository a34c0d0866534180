"""Statistics of a data set that networks normalise with."""

import torch
from torch import Tensor

from pipeline.core.images import scale_to_unit_range

REVISION = 1


def compute_channel_moments(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0,1], from counts of the 256 values.

    A channel of one value, or of one pixel, has a standard deviation of 1: dividing by it is safe.
    """
    values = scale_to_unit_range(torch.arange(256, dtype=torch.uint8)).double()
    means, stds = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / (counts.sum() - 1).clamp(min=1)
        means.append(round(mean.item(), 4))
        stds.append(round(variance.sqrt().item(), 4) or 1.0)
    return means, stds
