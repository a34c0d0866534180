"""Teachers: trained on a data set, loaded from a file, or a CLIP."""

from pipeline.config.reader import Config
from pipeline.config.sections.teacher import Teacher
from pipeline.errors import RetortError, under
from pipeline.planning.compatibility.fits import (
    check_colours,
    check_needs,
    check_objective_whole,
    check_recipe,
    check_side,
    classes_of,
    family_for,
    labels_given,
)
from pipeline.planning.open_clip_registry import config_of, equal, normalisation, prompted, side_of
from pipeline.planning.plan import Entry, dumped
from pipeline.planning.resolver import Resolver, objective_module, spreading


def entry(resolver: Resolver, name: str) -> Entry:
    """A teacher of any kind."""
    config, section, where = resolver.config, resolver.config.teachers[name], f"teachers.{name}"
    inputs = {"dataset": resolver.get("datasets", section.dataset, f"{where}.dataset")}
    spec = {**dumped(section, without=("dataset",)), **resolver.common()}
    check_teacher(config, where, section)
    if section.clip is not None or section.open_clip is not None:
        check_colours(config, f"{where}.dataset", section.dataset)
    if section.checkpoint is not None:
        return foreign(config, name, section, inputs)
    if section.open_clip is not None:
        return open_clip(resolver, name, section, inputs)
    plugins = [objective_module(section.objective), *spreading(section.recipe)]
    if section.clip is not None:
        plugins.append("pipeline.stages.clip_teacher")
    else:
        plugins.append(family_for(config, section.model, f"{where}.model", section.dataset))
    check_recipe(config, where, section)
    check_objective_whole(where, section)
    check_needs(where, section.objective, (), labels_given(config, section.dataset))
    return Entry("teacher", name, spec, inputs, tuple(plugins))


def foreign(config: Config, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
    """A teacher from a file: neither seed nor device nor the file's place changes it."""
    where = f"teachers.{name}"
    family = family_for(config, section.model, f"{where}.model", section.dataset, section.resize)
    spec = dumped(section, without=("dataset", "recipe", "objective"))
    if section.checkpoint.classes is not None:
        with under(f"{where}.checkpoint.classes: "):
            equal(classes_of(config, section.dataset), section.checkpoint.classes)
        del spec["checkpoint"]["classes"]
    outside = {"checkpoint": spec["checkpoint"].pop("path")}
    maker = "pipeline.stages.pretrained_teacher"
    return Entry("teacher", name, spec, inputs, (family,), maker, outside)


def open_clip(resolver: Resolver, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
    """A CLIP from a file: what its head is made of is in the key, word by word."""
    config, about, where = resolver.config, section.open_clip, f"teachers.{name}"
    spec = {"open_clip": dumped(about), **resolver.common(), "resize": section.resize}
    told, file = spec["open_clip"], about.pretrained
    with under(f"{where}.open_clip."):
        side = side_of(config_of(about.model, about.head == "zeroshot"))
        told["mean"], told["std"] = map(list, normalisation(about.model, file))
    place = f"{where}.open_clip.model"
    check_side(config, place, about.model, side, section.dataset, section.resize)
    del told["names"]
    if about.head == "zeroshot":
        with under(f"{where}.open_clip.names: "):
            told["prompted"] = prompted(classes_of(config, section.dataset), about.names)
    told["pretrained"] = file.sha256 if file else "random"
    outside = {"checkpoint": file.path} if file else {}
    if file is not None:
        del spec["seed"]
    return Entry("teacher", name, spec, inputs, (), "pipeline.stages.open_clip_teacher", outside)


def check_teacher(config: Config, where: str, entry: Teacher) -> None:
    """Raise if a teacher's data set has no labels for it to know."""
    if not classes_of(config, entry.dataset):
        raise RetortError(
            f"{where}.dataset: '{entry.dataset}' has no labels, so no teacher learns its classes; "
            "name a data set with labels"
        )
