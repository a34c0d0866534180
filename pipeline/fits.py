"""Whether a model fits a data set: asked before anything is loaded or trained."""

from functools import cache

import torch

from pipeline.config import Config
from pipeline.errors import RetortError
from pipeline.models import family_of
from pipeline.plugins import plugin
from pipeline.recipe import Recipe
from pipeline.sections import Student, Teacher


def shape_of(config: Config, dataset: str) -> tuple[int, int, int]:
    """Channels, height and width of a data set's images."""
    return tuple(plugin("datasets", config.datasets[dataset].source).SHAPE)


def family_for(config: Config, model: str, where: str, dataset: str | None = None) -> str:
    """The module that builds a model's name, which must take the data set's images.

    Raises:
        RetortError: no family knows the name, or the model takes images of another size.
    """
    try:
        family, side = family_and_side(model)
    except RetortError as error:
        raise RetortError(f"{where}: {error}") from error
    if dataset and side and shape_of(config, dataset)[1:] != (side, side):
        _, height, width = shape_of(config, dataset)
        raise RetortError(
            f"{where}: '{model}' takes images of {side}x{side} px, data set '{dataset}' has "
            f"{height}x{width}; name a model for that size"
        )
    return family


@cache
def family_and_side(model: str) -> tuple[str, int | None]:
    """The module that builds a model's name, and the only side of images it takes, if any.

    The network is built once, on the meta device: without memory.
    """
    family = family_of(model)
    with torch.device("meta"):
        network = family.build(model, 2)
    return family.__name__, getattr(network, "side", None)


def check_size(config: Config, where: str, teacher: str, learnt: str, dataset: str) -> None:
    """Raise if a teacher learnt on images of another size than its student will show it."""
    if shape_of(config, learnt) != shape_of(config, dataset):
        raise RetortError(
            f"{where}: '{teacher}' knows images of another size than those of data set "
            f"'{dataset}'; name a teacher of that size"
        )


def labels_given(recipe: Recipe) -> tuple[str, ...]:
    """What an objective may read of a data set's labels: distributions are no hard labels."""
    return ("label",) if recipe.mixes else ("label", "hard_label")


def stored_given(recipe: Recipe) -> tuple[str, ...]:
    """What it may read of a bank: stored outputs belong to the stored pixels, not to others."""
    changes = recipe.augment != "none" or recipe.rand_augment
    return ("x_adv",) if changes else ("x_adv", "t_clean", "t_adv")


def check_recipe(config: Config, where: str, entry: Teacher | Student) -> None:
    """Raise if a recipe asks for what an entry's data cannot give."""
    recipe = entry.recipe
    if recipe.select_on == "val" and entry.dataset and not config.datasets[entry.dataset].val:
        raise RetortError(
            f"{where}.recipe.select_on: 'val' needs validation images; set "
            f"datasets.{entry.dataset}.val, or select_on: last"
        )
    if getattr(entry, "bank", None) and (recipe.mixup or recipe.cutmix):
        raise RetortError(
            f"{where}.recipe: a bank's images are not mixed; drop mixup and cutmix, or the bank"
        )


def check_bank_teacher(config: Config, where: str, student: Student) -> None:
    """Raise if a student names a teacher beside a bank that another teacher made."""
    maker = config.banks[student.bank].teacher
    for role, teacher in student.teachers.items():
        if len(student.teachers) == 1 and teacher != maker:
            raise RetortError(
                f"{where}.teachers.{role}: bank '{student.bank}' was made by teacher '{maker}', "
                f"not by '{teacher}'; name '{maker}', or drop the bank"
            )
