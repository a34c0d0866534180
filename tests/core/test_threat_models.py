"""Threat models: projections are feasible, nearest and idempotent; directions by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.threat_models import (
    L2,
    Linf,
    Unconstrained,
    check_steps,
    compute_norms,
    normalise_samples,
)

BALLS = [Linf(8 / 255), Linf(0.3), Linf(0.0), L2(0.1), L2(2.0), L2(0.0), Unconstrained()]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)


def draw(seed: int, scale: float = 1.0) -> torch.Tensor:
    """Random float64 images (3,2,4,4) in [0,1), or spread around one half."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 2, 4, 4, generator=rng, dtype=torch.float64)
    return 0.5 + scale * (x - 0.5)


def image(*values: float) -> torch.Tensor:
    """One image of one row."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def distance(ball: Linf | L2, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The distance of each sample in the threat model's norm."""
    order = torch.inf if isinstance(ball, Linf) else 2
    return (z - x).flatten(1).norm(order, dim=1)


@every_ball
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.5, 1.5, 20.0]))
def test_projection_is_feasible_and_idempotent(ball, seed, scale):
    x, z = draw(seed), draw(seed + 1, scale)
    projected = ball.project(z, x)
    assert projected.min() >= 0
    assert projected.max() <= 1
    if not isinstance(ball, Unconstrained):
        assert (distance(ball, projected, x) <= ball.eps + 1e-12).all()
    torch.testing.assert_close(ball.project(projected, x), projected, atol=1e-14, rtol=0)


@every_ball
@given(seed=st.integers(0, 2**31))
def test_what_is_feasible_stays(ball, seed):
    x = draw(seed)
    torch.testing.assert_close(ball.project(x, x), x, atol=0, rtol=0)


@given(seed=st.integers(0, 2**31), eps=st.floats(0, 1))
def test_linf_projection_is_the_nearest_point(seed, eps):
    x, z = draw(seed), draw(seed + 1, 3.0)
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    nearest = torch.where(z < low, low, torch.where(z > high, high, z))
    assert torch.equal(Linf(eps).project(z, x), nearest)


@every_ball
@given(seed=st.integers(0, 2**31))
def test_a_sample_is_feasible_and_repeats_with_its_seed(ball, seed):
    x = draw(seed)
    one, two = (ball.sample(x, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(ball.project(one, x).clamp(0, 1), ball.project(one, x))
    torch.testing.assert_close(ball.project(one, x), one, atol=1e-14, rtol=0)


def test_linf_by_hand():
    x, z = image(0.5, 0.5, 0.02, 0.99), image(0.9, 0.45, -0.5, 2.0)
    expected = image(0.6, 0.45, 0.0, 1.0)
    torch.testing.assert_close(Linf(0.1).project(z, x), expected)
    assert torch.equal(
        Linf(0.1).find_steepest_direction(image(-3, 0, 2, 1e-30)), image(-1, 0, 1, 1)
    )


def test_l2_by_hand():
    x = image(0.5, 0.5)
    torch.testing.assert_close(L2(0.1).project(image(0.8, 0.9), x), image(0.56, 0.58))
    torch.testing.assert_close(L2(1.0).project(image(0.8, 0.9), x), image(0.8, 0.9))
    torch.testing.assert_close(L2(0.5).project(image(0.9, 0.5), image(0.9, 0.9)), image(0.9, 0.5))
    torch.testing.assert_close(L2(0.1).find_steepest_direction(image(3, -4)), image(0.6, -0.8))


def test_a_zero_gradient_gives_no_direction():
    zero = torch.zeros(2, 3, 4, 4)
    for ball in BALLS:
        assert torch.equal(ball.find_steepest_direction(zero), zero)


def test_l2_samples_lie_on_the_sphere_where_the_range_allows():
    x = torch.full((64, 3, 4, 4), 0.5)
    z = L2(0.1).sample(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        compute_norms(z - x).flatten(), torch.full((64,), 0.1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(compute_norms(normalise_samples(z - x)).flatten(), torch.ones(64))


def test_linf_samples_fill_the_ball():
    x = torch.full((64, 3, 8, 8), 0.5)
    noise = Linf(0.1).sample(x, torch.Generator().manual_seed(0)) - x
    assert noise.abs().max() <= 0.1 + 1e-6
    assert noise.mean().abs() < 0.002
    torch.testing.assert_close(noise.std(), torch.tensor(0.1 / 3**0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("eps", "step", "steps", "word"),
    [
        (-0.1, 0.1, 1, "eps: -0.1 is negative"),
        (0.1, -0.1, 1, "must not be negative"),
        (0.1, 0.1, -1, "must not be negative"),
        (2 / 255, 8 / 255, 10, "are the two swapped"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(eps, step, steps, word):
    with pytest.raises(ValueError, match=word):
        check_steps(eps, step, steps)


def test_one_long_step_and_equal_numbers_are_meant():
    check_steps(0.1, 0.2, 1)
    check_steps(0.1, 0.1, 10)
    check_steps(0.0, 0.0, 10)


def test_shapes_are_checked_in_tests():
    with pytest.raises(Exception, match="(?i)type-check"):
        Linf(0.1).project(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5))
