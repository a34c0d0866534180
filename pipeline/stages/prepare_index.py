"""A data set whose images stay in their files, cut to size: the artefact is an index."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.config.dataset_source import DatasetPlugin, assign_sources
from pipeline.config.sections.dataset import DatasetSpec
from pipeline.config.specs import get_spec
from pipeline.data.bad_files import find_bad_rows
from pipeline.data.file_index import FileIndex, build_index_table
from pipeline.data.image_folder import format_bad_files
from pipeline.data.lazy_images import FileImages
from pipeline.data.splits import SPLITS
from pipeline.data.statistics import compute_channel_moments
from pipeline.data.stratified import draw_stratified_order
from pipeline.errors import RetortError
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

MEASURED_IMAGES = 4096  # number of first images whose mean and std are taken

log = logging.getLogger("retort")


def write_index(job: Job, source: DatasetPlugin) -> Manifest:
    """Write the index of each split's images; mean, std and shape are facts of the manifest.

    Every image is decoded once, so that a bad one is found here. Mean and std are those of the
    first 4,096 training images, in a fixed random order. Without training images they are those of
    the test images.
    """
    spec, cache = get_spec(job), Path(job.run["data"])
    if source.verify_version is not None:
        source.verify_version(cache)
    taken = assign_sources(source.sizes, spec.stratified)
    indices = {
        name: source.index(name, cache)
        for name in dict.fromkeys(taken[split] for split in SPLITS if getattr(spec, split))
    }
    splits, rest = cut_index(job, indices, taken)
    about, size = next(iter(indices.values())), source.shape[1]
    splits, bad = drop_bad_files(job, splits, rest, about, size)
    for name, table in splits.items():
        with write_atomically(job.folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)
    measured = splits["train" if spec.train else "test"]
    images = FileImages(about.root, measured, size, about.crop, decode=about.decode)
    mean, std = compute_channel_moments(images[:MEASURED_IMAGES])
    decode = {} if about.decode == "plain" else {"decode": about.decode}
    facts = {
        "classes": list(source.classes),
        "mean": mean,
        "std": std,
        "shape": list(source.shape),
        "counts": {name: len(table) for name, table in splits.items()},
        "files": {"root": str(about.root.resolve()), "size": size, "crop": about.crop, **decode},
        "scored": list(indices["test"].scored_labels) if "test" in indices else [],
        **({"bad_files": bad} if bad else {}),
        **describe_stratified(spec, taken),
    }
    log.info("data set ready: %s; the images stay where they are", facts["counts"])
    return job.build_manifest([f"{name}.parquet" for name in SPLITS], facts)


def cut_index(
    job: Job, indices: Mapping[str, FileIndex], taken: Mapping[str, str]
) -> tuple[dict[str, pa.Table], list[pa.Table]]:
    """The index of each split, and those of the images that are in none."""
    spec, starts, splits = get_spec(job), dict.fromkeys(indices, 0), {}
    tables = {name: index.table for name, index in indices.items()}
    if spec.stratified and "train" in tables:
        labels = torch.from_numpy(tables["train"]["label"].to_numpy().copy())
        tables["train"] = tables["train"].take(draw_stratified_order(labels).numpy())
    for split in SPLITS:
        own, count = taken[split], getattr(spec, split)
        splits[split] = build_index_table([])
        if count:
            rows = range(starts[own], starts[own] + count)
            splits[split], starts[own] = slice_index(job, tables[own], rows), rows.stop
    return splits, [table.slice(starts[name]) for name, table in tables.items()]


def slice_index(job: Job, table: pa.Table, rows: range) -> pa.Table:
    """The given rows of an index.

    Raises:
        RetortError: the index has fewer rows.
    """
    if rows.stop > len(table):
        raise RetortError(
            f"data set {job.name}: {rows.stop} images asked for, its files hold {len(table)}; "
            "ask for fewer, or see whether all are there"
        )
    return table.slice(rows.start, len(rows))


def drop_bad_files(
    job: Job, splits: Mapping[str, pa.Table], rest: list[pa.Table], about: FileIndex, size: int
) -> tuple[dict[str, pa.Table], list[str]]:
    """The splits without the rows of bad files, and what is wrong with these.

    Raises:
        RetortError: there are bad files and the spec says "stop", or a split has no other.
    """
    every = pa.concat_tables([*splits.values(), *rest], promote_options="permissive")
    whole = sum(map(len, splits.values()))
    images = FileImages(about.root, every, size, about.crop, decode=about.decode)
    bad = find_bad_rows(images, whole, job.state_folder)
    if bad and get_spec(job).on_bad_file == "stop":
        remedy = f"set datasets.{job.name}.on_bad_file: skip"
        faults = format_bad_files(list(bad.values()), len(every), remedy)
        raise RetortError(f"data set {job.name}: {faults}")
    kept, start = {}, 0
    for name, table in splits.items():
        fine = np.array([start + row not in bad for row in range(len(table))], bool)
        start += len(table)
        if len(table) and not fine.any():
            raise RetortError(f"data set {job.name}: every file of its {name} split is bad")
        kept[name] = table if fine.all() else table.filter(pa.array(fine))
    for fault in bad.values():
        log.warning("left out: %s", fault)
    return kept, list(bad.values())


def describe_stratified(spec: DatasetSpec, taken: Mapping[str, str]) -> dict:
    """The fact that splits are cut from the training images class by class; logs it."""
    if not spec.stratified:
        return {}
    cut = [split for split in SPLITS if taken[split] == "train" and getattr(spec, split)]
    log.info("the training images, in the same share of every class, are cut into %s", cut)
    return {"stratified": cut}
