"""Images in folders, read as one array: resized, cropped, in one fixed random order."""

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from pipeline.core.seeding import make_generator
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.progress import Progress

REVISION = 1

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
DECODE_ERRORS = (  # what Pillow raises for bytes that are no whole image
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
SHOWN_FILES = 20  # bad files that an error names

LabelledFiles = list[tuple[Path, int]]  # files and their labels


def find_source(path: str, cache: Path, default: str) -> Path | None:
    """The folder or file at ``path`` (or ``default``), looked for as given, then in the cache.

    Raises:
        RetortError: it cannot be looked for, such as a name that is too long.
    """
    given = Path(path or default).expanduser()
    try:
        return next((place for place in (given, Path(cache) / given) if place.exists()), None)
    except OSError as error:
        raise RetortError(f"{str(given)[:40]}…: {error.strerror}; name another path") from error


def locate_source(path: str, cache: Path, default: str) -> Path:
    """What ``find_source`` finds.

    Raises:
        RetortError: it exists in neither place.
    """
    if (found := find_source(path, cache, default)) is not None:
        return found
    raise RetortError(f"{describe_missing(path, cache, default)}; set the source's 'path'")


def describe_missing(path: str, cache: Path, default: str) -> str:
    """What a message says where ``find_source`` finds nothing."""
    return f"{path or default} does not exist, neither here nor in {cache}"


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        RetortError: the folder holds no image.
    """
    found = sorted(
        p
        for p in folder.glob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        raise RetortError(f"{folder}: holds no image; check the source's 'path'")
    return found


def shuffle_files(files: LabelledFiles, *seed_names: str) -> LabelledFiles:
    """The files in a fixed random order, so that the first rows are of every class."""
    order = torch.randperm(len(files), generator=make_generator("folders", *seed_names))
    return [files[i] for i in order.tolist()]


def read_image(path: Path, size: int, crop: float) -> np.ndarray:
    """An image file as (3,size,size) uint8: shorter side resized to size / crop, centre cropped.

    Raises:
        RetortError: the file is no image, or is truncated.
    """
    try:
        with explain_denied_reading(path), Image.open(path) as opened:
            image = convert_to_rgb(opened)
    except DECODE_ERRORS as error:
        raise RetortError(f"{path}: not a readable image ({error}); fetch it again") from error
    return resize_and_centre_crop(image, size, crop)


def convert_to_rgb(image: Image.Image, decode: str = "plain") -> Image.Image:
    """An opened image as RGB.

    Args:
        image: of any mode that Pillow reads.
        decode: "plain" takes the stored colours, as torchvision does; "as_seen" also turns the
            image by its EXIF tag, scales 16 bits to 8 and puts transparent pixels on white.

    Raises:
        ValueError: more than 8 bits a pixel, which plain decoding would cut off at white.
    """
    if decode == "as_seen":
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError("more than 8 bits a pixel: convert it, or set 'decode: as_seen'")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if decode == "as_seen":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def format_bad_files(faults: Sequence[str], total: int, also: str = "") -> str:
    """Bad files in one line: how many, the first twenty, the remedy; ``also`` is one more remedy.

    Args:
        faults: "path: what is wrong" of each.
        total: number of files that were looked at.
        also: such as "set 'on_bad_file: skip'".
    """
    more = f", and {len(faults) - SHOWN_FILES} more" if len(faults) > SHOWN_FILES else ""
    them = "it" if len(faults) == 1 else "them"
    last = f"delete {them}, or {also}" if also else f"or delete {them}"
    return (
        f"{len(faults)} of {total} files cannot be used: {', '.join(faults[:SHOWN_FILES])}{more}; "
        f"fetch {them} again, {last}"
    )


def resize_and_centre_crop(image: Image.Image, size: int, crop: float) -> np.ndarray:
    """An image as (3,size,size) uint8: shorter side resized to size / crop, centre cropped."""
    scale = size / crop / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


def read_images(
    files: LabelledFiles, size: int, crop: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,size,size) uint8 and labels (N,) int64 of the files, in the files' order.

    Raises:
        RetortError: some files are no images; it names the first twenty.
    """
    images = np.empty((len(files), 3, size, size), np.uint8)
    faults: list[str] = []

    def fill_row(row: int) -> str:
        try:
            images[row] = read_image(files[row][0], size, crop)
        except RetortError as error:
            return str(error).partition("; ")[0]
        return ""

    progress = Progress("image", len(files))
    with ThreadPoolExecutor() as pool:
        for fault in pool.map(fill_row, range(len(files))):
            faults += [fault] if fault else []
            progress.add_steps()
    if faults:
        raise RetortError(format_bad_files(faults, len(files)))
    return images, np.array([label for _, label in files], np.int64)


def list_images_by_class(root: Path, classes: Sequence[str], subfolder: str = "") -> LabelledFiles:
    """The images of `root/<class>/<subfolder>`, labelled by the class's position in the list."""
    return [(p, i) for i, name in enumerate(classes) for p in list_images(root / name / subfolder)]
