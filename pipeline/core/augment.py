"""Random augmentations of a batch at once, on its device."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pipeline.core.collectives import repeat_for_ranks, take_own_rows
from pipeline.core.devices import placement
from pipeline.core.seeding import draw_host_seed, make_generator

REVISION = 1

Images = Float[Tensor, "B C H W"]
PADDING = 4  # pixels, the usual CIFAR crop


def flip(x: Images, rng: torch.Generator) -> Images:
    """The images, each mirrored left to right with probability one half."""
    return flip_where(x, torch.rand(len(x), generator=rng, device=x.device) < 0.5)


def flip_where(x: Tensor, mask: Tensor) -> Tensor:
    """Images (B,C,H,W), mirrored left to right where ``mask`` (B,) bool is true."""
    return torch.where(mask.view(-1, 1, 1, 1), x.flip(3), x)


def crop(x: Images, rng: torch.Generator) -> Images:
    """The images padded by 4 zero pixels, then cropped to their old size at a random place."""
    shift = torch.randint(0, 2 * PADDING + 1, (2, len(x), 1), generator=rng, device=x.device)
    return crop_at_shift(x, shift[0], shift[1])


def crop_at_shift(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Images (B,C,H,W) zero-padded, then cropped at shifts (B,1) of 0 to 8 pixels; 4 is centred."""
    b, c, h, w = x.shape
    padded = F.pad(x, (PADDING,) * 4)
    rows = (down + torch.arange(h, device=x.device)).view(b, 1, h, 1)
    columns = (right + torch.arange(w, device=x.device)).view(b, 1, 1, w)
    cut = padded.gather(2, rows.expand(b, c, h, w + 2 * PADDING))
    return cut.gather(3, columns.expand(b, c, h, w))


def draw_crop_box(width: int, height: int, rng: torch.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part of an image (Szegedy et al., CVPR 2015).

    Its area is 8 to 100 % of the image's, its ratio of sides 3/4 to 4/3. If ten draws do not fit,
    it is the largest such box in the centre.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        area, ratio, left, top = torch.rand(4, generator=rng, device=rng.device).tolist()
        area, ratio = width * height * (0.08 + 0.92 * area), math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def resized_crop(x: Images, rng: torch.Generator) -> Images:
    """A random part of each image, resized to the old size; the places are drawn on the host."""
    size = x.shape[2:]
    if placement.is_accelerator(rng.device):  # reading its draws would wait, once for each image
        rng = make_generator(draw_host_seed(rng, "crop"))
    parts = []
    for image in x:
        left, top, right, bottom = draw_crop_box(size[1], size[0], rng)
        part = image[None, :, top:bottom, left:right]
        parts.append(F.interpolate(part, size, mode="bilinear", antialias=True))
    return torch.cat(parts)


def erase(x: Images, probability: float, rng: torch.Generator) -> Images:
    """The images, each with a given chance of a random box of noise (Zhong et al., AAAI 2020).

    The noise is uniform. The box's area is 2 to 33 % of the image's, its ratio of sides 0.3 to 3.3,
    as in timm.
    """
    b, _, h, w = x.shape
    hit, area, ratio, left, top = torch.rand(5, b, generator=rng, device=x.device)
    area, ratio = h * w * (0.02 + (1 / 3 - 0.02) * area), 0.3 * (3.3 / 0.3) ** ratio
    tall = (area * ratio).sqrt().round().clamp(1, h)
    wide = (area / ratio).sqrt().round().clamp(1, w)
    first = (top * (h - tall + 1)).floor(), (left * (w - wide + 1)).floor()
    inside = torch.ones(b, 1, h, w, dtype=torch.bool, device=x.device)
    for begin, length, axis in ((first[0], tall, 2), (first[1], wide, 3)):
        place = torch.arange(x.shape[axis], device=x.device).view((-1, 1) if axis == 2 else -1)
        begin, length = begin.view(-1, 1, 1, 1), length.view(-1, 1, 1, 1)
        inside = inside & (place >= begin) & (place < begin + length)
    noise = torch.rand(x.shape, generator=rng, device=x.device, dtype=x.dtype)
    return torch.where(inside & (hit < probability).view(-1, 1, 1, 1), noise, x)


def rand_augment(images: Tensor, magnitude: int, rng: torch.Generator) -> Tensor:
    """Images (B,C,H,W) uint8 after two random operations each (RandAugment, Cubuk et al., 2020).

    ``magnitude`` is on a scale to 30. Torchvision draws from torch's global generator, which is
    seeded from ``rng`` and restored.
    """
    from torchvision.transforms.v2 import RandAugment

    operations = RandAugment(num_ops=2, magnitude=magnitude)
    seed = draw_host_seed(rng, "operations")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([operations(image) for image in images])


STRONG_ANGLES = (-15.0, 0.0, 15.0)  # degrees
STRONG_NOISE = 0.001


def strong_augment(x: Images, rng: torch.Generator) -> Images:
    """The images after DFHL-RS's ``strong_aug`` (Yuan et al., AAAI 2024): one draw for all of them.

    A centred part of 95 to 100 % of each side, cut to whole pixels, is enlarged to the old size.
    Noise 0.001 N(0, I) follows, then a mirroring up to down and one left to right, each with
    probability one half, and a turn by -15, 0 or 15 degrees with black corners. A turn copies its
    matrix to the device, for which a GPU's host waits.
    """
    from torchvision.transforms.functional import InterpolationMode, center_crop, resize, rotate

    if placement.is_accelerator(rng.device):  # reading its draws would wait for it
        draws = np.random.default_rng(draw_host_seed(rng, "strong")).random(5).tolist()
    else:
        draws = torch.rand(5, generator=rng).tolist()
    sides = [
        int(side * (0.95 + 0.05 * draw)) for side, draw in zip(x.shape[2:], draws, strict=False)
    ]
    x = resize(center_crop(x, sides), list(x.shape[2:]), antialias=False)
    noise = torch.randn(repeat_for_ranks(x).shape, generator=rng, device=x.device, dtype=x.dtype)
    x = (x + STRONG_NOISE * take_own_rows(noise)).clamp(0, 1)
    x = x.flip(2) if draws[2] > 0.5 else x
    x = x.flip(3) if draws[3] > 0.5 else x
    angle = STRONG_ANGLES[int(len(STRONG_ANGLES) * draws[4])]
    return rotate(x, angle, InterpolationMode.NEAREST) if angle else x


def augment(
    x: Images,
    augmentation: Literal["none", "flip", "crop_flip", "resized_crop"],
    rng: torch.Generator,
) -> Images:
    """The images under a recipe's augmentation; all but "none" flip."""
    if augmentation == "none":
        return x
    x = flip(x, rng)
    if augmentation == "resized_crop":
        return resized_crop(x, rng)
    return crop(x, rng) if augmentation == "crop_flip" else x
