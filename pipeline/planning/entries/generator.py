"""Generators: warmed up from a teacher, at the size of its images."""

from pipeline.planning.compatibility.fits import family_for
from pipeline.planning.compatibility.generators import check_generator, modules_of
from pipeline.planning.compatibility.students import data_of
from pipeline.planning.components import (
    GENERATOR,
    GENERATOR_BATCHES,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    INVERSION_BATCHES,
    SEVERAL_GPUS,
    TRAINING,
    spread_over,
)
from pipeline.planning.plan import SEED, Entry
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (
    *TRAINING,
    *GENERATOR,
    "pipeline.objectives.data_free_kd",
    "pipeline.stages.warm_generator",
)
OPTIONAL = {
    "batches": GENERATOR_BATCHES,
    "rounds": INVERSION_BATCHES,
    "gpus": SEVERAL_GPUS,
}
EXEMPT = IN_DATASET_KEY | IN_MODEL_KEY


def entry(resolver: Resolver, name: str, seed: int | None = None) -> Entry:
    """A generator with its warm student, of the first of its seeds if none is given."""
    section, where = resolver.config.generators[name], f"generators.{name}"
    inputs = {"teacher": resolver.classifier(section.teacher, f"{where}.teacher")}
    check_generator(resolver.config, where, section)
    spec = {**dump_section(section, without=("teacher", "seeds")), **resolver.common()}
    label = name
    if section.seeds is not None:
        spec["seed"] = section.seeds[0] if seed is None else seed
        label = f"{name}{SEED}{spec['seed']}"
    shown = data_of(resolver.config, section.teacher)
    family = family_for(resolver.config, section.model, f"{where}.model", shown)
    components = (*COMPONENTS, family, *modules_of(section), *spread_over(section.recipe))
    return Entry("generator", label, spec, inputs, components)
