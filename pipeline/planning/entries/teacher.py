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
from pipeline.planning.components import (
    CLASSIFIER,
    DATA,
    IN_DATASET_KEY,
    SEVERAL_GPUS,
    TRAINING,
    objective_module,
    spread_over,
)
from pipeline.planning.open_clip_registry import config_of, equal, normalisation, prompted, side_of
from pipeline.planning.plan import Entry
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
CHECKPOINT = (  # all that makes one from a file
    *CLASSIFIER,
    *DATA,
    "pipeline.models.pretrained.checkpoint_files",
    "pipeline.models.pretrained.safe_unpickle",
    "pipeline.stages.pretrained_teacher",
)
OPEN_CLIP = (  # all that makes a CLIP from a file
    *CHECKPOINT,
    "pipeline.models.clip",
    "pipeline.models.clip_tuned",
    "pipeline.models.pretrained.state_dict_match",
    "pipeline.stages.open_clip_teacher",
)
EXEMPT = IN_DATASET_KEY


def entry(resolver: Resolver, name: str) -> Entry:
    """A teacher of any kind."""
    config, section, where = resolver.config, resolver.config.teachers[name], f"teachers.{name}"
    inputs = {"dataset": resolver.get("datasets", section.dataset, f"{where}.dataset")}
    spec = {**dump_section(section, without=("dataset",)), **resolver.common()}
    check_teacher(config, where, section)
    if section.clip is not None or section.open_clip is not None:
        check_colours(config, f"{where}.dataset", section.dataset)
    if section.checkpoint is not None:
        return foreign(config, name, section, inputs)
    if section.open_clip is not None:
        return open_clip(resolver, name, section, inputs)
    components = (*COMPONENTS, objective_module(section.objective), *spread_over(section.recipe))
    if section.clip is not None:
        components += OPTIONAL["clip"]
    else:
        components += (family_for(config, section.model, f"{where}.model", section.dataset),)
    check_recipe(config, where, section)
    check_objective_whole(where, section)
    check_needs(where, section.objective, (), labels_given(config, section.dataset))
    return Entry("teacher", name, spec, inputs, components)


def foreign(config: Config, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
    """A teacher from a file: neither seed nor device nor the file's place changes it."""
    where = f"teachers.{name}"
    family = family_for(config, section.model, f"{where}.model", section.dataset, section.resize)
    spec = dump_section(section, without=("dataset", "recipe", "objective"))
    if section.checkpoint.classes is not None:
        with under(f"{where}.checkpoint.classes: "):
            equal(classes_of(config, section.dataset), section.checkpoint.classes)
        del spec["checkpoint"]["classes"]
    outside = {"checkpoint": spec["checkpoint"].pop("path")}
    return Entry("teacher", name, spec, inputs, (*CHECKPOINT, family), outside)


def open_clip(resolver: Resolver, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
    """A CLIP from a file: what its head is made of is in the key, word by word."""
    config, about, where = resolver.config, section.open_clip, f"teachers.{name}"
    spec = {"open_clip": dump_section(about), **resolver.common(), "resize": section.resize}
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
    return Entry("teacher", name, spec, inputs, OPEN_CLIP, outside)


def check_teacher(config: Config, where: str, entry: Teacher) -> None:
    """Raise if a teacher's data set has no labels for it to know."""
    if not classes_of(config, entry.dataset):
        raise RetortError(
            f"{where}.dataset: '{entry.dataset}' has no labels, so no teacher learns its classes; "
            "name a data set with labels"
        )
