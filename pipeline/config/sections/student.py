"""The section of students."""

from typing import Any

from pydantic import model_validator

from pipeline.config.plugin_fields import ObjectiveSpec, Plugin
from pipeline.config.sections.outside import CheckpointSpec, ExternalCheckpoint
from pipeline.config.sections.trained import (
    Computed,
    NormaliseOption,
    Seeds,
    TrainedSettings,
    check_unlabelled_recipe,
)
from pipeline.schema import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    make_neutral_field,
)


class SamplingSettings(Section):
    """How a data-free student samples its generator; unset fields are those of the generator.

    Attributes:
        steps_per_epoch: number of batches of an epoch.
        replayed: number of past images added to each batch.
        learns: whether the generator goes on learning, or the rounds go on; if not, the student
            uses what there is.
    """

    steps_per_epoch: PositiveInt | None = None
    replayed: NonNegativeInt | None = None
    learns: bool = make_neutral_field(True)


class ExtraSpec(Section):
    """A second data set's share of every batch.

    Attributes:
        share: share of every batch that the second data set fills.
    """

    share: Share


class ExtraDataSettings(ExtraSpec):
    """A second data set, such as generated images, and its share of every batch.

    Attributes:
        dataset: name of the second data set.
    """

    dataset: str


class GradientMatchingSettings(Section):
    """IGDM's term, which any objective with an inner attack can carry.

    Attributes:
        alpha: weight of the term at the end of training; it rises from 0 with progress.
    """

    alpha: PositiveFloat


class StudentForm(TrainedSettings):
    """The fields that a student's section and its spec share.

    Attributes:
        sampling: how a student of a generator draws its images.
        model: the network: an architecture by its name.
        normalise: whether pixels are normalised by the data set's mean and standard deviation, or
            seen as they are.
        surrogate: epoch of the generator's warm-up whose student, frozen, is the teacher in the
            role `natural`.
        igdm: a term that matches the student's input gradients to its teacher's, added to an
            objective that makes adversarial images.
    """

    sampling: SamplingSettings = SamplingSettings()
    model: str
    normalise: NormaliseOption = make_neutral_field("dataset")
    surrogate: PositiveInt | None = make_neutral_field(None)
    igdm: GradientMatchingSettings | None = make_neutral_field(None)


class StudentSpec(StudentForm, Computed):
    """The spec of a student of one seed.

    Attributes:
        label_free: whether its batches have no labels for its classes.
    """

    objective: Plugin
    init: CheckpointSpec | None = None
    extra: ExtraSpec | None = None
    label_free: bool = False


class StudentSettings(StudentForm):
    """A network distilled from teachers, on a data set, with a bank, or on a generator.

    Attributes:
        dataset: name of the data set whose images it learns from.
        bank: name of the bank whose samples or outputs it reads beside the data set.
        generator: name of the generator that makes its images, in place of a data set.
        discretizer: name of the discretizer with which its objective makes samples as it learns.
        extra: a second data set that fills a share of every batch.
        teachers: names of its teachers by role, such as `{robust: a, natural: b}`; `teacher: a` is
            short for `{teacher: a}`. A student's name will do as well.
        init: file of initial weights; if its head has other classes, the head is made anew.
        objective: what its training minimises: an objective, with its options.
        seeds: one training, and so one artefact `<name>-<seed>`, for each; the report gives their
            mean and interval. One number is a list of one; without any it is the configuration's
            `seed`.
    """

    dataset: str | None = None
    bank: str | None = None
    generator: str | None = None
    discretizer: str | None = make_neutral_field(None)
    extra: ExtraDataSettings | None = make_neutral_field(None)
    teachers: dict[str, str] = {}
    init: ExternalCheckpoint | None = make_neutral_field(None)
    objective: ObjectiveSpec
    seeds: Seeds | None = None

    @model_validator(mode="before")
    @classmethod
    def expand_teacher_shorthand(cls, value: Any) -> Any:
        """Expands `teacher: name` to `teachers: {teacher: name}`."""
        if isinstance(value, dict) and isinstance(value.get("teacher"), str):
            if "teachers" in value:
                raise ValueError("give 'teacher' or 'teachers', not both")
            value = dict(value)
            value["teachers"] = {"teacher": value.pop("teacher")}
        return value

    @model_validator(mode="after")
    def check_init(self):
        """Checks that `init` comes without a generator and without a second normalisation."""
        if self.init and self.generator:
            raise ValueError("init: a generator's student starts from its warm-up; drop it")
        if self.init and self.init.classes is not None:
            raise ValueError("init.classes: a head of other classes is made anew; drop it")
        if self.init and self.init.mean and self.normalise != "dataset":
            raise ValueError("normalise: init.mean says otherwise; drop one of them")
        return self

    @model_validator(mode="after")
    def check_one_source(self):
        """Checks that a student has a data set (with or without a bank) or a generator."""
        if (self.dataset is None) == (self.generator is None):
            raise ValueError("give exactly one of 'dataset' and 'generator'")
        if self.bank and self.generator:
            raise ValueError("a bank goes with a data set, not with a generator")
        if self.generator and self.discretizer:
            raise ValueError("discretizer: goes with a data set, not with a generator; drop it")
        if self.generator and self.normalise != "dataset":
            raise ValueError("normalise: a generator's student keeps its warm-up's; drop it")
        if self.generator:
            check_unlabelled_recipe(self.recipe)
        if self.surrogate is not None and not self.generator:
            raise ValueError("surrogate: is a generator's early student; give 'generator'")
        if self.extra and (self.bank or self.generator):
            raise ValueError("extra: goes with a data set alone, not with a bank or a generator")
        if self.extra and not 0 < round(self.extra.share * self.recipe.batch) < self.recipe.batch:
            share, batch = self.extra.share, self.recipe.batch
            raise ValueError(f"extra.share: {share:g} of batch {batch} leaves one of the sets out")
        return self
