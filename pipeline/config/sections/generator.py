"""The section of generators."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.plugin_fields import LossSpec, Plugin
from pipeline.config.sections.trained import Computed, Trained, plain_recipe
from pipeline.discovery import plugin
from pipeline.schema import Count, NonNegative, Number, Positive, Rate, Section, Share, added


class Rounds(Section):
    """Images made by an optimisation an epoch, in place of a generator that learns all along.

    Attributes:
        of: what is optimised: a "generator" drawn anew with its noise (CMI), or the "pixels".
        iterations: Adam steps a round.
        made: images a round.
        lr_images: rate of the noise, or of the pixels; `lr_generator` is the generator's.
    """

    of: Literal["generator", "pixels"] = "generator"
    iterations: Positive = 200
    made: Positive = 256
    lr_images: Rate = 0.01


class GeneratorForm(Trained):
    """What a generator's section and its spec share.

    Attributes:
        weights: of the four losses of DERD; `losses` names others, with their options.
        warm: False trains nothing: each student of it begins with fresh networks.
        student_steps: batches for each step of the generator.
        doublings: how often the side of its images doubles, 4 for 224 px.
        clip_grad: largest norm of its gradient, 0 for none.
        rounds: how images are made in rounds instead.
        grids: shares of the warm-up at which a picture of its images is kept.
    """

    model: str
    latent: Positive = 128
    channels: Positive = 64
    image: Positive = 32
    drawn: Count = 0
    steps_per_epoch: Positive = 120
    lr_generator: Rate = 1e-3
    weights: dict[Literal["oh", "activation", "bn", "balance"], Number] = {}
    pool: Count = 0
    replayed: Count = 0
    warm: bool = added(True)
    student_steps: Positive = added(1)
    doublings: Positive = added(2)
    clip_grad: NonNegative = added(0.0)
    rounds: Rounds | None = added(None)
    grids: tuple[Share, ...] = added(())


class GeneratorSpec(GeneratorForm, Computed):
    """A generator as its job warms it up."""

    losses: Plugin = {}


class Generator(GeneratorForm):
    """DERD's stage I: a generator and a warm student from a teacher, without data.

    Attributes:
        losses: others than DERD's, with their options.
        seeds: of several warm-ups, one artefact each: a student of one seed begins with that one.
    """

    teacher: str
    losses: LossSpec = added({})
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] | None = added(None)

    @model_validator(mode="after")
    def without_labels(self):
        """Nothing here is labelled."""
        plain_recipe(self.recipe)
        return self

    @model_validator(mode="after")
    def belongs_together(self):
        """Losses, rounds and pool must go with each other."""
        if self.weights and self.losses:
            raise ValueError("weights: are the losses' own options; write them below 'losses'")
        for name in self.losses:
            if plugin("generator_losses", name).Loss.rounds and self.rounds is None:
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
