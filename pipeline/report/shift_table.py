"""The report's table of accuracy on test sets other than the models' own, with the mCE."""

from collections.abc import Mapping

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_plain_attack, format_radius
from pipeline.report.distribution_shift import ALEXNET_ERRORS, mean_corruption_error
from pipeline.report.outcomes import CLEAN_POINT, Outcome, Study, is_corruption, read_outcomes
from pipeline.report.tables import MISSING_CELL, format_caption, format_markdown_table
from pipeline.store.artefact import Artefact

REVISION = 2

OutcomesByTestSet = dict[str, dict[AttackPoint, Outcome]]  # test set -> outcomes by point


def read_shifted_outcomes(study: Study, model: Artefact) -> OutcomesByTestSet:
    """A model's outcomes on other test sets, by the test set's name."""
    return {
        study.find_name(e.manifest.inputs["dataset"]): read_outcomes(
            e.get_verified_path("outcomes.parquet")
        )
        for e in study.get_artefacts("evaluation").values()
        if get_spec(e.manifest).shifted and e.manifest.inputs["model"] == model.manifest.key
    }


def compute_shift_accuracies(outcomes: OutcomesByTestSet) -> dict[str, float]:
    """Accuracies in percent by column heading, and the mCE where all of ImageNet-C was tested."""
    values = {}
    for name, points in outcomes.items():
        corruption_outcomes = {p: o for p, o in points.items() if is_corruption(p)}
        for point, outcome in points.items():
            if point not in corruption_outcomes:
                eps_text = f" {format_radius(point.eps)}" if point.eps else ""
                heading = (
                    name
                    if point == CLEAN_POINT
                    else f"{format_plain_attack(point)}{eps_text} on {name}"
                )
                values[heading] = 100 * outcome.accuracy
        if corruption_outcomes:
            values |= average_corruptions(name, corruption_outcomes)
    return values


def average_corruptions(
    name: str, corruption_outcomes: Mapping[AttackPoint, Outcome]
) -> dict[str, float]:
    """Mean accuracy over corruptions in percent, and the mCE if they are ImageNet-C's 75."""
    accuracies = [o.accuracy for o in corruption_outcomes.values()]
    values = {
        f"{name}, mean of {len(corruption_outcomes)}": 100
        * sum(accuracies)
        / len(corruption_outcomes)
    }
    errors = {(p.corruption, p.severity): 1 - o.accuracy for p, o in corruption_outcomes.items()}
    if {corruption for corruption, _ in errors} >= ALEXNET_ERRORS.keys():
        mce = mean_corruption_error(errors)
        values |= {} if mce is None else {f"{name}, mCE": mce}
    return values


def format_shift_table(study: Study) -> str:
    """One row for each model, with means over its seeds; empty without other test sets."""
    rows = collect_shift_facts(study)
    headings = list(dict.fromkeys(head for values in rows.values() for head in values))
    cells = [
        [name, *(f"{values[h]:.1f}" if h in values else MISSING_CELL for h in headings)]
        for name, values in rows.items()
    ]
    return format_markdown_table(["model", *headings], cells) if headings else ""


def collect_shift_facts(study: Study) -> dict[str, dict[str, float]]:
    """Mean accuracies over each model's seeds in percent, by model and column heading."""
    rows = {}
    for group in study.groups:
        members = [
            compute_shift_accuracies(read_shifted_outcomes(study, member))
            for member in group.members
        ]
        shared_headings = [head for head in members[0] if all(head in m for m in members)]
        if shared_headings:
            rows[group.name] = {
                h: sum(m[h] for m in members) / len(members) for h in shared_headings
            }
    return rows


def format_section(study: Study) -> list[str]:
    """The section's Markdown: accuracy on test sets other than the models' own."""
    note = (
        "Percent, means over seeds, without training on any of these sets. ImageNet-A and -R are "
        "scored among their 200 classes. mCE (lower is better) divides each corruption's error by "
        "AlexNet's."
    )
    return ["## Under distribution shift", format_shift_table(study), format_caption(note)]
