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
    """Collect a network's maps during a forward inside the block, with their graph.

    At each resolution the module that ends last counts, which is the stage's end; its map is the
    mean over channels of its squared output.
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
    """(B,): mean squared difference of two networks' maps, summed over their common resolutions.

    A single position says nothing, since its map is always one.

    Raises:
        RetortError: the two have no resolution in common.
    """
    common = [size for size in first_maps if size in second_maps and size != (1, 1)]
    if not common:
        raise RetortError("attention: teacher and student share no resolution; set it to 0")
    gaps = [(first_maps[size] - second_maps[size]).square().mean(1) for size in common]
    return torch.stack(gaps).sum(0)
