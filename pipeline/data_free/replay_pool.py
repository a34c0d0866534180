"""What the data-free sources share: the pool of past images, grids and unlabelled batches."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.core.batch import Batch
from pipeline.core.seeding import make_generator

REVISION = 1

ADAM_BETAS = (0.5, 0.999)  # as in DataFree and the methods built on it
GRID_SHAPE = (4, 10)  # rows and columns of a grid of generated images


class ReplayPool:
    """Past images with their logits, up to a fixed capacity.

    Images are kept as 8-bit levels, because a checkpoint holds the complete pool.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.images = self.logits = torch.empty(0)

    def __len__(self) -> int:
        return len(self.images)

    def add_images(self, x: Tensor, logits: Tensor, rng: torch.Generator) -> None:
        """Append images (B,C,H,W) while there is room; after that, overwrite random positions.

        ``logits`` (B,K) are kept with them; K may be 0.
        """
        pixels = (x * 255).round().to(torch.uint8)
        if (room := self.capacity - len(self)) > 0:
            self.images = torch.cat([self.images.to(pixels), pixels[:room]])
            self.logits = torch.cat([self.logits.to(logits), logits[:room]])
            pixels, logits = pixels[room:], logits[room:]
        positions = torch.randperm(self.capacity, generator=rng, device=x.device)[: len(pixels)]
        self.images[positions] = pixels[: len(positions)]
        self.logits[positions] = logits[: len(positions)]

    def sample_images(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` images in [0,1] and their logits, drawn with replacement."""
        rows = torch.randint(len(self), (count,), generator=rng, device=self.images.device)
        return self.images[rows].to(self.logits.dtype) / 255, self.logits[rows]

    def state_dict(self) -> dict[str, Tensor]:
        """Images and logits of the pool."""
        return {"images": self.images, "logits": self.logits}

    def load_state_dict(self, state: Mapping, device: torch.device) -> None:
        """Restore a copy of what ``state_dict`` returned."""
        self.images = state["images"].to(device, copy=True)
        self.logits = state["logits"].to(device, copy=True)


def make_unlabelled_batch(
    x: Tensor, stored: dict[str, Tensor], seed: int, epoch: int, step: int, progress: float
) -> Batch:
    """A training batch of generated images (B,C,H,W); seed, epoch and step name its randomness."""
    return Batch(
        x=x,
        y=None,
        index=torch.arange(len(x), device=x.device),
        stored=stored,
        progress=progress,
        epoch=epoch,
        rng=make_generator(seed, epoch, step, device=x.device),
    )


def compute_grid_epochs(shares: tuple[float, ...], epochs: int) -> set[int]:
    """The epochs, counted from 0, that begin at ``shares`` of training; 1 is the last epoch."""
    return {min(int(share * epochs), epochs - 1) for share in shares}


def take_grid_images(x: Tensor) -> Tensor:
    """The first images of a batch in [0,1], as many as a grid has, as 8-bit levels on the CPU."""
    return (x.detach()[: GRID_SHAPE[0] * GRID_SHAPE[1]] * 255).round().to(torch.uint8).cpu()
