"""Stage: a student, distilled from its teachers on a data set, a bank or a generator."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from pipeline.banks.batches import make_bank_source
from pipeline.config.recipe import Recipe
from pipeline.config.specs import get_spec
from pipeline.core.batch import Discretizer, Roles
from pipeline.data import mixture
from pipeline.data.batches import BatchSource
from pipeline.data.dataset_artefact import DatasetArtefact, open_dataset
from pipeline.data_free.session import open_generator
from pipeline.models.classifier import MODEL_FILE, initialise_classifier, read_metadata
from pipeline.models.frozen_forms import form_teacher
from pipeline.models.pretrained import finetune_init
from pipeline.schema import make_plugin
from pipeline.store.artefact import Job, Manifest, open_artefact
from pipeline.training.gradient_matching import GradientMatching
from pipeline.training.job_setup import (
    load_teachers,
    make_checkpoint_settings,
    make_dataset_source,
    make_validation_split,
    resolve_normalisation,
    save_student,
)
from pipeline.training.loop import fit

REVISION = 1


def run(job: Job) -> Manifest:
    """Train and save the student that the spec describes."""
    if "generator" in job.inputs:
        return run_data_free(job)
    data, spec = open_dataset(job.inputs["dataset"]), get_spec(job)
    classes, (teachers, forms) = list_classes(job, data), load_formed_teachers(job)
    mean, std = resolve_normalisation(data, spec.normalise, spec.init)
    student = initialise_classifier(spec.model, len(classes), mean, std, spec.seed)
    if spec.init is not None:
        path = Path(job.run["init"]).expanduser()
        about = spec.init.sha256, student, len(classes), spec.init.take
        finetune_init.load_initial_weights(path, *about)
    roles = Roles(student.to(spec.device), teachers, load_discretizer(job))
    validation = make_validation_split(job, data, spec.recipe) if classes == data.classes else None
    source = make_source(job, data, spec.recipe)
    fitted = fit(
        roles, make_objective(job), source, spec.recipe, make_checkpoint_settings(job), validation
    )
    manifest = save_student(job, roles, classes, fitted)
    return replace(manifest, facts=manifest.facts | forms)


def load_formed_teachers(job: Job) -> tuple[dict[str, nn.Module], dict]:
    """The teachers by role, in the form that the recipe asks for, and that form as facts."""
    teachers, recipe = load_teachers(job), get_spec(job).recipe
    if recipe.teacher_form == "as_trained":
        return teachers, {}
    forms, rounds_all = {}, recipe.bf16 == "both"  # else some pass runs without autocast
    for role, teacher in teachers.items():
        about = teacher, f"teacher '{role}'"
        teachers[role], forms[role] = form_teacher(*about, holds_bf16=rounds_all)
    return teachers, {"teacher_form": forms}


def list_classes(job: Job, data: DatasetArtefact) -> tuple[str, ...]:
    """The classes that a student learns: its data set's, or its teacher's if labels are unread."""
    teachers = [folder for role, folder in job.inputs.items() if role.startswith("teachers.")]
    if not get_spec(job).label_free or not teachers:
        return data.classes
    return tuple(read_metadata(open_artefact(teachers[0]).get_verified_path(MODEL_FILE))["classes"])


def load_discretizer(job: Job) -> Discretizer | None:
    """The job's discretizer Q, frozen, for objectives that discretize samples; None without one."""
    if "discretizer" not in job.inputs:
        return None
    path = open_artefact(job.inputs["discretizer"]).get_verified_path(MODEL_FILE)
    from pipeline.models import vqgan  # imports taming

    return vqgan.load(path).to(get_spec(job).device).requires_grad_(False)


def make_source(job: Job, data: DatasetArtefact, recipe: Recipe) -> BatchSource:
    """Batches of the data set, with a bank or a second data set where the job has one."""
    source: BatchSource = make_dataset_source(job, data, recipe)
    spec = get_spec(job)
    if "bank" in job.inputs:
        needs = make_objective(job).needs()
        source = make_bank_source(source, job.inputs["bank"], needs)
    if "extra" in job.inputs:
        extra = open_dataset(job.inputs["extra"]).read_split("train")
        source = mixture.MixedSource(source, extra.images, extra.labels, spec.extra.share)
    if spec.label_free:
        source = mixture.UnlabelledSource(source)
    return source


def run_data_free(job: Job) -> Manifest:
    """Train and save a student that continues a generator's warm-up, without real images."""
    spec = get_spec(job)
    recipe, seed, device = spec.recipe, spec.seed, spec.device
    warm, teachers = open_generator(job.inputs["generator"]), load_teachers(job)
    if spec.surrogate is not None:
        early = warm.load_student_snapshot(spec.surrogate).to(device)
        teachers["natural"] = early.requires_grad_(False)
    source = warm.resume_source(
        recipe, spec.sampling, seed, device, warm.find_teacher_role(job.inputs)
    )
    roles = Roles(warm.load_student(seed).to(device), teachers)
    fitted = fit(roles, make_objective(job), source, recipe, make_checkpoint_settings(job))
    return save_student(job, roles, warm.classes, fitted)


def make_objective(job: Job) -> nn.Module | object:
    """The job's objective with its hyper-parameters, and IGDM's term where it carries one."""
    spec = get_spec(job)
    ((name, options),) = spec.objective.items()
    objective = make_plugin("objectives", "Objective", name, options)
    return GradientMatching(objective, spec.igdm.alpha) if spec.igdm else objective
