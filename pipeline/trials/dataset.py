"""Trials of a data set: it is loaded as the stage loads it."""

from pathlib import Path

from pipeline.config.dataset_source import has_options, open_dataset_plugin
from pipeline.contracts.values import describe_bad_split
from pipeline.errors import RetortError
from pipeline.trials.requirements import require

SPLITS = ("train", "test")


def check_statement(name: str) -> None:
    """Its sizes, shape and classes are of the right form, with its options' defaults."""
    source = open_dataset_plugin({name: {}} if has_options(name) else name)
    require(len(set(source.classes)) == len(source.classes), "a class has its name twice")


def check_split(name: str, split: str, cache: Path) -> None:
    """A split's images and labels are of the stated shape, number and classes."""
    source = open_dataset_plugin({name: {}} if has_options(name) else name)
    if source.load is None:
        return
    found = source.load(split, cache)
    fault = describe_bad_split(found, source.shape, len(source.classes))
    require(not fault, f"{split}: {fault}")
    stated = source.sizes[split]
    count = len(found[1])
    require(stated in (None, count), f"{split}: {count} rows, its sizes say {stated}")


def try_dataset(name: str, cache: Path) -> None:
    """All trials.

    Raises:
        RetortError: what was seen in the first that fails.
    """
    try:
        check_statement(name)
    except ValueError as error:
        raise RetortError(f"its defaults are refused: {error}") from error
    for split in SPLITS:
        check_split(name, split, cache)
