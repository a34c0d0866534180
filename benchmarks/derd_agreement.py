"""How often data-free students agree with their teachers, on images without labels.

    python -m benchmarks.derd_agreement [configuration ...]

A setting of a method without data may not be chosen by labels. This looks at the validation images
alone: the share on which a warm student gives its natural teacher's class, and the share on which
a student gives its robust teacher's class of the clean image, without attack and under PGD-10 at
8/255 against that class. Prints a line for each model that the configurations name and that is
made, with the half of the 95 % interval of a share of so many images.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.core.images import scale_to_unit_range
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.loading import load_teacher
from pipeline.planning.graph import make_plan_from_files
from pipeline.planning.plan import Plan, PlannedArtefact

ROOT = Path(__file__).parent.parent
USUAL = ("workflow/derd-goals-fashion.yaml", "workflow/derd-goals-cifar10.yaml")
ATTACK = {"steps": 10, "step_size": 2 / 255, "start": "uniform"}
EPS, CHUNK = 8 / 255, 250


def find_teachers(artefact: PlannedArtefact) -> dict[str, PlannedArtefact]:
    """The teachers of a generator or of a data-free student, by role."""
    if artefact.kind == "generator":
        return {"natural": artefact.inputs["teacher"]}
    roles = {k.removeprefix("teachers."): v for k, v in artefact.inputs.items() if "teachers." in k}
    return roles if "generator" in artefact.inputs else {}


def attack_class(student: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Images (B,C,H,W) within 8/255 of x on which the student leaves the classes y (B,)."""
    rng = make_generator("agreement", len(x))
    return run_pgd(x, lambda z: cross_entropy(student(z), y), Linf(EPS), rng=rng, **ATTACK)


@torch.no_grad()
def measure_agreement(
    student: nn.Module, teacher: nn.Module, images: Tensor
) -> tuple[float, float]:
    """Shares of images (N,C,H,W) in [0,1] with the teacher's class: clean, and under attack."""
    clean = attacked = 0
    for x in images.split(CHUNK):
        y = teacher(x).argmax(1)
        clean += (student(x).argmax(1) == y).sum().item()
        attacked += (student(attack_class(student, x, y)).argmax(1) == y).sum().item()
    return clean / len(images), attacked / len(images)


def read_unlabelled_images(plan: Plan, teacher: PlannedArtefact) -> Tensor:
    """The validation images (N,C,H,W) in [0,1] of a teacher's data set."""
    folder = plan.folder_path(teacher.inputs["dataset"].ref)
    return scale_to_unit_range(open_dataset(folder).read_split("val").images)


def main(*paths: str) -> None:
    """Prints the agreement of every finished model without data."""
    for path in paths:
        plan = make_plan_from_files(ROOT / path)
        for ref, artefact in plan.artefacts.items():
            teachers = find_teachers(artefact) if plan.is_complete(ref) else {}
            role = next((r for r in ("robust", "teacher", "natural") if r in teachers), None)
            if role is None:
                continue
            images = read_unlabelled_images(plan, teachers[role])
            pair = [load_teacher(plan.folder_path(r), "cpu") for r in (ref, teachers[role].ref)]
            shares = measure_agreement(*pair, images)
            half = [1.96 * (p * (1 - p) / len(images)) ** 0.5 for p in shares]
            (clean, attacked), (c, a) = (
                [f"{100 * v:.1f}" for v in each] for each in (shares, half)
            )
            name = f"{artefact.kind} {artefact.name}"
            print(f"{name:34} {role:8} clean {clean} ±{c}   PGD-10 {attacked} ±{a}", flush=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or USUAL))
