"""Stage: a teacher, trained from scratch: a classifier, or a small CLIP used zero-shot."""

from importlib import import_module

from pipeline.artifact import Job, Manifest
from pipeline.batch import Roles
from pipeline.data import Data, open_data
from pipeline.loop import fit
from pipeline.models import initialised
from pipeline.strict import make
from pipeline.training import (
    HISTORY,
    MODEL,
    dataset_source,
    last,
    place_of,
    recipe_of,
    save_student,
    validation_of,
)

REVISION = 1

CLIP = "pipeline.clip_teacher"  # found by name: only a CLIP's key counts its code


def run(job: Job) -> Manifest:
    """Train and save the teacher that the spec describes."""
    data = open_data(job.inputs["dataset"])
    if job.spec["clip"] is not None:
        return import_module(CLIP).train_clip(job, data)
    return train_classifier(job, data)


def train_classifier(job: Job, data: Data) -> Manifest:
    """A classifier on its objective."""
    spec, recipe = job.spec, recipe_of(job)
    student = initialised(spec["model"], len(data.classes), data.mean, data.std, spec["seed"])
    roles = Roles(student.to(spec["device"]))
    ((name, options),) = spec["objective"].items()
    objective = make("objectives", "Objective", name, options)
    source = dataset_source(job, data, recipe)
    history = fit(roles, objective, source, recipe, place_of(job), validation_of(job, data, recipe))
    save_student(job, roles, data.classes, history)
    return job.manifest([MODEL, HISTORY], last(history))
