"""Partners of another class within a batch, for methods that compare paired images (DARWIN)."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.core.devices import placement

REVISION = 1

MAX_SWAP_TRIES = 10


def count_clashes(labels: list[int], partner: list[int]) -> int:
    """The number of rows whose partner has the same label."""
    return sum(labels[j] == label for label, j in zip(labels, partner, strict=True))


def draw_partners(
    count: int, clash: Callable[[int, int], bool], rng: torch.Generator
) -> tuple[list[int], list[int]]:
    """A random permutation of the rows, and the same after swaps that resolve clashes.

    A row that clashes with its partner tries up to ten random rows, and swaps partners with the
    first one for which neither pair clashes then. The number of draws does not depend on clashes.
    """
    device = rng.device
    drawn = torch.randperm(count, generator=rng, device=device).tolist()
    others = torch.randint(count, (count, MAX_SWAP_TRIES), generator=rng, device=device).tolist()
    partner = list(drawn)
    for i in range(count):
        for j in others[i] if clash(i, partner[i]) else ():
            if not clash(i, partner[j]) and not clash(j, partner[i]):
                partner[i], partner[j] = partner[j], partner[i]
                break
    return drawn, partner


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
    count, labels = len(y), y.tolist()
    drawn, partner = draw_partners(count, lambda i, j: labels[i] == labels[j], rng)
    if count_clashes(labels, partner):
        order = sorted(drawn, key=labels.__getitem__)
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


def pair_different_rankings(p: Tensor, k: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Partners whose k likeliest classes, in order, are not the row's own (DARWIN-LF).

    Args:
        p: probabilities (B,K).
        k: number of classes that are compared; 1 compares the likeliest class alone.
        rng: the generator.

    Returns:
        As ``pair_different_labels``.
    """
    ranked = p.topk(k, dim=1).indices
    return pair_different_labels(ranked.unique(dim=0, return_inverse=True)[1], rng)


def pair_distant_outputs(p: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Partners whose probabilities are more than 1/K apart in the L1 norm (DARWIN-LF).

    Clashes that ten swaps leave are resolved by an assignment with the fewest clashes, among the
    rows in random order.

    Args:
        p: probabilities (B,K).
        rng: the generator; the number of draws does not depend on the probabilities.

    Returns:
        As ``pair_different_labels``; the second tells which pairs are apart.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and seldom wanted

    clashes = (torch.cdist(p, p, p=1) <= 1 / p.shape[1]).cpu()
    clashes.fill_diagonal_(True)
    table = clashes.tolist()
    drawn, partner = draw_partners(len(p), lambda i, j: table[i][j], rng)
    if any(table[i][j] for i, j in enumerate(partner)):
        _, columns = linear_sum_assignment(clashes[:, drawn].int().numpy())
        partner = [drawn[column] for column in columns]
    rows = torch.tensor(partner)
    is_apart = ~clashes[torch.arange(len(p)), rows]
    return rows.to(p.device), is_apart.to(p.device)
