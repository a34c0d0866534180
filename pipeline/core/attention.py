"""Attention maps of convolutional networks (Zagoruyko and Komodakis, ICLR 2017)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

Maps = dict[tuple[int, int], Tensor]  # (height, width) -> (B, height * width), of unit length


@contextmanager
def attention_maps(network: nn.Module) -> Iterator[Maps]:
    """Collect a network's maps during a forward inside the block, with their graph.

    At each resolution the module that ends last counts, which is the stage's end; its map is the
    mean over channels of its squared output.
    """
    maps: Maps = {}

    def collect(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            maps[tuple(output.shape[2:])] = F.normalize(output.square().mean(1).flatten(1), dim=1)

    handles = [module.register_forward_hook(collect) for module in network.modules()]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def attention_gap(one: Mapping, two: Mapping) -> Tensor:
    """(B,): mean squared difference of two networks' maps, summed over their common resolutions.

    A single position says nothing, since its map is always one.

    Raises:
        RetortError: the two have no resolution in common.
    """
    common = [size for size in one if size in two and size != (1, 1)]
    if not common:
        raise RetortError("attention: teacher and student share no resolution; set it to 0")
    gaps = [(one[size] - two[size]).square().mean(1) for size in common]
    return torch.stack(gaps).sum(0)
