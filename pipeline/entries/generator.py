"""Generators: warmed up from a natural teacher, at the size of its images."""

from pipeline.config import Config
from pipeline.errors import RetortError
from pipeline.fits import data_of, family_for, shape_of
from pipeline.plan import Entry, dumped
from pipeline.resolver import Resolver
from pipeline.sections import Generator


def entry(resolver: Resolver, name: str) -> Entry:
    """A generator with its warm student."""
    section, where = resolver.config.generators[name], f"generators.{name}"
    inputs = {"teacher": resolver.classifier(section.teacher, f"{where}.teacher")}
    check_generator(resolver.config, where, section)
    spec = {**dumped(section, without=("teacher",)), **resolver.common()}
    family = family_for(resolver.config, section.model, f"{where}.model")
    return Entry("generator", name, spec, inputs, (family, "pipeline.objectives.data_free_kd"))


def check_generator(config: Config, where: str, generator: Generator) -> None:
    """Raise if a generator's images have another size than its teacher's."""
    _, height, width = shape_of(config, data_of(config, generator.teacher))
    if (height, width) != (generator.image, generator.image):
        raise RetortError(
            f"{where}.image: {generator.image} px, but teacher '{generator.teacher}' knows images "
            f"of {height}x{width}; set it to {height}"
        )
