"""Generators: warmed up from a teacher, at the size of its images."""

from pipeline.planning.compatibility.fits import data_of, family_for
from pipeline.planning.compatibility.generators import check_generator, modules_of
from pipeline.planning.plan import SEED, Entry, dumped
from pipeline.planning.resolver import Resolver, spreading


def entry(resolver: Resolver, name: str, seed: int | None = None) -> Entry:
    """A generator with its warm student, of the first of its seeds if none is given."""
    section, where = resolver.config.generators[name], f"generators.{name}"
    inputs = {"teacher": resolver.classifier(section.teacher, f"{where}.teacher")}
    check_generator(resolver.config, where, section)
    spec = {**dumped(section, without=("teacher", "seeds")), **resolver.common()}
    label = name
    if section.seeds is not None:
        spec["seed"] = section.seeds[0] if seed is None else seed
        label = f"{name}{SEED}{spec['seed']}"
    shown = data_of(resolver.config, section.teacher)
    family = family_for(resolver.config, section.model, f"{where}.model", shown)
    plugins = (family, "pipeline.objectives.data_free_kd", *modules_of(section))
    plugins += spreading(section.recipe)
    return Entry("generator", label, spec, inputs, plugins)
