"""Stage: a student, distilled from its teachers on a data set, a bank or a generator."""

from torch import nn

from pipeline.artifact import Job, Manifest
from pipeline.bank import read_bank
from pipeline.batch import Roles
from pipeline.data import open_data
from pipeline.data_free import open_warm
from pipeline.loop import fit
from pipeline.models import initialised
from pipeline.source import BankSource, Source
from pipeline.strict import make
from pipeline.training import (
    dataset_source,
    normalisation,
    place_of,
    recipe_of,
    save_student,
    teachers_of,
    validation_of,
)

REVISION = 1


def run(job: Job) -> Manifest:
    """Train and save the student that the spec describes."""
    if "generator" in job.inputs:
        return run_data_free(job)
    data, recipe = open_data(job.inputs["dataset"]), recipe_of(job)
    teachers = teachers_of(job)
    source: Source = dataset_source(job, data, recipe)
    if "bank" in job.inputs:
        source = BankSource(source, read_bank(job.inputs["bank"]))
    mean, std = normalisation(job, data)
    student = initialised(job.spec["model"], len(data.classes), mean, std, job.spec["seed"])
    roles = Roles(student.to(job.spec["device"]), teachers)
    fitted = fit(
        roles, objective_of(job), source, recipe, place_of(job), validation_of(job, data, recipe)
    )
    return save_student(job, roles, data.classes, fitted)


def run_data_free(job: Job) -> Manifest:
    """A student that goes on from a generator's warm-up, without one real image."""
    recipe, device = recipe_of(job), job.spec["device"]
    warm = open_warm(job.inputs["generator"])
    source = warm.source(recipe, job.spec["sampling"], job.spec["seed"], device)
    roles = Roles(warm.student().to(device), teachers_of(job))
    fitted = fit(roles, objective_of(job), source, recipe, place_of(job))
    return save_student(job, roles, warm.classes, fitted)


def objective_of(job: Job) -> nn.Module | object:
    """The job's objective with its hyper-parameters."""
    ((name, options),) = job.spec["objective"].items()
    return make("objectives", "Objective", name, options)
