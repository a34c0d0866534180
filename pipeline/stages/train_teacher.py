"""Stage: a teacher: a classifier trained here or elsewhere, or a CLIP."""

from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.data.dataset_artifact import Data, open_data
from pipeline.models.classifier import initialised
from pipeline.schema import make
from pipeline.stages import pretrained_teacher
from pipeline.store.artifact import Job, Manifest
from pipeline.training.job_setup import (
    dataset_source,
    normalisation,
    place_of,
    save_student,
    validation_of,
)
from pipeline.training.loop import fit

REVISION = 1


def run(job: Job) -> Manifest:
    """Train, or take over, and save the teacher that the spec describes."""
    data, spec = open_data(job.inputs["dataset"]), spec_of(job)
    if spec.checkpoint is not None:
        return pretrained_teacher.load_checkpoint(job, data)
    if spec.open_clip is not None:
        from pipeline.stages import open_clip_teacher  # imports open_clip

        return open_clip_teacher.load_open_clip(job, data)
    if spec.clip is not None:
        from pipeline.stages import clip_teacher

        return clip_teacher.train_clip(job, data)
    return train_classifier(job, data)


def train_classifier(job: Job, data: Data) -> Manifest:
    """A classifier on its objective."""
    spec = spec_of(job)
    recipe, (mean, std) = spec.recipe, normalisation(data, spec.normalise)
    student = initialised(spec.model, len(data.classes), mean, std, spec.seed)
    roles = Roles(student.to(spec.device))
    ((name, options),) = spec.objective.items()
    objective = make("objectives", "Objective", name, options)
    source = dataset_source(job, data, recipe)
    fitted = fit(roles, objective, source, recipe, place_of(job), validation_of(job, data, recipe))
    return save_student(job, roles, data.classes, fitted)
