"""Batches from a generator that is trained while they are drawn."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.core.augment import augment
from pipeline.core.batch import Batch, Roles, check_terms
from pipeline.core.pgd import freeze_modules
from pipeline.core.seeding import make_generator
from pipeline.data_free.replay_pool import (
    ADAM_BETAS,
    GRID_SHAPE,
    ReplayPool,
    compute_grid_epochs,
    make_unlabelled_batch,
    take_grid_images,
)
from pipeline.data_free.teacher_view import GeneratedBatch, show_to_teacher
from pipeline.errors import RetortError
from pipeline.models.generator import Generator

REVISION = 1


@dataclass(frozen=True)
class GeneratorRecipe:
    """How a generator is trained and what its batches hold.

    Attributes:
        epochs: length of the run, for ``Batch.progress`` and grids.
        loss: what the generator minimises: a ``Loss`` of ``generator_losses``.
        steps: batches per epoch.
        batch: fresh images per batch.
        replayed: past images added to each batch, once the pool holds any.
        pool: number of past images that are kept; 0 keeps none.
        lr: Adam's learning rate; its betas are (0.5, 0.999), as in DataFree.
        learns: False freezes the generator and only draws images from it.
        teacher: the role of the teacher that the generator learns from.
        augment: applied to the images before the teacher; best as in the teacher's own training.
        student_steps: batches for each step of the generator; in the others it is not updated.
        clip_grad: largest norm of the generator's gradient; 0 does not clip it.
        grids: shares of the run at which a grid of generated images is kept.
    """

    epochs: int
    loss: object
    steps: int = 120
    batch: int = 256
    replayed: int = 0
    pool: int = 0
    lr: float = 1e-3
    learns: bool = True
    teacher: str = "natural"
    augment: Literal["none", "flip", "crop_flip"] = "none"
    student_steps: int = 1
    clip_grad: float = 0.0
    grids: tuple[float, ...] = ()


class GeneratorSource:
    """Batches from a generator that learns from a teacher while they are drawn (DERD, Sec. 3.2).

    A batch costs one forward of generator and teacher and, where the generator learns, one
    backward through both: 3 F_G + 2 F_T, and 2 F_S more where its loss uses the student. Where the
    teacher is the natural or the only one, a batch carries its logits as ``stored["t_clean"]``, so
    the student's objective needs no forward of it.
    The network is trained in place, on its own device; ``seed`` names every draw.
    """

    def __init__(self, network: Generator, recipe: GeneratorRecipe, seed: int):
        if recipe.replayed and not recipe.pool:
            raise RetortError("generator.replayed: needs past images; set generator.pool above 0")
        self.network, self.recipe, self.seed = network, recipe, seed
        self.steps = recipe.steps
        self.pool = ReplayPool(recipe.pool)
        self.grids: dict[int, Tensor] = {}
        self.loss = recipe.loss
        self.trained_parameters = list(network.parameters())
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        self.optimizer = torch.optim.Adam(self.trained_parameters, recipe.lr, betas=ADAM_BETAS)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on; updates the generator along the way."""
        recipe, role = self.recipe, self.recipe.teacher
        if start == 0 and epoch in compute_grid_epochs(recipe.grids, recipe.epochs):
            self.grids[epoch] = self.make_grid_images()
        for step in range(start, self.steps):
            rng = make_generator("generator", self.seed, epoch, step, device=self.device)
            learns = recipe.learns and step % recipe.student_steps == 0
            x, logits = self.generate_images(roles.teachers[role], roles.student, rng, learns)
            x, logits = self.add_replayed_images(x, logits, rng)
            stores_logits = role == "natural" or len(roles.teachers) == 1
            progress = (epoch * self.steps + step) / (recipe.epochs * self.steps)
            stored = {"t_clean": logits} if stores_logits else {}
            yield make_unlabelled_batch(x, stored, self.seed, epoch, step, progress)

    def generate_images(
        self, teacher: nn.Module, student: nn.Module, rng: torch.Generator, learns: bool
    ) -> tuple[Tensor, Tensor]:
        """New images (B,C,H,W) and the teacher's logits (B,K) on them, both detached.

        Where ``learns``, the generator is updated afterwards; both come from the weights before.
        """
        z = self.draw_noise(self.recipe.batch, rng)
        self.network.train(self.recipe.learns)
        with torch.set_grad_enabled(learns), freeze_modules(student):
            raw = self.network(z)
            x, watch = augment(raw, self.recipe.augment, rng), getattr(self.loss, "watch", None)
            batch = show_to_teacher(x, z, teacher, student, rng, raw=raw, watch=watch)
            if learns:  # the label is the index of the largest of the first K noise values
                self.update_generator(replace(batch, y=z[:, : batch.logits.shape[1]].argmax(1)))
        return batch.x.detach(), batch.logits.detach()

    def draw_noise(self, count: int, rng: torch.Generator) -> Tensor:
        """Noise (count,Z) in the network's precision."""
        dtype = next(self.network.parameters()).dtype
        shape = (count, self.network.latent)
        return torch.randn(shape, generator=rng, device=self.device, dtype=dtype)

    def update_generator(self, batch: GeneratedBatch) -> None:
        """Take one Adam step on the mean of the loss; only the generator gets a gradient."""
        terms = check_terms(self.loss, self.loss(batch), len(batch.x))
        sum(terms.values()).mean().backward(inputs=self.trained_parameters)
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.trained_parameters, self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def add_replayed_images(
        self, x: Tensor, logits: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Fresh images and logits followed by draws from the pool; the pool gets the fresh ones."""
        if not self.recipe.pool:
            return x, logits
        replayed = (
            self.pool.sample_images(self.recipe.replayed, rng)
            if len(self.pool)
            else (x[:0], logits[:0])
        )
        self.pool.add_images(x, logits, rng)
        return torch.cat([x, replayed[0]]), torch.cat([logits, replayed[1]])

    @torch.no_grad()
    def make_grid_images(self) -> Tensor:
        """Images of a grid as 8-bit levels, from the same noise each time."""
        z = self.draw_noise(
            GRID_SHAPE[0] * GRID_SHAPE[1], make_generator(self.seed, "samples", device=self.device)
        )
        self.network.eval()
        return take_grid_images(self.network(z))

    def state_dict(self) -> dict:
        """A copy of what a resumed run needs: weights, Adam's state, pool, loss, grids."""
        loss = self.loss.state_dict() if isinstance(self.loss, nn.Module) else {}
        state = {"network": self.network.state_dict(), "adam": self.optimizer.state_dict()}
        more = {"loss": loss, "grids": self.grids}
        return copy.deepcopy(state | self.pool.state_dict() | more)

    def load_state_dict(self, state: Mapping) -> None:
        """Restore what ``state_dict`` returned, but with the recipe's learning rate."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["adam"]))
        self.optimizer.param_groups[0]["lr"] = self.recipe.lr
        self.pool.load_state_dict(state, self.device)
        self.grids = {epoch: images.cpu() for epoch, images in state["grids"].items()}
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(state["loss"])
