"""Data sets made definite: what a source finds out about its files, and counts as numbers."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.dataset_source import (
    DatasetPlugin,
    assign_sources,
    open_dataset_plugin,
)
from pipeline.config.plugin_fields import resolve_source
from pipeline.config.sections.dataset import ALL, DatasetSettings
from pipeline.errors import RetortError, prefix_errors

COUNTS = ("train", "val", "test")
DEFAULT_TEST_SHARE = "20%"  # of the training images, where there are no test images

log = logging.getLogger("retort.plan")


def settle_datasets(
    sections: Mapping[str, DatasetSettings], cache: Path
) -> dict[str, DatasetSettings]:
    """The sections with numbers for counts, and with their sources' options found.

    A section that gives all of them is left as it is, and its files are not looked at.

    Raises:
        RetortError: files are missing or do not fit, or a source has fewer images.
    """
    return {name: settle_dataset(name, section, cache) for name, section in sections.items()}


def settle_dataset(name: str, section: DatasetSettings, cache: Path) -> DatasetSettings:
    """One section, as in ``settle_datasets``."""
    plugin = open_dataset_plugin(section.source)
    asks = any(not isinstance(getattr(section, split), int) for split in COUNTS)
    source, sizes, was_counted = section.source, plugin.sizes, False
    if plugin.find is not None:
        ((kind, options),) = source.items()
        with prefix_errors(f"datasets.{name}.source.{kind}."):
            found = plugin.find(cache, asks)
        for note in found.notes:
            log.info("datasets.%s: %s", name, note)
        if found.options:
            source = resolve_source({kind: {**options, **found.options}})
        if found.sizes is not None:
            sizes, was_counted = found.sizes, True
    if not asks and not was_counted:
        return section.model_copy(update={"source": source})
    counts = count_images(f"datasets.{name}", section, plugin, sizes, was_counted)
    return section.model_copy(update={"source": source, **counts})


def count_images(
    where: str,
    section: DatasetSettings,
    plugin: DatasetPlugin,
    sizes: Mapping[str, int | None],
    was_counted: bool,
) -> dict[str, int | bool]:
    """The numbers of images of a section's splits, and whether they are stratified."""
    own_test, own_val = sizes["test"] != 0, "val" in sizes
    asked = {
        "train": (ALL if sizes["train"] != 0 else 0) if section.train is None else section.train,
        "val": (ALL if own_val else 0) if section.val is None else section.val,
        "test": (ALL if own_test else DEFAULT_TEST_SHARE) if section.test is None else section.test,
    }
    cuts_test = not own_test and asked["test"] != 0
    cuts_test &= was_counted or section.stratified or isinstance(asked["test"], str)
    cuts_share = isinstance(asked["val"], str) and not own_val
    stratified = section.stratified or cuts_test or cuts_share
    sources = assign_sources(sizes, stratified)
    found: dict[str, int] = {}
    for split in ("val", "test", "train"):
        left = sizes[sources[split]]
        if split == "train" and left is not None:
            left -= sum(found[other] for other in ("val", "test") if sources[other] == "train")
        if asked[split] == ALL and split != sources[split]:
            raise RetortError(
                f"{where}.{split}: all: {plugin.name} has no images of its own for it; give a "
                "number, or a share such as 20%"
            )
        found[split] = resolve_count(
            f"{where}.{split}", asked[split], sizes[sources[split]], left, plugin
        )
    if not found["train"] and asked["train"] != 0:
        raise RetortError(f"{where}.train: no images are left for it; ask for fewer elsewhere")
    if cuts_test:
        log.info("%s: %d training images are its test images", where, found["test"])
    return found | {"stratified": stratified}


def resolve_count(
    where: str, asked: int | str, total: int | None, left: int | None, plugin: DatasetPlugin
) -> int:
    """A count as a number.

    Args:
        where: dotted path of the count.
        asked: a number, "all" of what is left, or a share of the total.
        total: number of images that the split is taken from; None: not known.
        left: number of those that no other split takes.
        plugin: the data set, named in messages.

    Raises:
        RetortError: the source does not know its number of images, or has too few.
    """
    if isinstance(asked, str) and (total is None or left is None):
        raise RetortError(
            f"{where}: {asked}: {plugin.name} knows its number of images only once they are read; "
            "give a number"
        )
    if asked == ALL:
        return max(left, 0)
    share = float(asked.rstrip("%")) / 100 if isinstance(asked, str) else 0.0
    number = max(round(total * share), share > 0) if isinstance(asked, str) else asked
    if left is not None and number > left:
        also = f", and other splits take {total - left}" if left < total else ""
        raise RetortError(
            f"{where}: {number} images asked for, {plugin.name} has {total}{also}; ask for fewer"
        )
    return number
