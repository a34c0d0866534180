"""Data sets whose images stay in their files: class folders, and the index of the images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import torch
from PIL import Image

from pipeline.core.seeding import make_generator
from pipeline.data import imagenet
from pipeline.data.image_folder import DECODE_ERRORS
from pipeline.data.lazy_images import INDEX_SCHEMA
from pipeline.errors import RetortError

REVISION = 1

DECODINGS = ("plain", "as_seen")  # of ``image_folder.convert_to_rgb``

ImageLocation = tuple[str, int, int, int, str | None]  # file, offset, size, label, group


@dataclass(frozen=True)
class FileIndex:
    """The locations of a split's images.

    Attributes:
        root: the folder that holds the files.
        table: one row for each image, in `lazy_images.INDEX_SCHEMA`.
        crop: share of the shorter side that the centre crop keeps.
        scored_labels: labels that a prediction may be; empty: all.
        decode: how colours are read, as in ``image_folder.convert_to_rgb``.
    """

    root: Path
    table: pa.Table
    crop: float
    scored_labels: tuple[int, ...] = ()
    decode: str = "plain"


def build_index_table(locations: Sequence[ImageLocation], *seed_names: str) -> pa.Table:
    """The locations as a table, in a fixed random order that ``seed_names`` name.

    So the first rows are of every class.
    """
    order = torch.randperm(
        len(locations), generator=make_generator("folders", *seed_names)
    ).tolist()
    columns = (
        zip(*(locations[i] for i in order), strict=True) if locations else [[]] * len(INDEX_SCHEMA)
    )
    arrays = [pa.array(c, kind) for c, kind in zip(columns, INDEX_SCHEMA.types, strict=True)]
    return pa.table(arrays, schema=INDEX_SCHEMA)


def label_folders(
    folder_names: Iterable[str], classes: Sequence[str], where: Path, may_lack: bool = False
) -> dict[str, int]:
    """The label of each folder: the position of its class in the list.

    Where all folder names are numbers, the numbers are the labels (ImageNet-V2). With ``may_lack``
    a class needs no folder.

    Raises:
        RetortError: a folder is no class, a class has no folder, or numbers are not 0 to K-1.
    """
    found, count = sorted(folder_names), len(classes)
    known = {name: label for label, name in enumerate(classes)}
    if not known.keys() & set(found) and all(name.isdecimal() for name in found):
        if sorted(map(int, found)) != list(range(count)):
            raise RetortError(
                f"{where}: {len(found)} numbered folders for {count} classes, not 0 to {count - 1} "
                "each once; name the folders in label order in the source's 'folders'"
            )
        return {name: int(name) for name in found}
    strange, missing = sorted(set(found) - set(classes)), [c for c in classes if c not in found]
    if may_lack and not strange:
        return {name: known[name] for name in found}
    if strange or missing:
        what = f"'{strange[0]}' is none of them" if strange else f"'{missing[0]}' is missing"
        raise RetortError(
            f"{where}: {len(found)} class folders, {count} classes: {what}; complete it, or list "
            "the folders in label order in the source's 'folders'"
        )
    return known


def describe_header(file: BinaryIO) -> str:
    """Why a file does not begin with an image's header; empty if it does. Reads no more than it."""
    try:
        with Image.open(file):
            return ""
    except Image.DecompressionBombError as error:
        return f"is too large ({error})"
    except DECODE_ERRORS:
        file.seek(0)
        return "is an HTML page" if file.read(64).lstrip()[:1] == b"<" else "is no image"


def check_options(size: int, crop: float, decode: str, places: Mapping[str, str]) -> None:
    """Raise ValueError unless crop, decoding and the splits' places below the path are possible."""
    for split, place in places.items():
        if place.startswith(("/", "~")) or "\0" in place:
            raise ValueError(f"{split}: {place!r} is not below the path; write it relative to that")
    if size < 1 or not 0 < crop <= 1:
        raise ValueError(f"crop: {crop:g} of {size} px; crop is in (0, 1], size > 0")
    if decode not in DECODINGS:
        raise ValueError(f"decode: '{decode}' is unknown; give {' or '.join(DECODINGS)}")


def list_class_names(folders: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Class names in label order: ``names``, else the folders' names, else ImageNet's 1000.

    Raises:
        ValueError: names and folders differ in number, or a folder is named twice.
    """
    if len(set(folders)) < len(folders):
        raise ValueError("folders: one is named twice")
    count = len(folders or imagenet.load_wordnet_ids())
    if names and len(names) != count:
        own = "" if folders else ", and your own classes in 'folders'"
        raise ValueError(
            f"names: {len(names)} class names for {count} folders; give one for each{own}"
        )
    return tuple(names or folders or imagenet.load_class_names())
