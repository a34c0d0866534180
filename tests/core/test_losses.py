"""Losses against numbers computed by hand, gradients in float64, and general properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import losses

LN2, LN3 = math.log(2), math.log(3)


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    """Rows of logits, float64."""
    return torch.tensor(rows, dtype=torch.float64)


def draw(seed: int, scale: float = 3.0) -> torch.Tensor:
    """Random logits (4,5), float64."""
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, 5, generator=rng, dtype=torch.float64)


def close(found: torch.Tensor, *expected: float) -> None:
    """Compares with numbers computed by hand, one per sample."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


QUARTER = (math.log(0.25), math.log(0.75))  # logits of the distribution (1/4, 3/4)


def test_cross_entropy_by_hand():
    z, y = logits((0, 0), QUARTER), torch.tensor([0, 1])
    close(losses.cross_entropy(z, y), LN2, math.log(4 / 3))
    smooth = 0.9 * math.log(4 / 3) + 0.1 * (math.log(4) + math.log(4 / 3)) / 2
    close(losses.cross_entropy(z, y, 0.1), LN2, smooth)


def test_kl_by_hand():
    uniform, skew = logits((0, 0)), logits(QUARTER)
    forward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    backward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    close(losses.kl_divergence(student_logits=uniform, teacher_logits=skew), forward)
    close(losses.kl_divergence(student_logits=skew, teacher_logits=uniform), backward)


def test_kd_kl_by_hand():
    # Logits (0, 2 ln 3) at temperature 2 are the distribution (1/4, 3/4).
    found = losses.kd_loss(logits((0, 0)), logits((0, 2 * LN3)), 2.0)
    close(found, 4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5)))


def test_entropy_by_hand():
    mixed = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    close(losses.softmax_entropy(logits((5, 5), QUARTER)), LN2, mixed)


def test_probability_gap_by_hand():
    close(losses.probability_gap(logits((0, 0)), logits(QUARTER)), 0.5)
    close(losses.probability_gap(logits((1000, 0)), logits((0, 1000))), 2.0)


def test_negative_mean_entropy_by_hand():
    balanced = logits((1000, 0), (0, 1000))
    close(losses.negative_mean_entropy(balanced).view(1), -LN2)
    close(losses.negative_mean_entropy(logits((1000, 0), (1000, 0))).view(1), 0.0)


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 3.0, 50.0]))
def test_kl_is_not_negative_and_zero_on_equals(seed, scale):
    student, teacher = draw(seed, scale), draw(seed + 1, scale)
    assert (losses.kl_divergence(student, teacher) >= -1e-12).all()
    close(losses.kl_divergence(teacher + 7, teacher), 0, 0, 0, 0)


@given(seed=st.integers(0, 2**31), t=st.sampled_from([1.0, 4.0, 30.0]))
def test_kd_kl_is_t_squared_times_kl_of_softened_logits(seed, t):
    student, teacher = draw(seed), draw(seed + 1)
    plain = losses.kl_divergence(student / t, teacher / t)
    torch.testing.assert_close(losses.kd_loss(student, teacher, t), t**2 * plain)


def gradient(t: float) -> torch.Tensor:
    """The gradient of ``kd_loss`` with respect to the student's logits."""
    student = draw(1).requires_grad_()
    return torch.autograd.grad(losses.kd_loss(student, draw(2), t).sum(), student)[0]


def test_t_squared_keeps_the_gradients_size():
    # For large t the gradient tends to (centred student - centred teacher) / K.
    gap = draw(1) - draw(2)
    limit = (gap - gap.mean(1, keepdim=True)) / 5
    torch.testing.assert_close(gradient(1000.0), limit, atol=0.01, rtol=0)
    assert gradient(30.0).norm() / gradient(100.0).norm() == pytest.approx(1, abs=0.15)


def test_ards_golden_factor():
    # ARD's released code: t = 30 and a mean over C = 10 classes, so kd_scale = 1/C gives 90.
    student, teacher = draw(3), draw(4)
    scaled = losses.kd_loss(student, teacher, 30.0) / 10
    torch.testing.assert_close(scaled, 90 * losses.kl_divergence(student / 30, teacher / 30))


@given(seed=st.integers(0, 2**31))
def test_bounds(seed):
    z, other = draw(seed), draw(seed + 1)
    entropy, gap = losses.softmax_entropy(z), losses.probability_gap(z, other)
    assert (entropy >= 0).all()
    assert (entropy <= math.log(5) + 1e-12).all()
    assert ((gap >= 0) & (gap <= 2 + 1e-12)).all()
    assert -math.log(5) - 1e-12 <= losses.negative_mean_entropy(z) <= 0


@pytest.mark.parametrize("name", ["kl_divergence", "kd_loss", "probability_gap"])
def test_gradients_of_pairs(name):
    one, two = draw(5).requires_grad_(), draw(6).requires_grad_()
    assert torch.autograd.gradcheck(getattr(losses, name), (one, two))


@pytest.mark.parametrize("name", ["softmax_entropy", "negative_mean_entropy"])
def test_gradients_of_one(name):
    assert torch.autograd.gradcheck(getattr(losses, name), (draw(7).requires_grad_(),))


def test_gradient_of_cross_entropy():
    y = torch.tensor([0, 1, 2, 3])
    for smoothing in (0.0, 0.1):
        found = torch.autograd.gradcheck(
            lambda z, s=smoothing: losses.cross_entropy(z, y, s), (draw(8).requires_grad_(),)
        )
        assert found


def test_extreme_logits_stay_finite():
    far, other = logits((1e4, 0, -1e4)), logits((-1e4, 0, 1e4))
    for loss in (losses.kl_divergence, losses.kd_loss, losses.probability_gap):
        assert loss(far, other).isfinite().all()
    assert losses.softmax_entropy(far).isfinite().all()


def test_each_sample_stands_alone():
    student, teacher, y = draw(9), draw(10), torch.tensor([0, 1, 2, 3])
    for loss, other in (
        (losses.kl_divergence, teacher),
        (losses.kd_loss, teacher),
        (losses.cross_entropy, y),
    ):
        alone = torch.cat([loss(student[i : i + 1], other[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(loss(student, other), alone)


def test_relations_are_the_cosines_with_the_others():
    z = logits((1, 0), (0, 2), (3, 3))
    expected = logits((0, 0.5**0.5), (0, 0.5**0.5), (0.5**0.5, 0.5**0.5))
    torch.testing.assert_close(losses.pairwise_cosine_similarity(z), expected)
    assert losses.pairwise_cosine_similarity(z[:1]).shape == (1, 0)


def test_info_nce_of_orthogonal_pairs():
    pairs = logits((5, 0), (0, 0.1))
    close(losses.info_nce(pairs, 3 * pairs, 1 / LN2), math.log(1.5), math.log(1.5))
    close(losses.info_nce(pairs, pairs.flip(0), 1 / LN2), math.log(3), math.log(3))


def test_triplet_by_hand():
    anchor = logits((1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    near = logits((0.8, 0.2), (0.5, 0.5), (0.0, 1.0))
    far = logits((0.5, 0.5), (0.8, 0.2), (1.0, 0.0))
    close(losses.triplet_loss(anchor, near, far, 0.5), 0.08 - 0.5 + 0.5, 0.5 - 0.08 + 0.5, 0.0)


def test_half_precision_logits_keep_their_temperature_and_entropy():
    z, t = draw(11).bfloat16(), torch.tensor(1.003, dtype=torch.float64)
    torch.testing.assert_close(losses.soften_logits(z, t).double(), z.double() / t)
    rows = torch.full((len(z), 1), 1.003, dtype=torch.float64)
    torch.testing.assert_close(losses.soften_logits(z.double(), rows), z.double() / t)
    with torch.autocast("cpu", torch.bfloat16):
        low = losses.softmax_entropy(z)
    torch.testing.assert_close(low.double(), losses.softmax_entropy(z.double()))


@pytest.mark.parametrize("t", [1.0, 30.0])
def test_half_precision_logits_keep_a_kls_gradient(t):
    student, teacher = (draw(seed).bfloat16() for seed in (11, 12))
    found, expected = student.clone().requires_grad_(), student.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        low = losses.kd_loss(found, teacher, t)
    high = losses.kd_loss(expected, teacher.double(), t)
    torch.testing.assert_close(low.double(), high, atol=1e-3, rtol=1e-3)
    low.sum().backward()
    high.sum().backward()
    torch.testing.assert_close(found.grad.double(), expected.grad, atol=1e-3, rtol=1e-2)
