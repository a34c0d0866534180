"""The configuration's sections: schema, defaults and documentation in one place.

Fields marked ``added(…)`` came after the first release; they stay out of the keys while they
have their neutral default, so that a new field does not rename what exists.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from pipeline.plugged import ObjectiveSpec, sourced
from pipeline.recipe import Recipe
from pipeline.strict import (
    Count,
    NonNegative,
    Number,
    Positive,
    Rate,
    Section,
    Share,
    added,
)


class Dataset(Section):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A set that no model is tested on, such as one of generated images, does without test rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(sourced)]
    train: Positive
    val: Count = 0
    test: Count = 0


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


class Trained(Section):
    """What every trained entry has: a recipe by name, or its fields."""

    recipe: Recipe = Recipe()


def plain_recipe(recipe: Recipe) -> None:
    """Refuse what a run without labels cannot do: select, mix, and augment beyond crop and flip.

    Raises:
        ValueError: naming the recipe's field.
    """
    if recipe.select_on != "last":
        raise ValueError("recipe.select_on: there are no labels to select by; use 'last'")
    for name in ("mixup", "cutmix", "smoothing", "rand_augment"):
        if getattr(recipe, name):
            raise ValueError(f"recipe.{name}: goes with labelled data alone; drop it")


Sha256 = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")
]
Colours = tuple[Number, Number, Number]
Normalise = Literal["dataset", "none"]  # the data set's mean and std, or images as they are


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


class Discretizer(Trained):
    """A VQGAN of taming's encoder, decoder and quantiser, trained on a data set."""

    dataset: str
    ch: Positive = 32
    ch_mult: tuple[Positive, ...] = (1,)
    num_res_blocks: Count = 0
    attn_resolutions: tuple[Positive, ...] = ()
    z_channels: Positive = 4
    embed_dim: Positive = 4
    n_codes: Positive = 256
    unshuffle: Positive = 2
    mid_attention: bool = False

    @model_validator(mode="after")
    def without_labels(self):
        """Nothing here is labelled."""
        plain_recipe(self.recipe)
        return self


class BankAttack(Section):
    """DAD's perturbation around Q(x), in pixel space, on the teacher's cross-entropy."""

    norm: Literal["l2", "linf"] = "l2"
    eps: NonNegative = 0.1
    step: NonNegative = 0.1
    steps: Count = 1
    start_probability: Share = 0.8
    grad_path: Literal["identity", "ste"] = "identity"

    @model_validator(mode="after")
    def step_fits(self):
        """A step beyond the radius is a swapped pair of numbers, unless it is the only one."""
        if self.steps > 1 and self.step > self.eps:
            raise ValueError(f"step {self.step:g} > eps {self.eps:g}; are the two swapped?")
        return self


class Bank(Section):
    """Discretised adversarial samples and teacher outputs, made once for every student."""

    dataset: str
    teacher: str
    discretizer: str
    attack: BankAttack = BankAttack()
    reject: Literal["drop", "keep"] = "drop"
    shards: Positive = 8
    block: Positive = 128


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


class Sampling(Section):
    """How a data-free student draws from its generator; unset fields are the generator's own."""

    steps_per_epoch: Positive | None = None
    replayed: Count | None = None


class Extra(Section):
    """A second data set, of generated images for one: its share of every batch."""

    dataset: str
    share: Share


class Student(Trained):
    """A network distilled from teachers, on a data set, with a bank, or on a generator."""

    dataset: str | None = None
    bank: str | None = None
    generator: str | None = None
    sampling: Sampling = Sampling()
    extra: Extra | None = added(None)
    teachers: dict[str, str] = {}
    model: str
    normalise: Normalise = added("dataset")
    objective: ObjectiveSpec
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def one_teacher(cls, value: Any) -> Any:
        """`teacher: name` is short for `teachers: {teacher: name}`."""
        if isinstance(value, dict) and isinstance(value.get("teacher"), str):
            if "teachers" in value:
                raise ValueError("give 'teacher' or 'teachers', not both")
            value = dict(value)
            value["teachers"] = {"teacher": value.pop("teacher")}
        return value

    @model_validator(mode="after")
    def one_source(self):
        """A student learns on a data set (with or without a bank) or on a generator."""
        if (self.dataset is None) == (self.generator is None):
            raise ValueError("give exactly one of 'dataset' and 'generator'")
        if self.bank and self.generator:
            raise ValueError("a bank goes with a data set, not with a generator")
        if self.generator and self.normalise != "dataset":
            raise ValueError("normalise: a generator's student keeps its warm-up's; drop it")
        if self.generator:
            plain_recipe(self.recipe)
        if self.extra and (self.bank or self.generator):
            raise ValueError("extra: goes with a data set alone, not with a bank or a generator")
        if self.extra and not 0 < round(self.extra.share * self.recipe.batch) < self.recipe.batch:
            share, batch = self.extra.share, self.recipe.batch
            raise ValueError(f"extra.share: {share:g} of batch {batch} leaves one of the sets out")
        return self
