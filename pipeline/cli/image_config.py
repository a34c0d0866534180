"""A configuration for a folder of images: the template with what the folder holds filled in."""

import json
import re
from math import floor, log2
from pathlib import Path
from string import Template

import yaml

from pipeline.cli.workflow_root import find_workflow_root
from pipeline.config.names import explain_bad_name
from pipeline.data import imagenet
from pipeline.data.folder_layout import FolderLayout, describe_ignored, describe_image_folder
from pipeline.errors import RetortError
from pipeline.resources import list_gpus

TRAINED_IMAGES = 3_000  # that a short training sees; few images make many epochs
EPOCHS = 10, 60  # fewest and most
BATCHES_PER_EPOCH, LARGEST_BATCH = 4, 128
CPU_SIDE = 32  # in pixels: what two cores train on in minutes
SHOWN_CLASSES = 20  # whose images are counted in a comment
SQUARE_IMAGES = 200  # at most: a thousand queries an image take long
MEASURED_SHARE = {
    "val": "10%",
    "test": "20%",
}  # of the training images, without folders of their own


def format_image_config(images: Path, target: Path) -> str:
    """The configuration's text; ``target`` is the folder that it will stand in.

    Raises:
        RetortError: there are no class folders with images, or their name cannot be used.
    """
    layout = describe_image_folder(images)
    name = images.resolve().name
    if why := explain_bad_name(name):
        raise RetortError(f"--images {images}: the name {why}; rename the folder")
    path = images if target == Path() else images.resolve()
    train = sum(layout.counts["train"].values()) if "train" in layout.counts else 0
    values = {
        "path": quote_text(str(path)),
        "name": quote_text(name),
        "summary": describe_layout(layout),
        "counts": describe_counts(layout),
        "device": "cuda" if list_gpus() else "cpu",
        "side": min(layout.suggested_side, CPU_SIDE),
        "folders": list_imagenet_folders(layout.classes),
        "larger": describe_larger_side(layout.suggested_side),
        "epochs": min(max(EPOCHS[0], TRAINED_IMAGES // max(train, 1)), EPOCHS[1]),
        "batch": choose_batch(train),
        "title": json.dumps(f"Robust students of {name}"),
        "n_square": SQUARE_IMAGES,
    }
    values |= {s: "all" if s in layout.splits else part for s, part in MEASURED_SHARE.items()}
    template = find_workflow_root() / "workflow" / "templates" / "images.yaml"
    return Template(template.read_text()).substitute(values)


def quote_text(text: str) -> str:
    """A text as YAML reads it back: bare if it is a plain word, else in double quotes."""
    is_plain = re.fullmatch(r"[a-zA-Z./_][\w./-]*", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text)


def describe_layout(layout: FolderLayout) -> str:
    """Classes, images and ignored files in words."""
    images = sum(sum(by_class.values()) for by_class in layout.counts.values())
    text = f"{len(layout.classes)} classes, {images} images"
    if ignored := describe_ignored(layout.ignored):
        text += f"; ignored: {ignored}"
    return text


def describe_counts(layout: FolderLayout) -> str:
    """The images of each class by split, of the first twenty classes; on one line."""
    parts = []
    for split, by_class in layout.counts.items():
        counts = [f"{name} {count}" for name, count in by_class.items()]
        more = [f"and {len(counts) - SHOWN_CLASSES} more"] if len(counts) > SHOWN_CLASSES else []
        parts.append(f"{split}: {', '.join([*counts[:SHOWN_CLASSES], *more])}")
    return "".join(c if c.isprintable() else "_" for c in "; ".join(parts))


def list_imagenet_folders(classes: tuple[str, ...]) -> str:
    """The option that says which of ImageNet's classes there are; empty for other classes."""
    if set(classes) <= set(imagenet.load_wordnet_ids()):
        return f", folders: [{', '.join(classes)}]"
    return ""


def describe_larger_side(side: int) -> str:
    """The end of the comment on the size, where the images have more pixels than are used."""
    return f"; they have up to {side}, which takes longer" if side > CPU_SIDE else ""


def choose_batch(train: int) -> int:
    """The largest power of two, at most 128, that makes several steps an epoch."""
    most = max(2, train // BATCHES_PER_EPOCH)
    return min(LARGEST_BATCH, 2 ** floor(log2(most)))
