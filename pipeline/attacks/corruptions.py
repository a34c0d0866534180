"""Common corruptions (Hendrycks and Dietterich, ICLR 2019) with either paper's strengths.

Those of ImageNet-C come from imagecorruptions, those of CIFAR-10-C from our own rewriting of its
generator. They are computed at the images' own size. The published files are data sets.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    predict_classes,
)
from pipeline.core.corruptions import cifar
from pipeline.core.corruptions.names import CORRUPTIONS
from pipeline.core.seeding import derive_seed
from pipeline.errors import RetortError

REVISION = 3
COMPONENTS = (
    "pipeline.core.attack_protocol",
    "pipeline.core.corruptions.cifar",
    "pipeline.core.corruptions.cifar_strengths",
    "pipeline.core.pgd",
    "pipeline.core.seeding",
    "pipeline.core.threat_models",
)

SEEDED_BY_ARGUMENT = ("impulse_noise", "glass_blur")  # these ignore numpy's global generator
MIN_SIDE = 32
LARGE_SIDE = 64  # smaller images get CIFAR-10-C's strengths unless the suite says otherwise

Strengths = Literal["cifar", "imagenet"]


def choose_strengths(shape: tuple[int, ...]) -> Strengths:
    """The strengths for images of a shape (C,H,W) where a suite names none."""
    return "cifar" if min(shape[1:]) < LARGE_SIDE else "imagenet"


@contextmanager
def preserve_numpy_state() -> Iterator[None]:
    """Restores numpy's global generator, the only one the library draws from."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def corrupt_image(
    image: np.ndarray, name: str, severity: int, seed: int, strengths: Strengths
) -> np.ndarray:
    """One image (H,W,3) uint8 corrupted, same shape and type.

    The noise is drawn for (seed, name, severity, the image's bytes): an image is corrupted the
    same way in any batch, and its row need not be known.
    """
    from imagecorruptions import corrupt

    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
    image_seed = derive_seed(seed, "corruption", name, severity, digest) % 2**32
    if strengths == "cifar":
        return cifar.corrupt(image, name, severity, image_seed)
    np.random.seed(image_seed)
    seed_option = {"seed": image_seed} if name in SEEDED_BY_ARGUMENT else {}
    return corrupt(image, severity=severity, corruption_name=name, **seed_option)


def explain_bad_shape(shape: tuple[int, ...]) -> str:
    """Why images of a shape (C,H,W) cannot be corrupted; empty if they can."""
    channels, height, width = shape
    if channels in (1, 3) and min(height, width) >= MIN_SIDE:
        return ""
    return (
        f"images are {channels}x{height}x{width}, but need 1 or 3 channels and {MIN_SIDE} pixels; "
        "leave corruptions out of this data set's suites"
    )


def corrupt_batch(
    x: Tensor, name: str, severity: int, seed: int, strengths: Strengths | None = None
) -> Tensor:
    """Images (B,C,H,W) in [0,1], C 1 or 3, corrupted at 8 bits; same shape, type and device.

    Without ``strengths``, the images' side chooses them.

    Raises:
        RetortError: the images are smaller than 32 pixels or not of one or three channels.
    """
    if why := explain_bad_shape(x.shape[1:]):
        raise RetortError(f"attack corruptions: {why}")
    strengths = strengths or choose_strengths(x.shape[1:])
    channels = x.shape[1]
    images = (x * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    with preserve_numpy_state():
        corrupted = np.stack([corrupt_image(i, name, severity, seed, strengths) for i in images])
    pixels = torch.from_numpy(corrupted).permute(0, 3, 1, 2)[:, :channels]
    return (pixels.to(x.device, x.dtype) / 255).contiguous()


@dataclass(frozen=True)
class Attack:
    """Each named corruption at one severity; the results' eps is 0.

    Attributes:
        names: the corruptions, of the benchmark's nineteen.
        severity: 1 (mild) to 5.
        strengths: what a severity means: "cifar", as in CIFAR-10-C, or "imagenet", as in
            ImageNet-C, which is much stronger on small images. By default "cifar" for images of
            less than 64 pixels. The table names it.
    """

    names: tuple[str, ...] = (
        "gaussian_noise",
        "defocus_blur",
        "fog",
        "contrast",
        "jpeg_compression",
    )
    severity: int = 3
    n_eval: int | None = None
    chunk: int = 500
    strengths: Strengths | None = field(default=None, metadata={"neutral": None})

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in CORRUPTIONS]
        if unknown or not self.names:
            raise ValueError(
                f"names: unknown {', '.join(unknown)}; choose from {', '.join(CORRUPTIONS)}"
            )
        if self.severity not in range(1, 6):
            raise ValueError(f"severity: {self.severity} is outside 1 to 5")
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    def explain_misfit(self, shape: tuple[int, ...], class_count: int) -> str:
        """Why images of a shape (C,H,W) cannot be corrupted; empty if they can."""
        return explain_bad_shape(shape)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A forward for each corruption."""
        return len(self.names)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under each corruption and the severity; y plays no part."""
        check_model(model)
        strengths = self.strengths or choose_strengths(x.shape[1:])
        found = {}
        for name in self.names:
            images = corrupt_batch(x, name, self.severity, seed, strengths)
            point = AttackPoint(
                "corruptions",
                corruption=name,
                severity=self.severity,
                variant=strengths,
            )
            found[point] = predict_classes(judge or model, images)
        return found
