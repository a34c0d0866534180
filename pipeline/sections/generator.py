"""The section of generators."""

from typing import Literal

from pydantic import model_validator

from pipeline.sections.trained import Trained, plain_recipe
from pipeline.strict import Count, Number, Positive, Rate


class Generator(Trained):
    """DERD's stage I: a generator and a warm student from a natural teacher, without data."""

    teacher: str
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

    @model_validator(mode="after")
    def without_labels(self):
        """Nothing here is labelled."""
        plain_recipe(self.recipe)
        return self
