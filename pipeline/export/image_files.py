"""Image files prepared as a model's training images were."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.image_folder import IMAGE_SUFFIXES, format_bad_files, resize_and_centre_crop
from pipeline.data.lazy_images import decode_image
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.export.finished_model import FinishedModel


def list_image_files(places: Sequence[Path]) -> list[Path]:
    """The given files, and all images in given folders and their subfolders, sorted by name.

    Raises:
        RetortError: a place does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise RetortError(f"{place}: does not exist; name an image or a folder of images")
        if place.is_file():
            found.append(place)
            continue
        inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise RetortError(f"{place}: holds no image ({kinds}); name another folder")
        found += inside
    return found


def check_image_files(model: FinishedModel, paths: Sequence[Path]) -> None:
    """Raise RetortError that names files which are no images, or if the model's are not square."""
    check_square(model)
    faults = []
    for path in paths:
        try:
            read_image_file(model, path)
        except RetortError as error:
            faults.append(str(error).partition("; ")[0])
    if faults:
        raise RetortError(format_bad_files(faults, len(paths)))


def read_image_files(model: FinishedModel, paths: Sequence[Path]) -> Tensor:
    """Images (B,C,H,W) in [0,1]: shorter side resized, centre cropped, as in training.

    Raises:
        RetortError: a file is no image, or the model's images are not square.
    """
    check_square(model)
    return torch.stack([read_image_file(model, path) for path in paths]).float() / 255


def check_square(model: FinishedModel) -> None:
    """Raise RetortError if the model's images are not square."""
    _, height, width = model.shape
    if height != width:
        raise RetortError(
            f"{model.name}: takes images of {height} x {width}, and files are cropped to squares; "
            "use pipeline.load on arrays of that shape"
        )


def read_image_file(model: FinishedModel, path: Path) -> Tensor:
    """An image (C,H,W) uint8."""
    channels, height, _ = model.shape
    with explain_denied_reading(path):
        data = path.read_bytes()
    image = decode_image(data, str(path), model.decode)
    if channels == 1:
        image = image.convert("L").convert("RGB")  # three equal channels, of which one is kept
    pixels = resize_and_centre_crop(image, height, model.crop)
    return torch.from_numpy(np.ascontiguousarray(pixels[:channels]))
