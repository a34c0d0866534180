"""Checks whether a student's data, teachers and objective fit, before anything is loaded."""

from pipeline.config.reader import Config
from pipeline.config.sections.student import StudentSettings
from pipeline.errors import RetortError, prefix_errors
from pipeline.planning.compatibility.banks import check_student_bank
from pipeline.planning.compatibility.fits import (
    check_image_shape,
    check_l2_radius,
    check_needs,
    check_objective_whole,
    check_recipe,
    check_training_images,
    describe_class_count,
    get_image_shape,
    list_dataset_classes,
    list_objective_needs,
    objective_of,
)
from pipeline.planning.compatibility.generators import check_student_generator
from pipeline.planning.compatibility.students import (
    StudentInputs,
    find_model_dataset,
    list_model_classes,
)
from pipeline.planning.step_cost import measure_objective


def check_student(
    config: Config, where: str, student: StudentSettings, inputs: StudentInputs
) -> None:
    """Raise a RetortError for the first setting of a student that does not fit."""
    check_recipe(config, where, student)
    check_objective_whole(where, student)
    if inputs.extracts:
        check_extraction(config, where, student, inputs)
    if student.bank:
        check_student_bank(config, where, student)
    if student.extra:
        check_extra(config, where, student, inputs)
    check_needs(where, student.objective, inputs.roles, inputs.list_given)
    if inputs.discretizer and "discretizer" not in list_objective_needs(student.objective):
        (name,) = student.objective
        raise RetortError(f"{where}.discretizer: objective '{name}' does not use it; drop it")
    if student.igdm:
        check_igdm(where, student, inputs)
    if inputs.generator:
        check_student_generator(config, where, student)
    check_trained_roles(where, student, inputs)
    check_teachers(config, where, student, inputs)
    attack = getattr(objective_of(student.objective), "inner_attack", None)
    if attack is not None and attack.norm == "l2" and inputs.dataset:
        (name,) = student.objective
        check_l2_radius(config, f"{where}.objective.{name}.eps", attack.eps, inputs.dataset)


def check_trained_roles(where: str, student: StudentSettings, inputs: StudentInputs) -> None:
    """Raise if an objective trains a teacher that it is not given, or that a generator asks."""
    (name,) = student.objective
    for role in inputs.trained:
        if role not in inputs.roles:
            raise RetortError(
                f"{where}.objective: objective '{name}' trains the teacher in the role '{role}', "
                "which is not given; add it to teachers"
            )
        if inputs.generator:
            raise RetortError(
                f"{where}.generator: objective '{name}' trains its teacher '{role}', and a "
                "generator's teachers stay as they are; name a data set"
            )


def check_igdm(where: str, student: StudentSettings, inputs: StudentInputs) -> None:
    """Raise if IGDM's term does not go with a student's objective or teachers.

    Whether the objective makes adversarial images shows in a step on tiny networks.
    """
    (name,) = student.objective
    if not {"robust"} & {*inputs.roles} and len(inputs.roles) != 1:
        got = ", ".join(inputs.roles) or "none"
        raise RetortError(
            f"{where}.igdm: needs one teacher, or one in the role 'robust'; it is given {got}"
        )
    with prefix_errors(f"{where}.igdm: objective '{name}': "):
        measure_objective(student.objective, inputs.roles, inputs.stored, student.igdm.alpha)


def check_extraction(
    config: Config, where: str, student: StudentSettings, inputs: StudentInputs
) -> None:
    """Raise if labels of other classes than the teacher's are used: by objective or selection."""
    (role, teacher), *_ = student.teachers.items()
    known, own = inputs.classes, list_dataset_classes(config, inputs.dataset)
    differ = (
        f"'{teacher}' knows {len(known)} classes, data set '{inputs.dataset}' has "
        f"{describe_class_count(known, own)}"
    )
    if "label" in list_objective_needs(student.objective):
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


def check_teachers(
    config: Config, where: str, student: StudentSettings, inputs: StudentInputs
) -> None:
    """Raise if a teacher knows other classes than the student learns, or images of another size."""
    shown = inputs.dataset or inputs.classes_from
    for role, teacher in student.teachers.items():
        place, known = f"{where}.teachers.{role}", list_model_classes(config, teacher)
        if known != inputs.classes:
            raise RetortError(
                f"{place}: '{teacher}' knows {len(known)} classes, the student learns "
                f"{describe_class_count(known, inputs.classes)}; name a teacher of the same classes"
            )
        check_image_shape(config, place, teacher, find_model_dataset(config, teacher), shown)


def check_extra(
    config: Config, where: str, student: StudentSettings, inputs: StudentInputs
) -> None:
    """Raise if the second data set does not fit the first one, or the objective."""
    place, name = f"{where}.extra.dataset", student.extra.dataset
    check_training_images(config, place, name)
    if get_image_shape(config, name) != get_image_shape(config, inputs.dataset):
        raise RetortError(
            f"{place}: '{name}' has images of another size than '{inputs.dataset}'; name a data "
            "set of that size"
        )
    own, more = list_dataset_classes(config, inputs.dataset), list_dataset_classes(config, name)
    if own and own != more and "label" in list_objective_needs(student.objective):
        (objective,) = student.objective
        raise RetortError(
            f"{place}: '{name}' has {len(more)} classes, data set '{inputs.dataset}' has "
            f"{describe_class_count(more, own)}, and objective '{objective}' reads labels; name "
            f"images with "
            "labels of the same classes, or an objective without labels"
        )
