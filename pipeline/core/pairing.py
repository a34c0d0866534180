"""Partners of another class within a batch, for methods that compare paired images (DARWIN)."""

import torch
from torch import Tensor

REVISION = 1

MAX_SWAP_TRIES = 10


def count_clashes(labels: list[int], partner: list[int]) -> int:
    """How many rows have a partner of their own label."""
    return sum(labels[j] == label for label, j in zip(labels, partner, strict=True))


def pair_different_labels(y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random permutation that gives each row a partner of another label, where there is one.

    A row that drew its own label swaps partners with a random row, up to ten times, if that mends
    it and breaks nothing. What is left is sorted by label and rotated by half the batch, which
    leaves max(0, 2 m - B) clashes for a largest class of m rows: no permutation has fewer.

    Args:
        y: labels (B,) int64.
        rng: makes the same number of draws whatever the labels are.

    Returns:
        Each row's partner (B,) int64, a permutation, and whether the two labels differ (B,) bool.
    """
    count, labels, device = len(y), y.tolist(), rng.device
    drawn = torch.randperm(count, generator=rng, device=device)
    others = torch.randint(count, (count, MAX_SWAP_TRIES), generator=rng, device=device).tolist()
    partner = drawn.tolist()
    for i, label in enumerate(labels):
        for j in others[i] if labels[partner[i]] == label else ():
            if labels[partner[j]] != label and labels[partner[i]] != labels[j]:
                partner[i], partner[j] = partner[j], partner[i]
                break
    if count_clashes(labels, partner):
        order = sorted(drawn.tolist(), key=labels.__getitem__)
        half = count // 2
        for i, j in zip(order, order[half:] + order[:half], strict=True):
            partner[i] = j
    partner_rows = torch.tensor(partner, device=y.device)
    return partner_rows, y[partner_rows] != y
