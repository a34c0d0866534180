"""What the training stages share: sources, validation and teachers of a job, its saved model."""

from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.config.sections.outside import CheckpointSpec
from pipeline.config.sections.trained import NormaliseOption
from pipeline.config.specs import get_spec
from pipeline.core.batch import Roles
from pipeline.core.mixup import MixSettings
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.models.classifier import MODEL_FILE, save_classifier
from pipeline.models.loading import load_teacher
from pipeline.store.artefact import Job, Manifest, write_atomically
from pipeline.training.loop import write_history
from pipeline.training.state import CheckpointSettings, TrainingResult
from pipeline.training.validation import ValidationSplit

REVISION = 1

HISTORY_FILE = "history.json"


def make_checkpoint_settings(job: Job) -> CheckpointSettings:
    """Where and how often a job saves its training state, and the trackers that follow it."""
    seconds, trackers = job.run["checkpoint_seconds"], tuple(job.run.get("logging", ()))
    return CheckpointSettings(job.state_folder, get_spec(job).device, seconds, trackers)


def parse_recipe(job: Job) -> Recipe:
    """The job's recipe."""
    return get_spec(job).recipe


def make_schedule(job: Job, recipe: Recipe, class_count: int) -> BatchSchedule:
    """The batch schedule of the job's source."""
    spec = get_spec(job)
    return BatchSchedule(
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=spec.seed,
        augment=recipe.augment,
        device=spec.device,
        rand_augment=recipe.rand_augment,
        erase=recipe.erase,
        mixing=MixSettings(recipe.mixup, recipe.cutmix, recipe.smoothing, max(class_count, 1)),
    )


def make_dataset_source(job: Job, data: DatasetArtefact, recipe: Recipe) -> DatasetSource:
    """The source of batches of the training split."""
    train = data.read_split("train")
    schedule = make_schedule(job, recipe, len(data.classes))
    return DatasetSource(train.images, train.labels, schedule)


def resolve_normalisation(
    data: DatasetArtefact, normalise: NormaliseOption, init: CheckpointSpec | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of a new network: those of ``init``, of the data set, or 0 and 1."""
    if init is not None and init.mean is not None:
        return init.mean, init.std
    if normalise == "none":
        return (0.0,) * len(data.mean), (1.0,) * len(data.std)
    return data.mean, data.std


def make_validation_split(
    job: Job, data: DatasetArtefact, recipe: Recipe
) -> ValidationSplit | None:
    """The split that is evaluated during training; None if the data set has no validation split.

    It is the test split only where the recipe selects on it, as some papers did.
    """
    split = data.read_split("test" if recipe.select_on == "test" else "val")
    if len(split.labels) == 0:
        return None
    spec, measures_robust = get_spec(job), recipe.select_on != "last"
    images, labels = split.images.to(spec.device), split.labels.to(spec.device)
    return ValidationSplit(images, labels, measures_robust, spec.seed)


def load_teachers(job: Job) -> dict[str, nn.Module]:
    """The teachers among a job's inputs, by role: frozen, in eval mode, on the job's device."""
    prefix, device = "teachers.", get_spec(job).device
    return {
        role.removeprefix(prefix): load_teacher(folder, device)
        for role, folder in job.inputs.items()
        if role.startswith(prefix)
    }


def save_student(
    job: Job, roles: Roles, classes: tuple[str, ...], result: TrainingResult
) -> Manifest:
    """The manifest of a trained classifier; writes it, the other kept weights and its history.

    The last epoch's record is among the manifest's facts.
    """
    student, names, model = roles.student, [MODEL_FILE, HISTORY_FILE], get_spec(job).model
    final_weights = {name: value.clone() for name, value in student.state_dict().items()}
    for name, weights in {**result.kept_weights, MODEL_FILE: final_weights}.items():
        file_name = name if name == MODEL_FILE else f"{name}.safetensors"
        student.load_state_dict(weights)
        with write_atomically(job.folder / file_name) as temporary:
            save_classifier(student, temporary, model, classes)
        names.append(file_name)
    write_history(job.folder / HISTORY_FILE, result.history)
    return job.build_manifest(sorted(set(names)), summarise_history(result.history))


def summarise_history(history: list[dict]) -> dict:
    """Facts of a training for the manifest: number of epochs and the last epoch's record."""
    return {"epochs": len(history), "last": history[-1]}
