"""The report's tables of accuracy on test sets other than the models' own, with corruption errors.

A mean over a test set's corruptions is over images that may be the same ones, each corrupted. Its
interval for one seed is therefore that of images as many as the smallest part has, which is never
too narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.data.imagenet import load_class_names, load_wordnet_ids
from pipeline.report.attack_labels import (
    format_corruption,
    format_plain_attack,
    format_point_radius,
)
from pipeline.report.attack_points import is_corruption
from pipeline.report.distribution_shift import (
    Errors,
    bound_mean_error,
    compute_relative_error,
    mean_corruption_error,
    mean_error,
)
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Outcome, Study, merge_outcomes
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)
from pipeline.report.tables import (
    MISSING_CELL,
    ROUNDING_SLACK,
    format_caption,
    format_markdown_table,
)
from pipeline.store.artefact import Artefact

REVISION = 4

OutcomesByTestSet = dict[str, dict[AttackPoint, Outcome]]  # test set -> outcomes by point
CAPTION = (
    "Percent with 95 % intervals, n in parentheses, without training on any of these sets. One "
    "seed: Wilson interval; of a mean over corruptions an upper bound, as for images that every "
    "corruption shares. Several seeds: half of Student's t interval over them. ImageNet-A and -R "
    "are scored among their 200 classes. A mean corruption error (lower is better) is over "
    "corruptions, each the mean of its severities. mCE divides each by AlexNet's, which belongs to "
    "ImageNet-C alone; a relative one by that of the named model."
)


@dataclass(frozen=True)
class ShiftEstimate:
    """A measure of a model on another test set, in percent, with what it was computed from.

    Attributes:
        interval: the value and its 95 % interval.
        images: number of test images, of one part where there are parts.
        seeds: number of the model's seeds.
    """

    interval: ConfidenceInterval
    images: int
    seeds: int


def read_shifted_outcomes(study: Study, model: Artefact) -> OutcomesByTestSet:
    """A model's outcomes on other test sets, by the test set's name."""
    found: OutcomesByTestSet = {}
    for evaluation in study.get_artefacts("evaluation").values():
        manifest = evaluation.manifest
        if get_spec(manifest).shifted and manifest.inputs["model"] == model.manifest.key:
            name = study.find_name(manifest.inputs["dataset"])
            points = study.outcomes_by_evaluation[manifest.key]
            merge_outcomes(found.setdefault(name, {}), points)
    return found


def is_imagenet(study: Study, test_set: str) -> bool:
    """Whether a test set's classes are ImageNet's thousand, to which AlexNet's errors belong."""
    classes = tuple(study.get_artefacts("dataset")[test_set].manifest.facts["classes"])
    return classes in (load_class_names(), load_wordnet_ids())


def collect_errors(points: Mapping[AttackPoint, Outcome]) -> Errors:
    """Errors in [0,1] of images that only a corruption changed, by corruption and severity."""
    return {
        (p.corruption, p.severity): 1 - o.accuracy for p, o in points.items() if is_corruption(p)
    }


def compute_measures(
    points: Mapping[AttackPoint, Outcome], has_alexnet: bool, reference: Errors | None
) -> dict[str, float]:
    """Measures of one model on one test set in percent, by what follows the set's name."""
    values = {
        describe_point(point): 100 * outcome.accuracy
        for point, outcome in points.items()
        if not is_corruption(point)
    }
    errors = collect_errors(points)
    if not errors:
        return values
    values[f", mean of {len(errors)}"] = 100 * (1 - sum(errors.values()) / len(errors))
    if has_alexnet and (mce := mean_corruption_error(errors)) is not None:
        return values | {", mCE": mce}
    values[", mean corruption error"] = mean_error(errors)
    if reference and (relative := compute_relative_error(errors, reference)) is not None:
        values[", relative mean corruption error"] = relative
    return values


def describe_point(point: AttackPoint) -> str:
    """What a heading says of an attack on a test set; empty for its images as they are."""
    if point == CLEAN_POINT:
        return ""
    radius = f" {format_point_radius(point)}" if point.eps else ""
    return f"{format_plain_attack(point)}{radius} on "


def estimate_measure(
    what: str, members: list[Mapping[AttackPoint, Outcome]], values: list[float]
) -> ShiftEstimate:
    """A measure's interval over seeds, or over images where there is one seed."""
    points, seeds = members[0], len(values)
    if what.startswith(","):
        counts = [len(o.index) for p, o in points.items() if is_corruption(p)]
    else:
        counts = [len(o.index) for p, o in points.items() if describe_point(p) == what]
    n = min(counts)
    if seeds > 1:
        return ShiftEstimate(student_t_interval(values), n, seeds)
    if what in (", mCE", ", relative mean corruption error"):
        half = bound_mean_error(collect_errors(points), n, values[0])
        return ShiftEstimate(
            ConfidenceInterval(values[0], values[0] - half, values[0] + half), n, 1
        )
    share = wilson_interval(values[0] / 100, n)
    return ShiftEstimate(
        ConfidenceInterval(*(100 * v for v in (share.value, share.low, share.high))), n, 1
    )


def collect_shift_estimates(
    study: Study, reference: str | None = None
) -> dict[str, dict[str, ShiftEstimate]]:
    """Measures of each model that all its seeds have, by model and heading.

    Args:
        study: the report's artefacts.
        reference: name of a model by whose corruption errors others' are divided.
    """
    references = (
        average_errors(read_members(study, study.find_group(reference))) if reference else {}
    )
    rows: dict[str, dict[str, ShiftEstimate]] = {}
    for group in study.groups:
        members = read_members(study, group)
        for name in members[0]:
            if not all(name in m for m in members):
                continue
            of_set = [m[name] for m in members]
            measured = [
                compute_measures(points, is_imagenet(study, name), references.get(name))
                for points in of_set
            ]
            for what in (w for w in measured[0] if all(w in m for m in measured)):
                estimate = estimate_measure(what, of_set, [m[what] for m in measured])
                heading = f"{what}{name}" if what.endswith(" on ") else f"{name}{what}"
                heading += f" to {reference}" if "relative" in what else ""
                rows.setdefault(study.label_group(group), {})[heading] = estimate
    return rows


def read_members(study: Study, group: ModelGroup) -> list[OutcomesByTestSet]:
    """The outcomes of each of a model's seeds on other test sets."""
    return [read_shifted_outcomes(study, member) for member in group.members]


def average_errors(members: list[OutcomesByTestSet]) -> dict[str, Errors]:
    """Corruption errors of a model on each test set, the mean of its seeds."""
    found = {}
    for name in members[0] if members else ():
        errors = [collect_errors(m.get(name, {})) for m in members]
        shared = [k for k in errors[0] if all(k in e for e in errors)]
        found[name] = {k: float(np.mean([e[k] for e in errors])) for k in shared}
    return found


def collect_shift_facts(study: Study, reference: str | None = None) -> dict[str, dict[str, float]]:
    """Measures in percent, by model and column heading, the mean of each model's seeds."""
    return {
        name: {heading: e.interval.value for heading, e in values.items()}
        for name, values in collect_shift_estimates(study, reference).items()
    }


def format_estimate(estimate: ShiftEstimate | None, brief: bool = False) -> str:
    """A cell: `63.9 ±1.2` for several seeds, `63.9 [60.9, 66.8]` or `63.9 [60, 67]` for one."""
    if estimate is None:
        return MISSING_CELL
    interval = estimate.interval
    if estimate.seeds > 1:
        return f"{interval.value:.1f} ±{interval.half_width:.1f}"
    low, high = interval.low, interval.high
    ends = f"{floor(low + ROUNDING_SLACK)}, {ceil(high - ROUNDING_SLACK)}"
    return f"{interval.value:.1f} [{ends if brief else f'{low:.1f}, {high:.1f}'}]"


def format_shift_table(study: Study, reference: str | None = None) -> str:
    """One row for each model, with intervals and n; empty without other test sets."""
    rows = collect_shift_estimates(study, reference)
    headings = list(dict.fromkeys(head for values in rows.values() for head in values))
    shown = []
    for heading in headings:
        counts = sorted({v[heading].images for v in rows.values() if heading in v})
        shown.append(f"{heading} ({'/'.join(f'{n:,}' for n in counts)})")
    cells = [
        [name, *(format_estimate(values.get(heading)) for heading in headings)]
        for name, values in rows.items()
    ]
    return format_markdown_table(["model", *shown], cells) if headings else ""


def estimate_by_corruption(
    group: ModelGroup, members: list[Mapping[AttackPoint, Outcome]]
) -> dict[tuple[str, int | None], ShiftEstimate]:
    """Accuracy in percent by corruption and severity; severity None: the mean of all.

    Args:
        group: the model.
        members: outcomes of each of its seeds on one test set.
    """
    shared = [p for p in members[0] if is_corruption(p) and all(p in m for m in members)]
    found = {}
    for name in dict.fromkeys(p.corruption for p in shared):
        parts = [p for p in shared if p.corruption == name]
        for severity, points in [*((p.severity, [p]) for p in parts), (None, parts)]:
            values = [float(np.mean([m[p].accuracy for p in points])) for m in members]
            n = min(len(members[0][p].index) for p in points)
            interval = (
                student_t_interval(values) if len(values) > 1 else wilson_interval(*values, n)
            )
            ends = (100 * v for v in (interval.value, interval.low, interval.high))
            found[name, severity] = ShiftEstimate(ConfidenceInterval(*ends), n, len(values))
    return found


def format_corruption_tables(study: Study) -> list[str]:
    """A table for each test set with corruptions: models down, corruptions across, their means."""
    models = {study.label_group(group): group for group in study.groups}
    outcomes = {label: read_members(study, group) for label, group in models.items()}
    names = dict.fromkeys(name for members in outcomes.values() for name in members[0])
    parts = []
    for test_set in names:
        rows = {
            label: estimate_by_corruption(group, [m[test_set] for m in outcomes[label]])
            for label, group in models.items()
            if all(test_set in m for m in outcomes[label])
        }
        rows = {name: found for name, found in rows.items() if found}
        heads = dict.fromkeys(k for found in rows.values() for k in found if k[1] is None)
        if heads:
            n = min(e.images for found in rows.values() for e in found.values())
            cells = [
                [name, *(format_estimate(found.get(head), brief=True) for head in heads)]
                for name, found in rows.items()
            ]
            shown = [format_corruption(AttackPoint("clean", corruption=c)) for c, _ in heads]
            parts += [
                format_markdown_table(["model", *shown], cells),
                format_caption(
                    f"{test_set}: accuracy in percent, the mean of each corruption's severities; "
                    f"{n:,} images of each."
                ),
            ]
    return parts


def format_section(study: Study, reference: str | None = None) -> list[str]:
    """The section's Markdown: accuracy on test sets other than the models' own."""
    return [
        "## Under distribution shift",
        format_shift_table(study, reference),
        format_caption(CAPTION),
        *format_corruption_tables(study),
    ]
