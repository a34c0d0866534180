"""Two models on the same images: their difference, its interval, and whether it may be chance.

With one seed each, McNemar's exact test counts the images that only one of them gets right. With
several, images and seeds are resampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.report.outcomes import Outcome, align_outcomes, find_common_rows
from pipeline.report.statistics.intervals import ConfidenceInterval
from pipeline.report.statistics.resampling import (
    LEVEL,
    compare_models,
    correct_by_holm,
    has_single_verdicts,
    resample_accuracies,
)

REVISION = 1


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
        return self.adjusted_p_value <= LEVEL


def stack_outcomes(outcomes: Sequence[Outcome], index: np.ndarray) -> np.ndarray:
    """Correctness (S,N) of several seeds on given images."""
    wanted = Outcome(index, np.zeros(len(index)))
    return np.stack([align_outcomes(o, wanted)[0].correctness for o in outcomes])


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
    index = find_common_rows(o.index for outcomes in models.values() for o in outcomes)
    if not len(index):
        raise ValueError(f"{', '.join(models)} have no image in common")
    rows = {name: stack_outcomes(outcomes, index) for name, outcomes in models.items()}
    resampled = resample_accuracies(rows, np.random.default_rng(0))
    pairs = []
    for one, two in combinations(rows, 2):
        found = compare_models(rows[one], rows[two], (resampled[one], resampled[two]))
        difference = ConfidenceInterval(found.value, found.low, found.high)
        counts = count_discordant(rows[one], rows[two])
        pairs.append(PairedComparison(one, two, len(index), difference, *counts, found.p, found.p))
    return correct_family(pairs)


def count_discordant(first: np.ndarray, second: np.ndarray) -> tuple[int, int] | tuple[None, None]:
    """Images that only one of two models gets right, where each has one seed and one attack."""
    if not has_single_verdicts(first, second):
        return None, None
    return int((first > second).sum()), int((first < second).sum())


def correct_family(pairs: Sequence[PairedComparison]) -> list[PairedComparison]:
    """The comparisons with p-values corrected for how many there are."""
    adjusted = correct_by_holm([pair.p_value for pair in pairs])
    return [replace(pair, adjusted_p_value=p) for pair, p in zip(pairs, adjusted, strict=True)]
