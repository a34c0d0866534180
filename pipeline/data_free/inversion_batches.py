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

REVISION = 2


INITIAL_STD = 0.02  # of weights in DCGAN (Radford et al., 2016) and in CMI's code


def redraw_weights(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02²), BatchNorm's from N(1, 0.02²), in place; biases become 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            mean = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
            nn.init.normal_(layer.weight, mean, INITIAL_STD)
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class RoundRecipe:
    """How rounds optimise images and what batches hold.

    Attributes:
        epochs, steps, batch, pool, augment, teacher, grids: as in ``GeneratorRecipe``. Images are
            augmented each time they are drawn and each time they go through the teacher.
        loss: what is minimised: a ``Loss`` of ``generator_losses``.
        classes: number of classes that labels are drawn from.
        of: what is optimised: a "generator" and its noise, or the "pixels". What a round's
            generator begins with is the loss's ``generator_start``.
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
    lr_images: float = 1e-3
    learns: bool = True
    teacher: str = "natural"
    augment: Literal["none", "flip", "crop_flip"] = "none"
    grids: tuple[float, ...] = ()


class RoundSource:
    """Batches from a pool that one round in each epoch adds to (CMI, Fang et al., IJCAI 2021).

    A round of n iterations costs n (2 F_T + 3 F_G), without F_G for pixels, and the student passes
    of its loss. Batches carry no teacher outputs. ``seed`` names every draw, so an interrupted
    round is repeated from its start. Noise, pixels and the round's generator get a new Adam in each
    round; the loss's own parameters keep theirs.
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
        self.loss_optimizer: torch.optim.Adam | None = None
        self.kept_generator: Generator | None = None
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        if recipe.of == "generator" and self.generator_start == "kept":
            self.kept_generator = self.draw_generator(derive_seed("round", seed))

    @property
    def generator_start(self) -> str:
        """What a round's generator begins with; a loss that says nothing has it drawn anew."""
        return getattr(self.loss, "generator_start", "fresh")

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
        watch = getattr(self.loss, "watch", None)

        def show_augmented(x: Tensor) -> GeneratedBatch:
            return show_to_teacher(
                augment(x, recipe.augment, rng),
                *(y, teacher, student, rng),
                uses_teacher=uses_teacher,
                raw=x,
                watch=watch,
            )

        with freeze_modules(student):
            best = self.optimise_images(show_augmented, epoch, rng)
        images = best.raw.detach()
        if hasattr(self.loss, "remember"):
            self.loss.remember(best)
        self.pool.add_images(images, images.new_empty(len(images), 0), rng)
        if epoch in compute_grid_epochs(recipe.grids, recipe.epochs):
            self.grids[epoch] = take_grid_images(images)

    def optimise_images(
        self, show_augmented: Callable[[Tensor], GeneratedBatch], epoch: int, rng: torch.Generator
    ) -> GeneratedBatch:
        """The batch of the iteration with the lowest mean loss.

        Raises:
            RetortError: no iteration had a finite loss.
        """
        variables, network = self.initialise_variables(epoch, rng)
        if hasattr(self.loss, "prepare"):
            with torch.no_grad():
                self.loss.prepare(show_augmented(network(variables)))
        optimizers = self.build_optimizers(variables, network)
        learnt = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        best_loss, best = math.inf, None
        for _ in range(self.recipe.iterations):
            batch = show_augmented(network(variables))
            terms = check_terms(self.loss, self.loss(batch), len(batch.x))
            loss = sum(terms.values()).mean()
            if loss.item() < best_loss:
                best_loss, best = loss.item(), batch
            loss.backward(inputs=learnt)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        if best is None:
            raise RetortError(
                f"generator.rounds: no loss of round {epoch + 1} is finite; lower lr_generator "
                f"({self.recipe.lr:g}) or rounds.lr_images ({self.recipe.lr_images:g})"
            )
        return best

    def build_optimizers(self, variables: Tensor, network: nn.Module) -> list[torch.optim.Adam]:
        """Adam of the noise or pixels and the generator, and that of the loss's own parameters."""
        groups: list[dict] = [{"params": [variables], "lr": self.recipe.lr_images}]
        if weights := list(network.parameters()):
            groups.append({"params": weights, "lr": self.recipe.lr})
        first = torch.optim.Adam(groups, betas=ADAM_BETAS)
        second = self.prepare_loss_optimizer()
        return [first] if second is None else [first, second]

    def prepare_loss_optimizer(self) -> torch.optim.Adam | None:
        """Adam with torch's betas for the loss's own parameters, if there are any (CMI's head)."""
        weights = list(self.loss.parameters()) if isinstance(self.loss, nn.Module) else []
        if self.loss_optimizer is None and weights:
            self.loss_optimizer = torch.optim.Adam(weights, self.recipe.lr)
        return self.loss_optimizer

    def initialise_variables(self, epoch: int, rng: torch.Generator) -> tuple[Tensor, nn.Module]:
        """The optimised tensor and the network after it: noise and a generator, or pixel logits.

        At mid-grey one unit of a logit moves a pixel by a quarter, about a data set's standard
        deviation. So learning rates that were published for normalised images keep their meaning.
        """
        size, count = self.generator_size, self.recipe.made
        shape = (count, size.latent)
        network: nn.Module
        if self.recipe.of == "pixels":
            network, shape = nn.Sigmoid(), (count, size.image_channels, size.side, size.side)
        else:
            network = self.kept_generator or self.draw_generator(
                derive_seed("round", self.seed, epoch)
            )
        variables = torch.randn(shape, generator=rng, device=self.device)
        return variables.requires_grad_(), network.train()

    def draw_generator(self, seed: int) -> Generator:
        """A generator with weights drawn from ``seed``, as the loss's ``generator_start`` says."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Generator(self.generator_size)
            if self.generator_start == "normal":
                redraw_weights(network)
        return network.to(self.device)

    def make_grid_images(self) -> Tensor:
        """Images of a grid as 8-bit levels, drawn from the pool."""
        rng = make_generator(self.seed, "samples", device=self.device)
        return take_grid_images(self.pool.sample_images(GRID_SHAPE[0] * GRID_SHAPE[1], rng)[0])

    def state_dict(self) -> dict:
        """A copy of the state that a resumed run needs: pool, loss, grids, a kept generator."""
        loss = self.loss.state_dict() if isinstance(self.loss, nn.Module) else {}
        state = self.pool.state_dict() | {"loss": loss, "grids": self.grids}
        if self.loss_optimizer is not None:
            state["loss_adam"] = self.loss_optimizer.state_dict()
        if self.kept_generator is not None:
            state["kept_generator"] = self.kept_generator.state_dict()
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping) -> None:
        """Restore what ``state_dict`` returned."""
        self.pool.load_state_dict(state, self.device)
        self.grids = {epoch: images.cpu() for epoch, images in state["grids"].items()}
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(state["loss"])
        self.loss_optimizer = None
        if "loss_adam" in state and (optimizer := self.prepare_loss_optimizer()):
            optimizer.load_state_dict(copy.deepcopy(state["loss_adam"]))
            optimizer.param_groups[0]["lr"] = self.recipe.lr
        if self.kept_generator is not None:
            self.kept_generator.load_state_dict(state["kept_generator"])
