"""Checks whether a generator, its teacher and its students fit, before anything is loaded."""

from pipeline.config.reader import Config
from pipeline.config.sections.generator import GeneratorSettings
from pipeline.config.sections.student import StudentSettings
from pipeline.data_free.session import make_generator_size, resolve_loss
from pipeline.discovery import get_module_name
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import check_replayed, get_image_shape
from pipeline.planning.compatibility.students import find_model_dataset, list_model_classes
from pipeline.planning.components import GENERATOR_BATCHES, INVERSION_BATCHES


def list_generator_modules(generator: GeneratorSettings) -> tuple[str, ...]:
    """The modules of a generator's loss and batches, beside those of every generator."""
    (loss,) = resolve_loss(generator)
    batches = GENERATOR_BATCHES if generator.rounds is None else INVERSION_BATCHES
    return (get_module_name("generator_losses", loss), *batches)


def check_generator(config: Config, where: str, generator: GeneratorSettings) -> None:
    """Raise if a generator's sizes are impossible, or its images not of its teacher's size."""
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
    ((_, loss),) = resolve_loss(generator).items()
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
    own = student.sampling.replayed
    replayed = warm.replayed if own is None else own
    check_replayed(f"{where}.sampling.replayed", replayed, student.recipe)
    if student.surrogate is not None:
        check_surrogate(where, student, warm)


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
