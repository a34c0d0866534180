"""Students: one artefact per seed."""

from pipeline.config.reader import Config
from pipeline.config.sections.student import StudentSettings
from pipeline.config.specs import get_spec
from pipeline.planning.compatibility.fits import find_family_module
from pipeline.planning.compatibility.generators import list_generator_modules
from pipeline.planning.compatibility.student_checks import check_student
from pipeline.planning.compatibility.students import StudentInputs, describe_student
from pipeline.planning.compatibility.token_grids import check_grid
from pipeline.planning.components import (
    GENERATOR,
    GENERATOR_BATCHES,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    INVERSION_BATCHES,
    SEVERAL_GPUS,
    TRAINING,
    find_objective_module,
    list_data_parallel_components,
)
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (*TRAINING, "pipeline.stages.distill")
OPTIONAL = {
    "bank": (
        "pipeline.banks.image_codec",
        "pipeline.banks.shards",
        "pipeline.banks.stored_views",
        "pipeline.core.topk_logits",
    ),
    "discretizer": ("pipeline.models.vqgan",),
    "generator": GENERATOR,
    "batches": GENERATOR_BATCHES,
    "rounds": INVERSION_BATCHES,
    "init": (
        "pipeline.models.pretrained.checkpoint_files",
        "pipeline.models.pretrained.finetune_init",
        "pipeline.models.pretrained.safe_unpickle",
    ),
    "mixture": ("pipeline.data.mixture",),
    "gpus": SEVERAL_GPUS,
    "igdm": ("pipeline.training.gradient_matching",),
    "trained roles": ("pipeline.training.trained_roles",),
    "teacher_form": ("pipeline.models.frozen_forms",),
}
EXEMPT = IN_DATASET_KEY | IN_MODEL_KEY
INPUT_SECTIONS = {
    "dataset": "datasets",
    "bank": "banks",
    "generator": "generators",
    "discretizer": "discretizers",
}


def plan_artefact(resolver: Resolver, name: str, seed: int | None = None) -> PlannedArtefact:
    """A student of one seed; without a seed, of the first of its seeds."""
    config, section, where = resolver.config, resolver.config.students[name], f"students.{name}"
    seed = resolver.list_seeds(name)[0] if seed is None else seed
    inputs = resolve_inputs(resolver, section, where, seed)
    about = describe_student(config, section)
    check_student(config, where, section, about)
    if about.discretizer:
        discretizer = get_spec(inputs["discretizer"])
        check_grid(config, f"{where}.discretizer", discretizer, about.dataset)
    labels = derive_label_settings(section, about)
    without = (*INPUT_SECTIONS, "extra", "teachers", "seeds")
    spec = dump_section(section, without=without) | labels | resolver.make_common_spec()
    spec["seed"] = seed
    family = find_family_module(config, section.model, f"{where}.model", about.dataset)
    components = (*list_components(config, section, about), family)
    components += OPTIONAL["mixture"] if labels else ()
    outside = {"init": spec["init"].pop("path")} if section.init else {}
    return PlannedArtefact("student", f"{name}-{seed}", spec, inputs, components, outside)


def resolve_inputs(
    resolver: Resolver, section: StudentSettings, where: str, seed: int
) -> dict[str, PlannedArtefact]:
    """The inputs of a student of one seed, by role."""
    inputs = {}
    for role, label in INPUT_SECTIONS.items():
        if (target := getattr(section, role)) is not None:
            inputs[role] = resolver.resolve_name(label, target, f"{where}.{role}")
    if section.generator is not None:
        place = f"{where}.generator"
        inputs["generator"] = resolver.resolve_warm_generator(section.generator, seed, place)
    if section.extra is not None:
        place = f"{where}.extra.dataset"
        inputs["extra"] = resolver.resolve_name("datasets", section.extra.dataset, place)
    for role, target in section.teachers.items():
        inputs[f"teachers.{role}"] = resolver.resolve_classifier(target, f"{where}.teachers.{role}")
    return inputs


def list_components(
    config: Config, section: StudentSettings, about: StudentInputs
) -> tuple[str, ...]:
    """The components of a student, except its model's family and those of `mixture`."""
    components = (*COMPONENTS, find_objective_module(section.objective))
    components += list_data_parallel_components(section.recipe)
    components += OPTIONAL["bank"] if section.bank else ()
    components += OPTIONAL["discretizer"] if about.discretizer else ()
    components += OPTIONAL["init"] if section.init else ()
    components += OPTIONAL["igdm"] if section.igdm else ()
    components += OPTIONAL["trained roles"] if about.trained else ()
    components += OPTIONAL["teacher_form"] if section.recipe.teacher_form != "as_trained" else ()
    if about.generator:
        own = list_generator_modules(config.generators[about.generator])
        components += OPTIONAL["generator"] + own
    return components


def derive_label_settings(section: StudentSettings, about: StudentInputs) -> dict:
    """Fields of a student's spec for a second data set or unread labels; else empty."""
    share = {"extra": {"share": section.extra.share}} if section.extra else {}
    return share | ({"label_free": True} if about.drops_labels else {})
