"""The report's table of weights kept during training, beside those that a student exports."""

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.outcomes import Group, Outcome, Study, read_outcomes, take
from pipeline.report.tables import caption, results

REVISION = 2

NOTE = (
    "Weights kept after these epochs, in percent; intervals and columns as in the main table. "
    "They need not be the weights that the models export."
)


def measured(study: Study) -> dict[tuple[str, int], dict[AttackPoint, Outcome]]:
    """What suites of kept weights found, by the model's key and the epoch."""
    found: dict[tuple[str, int], dict[AttackPoint, Outcome]] = {}
    for evaluation in study.of("evaluation").values():
        spec, inputs = spec_of(evaluation.manifest), evaluation.manifest.inputs
        if spec.epoch is not None:
            points = read_outcomes(evaluation.path("outcomes.parquet"))
            take(found.setdefault((inputs["model"], spec.epoch), {}), points)
    return {where: points for where, points in found.items() if points}


def groups(study: Study) -> list[Group]:
    """A row for each entry and epoch, over the entry's seeds, in order of training."""
    found, rows = measured(study), []
    for group in study.groups:
        for epoch in sorted({epoch for _, epoch in found}):
            seen = [m for m in group.members if (m.manifest.key, epoch) in found]
            outcomes = tuple(found[m.manifest.key, epoch] for m in seen)
            if seen:
                rows.append(
                    Group(f"{group.name}, epoch {epoch}", group.kind, tuple(seen), outcomes)
                )
    return rows


def section(study: Study) -> list[str]:
    """The table; nothing where suites of kept weights looked at boundaries alone."""
    rows = groups(study)
    return ["## During training", results(rows), caption(NOTE)] if rows else []
