"""Generators: warmed up with a teacher, at the size of its images."""

from pipeline.planning.compatibility.fits import find_family_module
from pipeline.planning.compatibility.generators import check_generator, list_generator_modules
from pipeline.planning.compatibility.students import find_model_dataset
from pipeline.planning.components import (
    GENERATOR,
    GENERATOR_BATCHES,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    INVERSION_BATCHES,
    NO_TRAINED_ROLE,
    SEVERAL_GPUS,
    TRAINING,
    list_data_parallel_components,
)
from pipeline.planning.plan import SEED_SEPARATOR, PlannedArtefact
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
EXEMPT = IN_DATASET_KEY | IN_MODEL_KEY | NO_TRAINED_ROLE


def plan_artefact(resolver: Resolver, name: str, seed: int | None = None) -> PlannedArtefact:
    """A generator with its warm student; without a seed, of the first of its seeds."""
    section, where = resolver.config.generators[name], f"generators.{name}"
    inputs = {"teacher": resolver.resolve_classifier(section.teacher, f"{where}.teacher")}
    check_generator(resolver.config, where, section)
    spec = {**dump_section(section, without=("teacher", "seeds")), **resolver.make_common_spec()}
    label = name
    if section.seeds is not None:
        spec["seed"] = section.seeds[0] if seed is None else seed
        label = f"{name}{SEED_SEPARATOR}{spec['seed']}"
    shown = find_model_dataset(resolver.config, section.teacher)
    family = find_family_module(resolver.config, section.model, f"{where}.model", shown)
    components = (
        *COMPONENTS,
        family,
        *list_generator_modules(section),
        *list_data_parallel_components(section.recipe),
    )
    return PlannedArtefact("generator", label, spec, inputs, components)
