"""What every trained entry has in its section."""

from typing import Literal

from pipeline.config.recipe import Recipe
from pipeline.schema import Count, Device, Section

Normalise = Literal["dataset", "none"]  # the data set's mean and std, or images as they are


class Trained(Section):
    """What every trained entry has: a recipe by name, or its fields."""

    recipe: Recipe = Recipe()


class Computed(Section):
    """What the spec of an artefact holds whose numbers depend on a seed and a device."""

    seed: Count
    device: Device


class Taken(Section):
    """The same of one that may come from a file instead, which depends on neither."""

    seed: Count | None = None
    device: Device | None = None


def plain_recipe(recipe: Recipe) -> None:
    """Refuse what a run without labels cannot do: select, mix, and augment beyond crop and flip.

    Raises:
        ValueError: naming the recipe's field.
    """
    if recipe.select_on != "last":
        raise ValueError("recipe.select_on: there are no labels to select by; use 'last'")
    for name in ("mixup", "cutmix", "smoothing", "rand_augment", "erase"):
        if getattr(recipe, name):
            raise ValueError(f"recipe.{name}: goes with labelled data alone; drop it")
