"""Teachers: classifiers that are trained or loaded from a file, and CLIPs."""

from pipeline.config.reader import Config
from pipeline.config.sections.teacher import TeacherSettings
from pipeline.errors import RetortError, prefix_errors
from pipeline.planning.compatibility.fits import (
    check_channels,
    check_input_side,
    check_needs,
    check_objective_whole,
    check_recipe,
    find_family_module,
    list_dataset_classes,
    list_label_fields,
)
from pipeline.planning.components import (
    CLASSIFIER,
    DATA,
    IN_DATASET_KEY,
    NO_TRAINED_ROLE,
    SEVERAL_GPUS,
    TRAINING,
    find_objective_module,
    list_data_parallel_components,
)
from pipeline.planning.open_clip_registry import (
    check_class_names,
    list_prompt_names,
    read_image_side,
    read_model_config,
    resolve_normalisation,
)
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (*TRAINING, "pipeline.stages.train_teacher")
OPTIONAL = {
    "clip": (
        "pipeline.architectures.resnet_small",
        "pipeline.models.clip",
        "pipeline.stages.clip_teacher",
    ),
    "gpus": SEVERAL_GPUS,
}
CHECKPOINT = (  # components of a classifier from a file
    *CLASSIFIER,
    *DATA,
    "pipeline.models.pretrained.checkpoint_files",
    "pipeline.models.pretrained.safe_unpickle",
    "pipeline.stages.pretrained_teacher",
)
OPEN_CLIP = (  # components of a CLIP from a file
    *CHECKPOINT,
    "pipeline.models.clip",
    "pipeline.models.clip_tuned",
    "pipeline.models.pretrained.state_dict_match",
    "pipeline.stages.open_clip_teacher",
)
EXEMPT = IN_DATASET_KEY | NO_TRAINED_ROLE
KEYLESS = ("dataset", "unverified")  # fields of a section that are not in the spec


def plan_artefact(resolver: Resolver, name: str) -> PlannedArtefact:
    """A teacher: trained, from a file, or a CLIP."""
    config, section, where = resolver.config, resolver.config.teachers[name], f"teachers.{name}"
    inputs = {"dataset": resolver.resolve_name("datasets", section.dataset, f"{where}.dataset")}
    spec = {**dump_section(section, without=KEYLESS), **resolver.make_common_spec()}
    run = make_run_settings(section)
    check_teacher(config, where, section)
    if section.clip is not None or section.open_clip is not None:
        check_channels(config, f"{where}.dataset", section.dataset)
    if section.checkpoint is not None:
        return plan_pretrained_teacher(config, name, section, inputs)
    if section.open_clip is not None:
        return plan_open_clip_teacher(resolver, name, section, inputs)
    components = (
        *COMPONENTS,
        find_objective_module(section.objective),
        *list_data_parallel_components(section.recipe),
    )
    if section.clip is not None:
        components += OPTIONAL["clip"]
    else:
        components += (
            find_family_module(config, section.model, f"{where}.model", section.dataset),
        )
    check_recipe(config, where, section)
    check_objective_whole(where, section)
    check_needs(where, section.objective, (), list_label_fields(config, section.dataset))
    return PlannedArtefact("teacher", name, spec, inputs, components, run_settings=run)


def make_run_settings(section: TeacherSettings) -> dict:
    """The settings of the teacher's job that change nothing of what it makes."""
    return {"unverified": True} if section.unverified else {}


def plan_pretrained_teacher(
    config: Config, name: str, section: TeacherSettings, inputs: dict[str, PlannedArtefact]
) -> PlannedArtefact:
    """A teacher from a file; neither seed, nor device, nor the file's path is in its key."""
    where = f"teachers.{name}"
    family = find_family_module(
        config, section.model, f"{where}.model", section.dataset, section.resize
    )
    spec = dump_section(section, without=(*KEYLESS, "recipe", "objective"))
    if section.checkpoint.classes is not None:
        with prefix_errors(f"{where}.checkpoint.classes: "):
            check_class_names(
                list_dataset_classes(config, section.dataset), section.checkpoint.classes
            )
        del spec["checkpoint"]["classes"]
    outside, run = {"checkpoint": spec["checkpoint"].pop("path")}, make_run_settings(section)
    return PlannedArtefact("teacher", name, spec, inputs, (*CHECKPOINT, family), outside, run)


def plan_open_clip_teacher(
    resolver: Resolver, name: str, section: TeacherSettings, inputs: dict[str, PlannedArtefact]
) -> PlannedArtefact:
    """A CLIP from a file; the names in the prompts of its head are in the key."""
    config, about, where = resolver.config, section.open_clip, f"teachers.{name}"
    spec = {
        "open_clip": dump_section(about),
        **resolver.make_common_spec(),
        "resize": section.resize,
    }
    open_clip_spec, file = spec["open_clip"], about.pretrained
    with prefix_errors(f"{where}.open_clip."):
        side = read_image_side(read_model_config(about.model, about.head == "zeroshot"))
        open_clip_spec["mean"], open_clip_spec["std"] = map(
            list, resolve_normalisation(about.model, file)
        )
    place = f"{where}.open_clip.model"
    check_input_side(config, place, about.model, side, section.dataset, section.resize)
    del open_clip_spec["names"]
    if about.head == "zeroshot":
        with prefix_errors(f"{where}.open_clip.names: "):
            open_clip_spec["prompted"] = list_prompt_names(
                list_dataset_classes(config, section.dataset), about.names
            )
    open_clip_spec["pretrained"] = file.sha256 if file else "random"
    outside, run = {"checkpoint": file.path} if file else {}, make_run_settings(section)
    if file is not None and file.take is not None:
        open_clip_spec["take"] = file.take
    if file is not None:
        del spec["seed"]
    return PlannedArtefact("teacher", name, spec, inputs, OPEN_CLIP, outside, run)


def check_teacher(config: Config, where: str, section: TeacherSettings) -> None:
    """Raise if a teacher's data set has no labels."""
    if not list_dataset_classes(config, section.dataset):
        raise RetortError(
            f"{where}.dataset: '{section.dataset}' has no labels, so no teacher learns its "
            f"classes; "
            "name a data set with labels"
        )
