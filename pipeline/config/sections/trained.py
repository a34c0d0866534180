"""What every trained entry has in its section."""

from typing import Literal

from pipeline.config.recipe import Recipe
from pipeline.schema import Device, NonNegativeInt, Section

NormaliseOption = Literal["dataset", "none"]  # the data set's mean and std, or images as they are


class TrainedSettings(Section):
    """What every trained entry has: a recipe by name, or its fields."""

    recipe: Recipe = Recipe()


class Computed(Section):
    """What the spec of an artefact holds whose numbers depend on a seed and a device."""

    seed: NonNegativeInt
    device: Device


class OptionallyComputed(Section):
    """The same of one that may come from a file instead, which depends on neither."""

    seed: NonNegativeInt | None = None
    device: Device | None = None


def check_unlabelled_recipe(recipe: Recipe) -> None:
    """Refuse what a run without labels cannot do: select, mix, and augment beyond crop and flip.

    Raises:
        ValueError: naming the recipe's field.
    """
    if recipe.select_on != "last":
        raise ValueError("recipe.select_on: there are no labels to select by; use 'last'")
    for name in ("mixup", "cutmix", "smoothing", "rand_augment", "erase"):
        if getattr(recipe, name):
            raise ValueError(f"recipe.{name}: goes with labelled data alone; drop it")
