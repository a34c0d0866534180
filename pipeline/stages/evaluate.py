"""Stage: a classifier under a suite of attacks, every outcome kept per sample."""

import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import torch
from torch import nn

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import POINT_COLUMNS, AttackPoint
from pipeline.core.images import pixels
from pipeline.core.seeding import seed_of
from pipeline.data.dataset_artifact import open_data
from pipeline.data.splits import Split
from pipeline.interrupts import Wish, stoppable
from pipeline.models.classifier import MODEL, kept
from pipeline.models.loading import load_teacher
from pipeline.progress import Progress
from pipeline.report import distribution_shift
from pipeline.report.attack_labels import format_attack_at
from pipeline.schema import make
from pipeline.store.artifact import Job, Manifest, replacing

REVISION = 2

OUTCOMES = "outcomes.parquet"
CORRUPTED = re.compile(r"([a-z_]+)-([1-5])")  # a part of a test set such as ImageNet-C
SCHEMA = pa.schema(
    [
        ("attack", pa.string()),
        ("eps", pa.float64()),
        ("steps", pa.int64()),
        ("step", pa.float64()),
        ("start", pa.string()),
        ("restarts", pa.int64()),
        ("corruption", pa.string()),
        ("severity", pa.int64()),
        ("sample", pa.int64()),
        ("probe", pa.int64()),
        ("part", pa.string()),
        ("surrogate", pa.string()),
        ("epoch", pa.int64()),
        ("index", pa.int64()),
        ("label", pa.int64()),
        ("prediction", pa.int64()),
    ]
)

log = logging.getLogger("retort")


def run(job: Job) -> Manifest:
    """Run every attack of the suite on the test split, chunk by chunk."""
    parts = run_part(job, 0, 1)
    table = pa.concat_tables([pq.read_table(path) for path in parts])
    with replacing(job.folder / OUTCOMES) as temporary:
        pq.write_table(table, temporary)
    facts = {"accuracy": accuracies(table)}
    log.info("%s", "  ".join(map(in_words, facts["accuracy"])))
    return job.manifest([OUTCOMES], facts)


def run_part(job: Job, rank: int, count: int) -> list[Path]:
    """Every ``count``-th chunk from number ``rank`` on, where it is missing; returns their files.

    A chunk has a seed of its own, so that it does not matter which process makes it.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if spec_of(job).device == "cuda":
        torch.cuda.set_device(rank)
    models, data = attacked_and_judge(job), open_data(job.inputs["dataset"])
    if data.scored:
        models = tuple(distribution_shift.Scored(model, data.scored) for model in models)
    test = data.split("test")
    parts = list(islice(chunks(job, len(test.labels)), rank, None, count))
    missing = [part for part in parts if not part[0].exists()]
    progress = Progress("chunk", len(parts), len(parts) - len(missing))
    with stoppable() as wish:
        for path, attack, rows in missing:
            halt(wish)
            write_chunk(path, chunk(job, attack, models, test, rows))
            progress.step()
    return [path for path, _, _ in parts]


def chunks(job: Job, images: int) -> Iterator[tuple[Path, object, range]]:
    """Every chunk's file, attack and rows of the test split."""
    for place, entry in enumerate(spec_of(job).attacks):
        ((name, options),) = entry.items()
        attack = make("attacks", "Attack", name, options)
        stop = images if attack.n_eval is None else min(attack.n_eval, images)
        for start in range(0, stop, attack.chunk):
            path = job.state / f"{place:02d}-{name}-{start:06d}.parquet"
            yield path, attack, range(start, min(start + attack.chunk, stop))


def halt(wish: Wish) -> None:
    """Leave between two chunks if asked to; finished chunks stay."""
    if wish:
        log.info("asked to stop: finished chunks are kept")
        raise SystemExit(128 + wish.signal)


def attacked_and_judge(job: Job) -> tuple[nn.Module, nn.Module]:
    """The model that attacks look into and the one that is evaluated: two for a transfer."""
    spec = spec_of(job)
    file = MODEL if spec.epoch is None else kept(spec.epoch)
    judge = load_teacher(job.inputs["model"], spec.device, file)
    if "surrogate" not in job.inputs:
        return judge, judge
    return load_teacher(job.inputs["surrogate"], spec.device), judge


def chunk(
    job: Job, attack, models: tuple[nn.Module, nn.Module], test: Split, rows: range
) -> pa.Table:
    """One attack on some rows of the test split, one record a sample and radius."""
    spec = spec_of(job)
    x = pixels(test.images[rows.start : rows.stop].to(spec.device))
    y = test.labels[rows.start : rows.stop].to(spec.device)
    seed = seed_of(spec.seed, "evaluate", rows.start) % 2**31
    known = {"epoch": spec.epoch}
    surrogate = job.inputs["surrogate"].name if "surrogate" in job.inputs else None
    tables = []
    for point, prediction in attack(models[0], x, y, seed, models[1]).items():
        points = by_row(replace(point, surrogate=surrogate), test, rows)
        outcomes = zip(points, rows, y.tolist(), prediction.tolist(), strict=True)
        records = [
            {**asdict(p), **known, "index": i, "label": own, "prediction": said}
            for p, i, own, said in outcomes
        ]
        tables.append(pa.Table.from_pylist(records, schema=SCHEMA))
    return pa.concat_tables(tables)


def by_row(point: AttackPoint, test: Split, rows: range) -> list[AttackPoint]:
    """The point of each row, with the part of the test set where it has parts."""
    if test.groups is None:
        return [point] * len(rows)
    return [on_part(point, part) for part in test.groups[rows.start : rows.stop].to_pylist()]


def on_part(point: AttackPoint, part: str) -> AttackPoint:
    """An attack on a part of the test set, which may be a corruption at a severity."""
    found = CORRUPTED.fullmatch(part)
    if found is None or point.corruption is not None:
        return replace(point, part=part)
    return replace(point, corruption=found[1], severity=int(found[2]))


def write_chunk(path: Path, table: pa.Table) -> None:
    """Keep a finished chunk for a resumed run."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def accuracies(table: pa.Table) -> list[dict]:
    """One record an attack and radius: its columns that are not empty, images and accuracy."""
    right = table.append_column("right", pa.compute.equal(table["label"], table["prediction"]))
    grouped = right.group_by([*POINT_COLUMNS, "epoch"], use_threads=False)
    found = grouped.aggregate([("right", "count"), ("right", "mean")])
    found = found.rename_columns({"right_count": "images", "right_mean": "accuracy"})
    return [{k: v for k, v in r.items() if v is not None} for r in found.to_pylist()]


def in_words(record: dict) -> str:
    """A record of an accuracy for the log."""
    point = AttackPoint(**{name: record[name] for name in POINT_COLUMNS if name in record})
    return f"{format_attack_at(point)} {record['accuracy']:.3f}"
