"""The data-free generator: its network, its losses, and the batches it makes while it learns."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment import augment
from pipeline.batch import Batch, Roles, Terms
from pipeline.errors import RetortError
from pipeline.losses import cross_entropy, negative_mean_entropy
from pipeline.rng import generator

REVISION = 1


def block(inputs: int, outputs: int) -> nn.Sequential:
    """(B,inputs,H,W) -> (B,outputs,2H,2W), non-linear."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(inputs, outputs, 3, 1, 1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class Generator(nn.Module):
    """Noise (B,Z) to images (B,O,size,size) in [0,1], as in DataFree but smoothly enlarged.

    Args:
        latent: length Z of the noise.
        channels: width after the linear layer; the last hidden layer has half of it.
        size: side of the images, a multiple of 4 (16, 28 and 32 are usual).
        out: colour channels O.
        drawn: side at which the convolutions work, a multiple of 4; the result is enlarged to
            ``size`` bilinearly. 0 means ``size``. Half the side costs a quarter.

    Raises:
        RetortError: a side that is no positive multiple of 4, or an odd number of channels.
    """

    def __init__(self, latent: int, channels: int, size: int, out: int = 3, drawn: int = 0):
        super().__init__()
        drawn = drawn or size
        sizes = {"size": (size, 4), "drawn": (drawn, 4), "channels": (channels, 2)}
        for name, (value, unit) in sizes.items():
            if value <= 0 or value % unit:
                raise RetortError(f"generator.{name}: {value} must be a multiple of {unit}")
        self.latent, self.size, self.base = latent, size, drawn // 4
        self.start = nn.Linear(latent, channels * self.base**2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            block(channels, channels),
            block(channels, channels // 2),
            nn.Conv2d(channels // 2, out, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B,Z) -> (B,O,size,size)."""
        x = self.layers(self.start(z).view(len(z), -1, self.base, self.base))
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear")
        return x


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance (C,) of one BatchNorm's input, beside its running ones."""

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor

    def distance(self) -> Tensor:
        """||mean - running mean||_2 + ||var - running var||_2, a scalar."""
        return (self.mean - self.running_mean).norm() + (self.var - self.running_var).norm()


@contextmanager
def batch_stats(network: nn.Module) -> Iterator[list[Moments]]:
    """Collect the moments of every BatchNorm2d's input during a forward inside the block.

    The list fills in the order of execution and keeps the graph, so that its distances can be
    backpropagated to the input. Layers without running statistics are passed over.
    """
    collected: list[Moments] = []

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean = inputs[0].mean((0, 2, 3), keepdim=True)
        var = (inputs[0] - mean).square().mean((0, 2, 3))
        collected.append(Moments(mean.flatten(), var, layer.running_mean, layer.running_var))

    handles = [
        layer.register_forward_pre_hook(collect)
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
    ]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def one_hot_loss(logits: Tensor) -> Tensor:
    """L_oh (B,): cross-entropy to the teacher's own label, nats (DAFL; DERD, Sec. 3.2)."""
    return cross_entropy(logits, logits.detach().argmax(1))


def activation_loss(features: Tensor) -> Tensor:
    """L_a (B,): minus the mean absolute value of the penultimate features (B,D) (DAFL)."""
    return -features.abs().mean(1)


def statistics_loss(moments: list[Moments]) -> Tensor:
    """L_BN, a scalar: the summed distances of all layers (DeepInversion; DERD, Sec. 3.2)."""
    return torch.stack([layer.distance() for layer in moments]).sum()


@dataclass(frozen=True)
class GeneratorWeights:
    """Weights of the generator's losses; DERD prints none.

    The defaults are DAFL's released CIFAR-10 values, and CMI's for the statistics.
    """

    oh: float = 0.05
    activation: float = 0.01
    bn: float = 1.0
    balance: float = 5.0


def generator_terms(
    logits: Tensor, features: Tensor, moments: list[Moments], weights: GeneratorWeights
) -> Terms:
    """The weighted terms of L_G (DERD, Sec. 3.2), each (B,).

    Args:
        logits: the teacher's outputs (B,K) on generated images.
        features: its penultimate features (B,D).
        moments: from ``batch_stats``; empty for a teacher without BatchNorm, which drops "bn".
        weights: one factor a term.

    The two terms that look at the whole batch, "bn" and "balance", are scalars expanded to (B,).
    """
    size = logits.shape[:1]
    terms = {
        "oh": weights.oh * one_hot_loss(logits),
        "activation": weights.activation * activation_loss(features),
        "balance": (weights.balance * negative_mean_entropy(logits)).expand(size),
    }
    if moments:
        terms["bn"] = (weights.bn * statistics_loss(moments)).expand(size)
    return terms


class Pool:
    """Past images with their teacher's logits, at random places of a fixed capacity.

    Images are kept as 8-bit grey levels: a checkpoint holds the whole pool.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.images = self.logits = torch.empty(0)

    def __len__(self) -> int:
        return len(self.images)

    def add(self, x: Tensor, logits: Tensor, rng: torch.Generator) -> None:
        """Append images (B,C,H,W) while there is room; after that, overwrite random places."""
        pixels = (x * 255).round().to(torch.uint8)
        if (room := self.capacity - len(self)) > 0:
            self.images = torch.cat([self.images.to(pixels), pixels[:room]])
            self.logits = torch.cat([self.logits.to(logits), logits[:room]])
            pixels, logits = pixels[room:], logits[room:]
        places = torch.randperm(self.capacity, generator=rng, device=x.device)[: len(pixels)]
        self.images[places] = pixels[: len(places)]
        self.logits[places] = logits[: len(places)]

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` images in [0,1] and their logits, drawn with replacement."""
        rows = torch.randint(len(self), (count,), generator=rng, device=self.images.device)
        return self.images[rows].to(self.logits.dtype) / 255, self.logits[rows]


@dataclass(frozen=True)
class GeneratorRecipe:
    """How a generator learns and what its batches hold.

    Attributes:
        epochs: length of the run, for ``Batch.progress`` alone.
        steps: batches per epoch.
        batch: fresh images per batch.
        replayed: past images added to each batch, as soon as there are any.
        pool: how many past images are kept; 0 keeps none.
        lr: Adam's learning rate; its betas are (0.5, 0.999), as in DataFree.
        weights: of the generator's losses.
        learns: False freezes the generator and only samples from it.
        teacher: the role of the teacher that the generator learns from.
        augment: applied to the images before the teacher; best what the teacher was trained with.
    """

    epochs: int
    steps: int = 120
    batch: int = 256
    replayed: int = 0
    pool: int = 0
    lr: float = 1e-3
    weights: GeneratorWeights = field(default_factory=GeneratorWeights)
    learns: bool = True
    teacher: str = "natural"
    augment: Literal["none", "flip", "crop_flip"] = "none"


class GeneratorSource:
    """Batches from a generator that learns from a teacher as they are drawn (DERD, Sec. 3.2).

    A batch costs one forward of generator and teacher and, where the generator learns, one
    backward through both: 3 F_G + 2 F_T. The teacher's logits travel along as
    ``stored["t_clean"]``, so the student's loss needs no forward of it.
    The network is trained in place, on its own device; ``seed`` names every draw.
    """

    def __init__(self, network: Generator, recipe: GeneratorRecipe, seed: int):
        if recipe.replayed and not recipe.pool:
            raise RetortError("generator.replayed: needs past images; set generator.pool above 0")
        self.network, self.recipe, self.seed = network, recipe, seed
        self.steps = recipe.steps
        self.pool = Pool(recipe.pool)
        self.adam = torch.optim.Adam(network.parameters(), recipe.lr, betas=(0.5, 0.999))

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """The epoch's batches from step ``start`` on; the generator takes its step before each."""
        total = self.recipe.epochs * self.steps
        device = next(self.network.parameters()).device
        for step in range(start, self.steps):
            draws = generator("generator", self.seed, epoch, step, device=device)
            x, logits = self.fresh(roles.teachers[self.recipe.teacher], draws)
            x, logits = self.replay(x, logits, draws)
            yield Batch(
                x=x,
                y=None,
                index=torch.arange(len(x), device=device),
                stored={"t_clean": logits},
                progress=(epoch * self.steps + step) / total,
                epoch=epoch,
                rng=generator(self.seed, epoch, step, device=device),
            )

    def fresh(self, teacher: nn.Module, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """New images (B,C,H,W) and their teacher logits (B,K), after the generator's step on them.

        Both are detached and belong to the weights before the step.
        """
        weight = next(self.network.parameters())
        shape = (self.recipe.batch, self.network.latent)
        z = torch.randn(shape, generator=rng, device=weight.device, dtype=weight.dtype)
        self.network.train(self.recipe.learns)
        with torch.set_grad_enabled(self.recipe.learns), batch_stats(teacher) as moments:
            x = augment(self.network(z), self.recipe.augment, rng)
            logits = teacher.head(features := teacher.features(x))
        if self.recipe.learns:
            self.learn(generator_terms(logits, features, moments, self.recipe.weights))
        return x.detach(), logits.detach()

    def learn(self, terms: Terms) -> None:
        """One Adam step on the mean of L_G; no parameter but the generator's gets a gradient."""
        sum(terms.values()).mean().backward(inputs=list(self.network.parameters()))
        self.adam.step()
        self.adam.zero_grad()

    def replay(self, x: Tensor, logits: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Put the pool's draw behind the fresh images, and then the fresh ones into the pool."""
        if not self.recipe.pool:
            return x, logits
        past = self.pool.draw(self.recipe.replayed, rng) if len(self.pool) else (x[:0], logits[:0])
        self.pool.add(x, logits, rng)
        return torch.cat([x, past[0]]), torch.cat([logits, past[1]])

    def state_dict(self) -> dict:
        """A copy of all that a resumed run needs: weights, Adam's state and the pool."""
        state = {"network": self.network.state_dict(), "adam": self.adam.state_dict()}
        return copy.deepcopy(state | {"images": self.pool.images, "logits": self.pool.logits})

    def load_state_dict(self, state: Mapping) -> None:
        """Take over what ``state_dict`` gave; the learning rate is the recipe's own."""
        device = next(self.network.parameters()).device
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(copy.deepcopy(state["adam"]))
        self.adam.param_groups[0]["lr"] = self.recipe.lr
        self.pool.images = state["images"].to(device, copy=True)
        self.pool.logits = state["logits"].to(device, copy=True)
