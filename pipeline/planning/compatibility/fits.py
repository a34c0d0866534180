"""Checks whether model, data set and objective fit, before anything is loaded."""

import math
from collections.abc import Iterable
from typing import Any

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.student import StudentSettings
from pipeline.config.sections.teacher import TeacherSettings
from pipeline.contracts.values import describe_bad_needs
from pipeline.core.batch import NEED_DESCRIPTIONS, describe_missing_needs, needs_whole_batch
from pipeline.core.meta_device import build_on_meta
from pipeline.discovery import cache_by_plugins, describe_plugin
from pipeline.errors import RetortError, prefix_errors
from pipeline.models.classifier import build_network, find_model_family
from pipeline.schema import make_plugin


def get_image_shape(config: Config, dataset: str) -> tuple[int, int, int]:
    """Channels, height and width of a data set's images."""
    return tuple(open_dataset_plugin(config.datasets[dataset].source).shape)


def list_dataset_classes(config: Config, dataset: str) -> tuple[str, ...]:
    """Class names of a data set; empty if its images have no labels."""
    return open_dataset_plugin(config.datasets[dataset].source).classes


def objective_of(spec: dict) -> Any:
    """The objective that a section names, with its options."""
    ((name, options),) = spec.items()
    return make_plugin("objectives", "Objective", name, options)


def list_objective_needs(objective: dict) -> tuple[str, ...]:
    """The roles and fields that an objective reads."""
    method = objective_of(objective)
    needs = method.needs()
    if fault := describe_bad_needs(needs, tuple(NEED_DESCRIPTIONS)):
        raise RetortError(f"{describe_plugin(method)}: {fault}")
    return tuple(needs)


def check_needs(where: str, objective: dict, roles: Iterable[str], fields: Iterable[str]) -> None:
    """Raise if an objective reads a role or field that its section does not give it."""
    (name,) = objective
    lacking = describe_missing_needs(list_objective_needs(objective), roles, fields)
    if lacking:
        got = ", ".join([*roles, *fields]) or "nothing"
        raise RetortError(f"{where}: objective '{name}' needs {lacking}; it is given {got}")


def find_family_module(
    config: Config, model: str, where: str, dataset: str | None = None, resize: int | None = None
) -> str:
    """The module that builds a model; checks that the model takes the data set's images.

    ``resize`` is the side in pixels to which images are resized first, None for none.

    Raises:
        RetortError: no family knows the name, or the model takes images of another size.
    """
    with prefix_errors(f"{where}: "):
        family, side = find_family_and_side(model)
    if dataset and side:
        check_input_side(config, where, model, side, dataset, resize)
    if (
        dataset
        and not resize
        and min(get_image_shape(config, dataset)[1:]) < find_least_side(model)
    ):
        raise RetortError(
            f"{where}: '{model}' takes images of {find_least_side(model)} px or more, data set "
            f"'{dataset}' has {min(get_image_shape(config, dataset)[1:])}; name a model for that "
            f"size"
        )
    return family


@cache_by_plugins
def find_least_side(model: str) -> int:
    """The smallest side in pixels that a model takes: its ``min_side``, or 1."""
    return getattr(build_on_meta(build_network, model, 2), "min_side", 1)


def check_channels(config: Config, where: str, dataset: str) -> None:
    """Raise if the data set of a CLIP does not have three channels."""
    if (colours := get_image_shape(config, dataset)[0]) != 3:
        raise RetortError(
            f"{where}: a CLIP takes images in 3 channels, data set '{dataset}' has {colours}; name "
            "a 'model' in its place"
        )


def check_input_side(
    config: Config, where: str, model: str, side: int, dataset: str, resize: int | None
) -> None:
    """Raise if a model that takes images of only one side gets images of another."""
    sides = (resize, resize) if resize else get_image_shape(config, dataset)[1:]
    if sides != (side, side):
        got = "resize makes them" if resize else f"data set '{dataset}' has"
        raise RetortError(
            f"{where}: '{model}' takes images of {side}x{side} px, {got} "
            f"{sides[0]}x{sides[1]}; name a model for that size"
        )


@cache_by_plugins
def find_family_and_side(model: str) -> tuple[str, int | None]:
    """The module that builds a model, and the only image side that the model takes, if any.

    The network is built once, on the meta device, without allocating memory.
    """
    family = find_model_family(model)
    return family.__name__, getattr(build_on_meta(build_network, model, 2), "side", None)


def check_image_shape(
    config: Config, where: str, teacher: str, teacher_dataset: str, dataset: str
) -> None:
    """Raise if a teacher learnt on images of another size than those of ``dataset``."""
    known, shown = get_image_shape(config, teacher_dataset), get_image_shape(config, dataset)
    if known != shown:
        sizes = ["x".join(map(str, shape)) for shape in (known, shown)]
        raise RetortError(
            f"{where}: '{teacher}' knows images of another size than those of data set "
            f"'{dataset}', {sizes[0]} and not {sizes[1]}; name a teacher of that size"
        )


def list_label_fields(config: Config, dataset: str) -> tuple[str, ...]:
    """Fields of a data set, beside its images, that an objective may read."""
    return ("label",) if list_dataset_classes(config, dataset) else ()


def check_recipe(config: Config, where: str, section: TeacherSettings | StudentSettings) -> None:
    """Raise if a recipe needs images that the section's data set does not have."""
    recipe = section.recipe
    if section.dataset:
        check_training_images(config, f"{where}.dataset", section.dataset)
        check_batch(config, f"{where}.recipe", recipe, section.dataset)
    if recipe.select_on == "val" and section.dataset and not config.datasets[section.dataset].val:
        raise RetortError(
            f"{where}.recipe.select_on: 'val' needs validation images; set "
            f"datasets.{section.dataset}.val, or select_on: last"
        )
    if recipe.select_on == "test" and section.dataset and not config.datasets[section.dataset].test:
        raise RetortError(
            f"{where}.recipe.select_on: 'test' needs test images; set "
            f"datasets.{section.dataset}.test"
        )


def check_batch(config: Config, place: str, recipe: Recipe, dataset: str) -> None:
    """Raise if a data set has too few training images for a batch; ``place`` is the recipe's."""
    if (count := config.datasets[dataset].train) < recipe.batch:
        raise RetortError(
            f"{place}.batch: {recipe.batch} is more than the {count} training images of data set "
            f"'{dataset}'; make it smaller, or raise datasets.{dataset}.train"
        )


def check_training_images(config: Config, place: str, dataset: str) -> None:
    """Raise if a data set has no training images; ``place`` is the key that names it."""
    if not config.datasets[dataset].train:
        raise RetortError(
            f"{place}: '{dataset}' has no training images; name one that has, or set "
            f"datasets.{dataset}.train"
        )


def check_l2_radius(config: Config, place: str, eps: float, dataset: str) -> None:
    """Raise if an L2 radius is more than two images can differ; ``place`` is its key."""
    largest = math.sqrt(math.prod(shape := get_image_shape(config, dataset)))
    if eps > largest:
        raise RetortError(
            f"{place}: {eps:g} is more than {largest:.1f}, the L2 distance of the black image of "
            f"{'x'.join(map(str, shape))} pixels in [0,1] from the white one; did you mean "
            f"{eps:g}/255?"
        )


def check_whole_batch(where: str, recipe: Recipe, method: object, named: str) -> None:
    """Raise if a recipe splits the batches of a method that must see each batch undivided.

    Args:
        where: the section's path in the configuration.
        recipe: the section's recipe.
        method: the method, which may declare that it needs undivided batches; None does not.
        named: the method's name in the message.
    """
    if recipe.accumulate > 1 and needs_whole_batch(method):
        raise RetortError(
            f"{where}.recipe.accumulate: {named} needs a batch as a whole, not in "
            f"{recipe.accumulate} parts; drop it, and use more 'gpus' or a smaller 'batch'"
        )


def check_objective_whole(where: str, entry: TeacherSettings | StudentSettings) -> None:
    """Run ``check_whole_batch`` for a teacher's or student's objective."""
    (name,) = entry.objective
    method = objective_of(entry.objective)
    check_whole_batch(where, entry.recipe, method, f"objective '{name}'")


def check_replayed(where: str, replayed: int, recipe: Recipe) -> None:
    """Raise if the replayed images of a batch cannot be split evenly among the GPUs."""
    if recipe.gpus > 1 and replayed % (parts := recipe.gpus * recipe.accumulate):
        raise RetortError(
            f"{where}: {replayed} images cannot be split into {parts} (gpus times accumulate); "
            "set it to a multiple"
        )


def describe_class_count(known: tuple[str, ...], own: tuple[str, ...]) -> str:
    """The number of ``own`` classes in words; "others" is added if only the names differ."""
    return f"{len(own)} others" if len(own) == len(known) else f"{len(own)}"


def describe_class_difference(given: tuple[str, ...], own: tuple[str, ...]) -> str:
    """How the given classes differ from a model's own, in words."""
    if set(given) == set(own):
        place = next(n for n, pair in enumerate(zip(given, own, strict=True)) if len({*pair}) > 1)
        return (
            f"the same in another order: label {place} is '{given[place]}' there and "
            f"'{own[place]}' here"
        )
    lacking = [name for name in own if name not in given]
    further = [name for name in given if name not in own]
    parts = [
        f"{word} {', '.join(repr(name) for name in names[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for word, names in (("lacks", lacking), ("has besides", further))
        if names
    ]
    return f"it {' and '.join(parts)}"
