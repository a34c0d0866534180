"""The report's tables of what was made: ingredients, costs, reuse, keys."""

from collections.abc import Iterator, Sequence

from pipeline.config.sections.discretizer import DiscretizerSpec
from pipeline.config.sections.teacher import TeacherSpec
from pipeline.config.specs import spec_of
from pipeline.report.outcomes import CLEAN, Group, Study
from pipeline.report.tables import NONE, amount, grid, signed
from pipeline.store.artifact import STAGES, Artifact, read_json
from pipeline.store.attempt_cost import cost_of

REVISION = 2

SHARED = ("discretizer", "teacher", "bank", "generator")
Fact = tuple[str, str, str]  # ingredient, measure, value


def ingredients(study: Study) -> str:
    """What the students were made from, and how good it is."""
    rows: list[Fact] = []
    for name, artifact in study.of("discretizer").items():
        what = f"discretiser {name} ({'' if origin(spec_of(artifact.manifest)) else 'small '}VQGAN)"
        rows += [(what, *fact) for fact in quantiser_facts(artifact)]
    for group in study.groups:
        if group.kind == "teacher":
            rows += teacher_facts(group)
    for name, artifact in study.of("bank").items():
        rows += [(f"bank {name}", *fact) for fact in bank_facts(artifact.manifest.facts)]
    for name, artifact in study.of("generator").items():
        rows += [(f"generator {name}", *fact) for fact in generator_facts(study, artifact)]
    return grid(["ingredient", "measure", "value"], unrepeated(rows), left=2) if rows else ""


def unrepeated(rows: Sequence[Fact]) -> list[Fact]:
    """The rows with the first cell only where it changes."""
    before = ["", *(row[0] for row in rows)]
    return [
        ("" if name == last else name, *rest)
        for last, (name, *rest) in zip(before, rows, strict=False)
    ]


def share(value: float, digits: int = 1) -> str:
    """A share in [0,1] as percent."""
    return f"{100 * value:.{digits}f} %"


def quantiser_facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Quality of a discretiser on the test images."""
    facts = artifact.manifest.facts
    if came := origin(spec_of(artifact.manifest)):
        yield "made", came
    if "psnr_db" not in facts:
        yield "codes", f"{facts['n_codes']:,}"
        return
    yield f"PSNR of Q(x), mean of {facts['images']:,} test images", f"{facts['psnr_db']:.1f} dB"
    yield f"codes in use of {facts['n_codes']}", share(facts["codes_used"], 0)
    yield "tokens an image", "×".join(map(str, facts["grid"]))


def origin(spec: TeacherSpec | DiscretizerSpec) -> str:
    """What a teacher or discretiser from outside is; empty for what was trained here."""
    if isinstance(spec, DiscretizerSpec):
        return "" if spec.checkpoint is None else "VQGAN from a file"
    about = spec.open_clip
    if about is not None and about.pretrained == "random":
        return f"{about.model} at random weights: a trial, no result"
    if about is not None:
        return f"{about.model} from a file, {about.head} head"
    return "" if spec.checkpoint is None else f"{spec.model} from a file"


def teacher_facts(group: Group) -> Iterator[Fact]:
    """Accuracy of a teacher; of a CLIP, without any training on labels as such."""
    facts, spec = group.members[0].manifest.facts, spec_of(group.members[0].manifest)
    came = origin(spec) or ("small CLIP trained here" if spec.is_clip else "")
    name = f"teacher {group.name}" + (f" ({came})" if came else "")
    clean = group.estimate((CLEAN,))
    if "zero_shot" in facts:
        yield name, "zero-shot accuracy", share(facts["zero_shot"])
    elif clean is not None:
        tuned = spec.open_clip is not None and spec.open_clip.head == "finetuned"
        zero_shot = spec.is_clip and not tuned
        yield name, "zero-shot accuracy" if zero_shot else "clean test accuracy", share(clean.value)
    if "epochs" in facts:
        yield name, "epochs", str(facts["epochs"])


def bank_facts(facts: dict) -> Iterator[tuple[str, str]]:
    """Counts and rates of a bank, as far as they were measured."""
    yield "source rows", f"{facts['rows']:,}"
    for key, words, form in (
        ("acceptance", "accepted: the teacher still says the label", share),
        ("teacher_clean_accuracy", "teacher's accuracy on the clean rows", share),
        ("token_flips", "tokens of x' that differ from those of x", share),
        ("token_flips_requantised", "the same for Q(x): plain re-quantisation", share),
        ("token_flips_beyond", "flips beyond re-quantisation", points),
        ("pixel_change", "mean change of a pixel from Q(x)", greys),
    ):
        if key in facts:
            yield words, form(facts[key])


def points(value: float) -> str:
    """A difference of shares in percentage points."""
    return f"{signed(100 * value)} points"


def greys(value: float) -> str:
    """A difference of pixels in grey levels."""
    return f"{255 * value:.1f}/255"


def generator_facts(study: Study, artifact: Artifact) -> Iterator[tuple[str, str]]:
    """How long a generator was warmed up, and how good its warm student is where that is known."""
    manifest = artifact.manifest
    yield "made from teacher", study.name_of(manifest.inputs["teacher"])
    yield "epochs × steps", f"{manifest.facts['epochs']} × {spec_of(manifest).steps_per_epoch}"
    for name, value in manifest.facts.items():
        if "accuracy" in name:
            yield name.replace("_", " "), share(value)


def parts(study: Study) -> dict[tuple[str, str], list[Artifact]]:
    """Artefacts by kind and name in order of the graph; evaluations by suite."""
    found: dict[tuple[str, str], list[Artifact]] = {}
    for kind in STAGES:
        for name, artifact in study.of(kind).items():
            label = name.rpartition(".")[2] if kind == "evaluation" else name
            same = found.setdefault((kind, label), [])
            if artifact not in same:
                same.append(artifact)
    return found


def total(artifacts: Sequence[Artifact]) -> dict[str, float]:
    """Seconds, CPU-seconds and bytes added up, and the highest memory in MB."""
    costs = [cost_of(a.folder) for a in artifacts]
    size = sum(f["bytes"] for a in artifacts for f in a.manifest.files.values())
    return {
        "seconds": sum(c["seconds"] for c in costs),
        "cpu_seconds": sum(c["cpu_seconds"] for c in costs),
        "peak_mb": max(c["peak_mb"] for c in costs),
        "bytes": size,
    }


def costs(study: Study) -> str:
    """What every artefact cost to make and to keep."""
    rows = []
    for (kind, name), artifacts in parts(study).items():
        label = f"suite {name}, {evaluated(artifacts)}" if kind == "evaluation" else name
        rows.append([kind, label, *amounts(total(artifacts))])
    every = list(study.artifacts.values())
    rows.append(["all", f"{len(every)} artefacts", *amounts(total(every))])
    head = ["kind", "name", "seconds", "CPU-seconds", "peak MB", "MB on disk"]
    return grid(head, rows, left=2)


def evaluated(evaluations: Sequence[Artifact]) -> str:
    """How many models a suite looked at, and how often where it looked at several epochs."""
    models = {e.manifest.inputs["model"] for e in evaluations}
    often = len(evaluations)
    return f"{len(models)} models" + (f", {often} times" if often > len(models) else "")


def amounts(cost: dict[str, float]) -> list[str]:
    """A cost as cells."""
    values = [cost[name] for name in ("seconds", "cpu_seconds", "peak_mb")]
    return [amount(value) for value in (*values, cost["bytes"] / 1e6)]


def reuse(study: Study) -> str:
    """Which shared artefact was read by what; evaluations are those of its students."""
    rows = []
    for kind in SHARED:
        for name, artifact in study.of(kind).items():
            key = artifact.manifest.key
            readers = {k: names_reading(study, k, key) for k in ("bank", "generator", "student")}
            students = [study.of("student")[s].manifest.key for s in readers["student"]]
            suites = [a for a in study.artifacts.values() if a.manifest.kind == "evaluation"]
            tested = sum(e.manifest.inputs["model"] in (*students, key) for e in suites)
            cells = [", ".join(names) or NONE for names in readers.values()]
            rows.append([f"{kind} {name}", *cells, str(tested or NONE)])
    head = ["artefact", "banks", "generators", "students", "evaluations"]
    return grid(head, rows, left=4) if rows else ""


def names_reading(study: Study, kind: str, key: str) -> list[str]:
    """Names of the artefacts of a kind that were made directly from this one."""
    return [n for n, a in study.of(kind).items() if key in a.manifest.inputs.values()]


def keys(study: Study) -> str:
    """Where everything lies in the store."""
    rows = [
        [kind, name, artifact.manifest.key]
        for kind in STAGES
        for name, artifact in study.of(kind).items()
    ]
    return grid(["kind", "name", "key"], rows, left=3)


def versions(study: Study) -> str:
    """Versions of Python and torch that the artefacts were made with, as their timings say."""
    paths = [p for a in study.artifacts.values() for p in (a.folder / "attempts").glob("*.json")]
    notes = [read_json(path, "delete it: it only holds timings") for path in paths]
    found = {name: sorted({n[name] for n in notes if n.get(name)}) for name in ("python", "torch")}
    return "; ".join(f"{name} {', '.join(v) or 'unknown'}" for name, v in found.items())
