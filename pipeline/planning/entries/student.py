"""Students: one artefact a seed."""

from pipeline.config.sections.student import Student
from pipeline.config.specs import spec_of
from pipeline.planning.compatibility.fits import family_for
from pipeline.planning.compatibility.generators import modules_of
from pipeline.planning.compatibility.grids import check_grid
from pipeline.planning.compatibility.student_checks import check_student
from pipeline.planning.compatibility.students import StudentInputs, describe_student
from pipeline.planning.components import (
    GENERATOR,
    GENERATOR_BATCHES,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    INVERSION_BATCHES,
    SEVERAL_GPUS,
    TRAINING,
    objective_module,
    spread_over,
)
from pipeline.planning.plan import Entry
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
}
EXEMPT = IN_DATASET_KEY | IN_MODEL_KEY
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
    about = describe_student(config, section)
    check_student(config, where, section, about)
    if about.discretizer:
        quantiser = spec_of(inputs["discretizer"])
        check_grid(config, f"{where}.discretizer", quantiser, about.dataset)
    more = settings(section, about)
    without = (*SOURCES, "extra", "teachers", "seeds")
    spec = {**dump_section(section, without=without), **more, **resolver.common(), "seed": seed}
    family = family_for(config, section.model, f"{where}.model", about.dataset)
    components = (*COMPONENTS, objective_module(section.objective), family)
    components += spread_over(section.recipe)
    components += OPTIONAL["mixture"] if more else ()
    components += OPTIONAL["bank"] if section.bank else ()
    components += OPTIONAL["discretizer"] if about.discretizer else ()
    components += OPTIONAL["init"] if section.init else ()
    if about.generator:
        components += OPTIONAL["generator"] + modules_of(config.generators[about.generator])
    outside = {"init": spec["init"].pop("path")} if section.init else {}
    return Entry("student", f"{name}-{seed}", spec, inputs, components, outside)


def settings(section: Student, about: StudentInputs) -> dict:
    """What a student's key holds beyond its own fields, in these settings alone."""
    share = {"extra": {"share": section.extra.share}} if section.extra else {}
    return share | ({"label_free": True} if about.drops_labels else {})
