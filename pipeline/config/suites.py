"""The sections of suites and of the report, and settings of how jobs run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.paper_tables import PaperFigure, PaperTable
from pipeline.config.plugin_fields import AttackSpec, Plugin
from pipeline.config.sections.trained import Computed
from pipeline.schema import (
    Folder,
    NonNegativeInt,
    Number,
    PositiveInt,
    Section,
    Share,
    make_neutral_field,
    read_number,
)

DEFAULT_EPS = 8 / 255
THOROUGH = (  # attacks of the preset, whose radius and number of images the suite gives
    {"pgd": {"steps": 100, "restarts": 10}},
    {"apgd": {"loss": "ce", "restarts": 5}},
    {"apgd": {"loss": "mse", "restarts": 5}},
    {"multitargeted": {}},
    {"square": {"queries": 5000}},
    {"autoattack": {}},
)
GRADIENT_ATTACKS = ("fgsm", "pgd", "cw_linf", "apgd", "multitargeted", "autoattack")
ADDED_IMAGES = 200  # seen by the attacks that are added where gradients mislead
MODEL_FIGURES = ("adaad.3", "darwin.3a", "darwin.4")  # those that compute with chosen models
STEPPING = ("pgd", "multitargeted")  # those whose step has to fit the radius


class SuiteSettings(Section):
    """The attacks of a suite, run on students, teachers, generators' warm students, or all of them.

    Neither `epochs` nor the attack `boundary_risk` goes with `surrogate` or `dataset`, and
    `boundary_risk` may appear once in a suite.

    Attributes:
        attacks: the attacks, each with its options.
        models: what is attacked: `students`, `teachers`, `generators` for their warm students, or
            `all`; names of them, with or without a seed, and patterns such as `adaad-*`; roles of
            teachers, such as `robust`. A word that begins with `!` leaves out what it matches.
        surrogate: name of a teacher or student on which the attacks are made; whether they transfer
            is then tested.
        dataset: name of a data set on whose test images models are tested instead of their own.
        epochs: epochs whose weights are evaluated, of all models whose recipe keeps them
            (`keep_epochs`).
        preset: `thorough` in place of attacks: PGD-100 with ten starts, APGD on cross-entropy and
            on the squared error, MultiTargeted, Square with 5,000 queries, AutoAttack, and PGD-20
            transferred from every other model of the run that knows the same classes. It goes with
            neither `surrogate`, `dataset` nor `epochs`.
        eps: radius of the preset's attacks, in pixels of [0,1]; 8/255 unless given.
        n_eval: number of first images that the preset's attacks see; all unless given.
    """

    attacks: Annotated[tuple[AttackSpec, ...], Field(min_length=1)]
    models: tuple[str, ...] = (
        "students",
        "teachers",
        "generators",
    )
    surrogate: str | None = None
    dataset: str | None = None
    epochs: tuple[PositiveInt, ...] = make_neutral_field(())
    preset: Literal["thorough"] | None = None
    eps: Share | None = None
    n_eval: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def expand_preset(cls, value: Any) -> Any:
        """Puts the attacks of `preset: thorough` in their place."""
        if not isinstance(value, dict) or value.get("preset") is None:
            return value
        if value["preset"] != "thorough":
            raise ValueError(f"preset: {value['preset']!r} is unknown; known: thorough")
        if any(value.get(name) for name in ("attacks", "surrogate", "dataset", "epochs")):
            raise ValueError(
                "preset: goes with no attacks, surrogate, dataset or epochs; drop them"
            )
        seen = {"n_eval": value["n_eval"]} if value.get("n_eval") is not None else {}
        eps = DEFAULT_EPS if value.get("eps") is None else read_number(value["eps"])
        if eps is None or eps <= 0:
            raise ValueError(f"eps: {value['eps']!r} is no radius above 0, in pixels of [0,1]")
        attacks = [{"clean": seen}]
        for name, options in (item for attack in THOROUGH for item in attack.items()):
            step = {"step": eps / 4} if name in STEPPING else {}
            attacks.append({name: {**options, "eps": eps, **step, **seen}})
        return {**value, "attacks": attacks}

    @model_validator(mode="before")
    @classmethod
    def expand_models_shorthand(cls, value: Any) -> Any:
        """Expands `models: robust` to a list of one, and `models: all` to all of them."""
        if isinstance(value, dict) and isinstance(value.get("models"), str):
            word = value["models"]
            value = {k: v for k, v in value.items() if k != "models"}
            return value if word == "all" else {**value, "models": [word]}
        return value

    @model_validator(mode="after")
    def check_attacks_fit_models(self):
        """Checks that epochs and `boundary_risk` come without a surrogate or another data set."""
        if self.preset is None and (self.eps is not None or self.n_eval is not None):
            raise ValueError("eps: and 'n_eval' go with 'preset'; give them to each attack instead")
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
        network: name of a teacher or student whose BatchNorm layers give the statistics to compare.
        images: number of images of each distribution.
    """

    network: str
    images: PositiveInt = 1000


class ReportSettings(Section):
    """The section of the report.

    Attributes:
        title: heading of the page.
        samples: number of images in each of its rows of samples.
        wasserstein: settings of a figure that compares training images with shifted ones.
        tables: tables of the papers to be shown beside our numbers, such as `adaad.2`.
        figures: figures of the papers to be drawn from the configuration's own models and banks,
            such as `darwin.3b`.
        figure_models: the students and teachers that `adaad.3`, `darwin.3a` and `darwin.4` show, in
            the words of a suite's `models`; without it, `adaad.3` and `darwin.3a` show every
            student, and `darwin.4` the first nine models, teachers before students.
        figure_images: number of test images that `adaad.3` and `darwin.3a` attack, on the CPU.
        corruption_reference: name of a teacher or student by whose corruption errors those of all
            models are divided, on test sets with corruptions other than ImageNet-C.
    """

    title: str = "Robust students, one teacher bank"
    samples: PositiveInt = 6
    wasserstein: WassersteinSettings | None = make_neutral_field(None)
    tables: tuple[PaperTable, ...] = make_neutral_field(())
    figures: tuple[PaperFigure, ...] = make_neutral_field(())
    figure_models: tuple[str, ...] = make_neutral_field(())
    figure_images: PositiveInt = make_neutral_field(100)
    corruption_reference: str | None = make_neutral_field(None)

    @model_validator(mode="after")
    def check_figures_fit(self):
        """Checks that figures and what they need come together."""
        if "dad.2" in self.figures and self.wasserstein is None:
            raise ValueError("figures: dad.2 needs 'wasserstein': {network: …}; add it")
        if self.figure_models and not {*MODEL_FIGURES} & {*self.figures}:
            raise ValueError(
                f"figure_models: is for {', '.join(MODEL_FIGURES)}; add one to 'figures', or drop "
                "the models"
            )
        return self


class ReportSpec(ReportSettings):
    """The spec of the report.

    ``names`` pairs every `kind/name` with its ref. ``figure_models`` holds such names, no patterns.
    """

    names: tuple[tuple[str, str], ...]


class ResourceNeeds(Section):
    """What a kind's jobs ask of a cluster; memory and time are multiplied by the attempt.

    Attributes:
        mem_mb: memory of a job, in MB.
        runtime: longest time of a job, in minutes.
        gpus: number of GPUs of a job; those that it computes on unless given.
        partition: name of the cluster's partition.
    """

    mem_mb: PositiveInt | None = None
    runtime: PositiveInt | None = None  # minutes
    gpus: NonNegativeInt | None = None  # default: the GPUs that the job computes on
    partition: str | None = None


class ResourceSettings(Section):
    """Needs by kind; a field that a kind does not set is taken from `all`.

    Attributes:
        all: what every job asks for unless its kind says otherwise.
        dataset: what a job that makes a data set asks for.
        teacher: what a job that makes a teacher asks for.
        discretizer: what a job that makes a discretizer asks for.
        bank: what a job that makes a group of a bank's shards asks for.
        generator: what a job that makes a generator asks for.
        student: what a job that makes a student asks for.
        evaluation: what a job that makes an evaluation asks for.
        report: what a job that makes the report asks for.
    """

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
    """How jobs run. Nothing here changes a number, so nothing here is in a key.

    Attributes:
        data: folder of the data, in which sources look for their files and keep what they fetch.
        checkpoint_seconds: time between two checkpoints of a training, in seconds.
        shards_per_job: number of a bank's shards that one job makes.
        gpus_per_evaluation: number of GPUs among which one evaluation splits its images.
        logging: trackers that get every epoch's numbers while a model trains:
            `tensorboard`, `mlflow`.
        resources: what jobs ask of a cluster, by kind.
    """

    data: Folder = "data"
    checkpoint_seconds: Annotated[Number, Field(ge=0)] = 60.0
    shards_per_job: PositiveInt = 1
    gpus_per_evaluation: PositiveInt = 1
    logging: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    resources: ResourceSettings = ResourceSettings()
