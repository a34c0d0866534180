"""Lists of components whose REVISIONs are in a key, shared by the files of ``entries/``.

Each file there names the modules that make its kind. ``COMPONENTS`` are always in the key,
``OPTIONAL`` ones only where the section asks for them. ``EXEMPT`` names modules that the stage
imports although they change no number of this kind, each with the reason. A plug-in declares its
own ``COMPONENTS`` beside its REVISION. These lists alone decide. A test walks the imports of every
stage and plug-in and fails where a list is incomplete.
"""

from pipeline.config.recipe import Recipe
from pipeline.discovery import get_module_name

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

IN_DATASET_KEY = dict.fromkeys(  # modules that open images that stay in their files
    ("pipeline.data.image_folder", "pipeline.data.lazy_images"),
    "counts through the key of the data set",
)
IN_MODEL_KEY = dict.fromkeys(  # modules that load a CLIP
    (
        "pipeline.architectures.resnet_small",
        "pipeline.models.clip",
        "pipeline.models.clip_tuned",
    ),
    "counts through the key of the model",
)

NO_TRAINED_ROLE = dict.fromkeys(
    ("pipeline.training.trained_roles",), "no teacher trains beside what this kind trains"
)


def list_data_parallel_components(recipe: Recipe) -> tuple[str, ...]:
    """The modules that split a recipe's batches; none where one process trains."""
    return SEVERAL_GPUS if recipe.gpus > 1 else ()


def find_objective_module(objective: dict) -> str:
    """The module of an objective's spec."""
    (name,) = objective
    return get_module_name("objectives", name)


def list_attack_modules(attacks: list[dict]) -> tuple[str, ...]:
    """The modules of a suite's attacks."""
    return tuple(get_module_name("attacks", name) for attack in attacks for name in attack)
