"""What a student is shown and given: read off the configuration once, for all who ask."""

from dataclasses import dataclass

from pipeline.config.reader import Config
from pipeline.config.sections.student import Student
from pipeline.planning.compatibility.banks import stored_given
from pipeline.planning.compatibility.fits import classes_of


@dataclass(frozen=True)
class StudentInputs:
    """What a student is shown and given.

    Attributes:
        dataset: the data set whose images it is shown; None on a generator.
        generator: the generator that draws its images; None on a data set.
        classes_from: the data set whose classes it learns, and on which it is evaluated.
        classes: names of these classes.
        roles: those that its teachers play, its own early self's among them.
        stored: fields that it finds in a batch beside images and labels, as ``Batch.stored`` names
            them.
        has_labels: whether the labels of all its images are of the classes that it learns.
        extracts: whether it learns its teachers' classes on images of other classes, or of none.
        discretizer: the discretiser that its objective may ask; None without one.
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

    @property
    def given(self) -> tuple[str, ...]:
        """What an objective may read beside images and teachers, as its ``needs`` name it."""
        labels = ("label",) if self.has_labels else ()
        drawn = ("generated",) if self.generator else ()
        quantiser = ("discretizer",) if self.discretizer else ()
        return (*self.stored, *labels, *drawn, *quantiser)

    @property
    def drops_labels(self) -> bool:
        """Whether its images come from data sets, whose labels it must not read."""
        return self.dataset is not None and not self.has_labels


def describe_student(config: Config, student: Student) -> StudentInputs:
    """What a student is shown and given; every name in its section must be known."""
    classes_from = class_source(config, student)
    learnt = classes_of(config, classes_from)
    extra = (student.extra.dataset,) if student.extra else ()
    sources = (student.dataset, *extra) if student.dataset else ()
    found = [classes_of(config, name) for name in sources]
    early = ("natural",) if student.surrogate is not None else ()
    return StudentInputs(
        dataset=student.dataset,
        generator=student.generator,
        classes_from=classes_from,
        classes=learnt,
        roles=(*student.teachers, *early),
        stored=stored_fields(config, student),
        has_labels=bool(found and learnt) and all(own == learnt for own in found),
        extracts=bool(found) and found[0] != learnt,
        discretizer=student.discretizer,
    )


def class_source(config: Config, student: Student) -> str:
    """The data set whose classes a student learns: its own, or its first teacher's.

    A generator's student learns the classes of the generator's teacher.
    """
    if student.dataset is None:
        return data_of(config, config.generators[student.generator].teacher)
    own = student.dataset
    first = data_of(config, next(iter(student.teachers.values()))) if student.teachers else own
    return own if classes_of(config, first) == classes_of(config, own) else first


def stored_fields(config: Config, student: Student) -> tuple[str, ...]:
    """What a bank or generator brings along beside its images, by the names of ``Batch.stored``.

    A generator brings its teacher's outputs, where it is clear whose they are.
    """
    if student.bank is not None:
        return stored_given(config.banks[student.bank], student.recipe)
    if student.generator is None or student.surrogate is not None:
        return ()
    generator = config.generators[student.generator]
    own = student.teachers.get("natural") == generator.teacher or len(student.teachers) == 1
    return ("t_clean",) if own and generator.rounds is None else ()


def data_of(config: Config, name: str) -> str:
    """The data set whose classes a teacher or student knows, and on which it is evaluated."""
    if name in config.teachers:
        return config.teachers[name].dataset
    return class_source(config, config.students[name])


def classes(config: Config, name: str) -> tuple[str, ...]:
    """Class names of a teacher or student."""
    return classes_of(config, data_of(config, name))
