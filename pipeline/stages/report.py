"""Stage: one report over everything that a configuration names."""

import shutil
from pathlib import Path

from pipeline.config.specs import spec_of
from pipeline.report import (
    artifact_tables,
    boundary_table,
    distance_study,
    epoch_table,
    figures,
    sanity_checks,
    shift_table,
    tables,
)
from pipeline.report.bank_samples import choose
from pipeline.report.html import page
from pipeline.report.outcomes import Study, curves, is_corruption, open_study
from pipeline.store.artifact import Artifact, Job, Manifest, replacing, write_text

REVISION = 1

FIGURES = "figures"


def run(job: Job) -> Manifest:
    """Write the report as Markdown and as one HTML file, its main table, and its figures."""
    study, spec = open_study(job), spec_of(job)
    drawn = draw(job, study)
    parts = [
        *opening(job, study),
        *extras(study),
        *compared(study),
        *shown(study, drawn),
        *distances(job, study, drawn),
        *doubted(study),
        *reproduced(study),
    ]
    text = "\n\n".join(part for part in parts if part)
    write_text(job.folder / "report.md", text + "\n")
    write_text(job.folder / "report.html", page(text, spec.title, job.folder))
    write_text(job.folder / "table.md", tables.results(study.evaluated, brief=True))
    files = ["report.md", "report.html", "table.md", *drawn.values()]
    return job.manifest(files, facts(study))


def facts(study: Study) -> dict:
    """The main table's accuracies in [0,1], and how many doubts there are."""
    columns = tables.columns_of(study.evaluated)
    found = {}
    for group in study.evaluated:
        estimates = {c.head: group.estimate(c.points) for c in columns}
        accuracy = {head: e.value for head, e in estimates.items() if e is not None}
        found[f"{group.kind}/{group.name}"] = accuracy
    more = {"shifted": shift_table.facts(study)} if has_shifts(study) else {}
    return {"accuracy": found, "suspicions": len(sanity_checks.suspicions(study)), **more}


def draw(job: Job, study: Study) -> dict[str, str]:
    """Draw what there is to draw; file names by what they show."""
    folder, drawn = job.folder / FIGURES, {}
    folder.mkdir(exist_ok=True)
    for name, bank in study.of("bank").items():
        chosen = choose(study, bank, spec_of(job).samples)
        if chosen:
            drawn[f"samples {name}"] = f"{FIGURES}/samples.png"
            figures.samples(folder / "samples.png", chosen)
            break
    for name, made in study.of("generator").items():
        drawn |= copied(folder, name, made)
    if curves(study.evaluated):
        drawn["curves"] = f"{FIGURES}/accuracy.png"
        figures.accuracy_curves(folder / "accuracy.png", study)
    if any(figures.histories(group) for group in study.groups):
        drawn["training"] = f"{FIGURES}/training.png"
        figures.training_curves(folder / "training.png", study)
    if figures.with_cosines(study):
        drawn["cosine"] = f"{FIGURES}/cosine.png"
        figures.cosine_curves(folder / "cosine.png", study)
    if study.artifacts:
        drawn["cost"] = f"{FIGURES}/cost.png"
        figures.cost_bars(folder / "cost.png", study)
    return drawn


def distances(job: Job, study: Study, drawn: dict[str, str]) -> list[str]:
    """Distance to the shifted images against accuracy, where the configuration asks for it."""
    about = spec_of(job).wasserstein
    if about is None:
        return []
    spots = distance_study.measured(study, about)
    if not spots:
        return ["## Distances", "No student of a data set was tested on corruptions."]
    drawn["distances"] = f"{FIGURES}/distances.png"
    distance_study.scatter(job.folder / drawn["distances"], study, spots)
    picture = f"![Accuracy against distance]({drawn['distances']})"
    return ["## Distances", picture, distance_study.section(spots, about)]


def copied(folder: Path, name: str, made: Artifact) -> dict[str, str]:
    """A generator's grids of images, in order of training: what they show, and their copies."""
    found = {}
    for file in sorted(f for f in made.manifest.files if f.startswith("samples")):
        epoch = file.removeprefix("samples").removesuffix(".png")
        label = f"{name}, epoch {int(epoch[1:])}" if epoch else name
        found[f"generator {label}"] = f"{FIGURES}/generator-{name}{epoch}.png"
        with replacing(folder / f"generator-{name}{epoch}.png") as temporary:
            shutil.copyfile(made.path(file), temporary)
    return found


def opening(job: Job, study: Study) -> list[str]:
    """Title, what was compared on what, and the main table."""
    groups, title = study.evaluated, f"# {tables.plain(spec_of(job).title)}"
    if not groups:
        return [title, setting(study), "Nothing was evaluated."]
    separate = tables.corruptions(groups)
    return [
        title,
        setting(study),
        "## Accuracy",
        tables.results(groups),
        tables.caption(reading(study)),
        "### Each corruption" if separate else "",
        separate,
    ]


def setting(study: Study) -> str:
    """One paragraph: what was trained on what, and what is small about it."""
    sizes = [
        f"{name} ({counts['train']:,} training, {counts['val']:,} validation and "
        f"{counts['test']:,} test images)"
        for name, data in study.of("dataset").items()
        for counts in [data.manifest.facts["counts"]]
    ]
    manifests = [artifact.manifest for artifact in study.artifacts.values()]
    devices = {spec_of(made).device for made in manifests if made.kind != "dataset"} - {None}
    entries = {g.kind: [h.name for h in study.groups if h.kind == g.kind] for g in study.groups}
    seeds = sorted({len(g.members) for g in study.groups if g.kind == "student"})
    parts = [
        f"Compared here: the students {', '.join(entries.get('student', ['none']))} (seeds each: "
        f"{' or '.join(map(str, seeds)) or 0}), made from the teachers "
        f"{', '.join(entries.get('teacher', ['none']))}. Data: {'; '.join(sizes)}; device: "
        f"{', '.join(sorted(devices)) or 'unknown'}.",
        *sources(study),
    ]
    return " ".join(part for part in parts if part)


def sources(study: Study) -> list[str]:
    """Which teachers and discretisers were trained here, and which came from files."""
    specs = {n: spec_of(t.manifest) for n, t in study.of("teacher").items()}
    quantisers = {n: spec_of(q.manifest) for n, q in study.of("discretizer").items()}
    told = {n: artifact_tables.origin(spec) for n, spec in {**specs, **quantisers}.items()}
    came = {n: what for n, what in told.items() if what}
    clips = ", ".join(n for n, spec in specs.items() if spec.clip is not None)
    here = "All" if not came.keys() & specs.keys() else "The other"
    return [
        "; ".join(f"{name} is {what}" for name, what in came.items()) + "." if came else "",
        f"{here} teachers were trained here on these data, so they are small; none is a published "
        "checkpoint."
        if specs.keys() - came.keys()
        else "",
        f"{clips}: a small CLIP trained here, used zero-shot." if clips else "",
        "The discretiser is a small VQGAN trained here." if quantisers.keys() - came.keys() else "",
    ]


def reading(study: Study) -> str:
    """The main table's caption: what the columns and the intervals are."""
    several = any(len(group.members) > 1 for group in study.evaluated)
    seeds = (
        "Where there are several seeds: mean ± half of Student's t interval over "
        f"{tables.spread_over(study.evaluated)}. "
    )
    single = "One seed: Wilson interval over its test images; it covers test-image sampling only."
    corrupted = any(is_corruption(p) for group in study.evaluated for p in group.points)
    mean = " For a mean of corruptions that interval is an upper bound." if corrupted else ""
    return (
        "Accuracy in percent with 95 % intervals; attacks in the L-infinity ball at eps 8/255 "
        "unless the head says otherwise; n is the number of test images. "
        f"{seeds if several else ''}{single}{mean}"
    )


def has_shifts(study: Study) -> bool:
    """Whether a suite looked at other test sets than the models' own."""
    return any(spec_of(e.manifest).shifted for e in study.of("evaluation").values())


def extras(study: Study) -> list[str]:
    """Sections that a report has if its evaluations ask for them."""
    specs = [spec_of(e.manifest) for e in study.of("evaluation").values()]
    attacks = [name for spec in specs for attack in spec.attacks for name in attack]
    parts = shift_table.section(study) if has_shifts(study) else []
    parts += epoch_table.section(study) if any(spec.epoch is not None for spec in specs) else []
    return parts + (boundary_table.section(study) if "boundary_risk" in attacks else [])


def compared(study: Study) -> list[str]:
    """Students with a bank against those without, and what they were made from."""
    pairs, made = tables.comparisons(study), artifact_tables.ingredients(study)
    banks = [
        f"bank {name} {artifact_tables.total([bank])['cpu_seconds']:,.0f}"
        for name, bank in study.of("bank").items()
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
        *(["## With and without a bank", pairs, tables.caption(note)] if pairs else []),
        *(["## Ingredients", made] if made else []),
    ]


def shown(study: Study, drawn: dict[str, str]) -> list[str]:
    """Figures with captions, and the tables of cost and reuse beside them."""
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
    for key, path in drawn.items():
        kind, _, name = key.partition(" ")
        text = captions[kind].format(name)
        parts += [f"![{kind} {name}]({path})".replace(" ]", "]"), tables.caption(text)]
    parts += ["## Cost", artifact_tables.costs(study)] if study.artifacts else []
    shared = artifact_tables.reuse(study)
    note = "Direct readers; evaluations are those of the artefact itself and of the students."
    return [*parts, *(["## Reuse", shared, tables.caption(note)] if shared else [])]


def doubted(study: Study) -> list[str]:
    """Automatic checks of the numbers, and what other code than today's has made."""
    doubts, old = sanity_checks.suspicions(study), sanity_checks.outdated(study)
    checks = (
        "Checked for each model, on the images that both attacks saw: accuracy under attack above "
        "clean; PGD weaker than FGSM, or than PGD with fewer steps; AutoAttack above PGD, or ten "
        "points below it; a larger radius that leaves more accuracy."
    )
    made = "Everything was made by today's code."
    return [
        "## Suspicious?",
        checks,
        bullets(doubts) or "Found: none.",
        f"Made by other code than today's:\n\n{bullets(old)}" if old else made,
    ]


def bullets(lines: list[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {tables.plain(line)}" for line in lines)


def reproduced(study: Study) -> list[str]:
    """Versions, and the keys under which everything lies in the store."""
    text = (
        f"Made with {artifact_tables.versions(study)}. Every artefact lies at `<kind>/<key>` in "
        "the store, beside its `spec.json` and `manifest.json`; the same configuration and "
        "code give the same keys."
    )
    return ["## Reproduce", text, artifact_tables.keys(study)]
