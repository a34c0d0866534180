"""Products in bf16 where the processor has no instructions for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import seed_torch
from pipeline.core.devices import bf16_products
from pipeline.core.devices.bf16_products import WidenedProducts, widen_products
from pipeline.core.seeding import make_generator
from tests.helpers.bank_store import SAMPLES, store_in
from tests.training.test_loop import run

HALF_A_STEP = 2**-8  # of bf16, relative
PRODUCTS = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3, 2, 1), (5, 4, 8, 8)),
    "strided, few channels": (lambda: nn.Conv2d(4, 8, 1, 2, bias=False), (5, 4, 16, 16)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (5, 4, 8, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1), (5, 4, 8, 8)),
    "linear": (lambda: nn.Linear(7, 6), (5, 7)),
    "linear without bias": (lambda: nn.Linear(7, 6, bias=False), (5, 7)),
}


def build_seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A layer whose random weights are the same in every run."""
    with seed_torch(0, torch.device("cpu")):
        return build()


def run_both_ways(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of its weighted sum by x, weights and bias."""
    x = x.clone().requires_grad_(True)
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(torch.bfloat16)
    grads = torch.autograd.grad(y, [x, *layer.parameters()], weights.to(y.dtype))
    return [y.detach(), *grads]


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_each_number_is_the_exact_product_rounded_once(name, layout):
    build, shape = PRODUCTS[name]
    layer = build_seeded(build)
    x = torch.randn(shape, generator=make_generator("widened")).bfloat16()
    if x.ndim == 4:
        x = x.contiguous(memory_format=layout)
    with WidenedProducts():
        found = run_both_ways(layer.bfloat16(), x)
    exact = run_both_ways(layer.double(), x.double())
    for ours, wanted in zip(found, exact, strict=True):
        assert ours.dtype is torch.bfloat16
        torch.testing.assert_close(ours.double(), wanted, rtol=1.02 * HALF_A_STEP, atol=1e-5)


def test_products_of_batches_are_widened():
    a, b = torch.randn(2, 3, 4, 4, generator=make_generator("batches")).bfloat16()
    with WidenedProducts():
        found = a @ b, torch.baddbmm(b, a, b)
    exact = a.double() @ b.double(), b.double() + a.double() @ b.double()
    for ours, wanted in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1.02 * HALF_A_STEP, atol=1e-5)


def test_single_precision_stays_as_it_is():
    layer = build_seeded(lambda: nn.Conv2d(3, 4, 3))
    x = torch.randn(2, 3, 8, 8, generator=make_generator("single"))
    with WidenedProducts():
        found = run_both_ways(layer, x)
    assert all(map(torch.equal, found, run_both_ways(layer, x)))


@pytest.mark.parametrize(
    ("device", "uses_bf16", "has_instructions", "widens"),
    [
        ("cpu", True, False, True),
        ("cpu", True, True, False),
        ("cpu", False, False, False),
        ("cuda", True, False, False),
    ],
)
def test_only_slow_processors_widen(monkeypatch, device, uses_bf16, has_instructions, widens):
    monkeypatch.setattr(bf16_products, "has_bf16_instructions", lambda: has_instructions)
    assert isinstance(widen_products(device, uses_bf16), WidenedProducts) is widens


@pytest.fixture
def widened(monkeypatch) -> list[bool]:
    """Of each operator that runs on a slow processor with widening: whether it was widened."""
    found = []

    class Watched(WidenedProducts):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found.append(func in bf16_products.PRODUCTS and args[0].dtype is torch.bfloat16)
            return super().__torch_dispatch__(func, types, args, kwargs)

    monkeypatch.setattr(bf16_products, "has_bf16_instructions", lambda: False)
    monkeypatch.setattr(bf16_products, "WidenedProducts", Watched)
    return found


@pytest.mark.parametrize(("bf16", "counts"), [("both", True), ("none", False)])
def test_a_training_widens_its_products_on_a_slow_processor(tmp_path, widened, bf16, counts):
    run(tmp_path, bf16=bf16, epochs=1)
    assert any(widened) is counts


@pytest.mark.parametrize("bf16", [True, False])
def test_a_bank_widens_its_products_on_a_slow_processor(tmp_path, widened, bf16):
    store_in(tmp_path).made("bank", **{**SAMPLES, "reject": "keep", "bf16": bf16})
    assert any(widened) is bf16
