"""The inputs of a report: a configuration's artefacts, and each model's outcomes by image."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import POINT_COLUMNS, AttackPoint
from pipeline.planning.plan import EPOCH_SEPARATOR, SEED_SEPARATOR
from pipeline.report.attack_points import drop_radius, rank_by_strength
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)
from pipeline.store.artefact import Artefact, Job, open_artefact

REVISION = 4

CLEAN_POINT = AttackPoint("clean")
DEFAULT_EPS = 8 / 255
ROUNDING_DIGITS = 9  # of radii and step sizes in [0,1]; enough to tell them apart


@dataclass(frozen=True)
class Outcome:
    """Which images a model classified correctly.

    Attributes:
        index: rows of the data set (N,), ascending.
        correctness: share of correct predictions for each row (N,), in [0,1].
        confidence: probability of the predicted class for each row (N,); None under attack.
    """

    index: np.ndarray
    correctness: np.ndarray
    confidence: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Mean correctness, in [0,1]."""
        return float(self.correctness.mean())


def find_common_rows(indices: Iterable[np.ndarray]) -> np.ndarray:
    """Rows (N,) that are in all of some lists of rows, each ascending; ascending, too."""
    first, *others = indices
    for index in others:
        if not np.array_equal(first, index):  # most models saw the same images
            first = np.intersect1d(first, index, assume_unique=True)
    return first


def align_outcomes(first: Outcome, second: Outcome) -> tuple[Outcome, Outcome]:
    """Both outcomes on their common images."""
    if np.array_equal(first.index, second.index):
        return first, second
    common = find_common_rows([first.index, second.index])
    return tuple(
        Outcome(common, o.correctness[np.searchsorted(o.index, common)]) for o in (first, second)
    )


def average_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of several outcomes for each image, on their common images."""
    first = outcomes[0]
    for other in outcomes[1:]:
        first, _ = align_outcomes(first, other)
    correctness_rows = [align_outcomes(o, first)[0].correctness for o in outcomes]
    return Outcome(first.index, np.mean(correctness_rows, axis=0))


def read_outcomes(path: Path) -> dict[AttackPoint, Outcome]:
    """The outcomes in one evaluation's file, by attack point."""
    table = pq.read_table(path)
    index = table["index"].to_numpy()
    right = (table["label"].to_numpy() == table["prediction"].to_numpy()).astype(float)
    confidence = table["confidence"].to_numpy()
    numbered = table.append_column("row", pa.array(np.arange(len(table))))
    grouped = numbered.group_by(POINT_COLUMNS, use_threads=False).aggregate([("row", "list")])
    records = grouped.select(POINT_COLUMNS).to_pylist()
    found = {}
    for record, listed in zip(records, grouped["row_list"], strict=True):
        rows = listed.values.to_numpy()
        rows = rows[np.argsort(index[rows])]
        known = None if np.isnan(confidence[rows]).any() else confidence[rows]
        found[make_attack_point(record)] = Outcome(index[rows], right[rows], known)
    return found


def make_attack_point(record: Mapping) -> AttackPoint:
    """The attack point of one row of a file of outcomes, with rounded eps and step size."""
    point = AttackPoint(**{name: record[name] for name in POINT_COLUMNS})
    step = None if point.step is None else round(point.step, ROUNDING_DIGITS)
    return replace(point, eps=round(point.eps, ROUNDING_DIGITS), step=step)


def merge_outcomes(
    merged: dict[AttackPoint, Outcome], suite_outcomes: dict[AttackPoint, Outcome]
) -> None:
    """Add a suite's outcomes to a model's; where both have a point, keep that with more images.

    The attack ``boundary_risk`` is left out: its samples are for the table of boundary risks.
    """
    for point, outcome in suite_outcomes.items():
        known = merged.get(point)
        better = known is None or len(known.index) < len(outcome.index)
        if better and point.attack != "boundary_risk":
            merged[point] = outcome


@dataclass(frozen=True)
class ModelGroup:
    """A row of the tables: a student or a warmed-up generator over its seeds, or one teacher."""

    name: str
    kind: str
    members: tuple[Artefact, ...]
    outcomes: tuple[dict[AttackPoint, Outcome], ...]

    @property
    def common_points(self) -> set[AttackPoint]:
        """The attack points that were measured for every member."""
        return set.intersection(*(set(o) for o in self.outcomes))

    @property
    def image_count(self) -> int:
        """The largest number of test images that an attack ran on."""
        return max((len(o.index) for found in self.outcomes for o in found.values()), default=0)

    @property
    def has_different_warm_ups(self) -> bool:
        """Whether the members are, or began with, different warm-ups of a generator."""
        generator_keys = {
            m.manifest.key if m.manifest.kind == "generator" else m.manifest.inputs.get("generator")
            for m in self.members
        }
        return len(generator_keys) > 1

    def average_by_member(self, points: Sequence[AttackPoint]) -> list[Outcome]:
        """Each member's mean outcome over some attacks; empty if one of them did not run."""
        if not set(points) <= self.common_points:
            return []
        return [average_outcomes([found[p] for p in points]) for found in self.outcomes]

    def estimate_accuracy(self, points: Sequence[AttackPoint]) -> ConfidenceInterval | None:
        """Accuracy and its interval, over images for one seed, else over seeds; None if missing."""
        found = self.average_by_member(points)
        if len(found) > 1:
            return student_t_interval([o.accuracy for o in found])
        return wilson_interval(found[0].accuracy, len(found[0].index)) if found else None


@dataclass(frozen=True, eq=False)
class Study:
    """All artefacts of a configuration by ``kind/key``, and the configuration's names for them.

    It compares and hashes by identity, so that what is found in it once can be kept.
    """

    artefacts: dict[str, Artefact]
    refs_by_name: dict[str, str]  # kind/name -> kind/key, in the configuration's order

    def get_artefacts(self, kind: str) -> dict[str, Artefact]:
        """The artefacts of a kind, by name."""
        prefix = f"{kind}/"
        return {
            name.removeprefix(prefix): self.artefacts[ref]
            for name, ref in self.refs_by_name.items()
            if name.startswith(prefix) and ref in self.artefacts
        }

    def find_name(self, key: str) -> str:
        """The first name of the artefact with this key."""
        return next(
            n.partition("/")[2] for n, ref in self.refs_by_name.items() if ref.endswith(f"/{key}")
        )

    def find_suite(self, name: str, evaluation: Artefact) -> str:
        """The suite of an evaluation, whose name begins with its model's; either may have dots."""
        manifest = evaluation.manifest
        model, epoch = self.find_name(manifest.inputs["model"]), get_spec(manifest).epoch
        if not name.startswith(model):
            return name.rpartition(".")[2]
        at_epoch = f"{EPOCH_SEPARATOR}{epoch}" if epoch else ""
        return name.removeprefix(model).removeprefix(at_epoch).partition(".")[2]

    @cached_property
    def outcomes_by_evaluation(self) -> dict[str, dict[AttackPoint, Outcome]]:
        """Every evaluation's outcomes by its key, with surrogates under their names."""
        return {
            evaluation.manifest.key: {
                self.name_surrogate(point): outcome
                for point, outcome in read_outcomes(
                    evaluation.get_verified_path("outcomes.parquet")
                ).items()
            }
            for evaluation in self.get_artefacts("evaluation").values()
        }

    @cached_property
    def outcomes_by_model(self) -> dict[str, dict[AttackPoint, Outcome]]:
        """Outcomes in the main tables by the model's key; see `merge_outcomes`."""
        found: dict[str, dict[AttackPoint, Outcome]] = {}
        for evaluation in self.get_artefacts("evaluation").values():
            spec = get_spec(evaluation.manifest)
            if spec.shifted or spec.epoch is not None:  # these have tables of their own
                continue
            of_model = found.setdefault(evaluation.manifest.inputs["model"], {})
            merge_outcomes(of_model, self.outcomes_by_evaluation[evaluation.manifest.key])
        return found

    def name_surrogate(self, point: AttackPoint) -> AttackPoint:
        """The point with the surrogate's name in place of its key."""
        if point.surrogate is None:
            return point
        return replace(point, surrogate=self.name_surrogate_key(point.surrogate))

    def name_surrogate_key(self, key: str) -> str:
        """A surrogate's name; a teacher with that of a student's seed, `kd-0`, is marked as one."""
        name = self.find_name(key)
        is_shared = {f"teacher/{name}", f"student/{name}"} <= self.refs_by_name.keys()
        is_teacher = self.refs_by_name.get(f"teacher/{name}") == f"teacher/{key}"
        return f"{name} (teacher)" if is_shared and is_teacher else name

    @cached_property
    def evaluated_keys(self) -> set[str]:
        """Keys of all models that were evaluated."""
        return {e.manifest.inputs["model"] for e in self.get_artefacts("evaluation").values()}

    @cached_property
    def groups(self) -> list[ModelGroup]:
        """Every student, evaluated generator and teacher, as ``group_models`` orders them."""
        return self.group_models(self.refs_by_name)

    def group_models(self, names: Container[str]) -> list[ModelGroup]:
        """The models of some names, `kind/name`: students, evaluated generators, teachers."""
        members_by_row: dict[tuple[str, str], list[Artefact]] = {}
        found = {
            kind: {n: a for n, a in self.get_artefacts(kind).items() if f"{kind}/{n}" in names}
            for kind in ("student", "generator", "teacher")
        }
        for name, artefact in found["student"].items():
            members_by_row.setdefault((name.rpartition("-")[0], "student"), []).append(artefact)
        for name, artefact in found["generator"].items():
            if artefact.manifest.key in self.evaluated_keys:
                stage = f"{name.partition(SEED_SEPARATOR)[0]} (stage I)", "student"
                members_by_row.setdefault(stage, []).append(artefact)
        for name, artefact in found["teacher"].items():
            members_by_row[name, "teacher"] = [artefact]
        return [
            ModelGroup(name, kind, tuple(members), tuple(self.get_outcomes(m) for m in members))
            for (name, kind), members in members_by_row.items()
        ]

    def find_group(self, name: str) -> ModelGroup:
        """The teacher of a name, or the student that takes its place."""
        found = {group.kind: group for group in self.groups if group.name == name}
        return found.get("teacher") or found["student"]

    def label_group(self, group: ModelGroup) -> str:
        """A model's name; a teacher whose name a student has too is marked as one."""
        is_shared = any(g.name == group.name and g.kind != group.kind for g in self.groups)
        return f"{group.name} (teacher)" if is_shared and group.kind == "teacher" else group.name

    @property
    def evaluated_groups(self) -> list[ModelGroup]:
        """The groups that have an attack point measured for every member."""
        return [group for group in self.groups if group.common_points]

    def get_outcomes(self, model: Artefact) -> dict[AttackPoint, Outcome]:
        """Outcomes of one classifier; empty if it was not evaluated."""
        return self.outcomes_by_model.get(model.manifest.key, {})


def open_study(job: Job) -> Study:
    """The study of the artefacts that a report's job reads.

    Raises:
        RetortError: one of them is not finished.
    """
    artefacts = {ref: open_artefact(folder) for ref, folder in job.inputs.items()}
    return Study(artefacts, dict(get_spec(job).names))


def find_accuracy_curves(groups: Sequence[ModelGroup]) -> dict[AttackPoint, list[float]]:
    """The radii, ascending, of each attack that ran at several; the keys have radius 0."""
    radii: dict[AttackPoint, set[float]] = {}
    for point in set().union(*(group.common_points for group in groups)):
        radii.setdefault(drop_radius(point), set()).add(point.eps)
    return {a: sorted(radii[a]) for a in sorted(radii, key=rank_by_strength) if len(radii[a]) > 1}
