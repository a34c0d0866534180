"""What the data-free sources share: their pool of past images, their grids, their batches."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.core.batch import Batch
from pipeline.core.seeding import make_generator

REVISION = 1

ADAM_BETAS = (0.5, 0.999)  # Adam's, in DataFree and all who follow it
GRID_SHAPE = (4, 10)  # rows and columns of a picture of made images


class ReplayPool:
    """Past images with something beside each, at random places of a fixed capacity.

    Images are kept as 8-bit grey levels: a checkpoint holds the whole pool.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.images = self.logits = torch.empty(0)

    def __len__(self) -> int:
        return len(self.images)

    def add_images(self, x: Tensor, logits: Tensor, rng: torch.Generator) -> None:
        """Append images (B,C,H,W) while there is room; after that, overwrite random places.

        ``logits`` (B,K) stand beside them; K may be 0.
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
        """All that it holds."""
        return {"images": self.images, "logits": self.logits}

    def load_state_dict(self, state: Mapping, device: torch.device) -> None:
        """Take a copy of what ``state_dict`` gave."""
        self.images = state["images"].to(device, copy=True)
        self.logits = state["logits"].to(device, copy=True)


def make_unlabelled_batch(
    x: Tensor, stored: dict[str, Tensor], seed: int, epoch: int, step: int, progress: float
) -> Batch:
    """Made images (B,C,H,W) as a training batch, its randomness named by seed, epoch and step."""
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
    """The epochs, from 0, that begin at shares of training; a share of 1 is the last one's."""
    return {min(int(share * epochs), epochs - 1) for share in shares}


def take_grid_images(x: Tensor) -> Tensor:
    """The first images of a batch in [0,1] as 8-bit levels on the CPU, as many as a grid has."""
    return (x.detach()[: GRID_SHAPE[0] * GRID_SHAPE[1]] * 255).round().to(torch.uint8).cpu()
