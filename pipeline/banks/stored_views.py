"""Stored views: augmented, mixed images that a bank's maker and its readers compute alike.

Everything is a function of (seed, source row, view): flip, crop, operations, partner, lambda and
box. Pixels stay uint8 and are mixed in integers, so that they are the same on every device.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.config.sections.bank import BankSpec
from pipeline.core.augment import PAD, mirrored, rand_augment, window
from pipeline.core.seeding import generator, seed_of, uniforms

REVISION = 1

UNITS = 256  # lambda is a multiple of 1/256
FLIP, DOWN, RIGHT, OPERATIONS, PARTNER, LAMBDA, CHOICE, TOP, LEFT = range(9)


class Images(Protocol):
    """Images that are indexed by a LongTensor, in memory or not."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """uint8 (B,C,H,W)."""


@dataclass(frozen=True)
class Side:
    """Clean images or samples: where they are, and which of them may be mixed with each other.

    Attributes:
        images: indexed from 0.
        rows: (M,) int64 source row of each.
        starts: (S+1,) first index of each shard and one past the last: partners share a shard.
    """

    images: Images
    rows: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Views:
    """What is drawn: a bank's `views` and the seed of its draws."""

    seed: int
    count: int
    augment: str
    rand_augment: int
    mixup: float
    cutmix: float

    @classmethod
    def of(cls, spec: BankSpec) -> "Views":
        """The views of a bank's spec, which must have some."""
        return cls(seed=seed_of(spec.seed, "views"), **spec.views.model_dump())

    @property
    def mixes(self) -> bool:
        """Whether an image is mixed with a partner."""
        return self.mixup > 0 or self.cutmix > 0

    def images(self, side: Side, index: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """A view of samples ``index`` (B,) of a side.

        Returns:
            Images (B,C,H,W) uint8, partners (B,) int64, and shares (B,) of the sample itself in
            [0,1]: 1 where nothing is mixed.
        """
        index = index.cpu()
        draws = uniforms(self.seed, side.rows[index.numpy()], view, LEFT + 1)
        own = self.changed(side, index, draws, view)
        if not self.mixes:
            return own, index, torch.ones(len(index), dtype=torch.float64)
        partners = torch.from_numpy(partners_of(side, index.numpy(), draws[:, PARTNER]))
        other_draws = uniforms(self.seed, side.rows[partners.numpy()], view, LEFT + 1)
        other = self.changed(side, partners, other_draws, view)
        weights = self.weights(draws, own.shape[-2:])
        mixed = blended(own, other, torch.from_numpy(weights).to(own.device))
        return mixed, partners, torch.from_numpy(weights.mean((1, 2)) / UNITS)

    def changed(self, side: Side, index: Tensor, draws: np.ndarray, view: int) -> Tensor:
        """Images (B,C,H,W) uint8 after operations, flip and crop."""
        x = side.images[index]
        if self.rand_augment:
            rows, home = side.rows[index.numpy()], x.device
            rngs = [generator(self.seed, "operations", view, int(row)) for row in rows]
            one_by_one = zip(x.cpu(), rngs, strict=True)
            done = [rand_augment(image[None], self.rand_augment, rng) for image, rng in one_by_one]
            x = torch.cat(done).to(home)
        if self.augment == "none":
            return x
        x = mirrored(x, torch.from_numpy(draws[:, FLIP] < 0.5).to(x.device))
        if self.augment == "flip":
            return x
        shift = torch.from_numpy((draws[:, [DOWN, RIGHT]] * (2 * PAD + 1)).astype(np.int64))
        return window(x, *shift.to(x.device).t().unsqueeze(-1))

    def weights(self, draws: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The image's own weight at each pixel, (B,H,W) int32 in 0 to 256."""
        height, width = size
        cut = draws[:, CHOICE] < 0.5 if self.mixup and self.cutmix else self.cutmix > 0
        cut = np.broadcast_to(cut, len(draws))
        mixup = np.rint(UNITS * beta_quantile(self.mixup, draws[:, LAMBDA])).astype(np.int32)
        weights = np.repeat(mixup, height * width).reshape(-1, height, width)
        boxes = box(np.sqrt(1 - beta_quantile(self.cutmix, draws[:, LAMBDA])), draws, size)
        for i in np.flatnonzero(cut):
            top, bottom, left, right = boxes[:, i]
            weights[i] = UNITS
            weights[i, top:bottom, left:right] = 0
        return weights


def partners_of(side: Side, index: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Index (B,) of each sample's partner: any of its shard, itself included."""
    shard = np.searchsorted(side.starts, index, side="right") - 1
    first, stop = side.starts[shard], side.starts[shard + 1]
    return first + (draw * (stop - first)).astype(np.int64)


def beta_quantile(alpha: float, draw: np.ndarray) -> np.ndarray:
    """Beta(alpha, alpha) variates of uniform ones; 1 for alpha 0, which mixes nothing."""
    if alpha == 0:
        return np.ones_like(draw)
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, draw)


def box(side: np.ndarray, draws: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """CutMix's boxes (4,B) int64: top, bottom, left, right.

    Each has ``side`` (B,) of both lengths around a uniform centre and is cut off at the borders
    (Yun et al., ICCV 2019).
    """
    ends = []
    for length, draw in zip(size, (draws[:, TOP], draws[:, LEFT]), strict=True):
        half = (side * length).astype(np.int64) // 2
        centre = (draw * length).astype(np.int64)
        ends += [np.clip(centre - half, 0, length), np.clip(centre + half, 0, length)]
    return np.stack(ends)


def blended(own: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """(w own + (256 - w) other) / 256, rounded, uint8 (B,C,H,W); weights (B,H,W) int32."""
    w = weights.unsqueeze(1)
    return ((w * own + (UNITS - w) * other + UNITS // 2) // UNITS).to(torch.uint8)
