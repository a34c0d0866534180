"""Data-free training: a generator's source, its warm student, and how both are kept on disk."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline import checkpoint
from pipeline.artifact import Artifact, open_artifact
from pipeline.generator import Generator, GeneratorRecipe, GeneratorSource, GeneratorWeights
from pipeline.models import load_classifier, read_about
from pipeline.recipe import Recipe
from pipeline.rng import seed_of
from pipeline.training import MODEL

REVISION = 1

SOURCE = "source.pt"


def make_source(
    spec: dict, colours: int, recipe: Recipe, seed: int, device: str
) -> GeneratorSource:
    """A generator with random weights and its optimiser, as a generator's spec describes them.

    ``colours`` are its images' channels. ``recipe`` gives epochs, fresh images per batch and their
    augmentation; ``seed`` the draws.
    """
    sizes = (spec["latent"], spec["channels"], spec["image"], colours, spec["drawn"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec["seed"])
        network = Generator(*sizes)
    own = GeneratorRecipe(
        epochs=recipe.epochs,
        steps=spec["steps_per_epoch"],
        batch=recipe.batch,
        replayed=spec["replayed"],
        pool=spec["pool"],
        lr=spec["lr_generator"],
        weights=GeneratorWeights(**spec["weights"]),
        augment=recipe.augment,
    )
    return GeneratorSource(network.to(device), own, seed)


@dataclass(frozen=True)
class Warm:
    """A finished warm-up: generator, optimiser, pool, and the student it warmed."""

    artifact: Artifact

    @property
    def about(self) -> dict:
        """What the student's file says of it: class names, mean and std."""
        return read_about(self.artifact.path(MODEL))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, the natural teacher's."""
        return tuple(self.about["classes"])

    def student(self) -> nn.Module:
        """The warm student."""
        return load_classifier(self.artifact.path(MODEL))

    def source(self, recipe: Recipe, sampling: dict, seed: int, device: str) -> GeneratorSource:
        """The generator as it stood at the end, ready to go on learning with draws of its own."""
        chosen = {name: value for name, value in sampling.items() if value is not None}
        spec = {**self.artifact.manifest.spec, **chosen}
        colours = len(self.about["mean"])
        source = make_source(spec, colours, recipe, seed_of("stage II", seed), device)
        source.load_state_dict(checkpoint.restore(self.artifact.path(SOURCE), device))
        return source


def open_warm(folder: Path) -> Warm:
    """The warm-up in a finished generator's folder."""
    return Warm(open_artifact(folder))
