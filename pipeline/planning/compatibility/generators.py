"""Checks whether a generator, its teacher and its students fit, before anything is loaded."""

import torch

from pipeline.config.reader import Config
from pipeline.config.sections.generator import GeneratorSettings
from pipeline.config.sections.student import StudentSettings
from pipeline.contracts.values import describe_bad_needs
from pipeline.core.attention import collect_attention_maps
from pipeline.core.meta_device import build_on_meta
from pipeline.data_free.session import make_generator_size, resolve_loss
from pipeline.discovery import cache_by_plugins, describe_plugin, get_module_name
from pipeline.errors import RetortError
from pipeline.models.classifier import build_network
from pipeline.planning.compatibility.fits import check_replayed, get_image_shape, objective_of
from pipeline.planning.compatibility.students import find_model_dataset, list_model_classes
from pipeline.planning.components import GENERATOR_BATCHES, INVERSION_BATCHES
from pipeline.schema import make_plugin


def list_generator_modules(generator: GeneratorSettings) -> tuple[str, ...]:
    """The modules of a generator's loss and batches, beside those of every generator."""
    (loss,) = resolve_loss(generator)
    batches = GENERATOR_BATCHES if generator.rounds is None else INVERSION_BATCHES
    return (get_module_name("generator_losses", loss), *batches)


def check_generator(config: Config, where: str, generator: GeneratorSettings) -> None:
    """Raise if a generator's sizes or its loss's needs are impossible, or its images do not fit.

    They must be of its teacher's size.
    """
    colours, height, width = get_image_shape(config, find_model_dataset(config, generator.teacher))
    if (height, width) != (generator.image, generator.image):
        raise RetortError(
            f"{where}.image: {generator.image} px, but teacher '{generator.teacher}' knows images "
            f"of {height}x{width}; set it to {height}"
        )
    check_replayed(f"{where}.replayed", generator.replayed, generator.recipe)
    try:
        make_generator_size(generator, colours)
    except RetortError as error:
        raise RetortError(f"{where}.{str(error).removeprefix('generator.')}") from error
    ((name, loss),) = resolve_loss(generator).items()
    method = make_plugin("generator_losses", "Loss", name, loss)
    if fault := describe_bad_needs(method.needs(), ("student", "teacher")):
        raise RetortError(f"{describe_plugin(method)}: {fault}")
    count = len(list_model_classes(config, generator.teacher))
    if loss.get("labels") == "given" and generator.rounds is None and generator.latent < count:
        raise RetortError(
            f"{where}.latent: {generator.latent} numbers cannot say which of {count} labels is "
            f"given; set it to {count} or more"
        )


def check_student_generator(config: Config, where: str, student: StudentSettings) -> None:
    """Raise if a generator warmed up another model, or its teacher is not the student's."""
    name = student.generator
    warm = config.generators[name]
    if warm.model != student.model:
        raise RetortError(
            f"{where}.model: '{student.model}' is not the model that generator '{name}' warmed up; "
            f"set it to '{warm.model}'"
        )
    if warm.teacher not in student.teachers.values():
        role = ".natural" if "natural" in student.teachers else ""
        raise RetortError(
            f"{where}.teachers{role}: generator '{name}' was made for teacher '{warm.teacher}'; "
            "name that one"
        )
    if student.recipe.teacher_form != "as_trained":
        raise RetortError(
            f"{where}.recipe.teacher_form: the loss of generator '{name}' may read the teacher's "
            "BatchNorms; drop it"
        )
    own = student.sampling.replayed
    replayed = warm.replayed if own is None else own
    if replayed and not warm.pool:
        raise RetortError(
            f"{where}.sampling.replayed: {replayed} past images are asked for, generator '{name}' "
            f"keeps none; set generators.{name}.pool above 0"
        )
    check_replayed(f"{where}.sampling.replayed", replayed, student.recipe)
    check_attention(config, where, student)
    if student.surrogate is not None:
        check_surrogate(where, student, warm)


def check_attention(config: Config, where: str, student: StudentSettings) -> None:
    """Raise if attention maps are compared of networks that have none of the same resolution."""
    if not getattr(objective_of(student.objective), "attention", 0):
        return
    (objective,) = student.objective
    for teacher in student.teachers.values():
        about = config.teachers.get(teacher) or config.students[teacher]
        if about.model is None:  # a CLIP
            continue
        shape = get_image_shape(config, find_model_dataset(config, teacher))
        side = getattr(about, "resize", None)
        theirs = list_map_sizes(about.model, (shape[0], side, side) if side else shape)
        if not theirs & list_map_sizes(student.model, shape):
            raise RetortError(
                f"{where}.objective.{objective}.attention: '{student.model}' and '{about.model}' "
                "have no attention maps of the same resolution; set it to 0"
            )


@cache_by_plugins
def list_map_sizes(model: str, shape: tuple[int, int, int]) -> frozenset[tuple[int, int]]:
    """Height and width of a network's attention maps on images (C,H,W), but those of one value."""
    network = build_on_meta(build_network, model, 2, shape[0]).eval()
    with torch.device("meta"), torch.no_grad(), collect_attention_maps(network) as maps:
        network.head(network.features(torch.empty(1, *shape)))
    return frozenset(maps) - {(1, 1)}


def check_surrogate(where: str, student: StudentSettings, warm: GeneratorSettings) -> None:
    """Raise if the student also has a natural teacher, or the epoch's weights are not kept."""
    place, epoch = f"{where}.surrogate", student.surrogate
    if "natural" in student.teachers:
        raise RetortError(f"{place}: stands for the natural teacher; drop it, or teachers.natural")
    kept = (*warm.recipe.keep_epochs, warm.recipe.epochs)
    if not warm.warm or epoch not in kept:
        raise RetortError(
            f"{place}: generator '{student.generator}' keeps no weights of epoch {epoch}; add it "
            f"to generators.{student.generator}.recipe.keep_epochs, and warm it up"
        )
