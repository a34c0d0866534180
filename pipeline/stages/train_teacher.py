"""Stage: a teacher, which is a classifier trained here or elsewhere, or a CLIP."""

from pipeline.config.specs import get_spec
from pipeline.core.batch import Roles
from pipeline.core.collectives import get_rank
from pipeline.data.dataset_artefact import DatasetArtefact, open_dataset
from pipeline.models.classifier import initialise_classifier
from pipeline.schema import make_plugin
from pipeline.stages import pretrained_teacher
from pipeline.stages.teacher_trial import try_teacher
from pipeline.store.artefact import Job, Manifest
from pipeline.training.job_setup import (
    make_checkpoint_settings,
    make_dataset_source,
    make_validation_split,
    resolve_normalisation,
    save_student,
)
from pipeline.training.loop import fit

REVISION = 1


def run(job: Job) -> Manifest:
    """Train or load the teacher that the spec describes, and save it."""
    data, spec = open_dataset(job.inputs["dataset"]), get_spec(job)
    if spec.checkpoint is not None:
        return pretrained_teacher.load_checkpoint(job, data)
    if spec.open_clip is not None:
        from pipeline.stages import open_clip_teacher  # imports open_clip

        return open_clip_teacher.load_open_clip(job, data)
    if spec.clip is not None:
        from pipeline.stages import clip_teacher

        return clip_teacher.train_clip(job, data)
    return train_classifier(job, data)


def train_classifier(job: Job, data: DatasetArtefact) -> Manifest:
    """Train a classifier with its objective, and save it."""
    spec = get_spec(job)
    recipe, (mean, std) = spec.recipe, resolve_normalisation(data, spec.normalise)
    student = initialise_classifier(spec.model, len(data.classes), mean, std, spec.seed)
    roles = Roles(student.to(spec.device))
    ((name, options),) = spec.objective.items()
    objective = make_plugin("objectives", "Objective", name, options)
    source = make_dataset_source(job, data, recipe)
    fitted = fit(
        roles,
        objective,
        source,
        recipe,
        make_checkpoint_settings(job),
        make_validation_split(job, data, recipe),
    )
    if get_rank() == 0 and not job.run.get("unverified"):
        try_teacher(roles.student, data, f"teacher {job.name}", False, stops=False)
    return save_student(job, roles, data.classes, fitted)
