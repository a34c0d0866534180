"""The fields that sections and specs of trained artefacts share."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.recipe import Recipe
from pipeline.schema import Device, NonNegativeInt, Section

NormaliseOption = Literal["dataset", "none"]  # the data set's mean and std, or images as they are


def parse_seeds(value: Any) -> Any:
    """A list of seeds; one number is a list of one.

    Raises:
        ValueError: a seed is there twice.
    """
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return [value]
    if isinstance(value, list | tuple):
        for number, seed in enumerate(value):
            if seed in value[:number]:
                raise ValueError(f"{seed} is there twice; drop one")
    return value


Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(parse_seeds)]


class TrainedSettings(Section):
    """The recipe of a trained artefact, by name or by its fields.

    Attributes:
        recipe: name of one of `recipes`, or its fields; `epochs` and `gpus` may stand beside it in
            the section and count instead of the recipe's.
    """

    recipe: Recipe = Recipe()


class Computed(Section):
    """The seed and device in the spec of an artefact whose numbers depend on them."""

    seed: NonNegativeInt
    device: Device


class OptionallyComputed(Section):
    """The seed and device of an artefact; None if it comes from a file, which needs neither."""

    seed: NonNegativeInt | None = None
    device: Device | None = None


def check_unlabelled_recipe(recipe: Recipe) -> None:
    """Checks that a recipe needs no labels: no selection, no mixing, no more than crop and flip.

    Raises:
        ValueError: a field needs labels; the message names it.
    """
    if recipe.select_on != "last":
        raise ValueError("recipe.select_on: there are no labels to select by; use 'last'")
    for name in ("mixup", "cutmix", "smoothing", "rand_augment", "erase"):
        if getattr(recipe, name):
            raise ValueError(f"recipe.{name}: goes with labelled data alone; drop it")
