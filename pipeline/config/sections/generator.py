"""The section of generators."""

from typing import Literal

from pydantic import model_validator

from pipeline.config.plugin_fields import LossSpec, Plugin
from pipeline.config.sections.trained import (
    Computed,
    Seeds,
    TrainedSettings,
    check_unlabelled_recipe,
)
from pipeline.discovery import load_plugin
from pipeline.schema import (
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    make_neutral_field,
)


class RoundSettings(Section):
    """Images made by one optimisation per epoch, instead of a generator that learns all along.

    With `of: generator` the loss says what a round begins with: DFHL-RS goes on with the last
    round's generator, others draw it anew.

    Attributes:
        of: what is optimised: a "generator" and its noise (CMI, DFHL-RS), or the "pixels".
        iterations: number of Adam's steps in a round.
        made: number of images that a round makes.
        lr_images: learning rate of the noise or pixels; the generator's is `lr_generator`.
    """

    of: Literal["generator", "pixels"] = "generator"
    iterations: PositiveInt = 200
    made: PositiveInt = 256
    lr_images: PositiveFloat = 0.001


class GeneratorForm(TrainedSettings):
    """The fields that a generator's section and its spec share.

    Attributes:
        model: the student's network: an architecture by its name.
        latent: number of numbers of the noise from which an image is made.
        channels: number of channels of the generator's first levels; each further level has half.
        image: side of the images, in pixels.
        drawn: side at which the generator draws, in pixels; smaller ones are enlarged. 0 is
            `image`.
        steps_per_epoch: number of batches of an epoch.
        lr_generator: learning rate of the generator.
        weights: weights of DERD's four losses, that of `balance` per nat of entropy; `losses` names
            others, with their options.
        pool: number of past images that are kept; 0 keeps none.
        replayed: number of past images added to each batch.
        warm: whether there is a warm-up; if not, each student starts with new networks.
        student_steps: number of the student's batches for each step of the generator.
        doublings: number of times that the side of the images is doubled, such as 4 for 224 px.
        halves_first: whether the first doubling halves the channels too, as in DataFree's large
            generator (`channels: 256`).
        clip_grad: largest norm of the generator's gradient; 0 does not limit it.
        rounds: settings of rounds that make the images instead of a generator that learns all
            along.
        grids: shares of the warm-up at which a picture of generated images is kept.
    """

    model: str
    latent: PositiveInt = 128
    channels: PositiveInt = 64
    image: PositiveInt = 32
    drawn: NonNegativeInt = 0
    steps_per_epoch: PositiveInt = 120
    lr_generator: PositiveFloat = 1e-3
    weights: dict[Literal["oh", "activation", "bn", "balance"], Number] = {}
    pool: NonNegativeInt = 0
    replayed: NonNegativeInt = 0
    warm: bool = make_neutral_field(True)
    student_steps: PositiveInt = make_neutral_field(1)
    doublings: PositiveInt = make_neutral_field(2)
    halves_first: bool = make_neutral_field(False)
    clip_grad: NonNegativeFloat = make_neutral_field(0.0)
    rounds: RoundSettings | None = make_neutral_field(None)
    grids: tuple[Share, ...] = ()  # in every key, also where there are none


class GeneratorSpec(GeneratorForm, Computed):
    """The spec of a generator."""

    losses: Plugin = {}


class GeneratorSettings(GeneratorForm):
    """DERD's stage I: a generator and a warm student from a teacher, without data.

    Attributes:
        teacher: name of the teacher whose training images are imitated.
        losses: a generator's loss in place of DERD's, with its options.
        seeds: one warm-up, and so one artefact, for each; a student starts from that of its seed.
    """

    teacher: str
    losses: LossSpec = make_neutral_field({})
    seeds: Seeds | None = make_neutral_field(None)

    @model_validator(mode="after")
    def check_recipe_without_labels(self):
        """Checks that the recipe needs no labels."""
        check_unlabelled_recipe(self.recipe)
        return self

    @model_validator(mode="after")
    def check_fields_fit(self):
        """Checks that losses, rounds and pool go together."""
        if self.weights and self.losses:
            raise ValueError("weights: are the losses' own options; write them below 'losses'")
        for name in self.losses:
            if load_plugin("generator_losses", name).Loss.rounds and self.rounds is None:
                raise ValueError(f"losses: '{name}' works on images made in rounds; give 'rounds'")
        if self.replayed and not self.pool:
            raise ValueError("replayed: needs past images; set 'pool' above 0")
        if self.rounds is None:
            return self
        if not self.pool:
            raise ValueError("rounds: fill a pool; set 'pool' above 0")
        for name in ("replayed", "student_steps", "clip_grad"):
            if name in self.model_fields_set:
                raise ValueError(f"{name}: does not go with rounds, which have a pool; drop it")
        return self
