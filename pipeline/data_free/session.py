"""Data-free training: a generator's source, its warm student, and how both are kept on disk."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.config.sections.generator import Generator as GeneratorSection
from pipeline.config.sections.generator import GeneratorForm, GeneratorSpec
from pipeline.config.sections.student import Sampling
from pipeline.config.specs import spec_of
from pipeline.core.seeding import seed_of
from pipeline.data.batches import Source
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.inversion_batches import RoundRecipe, RoundSource
from pipeline.models.classifier import MODEL, initialised, kept, read_about
from pipeline.models.generator import Generator, Sizes
from pipeline.models.loading import load_classifier
from pipeline.schema import make
from pipeline.store import checkpoint
from pipeline.store.artifact import Artifact, open_artifact

REVISION = 1

SOURCE = "source.pt"
OWN = {"student_steps", "clip_grad", "replayed"}  # of a generator that learns all along


def loss_of(generator: GeneratorSection | GeneratorSpec) -> dict[str, dict]:
    """What a generator minimises, as {name: options}: DERD's losses if its spec names none."""
    return generator.losses or {"derd": generator.weights}


def make_source(
    spec: GeneratorSpec,
    about: dict,
    recipe: Recipe,
    seed: int,
    device: str,
    role: str = "natural",
    learns: bool = True,
) -> Source:
    """A generator with random weights and its optimiser, as a generator's spec describes them.

    Args:
        spec: of a generator, with whatever a student draws otherwise.
        about: its student's classes and mean, which has a number for each colour of the images.
        recipe: epochs, images per batch and their augmentation.
        seed: of the draws; the weights' is the spec's.
        role: of the teacher that it learns from.
        learns: whether it goes on learning.
    """
    sizes = sizes_of(spec, len(about["mean"]))
    ((name, options),) = loss_of(spec).items()
    common = {
        "epochs": recipe.epochs,
        "steps": spec.steps_per_epoch,
        "batch": recipe.batch,
        "pool": spec.pool,
        "lr": spec.lr_generator,
        "loss": make("generator_losses", "Loss", name, options),
        "learns": learns,
        "teacher": role,
        "augment": recipe.augment,
        "grids": spec.grids,
    }
    if spec.rounds is not None:
        own = {"classes": len(about["classes"]), **spec.rounds.model_dump()}
        return RoundSource(sizes, RoundRecipe(**common, **own), seed, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = Generator(sizes).to(device)
    return GeneratorSource(network, GeneratorRecipe(**common, **spec.model_dump(include=OWN)), seed)


def sizes_of(form: GeneratorForm, colours: int) -> Sizes:
    """How large a generator is."""
    return Sizes(form.latent, form.channels, form.image, colours, form.drawn, form.doublings)


@dataclass(frozen=True)
class Warm:
    """A finished warm-up: generator, optimiser, pool, and the student it warmed.

    Without a warm-up (``warm: false``) it says what to begin with, and each seed begins anew.
    """

    artifact: Artifact

    @cached_property
    def spec(self) -> GeneratorSpec:
        """The generator's own."""
        return spec_of(self.artifact.manifest)

    @property
    def about(self) -> dict:
        """What the student's file says of it: class names, mean and std."""
        return read_about(self.artifact.path(MODEL))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, its teacher's."""
        return tuple(self.about["classes"])

    def role_in(self, inputs: dict[str, Path]) -> str:
        """The role that the generator's own teacher plays among a student's inputs."""
        own = self.artifact.manifest.inputs["teacher"].rpartition("/")[2]
        prefix = "teachers."
        roles = [
            role.removeprefix(prefix)
            for role, folder in inputs.items()
            if role.startswith(prefix) and folder.name == own
        ]
        return "natural" if "natural" in roles else roles[0]

    def student(self, seed: int) -> nn.Module:
        """The warm student; without a warm-up, one with weights drawn from ``seed``."""
        if self.spec.warm:
            return load_classifier(self.artifact.path(MODEL))
        about = self.about
        return initialised(self.spec.model, len(self.classes), about["mean"], about["std"], seed)

    def snapshot(self, epoch: int) -> nn.Module:
        """The student as it stood after an epoch of the warm-up, counted from 1."""
        last = epoch == self.spec.recipe.epochs
        return load_classifier(self.artifact.path(MODEL if last else kept(epoch)))

    def source(
        self, recipe: Recipe, sampling: Sampling, seed: int, device: str, role: str = "natural"
    ) -> Source:
        """The generator as it stood at the end, ready to go on learning with draws of its own."""
        chosen: dict = {"grids": ()} if self.spec.warm else {"grids": (), "seed": seed}
        for name in ("steps_per_epoch", "replayed"):
            if (value := getattr(sampling, name)) is not None:
                chosen[name] = value
        spec, draws = self.spec.model_copy(update=chosen), seed_of("stage II", seed)
        source = make_source(spec, self.about, recipe, draws, device, role, sampling.learns)
        if spec.warm:
            source.load_state_dict(checkpoint.restore(self.artifact.path(SOURCE), device))
        return source


def open_warm(folder: Path) -> Warm:
    """The warm-up in a finished generator's folder."""
    return Warm(open_artifact(folder))
