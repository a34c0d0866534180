"""Whether a model, its data set and its objective fit: asked before anything is loaded."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from pipeline.config.dataset_source import collection
from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.student import Student
from pipeline.config.sections.teacher import Teacher
from pipeline.core.batch import missing_needs, needs_whole_batch
from pipeline.core.meta_device import outline
from pipeline.errors import RetortError, under
from pipeline.models.classifier import family_of
from pipeline.schema import make


def shape_of(config: Config, dataset: str) -> tuple[int, int, int]:
    """Channels, height and width of a data set's images."""
    return tuple(collection(config.datasets[dataset].source).shape)


def classes_of(config: Config, dataset: str) -> tuple[str, ...]:
    """Class names of a data set, none if its images have no labels."""
    return collection(config.datasets[dataset].source).classes


def objective_of(spec: dict) -> Any:
    """The objective that a section names, with its options."""
    ((name, options),) = spec.items()
    return make("objectives", "Objective", name, options)


def needs_of(objective: dict) -> tuple[str, ...]:
    """The roles and fields that an objective's spec reads."""
    return objective_of(objective).needs()


def check_needs(where: str, objective: dict, roles: Iterable[str], given: Iterable[str]) -> None:
    """Raise if an objective reads a role or field that the entry does not give it."""
    (name,) = objective
    lacking = missing_needs(needs_of(objective), roles, given)
    if lacking:
        got = ", ".join([*roles, *given]) or "nothing"
        raise RetortError(f"{where}: objective '{name}' needs {lacking}; it is given {got}")


def family_for(
    config: Config, model: str, where: str, dataset: str | None = None, resize: int | None = None
) -> str:
    """The module that builds a model's name, which must take the data set's images, or resized.

    Raises:
        RetortError: no family knows the name, or the model takes images of another size.
    """
    with under(f"{where}: "):
        family, side = family_and_side(model)
    if dataset and side:
        check_side(config, where, model, side, dataset, resize)
    if dataset and not resize and min(shape_of(config, dataset)[1:]) < least_side(model):
        raise RetortError(
            f"{where}: '{model}' takes images of {least_side(model)} px or more, data set "
            f"'{dataset}' has {min(shape_of(config, dataset)[1:])}; name a model for that size"
        )
    return family


@cache
def least_side(model: str) -> int:
    """The smallest side of images that a model takes, as it says of itself."""
    return getattr(outline(family_of(model).build, model, 2), "least", 1)


def check_colours(config: Config, where: str, dataset: str) -> None:
    """Raise if a CLIP, whose image towers know three colours, gets others."""
    if (colours := shape_of(config, dataset)[0]) != 3:
        raise RetortError(
            f"{where}: a CLIP takes images in 3 channels, data set '{dataset}' has {colours}; name "
            "a 'model' in its place"
        )


def check_side(
    config: Config, where: str, model: str, side: int, dataset: str, resize: int | None
) -> None:
    """Raise if a model that takes images of one side alone gets others."""
    sides = (resize, resize) if resize else shape_of(config, dataset)[1:]
    if sides != (side, side):
        got = "resize makes them" if resize else f"data set '{dataset}' has"
        raise RetortError(
            f"{where}: '{model}' takes images of {side}x{side} px, {got} "
            f"{sides[0]}x{sides[1]}; name a model for that size"
        )


@cache
def family_and_side(model: str) -> tuple[str, int | None]:
    """The module that builds a model's name, and the only side of images it takes, if any.

    The network is built once, on the meta device: without memory.
    """
    family = family_of(model)
    return family.__name__, getattr(outline(family.build, model, 2), "side", None)


def check_size(config: Config, where: str, teacher: str, learnt: str, dataset: str) -> None:
    """Raise if a teacher learnt on images of another size than its student will show it."""
    known, shown = shape_of(config, learnt), shape_of(config, dataset)
    if known != shown:
        sizes = ["x".join(map(str, shape)) for shape in (known, shown)]
        raise RetortError(
            f"{where}: '{teacher}' knows images of another size than those of data set "
            f"'{dataset}', {sizes[0]} and not {sizes[1]}; name a teacher of that size"
        )


def labels_given(config: Config, dataset: str) -> tuple[str, ...]:
    """What an objective may read of a data set beside its images."""
    return ("label",) if classes_of(config, dataset) else ()


def check_recipe(config: Config, where: str, entry: Teacher | Student) -> None:
    """Raise if a recipe asks for what an entry's data cannot give."""
    recipe = entry.recipe
    if entry.dataset and not config.datasets[entry.dataset].train:
        raise RetortError(
            f"{where}.dataset: '{entry.dataset}' has no training images; name one that has, or set "
            f"datasets.{entry.dataset}.train"
        )
    if recipe.select_on == "val" and entry.dataset and not config.datasets[entry.dataset].val:
        raise RetortError(
            f"{where}.recipe.select_on: 'val' needs validation images; set "
            f"datasets.{entry.dataset}.val, or select_on: last"
        )
    if recipe.select_on == "test" and entry.dataset and not config.datasets[entry.dataset].test:
        raise RetortError(
            f"{where}.recipe.select_on: 'test' needs test images; set datasets.{entry.dataset}.test"
        )


def check_whole_batch(where: str, recipe: Recipe, method: object, named: str) -> None:
    """Raise if a recipe cuts the batches of a method that must see each as a whole.

    Args:
        where: the entry's path.
        recipe: the entry's.
        method: what says whether it does; None does not.
        named: the method in words.
    """
    if recipe.accumulate > 1 and needs_whole_batch(method):
        raise RetortError(
            f"{where}.recipe.accumulate: {named} needs a batch as a whole, not in "
            f"{recipe.accumulate} parts; drop it, and use more 'gpus' or a smaller 'batch'"
        )


def check_objective_whole(where: str, entry: Teacher | Student) -> None:
    """``check_whole_batch`` for a teacher's or student's objective."""
    (name,) = entry.objective
    method = objective_of(entry.objective)
    check_whole_batch(where, entry.recipe, method, f"objective '{name}'")


def check_replayed(where: str, replayed: int, recipe: Recipe) -> None:
    """Raise if the past images in a batch cannot be split among the GPUs."""
    if recipe.gpus > 1 and replayed % (parts := recipe.gpus * recipe.accumulate):
        raise RetortError(
            f"{where}: {replayed} images cannot be split into {parts} (gpus times accumulate); "
            "set it to a multiple"
        )


def counted(known: tuple[str, ...], own: tuple[str, ...]) -> str:
    """How many classes one has that knows others: their number, or that only the names differ."""
    return f"{len(own)} others" if len(own) == len(known) else f"{len(own)}"
