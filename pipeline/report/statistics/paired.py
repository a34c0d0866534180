"""Two models on the same images: their difference, its interval, and whether it may be chance.

With one seed each, McNemar's exact test counts the images that only one of them gets right. With
several, the bootstrap draws seeds first and images within them, and its p-value is two-sided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.intervals import ConfidenceInterval
from pipeline.report.outcomes import ModelGroup, Outcome, align_outcomes

REVISION = 1

RESAMPLE_COUNT, BLOCK = 2000, 200
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class PairedComparison:
    """The first model's accuracy minus the second's.

    Attributes:
        first: name of the first model.
        second: name of the second.
        images: number of images that both saw.
        difference: in [-1,1], with its 95 % interval from the paired bootstrap.
        first_only: images that only the first gets right; None for several seeds.
        second_only: images that only the second gets right; None for several seeds.
        p_value: two-sided, of the hypothesis that the two do not differ.
        adjusted_p_value: corrected for the number of pairs that were looked at.
    """

    first: str
    second: str
    images: int
    difference: ConfidenceInterval
    first_only: int | None
    second_only: int | None
    p_value: float
    adjusted_p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether these images show a difference, at 5 % over the whole family of pairs."""
        return self.adjusted_p_value <= SIGNIFICANCE_LEVEL


def mcnemar_test(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test, from the images that only one gets right."""
    from scipy.stats import binomtest  # the import takes a second, and few reports need it

    if not first_only + second_only:
        return 1.0
    return float(binomtest(first_only, first_only + second_only).pvalue)


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order (Scand. J. Statist. 1979).

    Rejecting those of at most 5 % keeps the chance of any false rejection in the family at 5 %.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def resample_accuracies(correctness: np.ndarray, seed: int = 0) -> np.ndarray:
    """Accuracies (M,R) of M rows of correctness (M,N) on R resamples of the images, shared by all.

    Resamples are drawn block by block, so that memory stays small.
    """
    rng, count = np.random.default_rng(seed), correctness.shape[1]
    rows, found = np.asarray(correctness, np.float32), []
    for start in range(0, RESAMPLE_COUNT, BLOCK):
        size = min(BLOCK, RESAMPLE_COUNT - start)
        drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(size)]
        found.append(rows @ np.float32(drawn).T / count)
    return np.concatenate(found, axis=1).astype(float)


def average_drawn_seeds(accuracies: np.ndarray, stream: int, seed: int = 0) -> np.ndarray:
    """Mean accuracies (R,) over seeds that are drawn anew for each resample, of (S,R)."""
    seeds, resamples = accuracies.shape
    drawn = np.random.default_rng([seed, stream]).integers(seeds, size=(seeds, resamples))
    return np.take_along_axis(accuracies, drawn, axis=0).mean(axis=0)


def summarise_differences(
    value: float, differences: np.ndarray
) -> tuple[ConfidenceInterval, float]:
    """A difference with the 95 % interval of its resamples (R,), and the two-sided p-value."""
    low, high = np.quantile(differences, [0.025, 0.975])
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    p = min(1.0, 2 * (1 + int(tail)) / (1 + len(differences)))
    return ConfidenceInterval(value, float(low), float(high)), p


def stack_outcomes(outcomes: Sequence[Outcome], index: np.ndarray) -> np.ndarray:
    """Correctness (S,N) of several seeds on given images."""
    wanted = Outcome(index, np.zeros(len(index)))
    return np.stack([align_outcomes(o, wanted)[0].correctness for o in outcomes])


def find_common_images(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Rows (N,) of the images that are in all outcomes, ascending."""
    index = outcomes[0].index
    for outcome in outcomes[1:]:
        index = np.intersect1d(index, outcome.index, assume_unique=True)
    return index


def compare_outcomes(
    models: Mapping[str, Sequence[Outcome]],
) -> list[PairedComparison]:
    """Every pair of models, each with the outcomes of its seeds, on the images that all saw.

    P-values are corrected for the number of pairs.

    Raises:
        ValueError: there is no such image.
    """
    if len(models) < 2:
        return []
    index = find_common_images([o for outcomes in models.values() for o in outcomes])
    if not len(index):
        raise ValueError(f"{', '.join(models)} have no image in common")
    rows = {name: stack_outcomes(outcomes, index) for name, outcomes in models.items()}
    resampled = np.split(
        resample_accuracies(np.concatenate([*rows.values()])),
        np.cumsum([len(r) for r in rows.values()])[:-1],
    )
    drawn = {
        name: average_drawn_seeds(found, stream)
        for stream, (name, found) in enumerate(zip(rows, resampled, strict=True))
    }
    pairs = []
    for one, two in combinations(rows, 2):
        value = float(rows[one].mean() - rows[two].mean())
        difference, p = summarise_differences(value, drawn[one] - drawn[two])
        pairs.append(count_discordant(one, two, rows, difference, p))
    return correct_family(pairs)


def count_discordant(
    one: str, two: str, rows: Mapping[str, np.ndarray], difference: ConfidenceInterval, p: float
) -> PairedComparison:
    """The comparison of two models, by McNemar's test where each has one seed and one attack."""
    first, second = rows[one], rows[two]
    wins = losses = None
    if len(first) == len(second) == 1 and set(np.unique([first, second])) <= {0.0, 1.0}:
        wins, losses = int((first > second).sum()), int((first < second).sum())
        p = mcnemar_test(wins, losses)
    return PairedComparison(one, two, first.shape[1], difference, wins, losses, p, p)


def compare_groups(
    groups: Sequence[ModelGroup], points: Sequence[AttackPoint]
) -> list[PairedComparison]:
    """Every pair of the models that ran these attacks; accuracy is the mean over the attacks."""
    return compare_outcomes({g.name: f for g in groups if (f := g.average_by_member(points))})


def correct_family(pairs: Sequence[PairedComparison]) -> list[PairedComparison]:
    """The comparisons with p-values corrected for how many there are."""
    adjusted = correct_by_holm([pair.p_value for pair in pairs])
    return [replace(pair, adjusted_p_value=p) for pair, p in zip(pairs, adjusted, strict=True)]
