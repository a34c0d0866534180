"""Stage: a generator and a warm student from a natural teacher, without data (DERD, stage I)."""

from torch import nn
from torchvision.utils import save_image

from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.core.images import pixels
from pipeline.data.batches import Source
from pipeline.data_free.replay_pool import GRID
from pipeline.data_free.session import SOURCE, make_source
from pipeline.models.classifier import MODEL, initialised, read_about, save_classifier
from pipeline.models.loading import load_teacher
from pipeline.objectives.data_free_kd import Objective
from pipeline.store import checkpoint
from pipeline.store.artifact import Job, Manifest, open_artifact, replacing
from pipeline.training.job_setup import place_of, save_student
from pipeline.training.loop import fit

REVISION = 2

SAMPLES = "samples.png"


def run(job: Job) -> Manifest:
    """Warm generator and student up together and save both."""
    spec = spec_of(job)
    about = read_about(open_artifact(job.inputs["teacher"]).path(MODEL))
    classes = tuple(about["classes"])
    student = initialised(spec.model, len(classes), about["mean"], about["std"], spec.seed)
    if not spec.warm:
        return cold(job, student, classes)
    teacher = load_teacher(job.inputs["teacher"], spec.device)
    roles = Roles(student.to(spec.device), {"natural": teacher})
    source = make_source(spec, about, spec.recipe, spec.seed, spec.device)
    fitted = fit(roles, Objective(), source, spec.recipe, place_of(job))
    trained = save_student(job, roles, classes, fitted)
    checkpoint.save(job.folder / SOURCE, source.state_dict())
    return job.manifest([*trained.files, SOURCE, *draw(job, source)], trained.facts)


def cold(job: Job, student: nn.Module, classes: tuple[str, ...]) -> Manifest:
    """No warm-up: the model says what its students begin with."""
    with replacing(job.folder / MODEL) as temporary:
        save_classifier(student, temporary, spec_of(job).model, classes)
    return job.manifest([MODEL], {"epochs": 0})


def draw(job: Job, source: Source) -> list[str]:
    """Grids of images: from the finished generator, and as the epochs asked for began."""
    grids = {f"samples-{epoch + 1:04d}.png": images for epoch, images in source.grids.items()}
    grids[SAMPLES] = source.picture()
    for name, images in grids.items():
        with replacing(job.folder / name) as temporary:
            save_image(pixels(images), temporary, nrow=GRID[1], format="png")
    return list(grids)
