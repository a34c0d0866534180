"""The report's study of distances: from what a student learnt on to what it is tested on.

DAD (Zhou et al., NeurIPS 2023, Sec. 3.4) explains its gain by training images that lie nearer to
shifted ones. A point is a student under one corruption: the Wasserstein distance between its
training images and the corrupted test images, and its accuracy on these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from pipeline.attacks.corruptions import corrupt_batch
from pipeline.banks.reader import read_bank
from pipeline.config.specs import spec_of
from pipeline.config.suites import Wasserstein
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.images import pixels
from pipeline.data.dataset_artifact import Data, open_data
from pipeline.errors import RetortError
from pipeline.models.loading import load_teacher
from pipeline.report.attack_labels import format_shift
from pipeline.report.figures import drawing, looks
from pipeline.report.outcomes import Group, Study, in_order, is_corruption
from pipeline.report.tables import grid
from pipeline.report.wasserstein import Seen, distance, seen
from pipeline.store.artifact import Artifact

REVISION = 2

BATCH = 250  # images at once


@dataclass(frozen=True)
class Spot:
    """One point of the scatter: W, W over that of clean images, accuracy in [0,1]."""

    group: Group
    shift: AttackPoint
    distance: float
    relative: float
    accuracy: float


@dataclass(frozen=True)
class Distances:
    """The distances of a study, every distribution seen once."""

    study: Study
    network: nn.Module
    images: int

    @cached_property
    def known(self) -> dict[tuple[str, ...], Seen]:
        """What was seen so far, by a distribution's name."""
        return {}

    def look(self, name: tuple[str, ...], images: list[Tensor]) -> Seen:
        """What the network sees of uint8 images, (N,C,H,W) each."""
        if name not in self.known:
            parts = (pixels(part) for whole in images for part in whole.split(BATCH))
            self.known[name] = seen(self.network, parts)
        return self.known[name]

    def trained_on(self, student: Artifact) -> Seen:
        """Clean training images, with the samples of a bank whose samples the student reads."""
        inputs = student.manifest.inputs
        clean = self.data(inputs["dataset"]).split("train").images
        kept = [clean[: min(self.images, len(clean))]]
        key = inputs.get("bank") if reads_samples(student) else None
        if key is not None:
            stored = read_bank(self.study.artifacts[f"bank/{key}"].folder, ("x_adv",))
            samples = stored.fields["x_adv"]
            kept.append(samples[: min(self.images, len(samples))])
        return self.look((inputs["dataset"], key or ""), kept)

    def shifted(self, dataset: str, point: AttackPoint) -> Seen:
        """Test images under a corruption."""
        name, severity = point.corruption, point.severity
        test = self.data(dataset).split("test").images
        test = pixels(test[: min(self.images, len(test))])
        corrupted = (corrupt_batch(test, name, severity, 0) * 255).round().to(torch.uint8)
        return self.look((dataset, format_shift(point)), [corrupted])

    def data(self, key: str) -> Data:
        """A data set by its key."""
        return open_data(self.study.artifacts[f"dataset/{key}"].folder)

    def spots(self) -> Iterator[Spot]:
        """A point for each student, over its seeds, and corruption that it met."""
        for group in self.study.evaluated:
            student = group.members[0]
            inputs = student.manifest.inputs
            if group.kind != "student" or "dataset" not in inputs:
                continue
            own = self.trained_on(student)
            clean = self.data(inputs["dataset"]).split("train").images
            plain = self.look((inputs["dataset"], ""), [clean[: min(self.images, len(clean))]])
            for point in sorted(filter(is_corruption, group.points), key=in_order):
                target = self.shifted(inputs["dataset"], point)
                far, usual = distance(own, target), distance(plain, target)
                accuracy = float(np.mean([o.accuracy for o in group.each([point])]))
                yield Spot(group, point, far, far / usual, accuracy)


def reads_samples(student: Artifact) -> bool:
    """Whether a student's objective reads a bank's samples beside the teacher's outputs."""
    from pipeline.schema import make

    ((name, options),) = spec_of(student.manifest).objective.items()
    return "x_adv" in make("objectives", "Objective", name, options).needs()


def measured(study: Study, about: Wasserstein) -> list[Spot]:
    """Every point of the study.

    Raises:
        RetortError: the network that compares has no BatchNorm.
    """
    found = {**study.of("teacher"), **study.of("student")}
    network = found.get(about.network) or found[f"{about.network}-0"]
    model = load_teacher(network.folder, "cpu").eval()
    try:
        return list(Distances(study, model, about.images).spots())
    except RetortError as error:
        raise RetortError(f"report.wasserstein.network: '{about.network}': {error}") from error


def section(spots: list[Spot], about: Wasserstein) -> str:
    """The study as a table, with the rank correlation of distance and accuracy."""
    rows = [
        [
            s.group.name,
            format_shift(s.shift),
            f"{s.distance:.4f}",
            f"{s.relative:.3f}",
            f"{100 * s.accuracy:.1f}",
        ]
        for s in spots
    ]
    head = ["student", "shift", "W", "W / W of clean images", "accuracy"]
    found = spearmanr([s.distance for s in spots], [s.accuracy for s in spots])
    return (
        f"{grid(head, rows, left=2)}\n\n*W between a student's training images (the first "
        f"{about.images:,} of them, as many samples of its bank) and the shifted test images, "
        f"by the BatchNorm inputs of '{about.network}'. Spearman's rank correlation of W and "
        f"accuracy over the {len(spots)} points: {found.statistic:.2f} (p = {found.pvalue:.2g}; "
        "the points are not independent).*"
    )


def scatter(path: Path, study: Study, spots: list[Spot]) -> None:
    """Accuracy against distance, a colour a student; beside it against the relative distance."""
    styles = looks(study.groups)
    with drawing(path, 11.0, 4.4) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for name in dict.fromkeys(s.group.name for s in spots):
            own = [s for s in spots if s.group.name == name]
            colour = styles["student", name][0]
            accuracy = [100 * s.accuracy for s in own]
            left.scatter([s.distance for s in own], accuracy, color=colour, s=28, label=name)
            right.scatter([s.relative for s in own], accuracy, color=colour, s=28)
        left.set(xlabel="W, training to shifted images", ylabel="accuracy under the shift (%)")
        right.set(xlabel="W over W of clean training images")
        figure.legend(loc="outside right upper", frameon=False)
