"""Sections on what happens to finished models, and on how jobs run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.plugin_fields import AttackSpec, Plugin
from pipeline.config.sections.trained import Computed
from pipeline.schema import NonNegativeInt, Number, PositiveInt, Section, make_neutral_field


class SuiteSettings(Section):
    """Attacks, run on students, teachers, generators' warm students, or all of them.

    With a ``surrogate``, a teacher or student, they are made on that model and transferred. With a
    ``dataset`` models are tested on its test images in place of their own data set's. With
    ``epochs`` it looks at weights after these epochs, of all models whose recipe keeps them;
    neither that nor the attack `boundary_risk`, once in a suite, goes with the other two.
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
        """`models: students` is short for a list of one, `all` for every section."""
        if isinstance(value, dict) and isinstance(value.get("models"), str):
            word = value["models"]
            value = {k: v for k, v in value.items() if k != "models"}
            return value if word == "all" else {**value, "models": [word]}
        return value

    @model_validator(mode="after")
    def check_attacks_fit_models(self):
        """Weights of an epoch and boundaries are of a model by itself, on its own images."""
        alone = {"epochs": bool(self.epochs), "attacks.boundary_risk": self.boundary_count > 0}
        for name, asked in alone.items():
            for other in ("surrogate", "dataset"):
                if asked and getattr(self, other) is not None:
                    raise ValueError(f"{name}: does not go with '{other}'; drop one of them")
        if self.boundary_count > 1:
            raise ValueError(
                "attacks.boundary_risk: once in a suite; give the other a suite of its own"
            )
        return self

    @property
    def boundary_count(self) -> int:
        """How often the attack `boundary_risk` is asked for."""
        return sum("boundary_risk" in attack for attack in self.attacks)


class EvaluationSpec(Computed):
    """An evaluation as its job makes it.

    Attributes:
        shifted: whether the model is tested on images of another data set than its own.
        epoch: whose weights are evaluated; None for the exported ones.
    """

    attacks: tuple[Plugin, ...]
    shifted: bool = False
    epoch: PositiveInt | None = None


class WassersteinSettings(Section):
    """The study of distances between training images and shifted ones.

    Attributes:
        network: a teacher or student with BatchNorm, by whose statistics they are compared.
        images: how many of each distribution.
    """

    network: str
    images: PositiveInt = 1000


class ReportSettings(Section):
    """What the report says of itself and compares."""

    title: str = "Robust students, one teacher bank"
    samples: PositiveInt = 6
    wasserstein: WassersteinSettings | None = make_neutral_field(None)


class ReportSpec(ReportSettings):
    """The report as its job writes it: ``names`` are all of `kind/name`, each with its ref."""

    names: tuple[tuple[str, str], ...]


class ResourceNeeds(Section):
    """What a kind's jobs ask of a cluster; memory and time times the attempt."""

    mem_mb: PositiveInt | None = None
    runtime: PositiveInt | None = None  # minutes
    gpus: NonNegativeInt | None = None  # default: those that it computes on
    partition: str | None = None


class ResourceSettings(Section):
    """Needs by kind; `all` stands for what a kind leaves open."""

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
