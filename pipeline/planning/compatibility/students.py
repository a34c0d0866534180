"""Whether a student's data, teachers and objective fit: asked before anything is loaded."""

from pipeline.config.reader import Config
from pipeline.config.sections.student import Student
from pipeline.errors import RetortError
from pipeline.planning.compatibility.banks import check_bank_of, stored_given
from pipeline.planning.compatibility.fits import (
    check_needs,
    check_objective_whole,
    check_recipe,
    check_size,
    classes,
    classes_of,
    counted,
    data_of,
    extracts,
    first_teacher,
    labels_given,
    needs_of,
    shape_of,
)
from pipeline.planning.compatibility.generators import check_generator_of, roles_of, stored_by


def check_student(config: Config, where: str, student: Student) -> None:
    """Raise a RetortError for the first thing that does not fit."""
    check_recipe(config, where, student)
    check_objective_whole(where, student)
    check_labels(config, where, student)
    if student.bank:
        check_bank_of(config, where, student)
    stored = stored_by(config, student) if student.generator else ()
    if student.bank:
        stored = stored_given(config.banks[student.bank], student.recipe)
    labels = labels_given(config, student.dataset) if student.dataset else ("generated",)
    quantiser = ("discretizer",) if student.discretizer else ()
    given = (*stored, *labels, *quantiser)
    check_needs(where, student.objective, roles_of(student), given)
    if student.discretizer and "discretizer" not in needs_of(student.objective):
        (name,) = student.objective
        raise RetortError(f"{where}.discretizer: objective '{name}' does not use it; drop it")
    if student.generator:
        check_generator_of(config, where, student)
    check_teachers(config, where, student)
    if student.extra:
        check_extra(config, where, student)


def learnt(config: Config, student: Student) -> tuple[str, ...]:
    """Names of the classes that a student learns."""
    if student.generator:
        return classes(config, config.generators[student.generator].teacher)
    if extracts(config, student):
        return classes(config, first_teacher(student))
    return classes_of(config, student.dataset)


def check_labels(config: Config, where: str, student: Student) -> None:
    """Raise if labels of other classes than the teacher's are read, or chosen by."""
    if not extracts(config, student):
        return
    (role, teacher), *_ = student.teachers.items()
    known, own = classes(config, teacher), classes_of(config, student.dataset)
    differ = (
        f"'{teacher}' knows {len(known)} classes, data set '{student.dataset}' has "
        f"{counted(known, own)}"
    )
    if "label" in needs_of(student.objective):
        (name,) = student.objective
        raise RetortError(
            f"{where}.teachers.{role}: {differ}, and objective '{name}' reads labels; name a "
            "teacher of the same classes, or an objective without labels"
        )
    if student.bank:
        raise RetortError(
            f"{where}.teachers.{role}: {differ}, as has its bank; name a teacher of these classes"
        )
    if student.recipe.select_on != "last":
        raise RetortError(
            f"{where}.recipe.select_on: {differ}, so there are no labels to choose by; use 'last'"
        )


def check_teachers(config: Config, where: str, student: Student) -> None:
    """Raise if a teacher knows other classes than the student learns, or images of another size."""
    own = learnt(config, student)
    shown = student.dataset or data_of(config, config.generators[student.generator].teacher)
    for role, teacher in student.teachers.items():
        place, known = f"{where}.teachers.{role}", classes(config, teacher)
        if known != own:
            raise RetortError(
                f"{place}: '{teacher}' knows {len(known)} classes, the student learns "
                f"{counted(known, own)}; name a teacher of the same classes"
            )
        check_size(config, place, teacher, data_of(config, teacher), shown)


def check_extra(config: Config, where: str, student: Student) -> None:
    """Raise if the second data set does not go with the first, or with the objective."""
    place, name = f"{where}.extra.dataset", student.extra.dataset
    if shape_of(config, name) != shape_of(config, student.dataset):
        raise RetortError(
            f"{place}: '{name}' has images of another size than '{student.dataset}'; name a data "
            "set of that size"
        )
    own, more = classes_of(config, student.dataset), classes_of(config, name)
    if own != more and "label" in needs_of(student.objective):
        (objective,) = student.objective
        raise RetortError(
            f"{place}: '{name}' has {len(more)} classes, data set '{student.dataset}' has "
            f"{counted(more, own)}, and objective '{objective}' reads labels; name images with "
            "labels of the same classes, or an objective without labels"
        )


def label_free(config: Config, student: Student) -> bool:
    """Whether a student's batches have no labels that mean anything to it."""
    extra = student.extra
    mixed = extra and classes_of(config, extra.dataset) != classes_of(config, student.dataset)
    return extracts(config, student) or bool(mixed)


def settings(config: Config, student: Student) -> dict:
    """What a student's key holds beyond its own fields, in these settings alone."""
    share = {"extra": {"share": student.extra.share}} if student.extra else {}
    return share | ({"label_free": True} if label_free(config, student) else {})
