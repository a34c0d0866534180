"""What the value tests share: small double networks, one batch, and formulas written out."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch
from pipeline.schema import build_instance

EPS, STEP, STEPS = 8 / 255, 2 / 255, 3
EXACT = {"atol": 1e-9, "rtol": 0}
CLASSES = 5


class Network(nn.Module):
    """A double network on (B,3,4,4) with 16 features and five classes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh())
            self.head = nn.Linear(16, CLASSES, bias=False)
        with torch.no_grad():
            self.head.weight.mul_(4)
        self.double()

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def make_objective(module: ModuleType, **options: object) -> Any:
    """A plug-in's objective with options as a configuration has them."""
    return build_instance(module.Objective, options)


def batch(progress: float = 0.0, **stored: Tensor) -> Batch:
    """Six images and labels; the same seed gives the same noise each time."""
    rng = torch.Generator().manual_seed(3)
    x = torch.rand(6, 3, 4, 4, generator=rng, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (6,), generator=rng)
    return Batch(x, y, torch.arange(6), stored, progress, 0, torch.Generator().manual_seed(4))


def log_probabilities(z: Tensor) -> Tensor:
    """log softmax, written out."""
    z = z - z.max(1, keepdim=True).values
    return z - z.exp().sum(1, keepdim=True).log()


def ce(z: Tensor, y: Tensor) -> Tensor:
    """-log p_y by indexing."""
    return -log_probabilities(z)[torch.arange(len(y)), y]


def divergence(teacher: Tensor, student: Tensor, t: float = 1.0) -> Tensor:
    """KL(teacher || student) at temperature t, without its factor."""
    a, b = log_probabilities(teacher / t), log_probabilities(student / t)
    return (a.exp() * (a - b)).sum(1)


def attack(x: Tensor, loss, start: str = "gauss", rng: torch.Generator | None = None) -> Tensor:
    """Sign ascent by a loop of its own; its noise is ``batch()``'s, unless ``rng`` is given."""
    rng = rng or torch.Generator().manual_seed(4)
    if start == "gauss":
        z = (x + 0.001 * torch.randn(x.shape, generator=rng, dtype=x.dtype)).clamp(0, 1)
    else:
        z = x + EPS * (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1)
        z = torch.maximum(torch.minimum(z, x + EPS), x - EPS).clamp(0, 1)
    for _ in range(STEPS):
        z = z.detach().clone().requires_grad_()
        loss(z).sum().backward(inputs=[z])
        z = z.detach() + STEP * z.grad.sign()
        z = torch.maximum(torch.minimum(z, x + EPS), x - EPS).clamp(0, 1)
    return z.detach()


def assert_same_terms_and_gradients(
    terms: dict[str, Tensor], expected: dict[str, Tensor], parameters: list[nn.Parameter]
) -> None:
    """Each term (B,), and the gradient of their means' sum, to 1e-9."""
    assert terms.keys() == expected.keys()
    for term, values in terms.items():
        torch.testing.assert_close(values, expected[term], **EXACT)
    ours, theirs = (
        torch.autograd.grad(sum(v.mean() for v in found.values()), parameters)
        for found in (terms, expected)
    )
    assert all(g.abs().max() > 1e-6 for g in theirs)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, **EXACT)


def assert_same_arrays(one: dict, two: dict) -> None:
    """The same fields of a bank's block, of the same types and bits."""
    assert one.keys() == two.keys()
    for name in one:
        assert np.asarray(one[name]).dtype == np.asarray(two[name]).dtype
        np.testing.assert_array_equal(one[name], two[name])
