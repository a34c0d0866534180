"""Stage: a data set, cut to size, as tensors on disk."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.dataset_source import (
    DatasetPlugin,
    assign_sources,
    extract_job_paths,
    open_dataset_plugin,
)
from pipeline.config.specs import get_spec
from pipeline.contracts.values import describe_bad_split
from pipeline.data.splits import SPLITS, Split, save_split
from pipeline.data.statistics import compute_channel_moments
from pipeline.data.stratified import draw_stratified_order
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
    splits = cut_splits(job, source)
    for name, split in splits.items():
        save_split(job.folder / f"{name}.safetensors", split)
    mean, std = compute_channel_moments(splits["train" if spec.train else "test"].images)
    facts = {
        "classes": list(source.classes),
        "mean": mean,
        "std": std,
        "shape": list(splits["train"].images.shape[1:]),
        "counts": {name: len(split.labels) for name, split in splits.items()},
        **({"parts": cut_parts(source.parts, spec.test)} if source.parts else {}),
        **prepare_index.describe_stratified(spec, assign_sources(source.sizes, spec.stratified)),
    }
    log.info("data set ready: %s", facts["counts"])
    return job.build_manifest([f"{name}.safetensors" for name in SPLITS], facts)


def cut_parts(parts: Sequence[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """Name and number of rows of each part that is among the first ``count`` rows."""
    kept, left = [], count
    for name, rows in parts:
        if left > 0:
            kept.append((name, min(rows, left)))
        left -= rows
    return kept


def load_split(source: DatasetPlugin, split: str, cache: Path) -> tuple[Tensor, Tensor]:
    """The images (N,C,H,W) uint8 and labels (N,) int64 of a source's split.

    Raises:
        RetortError: the plug-in gives back something else; the message names it.
    """
    found = source.load(split, cache)
    if fault := describe_bad_split(found, source.shape, len(source.classes)):
        raise RetortError(f"{describe_module(source.module)}: {split}: {fault}")
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]).long()


def cut_splits(job: Job, source: DatasetPlugin) -> dict[str, Split]:
    """The splits of a source that is held in memory; only what is asked for is loaded."""
    spec, cache = get_spec(job), Path(job.run["data"])
    taken = assign_sources(source.sizes, spec.stratified)
    arrays = {
        name: load_split(source, name, cache)
        for name in dict.fromkeys(taken[split] for split in SPLITS if getattr(spec, split))
    }
    orders = {name: torch.arange(len(labels)) for name, (_, labels) in arrays.items()}
    if spec.stratified and "train" in arrays:
        orders["train"] = draw_stratified_order(arrays["train"][1])
    images, labels = next(iter(arrays.values()))
    splits, starts = {}, dict.fromkeys(arrays, 0)
    for split in SPLITS:
        own, count = taken[split], getattr(spec, split)
        splits[split] = Split(images[:0].clone(), labels[:0].clone())
        if count:
            rows = range(starts[own], starts[own] + count)
            splits[split] = cut_split(job, *arrays[own], orders[own], rows)
            starts[own] = rows.stop
    return splits


def cut_split(job: Job, images: Tensor, labels: Tensor, order: Tensor, rows: range) -> Split:
    """A split with the given rows of an order, copied.

    Raises:
        RetortError: the source has too few rows.
    """
    if rows.stop > len(images):
        raise RetortError(
            f"data set {job.name}: {rows.stop} images asked for, the source has {len(images)}; "
            "ask for fewer"
        )
    chosen = order[rows.start : rows.stop]
    return Split(images[chosen].contiguous(), labels[chosen].contiguous())
