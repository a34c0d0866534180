"""Generators: warmed up from a teacher, at the size of its images."""

from pipeline.fits import data_of, family_for
from pipeline.generators import check_generator, modules_of
from pipeline.plan import Entry, dumped
from pipeline.resolver import Resolver, spreading


def entry(resolver: Resolver, name: str) -> Entry:
    """A generator with its warm student."""
    section, where = resolver.config.generators[name], f"generators.{name}"
    inputs = {"teacher": resolver.classifier(section.teacher, f"{where}.teacher")}
    check_generator(resolver.config, where, section)
    spec = {**dumped(section, without=("teacher",)), **resolver.common()}
    shown = data_of(resolver.config, section.teacher)
    family = family_for(resolver.config, section.model, f"{where}.model", shown)
    plugins = (family, "pipeline.objectives.data_free_kd", *modules_of(section))
    plugins += spreading(section.recipe)
    return Entry("generator", name, spec, inputs, plugins)
