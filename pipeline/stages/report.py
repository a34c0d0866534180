"""Stage: one report over all artefacts of a configuration."""

from collections.abc import Sequence

from pipeline.config.specs import get_spec
from pipeline.report import (
    artefact_tables,
    boundary_table,
    distance_study,
    epoch_table,
    sanity_checks,
    shift_table,
    tables,
)
from pipeline.report.attack_points import is_corruption
from pipeline.report.distance_study import DistancePoint, measure_distances
from pipeline.report.figure_files import FIGURES_FOLDER, FigureFile, draw_figures
from pipeline.report.outcomes import Study, open_study
from pipeline.report.page.render import PageText, Picture, render_page
from pipeline.report.page.setting import describe_setting
from pipeline.report.paper_figures import section as figure_section
from pipeline.report.papers import section as paper_section
from pipeline.report.results import bank_costs
from pipeline.report.results.answer import Answer, judge_threats, make_answers
from pipeline.report.results.files import start_writing
from pipeline.report.results.rows import collect_measurements, make_result_rows
from pipeline.report.results.threats import find_threats
from pipeline.report.sanity_checks import list_suspicious_rows
from pipeline.report.statistics import sections
from pipeline.store.artefact import Job, Manifest, write_text

REVISION = 2


def run(job: Job) -> Manifest:
    """Write the report as one HTML page and as Markdown, its tables, figures and data."""
    study, spec = open_study(job), get_spec(job)
    measurements = collect_measurements(study)
    writing = start_writing(job.folder, study, make_result_rows(study, measurements))
    threats = find_threats(study, measurements)
    answers = make_answers(study, judge_threats(threats))
    drawn = draw_figures(job.folder, study, spec.samples)
    spots = measure_distances(study, spec.wasserstein) if spec.wasserstein else []
    paper_parts, paper_files = add_paper_sections(job, study, spots)
    accuracy = [
        *format_corruptions(study),
        *format_optional_sections(study, spec.corruption_reference),
        *paper_parts,
    ]
    comparisons, bank_files = add_comparisons(job, study)
    distances = format_distances(job, study, spots)
    closing = [*sanity_checks.format_section(study), *format_reproduction(study)]
    parts = [
        *format_opening(job, study, answers),
        *accuracy,
        *comparisons,
        *format_figures(drawn),
        *format_costs(study),
        *distances,
        *closing,
    ]
    write_text(job.folder / "report.md", join_parts(parts) + "\n")
    tables_part = join_parts([*accuracy, *comparisons, *distances])
    closing_part = join_parts([*format_costs(study), *closing])
    said = describe_setting(study), answers, describe_columns(study)
    page = PageText(spec.title, *said, tables_part, closing_part)
    pictures = [Picture(f.file, f.title, f.caption) for f in drawn if f.has_pixels]
    html = render_page(study, page, pictures, job.folder, measurements, threats)
    write_text(job.folder / "report.html", html)
    write_text(job.folder / "table.md", format_brief(study, answers))
    files = ["report.md", "report.html", "table.md", *(f.file for f in drawn), *paper_files]
    files += [f"{FIGURES_FOLDER}/distances.png"] if len(distances) > 2 else []
    files += [*bank_files, *writing.result()]
    return job.build_manifest(files, collect_facts(study, spec.corruption_reference))


def add_paper_sections(
    job: Job, study: Study, spots: list[DistancePoint]
) -> tuple[list[str], list[str]]:
    """The sections of the papers' tables and figures, and the files written for them."""
    spec = get_spec(job)
    tables_parts, table_files = paper_section.add_tables(job.folder, study, spec.tables)
    figure_parts, figure_files = figure_section.add_figures(job.folder, study, spec, spots)
    return [*tables_parts, *figure_parts], [*table_files, *figure_files]


def add_comparisons(job: Job, study: Study) -> tuple[list[str], list[str]]:
    """The sections that compare models, and the files written for them."""
    parts, files = bank_costs.add_section(job.folder, study)
    return [*format_comparisons(study), *parts], files


def join_parts(parts: Sequence[str]) -> str:
    """Paragraphs, tables and headings as one Markdown text."""
    return "\n\n".join(part for part in parts if part)


def format_brief(study: Study, answers: Sequence[Answer]) -> str:
    """What the verb ``results`` prints: the main table, and which student for which threat.

    Where every suite names another test set, their table stands in place of the main one. Nothing
    in it tells times: the same artefacts give the same bytes on every machine.
    """
    groups = study.evaluated_groups
    table = (
        tables.format_results_table(groups, True, list_suspicious_rows(study))
        if groups or not has_shifted_tests(study)
        else shift_table.format_shift_table(study)
    )
    return "\n\n".join([table.rstrip(), *(a.sentence for a in answers if not a.tells_times)]) + "\n"


def collect_facts(study: Study, reference: str | None) -> dict:
    """The main table's accuracies in [0,1], and the number of suspicious results."""
    columns = tables.make_columns(study.evaluated_groups)
    found = {}
    for group in study.evaluated_groups:
        estimates = {c.heading: group.estimate_accuracy(c.points) for c in columns}
        accuracy = {head: e.value for head, e in estimates.items() if e is not None}
        found[f"{group.kind}/{group.name}"] = accuracy
    shifted = shift_table.collect_shift_facts(study, reference)
    return {"accuracy": found, "suspicions": len(sanity_checks.list_suspicions(study))} | (
        {"shifted": shifted} if shifted else {}
    )


def format_distances(job: Job, study: Study, spots: list[DistancePoint]) -> list[str]:
    """The section on distance to shifted images against accuracy; empty if it is not asked for."""
    wasserstein_spec = get_spec(job).wasserstein
    if wasserstein_spec is None:
        return []
    if not spots:
        return ["## Distances", "No student of a data set was tested on shifted images."]
    file = f"{FIGURES_FOLDER}/distances.png"
    distance_study.draw_scatter(job.folder / file, study, spots)
    picture = f"![Accuracy against distance]({file})"
    return ["## Distances", picture, distance_study.format_section(spots, wasserstein_spec)]


def format_opening(job: Job, study: Study, answers: Sequence[Answer]) -> list[str]:
    """The title, which student for which threat, a paragraph on the setting, and the main table."""
    groups, title = study.evaluated_groups, f"# {tables.escape_markdown(get_spec(job).title)}"
    said = "\n".join(f"- **{a.heading}:** {tables.escape_markdown(a.sentence)}" for a in answers)
    if not groups:
        return [title, said or "Nothing was evaluated.", describe_setting(study)]
    return [
        title,
        said,
        describe_setting(study),
        "## Accuracy",
        tables.format_results_table(groups, suspicious=list_suspicious_rows(study)),
        tables.format_caption(describe_columns(study)),
    ]


def format_corruptions(study: Study) -> list[str]:
    """The table with a column for each corruption; empty without any."""
    groups = study.evaluated_groups
    separate = tables.format_corruption_table(groups) if groups else ""
    return ["## Each corruption", separate] if separate else []


def describe_columns(study: Study) -> str:
    """The main table's caption, which explains columns and intervals."""
    several = any(len(group.members) > 1 for group in study.evaluated_groups)
    seeds = (
        "Where there are several seeds: mean ± half of Student's t interval over "
        f"{tables.describe_seed_spread(study.evaluated_groups)}. "
    )
    single = "One seed: Wilson interval over its test images; it covers test-image sampling only."
    corrupted = any(
        is_corruption(p) for group in study.evaluated_groups for p in group.common_points
    )
    mean = " For a mean of corruptions that interval is an upper bound." if corrupted else ""
    return (
        "Accuracy in percent with 95 % intervals; attacks in the L-infinity ball at eps 8/255 "
        "unless the head says otherwise; n is the number of test images. "
        f"{seeds if several else ''}{single}{mean}"
    )


def has_shifted_tests(study: Study) -> bool:
    """Whether a suite evaluated on another test set than the models' own."""
    return any(get_spec(e.manifest).shifted for e in study.get_artefacts("evaluation").values())


def format_optional_sections(study: Study, reference: str | None) -> list[str]:
    """The sections that depend on what was evaluated."""
    specs = [get_spec(e.manifest) for e in study.get_artefacts("evaluation").values()]
    attacks = [name for spec in specs for attack in spec.attacks for name in attack]
    parts = sections.format_statistics(study)
    parts += shift_table.format_section(study, reference) if has_shifted_tests(study) else []
    parts += (
        epoch_table.format_section(study) if any(spec.epoch is not None for spec in specs) else []
    )
    return parts + (boundary_table.format_section(study) if "boundary_risk" in attacks else [])


def format_comparisons(study: Study) -> list[str]:
    """The table of students with and without a bank, and the table of ingredients."""
    pairs, made = (
        tables.format_comparison_table(study),
        artefact_tables.format_ingredient_table(study),
    )
    banks = [
        f"bank {name} {artefact_tables.sum_costs([bank])['cpu_seconds']:,.0f}"
        for name, bank in study.get_artefacts("bank").items()
    ]
    note = (
        "First minus second in points, paired by image over the same test images, with the "
        "interval of 2000 bootstrap resamples over images; seeds are averaged first, so the "
        "intervals do not cover them. Costs are first / second. «Equal» says which costs agree "
        "(CPU-seconds and samples to within a factor of 1.25): a gain at equal epochs is not yet "
        "one at equal cost. CPU-seconds of a student leave out its teachers and its bank, which "
        f"are shared ({'; '.join(banks)} CPU-seconds)."
    )
    return [
        *(["## With and without a bank", pairs, tables.format_caption(note)] if pairs else []),
        *(["## Ingredients", made] if made else []),
    ]


def format_figures(drawn: Sequence[FigureFile]) -> list[str]:
    """The figures with captions."""
    parts = ["## Figures"]
    for figure in drawn:
        parts += [f"![{figure.kind}]({figure.file})", tables.format_caption(figure.caption)]
    return parts


def format_costs(study: Study) -> list[str]:
    """The tables of cost and reuse."""
    parts = ["## Cost", artefact_tables.format_cost_table(study)] if study.artefacts else []
    shared = artefact_tables.format_reuse_table(study)
    note = "Direct readers; evaluations are those of the artefact itself and of the students."
    return [*parts, *(["## Reuse", shared, tables.format_caption(note)] if shared else [])]


def format_reproduction(study: Study) -> list[str]:
    """The versions of software, and the keys of all artefacts in the store."""
    text = (
        f"Made with {artefact_tables.describe_versions(study)}. Every artefact lies at "
        "`<kind>/<key>` in the store, beside its `spec.json` and `manifest.json`; the same "
        "configuration and code give the same keys."
    )
    return ["## Reproduce", text, artefact_tables.format_key_table(study)]
