"""Batches from a pool of images that rounds of optimisation fill: model inversion, CMI, DFHL-RS."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.core.augment import augment
from pipeline.core.batch import Batch, Roles, check_terms
from pipeline.core.pgd import freeze_modules
from pipeline.core.seeding import derive_seed, make_generator
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
from pipeline.models.generator import Generator, GeneratorSize

REVISION = 1


@dataclass(frozen=True)
class RoundRecipe:
    """How rounds optimise images and what batches hold.

    Attributes:
        epochs, steps, batch, pool, augment, teacher, grids: as in ``GeneratorRecipe``. Images are
            augmented each time they are drawn and each time they go through the teacher.
        loss: what is minimised: a ``Loss`` of ``generator_losses``.
        classes: number of classes that labels are drawn from.
        of: what is optimised: a "generator" drawn anew with its noise, or the "pixels".
        iterations: Adam steps in a round.
        made: images in a round; those of the best iteration join the pool.
        lr: learning rate of the generator and of the loss's own parameters.
        lr_images: learning rate of the noise, or of the pixels.
        learns: False draws from the pool and runs no round once it holds images.
    """

    epochs: int
    steps: int
    batch: int
    pool: int
    loss: object
    classes: int
    of: Literal["generator", "pixels"] = "generator"
    iterations: int = 200
    made: int = 256
    lr: float = 1e-3
    lr_images: float = 0.01
    learns: bool = True
    teacher: str = "natural"
    augment: Literal["none", "flip", "crop_flip"] = "none"
    grids: tuple[float, ...] = ()


class RoundSource:
    """Batches from a pool that one round in each epoch adds to (CMI, Fang et al., IJCAI 2021).

    A round of n iterations costs n (2 F_T + 3 F_G), without F_G for pixels, and the student passes
    of its loss. Batches carry no teacher outputs. ``seed`` names every draw, so an interrupted
    round is repeated from its start.
    """

    def __init__(
        self, generator_size: GeneratorSize, recipe: RoundRecipe, seed: int, device: str = "cpu"
    ):
        self.generator_size, self.recipe, self.seed = generator_size, recipe, seed
        self.device = torch.device(device)
        self.steps = recipe.steps
        self.pool = ReplayPool(recipe.pool)
        self.grids: dict[int, Tensor] = {}
        self.loss = recipe.loss
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on; runs a round before the first."""
        recipe = self.recipe
        if start == 0 and (recipe.learns or not len(self.pool)):
            self.run_round(epoch, roles)
        for step in range(start, self.steps):
            rng = make_generator("generator", self.seed, epoch, step, device=self.device)
            x, _ = self.pool.sample_images(recipe.batch, rng)
            x = augment(x, recipe.augment, rng)
            progress = (epoch * self.steps + step) / (recipe.epochs * self.steps)
            yield make_unlabelled_batch(x, {}, self.seed, epoch, step, progress)

    def run_round(self, epoch: int, roles: Roles) -> None:
        """Optimise images and put those of the best iteration into the pool."""
        recipe, student = self.recipe, roles.student
        teacher = roles.teachers[recipe.teacher]
        rng = make_generator("round", self.seed, epoch, device=self.device)
        y = torch.randint(recipe.classes, (recipe.made,), generator=rng, device=self.device)
        uses_teacher = "teacher" in self.loss.needs()

        def show_augmented(x: Tensor) -> GeneratedBatch:
            return show_to_teacher(
                augment(x, recipe.augment, rng), y, teacher, student, rng, uses_teacher=uses_teacher
            )

        with freeze_modules(student):
            images = self.optimise_images(show_augmented, epoch, rng)
            if hasattr(self.loss, "remember"):
                with torch.no_grad():
                    self.loss.remember(show_augmented(images))
        self.pool.add_images(images, images.new_empty(len(images), 0), rng)
        if epoch in compute_grid_epochs(recipe.grids, recipe.epochs):
            self.grids[epoch] = take_grid_images(images)

    def optimise_images(
        self, show_augmented: Callable[[Tensor], GeneratedBatch], epoch: int, rng: torch.Generator
    ) -> Tensor:
        """The images (N,C,H,W) of the iteration with the lowest mean loss, detached.

        Raises:
            RetortError: no iteration had a finite loss.
        """
        variables, network = self.initialise_variables(epoch, rng)
        if hasattr(self.loss, "prepare"):
            with torch.no_grad():
                self.loss.prepare(show_augmented(network(variables)))
        loss_parameters = self.loss.parameters() if isinstance(self.loss, nn.Module) else []
        other_parameters = [*network.parameters(), *loss_parameters]
        groups = [{"params": [variables], "lr": self.recipe.lr_images}]
        groups += [{"params": other_parameters, "lr": self.recipe.lr}] if other_parameters else []
        optimizer = torch.optim.Adam(groups, betas=ADAM_BETAS)
        best_loss, best_images = variables.new_full((), math.inf), None
        for _ in range(self.recipe.iterations):
            x = network(variables)
            terms = check_terms(self.loss, self.loss(show_augmented(x)), len(x))
            loss = sum(terms.values()).mean()
            is_best = loss.detach() < best_loss
            best_loss = torch.where(is_best, loss.detach().to(best_loss), best_loss)
            kept = x.detach() if best_images is None else best_images
            best_images = torch.where(is_best, x.detach(), kept)
            loss.backward(inputs=[variables, *other_parameters])
            optimizer.step()
            optimizer.zero_grad()
        if best_images is None or best_loss == math.inf:
            raise RetortError(
                f"generator.rounds: no loss of round {epoch + 1} is finite; lower lr_generator "
                f"({self.recipe.lr:g}) or rounds.lr_images ({self.recipe.lr_images:g})"
            )
        return best_images

    def initialise_variables(self, epoch: int, rng: torch.Generator) -> tuple[Tensor, nn.Module]:
        """The optimised tensor and the network after it: noise and a generator, or pixel logits.

        At mid-grey one unit of a logit moves a pixel by a quarter, about a data set's standard
        deviation. So learning rates that were published for normalised images keep their meaning.
        """
        size, count = self.generator_size, self.recipe.made
        shape = (count, size.latent)
        if self.recipe.of == "pixels":
            network, shape = nn.Sigmoid(), (count, size.image_channels, size.side, size.side)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed("round", self.seed, epoch))
                network = Generator(size).to(self.device)
        variables = torch.randn(shape, generator=rng, device=self.device)
        return variables.requires_grad_(), network.train()

    def make_grid_images(self) -> Tensor:
        """Images of a grid as 8-bit levels, drawn from the pool."""
        rng = make_generator(self.seed, "samples", device=self.device)
        return take_grid_images(self.pool.sample_images(GRID_SHAPE[0] * GRID_SHAPE[1], rng)[0])

    def state_dict(self) -> dict:
        """A copy of the state that a resumed run needs: pool, loss, grids."""
        loss = self.loss.state_dict() if isinstance(self.loss, nn.Module) else {}
        return copy.deepcopy(self.pool.state_dict() | {"loss": loss, "grids": self.grids})

    def load_state_dict(self, state: Mapping) -> None:
        """Restore what ``state_dict`` returned."""
        self.pool.load_state_dict(state, self.device)
        self.grids = {epoch: images.cpu() for epoch, images in state["grids"].items()}
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(state["loss"])
