"""The report's table of other test sets than a model's own, with the mCE for ImageNet-C."""

from collections.abc import Mapping

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_plainly, format_radius
from pipeline.report.distribution_shift import ALEXNET, mean_corruption_error
from pipeline.report.outcomes import CLEAN, Outcome, Study, is_corruption, read_outcomes
from pipeline.report.tables import NONE, caption, grid
from pipeline.store.artifact import Artifact

REVISION = 2

Found = dict[str, dict[AttackPoint, Outcome]]  # test set -> its points


def found_of(study: Study, model: Artifact) -> Found:
    """A model's outcomes on other test sets, by the names of these."""
    return {
        study.name_of(e.manifest.inputs["dataset"]): read_outcomes(e.path("outcomes.parquet"))
        for e in study.of("evaluation").values()
        if spec_of(e.manifest).shifted and e.manifest.inputs["model"] == model.manifest.key
    }


def measures(found: Found) -> dict[str, float]:
    """Accuracies in percent by column, and mCE where all of ImageNet-C is there."""
    values = {}
    for name, points in found.items():
        parts = {p: o for p, o in points.items() if is_corruption(p)}
        for point, outcome in points.items():
            if point not in parts:
                at = f" {format_radius(point.eps)}" if point.eps else ""
                head = name if point == CLEAN else f"{format_plainly(point)}{at} on {name}"
                values[head] = 100 * outcome.accuracy
        if parts:
            values |= of_parts(name, parts)
    return values


def of_parts(name: str, parts: Mapping[AttackPoint, Outcome]) -> dict[str, float]:
    """Mean accuracy over corruptions and severities, and mCE if they are ImageNet-C's 75."""
    accuracies = [o.accuracy for o in parts.values()]
    values = {f"{name}, mean of {len(parts)}": 100 * sum(accuracies) / len(parts)}
    errors = {(p.corruption, p.severity): 1 - o.accuracy for p, o in parts.items()}
    if {corruption for corruption, _ in errors} >= ALEXNET.keys():
        mce = mean_corruption_error(errors)
        values |= {} if mce is None else {f"{name}, mCE": mce}
    return values


def table(study: Study) -> str:
    """One row a model: mean over its seeds on every other test set; empty without any."""
    rows = facts(study)
    heads = list(dict.fromkeys(head for values in rows.values() for head in values))
    cells = [
        [name, *(f"{values[h]:.1f}" if h in values else NONE for h in heads)]
        for name, values in rows.items()
    ]
    return grid(["model", *heads], cells) if heads else ""


def facts(study: Study) -> dict[str, dict[str, float]]:
    """Means over the seeds of each model that such a suite looked at, in percent."""
    rows = {}
    for group in study.groups:
        members = [measures(found_of(study, member)) for member in group.members]
        shared = [head for head in members[0] if all(head in m for m in members)]
        if shared:
            rows[group.name] = {h: sum(m[h] for m in members) / len(members) for h in shared}
    return rows


def section(study: Study) -> list[str]:
    """Accuracy on other test sets than the models' own."""
    note = (
        "Percent, means over seeds, without training on any of these sets. ImageNet-A and -R are "
        "scored among their 200 classes. mCE (lower is better) divides each corruption's error by "
        "AlexNet's."
    )
    return ["## Under distribution shift", table(study), caption(note)]
