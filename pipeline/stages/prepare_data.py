"""Stage: a data set, cut to size, as tensors on disk."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.dataset_source import DatasetPlugin, extract_job_paths, open_dataset_plugin
from pipeline.config.specs import get_spec
from pipeline.contracts.values import describe_bad_split
from pipeline.data.splits import SPLITS, Split, save_split
from pipeline.data.statistics import compute_channel_moments
from pipeline.discovery import describe_module
from pipeline.errors import RetortError
from pipeline.stages import prepare_index
from pipeline.store.artefact import Job, Manifest

REVISION = 1

log = logging.getLogger("retort")


def run(job: Job) -> Manifest:
    """Fetch the source if it is not in the cache, cut the splits and save them."""
    spec = get_spec(job)
    source = open_dataset_plugin(spec.source, extract_job_paths(job.run))
    if source.index is not None:
        return prepare_index.write_index(job, source)
    cache = Path(job.run["data"])
    train, val, test = spec.train, spec.val, spec.test
    images, labels = load_split(source, "train", cache)
    splits = {
        "train": cut_split(job, images, labels, range(train)),
        "val": cut_split(job, images, labels, range(train, train + val)),
        "test": Split(images[:0].clone(), labels[:0].clone()),
    }
    if test:
        images, labels = load_split(source, "test", cache)
        splits["test"] = cut_split(job, images, labels, range(test))
    for name, split in splits.items():
        save_split(job.folder / f"{name}.safetensors", split)
    mean, std = compute_channel_moments(splits["train"].images)
    facts = {
        "classes": list(source.classes),
        "mean": mean,
        "std": std,
        "shape": list(images.shape[1:]),
        "counts": {name: len(split.labels) for name, split in splits.items()},
    }
    log.info("data set ready: %s", facts["counts"])
    return job.build_manifest([f"{name}.safetensors" for name in SPLITS], facts)


def load_split(source: DatasetPlugin, split: str, cache: Path) -> tuple[Tensor, Tensor]:
    """The images (N,C,H,W) uint8 and labels (N,) int64 of a source's split.

    Raises:
        RetortError: the plug-in gives back something else; the message names it.
    """
    found = source.load(split, cache)
    if fault := describe_bad_split(found, source.shape, len(source.classes)):
        raise RetortError(f"{describe_module(source.module)}: {split}: {fault}")
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]).long()


def cut_split(job: Job, images: Tensor, labels: Tensor, rows: range) -> Split:
    """A split with the given rows, copied.

    Raises:
        RetortError: the source has too few rows.
    """
    if rows.stop > len(images):
        raise RetortError(
            f"data set {job.name}: {rows.stop} images asked for, the source has {len(images)}; "
            "ask for fewer"
        )
    parts = (a[rows.start : rows.stop] for a in (images, labels))
    return Split(*(part.clone(memory_format=torch.contiguous_format) for part in parts))
