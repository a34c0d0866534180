"""What a report reads: the artefacts of a configuration, and every model's outcomes by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import POINT_COLUMNS, AttackPoint
from pipeline.planning.plan import SEED
from pipeline.report.attack_labels import NEAR, USUAL_STEP
from pipeline.report.intervals import Interval, over_seeds, wilson
from pipeline.store.artifact import Artifact, Job, open_artifact

REVISION = 2

CLEAN = AttackPoint("clean")
USUAL_EPS = 8 / 255
DIGITS = 9  # of radii and steps in [0,1]; so many tell them apart


@dataclass(frozen=True)
class Outcome:
    """Which images a model got right: ``index`` (N,) rising, ``right`` (N,) in [0,1]."""

    index: np.ndarray
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share right, in [0,1]."""
        return float(self.right.mean())


def paired(one: Outcome, two: Outcome) -> tuple[Outcome, Outcome]:
    """Both outcomes on the images that they share."""
    common = np.intersect1d(one.index, two.index, assume_unique=True)
    return tuple(Outcome(common, o.right[np.searchsorted(o.index, common)]) for o in (one, two))


def mean_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Each image's mean over several outcomes, on the images that all share."""
    first = outcomes[0]
    for other in outcomes[1:]:
        first, _ = paired(first, other)
    rights = [paired(o, first)[0].right for o in outcomes]
    return Outcome(first.index, np.mean(rights, axis=0))


def read_outcomes(path: Path) -> dict[AttackPoint, Outcome]:
    """The outcomes in one evaluation's file, by the columns that say what they are of."""
    table = pq.read_table(path)
    index = table["index"].to_numpy()
    right = (table["label"].to_numpy() == table["prediction"].to_numpy()).astype(float)
    numbered = table.append_column("row", pa.array(np.arange(len(table))))
    grouped = numbered.group_by(POINT_COLUMNS, use_threads=False).aggregate([("row", "list")])
    records = grouped.select(POINT_COLUMNS).to_pylist()
    found = {}
    for record, listed in zip(records, grouped["row_list"], strict=True):
        rows = listed.values.to_numpy()
        rows = rows[np.argsort(index[rows])]
        found[point_of(record)] = Outcome(index[rows], right[rows])
    return found


def point_of(record: Mapping) -> AttackPoint:
    """What a record of a file of outcomes is of."""
    point = AttackPoint(**{name: record[name] for name in POINT_COLUMNS})
    step = None if point.step is None else round(point.step, DIGITS)
    return replace(point, eps=round(point.eps, DIGITS), step=step)


def take(found: dict[AttackPoint, Outcome], points: dict[AttackPoint, Outcome]) -> None:
    """Add a suite's outcomes to a model's: of a point measured twice the one with more images.

    Samples along a path are no attack's result; they are left to the table of boundary risks.
    """
    for point, outcome in points.items():
        known = found.get(point)
        better = known is None or len(known.index) < len(outcome.index)
        if better and point.attack != "boundary_risk":
            found[point] = outcome


@dataclass(frozen=True)
class Group:
    """A row of the tables: one student entry over its seeds, or one teacher."""

    name: str
    kind: str
    members: tuple[Artifact, ...]
    outcomes: tuple[dict[AttackPoint, Outcome], ...]

    @property
    def points(self) -> set[AttackPoint]:
        """Attacks and radii that every member went through."""
        return set.intersection(*(set(o) for o in self.outcomes))

    @property
    def images(self) -> int:
        """The most test images that an attack ran on."""
        return max((len(o.index) for found in self.outcomes for o in found.values()), default=0)

    @property
    def warmed_apart(self) -> bool:
        """Whether its seeds are, or began with, different warm-ups of a generator."""
        warm = {
            m.manifest.key if m.manifest.kind == "generator" else m.manifest.inputs.get("generator")
            for m in self.members
        }
        return len(warm) > 1

    def each(self, points: Sequence[AttackPoint]) -> list[Outcome]:
        """Each member's mean over some attacks; empty if one of them did not run."""
        if not set(points) <= self.points:
            return []
        return [mean_of([found[p] for p in points]) for found in self.outcomes]

    def estimate(self, points: Sequence[AttackPoint]) -> Interval | None:
        """Accuracy with its interval: over images for one seed, over seeds for several."""
        found = self.each(points)
        if len(found) > 1:
            return over_seeds([o.accuracy for o in found])
        return wilson(found[0].accuracy, len(found[0].index)) if found else None


@dataclass(frozen=True)
class Study:
    """All artefacts of a configuration by ``kind/key``, and the names it gives them."""

    artifacts: dict[str, Artifact]
    names: dict[str, str]  # kind/name -> kind/key, in the configuration's order

    def of(self, kind: str) -> dict[str, Artifact]:
        """Artefacts of a kind by name."""
        prefix = f"{kind}/"
        return {
            name.removeprefix(prefix): self.artifacts[ref]
            for name, ref in self.names.items()
            if name.startswith(prefix) and ref in self.artifacts
        }

    def name_of(self, key: str) -> str:
        """The first name of the artefact with this key."""
        return next(n.partition("/")[2] for n, ref in self.names.items() if ref.endswith(f"/{key}"))

    @cached_property
    def outcomes(self) -> dict[str, dict[AttackPoint, Outcome]]:
        """Outcomes by the model's key; of a point measured twice the one with more images."""
        found: dict[str, dict[AttackPoint, Outcome]] = {}
        for evaluation in self.of("evaluation").values():
            spec = spec_of(evaluation.manifest)
            if spec.shifted or spec.epoch is not None:  # in tables of their own
                continue
            of_model = found.setdefault(evaluation.manifest.inputs["model"], {})
            points = read_outcomes(evaluation.path("outcomes.parquet"))
            take(of_model, {self.with_name(point): o for point, o in points.items()})
        return found

    def with_name(self, point: AttackPoint) -> AttackPoint:
        """The same point, with the surrogate's name in place of its key."""
        if point.surrogate is None:
            return point
        return replace(point, surrogate=self.name_of(point.surrogate))

    @cached_property
    def tested(self) -> set[str]:
        """Keys of the models that any suite looked at."""
        return {e.manifest.inputs["model"] for e in self.of("evaluation").values()}

    @cached_property
    def groups(self) -> list[Group]:
        """Students by entry, then evaluated warm students, then teachers, in their order."""
        entries: dict[tuple[str, str], list[Artifact]] = {}
        for name, artifact in self.of("student").items():
            entries.setdefault((name.rpartition("-")[0], "student"), []).append(artifact)
        for name, artifact in self.of("generator").items():
            if artifact.manifest.key in self.tested:
                stage = f"{name.partition(SEED)[0]} (stage I)", "student"
                entries.setdefault(stage, []).append(artifact)
        for name, artifact in self.of("teacher").items():
            entries[name, "teacher"] = [artifact]
        return [
            Group(name, kind, tuple(members), tuple(self.outcomes_of(m) for m in members))
            for (name, kind), members in entries.items()
        ]

    @property
    def evaluated(self) -> list[Group]:
        """The groups whose every member was evaluated."""
        return [group for group in self.groups if group.points]

    def outcomes_of(self, model: Artifact) -> dict[AttackPoint, Outcome]:
        """Outcomes of one classifier; empty if no suite looked at it."""
        return self.outcomes.get(model.manifest.key, {})


def open_study(job: Job) -> Study:
    """Every artefact that a report's job reads.

    Raises:
        RetortError: one of them is not finished.
    """
    artifacts = {ref: open_artifact(folder) for ref, folder in job.inputs.items()}
    return Study(artifacts, dict(spec_of(job).names))


def is_corruption(point: AttackPoint) -> bool:
    """Whether an outcome is of corrupted images and nothing else."""
    plain = point.attack in ("clean", "corruptions") and point.part is None
    return plain and point.corruption is not None


def is_shifted(point: AttackPoint) -> bool:
    """Whether an outcome is of corrupted images or of a part of the test set."""
    return point.corruption is not None or point.part is not None


def is_usual_pgd(point: AttackPoint) -> bool:
    """Whether only its steps tell an attack from the usual PGD on the whole test set."""
    if point.attack != "pgd" or is_shifted(point):
        return False
    usual_step = abs(point.step - USUAL_STEP) < NEAR
    return usual_step and point.start == "uniform" and point.restarts == 1


def without_radius(point: AttackPoint) -> AttackPoint:
    """The same for all radii of a curve."""
    return replace(point, eps=0.0)


def curves(groups: Sequence[Group]) -> dict[AttackPoint, list[float]]:
    """Attacks, at radius 0, that ran at several radii, with the rising radii."""
    radii: dict[AttackPoint, set[float]] = {}
    for point in set().union(*(group.points for group in groups)):
        radii.setdefault(without_radius(point), set()).add(point.eps)
    return {a: sorted(radii[a]) for a in sorted(radii, key=strength) if len(radii[a]) > 1}


def strength(point: AttackPoint) -> tuple:
    """Sorts attacks: clean, FGSM, PGD by its steps, others, AutoAttack; then transferred ones."""
    rank = 2 if is_usual_pgd(point) else 3
    if not is_shifted(point):
        rank = {"clean": 0, "fgsm": 1, "autoattack": 9}.get(point.attack, rank)
    return rank + (10 if point.surrogate else 0), in_order(without_radius(point)), point.eps


def in_order(point: AttackPoint) -> tuple:
    """Sorts points by their columns, None first."""
    values = (getattr(point, name) for name in POINT_COLUMNS)
    return tuple((False, 0) if value is None else (True, value) for value in values)
