"""Differences of two models on the same images, with seeds as the outer level.

An accuracy varies with the training's seed and with the test images. Both are resampled: seeds of
each model on their own, images for all models together, since they saw the same ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtr

REVISION = 1

RESAMPLES = 2000
BATCH = 50  # resamples that are multiplied at once
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """One model's accuracy minus another's.

    Attributes:
        value: the difference, in [-1,1].
        low: lower end of its 95 % interval.
        high: its upper end.
        p: two-sided p-value of no difference.
    """

    value: float
    low: float
    high: float
    p: float


def resample_accuracies(
    correctness: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Accuracies (RESAMPLES,) of each model under one resampling of the images for all.

    Args:
        correctness: of each model, (S,N) in [0,1] for S seeds on the same N images.
        rng: draws images and seeds.

    With S seeds, each of which is drawn anew, the spread among seeds is widened by
    sqrt(S / (S - 1)): the bootstrap of a few values is too narrow by just that.
    """
    stacked = np.concatenate(list(correctness.values())).astype(np.float32)
    n = stacked.shape[1]
    blocks = []
    for _ in range(RESAMPLES // BATCH):
        drawn = rng.integers(n, size=(BATCH, n))
        counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn])
        blocks.append(stacked @ counts.T.astype(np.float32) / n)
    resampled = np.concatenate(blocks, axis=1).astype(np.float64)  # (all seeds, RESAMPLES)
    found, start = {}, 0
    for name, rows in correctness.items():
        found[name] = draw_seeds(resampled[start : start + len(rows)], rng)
        start += len(rows)
    return found


def draw_seeds(accuracies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The means (R,) over seeds drawn anew for each column of accuracies (S,R)."""
    seeds, resamples = accuracies.shape
    mean = accuracies.mean(0)
    if seeds == 1:
        return mean
    drawn = rng.integers(seeds, size=(seeds, resamples))
    spread = np.take_along_axis(accuracies, drawn, 0).mean(0) - mean
    return mean + spread * np.sqrt(seeds / (seeds - 1))


def compare_models(
    first: np.ndarray, second: np.ndarray, resampled: tuple[np.ndarray, np.ndarray]
) -> Difference:
    """First minus second.

    Args:
        first: correctness (S,N) of the first model.
        second: correctness of the second model on the same N images.
        resampled: accuracies of both from one call of `resample_accuracies`.

    With one seed each and outcomes that are right or wrong, p is that of McNemar's exact test;
    else it is the normal one of the resampled differences.
    """
    differences = resampled[0] - resampled[1]
    low, high = np.quantile(differences, (LEVEL / 2, 1 - LEVEL / 2))
    value = float(first.mean() - second.mean())
    if has_single_verdicts(first, second):
        p = mcnemar_test(int((first > second).sum()), int((first < second).sum()))
    else:
        spread = float(differences.std())
        p = float(2 * ndtr(-abs(value) / spread)) if spread else float(value == 0)
    return Difference(value, float(low), float(high), p)


def has_single_verdicts(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether both models, (S,N) each, have one seed, and each image is right or wrong."""
    one_seed = len(first) == len(second) == 1
    return one_seed and bool(np.isin([first, second], (0, 1)).all())


def mcnemar_test(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    Args:
        first_only: number of images that only the first model classified correctly.
        second_only: number of those that only the second did.
    """
    total = first_only + second_only
    return min(1.0, 2 * float(bdtr(min(first_only, second_only), total, 0.5)))


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order (Scand. J. Statist. 1979).

    Rejecting those of at most 5 % keeps the chance of any false rejection in the family at 5 %.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.maximum.accumulate(np.array(p_values)[order] * factors).clip(max=1)
    found = np.empty(len(order))
    found[order] = adjusted
    return found.tolist()
