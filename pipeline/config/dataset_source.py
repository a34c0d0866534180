"""What a data set's plug-in states before any image is read: sizes, shape, classes, paths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.discovery import load_plugin
from pipeline.schema import make_plugin, parse_named_options

OPTIONS_CLASS = "Images"  # the dataclass of a plug-in that has options
PATH_PREFIX = "source."  # prefix of the names of external paths in a job


@dataclass(frozen=True)
class DatasetPlugin:
    """A data set's plug-in with its options.

    Attributes:
        module: the plug-in's dotted name.
        sizes: rows of the splits "train" and "test"; None if known only after reading. "val" is
            there if the source has images of its own for it.
        shape: (C,H,W).
        classes: names in label order; none for images without labels.
        load: (split, cache) -> images (N,C,H,W) uint8 and labels (N,) int64.
        index: (split, cache) -> index of the image files; replaces ``load`` for a data set that is
            not held in memory.
        find: (data folder, whether counts are wanted) -> what the source finds out about its files,
            a ``folder_layout.FoundImages``; None if it has nothing to find.
        parts: name and number of rows of each part of the test split, in order; none where it is
            one whole.
        verify_version: (data folder) -> None; raises if the files are not those of the version.
    """

    name: str
    module: str
    sizes: Mapping[str, int | None]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    load: Callable[[str, Path], tuple[np.ndarray, np.ndarray]] | None
    index: Callable[[str, Path], Any] | None = None
    find: Callable[[Path, bool], Any] | None = None
    verify_version: Callable[[Path], None] | None = None
    parts: tuple[tuple[str, int], ...] = ()


def has_options(name: str) -> bool:
    """Whether a plug-in has a dataclass of options.

    Raises:
        RetortError: there is no such plug-in.
    """
    return hasattr(load_plugin("datasets", name), OPTIONS_CLASS)


def open_dataset_plugin(
    source: str | Mapping, paths: Mapping[str, str] | None = None
) -> DatasetPlugin:
    """The plug-in of a source, its name or {name: {option: value}}; ``paths`` are further options.

    Raises:
        RetortError: unknown plug-in or option, or invalid value.
    """
    name, options = parse_named_options(source)
    module = load_plugin("datasets", name)
    if not has_options(name):
        about = (module.SIZES, module.SHAPE, tuple(module.CLASSES), module.load)
        return DatasetPlugin(name, module.__name__, *about)
    images = make_plugin("datasets", OPTIONS_CLASS, name, {**options, **(paths or {})})
    reads = (getattr(images, n, None) for n in ("load", "index", "find", "verify_version"))
    about = (images.sizes, images.shape, tuple(images.classes), *reads)
    parts = tuple(getattr(images, "parts", ()))
    return DatasetPlugin(name, module.__name__, *about, parts=parts)


def assign_sources(sizes: Mapping[str, int | None], stratified: bool) -> dict[str, str]:
    """The split of a source that each split of a data set is taken from."""
    return {
        "train": "train",
        "val": "val" if "val" in sizes else "train",
        "test": "train" if stratified and sizes["test"] == 0 else "test",
    }


def list_path_options(name: str) -> tuple[str, ...]:
    """The options that are paths of files, marked "outside" in metadata; no key holds them."""
    kind = getattr(load_plugin("datasets", name), OPTIONS_CLASS)
    return tuple(f.name for f in fields(kind) if "outside" in f.metadata)


def strip_paths(source: str | Mapping) -> str | dict:
    """The source without the paths of its files."""
    if isinstance(source, str):
        return source
    ((name, options),) = source.items()
    return {name: {k: v for k, v in options.items() if k not in list_path_options(name)}}


def collect_job_paths(source: str | Mapping) -> dict[str, str]:
    """The paths of a source's files, under their names in a job."""
    if isinstance(source, str):
        return {}
    ((name, options),) = source.items()
    return {f"{PATH_PREFIX}{k}": options[k] for k in list_path_options(name)}


def extract_job_paths(run: Mapping[str, str]) -> dict[str, str]:
    """The paths of a source's files, read from a job."""
    return {k.removeprefix(PATH_PREFIX): v for k, v in run.items() if k.startswith(PATH_PREFIX)}
