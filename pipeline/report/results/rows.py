"""One row for each model, test set and attack point: the content of ``results.csv``.

The schema stands in `ResultRow`; the documentation's page on results is checked against it.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from math import prod
from typing import get_type_hints

from safetensors import safe_open

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import POINT_COLUMNS, AttackPoint
from pipeline.models.classifier import MODEL_FILE
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.attack_points import rank_by_strength
from pipeline.report.outcomes import ModelGroup, Outcome, Study
from pipeline.report.statistics.intervals import wilson_interval
from pipeline.store.artefact import Artefact, Manifest
from pipeline.store.attempt_cost import sum_attempt_costs

REVISION = 1

BUFFER_NAMES = ("mean", "std", "running_mean", "running_var", "num_batches_tracked")
Place = tuple[str, int | None, str]  # the model's key, the epoch, the test set's name


@dataclass(frozen=True)
class ResultRow:
    """One trained model under one attack point on one test set.

    Attributes:
        model: section of the configuration.
        role: student or teacher.
        seed: of the training; empty where a model has none.
        key: of the model's artefact.
        objective: what it was trained by; empty for a model from a file.
        network: its architecture.
        parameters: number of its weights; empty where its file is not in the store.
        cpu_seconds: of its own training, without what it was made from.
        dataset: data set that it was trained on; empty if none.
        test_set: data set whose test images it saw.
        shifted: whether that is another one than the model's own.
        epoch: whose weights were evaluated; empty for those that the model exports.
        condition: the attack in words, such as "PGD-20 at 8/255".
        attack: name in the configuration; "clean" for none.
        eps: radius in pixels of [0,1]; 0 for images in no ball.
        point: the attack's other settings, as `outcomes.parquet` has them.
        n: number of test images.
        correct: number of them that it classified correctly.
        accuracy: correct / n, in [0,1].
        low: lower end of the 95 % Wilson interval over images, in [0,1].
        high: its upper end.
        evaluation: name of the evaluation that it comes from.
        evaluation_key: key of that evaluation.
    """

    model: str
    role: str
    seed: int | None
    key: str
    objective: str
    network: str
    parameters: int | None
    cpu_seconds: float
    dataset: str
    test_set: str
    shifted: bool
    epoch: int | None
    condition: str
    attack: str
    eps: float
    point: AttackPoint
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    evaluation: str
    evaluation_key: str


@dataclass(frozen=True)
class Measurement:
    """A model's outcome at one attack point, and the evaluation it comes from."""

    outcome: Outcome
    evaluation: Artefact


Measurements = dict[Place, dict[AttackPoint, Measurement]]


def list_columns() -> list[str]:
    """The names of the columns of ``results.csv``, in order."""
    names = [field.name for field in fields(ResultRow)]
    place = names.index("point")
    others = [name for name in POINT_COLUMNS if name not in ("attack", "eps", "sample", "probe")]
    return [*names[:place], *others, *names[place + 1 :]]


def collect_measurements(study: Study) -> Measurements:
    """Every outcome of a study by place and attack point; of two, that with more images.

    The attack ``boundary_risk`` is left out: its samples are no test images.
    """
    found: Measurements = {}
    for evaluation in study.get_artefacts("evaluation").values():
        spec, inputs = get_spec(evaluation.manifest), evaluation.manifest.inputs
        place = (inputs["model"], spec.epoch, study.find_name(inputs["dataset"]))
        known = found.setdefault(place, {})
        for point, outcome in study.outcomes_by_evaluation[evaluation.manifest.key].items():
            before = known.get(point)
            is_better = before is None or len(before.outcome.index) < len(outcome.index)
            if is_better and point.attack != "boundary_risk":
                known[point] = Measurement(outcome, evaluation)
    return {place: points for place, points in found.items() if points}


def make_result_rows(study: Study, measurements: Measurements) -> list[ResultRow]:
    """All rows of a study: models in the report's order, weak attacks before strong ones."""
    rows = []
    for group in study.groups:
        for member in group.members:
            about = describe_member(study, group, member)
            places = [place for place in measurements if place[0] == member.manifest.key]
            for place in sorted(places, key=lambda p: (p[2] != about["dataset"], p[2], p[1] or 0)):
                points = measurements[place]
                for point in sorted(points, key=rank_by_strength):
                    rows.append(make_row(about, place, point, points[point]))
    return rows


def describe_member(study: Study, group: ModelGroup, member: Artefact) -> dict:
    """The columns of a row that belong to the model alone."""
    manifest = member.manifest
    dataset = manifest.inputs.get("dataset")
    return {
        "model": group.name,
        "role": group.kind,
        "seed": manifest.spec.get("seed"),
        "key": manifest.key,
        "objective": "+".join(manifest.spec.get("objective") or ()),
        "network": describe_network(manifest),
        "parameters": count_parameters(member),
        "cpu_seconds": round(sum_attempt_costs(member.folder)["cpu_seconds"], 2),
        "dataset": study.find_name(dataset) if dataset else "",
    }


def describe_network(manifest: Manifest) -> str:
    """The architecture of a model by its spec; that of a CLIP is its name in OpenCLIP."""
    spec = manifest.spec
    if spec.get("open_clip"):
        return spec["open_clip"]["model"]
    return "CLIP" if spec.get("clip") else spec.get("model") or ""


def count_parameters(member: Artefact) -> int | None:
    """The number of weights in a model's file, buffers left out; None without the file.

    Only the file's header is read.
    """
    path = member.folder / MODEL_FILE
    if not path.exists():
        return None
    with safe_open(path, "np") as file:
        names = [n for n in file.keys() if n.rpartition(".")[2] not in BUFFER_NAMES]  # noqa: SIM118
        return sum(prod(file.get_slice(name).get_shape()) for name in names)


def make_row(about: dict, place: Place, point: AttackPoint, measurement: Measurement) -> ResultRow:
    """The row of one measurement."""
    outcome, manifest = measurement.outcome, measurement.evaluation.manifest
    n = len(outcome.index)
    interval = wilson_interval(outcome.accuracy, n)
    return ResultRow(
        **about,
        test_set=place[2],
        shifted=get_spec(manifest).shifted,
        epoch=place[1],
        condition=format_attack_at(point),
        attack=point.attack,
        eps=point.eps,
        point=point,
        n=n,
        correct=round(float(outcome.correctness.sum())),
        accuracy=interval.value,
        low=interval.low,
        high=interval.high,
        evaluation=manifest.name,
        evaluation_key=manifest.key,
    )


def flatten_row(row: ResultRow) -> dict:
    """A row as the values of `list_columns`; a text that does not apply is empty, a number None."""
    values = {**asdict(row.point), **{f.name: getattr(row, f.name) for f in fields(row)}}
    types = get_column_types()
    return {
        name: "" if values[name] is None and kind is str else values[name]
        for name, kind in types.items()
    }


def format_csv(records: Iterable[dict]) -> str:
    """Records with the same names as CSV; None is an empty cell."""
    records = list(records)
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(records[0]) if records else list_columns(), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def parse_csv(text: str) -> Iterator[dict]:
    """The records of a ``results.csv`` with their types; an empty cell of no text is None."""
    types = get_column_types()
    for record in csv.DictReader(io.StringIO(text)):
        yield {name: parse_cell(value, types[name]) for name, value in record.items()}


@cache
def get_column_types() -> dict[str, type]:
    """The type of each column: str, bool, int or float."""
    hints = {**get_type_hints(AttackPoint), **get_type_hints(ResultRow)}
    kinds = {name: getattr(hint, "__args__", (hint,))[0] for name, hint in hints.items()}
    return {name: kinds[name] for name in list_columns()}


def parse_cell(value: str, kind: type) -> str | bool | int | float | None:
    """A cell of a CSV file as its column's type; an empty one is None, of text an empty text."""
    if kind is str:
        return value
    if kind is bool:
        return value == "True"
    return kind(value) if value else None
