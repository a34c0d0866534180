"""FLOP of one forward pass of a network on one image, counted without allocating memory.

A multiplication with its addition counts as two. Matrix products, convolutions and attention are
counted, as torch's ``FlopCounterMode`` counts them; normalisation and activations are left out.
"""

from collections.abc import Callable
from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.discovery import cache_by_plugins
from pipeline.models.classifier import build_network
from pipeline.models.generator import Generator, GeneratorSize

META_DEVICE = torch.device("meta")
ImageShape = tuple[int, int, int]  # (C,H,W)


@cache_by_plugins
def measure_classifier(name: str, shape: ImageShape, classes: int) -> tuple[float, int]:
    """FLOP and number of parameters of the model that a name stands for.

    Raises:
        RetortError: no family knows the name.
    """
    with META_DEVICE:
        network = build_network(name, classes, shape[0])
    return measure_network(network, lambda x: network.head(network.features(x)), shape)


def measure_network(
    network: nn.Module, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> tuple[float, int]:
    """FLOP of a forward pass on one input of a shape, and the network's number of parameters."""
    network.eval()
    with META_DEVICE:
        flop = count_flop(lambda: forward(torch.empty(1, *shape)))
    return flop, count_parameters(network)


def count_flop(compute: Callable[[], object]) -> float:
    """FLOP of what ``compute`` runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        compute()
    return float(counter.get_total_flops())


def count_parameters(*networks: nn.Module) -> int:
    """Number of values in the networks' parameters and buffers."""
    return sum(prod(value.shape) for network in networks for value in network.state_dict().values())


@cache
def measure_vqgan(architecture: object, side: int) -> tuple[float, float, int]:
    """FLOP of a VQGAN's encoder, FLOP of its decoder, and its parameters; ``side`` is in pixels.

    The search for the nearest code counts with the encoder.
    """
    from pipeline.models.vqgan import VQGAN

    with META_DEVICE:
        model = VQGAN(architecture).eval()
        x = torch.empty(1, architecture.in_channels, side, side)
        encoder = count_flop(lambda: model.encode_to_tokens(x))
        tokens = torch.empty(
            1, side // architecture.downsampling_factor, side // architecture.downsampling_factor
        ).long()
        decoder = count_flop(lambda: model.decode_tokens(tokens))
    return encoder, decoder, count_parameters(model)


@cache
def measure_generator(sizes: GeneratorSize) -> tuple[float, int]:
    """FLOP and parameters of a data-free generator."""
    with META_DEVICE:
        network = Generator(sizes)
    return measure_network(network, network, (sizes.latent,))
