"""Pairs of different labels: a permutation that fails only where it must."""

import collections

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.core.pairing import pair_different_labels

batches = st.integers(1, 6).flatmap(
    lambda classes: st.lists(st.integers(0, classes - 1), min_size=1, max_size=40)
)
seeds = st.integers(0, 2**31)


def drawn(labels: list[int], seed: int) -> tuple[Tensor, Tensor]:
    return pair_different_labels(torch.tensor(labels), torch.Generator().manual_seed(seed))


@given(batches, seeds)
def test_every_unmasked_pair_differs_and_every_masked_one_does_not(labels, seed):
    y = torch.tensor(labels)
    partner, apart = drawn(labels, seed)
    assert partner.sort().values.tolist() == list(range(len(labels)))
    assert torch.equal(apart, y[partner] != y)


@given(batches, seeds)
def test_no_pair_is_masked_that_a_permutation_could_save(labels, seed):
    _, apart = drawn(labels, seed)
    largest = max(collections.Counter(labels).values())
    assert int((~apart).sum()) == max(0, 2 * largest - len(labels))


@given(batches, seeds)
def test_the_number_of_draws_does_not_depend_on_the_labels(labels, seed):
    states = []
    for y in (labels, [0] * len(labels), list(range(len(labels)))):
        rng = torch.Generator().manual_seed(seed)
        pair_different_labels(torch.tensor(y), rng)
        states.append(rng.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_two_equal_classes_are_paired_crosswise():
    labels = [0] * 32 + [1] * 32
    for seed in range(20):
        partner, apart = drawn(labels, seed)
        assert apart.all()
        assert {i // 32 for i in partner[:32].tolist()} == {1}


def test_partners_are_spread_over_all_other_classes():
    labels = [i % 10 for i in range(100)]
    met = torch.zeros(10, 10)
    for seed in range(200):
        partner, _ = drawn(labels, seed)
        for i, j in enumerate(partner.tolist()):
            met[labels[i], labels[j]] += 1
    assert met.diagonal().sum() == 0
    others = met[~torch.eye(10, dtype=torch.bool)] / met.sum() * 90
    assert others.min() > 0.75
    assert others.max() < 1.3
