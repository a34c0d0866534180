"""How well a model's confidence agrees with its accuracy (Guo et al., ICML 2017)."""

import numpy as np

from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Outcome
from pipeline.report.statistics.intervals import ConfidenceInterval, student_t_interval

REVISION = 1

BIN_COUNT = 15
RESAMPLE_COUNT = 1000


def compute_calibration_error(
    confidence: np.ndarray, correctness: np.ndarray, bin_count: int = BIN_COUNT
) -> float:
    """ECE in [0,1]: the mean gap of accuracy and confidence over bins of equal width.

    Args:
        confidence: probability of the predicted class (N,), in [0,1].
        correctness: 1 where the prediction is correct, else 0 (N,).
        bin_count: number of bins; a bin holds its upper end, not its lower one.
    """
    bins = np.clip(np.ceil(confidence * bin_count) - 1, 0, bin_count - 1).astype(int)
    gaps = np.bincount(bins, weights=correctness - confidence, minlength=bin_count)
    return float(np.abs(gaps).sum() / len(confidence))


def estimate_calibration_error(outcome: Outcome, seed: int = 0) -> ConfidenceInterval | None:
    """ECE in [0,1] with the 95 % bootstrap interval over images; None without confidences.

    ECE is biased upwards, and more so in resamples: the interval is the basic one, reflected about
    the value, and cut off at 0.
    """
    if outcome.confidence is None:
        return None
    rng, count = np.random.default_rng(seed), len(outcome.index)
    value = compute_calibration_error(outcome.confidence, outcome.correctness)
    resampled = np.empty(RESAMPLE_COUNT)
    for number in range(RESAMPLE_COUNT):
        rows = rng.integers(count, size=count)
        resampled[number] = compute_calibration_error(
            outcome.confidence[rows], outcome.correctness[rows]
        )
    low, high = 2 * value - np.quantile(resampled, [0.975, 0.025])
    return ConfidenceInterval(value, float(min(max(low, 0), value)), float(max(high, value)))


def estimate_group_calibration(group: ModelGroup) -> ConfidenceInterval | None:
    """A model's ECE on clean images: over images for one seed, else over seeds; None if missing."""
    if CLEAN_POINT not in group.common_points:
        return None
    found = [estimate_calibration_error(outcomes[CLEAN_POINT]) for outcomes in group.outcomes]
    known = [interval for interval in found if interval is not None]
    if len(known) < len(found):
        return None
    return known[0] if len(known) == 1 else student_t_interval([i.value for i in known])
