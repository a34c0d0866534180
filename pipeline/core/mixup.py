"""Soft labels, Mixup and CutMix of a batch: timm's, seeded from the step's generator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.seeding import draw_host_seed

REVISION = 1


@dataclass(frozen=True)
class MixSettings:
    """How strongly a batch's images and labels are mixed; all at zero leaves them unchanged.

    With both Mixup and CutMix on, each batch uses one of them.

    Attributes:
        mixup: alpha of Mixup's Beta distribution (Zhang et al., ICLR 2018); 0 switches it off.
        cutmix: alpha of CutMix's distribution (Yun et al., ICCV 2019); 0 switches it off.
        smoothing: share of a label that is spread over all classes.
        classes: number of classes K.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0
    classes: int = 0

    @property
    def mixes_images(self) -> bool:
        """Whether images are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def has_soft_labels(self) -> bool:
        """Whether labels become distributions (B,K)."""
        return self.mixes_images or self.smoothing > 0


@contextmanager
def seed_numpy(rng: torch.Generator) -> Iterator[None]:
    """Seeds numpy's global generator, which timm uses, from ``rng``; restores it afterwards."""
    before = np.random.get_state()
    np.random.seed(draw_host_seed(rng, "mix"))
    try:
        yield
    finally:
        np.random.set_state(before)


def smooth_labels(y: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels (B,) as distributions (B,K): 1 - smoothing on the label, the rest spread over all."""
    return F.one_hot(y, classes) * (1 - smoothing) + smoothing / classes


def mix(x: Tensor, y: Tensor, settings: MixSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B,C,H,W) mixed with the batch in reverse order, and their labels (B,K).

    If nothing is switched on, images and labels (B,) are returned unchanged. The last sample of an
    odd batch is not mixed, because timm pairs samples.
    """
    if not settings.has_soft_labels:
        return x, y
    if not settings.mixes_images:
        return x, smooth_labels(y, settings.classes, settings.smoothing)
    from timm.data.mixup import Mixup

    even = len(x) - len(x) % 2
    with seed_numpy(rng):
        mixer = Mixup(
            settings.mixup,
            settings.cutmix,
            label_smoothing=settings.smoothing,
            num_classes=settings.classes,
        )
        images, labels = mixer(x[:even].clone(), y[:even])
    rest = smooth_labels(y[even:], settings.classes, settings.smoothing)
    return torch.cat([images, x[even:]]), torch.cat([labels, rest])
