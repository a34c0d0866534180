"""FLOP of one forward of a network on one image, counted on the meta device: without memory.

A multiplication with its addition counts as two. Counted are matrix products, convolutions and
attention, as torch's counter does; normalisation and activations are left out.
"""

from collections.abc import Callable
from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.classifier import family_of
from pipeline.models.generator import Generator, Sizes

META = torch.device("meta")
Shape = tuple[int, int, int]  # (C,H,W)


@cache
def classifier(name: str, shape: Shape, classes: int) -> tuple[float, int]:
    """FLOP and number of parameters of a model by name.

    Raises:
        RetortError: no family knows the name.
    """
    with META:
        network = family_of(name).build(name, classes, shape[0])
    return measured(network, lambda x: network.head(network.features(x)), shape)


def measured(
    network: nn.Module, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> tuple[float, int]:
    """FLOP of a forward on one input of a shape, and the network's number of parameters."""
    network.eval()
    with META:
        flop = counted(lambda: forward(torch.empty(1, *shape)))
    return flop, parameters(network)


def counted(run: Callable[[], object]) -> float:
    """FLOP of what is run."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return float(counter.get_total_flops())


def parameters(*networks: nn.Module) -> int:
    """How many numbers the networks hold, buffers included."""
    return sum(prod(value.shape) for network in networks for value in network.state_dict().values())


@cache
def vqgan(architecture: object, side: int) -> tuple[float, float, int]:
    """FLOP of a discretiser's encoder and of its decoder at a side, and its parameters.

    The search for the nearest code counts with the encoder.
    """
    from pipeline.models.vqgan import VQGAN

    with META:
        model = VQGAN(architecture).eval()
        x = torch.empty(1, architecture.in_channels, side, side)
        encoder = counted(lambda: model.tokens(x))
        tokens = torch.empty(1, side // architecture.factor, side // architecture.factor).long()
        decoder = counted(lambda: model.decode_tokens(tokens))
    return encoder, decoder, parameters(model)


@cache
def generator(sizes: Sizes) -> tuple[float, int]:
    """FLOP and parameters of a data-free generator."""
    with META:
        network = Generator(sizes)
    return measured(network, network, (sizes.latent,))
