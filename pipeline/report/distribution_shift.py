"""Distribution shift: predictions restricted to some classes, and errors under corruptions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

REVISION = 1

# Mean errors in percent over five severities (Hendrycks and Dietterich, ICLR 2019).
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
SEVERITY_COUNT = 5
NORMAL_QUANTILE = 1.959964  # leaves 2.5 % on either side
Errors = Mapping[tuple[str, int], float]  # in [0,1], by corruption and severity


class ClassSubsetClassifier(nn.Module):
    """A classifier restricted to some of its classes: the other logits are minus infinity.

    ImageNet-A and -R are scored among their 200 classes (Hendrycks et al., CVPR and ICCV 2021).
    """

    def __init__(self, model: nn.Module, labels: Sequence[int]):
        super().__init__()
        self.model = model
        self.register_buffer("labels", torch.tensor(labels))
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K) of images (B,C,H,W) in [0,1]."""
        logits = self.model(x)
        is_scored = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        is_scored[self.labels.to(logits.device)] = True
        return logits.masked_fill(~is_scored, -torch.inf)


def mean_corruption_error(errors: Errors) -> float | None:
    """mCE: the mean over 15 corruptions of their error over AlexNet's, in percent.

    Args:
        errors: errors in [0,1] by corruption and severity, 1 to 5.

    Returns:
        None unless all 75 errors are given.
    """
    ratios = []
    for name, alexnet_error in ALEXNET_ERRORS.items():
        found = [errors.get((name, severity)) for severity in range(1, SEVERITY_COUNT + 1)]
        if None in found:
            return None
        ratios.append(100 * sum(found) / SEVERITY_COUNT / alexnet_error)
    return 100 * sum(ratios) / len(ratios)


def average_severities(errors: Errors) -> dict[str, float]:
    """The mean error in [0,1] of each corruption over its severities."""
    by_name: dict[str, list[float]] = {}
    for (name, _), error in errors.items():
        by_name.setdefault(name, []).append(error)
    return {name: sum(found) / len(found) for name, found in by_name.items()}


def mean_error(errors: Errors) -> float:
    """The mean over corruptions of their mean error over severities, in percent."""
    by_name = average_severities(errors)
    return 100 * sum(by_name.values()) / len(by_name)


def compute_relative_error(errors: Errors, reference: Errors) -> float | None:
    """The mean over corruptions of their error over a reference's, in percent.

    It is what mCE is with AlexNet as the reference. None if the two have other corruptions or
    severities, or the reference makes no error under one of them.
    """
    own, other = average_severities(errors), average_severities(reference)
    if errors.keys() != reference.keys() or not all(other.values()):
        return None
    return 100 * sum(own[name] / other[name] for name in own) / len(own)


def bound_mean_error(errors: Errors, image_count: int, value: float) -> float:
    """Half of a 95 % interval, in percent, of a ratio of mean errors whose value is given.

    The parts' errors count as fully correlated, as where each is of the same images: then their
    standard deviations add up, and the interval is never too narrow. The reference counts as known.
    """
    mean = mean_error(errors)
    if not mean:
        return 0.0
    deviation = sum((e * (1 - e) / image_count) ** 0.5 for e in errors.values()) / len(errors)
    return NORMAL_QUANTILE * deviation * 100 * value / mean
