"""What the training stages share: a job's device and place, its validation, its saved model."""

from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.config.sections.outside import CheckpointSpec
from pipeline.config.sections.trained import Normalise
from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.core.mixup import Mixing
from pipeline.data.batches import DatasetSource, Schedule
from pipeline.data.dataset_artifact import Data
from pipeline.models.classifier import MODEL, save_classifier
from pipeline.models.loading import load_teacher
from pipeline.store.artifact import Job, Manifest, replacing
from pipeline.training.loop import write_history
from pipeline.training.state import Fitted, Place
from pipeline.training.validation import Validation

REVISION = 1

HISTORY = "history.json"


def place_of(job: Job) -> Place:
    """Where and how often a job saves its training state."""
    return Place(job.state, spec_of(job).device, job.run["checkpoint_seconds"])


def recipe_of(job: Job) -> Recipe:
    """The job's recipe."""
    return spec_of(job).recipe


def schedule_of(job: Job, recipe: Recipe, classes: int) -> Schedule:
    """Counters, seed and augmentation of the job's source."""
    spec = spec_of(job)
    return Schedule(
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=spec.seed,
        augment=recipe.augment,
        device=spec.device,
        rand_augment=recipe.rand_augment,
        erase=recipe.erase,
        mixing=Mixing(recipe.mixup, recipe.cutmix, recipe.smoothing, max(classes, 1)),
    )


def dataset_source(job: Job, data: Data, recipe: Recipe) -> DatasetSource:
    """The training split as batches."""
    train = data.split("train")
    schedule = schedule_of(job, recipe, len(data.classes))
    return DatasetSource(train.images, train.labels, schedule)


def normalisation(
    data: Data, normalise: Normalise, init: CheckpointSpec | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of a new network: its first weights', the data set's, or none at all."""
    if init is not None and init.mean is not None:
        return init.mean, init.std
    if normalise == "none":
        return (0.0,) * len(data.mean), (1.0,) * len(data.std)
    return data.mean, data.std


def validation_of(job: Job, data: Data, recipe: Recipe) -> Validation | None:
    """The split that training watches, None if the data set has no validation split.

    It is the test split only where the recipe selects on it, as some papers did.
    """
    split = data.split("test" if recipe.select_on == "test" else "val")
    if len(split.labels) == 0:
        return None
    spec, robust = spec_of(job), recipe.select_on != "last"
    images, labels = split.images.to(spec.device), split.labels.to(spec.device)
    return Validation(images, labels, robust, spec.seed)


def teachers_of(job: Job) -> dict[str, nn.Module]:
    """The teachers among a job's inputs by role: frozen, in eval mode, on its device."""
    prefix, device = "teachers.", spec_of(job).device
    return {
        role.removeprefix(prefix): load_teacher(folder, device)
        for role, folder in job.inputs.items()
        if role.startswith(prefix)
    }


def save_student(job: Job, roles: Roles, classes: tuple[str, ...], fitted: Fitted) -> Manifest:
    """Write the trained classifier, the weights kept beside it and its history.

    Returns the manifest over them, the last epoch's record among its facts.
    """
    student, names, model = roles.student, [MODEL, HISTORY], spec_of(job).model
    exported = {name: value.clone() for name, value in student.state_dict().items()}
    for name, weights in {**fitted.kept, MODEL: exported}.items():
        file = name if name == MODEL else f"{name}.safetensors"
        student.load_state_dict(weights)
        with replacing(job.folder / file) as temporary:
            save_classifier(student, temporary, model, classes)
        names.append(file)
    write_history(job.folder / HISTORY, fitted.history)
    return job.manifest(sorted(set(names)), last(fitted.history))


def last(history: list[dict]) -> dict:
    """A training's facts for the manifest: the last epoch's record."""
    return {"epochs": len(history), "last": history[-1]}
