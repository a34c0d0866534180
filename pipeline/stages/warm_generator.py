"""Stage: a generator and a warm student from a natural teacher, without data (DERD, stage I)."""

from torch import nn

from pipeline.config.specs import get_spec
from pipeline.core.batch import Roles
from pipeline.core.images import scale_to_unit_range
from pipeline.data.batches import BatchSource
from pipeline.data_free.replay_pool import GRID_SHAPE
from pipeline.data_free.session import SOURCE_FILE, make_source
from pipeline.models.classifier import (
    MODEL_FILE,
    initialise_classifier,
    read_metadata,
    save_classifier,
)
from pipeline.models.loading import load_teacher
from pipeline.objectives.data_free_kd import Objective
from pipeline.store import checkpoint
from pipeline.store.artefact import Job, Manifest, open_artefact, write_atomically
from pipeline.training.job_setup import make_checkpoint_settings, save_student
from pipeline.training.loop import fit

REVISION = 2

SAMPLES_FILE = "samples.png"


def run(job: Job) -> Manifest:
    """Warm up generator and student together and save both."""
    spec = get_spec(job)
    about = read_metadata(open_artefact(job.inputs["teacher"]).get_verified_path(MODEL_FILE))
    classes = tuple(about["classes"])
    student = initialise_classifier(
        spec.model, len(classes), about["mean"], about["std"], spec.seed
    )
    if not spec.warm:
        return save_untrained(job, student, classes)
    teacher = load_teacher(job.inputs["teacher"], spec.device)
    roles = Roles(student.to(spec.device), {"natural": teacher})
    source = make_source(spec, about, spec.recipe, spec.seed, spec.device)
    fitted = fit(roles, Objective(), source, spec.recipe, make_checkpoint_settings(job))
    trained = save_student(job, roles, classes, fitted)
    checkpoint.save(job.folder / SOURCE_FILE, source.state_dict())
    return job.build_manifest(
        [*trained.files, SOURCE_FILE, *save_sample_grids(job, source)], trained.facts
    )


def save_untrained(job: Job, student: nn.Module, classes: tuple[str, ...]) -> Manifest:
    """Save an untrained student: later ones read model, classes, mean and std from its file."""
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save_classifier(student, temporary, get_spec(job).model, classes)
    return job.build_manifest([MODEL_FILE], {"epochs": 0})


def save_sample_grids(job: Job, source: BatchSource) -> list[str]:
    """Save image grids of the finished generator and of the epochs asked for; returns the files."""
    from torchvision.utils import save_image  # seconds to import

    grids = {f"samples-{epoch + 1:04d}.png": images for epoch, images in source.grids.items()}
    grids[SAMPLES_FILE] = source.make_grid_images()
    for name, images in grids.items():
        with write_atomically(job.folder / name) as temporary:
            save_image(scale_to_unit_range(images), temporary, nrow=GRID_SHAPE[1], format="png")
    return list(grids)
