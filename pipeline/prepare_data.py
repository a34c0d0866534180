"""Stage: a data set, cut to size, as tensors on disk."""

import logging
from pathlib import Path

import torch

from pipeline.artifact import Job, Manifest
from pipeline.data import SPLITS, Split, save_split
from pipeline.plugins import plugin
from pipeline.source import pixels

REVISION = 1

log = logging.getLogger("retort")


def run(job: Job) -> Manifest:
    """Fetch the source if it is not at hand, cut the splits and save them."""
    source = plugin("datasets", job.spec["source"])
    cache = Path(job.run["data"])
    train, val, test = (job.spec[name] for name in SPLITS)
    images, labels = (torch.from_numpy(a) for a in source.load("train", cache))
    splits = {
        "train": Split(images[:train].clone(), labels[:train].clone()),
        "val": Split(images[train : train + val].clone(), labels[train : train + val].clone()),
    }
    images, labels = (torch.from_numpy(a) for a in source.load("test", cache))
    splits["test"] = Split(images[:test].clone(), labels[:test].clone())
    for name, split in splits.items():
        save_split(job.folder / f"{name}.safetensors", split)
    std, mean = torch.std_mean(pixels(splits["train"].images), dim=(0, 2, 3))
    facts = {
        "classes": list(source.CLASSES),
        "mean": [round(v, 4) for v in mean.tolist()],
        "std": [round(v, 4) for v in std.tolist()],
        "shape": list(images.shape[1:]),
        "counts": {name: len(split.labels) for name, split in splits.items()},
    }
    log.info("data set ready: %s", facts["counts"])
    return job.manifest([f"{name}.safetensors" for name in SPLITS], facts)
