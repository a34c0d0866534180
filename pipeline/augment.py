"""Random crop and flip of a whole batch at once, on the device that holds it."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

REVISION = 1

Images = Float[Tensor, "B C H W"]
PAD = 4  # pixels, the usual CIFAR crop


def flip(x: Images, rng: torch.Generator) -> Images:
    """Mirror each image left to right with probability one half."""
    return mirrored(x, torch.rand(len(x), generator=rng, device=x.device) < 0.5)


def mirrored(x: Tensor, which: Tensor) -> Tensor:
    """Images (B,C,H,W) with those of ``which`` (B,) bool mirrored left to right."""
    return torch.where(which.view(-1, 1, 1, 1), x.flip(3), x)


def crop(x: Images, rng: torch.Generator) -> Images:
    """Pad with zeros by 4 pixels and cut a window of the old size at a random place."""
    shift = torch.randint(0, 2 * PAD + 1, (2, len(x), 1), generator=rng, device=x.device)
    return window(x, shift[0], shift[1])


def window(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Images (B,C,H,W) padded by zeros and cut at (B,1) shifts of 0 to 8 pixels; 4 is in place."""
    b, c, h, w = x.shape
    padded = F.pad(x, (PAD,) * 4)
    rows = (down + torch.arange(h, device=x.device)).view(b, 1, h, 1)
    columns = (right + torch.arange(w, device=x.device)).view(b, 1, 1, w)
    cut = padded.gather(2, rows.expand(b, c, h, w + 2 * PAD))
    return cut.gather(3, columns.expand(b, c, h, w))


def rand_augment(images: Tensor, magnitude: int, rng: torch.Generator) -> Tensor:
    """Two random operations an image at ``magnitude`` of 30 (Cubuk et al., 2020), by torchvision.

    Images are uint8 (B,C,H,W). Torchvision draws from torch's global generator: it is seeded from
    the step's and restored.
    """
    from torchvision.transforms.v2 import RandAugment

    operations = RandAugment(num_ops=2, magnitude=magnitude)
    seed = int(torch.randint(2**31, (), generator=rng, device=rng.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([operations(image) for image in images])


def augment(x: Images, kind: Literal["none", "flip", "crop_flip"], rng: torch.Generator) -> Images:
    """The batch under a recipe's augmentation."""
    if kind == "none":
        return x
    x = flip(x, rng)
    return crop(x, rng) if kind == "crop_flip" else x
