"""Students: one artefact a seed."""

from pipeline.planning.compatibility.fits import family_for
from pipeline.planning.compatibility.generators import modules_of
from pipeline.planning.compatibility.grids import check_grid
from pipeline.planning.compatibility.students import check_student, settings
from pipeline.planning.plan import Entry, dumped
from pipeline.planning.resolver import Resolver, objective_module, spreading

SOURCES = {
    "dataset": "datasets",
    "bank": "banks",
    "generator": "generators",
    "discretizer": "discretizers",
}


def entry(resolver: Resolver, name: str, seed: int | None = None) -> Entry:
    """A student of one seed, its first if none is given."""
    config, section, where = resolver.config, resolver.config.students[name], f"students.{name}"
    seed = resolver.seeds(name)[0] if seed is None else seed
    inputs = {}
    for role, label in SOURCES.items():
        if (target := getattr(section, role)) is not None:
            inputs[role] = resolver.get(label, target, f"{where}.{role}")
    if section.generator is not None:
        inputs["generator"] = resolver.warm_up(section.generator, seed, f"{where}.generator")
    if section.extra is not None:
        inputs["extra"] = resolver.get("datasets", section.extra.dataset, f"{where}.extra.dataset")
    for role, target in section.teachers.items():
        inputs[f"teachers.{role}"] = resolver.classifier(target, f"{where}.teachers.{role}")
    check_student(config, where, section)
    if section.discretizer and section.dataset:
        spec = inputs["discretizer"].spec
        check_grid(config, f"{where}.discretizer", spec, section.dataset)
    more = settings(config, section)
    without = (*SOURCES, "extra", "teachers", "seeds")
    spec = {**dumped(section, without=without), **more, **resolver.common(), "seed": seed}
    family = family_for(config, section.model, f"{where}.model", section.dataset)
    plugins = (objective_module(section.objective), family, *spreading(section.recipe))
    plugins += ("pipeline.data.mixture",) if more else ()
    plugins += ("pipeline.models.vqgan",) if section.discretizer else ()
    plugins += modules_of(config.generators[section.generator]) if section.generator else ()
    plugins += ("pipeline.models.pretrained.finetune_init",) if section.init else ()
    outside = {"init": spec["init"].pop("path")} if section.init else {}
    return Entry("student", f"{name}-{seed}", spec, inputs, plugins, outside=outside)
