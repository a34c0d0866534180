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
    mirrored = torch.rand(len(x), generator=rng, device=x.device) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)


def crop(x: Images, rng: torch.Generator) -> Images:
    """Pad with zeros by 4 pixels and cut a window of the old size at a random place."""
    b, c, h, w = x.shape
    padded = F.pad(x, (PAD,) * 4)
    shift = torch.randint(0, 2 * PAD + 1, (2, b, 1), generator=rng, device=x.device)
    rows = (shift[0] + torch.arange(h, device=x.device)).view(b, 1, h, 1)
    columns = (shift[1] + torch.arange(w, device=x.device)).view(b, 1, 1, w)
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
