"""Sources from a generator's spec, and the finished generator with its warm student."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.config.sections.generator import GeneratorForm, GeneratorSpec
from pipeline.config.sections.generator import GeneratorSettings as GeneratorSection
from pipeline.config.sections.student import SamplingSettings
from pipeline.config.specs import get_spec
from pipeline.core.seeding import derive_seed
from pipeline.data.batches import BatchSource
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.inversion_batches import RoundRecipe, RoundSource
from pipeline.models.classifier import (
    MODEL_FILE,
    get_epoch_file_name,
    initialise_classifier,
    read_metadata,
)
from pipeline.models.generator import Generator, GeneratorSize
from pipeline.models.loading import load_classifier
from pipeline.schema import make_plugin
from pipeline.store import checkpoint
from pipeline.store.artefact import Artefact, open_artefact

REVISION = 1

SOURCE_FILE = "source.pt"
OWN = {
    "student_steps",
    "clip_grad",
    "replayed",
}  # options of GeneratorRecipe that RoundRecipe lacks


def resolve_loss(generator: GeneratorSection | GeneratorSpec) -> dict[str, dict]:
    """The generator's loss as {name: options}; DERD's if the spec names none."""
    return generator.losses or {"derd": generator.weights}


def make_source(
    spec: GeneratorSpec,
    metadata: dict,
    recipe: Recipe,
    seed: int,
    device: str,
    role: str = "natural",
    learns: bool = True,
) -> BatchSource:
    """The batch source that a generator's spec describes, its generator with random weights.

    Args:
        spec: spec of a generator, with a student's overrides.
        metadata: its student's classes and mean; the mean has one number for each image channel.
        recipe: epochs, images per batch and their augmentation.
        seed: seed of the draws; that of the weights is in the spec.
        role: role of the teacher that the generator learns from, if it ``learns``.
    """
    size = make_generator_size(spec, len(metadata["mean"]))
    ((name, options),) = resolve_loss(spec).items()
    common_options = {
        "epochs": recipe.epochs,
        "steps": spec.steps_per_epoch,
        "batch": recipe.batch,
        "pool": spec.pool,
        "lr": spec.lr_generator,
        "loss": make_plugin("generator_losses", "Loss", name, options),
        "learns": learns,
        "teacher": role,
        "augment": recipe.augment,
        "grids": spec.grids,
    }
    if spec.rounds is not None:
        own_options = {"classes": len(metadata["classes"]), **spec.rounds.model_dump()}
        return RoundSource(size, RoundRecipe(**common_options, **own_options), seed, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = Generator(size).to(device)
    own_options = spec.model_dump(include=OWN)
    return GeneratorSource(network, GeneratorRecipe(**common_options, **own_options), seed)


def make_generator_size(form: GeneratorForm, image_channels: int) -> GeneratorSize:
    """The size of a generator for images with so many channels."""
    return GeneratorSize(
        form.latent,
        form.channels,
        form.image,
        image_channels,
        form.drawn,
        form.doublings,
        form.halves_first,
    )


@dataclass(frozen=True)
class GeneratorArtefact:
    """A finished generator artefact: generator, optimiser, pool and the student of the warm-up.

    Without a warm-up (``warm: false``) only its settings are used, and each seed starts anew.
    """

    artefact: Artefact

    @cached_property
    def spec(self) -> GeneratorSpec:
        """The spec of the generator."""
        return get_spec(self.artefact.manifest)

    @property
    def student_metadata(self) -> dict:
        """Metadata in the student's file: class names, mean and std."""
        return read_metadata(self.artefact.get_verified_path(MODEL_FILE))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the generator's teacher."""
        return tuple(self.student_metadata["classes"])

    def find_teacher_role(self, inputs: dict[str, Path]) -> str:
        """The role of the generator's teacher among a student's inputs."""
        teacher_key = self.artefact.manifest.inputs["teacher"].rpartition("/")[2]
        prefix = "teachers."
        roles = [
            role.removeprefix(prefix)
            for role, folder in inputs.items()
            if role.startswith(prefix) and folder.name == teacher_key
        ]
        return "natural" if "natural" in roles else roles[0]

    def load_student(self, seed: int) -> nn.Module:
        """The student after the warm-up; without one, a student drawn from ``seed``."""
        if self.spec.warm:
            return load_classifier(self.artefact.get_verified_path(MODEL_FILE))
        metadata = self.student_metadata
        return initialise_classifier(
            self.spec.model, len(self.classes), metadata["mean"], metadata["std"], seed
        )

    def load_student_snapshot(self, epoch: int) -> nn.Module:
        """The student after an epoch of the warm-up, counted from 1."""
        is_last = epoch == self.spec.recipe.epochs
        return load_classifier(
            self.artefact.get_verified_path(MODEL_FILE if is_last else get_epoch_file_name(epoch))
        )

    def resume_source(
        self,
        recipe: Recipe,
        sampling: SamplingSettings,
        seed: int,
        device: str,
        role: str = "natural",
    ) -> BatchSource:
        """The source at the end of the warm-up, ready to continue with draws named by ``seed``."""
        overrides: dict = {"grids": ()} if self.spec.warm else {"grids": (), "seed": seed}
        for name in ("steps_per_epoch", "replayed"):
            if (value := getattr(sampling, name)) is not None:
                overrides[name] = value
        spec, draws = self.spec.model_copy(update=overrides), derive_seed("stage II", seed)
        source = make_source(
            spec, self.student_metadata, recipe, draws, device, role, sampling.learns
        )
        if spec.warm:
            source.load_state_dict(
                checkpoint.load(self.artefact.get_verified_path(SOURCE_FILE), device)
            )
        return source


def open_generator(folder: Path) -> GeneratorArtefact:
    """The generator artefact in a finished folder."""
    return GeneratorArtefact(open_artefact(folder))
