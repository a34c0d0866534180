"""The report's study of distances between a student's training images and its test images.

DAD (Zhou et al., NeurIPS 2023, Sec. 3.4) explains its gain by training images that lie nearer to
shifted ones. A point is a student under one shift, a corruption or another data set: the
Wasserstein distance W between its training images and the shifted test images, and its accuracy on
the latter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.attacks.corruptions import corrupt_batch
from pipeline.banks.reader import read_bank
from pipeline.config.specs import get_spec
from pipeline.config.suites import WassersteinSettings
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.images import scale_to_unit_range
from pipeline.data.dataset_artefact import DatasetArtefact, open_dataset
from pipeline.errors import RetortError
from pipeline.models.loading import load_teacher
from pipeline.report.attack_labels import format_shift
from pipeline.report.attack_points import is_corruption, rank_by_columns
from pipeline.report.figures import assign_line_styles, open_figure
from pipeline.report.outcomes import ModelGroup, Outcome, Study
from pipeline.report.shift_table import read_shifted_outcomes
from pipeline.report.tables import format_markdown_table
from pipeline.report.wasserstein import (
    BatchNormStatistics,
    collect_batchnorm_statistics,
    wasserstein_distance,
)
from pipeline.store.artefact import Artefact

REVISION = 3

BATCH_SIZE = 250  # images in one forward pass


@dataclass(frozen=True)
class DistancePoint:
    """One point of the scatter.

    Attributes:
        group: a student.
        shift: a corruption, or another data set.
        distance: W.
        relative_distance: W divided by that of clean images.
        accuracy: share of the shifted test images in [0,1], mean over seeds.
        image_count: number of these images, the smallest of any seed.
    """

    group: ModelGroup
    shift: AttackPoint
    distance: float
    relative_distance: float
    accuracy: float
    image_count: int


@dataclass(frozen=True)
class ShiftedTest:
    """A shift, each seed's outcome under it, and what measures its images."""

    point: AttackPoint
    outcomes: list[Outcome]
    measure: Callable[[], BatchNormStatistics]


@dataclass(frozen=True)
class DistanceStudy:
    """The distances of a study; the statistics of each distribution are computed once."""

    study: Study
    network: nn.Module
    image_count: int

    @cached_property
    def known_statistics(self) -> dict[tuple[str, ...], BatchNormStatistics]:
        """The statistics computed so far, by a distribution's name."""
        return {}

    def get_statistics(self, name: tuple[str, ...], images: list[Tensor]) -> BatchNormStatistics:
        """Statistics of a distribution of images, which are uint8 tensors (N,C,H,W)."""
        if name not in self.known_statistics:
            parts = (
                scale_to_unit_range(part) for whole in images for part in whole.split(BATCH_SIZE)
            )
            self.known_statistics[name] = collect_batchnorm_statistics(self.network, parts)
        return self.known_statistics[name]

    def measure_training_images(self, student: Artefact) -> BatchNormStatistics:
        """Statistics of the student's training images, with the bank samples that it reads."""
        inputs = student.manifest.inputs
        clean = self.get_dataset(inputs["dataset"]).read_split("train").images
        image_sets = [clean[: min(self.image_count, len(clean))]]
        key = inputs.get("bank") if reads_bank_samples(student) else None
        if key is not None:
            stored = read_bank(self.study.artefacts[f"bank/{key}"].folder, ("x_adv",))
            samples = stored.fields["x_adv"]
            image_sets.append(samples[: min(self.image_count, len(samples))])
        return self.get_statistics((inputs["dataset"], key or ""), image_sets)

    def measure_shifted_images(self, dataset: str, point: AttackPoint) -> BatchNormStatistics:
        """Statistics of the test images under a corruption."""
        name, severity = point.corruption, point.severity
        test = self.get_dataset(dataset).read_split("test").images
        test = scale_to_unit_range(test[: min(self.image_count, len(test))])
        corrupted = corrupt_batch(test, name, severity, 0, point.variant)
        corrupted = (corrupted * 255).round().to(torch.uint8)
        return self.get_statistics((dataset, format_shift(point)), [corrupted])

    def get_dataset(self, key: str) -> DatasetArtefact:
        """A data set by its key."""
        return open_dataset(self.study.artefacts[f"dataset/{key}"].folder)

    def measure_other_images(self, key: str, part: str) -> BatchNormStatistics:
        """Statistics of another data set's test images, or of one of its parts."""
        test = self.get_dataset(key).read_split("test")
        rows = np.arange(len(test.labels))
        if part and test.groups is not None:
            rows = rows[np.asarray(test.groups.to_pylist()) == part]
        chosen = torch.from_numpy(rows[: self.image_count])
        return self.get_statistics((key, "test", part), [test.images[chosen]])

    def iterate_shifts(self, group: ModelGroup) -> Iterator[ShiftedTest]:
        """Yields every shift that a student was tested under: corruptions, and other data sets."""
        dataset = group.members[0].manifest.inputs["dataset"]
        for point in sorted(filter(is_corruption, group.common_points), key=rank_by_columns):
            measure = partial(self.measure_shifted_images, dataset, point)
            yield ShiftedTest(point, group.average_by_member([point]), measure)
        by_member = [read_shifted_outcomes(self.study, member) for member in group.members]
        for name in sorted(set.intersection(*map(set, by_member))):
            key = self.study.get_artefacts("dataset")[name].manifest.key
            common = set.intersection(*(set(found[name]) for found in by_member))
            for point in sorted(filter(is_unattacked, common), key=rank_by_columns):
                outcomes = [found[name][point] for found in by_member]
                part = format_shift(point)
                measure = partial(self.measure_other_images, key, part)
                shift = AttackPoint("clean", part=f"{name} {part}".rstrip())
                yield ShiftedTest(shift, outcomes, measure)

    def iterate_points(self) -> Iterator[DistancePoint]:
        """Yields a point for each student and shift; accuracy is the mean over seeds."""
        for group in self.study.groups:
            student = group.members[0]
            inputs = student.manifest.inputs
            if group.kind != "student" or "dataset" not in inputs:
                continue
            for shifted in self.iterate_shifts(group):
                training_statistics = self.measure_training_images(student)
                clean = self.get_dataset(inputs["dataset"]).read_split("train").images
                clean_statistics = self.get_statistics(
                    (inputs["dataset"], ""), [clean[: min(self.image_count, len(clean))]]
                )
                shifted_statistics = shifted.measure()
                shift_distance, clean_distance = (
                    wasserstein_distance(training_statistics, shifted_statistics),
                    wasserstein_distance(clean_statistics, shifted_statistics),
                )
                yield DistancePoint(
                    group,
                    shifted.point,
                    shift_distance,
                    shift_distance / clean_distance,
                    float(np.mean([outcome.accuracy for outcome in shifted.outcomes])),
                    min(len(outcome.index) for outcome in shifted.outcomes),
                )


def is_unattacked(point: AttackPoint) -> bool:
    """Whether an outcome is of images that no attack changed."""
    return point.attack == "clean" and point.surrogate is None


def reads_bank_samples(student: Artefact) -> bool:
    """Whether a student's objective reads a bank's samples, not only its stored outputs."""
    from pipeline.schema import make_plugin

    ((name, options),) = get_spec(student.manifest).objective.items()
    return "x_adv" in make_plugin("objectives", "Objective", name, options).needs()


def measure_distances(study: Study, wasserstein_spec: WassersteinSettings) -> list[DistancePoint]:
    """Every point of the study.

    Raises:
        RetortError: the network that compares the images has no BatchNorm.
    """
    compared = study.find_group(wasserstein_spec.network).members[0]
    model = load_teacher(compared.folder, "cpu").eval()
    try:
        return list(DistanceStudy(study, model, wasserstein_spec.images).iterate_points())
    except RetortError as error:
        raise RetortError(
            f"report.wasserstein.network: '{wasserstein_spec.network}': {error}"
        ) from error


def format_section(points: list[DistancePoint], wasserstein_spec: WassersteinSettings) -> str:
    """The study's Markdown: a table, and the rank correlation of distance and accuracy."""
    rows = [
        [
            s.group.name,
            format_shift(s.shift),
            f"{s.distance:.4f}",
            f"{s.relative_distance:.3f}",
            f"{100 * s.accuracy:.1f}",
        ]
        for s in points
    ]
    head = ["student", "shift", "W", "W / W of clean images", "accuracy"]
    from scipy.stats import spearmanr  # a second to import, and few reports measure distances

    rank_correlation = spearmanr([s.distance for s in points], [s.accuracy for s in points])
    return (
        f"{format_markdown_table(head, rows, left_columns=2)}\n\n*W between a student's training "
        f"images (the first "
        f"{wasserstein_spec.images:,} of them, as many samples of its bank) and the shifted test "
        f"images, "
        f"by the BatchNorm inputs of '{wasserstein_spec.network}'. Spearman's rank correlation of "
        f"W and "
        f"accuracy over the {len(points)} points: {rank_correlation.statistic:.2f} (p = "
        f"{rank_correlation.pvalue:.2g}; "
        "the points are not independent).*"
    )


def draw_scatter(path: Path, study: Study, points: list[DistancePoint]) -> None:
    """Draw accuracy against distance and relative distance, in one colour for each student."""
    styles = assign_line_styles(study.groups)
    with open_figure(path, 11.0, 4.4) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for name in dict.fromkeys(s.group.name for s in points):
            student_points = [s for s in points if s.group.name == name]
            colour = styles["student", name][0]
            accuracy = [100 * s.accuracy for s in student_points]
            left.scatter(
                [s.distance for s in student_points], accuracy, color=colour, s=28, label=name
            )
            right.scatter(
                [s.relative_distance for s in student_points], accuracy, color=colour, s=28
            )
        left.set(xlabel="W, training to shifted images", ylabel="accuracy under the shift (%)")
        right.set(xlabel="W over W of clean training images")
        figure.legend(loc="outside right upper", frameon=False)
