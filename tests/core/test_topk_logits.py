"""Outputs cut to k logits and a tail: exact or bounded as the module states."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.core.topk_logits import PackedLogits, get_index_dtype, pack_logits, unpack_logits

HALF = 2.0**-11  # relative error of rounding to float16


def there_and_back(logits: Tensor, k: int, temperature: float) -> Tensor:
    parts = {name: torch.from_numpy(a) for name, a in pack_logits(logits, k, temperature).items()}
    return unpack_logits(parts["top"], parts["class"], parts["tail"], logits.shape[-1])


def test_by_hand():
    logits = torch.tensor([[1.0, 4.0, 2.0, 0.0]])
    parts = pack_logits(logits, 2, 1.0)
    assert parts["top"].tolist() == [[0.0, -2.0]]
    assert parts["class"].tolist() == [[1, 2]]
    tail = math.log((math.exp(-3) + math.exp(-4)) / 2)
    assert parts["tail"][0] == pytest.approx(tail, rel=HALF)
    full = there_and_back(logits, 2, 1.0)[0].tolist()
    assert full == pytest.approx([tail, 0, -2, tail], rel=HALF)


@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([4, 10, 1000]),
    k=st.integers(1, 3),
    temperature=st.sampled_from([1.0, 4.0]),
    scale=st.sampled_from([0.1, 3.0, 20.0]),
)
def test_the_error_is_the_tail_s_want_of_entropy(seed, classes, k, temperature, scale):
    """KL = tau (log(K - k) - H(q)) up to rounding, so at most tau log(K - k)."""
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, classes, generator=rng, dtype=torch.float64)
    log_p = (logits / temperature).log_softmax(1)
    log_r = (there_and_back(logits, k, temperature).double() / temperature).log_softmax(1)
    kl = (log_p.exp() * (log_p - log_r)).sum(1)
    rest = (-log_p).argsort(1)[:, k:]
    tail = log_p.gather(1, rest).exp()
    tau = tail.sum(1)
    q = tail / tau.unsqueeze(1)
    exact = tau * (math.log(classes - k) + torch.special.xlogy(q, q).sum(1))
    largest = (logits - logits.amax(1, keepdim=True)).abs().amax(1) / temperature
    rounding = 2 * HALF * largest + 1e-4  # the constant is for single precision inside
    assert ((kl - exact).abs() <= rounding).all()
    assert (kl <= tau * math.log(classes - k) + rounding).all()


def test_the_rest_s_mass_is_exact_at_the_stated_temperature():
    logits = 3 * torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    rest = logits.argsort(1, descending=True)[:, 10:]
    mass = {
        t: (
            (logits / t).softmax(1).gather(1, rest).sum(1),
            (there_and_back(logits, 10, 4.0) / t).softmax(1).gather(1, rest).sum(1),
        )
        for t in (1.0, 4.0)
    }
    assert torch.allclose(*mass[4.0], rtol=2e-3)
    assert not torch.allclose(*mass[1.0], rtol=0.1)


def test_views_and_rows_are_indexed_like_a_tensor():
    logits = torch.randn(6, 2, 300, generator=torch.Generator().manual_seed(1))
    parts = pack_logits(logits, 4, 1.0)
    assert parts["class"].dtype == np.uint16
    bank = PackedLogits(
        *(
            torch.from_numpy(a.astype(np.int32) if a.dtype == np.uint16 else a)
            for a in parts.values()
        ),
        300,
    )
    rows = torch.tensor([4, 0, 4])
    assert len(bank) == 6
    assert bank[rows].shape == (3, 2, 300)
    assert torch.equal(bank[rows], there_and_back(logits[rows], 4, 1.0))
    assert torch.equal(bank.to("cpu")[rows].argmax(-1), logits[rows].argmax(-1))


@pytest.mark.parametrize(
    ("count", "kind"),
    [(2, np.uint8), (256, np.uint8), (257, np.uint16), (16384, np.uint16), (70000, np.uint32)],
)
def test_indices_take_the_smallest_type(count, kind):
    assert get_index_dtype(count) == kind
