"""Stage: one report over all artefacts of a configuration."""

import shutil
from pathlib import Path

from pipeline.config.specs import get_spec
from pipeline.report import (
    artefact_tables,
    boundary_table,
    distance_study,
    epoch_table,
    figures,
    sanity_checks,
    shift_table,
    tables,
)
from pipeline.report.bank_samples import choose_bank_samples
from pipeline.report.html import render_page
from pipeline.report.outcomes import Study, find_accuracy_curves, is_corruption, open_study
from pipeline.report.papers import section as paper_section
from pipeline.report.sanity_checks import list_suspicious_rows
from pipeline.report.statistics import sections
from pipeline.store.artefact import Artefact, Job, Manifest, write_atomically, write_text

REVISION = 1

FIGURES_FOLDER = "figures"


def run(job: Job) -> Manifest:
    """Write the report as Markdown and as one HTML file, its main table, and its figures."""
    study, spec = open_study(job), get_spec(job)
    figure_files = draw_figures(job, study)
    paper_parts, paper_files = paper_section.add_tables(job.folder, study, spec.tables)
    parts = [
        *format_opening(job, study),
        *format_optional_sections(study, spec.corruption_reference),
        *paper_parts,
        *format_comparisons(study),
        *format_figures(study, figure_files),
        *format_distances(job, study, figure_files),
        *sanity_checks.format_section(study),
        *format_reproduction(study),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_text(job.folder / "report.md", text)
    write_text(job.folder / "report.html", render_page(text, spec.title, job.folder))
    write_text(
        job.folder / "table.md",
        tables.format_results_table(study.evaluated_groups, True, list_suspicious_rows(study)),
    )
    files = ["report.md", "report.html", "table.md", *figure_files.values(), *paper_files]
    return job.build_manifest(files, collect_facts(study, spec.corruption_reference))


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


def draw_figures(job: Job, study: Study) -> dict[str, str]:
    """Draw every figure that the study has data for, and return the file names by figure."""
    folder, figure_files = job.folder / FIGURES_FOLDER, {}
    folder.mkdir(exist_ok=True)
    for name, bank in study.get_artefacts("bank").items():
        chosen = choose_bank_samples(study, bank, get_spec(job).samples)
        if chosen:
            figure_files[f"samples {name}"] = f"{FIGURES_FOLDER}/samples.png"
            figures.draw_bank_samples(folder / "samples.png", chosen)
            break
    for name, made in study.get_artefacts("generator").items():
        figure_files |= copy_generator_grids(folder, name, made)
    if find_accuracy_curves(study.evaluated_groups):
        figure_files["curves"] = f"{FIGURES_FOLDER}/accuracy.png"
        figures.draw_accuracy_curves(folder / "accuracy.png", study)
    if any(figures.read_histories(group) for group in study.groups):
        figure_files["training"] = f"{FIGURES_FOLDER}/training.png"
        figures.draw_training_curves(folder / "training.png", study)
    if figures.find_groups_with_cosines(study):
        figure_files["cosine"] = f"{FIGURES_FOLDER}/cosine.png"
        figures.draw_cosine_curves(folder / "cosine.png", study)
    if study.artefacts:
        figure_files["cost"] = f"{FIGURES_FOLDER}/cost.png"
        figures.draw_cost_bars(folder / "cost.png", study)
    return figure_files


def format_distances(job: Job, study: Study, figure_files: dict[str, str]) -> list[str]:
    """The section on distance to shifted images against accuracy; empty if it is not asked for."""
    wasserstein_spec = get_spec(job).wasserstein
    if wasserstein_spec is None:
        return []
    spots = distance_study.measure_distances(study, wasserstein_spec)
    if not spots:
        return ["## Distances", "No student of a data set was tested on corruptions."]
    figure_files["distances"] = f"{FIGURES_FOLDER}/distances.png"
    distance_study.draw_scatter(job.folder / figure_files["distances"], study, spots)
    picture = f"![Accuracy against distance]({figure_files['distances']})"
    return ["## Distances", picture, distance_study.format_section(spots, wasserstein_spec)]


def copy_generator_grids(folder: Path, name: str, generator: Artefact) -> dict[str, str]:
    """Copy a generator's image grids and return the file names by figure, in training order."""
    found = {}
    for file in sorted(f for f in generator.manifest.files if f.startswith("samples")):
        epoch = file.removeprefix("samples").removesuffix(".png")
        label = f"{name}, epoch {int(epoch[1:])}" if epoch else name
        found[f"generator {label}"] = f"{FIGURES_FOLDER}/generator-{name}{epoch}.png"
        with write_atomically(folder / f"generator-{name}{epoch}.png") as temporary:
            shutil.copyfile(generator.get_verified_path(file), temporary)
    return found


def format_opening(job: Job, study: Study) -> list[str]:
    """The title, a paragraph on the setting, and the main table."""
    groups, title = study.evaluated_groups, f"# {tables.escape_markdown(get_spec(job).title)}"
    if not groups:
        return [title, describe_setting(study), "Nothing was evaluated."]
    separate = tables.format_corruption_table(groups)
    return [
        title,
        describe_setting(study),
        "## Accuracy",
        tables.format_results_table(groups, suspicious=list_suspicious_rows(study)),
        tables.format_caption(describe_columns(study)),
        "### Each corruption" if separate else "",
        separate,
    ]


def describe_setting(study: Study) -> str:
    """A paragraph on the setting: what was trained on which data, and how small it is."""
    sizes = [
        f"{name} ({counts['train']:,} training, {counts['val']:,} validation and "
        f"{counts['test']:,} test images)"
        for name, data in study.get_artefacts("dataset").items()
        for counts in [data.manifest.facts["counts"]]
    ]
    manifests = [artefact.manifest for artefact in study.artefacts.values()]
    devices = {get_spec(made).device for made in manifests if made.kind != "dataset"} - {None}
    names_by_kind = {
        g.kind: [h.name for h in study.groups if h.kind == g.kind] for g in study.groups
    }
    seeds = sorted({len(g.members) for g in study.groups if g.kind == "student"})
    parts = [
        f"Compared here: the students {', '.join(names_by_kind.get('student', ['none']))} (seeds "
        f"each: {' or '.join(map(str, seeds)) or 0}), made from the teachers "
        f"{', '.join(names_by_kind.get('teacher', ['none']))}. Data: {'; '.join(sizes)}; device: "
        f"{', '.join(sorted(devices)) or 'unknown'}.",
        *describe_sources(study),
    ]
    return " ".join(part for part in parts if part)


def describe_sources(study: Study) -> list[str]:
    """Sentences on which teachers and discretizers were trained here and which came from files."""
    teacher_specs = {n: get_spec(t.manifest) for n, t in study.get_artefacts("teacher").items()}
    discretizer_specs = {
        n: get_spec(q.manifest) for n, q in study.get_artefacts("discretizer").items()
    }
    origins = {
        n: artefact_tables.describe_origin(spec)
        for n, spec in {**teacher_specs, **discretizer_specs}.items()
    }
    external_origins = {n: what for n, what in origins.items() if what}
    clips = ", ".join(n for n, spec in teacher_specs.items() if spec.clip is not None)
    here = "All" if not external_origins.keys() & teacher_specs.keys() else "The other"
    return [
        "; ".join(f"{name} is {what}" for name, what in external_origins.items()) + "."
        if external_origins
        else "",
        f"{here} teachers were trained here on these data, so they are small; none is a published "
        "checkpoint."
        if teacher_specs.keys() - external_origins.keys()
        else "",
        f"{clips}: a small CLIP trained here, used zero-shot." if clips else "",
        "The discretiser is a small VQGAN trained here."
        if discretizer_specs.keys() - external_origins.keys()
        else "",
    ]


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


def format_figures(study: Study, figure_files: dict[str, str]) -> list[str]:
    """The figures with captions, and the tables of cost and reuse."""
    captions = {
        "samples": "Samples of bank {}: the image, what the discretiser makes of it, what it makes "
        "of the attacked image, and their difference times ten. The teacher's answer is the one "
        "to the third.",
        "generator": "Images from generator {}, which saw no data.",
        "cosine": "Cosine of the two teachers' gradients in DERD's students, mean of each epoch: "
        "below zero they pull against each other.",
        "curves": "Accuracy against the radius of the attack; shaded: 95 % intervals as in the "
        "main table. Students are solid, teachers dashed.",
        "training": "Training of students and teachers, one line a seed: sum of the loss terms, "
        "whose scales differ between objectives, and clean accuracy on the validation split.",
        "cost": "CPU-seconds of each artefact, all attempts added up; evaluations by suite.",
    }
    parts = ["## Figures"]
    for key, path in figure_files.items():
        kind, _, name = key.partition(" ")
        text = captions[kind].format(name)
        parts += [f"![{kind} {name}]({path})".replace(" ]", "]"), tables.format_caption(text)]
    parts += ["## Cost", artefact_tables.format_cost_table(study)] if study.artefacts else []
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
