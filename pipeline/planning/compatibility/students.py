"""A student's inputs, derived from the configuration in one place."""

from dataclasses import dataclass

from pipeline.config.reader import Config
from pipeline.config.sections.student import StudentSettings
from pipeline.core.batch import find_trained_roles
from pipeline.planning.compatibility.banks import list_bank_fields
from pipeline.planning.compatibility.fits import list_dataset_classes, objective_of


@dataclass(frozen=True)
class StudentInputs:
    """The inputs of a student's training.

    Attributes:
        dataset: the data set whose images it trains on; None with a generator.
        generator: the generator that makes its images; None with a data set.
        classes_from: the data set whose classes it learns, and on which it is evaluated.
        classes: names of these classes.
        roles: the roles of its teachers, ``natural`` included if its early weights play that role.
        stored: fields of a batch beside images and labels, named as in ``Batch.stored``.
        has_labels: whether the labels of all its images are of the classes that it learns.
        extracts: whether it learns its teachers' classes on images of other classes, or of none.
        discretizer: the discretizer that its objective may use; None without one.
        trained: the roles of teachers that its objective trains beside it.
    """

    dataset: str | None
    generator: str | None
    classes_from: str
    classes: tuple[str, ...]
    roles: tuple[str, ...]
    stored: tuple[str, ...]
    has_labels: bool
    extracts: bool
    discretizer: str | None = None
    trained: tuple[str, ...] = ()

    @property
    def list_given(self) -> tuple[str, ...]:
        """What an objective may read beside images and teachers, named as in its ``needs``."""
        labels = ("label",) if self.has_labels else ()
        drawn = ("generated",) if self.generator else ()
        quantiser = ("discretizer",) if self.discretizer else ()
        return (*self.stored, *labels, *drawn, *quantiser)

    @property
    def drops_labels(self) -> bool:
        """Whether its images come from data sets whose labels it must not read."""
        return self.dataset is not None and not self.has_labels


def describe_student(config: Config, student: StudentSettings) -> StudentInputs:
    """The inputs of a student; every name in its section must exist."""
    classes_from = find_class_source(config, student)
    list_learnt_classes = list_dataset_classes(config, classes_from)
    extra = (student.extra.dataset,) if student.extra else ()
    sources = (student.dataset, *extra) if student.dataset else ()
    found = [list_dataset_classes(config, name) for name in sources]
    early = ("natural",) if student.surrogate is not None else ()
    return StudentInputs(
        dataset=student.dataset,
        generator=student.generator,
        classes_from=classes_from,
        classes=list_learnt_classes,
        roles=(*student.teachers, *early),
        stored=list_stored_fields(config, student),
        has_labels=bool(found and list_learnt_classes)
        and all(own == list_learnt_classes for own in found),
        extracts=bool(found) and found[0] != list_learnt_classes,
        discretizer=student.discretizer,
        trained=tuple(t.role for t in find_trained_roles(objective_of(student.objective))),
    )


def find_class_source(config: Config, student: StudentSettings) -> str:
    """The data set whose classes a student learns: its own, or its first teacher's.

    A generator's student learns the classes of the generator's teacher.
    """
    if student.dataset is None:
        return find_model_dataset(config, config.generators[student.generator].teacher)
    own = student.dataset
    first = (
        find_model_dataset(config, next(iter(student.teachers.values())))
        if student.teachers
        else own
    )
    return (
        own if list_dataset_classes(config, first) == list_dataset_classes(config, own) else first
    )


def list_stored_fields(config: Config, student: StudentSettings) -> tuple[str, ...]:
    """Fields that a bank or generator gives beside its images, named as in ``Batch.stored``.

    A generator gives its teacher's outputs if that is the student's natural or only teacher.
    """
    if student.bank is not None:
        return list_bank_fields(config.banks[student.bank], student.recipe)
    if student.generator is None or student.surrogate is not None:
        return ()
    generator = config.generators[student.generator]
    own = student.teachers.get("natural") == generator.teacher or len(student.teachers) == 1
    return ("t_clean",) if own and generator.rounds is None else ()


def find_model_dataset(config: Config, name: str) -> str:
    """The data set whose classes a teacher or student knows, and on which it is evaluated."""
    if name in config.teachers:
        return config.teachers[name].dataset
    return find_class_source(config, config.students[name])


def list_model_classes(config: Config, name: str) -> tuple[str, ...]:
    """Class names of a teacher or student."""
    return list_dataset_classes(config, find_model_dataset(config, name))
