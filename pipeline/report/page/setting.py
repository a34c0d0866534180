"""What a report compares, in words: models, data, device, and where the teachers come from."""

from pipeline.config.specs import get_spec
from pipeline.report.artefact_tables import describe_origin
from pipeline.report.outcomes import Study

REVISION = 1


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
        f"each: "
        f"{' or '.join(map(str, seeds)) or 0}), made from the teachers "
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
        n: describe_origin(spec) for n, spec in {**teacher_specs, **discretizer_specs}.items()
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
