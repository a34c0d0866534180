"""Frozen networks in another form: folded BatchNorms, and weights held in bf16."""

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.classifier import Classifier, initialise_classifier
from pipeline.models.frozen_forms import InBfloat16, fold_batchnorms, hold_weights_in_bf16

COUNTS = {  # BatchNorms that directly follow a convolution, and all
    "resnet8-s2-w8": (9, 9),
    "resnet18-w8": (20, 20),
    "wrn-10-1": (3, 7),
    "mobilenetv2": (57, 57),
    "vgg16-bn": (13, 13),
    "vit-tiny-p16": (0, 0),
    "timm/resnet18": (20, 20),
    "timm/mobilenetv3_small_100": (0, 34),
}
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}  # shares of the largest value


def frozen(network: nn.Module) -> nn.Module:
    """The network with BatchNorms that change something, frozen."""
    rng = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=rng)
            layer.running_var.uniform_(0.5, 2, generator=rng)
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5, generator=rng)
                layer.bias.normal_(0, 0.3, generator=rng)
    return network.eval().requires_grad_(False)


def classifier(name: str) -> nn.Module:
    """A frozen classifier of ten classes."""
    return frozen(initialise_classifier(name, 10, (0.5,) * 3, (0.25,) * 3, 0))


def answers(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their log-sum-exp to the images."""
    z = x.clone().requires_grad_()
    logits = network(z)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), z)[0]


def assert_within(found: Tensor, wanted: Tensor, share: float) -> None:
    """Largest difference as a share of the largest value."""
    assert (found - wanted).abs().max() <= share * wanted.abs().max()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_a_folded_network_gives_the_same_logits_and_input_gradients(name, dtype):
    network = classifier(name).to(dtype)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded, what = fold_batchnorms(network, "teacher")
    assert what == "{} of {} BatchNorms folded".format(*COUNTS[name])
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=dtype)
    for found, wanted in zip(answers(folded, x), answers(network, x), strict=True):
        assert_within(found, wanted, BOUNDS[dtype])
    assert_within(folded.features(x), network.features(x), BOUNDS[dtype])
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert not any(p.requires_grad for p in folded.parameters())


class Odd(nn.Module):
    """Layers that must not be folded, by what is odd about them."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        if what == "hooked":
            self.conv.register_forward_hook(lambda layer, inputs, output: 2 * output)
        if what == "own statistics":
            self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,3)."""
        y = self.conv(x)
        z = self.norm(y)
        if self.what == "read twice":
            z = z + y
        if self.what == "run twice":
            z = z + self.norm(self.conv(z))
        if self.what == "weights read":
            z = z + self.conv.weight.sum()
        if self.what == "branch" and z.sum() > 0:
            z = 2 * z
        return z.mean((2, 3))


@pytest.mark.parametrize(
    "what", ["hooked", "own statistics", "read twice", "run twice", "weights read", "branch"]
)
def test_what_folding_would_change_stays(what, caplog):
    network = frozen(Odd(what)) if what != "own statistics" else Odd(what).eval()
    network.requires_grad_(False)
    with caplog.at_level(logging.INFO, "retort"):
        found, said = fold_batchnorms(network, "teacher 'robust'")
    assert said == "0 of 1 BatchNorms folded"
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(x), network(x))
    (line,) = caplog.messages
    if what == "branch":
        assert line.startswith(
            "teacher_form: teacher 'robust' stays as it is: torch.fx cannot follow it (symbolically"
        )


@pytest.mark.parametrize("change", [fold_batchnorms, lambda n, role: hold_weights_in_bf16(n)])
@pytest.mark.parametrize("make", [lambda n: n.train(), lambda n: n.requires_grad_(True)])
def test_a_network_that_is_trained_keeps_its_form(change, make):
    with pytest.raises(ValueError, match="network: is trained"):
        change(make(classifier("resnet8-s2-w8")), "student")


@pytest.mark.parametrize("name", ["resnet8-s2-w8", "wrn-10-1", "vit-tiny-p16"])
def test_weights_held_in_bf16_are_those_that_autocast_makes(name):
    network = fold_batchnorms(classifier(name), "teacher")[0]
    held, x = hold_weights_in_bf16(copy.deepcopy(network)), torch.rand(3, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = zip(answers(held, x), answers(network, x), strict=True)
        assert all(torch.equal(found, wanted) for found, wanted in pairs)
    assert held(x).dtype == torch.float32
    wrapped = InBfloat16(network)(x)
    assert wrapped.dtype == torch.float32
    assert_within(wrapped, held(x), 0.03)


def test_a_normalisation_before_the_network_stays():
    network = classifier("resnet8-s2-w8")
    folded = fold_batchnorms(network, "teacher")[0]
    assert isinstance(folded, Classifier)
    assert torch.equal(folded.mean, network.mean)


def test_a_copy_of_a_network_that_holds_bf16_runs_on_its_own_weights():
    held = hold_weights_in_bf16(classifier("resnet8-s2-w8"))
    twin, x = copy.deepcopy(held), torch.rand(2, 3, 32, 32)
    wanted = held(x)
    for weight in held.parameters():
        weight.zero_()
    assert torch.equal(twin(x), wanted)
