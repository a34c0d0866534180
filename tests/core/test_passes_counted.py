"""The passes that one training step costs, counted in autograd."""

import pytest
import torch

from pipeline.objectives import (
    absld,
    adaad,
    adaiad,
    akd,
    akd2,
    ard,
    ard_dad,
    b_mtard,
    ciard,
    crdnd_like,
    dad,
    dad_augment,
    dad_release,
    darwin,
    darwin_lf,
    dat,
    dat_dad,
    derd,
    dist,
    gacd_like,
    iad,
    iad2,
    kd,
    mtard,
    natural,
    pgd_at,
    rslad,
    rslad_dad,
    saad,
    trades,
)
from pipeline.planning.step_cost import PassCounter, StepCost
from tests.helpers.plain import make_objective


def step(objective, stored: tuple[str, ...], progress: float) -> StepCost:
    """The cost of a step with the teachers that the objective names, or with one teacher."""
    teachers = ("robust", "natural") if "natural" in objective.needs() else ("teacher",)
    return PassCounter(teachers).measure_step(objective, stored, progress)


BANK = ("x_adv", "y_adv", "t_clean", "t_adv")
PIXELS = ("x_adv", "y_adv")
CLEAN = ("t_clean",)
EARLY, LATE = 0.0, 0.5  # before and after introspection begins
# The floor for n steps. Student: 2 n for the attack, 3 for each output that is trained on, 1 for
# each other output that the loss reads. Teacher: 1 for each output, 2 n if the attack's gradient
# passes through it.
TABLE = [  # objective, stored fields, progress, F of the student, F of the teachers
    (natural.Objective(), (), EARLY, 3, 0),
    (kd.Objective(), (), EARLY, 3, 1),
    (kd.Objective(), CLEAN, EARLY, 3, 0),
    (make_objective(pgd_at, steps=10), (), EARLY, 24, 0),  # S(x) for BatchNorm
    (make_objective(pgd_at, steps=10, clean_forward=False), (), EARLY, 23, 0),
    (make_objective(pgd_at, steps=0), (), EARLY, 4, 0),
    (make_objective(rslad, steps=10), (), EARLY, 26, 1),
    (make_objective(rslad, steps=10), CLEAN, EARLY, 26, 0),
    (make_objective(rslad, alpha=1.0), CLEAN, EARLY, 24, 0),
    (make_objective(rslad, alpha=1.0, clean_forward=False), CLEAN, EARLY, 23, 0),
    (make_objective(adaad, steps=10), (), EARLY, 24, 21),
    (make_objective(adaad, steps=10, clean_forward=False), (), EARLY, 23, 21),
    (make_objective(adaad, steps=10, alpha=0.5), (), EARLY, 26, 22),
    (dad.Objective(), BANK, EARLY, 6, 0),
    (dad.Objective(), PIXELS, EARLY, 6, 2),
    (dad_release.Objective(), BANK, EARLY, 6, 0),
    (dad_release.Objective(), PIXELS, EARLY, 6, 2),
    (dad_augment.Objective(), PIXELS, EARLY, 6, 0),
    (ard_dad.Objective(), BANK, EARLY, 6, 0),
    (ard_dad.Objective(), PIXELS, EARLY, 6, 1),
    (rslad_dad.Objective(), BANK, EARLY, 6, 0),
    (dat.Objective(), (), EARLY, 8, 0),
    (dat_dad.Objective(), BANK, EARLY, 11, 0),
    (dist.Objective(), (), EARLY, 3, 1),
    (dist.Objective(), CLEAN, EARLY, 3, 0),
    (trades.Objective(), (), EARLY, 27, 0),  # S(x) as the attack's constant, S(x), S(x*)
    (ard.Objective(), (), EARLY, 24, 1),
    (ard.Objective(), CLEAN, EARLY, 24, 0),
    (make_objective(ard, clean_forward=False), CLEAN, EARLY, 23, 0),
    (ard.Objective(alpha=0.5), (), EARLY, 26, 1),
    (iad.Objective(), (), EARLY, 24, 1),  # ARD until it begins
    (make_objective(iad, clean_forward=False), (), EARLY, 23, 1),
    (make_objective(iad, clean_forward=False), (), LATE, 26, 2),
    (iad.Objective(), (), LATE, 26, 2),  # then S(x) is trained on too, and T(x*) is the trust
    (iad.Objective(), CLEAN, LATE, 26, 1),
    (akd.Objective(), (), EARLY, 23, 1),
    (akd2.Objective(), (), EARLY, 23, 2),  # one forward of each teacher
    (iad2.Objective(), (), EARLY, 23, 2),  # AKD^2 until it begins, with no clean forward
    (make_objective(iad2, clean_forward=True), (), EARLY, 24, 2),
    (iad2.Objective(), (), LATE, 26, 2),  # the trust is read off the robust teacher's output
    (mtard.Objective(), (), EARLY, 26, 2),
    (b_mtard.Objective(), (), EARLY, 26, 2),
    (ciard.Objective(), (), EARLY, 26, 5),  # the robust teacher trains: 3; T_nat(x), T_nat(x*)
    (absld.Objective(), (), EARLY, 26, 1),
    (absld.Objective(), CLEAN, EARLY, 26, 0),
    (saad.Objective(), (), LATE, 27, 4),  # S(x*), S(2x-x*), S(x) for BatchNorm; T(x)'s gradient
    (make_objective(saad, clean_forward=False), (), LATE, 26, 4),
    (make_objective(saad, beta=0.5), (), LATE, 29, 4),
    (adaiad.Objective(), (), EARLY, 24, 21),  # AdaAD's, its clean forward for BatchNorm included
    (make_objective(adaiad, clean_forward=False), (), EARLY, 23, 21),
    (adaiad.Objective(), (), LATE, 26, 21),  # the trust is read off the target
    (crdnd_like.Objective(), (), EARLY, 26, 1),
    (crdnd_like.Objective(), CLEAN, EARLY, 26, 0),
    (make_objective(crdnd_like, alpha=1.0), CLEAN, EARLY, 24, 0),
    (gacd_like.Objective(), (), EARLY, 26, 1),  # features and logits are one forward
    (darwin.Objective(), (), EARLY, 103, 11),  # two attacks, S(x), and two outputs a step
    (darwin.Objective(), CLEAN, EARLY, 103, 10),
    (make_objective(darwin, attack_bn="train"), (), EARLY, 85, 11),  # 9 outputs per path serve both
    (darwin.Objective(iakd=False), (), EARLY, 103, 2),
    (darwin.Objective(dbkd=False), (), EARLY, 53, 11),
    (darwin.Objective(iakd=False, dbkd=False), (), EARLY, 26, 2),
    (darwin_lf.Objective(), (), EARLY, 103, 11),
    (make_objective(darwin_lf, attack_bn="train"), (), EARLY, 85, 11),
]


def name_of(value: object) -> str | None:
    """The module's name of an objective, such as `rslad`; None for anything else."""
    return type(value).__module__.rpartition(".")[2] if hasattr(value, "needs") else None


@pytest.mark.parametrize(
    ("objective", "stored", "progress", "student", "teacher"), TABLE, ids=name_of
)
def test_a_step_costs_no_more_than_its_floor(objective, stored, progress, student, teacher):
    found = step(objective, stored, progress)
    assert (found.student, sum(found.teachers.values())) == (student, teacher)


@pytest.mark.parametrize(
    ("objective", "stored"), [(dat.Objective(), ()), (dat_dad.Objective(), BANK)]
)
def test_dat_reconstructs_twice_a_step(objective, stored):
    assert step(objective, stored, EARLY).discretizer == 2


def test_merged_gradients_are_a_backward_each():
    found = PassCounter(("natural", "robust")).measure_step(derd.Objective(steps=10), CLEAN)
    assert found.student == 5
    assert found.teachers == {"natural": 21, "robust": 21}


def test_the_book_counts_a_plain_step():
    bench = PassCounter()
    teacher = bench.teacher_networks["teacher"]
    x = torch.rand(5, 3, 2, 2, requires_grad=True)
    torch.autograd.grad(teacher(x).sum(), x)
    assert teacher.calls == [("forward", 5), ("input", 5)]
    bench.student(x.detach()).sum().backward()
    assert bench.student.calls == [("forward", 5), ("input", 5), ("parameters", 5)]
    torch.testing.assert_close(bench.student.weight.grad, x.flatten(1).sum(0)[:, None].repeat(1, 4))
