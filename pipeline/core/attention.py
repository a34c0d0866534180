"""Attention maps of convolutional networks (Zagoruyko and Komodakis, ICLR 2017)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

AttentionMaps = dict[
    tuple[int, int], Tensor
]  # (height, width) -> (B, height * width), of unit length


@contextmanager
def collect_attention_maps(network: nn.Module) -> Iterator[AttentionMaps]:
    """Collects a network's attention maps, with their graph, from a forward inside the block.

    The map of a resolution is the mean over channels of a squared output: that of the last module
    with this resolution, which is the end of a ResNet's stage. A pre-activation network's is the
    first normalisation of the next stage.
    """
    maps: AttentionMaps = {}

    def record_map(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            height, width = output.shape[2:]
            maps[height, width] = F.normalize(output.square().mean(1).flatten(1), dim=1)

    handles = [module.register_forward_hook(record_map) for module in network.modules()]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def attention_gap(first_maps: Mapping, second_maps: Mapping) -> Tensor:
    """Mean squared difference (B,) of two networks' maps, summed over their common resolutions.

    Maps of a single position are left out, since they are always one.

    Raises:
        RetortError: the networks have no resolution in common.
    """
    common = [size for size in first_maps if size in second_maps and size != (1, 1)]
    if not common:
        raise RetortError("attention: teacher and student share no resolution; set it to 0")
    gaps = [(first_maps[size] - second_maps[size]).square().mean(1) for size in common]
    return torch.stack(gaps).sum(0)
