"""The section of teachers: trained, loaded from a file, or a small CLIP."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipeline.plugged import ObjectiveSpec
from pipeline.recipe import Recipe
from pipeline.sections.trained import Normalise, Trained
from pipeline.strict import Number, Positive, Rate, Section, added

Sha256 = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")
]
Colours = tuple[Number, Number, Number]


class Clip(Section):
    """A small CLIP of our own: a convolutional image tower and a text transformer."""

    image_width: Positive = 32
    embed: Positive = 64
    text_width: Positive = 64
    text_layers: Positive = 2
    text_heads: Positive = 2
    context: Positive = 16
    prompt: str = "a photo of a {}."
    templates: Literal["openai", "simple"] = "openai"


class Checkpoint(Section):
    """Weights from elsewhere. The sum names them in the key; where the file lies does not count.

    Without mean and std the file's own normalisation holds, and without one in the file, none.
    """

    path: str
    sha256: Sha256
    mean: Colours | None = None
    std: tuple[Rate, Rate, Rate] | None = None

    @model_validator(mode="after")
    def both(self):
        """One of mean and std alone is a slip."""
        if (self.mean is None) != (self.std is None):
            raise ValueError("give 'mean' and 'std', or neither")
        return self


class Teacher(Trained):
    """A classifier trained on a data set or loaded from a file, or a small CLIP used zero-shot."""

    dataset: str
    model: str | None = None
    clip: Clip | None = None
    checkpoint: Checkpoint | None = added(None)
    normalise: Normalise = added("dataset")
    objective: ObjectiveSpec = Field(default={"natural": {}}, validate_default=True)

    @model_validator(mode="after")
    def one_network(self):
        """Exactly one of model and clip."""
        if (self.model is None) == (self.clip is None):
            raise ValueError("give exactly one of 'model' and 'clip'")
        own = self.recipe.select_on != "last" or self.recipe.keep_epochs or self.recipe.mixes
        if self.clip is not None and own:
            raise ValueError("recipe: a CLIP keeps its last epoch and mixes no labels; drop them")
        if self.checkpoint is not None:
            if self.model is None:
                raise ValueError("checkpoint: goes with 'model', not with 'clip'")
            if self.recipe != Recipe() or "objective" in self.model_fields_set:
                raise ValueError("checkpoint: is not trained; drop objective, recipe and epochs")
            if self.normalise != "dataset":
                raise ValueError("normalise: a checkpoint has its own; give checkpoint.mean, .std")
        return self
