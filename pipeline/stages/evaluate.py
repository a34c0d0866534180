"""Stage: a classifier under a suite of attacks; the outcome of every image is kept."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import torch
from torch import nn

from pipeline.config.plugin_fields import extract_attack_paths
from pipeline.config.specs import get_spec
from pipeline.config.suites import ADDED_IMAGES, GRADIENT_ATTACKS
from pipeline.core.attack_protocol import (
    POINT_COLUMNS,
    AttackPoint,
    get_attack_name,
    list_radii,
    run_attack,
)
from pipeline.core.images import scale_to_unit_range
from pipeline.core.seeding import derive_seed
from pipeline.data.dataset_artefact import open_dataset
from pipeline.data.splits import Split
from pipeline.interrupts import StopRequest, defer_stop_signals
from pipeline.models.classifier import MODEL_FILE, get_epoch_file_name
from pipeline.models.loading import load_teacher
from pipeline.models.output_checks import (
    OutputChecks,
    ZeroGradientClassifier,
    check_outputs,
    compute_confidences,
)
from pipeline.progress import WeightedProgress
from pipeline.report import distribution_shift
from pipeline.report.attack_labels import format_attack_at
from pipeline.schema import make_plugin
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 3

OUTCOMES_FILE = "outcomes.parquet"
CHECKED_IMAGES = 64
ADDED_QUERIES = 1000  # of Square beside gradient attacks that mislead
CORRUPTED = re.compile(r"([a-z_]+)-([1-5])")  # a part of a test set such as ImageNet-C
OUTCOME_SCHEMA = pa.schema(
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
        ("variant", pa.string()),
        ("epoch", pa.int64()),
        ("index", pa.int64()),
        ("label", pa.int64()),
        ("prediction", pa.int64()),
        ("confidence", pa.float64()),  # of the prediction on images that no attack changed
    ]
)

log = logging.getLogger("retort")


def run(job: Job) -> Manifest:
    """Run every attack of the suite on the test split, chunk by chunk, and save the outcomes."""
    parts = run_part(job, 0, 1)
    table = pa.concat_tables([pq.read_table(path) for path in parts])
    with write_atomically(job.folder / OUTCOMES_FILE) as temporary:
        pq.write_table(table, temporary)
    outputs = check_model_outputs(job, load_attacked_and_judge(job)[1])
    facts = {"accuracy": compute_accuracies(table), "outputs": asdict(outputs)}
    log.info("%s", "  ".join(map(in_words, facts["accuracy"])))
    return job.build_manifest([OUTCOMES_FILE], facts)


def run_part(job: Job, rank: int, process_count: int) -> list[Path]:
    """Make every ``process_count``-th chunk from ``rank`` on, if missing, and return their files.

    Each chunk has its own seed, so that it does not matter which process makes it.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if get_spec(job).device == "cuda":
        torch.cuda.set_device(rank)
    models, data = load_attacked_and_judge(job), open_dataset(job.inputs["dataset"])
    checks = check_model_outputs(job, models[1])
    if not checks.has_gradient and "surrogate" not in job.inputs:
        models = ZeroGradientClassifier(models[0]), models[1]
    if data.scored_labels:
        models = tuple(
            distribution_shift.ClassSubsetClassifier(model, data.scored_labels) for model in models
        )
    test = data.read_split("test")
    attacks = list_attacks(job, checks)
    for attack in (a for _, a in attacks if hasattr(a, "check_test_images")):
        attack.check_test_images(test.images, test.labels)
    chunks = iterate_chunks(attacks, job.state_folder, len(test.labels))
    parts = list(islice(chunks, rank, None, process_count))
    missing = [part for part in parts if not part[0].exists()]
    work = [estimate_work(attack, rows, data.shape) for _, attack, rows in missing]
    progress = WeightedProgress("chunk", len(parts), work)
    with defer_stop_signals() as wish, watch_passes(models[0], progress, wish):
        for path, attack, rows in missing:
            exit_if_interrupted(wish)
            write_chunk(path, attack_chunk(job, attack, models, test, rows))
            progress.finish_part()
    return [path for path, _, _ in parts]


def check_model_outputs(job: Job, judge: nn.Module) -> OutputChecks:
    """What the evaluated model's outputs look like on the first test images."""
    split, device = open_dataset(job.inputs["dataset"]).read_split("test"), get_spec(job).device
    x = scale_to_unit_range(split.images[:CHECKED_IMAGES].to(device))
    return check_outputs(judge, x, split.labels[:CHECKED_IMAGES].to(device))


def list_attacks(job: Job, checks: OutputChecks) -> list[tuple[str, Any]]:
    """The suite's attacks by name, and Square beside gradient attacks that cannot be trusted.

    Square stands at the largest radius of each gradient attack on the model itself.
    """
    attacks = []
    for place, entry in enumerate(get_spec(job).attacks):
        ((name, options),) = entry.items()
        options = {**options, **extract_attack_paths(job.run, place)}
        attacks.append((name, make_plugin("attacks", "Attack", name, options)))
    if checks.is_differentiable or "surrogate" in job.inputs:
        return attacks
    known = {attack.eps for name, attack in attacks if name == "square"}
    for name, attack in list(attacks):
        eps = max(list_radii(attack.eps)) if name in GRADIENT_ATTACKS else 0.0
        if eps > 0 and eps not in known:
            known.add(eps)
            options = {"eps": eps, "queries": ADDED_QUERIES, "n_eval": attack.n_eval}
            if attack.n_eval is None or attack.n_eval > ADDED_IMAGES:
                options["n_eval"] = ADDED_IMAGES
            attacks.append(("square", make_plugin("attacks", "Attack", "square", options)))
            log.warning("gradients of this model mislead: Square is added at %.3g/255", 255 * eps)
    return attacks


def iterate_chunks(
    attacks: list[tuple[str, Any]], folder: Path, image_count: int
) -> Iterator[tuple[Path, Any, range]]:
    """Yield every chunk's file, attack and rows of the test split."""
    for place, (name, attack) in enumerate(attacks):
        stop = image_count if attack.n_eval is None else min(attack.n_eval, image_count)
        for start in range(0, stop, attack.chunk):
            path = folder / f"{place:02d}-{name}-{start:06d}.parquet"
            yield path, attack, range(start, min(start + attack.chunk, stop))


def estimate_work(attack, rows: range, shape: tuple[int, ...]) -> tuple[str, float]:
    """An attack's name, and the passes of one image that it takes on some rows, an upper bound.

    An attack of the user's own that does not count its passes stands for one.
    """
    passes = attack.count_passes(shape) if hasattr(attack, "count_passes") else 1
    return type(attack).__module__.rpartition(".")[2], len(rows) * passes


@contextmanager
def watch_passes(model: nn.Module, progress: WeightedProgress, wish: StopRequest) -> Iterator[None]:
    """Count every image that passes the attacked model, whichever library attacks it.

    A pass with a gradient counts twice. Asked to stop, the block exits at the model's next pass:
    a chunk of an attack may take many minutes, and who asks often kills within seconds.
    """

    def count_images(module: nn.Module, inputs: tuple) -> None:
        exit_if_interrupted(wish)
        x = inputs[0]
        progress.add_work(len(x) * (2 if x.requires_grad and torch.is_grad_enabled() else 1))

    hook = model.register_forward_pre_hook(count_images)
    try:
        yield
    finally:
        hook.remove()


def exit_if_interrupted(wish: StopRequest) -> None:
    """Exit if the process was asked to stop; finished chunks stay."""
    if wish:
        log.info("asked to stop: finished chunks are kept")
        raise SystemExit(128 + wish.signal_number)


def load_attacked_and_judge(job: Job) -> tuple[nn.Module, nn.Module]:
    """The attacked model and the evaluated one; they differ only for transfer attacks."""
    spec = get_spec(job)
    file = MODEL_FILE if spec.epoch is None else get_epoch_file_name(spec.epoch)
    judge = load_teacher(job.inputs["model"], spec.device, file)
    if "surrogate" not in job.inputs:
        return judge, judge
    return load_teacher(job.inputs["surrogate"], spec.device), judge


def attack_chunk(
    job: Job, attack, models: tuple[nn.Module, nn.Module], test: Split, rows: range
) -> pa.Table:
    """The outcomes of one attack on some rows of the test split: one per image and point."""
    spec = get_spec(job)
    x = scale_to_unit_range(test.images[rows.start : rows.stop].to(spec.device))
    y = test.labels[rows.start : rows.stop].to(spec.device)
    seed = derive_seed(spec.seed, "evaluate", rows.start) % 2**31
    known = {"epoch": spec.epoch}
    surrogate = job.inputs["surrogate"].name if "surrogate" in job.inputs else None
    confidences = [None] * len(rows)
    if get_attack_name(attack) == "clean":
        with torch.no_grad():
            confidences = compute_confidences(models[1](x)).tolist()
    tables = []
    for point, prediction in run_attack(attack, models[0], x, y, seed, models[1], rows).items():
        points = by_row(replace(point, surrogate=surrogate), test, rows)
        outcomes = zip(points, rows, y.tolist(), prediction.tolist(), confidences, strict=True)
        records = [
            {**asdict(p), **known, "index": i, "label": own, "prediction": said, "confidence": sure}
            for p, i, own, said, sure in outcomes
        ]
        tables.append(pa.Table.from_pylist(records, schema=OUTCOME_SCHEMA))
    return pa.concat_tables(tables)


def by_row(point: AttackPoint, test: Split, rows: range) -> list[AttackPoint]:
    """The attack point of each row, with the part of the test set if it has parts."""
    if test.groups is None:
        return [point] * len(rows)
    return [on_part(point, part) for part in test.groups[rows.start : rows.stop].to_pylist()]


def on_part(point: AttackPoint, part: str) -> AttackPoint:
    """The attack point on a part of the test set, which may be a corruption at a severity."""
    found = CORRUPTED.fullmatch(part)
    if found is None or point.corruption is not None:
        return replace(point, part=part)
    return replace(point, corruption=found[1], severity=int(found[2]))


def write_chunk(path: Path, table: pa.Table) -> None:
    """Save a finished chunk, also for a resumed run."""
    with write_atomically(path) as temporary:
        pq.write_table(table, temporary)


def compute_accuracies(table: pa.Table) -> list[dict]:
    """One record per attack point: its columns that are not empty, images and accuracy."""
    right = table.append_column("right", pa.compute.equal(table["label"], table["prediction"]))
    grouped = right.group_by([*POINT_COLUMNS, "epoch"], use_threads=False)
    found = grouped.aggregate([("right", "count"), ("right", "mean")])
    found = found.rename_columns({"right_count": "images", "right_mean": "accuracy"})
    return [{k: v for k, v in r.items() if v is not None} for r in found.to_pylist()]


def in_words(record: dict) -> str:
    """An accuracy record as text for the log."""
    point = AttackPoint(**{name: record[name] for name in POINT_COLUMNS if name in record})
    return f"{format_attack_at(point)} {record['accuracy']:.3f}"
