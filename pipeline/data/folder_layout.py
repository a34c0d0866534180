"""The layout of a folder of images: which folder is a split, which a class, what is ignored.

The plan asks this module, and what it finds is in the data set's spec: so it has no REVISION.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from pipeline.data.image_folder import DECODE_ERRORS, IMAGE_SUFFIXES
from pipeline.errors import RetortError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
VERSION_PREFIX = "files-"  # of a version that is a digest over names and sizes
DIGEST_DIGITS = 12
SIDES = (32, 64, 128, 224)  # in pixels, suggested for images of at least that size
MEASURED_IMAGES = 100  # images of each class whose header is read for a suggested side


@dataclass(frozen=True)
class FoundImages:
    """What a source finds out about its own files before any is decoded.

    Attributes:
        options: options of the source that were left out, with what was found for them.
        sizes: rows by split; "val" only where it has files of its own. None: nobody asked.
        notes: lines for the log.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassFiles:
    """The images of one class folder, sorted by name, and how many files are ignored, by sort."""

    files: list[tuple[str, int]]  # name, size in bytes; 0 bytes: a link that leads nowhere
    ignored: Counter


@dataclass(frozen=True)
class FolderLayout:
    """What a folder of images holds.

    Attributes:
        splits: folder of each split that is there, below the root; "." is the root itself.
        classes: names of the class folders in label order.
        counts: number of images by split and class.
        ignored: number of ignored files by sort, such as "hidden" or ".txt".
        suggested_side: side in pixels to which the images may be resized, at most 224.
    """

    splits: dict[str, str]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    ignored: Counter
    suggested_side: int


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system leaves behind."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def list_subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted; numbers by their value.

    Raises:
        RetortError: a name is not UTF-8, or the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if not is_hidden(e.name) and e.is_dir()]
    except OSError as error:
        raise RetortError(
            f"{folder}: cannot be read ({error.strerror}); check its owner"
        ) from error
    for name in found:
        check_encoding(folder, name)
    numbers = all(name.isdecimal() for name in found)
    return sorted(found, key=(lambda name: (int(name), name)) if numbers else None)


def check_encoding(folder: Path, name: str) -> None:
    """Raise RetortError if a file's name is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RetortError(f"{folder}/{name}: its name is not UTF-8; rename it") from error


def scan_class_folder(folder: Path) -> ClassFiles:
    """The images in a class folder; files in folders below it are not among them.

    Raises:
        RetortError: a name is not UTF-8, or the folder cannot be read.
    """
    files, ignored = [], Counter()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    ignored["hidden"] += 1
                elif entry.is_dir():
                    ignored["folders"] += 1
                elif (suffix := os.path.splitext(entry.name)[1].lower()) in IMAGE_SUFFIXES:
                    check_encoding(folder, entry.name)
                    leads_nowhere = entry.is_symlink() and not Path(entry.path).exists()
                    files.append((entry.name, 0 if leads_nowhere else entry.stat().st_size))
                else:
                    ignored[suffix or "without suffix"] += 1
    except OSError as error:
        raise RetortError(
            f"{folder}: cannot be read ({error.strerror}); check its owner"
        ) from error
    return ClassFiles(sorted(files), ignored)


def holds_images(folder: Path) -> bool:
    """Whether a folder itself holds an image."""
    with os.scandir(folder) as entries:
        return any(
            not is_hidden(e.name) and Path(e.name).suffix.lower() in IMAGE_SUFFIXES for e in entries
        )


def holds_classes(folder: Path) -> bool:
    """Whether a folder holds a folder with an image."""
    return any(holds_images(folder / name) for name in list_subfolders(folder))


def find_split_folders(root: Path) -> dict[str, str]:
    """The folder of each split below a root; {"train": "."} where the root holds the classes.

    Without a folder called test, validation images are the test images, as in ImageNet.

    Raises:
        RetortError: there is neither a split with class folders nor a class folder.
    """
    by_name = {name.lower(): name for name in list_subfolders(root)}
    found = {}
    for split, names in SPLIT_NAMES.items():
        for name in names:
            if split not in found and name in by_name and holds_classes(root / by_name[name]):
                found[split] = by_name[name]
    if found:
        if "val" in found and "test" not in found:
            found["test"] = found.pop("val")
        return found
    if holds_classes(root):
        return {"train": "."}
    what = "images, but no folder for each class" if holds_images(root) else "no folder with images"
    raise RetortError(f"{root}: holds {what}; put them in {root.name}/<class>/")


def describe_ignored(ignored: Mapping[str, int]) -> str:
    """The ignored files in words, such as `3 hidden, 2 .txt`; empty if there are none."""
    return ", ".join(f"{count} {sort}" for sort, count in sorted(ignored.items()))


def compute_version(files: Iterable[tuple[str, int]]) -> str:
    """A version made of the files' relative names and sizes, whatever their order."""
    digest = hashlib.sha256()
    for name, size in sorted(set(files)):
        digest.update(f"{name}\0{size}\0".encode())
    return VERSION_PREFIX + digest.hexdigest()[:DIGEST_DIGITS]


def check_version(version: str, files: Iterable[tuple[str, int]], root: Path) -> None:
    """Raise RetortError if a version that is a digest is not that of the files."""
    if version.startswith(VERSION_PREFIX) and (found := compute_version(files)) != version:
        raise RetortError(
            f"{root}: names and sizes of the files are {found}, the data set's version is "
            f"{version}; put the files back, or plan again with that version or without one"
        )


def describe_version(version: str, count: int, what: str = "files") -> str:
    """The log line that says what a found version is and how it is pinned."""
    return (
        f"version is {version}, a digest over the names and sizes of {count} {what}; write "
        f"'version: {version}' in the source to have other files refused"
    )


def describe_image_folder(root: Path) -> FolderLayout:
    """What a folder of images holds: `<class>/*`, or `train/<class>/*` with `val` and `test`.

    Reads names, and the headers of a few images, which suggest the side.

    Raises:
        RetortError: the folder is missing, or holds no class folders with images.
    """
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise RetortError(f"{root}: {what}; name the folder of your images")
    splits, ignored = find_split_folders(root), Counter()
    first = root / next(iter(splits.values()))
    classes = tuple(name for name in list_subfolders(first) if holds_images(first / name))
    counts: dict[str, dict[str, int]] = {}
    shown: list[Path] = []
    for split, place in splits.items():
        counts[split] = {}
        for name in list_subfolders(root / place):
            found = scan_class_folder(root / place / name)
            ignored += found.ignored
            counts[split][name] = len(found.files)
            shown += [root / place / name / file for file, _ in found.files[:MEASURED_IMAGES]]
    return FolderLayout(splits, classes, counts, ignored, suggest_side(shown))


def suggest_side(paths: Iterable[Path]) -> int:
    """The largest of 32, 64, 128 and 224 px that the median image's shorter side reaches."""
    shorter = median(measure_shorter_sides(paths))
    return max((side for side in SIDES if side <= shorter), default=SIDES[0])


def measure_shorter_sides(paths: Iterable[Path]) -> list[int]:
    """The shorter side of each image whose header can be read, in pixels; [0] if there is none."""
    sides = []
    for path in paths:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except DECODE_ERRORS:
            continue  # the data set's own check names it
    return sides or [0]
