"""A data set whose images stay in their files, cut to size: the artefact is an index."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.dataset_source import DatasetPlugin
from pipeline.config.specs import get_spec
from pipeline.data.file_index import build_index_table
from pipeline.data.lazy_images import FileImages
from pipeline.data.splits import SPLITS
from pipeline.data.statistics import compute_channel_moments
from pipeline.errors import RetortError
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

MEASURED_IMAGES = 4096  # number of first images whose mean and std are taken

log = logging.getLogger("retort")


def write_index(job: Job, source: DatasetPlugin) -> Manifest:
    """Write the index of each split's images; mean, std and shape are facts of the manifest.

    Mean and std are those of the first 4,096 training images, in a fixed random order. Without
    training images they are those of the test images.
    """
    spec, cache = get_spec(job), Path(job.run["data"])
    train, val, test = spec.train, spec.val, spec.test
    first = source.index("train", cache) if train else None
    last = source.index("test", cache) if test else None
    splits = {
        "train": slice_index(job, first.table, range(train)) if first else build_index_table([]),
        "val": slice_index(job, first.table, range(train, train + val))
        if first
        else build_index_table([]),
        "test": slice_index(job, last.table, range(test)) if last else build_index_table([]),
    }
    for name, table in splits.items():
        with write_atomically(job.folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)
    about, size = first or last, source.shape[1]
    images = FileImages(about.root, splits["train" if train else "test"], size, about.crop)
    mean, std = compute_channel_moments(images[:MEASURED_IMAGES])
    facts = {
        "classes": list(source.classes),
        "mean": mean,
        "std": std,
        "shape": list(source.shape),
        "counts": {name: len(table) for name, table in splits.items()},
        "files": {"root": str(about.root.resolve()), "size": size, "crop": about.crop},
        "scored": list(last.scored_labels) if last else [],
    }
    log.info("data set ready: %s; the images stay where they are", facts["counts"])
    return job.build_manifest([f"{name}.parquet" for name in SPLITS], facts)


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
