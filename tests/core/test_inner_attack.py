"""The path of an inner attack: each step by hand, one path for each image."""

import pytest
import torch
from torch import nn

from pipeline.core.inner_attack import InnerAttack, trace_adversarial_path

ATTACK = InnerAttack(eps=0.05, step=0.02, steps=4)


def loss(z):
    """Its gradient is 1 everywhere."""
    return z.flatten(1).sum(1)


@pytest.mark.parametrize(
    ("sign", "moves"), [(+1, [0.02, 0.04, 0.05, 0.05]), (-1, [-0.02, -0.04, -0.05, -0.05])]
)
def test_each_step_goes_up_or_down_and_stays_in_the_ball(sign, moves):
    x = torch.full((3, 1, 2, 2), 0.5, dtype=torch.float64)
    path = trace_adversarial_path(ATTACK, x, loss, nn.Identity(), start="clean", sign=sign)
    assert [z.shape for z in path] == [x.shape] * 4
    for z, move in zip(path, moves, strict=True):
        torch.testing.assert_close(z, x + move, atol=1e-12, rtol=0)


def test_it_starts_with_the_attack_s_noise_and_leaves_the_network_as_it_was():
    """The default start is x + 0.001 N(0, I), around x' as around x (DARWIN, Algorithm 1)."""
    x = torch.full((2, 1, 3, 3), 0.5, dtype=torch.float64)
    network = nn.BatchNorm2d(1).double().train()
    rng = torch.Generator().manual_seed(5)
    path = trace_adversarial_path(ATTACK, x, lambda z: loss(network(z)), network, rng=rng)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    torch.testing.assert_close(path[0], x + 0.001 * noise + 0.02, atol=1e-12, rtol=0)
    assert network.training and network.num_batches_tracked == 0
    assert all(p.requires_grad for p in network.parameters())
