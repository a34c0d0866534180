"""Stage: a student, distilled from its teachers on a data set, a bank or a generator."""

from pathlib import Path

from torch import nn

from pipeline.banks.batches import with_bank
from pipeline.config.recipe import Recipe
from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.data import mixture
from pipeline.data.batches import Source
from pipeline.data.dataset_artifact import Data, open_data
from pipeline.data_free.session import open_warm
from pipeline.models.classifier import MODEL, initialised, read_about
from pipeline.models.pretrained import finetune_init
from pipeline.schema import make
from pipeline.store.artifact import Job, Manifest, open_artifact
from pipeline.training.job_setup import (
    dataset_source,
    normalisation,
    place_of,
    save_student,
    teachers_of,
    validation_of,
)
from pipeline.training.loop import fit

REVISION = 1


def run(job: Job) -> Manifest:
    """Train and save the student that the spec describes."""
    if "generator" in job.inputs:
        return run_data_free(job)
    data, spec = open_data(job.inputs["dataset"]), spec_of(job)
    classes, teachers = classes_of(job, data), teachers_of(job)
    mean, std = normalisation(data, spec.normalise, spec.init)
    student = initialised(spec.model, len(classes), mean, std, spec.seed)
    if spec.init is not None:
        path = Path(job.run["init"]).expanduser()
        finetune_init.begin(path, spec.init.sha256, student, len(classes))
    roles = Roles(student.to(spec.device), teachers, quantiser_of(job))
    watched = validation_of(job, data, spec.recipe) if classes == data.classes else None
    source = source_of(job, data, spec.recipe)
    fitted = fit(roles, objective_of(job), source, spec.recipe, place_of(job), watched)
    return save_student(job, roles, classes, fitted)


def classes_of(job: Job, data: Data) -> tuple[str, ...]:
    """The classes a student learns: its data set's, or its teacher's where labels mean nothing."""
    teachers = [folder for role, folder in job.inputs.items() if role.startswith("teachers.")]
    if not spec_of(job).label_free or not teachers:
        return data.classes
    return tuple(read_about(open_artifact(teachers[0]).path(MODEL))["classes"])


def quantiser_of(job: Job) -> nn.Module | None:
    """Q of the job's discretiser, frozen, for objectives that make discrete samples themselves."""
    if "discretizer" not in job.inputs:
        return None
    path = open_artifact(job.inputs["discretizer"]).path(MODEL)
    from pipeline.models import vqgan  # imports taming

    return vqgan.load(path).to(spec_of(job).device).requires_grad_(False)


def source_of(job: Job, data: Data, recipe: Recipe) -> Source:
    """Batches of the data set, with a bank or a second data set where the job has one."""
    source: Source = dataset_source(job, data, recipe)
    spec = spec_of(job)
    if "bank" in job.inputs:
        needs = objective_of(job).needs()
        source = with_bank(source, job.inputs["bank"], needs)
    if "extra" in job.inputs:
        extra = open_data(job.inputs["extra"]).split("train")
        source = mixture.MixedSource(source, extra.images, extra.labels, spec.extra.share)
    if spec.label_free:
        source = mixture.Unlabelled(source)
    return source


def run_data_free(job: Job) -> Manifest:
    """A student that goes on from a generator's warm-up, without one real image."""
    spec = spec_of(job)
    recipe, seed, device = spec.recipe, spec.seed, spec.device
    warm, teachers = open_warm(job.inputs["generator"]), teachers_of(job)
    if spec.surrogate is not None:
        early = warm.snapshot(spec.surrogate).to(device)
        teachers["natural"] = early.requires_grad_(False)
    source = warm.source(recipe, spec.sampling, seed, device, warm.role_in(job.inputs))
    roles = Roles(warm.student(seed).to(device), teachers)
    fitted = fit(roles, objective_of(job), source, recipe, place_of(job))
    return save_student(job, roles, warm.classes, fitted)


def objective_of(job: Job) -> nn.Module | object:
    """The job's objective with its hyper-parameters."""
    ((name, options),) = spec_of(job).objective.items()
    return make("objectives", "Objective", name, options)
