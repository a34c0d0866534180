"""What trials share: a requirement, and tiny networks."""

import copy
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from pipeline.errors import RetortError
from pipeline.models.classifier import build_classifier

CLASSES, SIDE = 10, 16  # of the networks that objectives are tried on


def require(holds: bool, what: str) -> None:
    """Raises RetortError with ``what`` unless something holds."""
    if not holds:
        raise RetortError(what)


def are_equal(one: Sequence[Mapping], two: Sequence[Mapping]) -> bool:
    """Whether two lists of dicts of tensors are the same to the last bit."""
    return len(one) == len(two) and all(
        first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
        for first, second in zip(one, two, strict=True)
    )


@cache
def make_cached_classifier(seed: int) -> nn.Module:
    """A tiny classifier whose BatchNorm statistics are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_classifier("resnet8-s2-w8", CLASSES, (0.5, 0.4, 0.45), (0.25, 0.2, 0.3))
        model.train()
        with torch.no_grad():
            model(torch.rand(16, 3, SIDE, SIDE))
    return model.eval()


def make_classifier(seed: int) -> nn.Module:
    """A fresh copy of ``make_cached_classifier``."""
    return copy.deepcopy(make_cached_classifier(seed))


@cache
def make_discretizer() -> nn.Module:
    """A tiny VQGAN, frozen."""
    from pipeline.models.vqgan import VQGAN, VQGANArchitecture  # imports taming

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        shape = VQGANArchitecture(32, (1,), 0, (), n_codes=8, unshuffle=4, mid_attention=False)
        return VQGAN(shape).eval().requires_grad_(False)


def make_plain_network(classes: int = 10, size: int = 32, channels: int = 3) -> nn.Module:
    """A convolution and a linear layer, in eval mode, for attacks."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(channels, 6, 3, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * ((size - 1) // 2) ** 2, classes),
        )
    return net.eval()


def make_samples(net: nn.Module, count: int = 12, size: int = 32) -> tuple[Tensor, Tensor]:
    """Random images, some pixels saturated, labelled as the net does except for the first one."""
    x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))
    x = (1.2 * x - 0.1).clamp(0, 1)
    y = net(x).argmax(1)
    y[0] = (y[0] + 1) % int(net(x).shape[1])
    return x, y
