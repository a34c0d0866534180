"""Teachers: trained on a data set, loaded from a file, or a small CLIP."""

from pipeline.config import Config
from pipeline.errors import RetortError
from pipeline.fits import check_needs, check_recipe, classes_of, family_for, labels_given
from pipeline.plan import Entry, dumped
from pipeline.resolver import Resolver, objective_module
from pipeline.sections import Teacher


def entry(resolver: Resolver, name: str) -> Entry:
    """A teacher of any kind."""
    config, section, where = resolver.config, resolver.config.teachers[name], f"teachers.{name}"
    inputs = {"dataset": resolver.get("datasets", section.dataset, f"{where}.dataset")}
    spec = {**dumped(section, without=("dataset",)), **resolver.common()}
    check_teacher(config, where, section)
    if section.checkpoint is not None:
        return foreign(config, name, section, inputs)
    plugins = [objective_module(section.objective)]
    if section.clip is not None:
        plugins.append("pipeline.clip_teacher")
    else:
        plugins.append(family_for(config, section.model, f"{where}.model", section.dataset))
    check_recipe(config, where, section)
    check_needs(where, section.objective, (), labels_given(config, section.dataset))
    return Entry("teacher", name, spec, inputs, tuple(plugins))


def foreign(config: Config, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
    """A teacher from a file: neither seed nor device nor the file's place changes it."""
    family = family_for(config, section.model, f"teachers.{name}.model", section.dataset)
    spec = dumped(section, without=("dataset", "recipe", "objective"))
    outside = {"checkpoint": spec["checkpoint"].pop("path")}
    maker = "pipeline.foreign_teacher"
    return Entry("teacher", name, spec, inputs, (family,), maker, outside)


def check_teacher(config: Config, where: str, entry: Teacher) -> None:
    """Raise if a teacher's data set has no labels for it to know."""
    if not classes_of(config, entry.dataset):
        raise RetortError(
            f"{where}.dataset: '{entry.dataset}' has no labels, so no teacher learns its classes; "
            "name a data set with labels"
        )
