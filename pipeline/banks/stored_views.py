"""Stored views: augmented, mixed images that a bank's builder and its readers compute alike.

Flip, crop, operations, partner, lambda and box are functions of (seed, source row, view). Pixels
stay uint8 and are mixed in integers, so they are the same on every device.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.config.sections.bank import BankSpec
from pipeline.core.augment import PADDING, crop_at_shift, flip_where, rand_augment
from pipeline.core.devices.placement import copy_to_device
from pipeline.core.seeding import derive_seed, draw_uniforms, make_generator

REVISION = 1

WEIGHT_UNITS = 256  # lambda is a multiple of 1/256
(
    FLIP,
    CROP_DOWN,
    CROP_RIGHT,
    OPERATIONS,
    PARTNER,
    LAMBDA,
    CUTMIX_CHOICE,
    BOX_CENTRE_Y,
    BOX_CENTRE_X,
) = range(9)


class IndexedImages(Protocol):
    """Images that can be indexed by a LongTensor, in memory or in files."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images (B,C,H,W) uint8 at the indices."""


@dataclass(frozen=True)
class ImageSet:
    """Clean images or samples, with the groups that may be mixed with each other.

    Attributes:
        images: M images, indexed from 0.
        rows: (M,) int64 source row of each image.
        shard_starts: (S+1,) first index of each shard and one past the last; partners share a
            shard.
    """

    images: IndexedImages
    rows: np.ndarray
    shard_starts: np.ndarray


@dataclass(frozen=True)
class StoredViews:
    """The settings of a bank's views and the seed of their draws."""

    seed: int
    count: int
    augment: str
    rand_augment: int
    mixup: float
    cutmix: float

    @classmethod
    def from_spec(cls, spec: BankSpec) -> "StoredViews":
        """The views of a bank's spec, which must have the section `views`."""
        return cls(seed=derive_seed(spec.seed, "views"), **spec.views.model_dump())

    @property
    def has_mixing(self) -> bool:
        """Whether an image is mixed with a partner."""
        return self.mixup > 0 or self.cutmix > 0

    def make_view(
        self, image_set: ImageSet, index: Tensor, view: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One view of the images at ``index`` (B,), on the host, of an image set.

        Returns:
            Images (B,C,H,W) uint8, indices of partners (B,) int64, and shares (B,) in [0,1] of the
            image itself: 1 where nothing is mixed.
        """
        draws = draw_uniforms(self.seed, image_set.rows[index.numpy()], view, BOX_CENTRE_X + 1)
        own = self.augment_images(image_set, index, draws, view)
        if not self.has_mixing:
            return own, index, torch.ones(len(index), dtype=torch.float64)
        partners = torch.from_numpy(draw_partners(image_set, index.numpy(), draws[:, PARTNER]))
        other_draws = draw_uniforms(
            self.seed, image_set.rows[partners.numpy()], view, BOX_CENTRE_X + 1
        )
        other = self.augment_images(image_set, partners, other_draws, view)
        weights = self.compute_pixel_weights(draws, own.shape[-2:])
        mixed = blend_images(own, other, copy_to_device(torch.from_numpy(weights), own.device))
        return mixed, partners, torch.from_numpy(weights.mean((1, 2)) / WEIGHT_UNITS)

    def augment_images(
        self, image_set: ImageSet, index: Tensor, draws: np.ndarray, view: int
    ) -> Tensor:
        """Images (B,C,H,W) uint8 after RandAugment's operations, flip and crop."""
        images = image_set.images
        x = images[copy_to_device(index, images.device) if isinstance(images, Tensor) else index]
        if self.rand_augment:
            rows, home = image_set.rows[index.numpy()], x.device
            rngs = [make_generator(self.seed, "operations", view, int(row)) for row in rows]
            one_by_one = zip(x.cpu(), rngs, strict=True)
            done = [rand_augment(image[None], self.rand_augment, rng) for image, rng in one_by_one]
            x = torch.cat(done).to(home)
        if self.augment == "none":
            return x
        x = flip_where(x, copy_to_device(torch.from_numpy(draws[:, FLIP] < 0.5), x.device))
        if self.augment == "flip":
            return x
        shift = torch.from_numpy(
            (draws[:, [CROP_DOWN, CROP_RIGHT]] * (2 * PADDING + 1)).astype(np.int64)
        )
        return crop_at_shift(x, *copy_to_device(shift, x.device).t().unsqueeze(-1))

    def compute_pixel_weights(self, draws: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The weights of the image itself at each pixel, (B,H,W) int32 from 0 to 256."""
        height, width = size
        cut = draws[:, CUTMIX_CHOICE] < 0.5 if self.mixup and self.cutmix else self.cutmix > 0
        cut = np.broadcast_to(cut, len(draws))
        mixup = np.rint(WEIGHT_UNITS * beta_quantile(self.mixup, draws[:, LAMBDA])).astype(np.int32)
        weights = np.repeat(mixup, height * width).reshape(-1, height, width)
        boxes = draw_cutmix_boxes(
            np.sqrt(1 - beta_quantile(self.cutmix, draws[:, LAMBDA])), draws, size
        )
        for i in np.flatnonzero(cut):
            top, bottom, left, right = boxes[:, i]
            weights[i] = WEIGHT_UNITS
            weights[i, top:bottom, left:right] = 0
        return weights


def draw_partners(image_set: ImageSet, index: np.ndarray, uniform_draws: np.ndarray) -> np.ndarray:
    """The index (B,) of each image's partner: any image of its shard, itself included."""
    shard = np.searchsorted(image_set.shard_starts, index, side="right") - 1
    first, stop = image_set.shard_starts[shard], image_set.shard_starts[shard + 1]
    return first + (uniform_draws * (stop - first)).astype(np.int64)


def beta_quantile(alpha: float, uniform_draws: np.ndarray) -> np.ndarray:
    """Beta(alpha, alpha) variates from uniform ones; 1 for alpha 0, which mixes nothing."""
    if alpha == 0:
        return np.ones_like(uniform_draws)
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, uniform_draws)


def draw_cutmix_boxes(
    side_share: np.ndarray, draws: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """CutMix's boxes (4,B) int64: top, bottom, left, right.

    Height and width are ``side_share`` (B,) of the image's. The centre is uniform, and a box is
    clipped at the borders (Yun et al., ICCV 2019).
    """
    ends = []
    for length, draw in zip(size, (draws[:, BOX_CENTRE_Y], draws[:, BOX_CENTRE_X]), strict=True):
        half = (side_share * length).astype(np.int64) // 2
        centre = (draw * length).astype(np.int64)
        ends += [np.clip(centre - half, 0, length), np.clip(centre + half, 0, length)]
    return np.stack(ends)


def blend_images(own: Tensor, partner: Tensor, weights: Tensor) -> Tensor:
    """Blends (w own + (256 - w) partner) / 256, rounded, uint8 (B,C,H,W); w (B,H,W) int32."""
    w = weights.unsqueeze(1)
    return ((w * own + (WEIGHT_UNITS - w) * partner + WEIGHT_UNITS // 2) // WEIGHT_UNITS).to(
        torch.uint8
    )
