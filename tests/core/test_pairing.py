"""Pairs of different labels: a permutation that fails only where it must."""

import collections

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor

from pipeline.core.pairing import (
    pair_different_labels,
    pair_different_rankings,
    pair_distant_outputs,
)

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


RANKED = torch.tensor(  # likeliest classes, in order: 0 1, 0 2, 0 1, 1 0
    [[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]]
)


@pytest.mark.parametrize(("k", "clashing"), [(1, {0, 1, 2}), (2, {0, 2}), (3, {0, 2})])
def test_partners_of_one_ranking_are_redrawn(k, clashing):
    """Three rows of one likeliest class leave one pair of it, as at most three differ by one."""
    met = set()
    for seed in range(40):
        partner, apart = pair_different_rankings(RANKED, k, torch.Generator().manual_seed(seed))
        assert partner.sort().values.tolist() == [0, 1, 2, 3]
        for i, j in enumerate(partner.tolist()):
            assert bool(apart[i]) == (i != j and not {i, j} <= clashing)
        assert int((~apart).sum()) == max(0, 2 * len(clashing) - 4)
        met |= set(enumerate(partner.tolist()))
    assert k == 1 or (0, 1) in met


def test_distant_partners_differ_by_more_than_a_share_of_a_class():
    """With C = 4 outputs clash at an L1 distance of 1/4 or less: rows 0 1, and 1 2, by hand."""
    p = torch.tensor([[0.5, 0.5, 0, 0], [0.4, 0.6, 0, 0], [0.3, 0.7, 0, 0], [0, 0, 0.5, 0.5]])
    distances = [[0, 0.2, 0.4, 2], [0.2, 0, 0.2, 2], [0.4, 0.2, 0, 2], [2, 2, 2, 0]]
    for seed in range(40):
        partner, apart = pair_distant_outputs(p, torch.Generator().manual_seed(seed))
        assert partner.sort().values.tolist() == [0, 1, 2, 3]
        for i, j in enumerate(partner.tolist()):
            assert bool(apart[i]) == (distances[i][j] > 0.25)
        # Row 1 goes with row 3 alone: 1 3, 3 1, 0 2, 2 0 has no clash, and is found each time.
        assert partner.tolist() == [2, 3, 0, 1]


@given(st.integers(2, 24), seeds)
def test_distant_partners_are_lost_only_where_they_must_be(count, seed):
    rng = torch.Generator().manual_seed(seed)
    p = (torch.rand(count, 3, generator=rng) * 3).softmax(1)
    partner, apart = pair_distant_outputs(p, torch.Generator().manual_seed(seed))
    far = (p[:, None] - p[None]).abs().sum(2) > 1 / 3
    assert partner.sort().values.tolist() == list(range(count))
    assert torch.equal(apart, far[torch.arange(count), partner])
    graph = csr_matrix(far.numpy())
    best = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    assert int(apart.sum()) == best
