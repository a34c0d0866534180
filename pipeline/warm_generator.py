"""Stage: a generator and a warm student from a natural teacher, without data (DERD, stage I)."""

import torch
from torchvision.utils import save_image

from pipeline import checkpoint
from pipeline.artifact import Job, Manifest, open_artifact, replacing
from pipeline.batch import Roles
from pipeline.data_free import SOURCE, make_source
from pipeline.generator import GeneratorSource
from pipeline.loop import fit
from pipeline.models import initialised, read_about
from pipeline.objectives.data_free_kd import Objective
from pipeline.rng import generator
from pipeline.training import (
    MODEL,
    load_teacher,
    place_of,
    recipe_of,
    save_student,
)

REVISION = 1

SAMPLES = "samples.png"
GRID = (4, 10)  # rows and columns of the picture


def run(job: Job) -> Manifest:
    """Warm generator and student up together and save both."""
    spec, recipe = job.spec, recipe_of(job)
    about = read_about(open_artifact(job.inputs["teacher"]).path(MODEL))
    teacher = load_teacher(job.inputs["teacher"], spec["device"])
    classes = tuple(about["classes"])
    student = initialised(spec["model"], len(classes), about["mean"], about["std"], spec["seed"])
    roles = Roles(student.to(spec["device"]), {"natural": teacher})
    source = make_source(spec, len(about["mean"]), recipe, spec["seed"], spec["device"])
    fitted = fit(roles, Objective(), source, recipe, place_of(job))
    trained = save_student(job, roles, classes, fitted)
    checkpoint.save(job.folder / SOURCE, source.state_dict())
    draw(job, source)
    return job.manifest([*trained.files, SOURCE, SAMPLES], trained.facts)


@torch.no_grad()
def draw(job: Job, source: GeneratorSource) -> None:
    """A grid of images from the finished generator."""
    rows, columns = GRID
    rng = generator(job.spec["seed"], "samples", device=job.spec["device"])
    z = torch.randn(
        (rows * columns, source.network.latent), generator=rng, device=job.spec["device"]
    )
    images = source.network.eval()(z)
    with replacing(job.folder / SAMPLES) as temporary:
        save_image(images, temporary, nrow=columns, format="png")
