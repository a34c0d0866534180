"""95 % intervals: of a share, over seeds, and of a difference paired by image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import bdtrc, ndtri, stdtrit

REVISION = 2

UPPER_QUANTILE = 0.975  # leaves 2.5 % on either side
RESAMPLE_COUNT = 2000


@dataclass(frozen=True)
class ConfidenceInterval:
    """A value and the ends of its 95 % interval, all in the value's unit."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def wilson_interval(share: float, n: int) -> ConfidenceInterval:
    """Score interval of a share in [0,1] of n independent samples (Wilson, JASA 1927).

    For the mean of values in [0,1], such as an image's share over corruptions, it is
    never too narrow: their variance is at most share (1 - share). SciPy's `binomtest` accepts whole
    numbers of successes only, so the formula is computed here.
    """
    z = ndtri(UPPER_QUANTILE)
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = min(share, center - half), max(share, center + half)
    return ConfidenceInterval(share, float(max(low, 0.0)), float(min(high, 1.0)))


def student_t_interval(values: Sequence[float]) -> ConfidenceInterval:
    """Student's t interval of the mean of two or more independent values."""
    mean = float(np.mean(values))
    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, UPPER_QUANTILE) * standard_error)
    return ConfidenceInterval(mean, mean - half, mean + half)


def bootstrap_interval(difference: np.ndarray, rng: torch.Generator) -> ConfidenceInterval:
    """Percentile bootstrap interval of the mean of differences (N,), over resampled images."""
    values, counts = np.unique(np.asarray(difference, np.float64), return_counts=True)
    seed = int(torch.randint(2**63 - 1, (1,), generator=rng))
    # How often each value is drawn: the same as drawing images, without looking at each of them.
    drawn = np.random.default_rng(seed).multinomial(
        len(difference), counts / len(difference), size=RESAMPLE_COUNT
    )
    low, high = np.quantile(drawn @ values / len(difference), (1 - UPPER_QUANTILE, UPPER_QUANTILE))
    return ConfidenceInterval(float(np.mean(difference)), float(low), float(high))


def sign_test(wins: int, losses: int) -> float:
    """One-sided p-value: the probability of ``wins`` or more if a win is as likely as a loss."""
    return float(bdtrc(wins - 1, wins + losses, 0.5)) if wins else 1.0
