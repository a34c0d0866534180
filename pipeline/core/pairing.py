"""Partners of another class within a batch, for methods that compare paired images (DARWIN)."""

import torch
from torch import Tensor

from pipeline.core.devices import placement

REVISION = 1

MAX_SWAP_TRIES = 10


def count_clashes(labels: list[int], partner: list[int]) -> int:
    """The number of rows whose partner has the same label."""
    return sum(labels[j] == label for label, j in zip(labels, partner, strict=True))


def pair_different_labels(y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random permutation that gives each row, if possible, a partner of another label.

    A row that drew its own label tries up to ten random rows, and swaps partners with the first one
    for which both then have partners of another label. If clashes remain, the rows are sorted by
    label and paired with the same order rotated by half the batch. That leaves max(0, 2 m - B)
    clashes, with m rows in the largest class; no permutation has fewer. On an accelerator, where
    reading the labels would wait for it, ``pair_by_rotation`` does it all.

    Args:
        y: labels (B,) int64.
        rng: the generator; the number of draws does not depend on the labels.

    Returns:
        Each row's partner (B,) int64, a permutation, and whether the two labels differ (B,) bool.
    """
    if placement.is_accelerator(y.device):
        partner_rows = pair_by_rotation(y, rng)
        return partner_rows, y[partner_rows] != y
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


def pair_by_rotation(y: Tensor, rng: torch.Generator) -> Tensor:
    """A random permutation (B,) int64 with as few clashes as any, made without reading a label.

    The rows are sorted by label, classes in random order and rows at random within a class. Each
    gets the row that follows by a random distance of m to B - m, which no class spans; by half the
    batch where a class has more than half of it.

    Args:
        y: labels (B,) int64, at least 0.
        rng: the generator, on the device of the labels.
    """
    count = len(y)
    first = torch.randperm(count, generator=rng, device=y.device)
    # a class comes where the first of its rows in another random order comes
    rank = torch.randperm(count, generator=rng, device=y.device)
    is_same = y[:, None] == y[None, :]
    class_rank = torch.where(is_same, rank[None, :], count).amin(1)
    order = first[class_rank[first].argsort(stable=True)]
    largest = is_same.sum(1).amax()
    spare = (count - 2 * largest + 1).clamp_min(1)
    drawn = torch.rand((), generator=rng, device=y.device, dtype=torch.float64)
    shift = torch.where(2 * largest > count, count // 2, largest + (drawn * spare).long())
    places = (torch.arange(count, device=y.device) + shift) % count
    return torch.empty_like(order).scatter(0, order, order[places])
