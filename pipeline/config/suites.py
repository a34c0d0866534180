"""The sections of suites and of the report, and settings of how jobs run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.plugin_fields import AttackSpec, Plugin
from pipeline.config.sections.trained import Computed
from pipeline.schema import NonNegativeInt, Number, PositiveInt, Section, make_neutral_field


class SuiteSettings(Section):
    """The attacks of a suite, run on students, teachers, generators' warm students, or all of them.

    With ``surrogate``, a teacher or student, attacks are made on that model and transferred. With
    ``dataset``, models are tested on its test images instead of their own data set's. With
    ``epochs``, the weights after these epochs are evaluated, for all models whose recipe keeps
    them. Neither ``epochs`` nor the attack `boundary_risk` goes with ``surrogate`` or ``dataset``,
    and `boundary_risk` may appear once in a suite.
    """

    attacks: tuple[AttackSpec, ...]
    models: tuple[Literal["students", "teachers", "generators"], ...] = (
        "students",
        "teachers",
        "generators",
    )
    surrogate: str | None = None
    dataset: str | None = None
    epochs: tuple[PositiveInt, ...] = make_neutral_field(())

    @model_validator(mode="before")
    @classmethod
    def expand_models_shorthand(cls, value: Any) -> Any:
        """Expands `models: students` to a list of one, and `models: all` to all of them."""
        if isinstance(value, dict) and isinstance(value.get("models"), str):
            word = value["models"]
            value = {k: v for k, v in value.items() if k != "models"}
            return value if word == "all" else {**value, "models": [word]}
        return value

    @model_validator(mode="after")
    def check_attacks_fit_models(self):
        """Checks that epochs and `boundary_risk` come without a surrogate or another data set."""
        alone = {"epochs": bool(self.epochs), "attacks.boundary_risk": self.boundary_count > 0}
        for name, asked in alone.items():
            for other in ("surrogate", "dataset"):
                if asked and getattr(self, other) is not None:
                    raise ValueError(f"{name}: does not go with '{other}'; drop one of them")
        if self.boundary_count > 1:
            raise ValueError(
                "attacks.boundary_risk: appears more than once; give the other a suite of its own"
            )
        return self

    @property
    def boundary_count(self) -> int:
        """The number of times that the suite has the attack `boundary_risk`."""
        return sum("boundary_risk" in attack for attack in self.attacks)


class EvaluationSpec(Computed):
    """The spec of an evaluation.

    Attributes:
        shifted: whether the model is tested on images of another data set than its own.
        epoch: the epoch whose weights are evaluated; None for the exported weights.
    """

    attacks: tuple[Plugin, ...]
    shifted: bool = False
    epoch: PositiveInt | None = None


class WassersteinSettings(Section):
    """The study of distances between training images and shifted ones.

    Attributes:
        network: a teacher or student whose BatchNorm layers give the statistics to compare.
        images: number of images of each distribution.
    """

    network: str
    images: PositiveInt = 1000


class ReportSettings(Section):
    """The section of the report."""

    title: str = "Robust students, one teacher bank"
    samples: PositiveInt = 6
    wasserstein: WassersteinSettings | None = make_neutral_field(None)


class ReportSpec(ReportSettings):
    """The spec of the report; ``names`` pairs every `kind/name` with its ref."""

    names: tuple[tuple[str, str], ...]


class ResourceNeeds(Section):
    """What a kind's jobs ask of a cluster; memory and time are multiplied by the attempt."""

    mem_mb: PositiveInt | None = None
    runtime: PositiveInt | None = None  # minutes
    gpus: NonNegativeInt | None = None  # default: the GPUs that the job computes on
    partition: str | None = None


class ResourceSettings(Section):
    """Needs by kind; a field that a kind does not set is taken from `all`."""

    all: ResourceNeeds = ResourceNeeds()
    dataset: ResourceNeeds = ResourceNeeds()
    teacher: ResourceNeeds = ResourceNeeds()
    discretizer: ResourceNeeds = ResourceNeeds()
    bank: ResourceNeeds = ResourceNeeds()
    generator: ResourceNeeds = ResourceNeeds()
    student: ResourceNeeds = ResourceNeeds()
    evaluation: ResourceNeeds = ResourceNeeds()
    report: ResourceNeeds = ResourceNeeds()


class RunSettings(Section):
    """How jobs run. Nothing here changes a number, so nothing here is in a key."""

    data: str = "data"
    checkpoint_seconds: Annotated[Number, Field(ge=0)] = 60.0
    shards_per_job: PositiveInt = 1
    gpus_per_evaluation: PositiveInt = 1
    resources: ResourceSettings = ResourceSettings()
