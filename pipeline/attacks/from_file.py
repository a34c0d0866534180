"""Attacked images that were made elsewhere, in an .npz or safetensors file.

Their order is that of the test images. Before anything is predicted, each is compared with its
clean image: one that lies outside the stated radius stops the evaluation.
"""

import zipfile
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    find_norm,
    name_norm,
    predict_classes,
)
from pipeline.core.images import scale_to_unit_range
from pipeline.core.threat_models import check_radius
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.store.artefact import compute_sha256

REVISION = 2
COMPONENTS = (
    "pipeline.core.attack_protocol",
    "pipeline.core.images",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)

SUFFIXES = (".npz", ".safetensors")
LABEL_NAMES = ("label", "labels", "y")
FLOAT_SLACK = 1e-6
LEVEL_SLACK = 0.5 / 255 + FLOAT_SLACK  # of images that were rounded to grey levels


@dataclass(frozen=True)
class Attack:
    """The images of one file, each in its ball around the clean image.

    Attributes:
        path: the file, as given or below the data folder. Not in the key; the sum is.
        eps: radius that the images are said to have, in pixels of [0,1]; it is verified. In L2, the
            length of the change.
        norm: "linf" or "l2".
        array: name of the array of images, (N,C,H,W) or (N,H,W,C), floats in [0,1] or uint8. An
            array `label` beside it is compared with the test labels.
        name: what tables call the attack; the file's name unless given. Tables add the norm.
        sha256: the file's sum; computed by the plan unless given.
    """

    path: str = field(default="", metadata={"outside": True})
    eps: float = 8 / 255
    norm: Literal["linf", "l2"] = "linf"
    array: str = "x_adv"
    name: str = ""
    sha256: str = ""
    n_eval: int | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        check_radius("eps", self.eps, self.norm)
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)
        if self.path and Path(self.path).suffix not in SUFFIXES:
            raise ValueError(f"path: {self.path} is neither .npz nor .safetensors")
        if find_norm(AttackPoint("from_file", variant=self.name)):
            raise ValueError(f"name: {self.name!r} ends with a norm; name that in 'norm'")

    def find_files(self, data: Path) -> "Attack":
        """The same attack with the file's place, its sum, and its name for tables.

        Raises:
            RetortError: no such file, another sum, or a file called like a norm.
        """
        path = next((p for p in (Path(self.path), data / self.path) if p.is_file()), None)
        if not self.path or path is None:
            what = (
                f"{self.path} does not exist, neither here nor in {data}" if self.path else "give"
            )
            raise RetortError(f"path: {what}; name an .npz or safetensors file of attacked images")
        with explain_denied_reading(path):
            found = compute_sha256(path)
        if self.sha256 not in ("", found):
            raise RetortError(f"sha256: {path} has {found}; is it the right file?")
        name = self.name or path.stem
        if find_norm(AttackPoint("from_file", variant=name)):
            raise RetortError(f"path: {path.name} ends with a norm; give the attack a 'name'")
        return replace(self, path=str(path.resolve()), sha256=found, name=name)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """One forward."""
        return 1

    def check_test_images(self, images: Any, labels: Tensor) -> None:
        """Compares the file with the test images (N,C,H,W) uint8 and labels (N,), all of them.

        Raises:
            RetortError: too few images, another shape, type, range or order, or a larger radius.
        """
        attacked, own_labels = read_file(self.path, self.array)
        count = len(labels) if self.n_eval is None else min(self.n_eval, len(labels))
        if len(attacked) < count:
            raise RetortError(
                f"{self.path}: {len(attacked)} images, {count} test images are attacked; set "
                f"n_eval: {len(attacked)}"
            )
        if attacked.shape[1:] != tuple(images.shape[1:]):
            raise RetortError(
                f"{self.path}: '{self.array}' is {tuple(attacked.shape)}, the test images are "
                f"{tuple(images.shape)}"
            )
        if own_labels is not None and not torch.equal(own_labels[:count], labels[:count].cpu()):
            raise RetortError(
                f"{self.path}: its labels are not those of the first {count} test images; put its "
                "images in the test images' order"
            )
        for start in range(0, count, self.chunk):
            rows = slice(start, min(start + self.chunk, count))
            self.check_radii(attacked[rows], scale_to_unit_range(images[rows].cpu()), start)

    def check_radii(self, attacked: Tensor, clean: Tensor, start: int) -> None:
        """Raises RetortError if an image (B,C,H,W) lies farther from its clean one than stated."""
        change = (scale_pixels(attacked) - clean).flatten(1)
        slack = LEVEL_SLACK if attacked.dtype == torch.uint8 else FLOAT_SLACK
        distance = change.abs().amax(1)
        if self.norm == "l2":
            distance, slack = change.norm(dim=1), slack * change.shape[1] ** 0.5
        row = int(distance.argmax())
        if distance[row] > self.eps + slack:
            raise RetortError(
                f"{self.path}: image {start + row} is {distance[row]:.4g} away from test image "
                f"{start + row} in {self.norm}, farther than eps {self.eps:.4g}; is the order that "
                "of the test images?"
            )

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        seed: int,
        judge: nn.Module | None = None,
        rows: range | None = None,
    ) -> Predictions:
        """Predictions (B,) on the file's images of some rows of the test split."""
        check_model(model)
        rows = range(len(x)) if rows is None else rows
        attacked = scale_pixels(read_file(self.path, self.array)[0][rows.start : rows.stop])
        self.check_radii(attacked, x.cpu(), rows.start)
        variant = ", ".join(filter(None, (self.name, name_norm(self)))) or None
        point = AttackPoint("from_file", float(self.eps), variant=variant)
        return {point: predict_classes(judge or model, attacked.to(x.device))}


def scale_pixels(images: Tensor) -> Tensor:
    """Images as floats in [0,1], whether they are stored so or as uint8."""
    return scale_to_unit_range(images) if images.dtype == torch.uint8 else images.float()


@cache
def read_file(path: str, name: str) -> tuple[Tensor, Tensor | None]:
    """The images (N,C,H,W) of a file, floats in [0,1] or uint8, and its labels (N,) if it has any.

    Raises:
        RetortError: it cannot be read, or holds no such images.
    """
    arrays = read_arrays(Path(path))
    if name not in arrays:
        known = ", ".join(arrays)
        raise RetortError(f"{path}: has no array '{name}', only {known}; set 'array'")
    images = arrays[name]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if fault := describe_bad_pixels(images):
        raise RetortError(f"{path}: '{name}' {fault}")
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    label_name = next((n for n in LABEL_NAMES if n in arrays), None)
    if label_name is None:
        return pixels, None
    labels = arrays[label_name]
    if labels.dtype.kind not in "iuf" or (labels != np.round(labels)).any():
        raise RetortError(f"{path}: '{label_name}' holds other than whole numbers; store those")
    return pixels, torch.from_numpy(labels.reshape(-1).astype("int64"))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz or safetensors file.

    Raises:
        RetortError: it cannot be read.
    """
    try:
        with explain_denied_reading(path):
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    return {name: file[name] for name in file.files}
            return load_file(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise RetortError(f"{path}: not a readable {path.suffix} file ({what})") from error


def describe_bad_pixels(images: np.ndarray) -> str:
    """What is wrong with images: four axes, uint8 or floats in [0,1]; empty if nothing is."""
    if images.ndim != 4:
        return f"is {images.shape}; images (N,C,H,W) or (N,H,W,C) are expected"
    if images.dtype == np.uint8:
        low = images.size and images.max() <= 1
        return "has no pixel above 1: images of [0,1] were stored as uint8" if low else ""
    if images.dtype.kind != "f":
        return f"is {images.dtype}; floats in [0,1] or uint8 are expected"
    if not np.isfinite(images).all():
        return "holds values that are no finite numbers"
    if images.size and (images.min() < 0 or images.max() > 1):
        hint = "; divide by 255" if images.min() >= 0 and images.max() > 2 else ""
        return f"lies in [{images.min():.3g}, {images.max():.3g}], not in [0,1]{hint}"
    return ""
