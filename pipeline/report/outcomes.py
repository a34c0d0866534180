"""What a report reads: the artefacts of a configuration, and every model's outcomes by image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.config.specs import spec_of
from pipeline.planning.plan import SEED
from pipeline.report.intervals import Interval, over_seeds, wilson
from pipeline.store.artifact import Artifact, Job, open_artifact

REVISION = 1

Point = tuple[str, float]  # an attack's label and its radius in [0,1] pixels
CORRUPTION = re.compile(r"[a-z_]+-([1-5])")
USUAL_EPS = 8 / 255
NEAR = 1e-6
PATH = re.compile(r"path(\d+)(-pgd\d+)?(?: (.+))?")  # the attack `boundary`, a test set's part
VIA = " from "  # between an attack and the surrogate it was made on


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


def read_outcomes(path: Path) -> dict[Point, Outcome]:
    """The outcomes in one evaluation's file, by attack and radius."""
    table = pq.read_table(path)
    attack, eps = np.array(table["attack"].to_pylist()), table["eps"].to_numpy().round(9)
    index = table["index"].to_numpy()
    right = (table["label"].to_numpy() == table["prediction"].to_numpy()).astype(float)
    found = {}
    for name, radius in dict.fromkeys(zip(attack.tolist(), eps.tolist(), strict=True)):
        rows = np.flatnonzero((attack == name) & (eps == radius))
        rows = rows[np.argsort(index[rows])]
        found[name, radius] = Outcome(index[rows], right[rows])
    return found


def take(found: dict[Point, Outcome], points: dict[Point, Outcome]) -> None:
    """Add a suite's outcomes to a model's: of a point measured twice the one with more images.

    Samples along a path are no attack's result; they are left to the table of boundary risks.
    """
    for point, outcome in points.items():
        known = found.get(point)
        better = known is None or len(known.index) < len(outcome.index)
        if better and not PATH.fullmatch(point[0]):
            found[point] = outcome


@dataclass(frozen=True)
class Group:
    """A row of the tables: one student entry over its seeds, or one teacher."""

    name: str
    kind: str
    members: tuple[Artifact, ...]
    outcomes: tuple[dict[Point, Outcome], ...]

    @property
    def points(self) -> set[Point]:
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

    def each(self, points: Sequence[Point]) -> list[Outcome]:
        """Each member's mean over some attacks; empty if one of them did not run."""
        if not set(points) <= self.points:
            return []
        return [mean_of([found[p] for p in points]) for found in self.outcomes]

    def estimate(self, points: Sequence[Point]) -> Interval | None:
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
    def outcomes(self) -> dict[str, dict[Point, Outcome]]:
        """Outcomes by the model's key; of a point measured twice the one with more images."""
        found: dict[str, dict[Point, Outcome]] = {}
        for evaluation in self.of("evaluation").values():
            spec = spec_of(evaluation.manifest)
            if spec.shifted or spec.epoch is not None:  # in tables of their own
                continue
            inputs = evaluation.manifest.inputs
            of_model = found.setdefault(inputs["model"], {})
            via = f"{VIA}{self.name_of(inputs['surrogate'])}" if "surrogate" in inputs else ""
            points = read_outcomes(evaluation.path("outcomes.parquet"))
            take(of_model, {(attack + via, eps): o for (attack, eps), o in points.items()})
        return found

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

    def outcomes_of(self, model: Artifact) -> dict[Point, Outcome]:
        """Outcomes of one classifier; empty if no suite looked at it."""
        return self.outcomes.get(model.manifest.key, {})


def open_study(job: Job) -> Study:
    """Every artefact that a report's job reads.

    Raises:
        RetortError: one of them is not finished.
    """
    artifacts = {ref: open_artifact(folder) for ref, folder in job.inputs.items()}
    return Study(artifacts, dict(spec_of(job).names))


def is_corruption(point: Point) -> bool:
    """Whether a label is a corruption's, such as ``fog-3``."""
    return point[1] == 0 and CORRUPTION.fullmatch(point[0]) is not None


def curves(groups: Sequence[Group]) -> dict[str, list[float]]:
    """Attacks that ran at several radii, with the rising radii."""
    radii: dict[str, set[float]] = {}
    for attack, eps in set().union(*(group.points for group in groups)):
        radii.setdefault(attack, set()).add(eps)
    return {a: sorted(radii[a]) for a in sorted(radii, key=strength) if len(radii[a]) > 1}


def strength(attack: str) -> tuple[int, int, str]:
    """Sorts attacks: clean, FGSM, PGD by its steps, others, AutoAttack; then transferred ones."""
    name, _, surrogate = attack.partition(VIA)
    steps = re.fullmatch(r"pgd(\d+)", name)
    rank = {"clean": 0, "fgsm": 1, "autoattack": 9}.get(name, 2 if steps else 3)
    return rank + (10 if surrogate else 0), int(steps[1]) if steps else 0, attack


def title(attack: str) -> str:
    """An attack's name for a table's head."""
    name, via, surrogate = attack.partition(VIA)
    known = {
        "fgsm": "FGSM",
        "autoattack": "AutoAttack",
        "cw_linf": "CW (Linf)",
        "cw_l2": "CW (L2)",
        "jsma": "JSMA",
    }
    plain = re.sub(r"^pgd(\d+)", r"PGD-\1", name).replace("_", " ")
    return known.get(name, plain) + via + surrogate
