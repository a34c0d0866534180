"""The report's table of weights that were kept during training (``keep_epochs``)."""

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.outcomes import ModelGroup, Outcome, Study, merge_outcomes
from pipeline.report.tables import format_caption, format_results_table

REVISION = 2

TABLE_NOTE = (
    "Weights kept after these epochs, in percent; intervals and columns as in the main table. "
    "They need not be the weights that the models export."
)


def collect_epoch_outcomes(study: Study) -> dict[tuple[str, int], dict[AttackPoint, Outcome]]:
    """Outcomes of the suites with ``epochs``, by the model's key and the epoch."""
    found: dict[tuple[str, int], dict[AttackPoint, Outcome]] = {}
    for evaluation in study.get_artefacts("evaluation").values():
        spec, inputs = get_spec(evaluation.manifest), evaluation.manifest.inputs
        if spec.epoch is not None:
            points = study.outcomes_by_evaluation[evaluation.manifest.key]
            merge_outcomes(found.setdefault((inputs["model"], spec.epoch), {}), points)
    return {where: points for where, points in found.items() if points}


def make_epoch_groups(study: Study) -> list[ModelGroup]:
    """One row for each model and epoch, over the model's seeds, in the order of the epochs."""
    found, rows = collect_epoch_outcomes(study), []
    for group in study.groups:
        for epoch in sorted({epoch for _, epoch in found}):
            members = [m for m in group.members if (m.manifest.key, epoch) in found]
            outcomes = tuple(found[m.manifest.key, epoch] for m in members)
            if members:
                rows.append(
                    ModelGroup(f"{group.name}, epoch {epoch}", group.kind, tuple(members), outcomes)
                )
    return rows


def format_section(study: Study) -> list[str]:
    """The section's Markdown; empty if such suites ran the attack ``boundary_risk`` alone."""
    rows = make_epoch_groups(study)
    return (
        ["## During training", format_results_table(rows), format_caption(TABLE_NOTE)]
        if rows
        else []
    )
