"""What the training stages share: a job's device and place, its validation, its saved model."""

from pathlib import Path

from torch import nn

from pipeline.artifact import Job, open_artifact, replacing
from pipeline.batch import Roles
from pipeline.data import Data
from pipeline.loop import Place, write_history
from pipeline.models import load_classifier, save_classifier
from pipeline.sections import Recipe
from pipeline.source import DatasetSource, Schedule
from pipeline.validation import Validation

REVISION = 1

MODEL = "model.safetensors"
HISTORY = "history.json"


def place_of(job: Job) -> Place:
    """Where and how often a job saves its training state."""
    return Place(job.state, job.spec["device"], job.run["checkpoint_seconds"])


def recipe_of(job: Job) -> Recipe:
    """The job's recipe."""
    return Recipe.model_validate(job.spec["recipe"])


def schedule_of(job: Job, recipe: Recipe) -> Schedule:
    """Counters and seed of the job's source."""
    spec = job.spec
    return Schedule(recipe.epochs, recipe.batch, spec["seed"], recipe.augment, spec["device"])


def dataset_source(job: Job, data: Data, recipe: Recipe) -> DatasetSource:
    """The training split as batches."""
    train = data.split("train")
    return DatasetSource(train.images, train.labels, schedule_of(job, recipe))


def validation_of(job: Job, data: Data, recipe: Recipe) -> Validation | None:
    """The validation split, None if the data set has none."""
    val = data.split("val")
    if len(val.labels) == 0:
        return None
    device = job.spec["device"]
    robust = recipe.select_on == "val"
    return Validation(val.images.to(device), val.labels.to(device), robust, job.spec["seed"])


def teachers_of(job: Job) -> dict[str, nn.Module]:
    """The teachers among a job's inputs by role: frozen, in eval mode, on its device."""
    prefix = "teachers."
    return {
        role.removeprefix(prefix): load_teacher(folder, job.spec["device"])
        for role, folder in job.inputs.items()
        if role.startswith(prefix)
    }


def load_teacher(folder: Path, device: str) -> nn.Module:
    """One finished classifier, frozen, in eval mode."""
    model = load_classifier(open_artifact(folder).path(MODEL))
    return model.to(device).requires_grad_(False)


def save_student(job: Job, roles: Roles, classes: tuple[str, ...], history: list[dict]) -> None:
    """Write the trained classifier and its history."""
    with replacing(job.folder / MODEL) as temporary:
        save_classifier(roles.student, temporary, job.spec["model"], classes)
    write_history(job.folder / HISTORY, history)


def last(history: list[dict]) -> dict:
    """A training's facts for the manifest: the last epoch's record."""
    return {"epochs": len(history), "last": history[-1]}
