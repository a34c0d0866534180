"""The report's tables of artefacts: ingredients, costs, reuse, keys and versions."""

from collections.abc import Iterator, Sequence

from pipeline.config.sections.discretizer import DiscretizerSpec
from pipeline.config.sections.teacher import TeacherSpec
from pipeline.config.specs import get_spec
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Study
from pipeline.report.tables import MISSING_CELL, format_amount, format_markdown_table, format_signed
from pipeline.store.artefact import STAGES_BY_KIND, Artefact
from pipeline.store.attempt_cost import read_attempt_record, sum_attempt_costs

REVISION = 2

SHARED_KINDS = ("discretizer", "teacher", "bank", "generator")
FactRow = tuple[str, str, str]  # ingredient, measure, value


def format_ingredient_table(study: Study) -> str:
    """The table of what the students learnt from, and how good it is; empty if there is nothing."""
    rows: list[FactRow] = []
    for name, artefact in study.get_artefacts("discretizer").items():
        size = "" if describe_origin(get_spec(artefact.manifest)) else "small "
        what = f"discretiser {name} ({size}VQGAN)"
        rows += [(what, *fact) for fact in iterate_discretizer_facts(artefact)]
    for group in study.groups:
        if group.kind == "teacher":
            rows += iterate_teacher_facts(group)
    for name, artefact in study.get_artefacts("bank").items():
        rows += [(f"bank {name}", *fact) for fact in iterate_bank_facts(artefact.manifest.facts)]
    for name, artefact in study.get_artefacts("generator").items():
        rows += [(f"generator {name}", *fact) for fact in iterate_generator_facts(study, artefact)]
    return (
        format_markdown_table(
            ["ingredient", "measure", "value"], blank_repeated_names(rows), left_columns=2
        )
        if rows
        else ""
    )


def blank_repeated_names(rows: Sequence[FactRow]) -> list[FactRow]:
    """The rows, with the first cell blank where it repeats that of the row above."""
    previous_names = ["", *(row[0] for row in rows)]
    return [
        ("" if name == last else name, *rest)
        for last, (name, *rest) in zip(previous_names, rows, strict=False)
    ]


def format_percent(value: float, digits: int = 1) -> str:
    """A share in [0,1] in percent: ``58.1 %``."""
    return f"{100 * value:.{digits}f} %"


def iterate_discretizer_facts(artefact: Artefact) -> Iterator[tuple[str, str]]:
    """Measures and values of a discretizer's quality on the test images."""
    facts = artefact.manifest.facts
    if origin_text := describe_origin(get_spec(artefact.manifest)):
        yield "made", origin_text
    if "psnr_db" not in facts:
        yield "codes", f"{facts['n_codes']:,}"
        return
    yield f"PSNR of Q(x), mean of {facts['images']:,} test images", f"{facts['psnr_db']:.1f} dB"
    yield f"codes in use of {facts['n_codes']}", format_percent(facts["codes_used"], 0)
    yield "tokens an image", "×".join(map(str, facts["grid"]))


def describe_origin(spec: TeacherSpec | DiscretizerSpec) -> str:
    """What a teacher or discretizer from a file is; empty for one that was trained here."""
    if isinstance(spec, DiscretizerSpec):
        return "" if spec.checkpoint is None else "VQGAN from a file"
    open_clip_spec = spec.open_clip
    if open_clip_spec is not None and open_clip_spec.pretrained == "random":
        return f"{open_clip_spec.model} at random weights: a trial, no result"
    if open_clip_spec is not None:
        return f"{open_clip_spec.model} from a file, {open_clip_spec.head} head"
    return "" if spec.checkpoint is None else f"{spec.model} from a file"


def iterate_teacher_facts(group: ModelGroup) -> Iterator[FactRow]:
    """Rows with a teacher's accuracy (zero-shot for a CLIP without a tuned head) and epochs."""
    facts, spec = group.members[0].manifest.facts, get_spec(group.members[0].manifest)
    origin_text = describe_origin(spec) or ("small CLIP trained here" if spec.is_clip else "")
    name = f"teacher {group.name}" + (f" ({origin_text})" if origin_text else "")
    clean = group.estimate_accuracy((CLEAN_POINT,))
    if "zero_shot" in facts:
        yield name, "zero-shot accuracy", format_percent(facts["zero_shot"])
    elif clean is not None:
        tuned = spec.open_clip is not None and spec.open_clip.head == "finetuned"
        zero_shot = spec.is_clip and not tuned
        yield (
            name,
            "zero-shot accuracy" if zero_shot else "clean test accuracy",
            format_percent(clean.value),
        )
    if "epochs" in facts:
        yield name, "epochs", str(facts["epochs"])


def iterate_bank_facts(facts: dict) -> Iterator[tuple[str, str]]:
    """Measures and values of a bank: its source rows, and the rates that were measured."""
    yield "source rows", f"{facts['rows']:,}"
    for key, description, format_value in (
        ("acceptance", "accepted: the teacher still says the label", format_percent),
        ("teacher_clean_accuracy", "teacher's accuracy on the clean rows", format_percent),
        ("token_flips", "tokens of x' that differ from those of x", format_percent),
        ("token_flips_requantised", "the same for Q(x): plain re-quantisation", format_percent),
        ("token_flips_beyond", "flips beyond re-quantisation", format_points),
        ("pixel_change", "mean change of a pixel from Q(x)", format_grey_levels),
        ("sample_change", "mean change of a pixel from the image", format_grey_levels),
    ):
        if key in facts:
            yield description, format_value(facts[key])


def format_points(value: float) -> str:
    """A difference of two shares, in percentage points: ``+0.3 points``."""
    return f"{format_signed(100 * value)} points"


def format_grey_levels(value: float) -> str:
    """A difference of pixels in [0,1], in grey levels: ``3.1/255``."""
    return f"{255 * value:.1f}/255"


def iterate_generator_facts(study: Study, artefact: Artefact) -> Iterator[tuple[str, str]]:
    """Measures and values of a generator: teacher, warm-up, its student's accuracy."""
    manifest = artefact.manifest
    yield "made from teacher", study.find_name(manifest.inputs["teacher"])
    yield "epochs × steps", f"{manifest.facts['epochs']} × {get_spec(manifest).steps_per_epoch}"
    for name, value in manifest.facts.items():
        if "accuracy" in name:
            yield name.replace("_", " "), format_percent(value)


def group_artefacts(study: Study) -> dict[tuple[str, str], list[Artefact]]:
    """Artefacts by kind and name, in the order of `STAGES_BY_KIND`; evaluations by suite."""
    found: dict[tuple[str, str], list[Artefact]] = {}
    for kind in STAGES_BY_KIND:
        for name, artefact in study.get_artefacts(kind).items():
            label = study.find_suite(name, artefact) if kind == "evaluation" else name
            group = found.setdefault((kind, label), [])
            if artefact not in group:
                group.append(artefact)
    return found


def sum_costs(artefacts: Sequence[Artefact]) -> dict[str, float]:
    """Seconds, CPU-seconds and bytes added up, and the highest memory in MB."""
    costs = [sum_attempt_costs(a.folder) for a in artefacts]
    size = sum(f["bytes"] for a in artefacts for f in a.manifest.files.values())
    return {
        "seconds": sum(c["seconds"] for c in costs),
        "cpu_seconds": sum(c["cpu_seconds"] for c in costs),
        "peak_mb": max(c["peak_mb"] for c in costs),
        "bytes": size,
    }


def format_cost_table(study: Study) -> str:
    """The table of what each artefact cost: seconds, CPU-seconds, memory and disk."""
    rows = []
    for (kind, name), artefacts in group_artefacts(study).items():
        label = f"suite {name}, {describe_evaluations(artefacts)}" if kind == "evaluation" else name
        rows.append([kind, label, *format_cost_cells(sum_costs(artefacts))])
    all_artefacts = list(study.artefacts.values())
    rows.append(
        ["all", f"{len(all_artefacts)} artefacts", *format_cost_cells(sum_costs(all_artefacts))]
    )
    head = ["kind", "name", "seconds", "CPU-seconds", "peak MB", "MB on disk"]
    return format_markdown_table(head, rows, left_columns=2)


def describe_evaluations(evaluations: Sequence[Artefact]) -> str:
    """How many models a suite evaluated, and how often if it evaluated several epochs."""
    models = {e.manifest.inputs["model"] for e in evaluations}
    evaluation_count = len(evaluations)
    return f"{len(models)} models" + (
        f", {evaluation_count} times" if evaluation_count > len(models) else ""
    )


def format_cost_cells(cost: dict[str, float]) -> list[str]:
    """The cells of one row of the cost table."""
    values = [cost[name] for name in ("seconds", "cpu_seconds", "peak_mb")]
    return [format_amount(value) for value in (*values, cost["bytes"] / 1e6)]


def format_reuse_table(study: Study) -> str:
    """The table of the artefacts that read each shared one, and of its students' evaluations."""
    rows = []
    for kind in SHARED_KINDS:
        for name, artefact in study.get_artefacts(kind).items():
            key = artefact.manifest.key
            readers = {
                k: list_reader_names(study, k, key) for k in ("bank", "generator", "student")
            }
            students = [study.get_artefacts("student")[s].manifest.key for s in readers["student"]]
            suites = [a for a in study.artefacts.values() if a.manifest.kind == "evaluation"]
            tested = sum(e.manifest.inputs["model"] in (*students, key) for e in suites)
            cells = [", ".join(names) or MISSING_CELL for names in readers.values()]
            rows.append([f"{kind} {name}", *cells, str(tested or MISSING_CELL)])
    head = ["artefact", "banks", "generators", "students", "evaluations"]
    return format_markdown_table(head, rows, left_columns=4) if rows else ""


def list_reader_names(study: Study, kind: str, key: str) -> list[str]:
    """Names of the artefacts of a kind that have the artefact ``key`` as an input."""
    return [n for n, a in study.get_artefacts(kind).items() if key in a.manifest.inputs.values()]


def format_key_table(study: Study) -> str:
    """The table of every artefact's kind, name and key."""
    rows = [
        [kind, name, artefact.manifest.key]
        for kind in STAGES_BY_KIND
        for name, artefact in study.get_artefacts(kind).items()
    ]
    return format_markdown_table(["kind", "name", "key"], rows, left_columns=3)


def describe_versions(study: Study) -> str:
    """Versions of Python and torch that the artefacts' timings record."""
    paths = [p for a in study.artefacts.values() for p in (a.folder / "attempts").glob("*.json")]
    cost_records = [record for path in paths if (record := read_attempt_record(path)) is not None]
    found = {
        name: sorted({str(n[name]) for n in cost_records if n.get(name)})
        for name in ("python", "torch")
    }
    return "; ".join(f"{name} {', '.join(v) or 'unknown'}" for name, v in found.items())
