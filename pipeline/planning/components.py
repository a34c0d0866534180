"""Which modules' REVISIONs count in a key: what the files of ``entries/`` share.

Each kind's file there lists by name what makes its artefacts: ``COMPONENTS`` always, ``OPTIONAL``
where its section asks for it, and ``EXEMPT`` what its stage imports though it changes no number of
this kind, with the reason. A plug-in declares its own ``COMPONENTS`` beside its REVISION. The lists
decide; a test walks the imports of every stage and plug-in and fails where a list is not whole.
"""

from pipeline.config.recipe import Recipe

DATA = (
    "pipeline.core.images",
    "pipeline.data.dataset_artefact",
    "pipeline.data.splits",
)
CLASSIFIER = (
    "pipeline.models.classifier",
    "pipeline.models.loading",
)
BATCHES = (
    *DATA,
    "pipeline.core.augment",
    "pipeline.core.batch",
    "pipeline.core.mixup",
    "pipeline.core.seeding",
    "pipeline.data.batches",
)
TRAINING = (
    *BATCHES,
    *CLASSIFIER,
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.training.job_setup",
    "pipeline.training.loop",
    "pipeline.training.optim",
    "pipeline.training.state",
    "pipeline.training.validation",
)
SEVERAL_GPUS = (
    "pipeline.training.data_parallel",
    "pipeline.training.sync_batchnorm",
)
GENERATOR = (
    "pipeline.data_free.replay_pool",
    "pipeline.data_free.session",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)
GENERATOR_BATCHES = ("pipeline.data_free.generator_batches",)
INVERSION_BATCHES = ("pipeline.data_free.inversion_batches",)

IN_DATASET_KEY = dict.fromkeys(  # what opens images that stay in their files
    ("pipeline.data.image_folder", "pipeline.data.lazy_images"),
    "counts through the key of the data set",
)
IN_MODEL_KEY = dict.fromkeys(  # what loads a CLIP
    (
        "pipeline.architectures.resnet_small",
        "pipeline.models.clip",
        "pipeline.models.clip_tuned",
    ),
    "counts through the key of the model",
)


def list_data_parallel_components(recipe: Recipe) -> tuple[str, ...]:
    """What splits a recipe's batches, where there is more than one process."""
    return SEVERAL_GPUS if recipe.gpus > 1 else ()


def find_objective_module(objective: dict) -> str:
    """The module of an objective's spec."""
    (name,) = objective
    return f"pipeline.objectives.{name}"


def list_attack_modules(attacks: list[dict]) -> tuple[str, ...]:
    """The modules of a suite's attacks."""
    return tuple(f"pipeline.attacks.{name}" for attack in attacks for name in attack)
