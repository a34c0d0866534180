"""What one training step costs, counted where autograd itself does the work.

The unit is one forward of a network, F. A backward that gives gradients of the input alone costs
one more F; one that also gives gradients of the parameters costs two. The networks' only layer is
an autograd function that books each of its calls, so nothing is timed and nothing is estimated.
"""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from pipeline.batch import Batch, Roles
from pipeline.objectives import (
    adaad,
    adaiad,
    akd,
    akd2,
    ard,
    ard_dad,
    crdnd_like,
    dad,
    dad_augment,
    dad_release,
    darwin,
    darwin_lf,
    dat,
    dat_dad,
    dist,
    gacd_like,
    iad,
    kd,
    mtard,
    natural,
    pgd_at,
    rslad,
    rslad_dad,
    trades,
)


class Work(torch.autograd.Function):
    """x @ weight; books forwards and backwards, which run for the input's gradient at least."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, book: list[str]) -> Tensor:
        book.append("forward")
        ctx.save_for_backward(x, weight)
        ctx.book = book
        return x @ weight

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        ctx.book.append("input")
        return grad @ weight.T, x.T @ grad if ctx.needs_input_grad[1] else None, None


class Learn(torch.autograd.Function):
    """The weight; books each backward that asks for its gradient, also of a graph used twice."""

    @staticmethod
    def forward(ctx, weight: Tensor, book: list[str]) -> Tensor:
        ctx.book = book
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ctx.book.append("parameters")
        return grad, None


class Network(nn.Module):
    """One booked layer on flattened images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(12, 4, generator=rng))
        self.book: list[str] = []

    def features(self, x: Tensor) -> Tensor:
        return Work.apply(x.flatten(1), Learn.apply(self.weight, self.book), self.book)

    def head(self, features: Tensor) -> Tensor:
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @property
    def cost(self) -> int:
        """F spent so far."""
        return len(self.book)


class Quantiser(nn.Module):
    """Images as they are; books each reconstruction, one encoder and one decoder pass."""

    def __init__(self) -> None:
        super().__init__()
        self.book: list[str] = []

    def reconstruct(self, x: Tensor) -> Tensor:
        self.book.append("reconstruct")
        return x


@dataclass
class Bench:
    """Networks and a batch with whatever a bank may store."""

    student: Network = field(default_factory=lambda: Network(1))
    teacher: Network = field(default_factory=lambda: Network(2).requires_grad_(False))
    natural: Network = field(default_factory=lambda: Network(3).requires_grad_(False))
    quantiser: Quantiser = field(default_factory=lambda: Quantiser())

    def roles(self, objective) -> Roles:
        """The student with the teachers that the objective names, or one."""
        both = {"robust": self.teacher, "natural": self.natural}
        teachers = both if "natural" in objective.needs() else {"t": self.teacher}
        return Roles(self.student, teachers, self.quantiser)

    def step(self, objective, stored: tuple[str, ...], progress: float) -> tuple[int, int]:
        """F of the student and of all teachers for one training step, preparation left out."""
        rng = torch.Generator().manual_seed(0)
        x = torch.rand(5, 3, 2, 2, generator=rng)
        fields = {"x_adv": 1 - x, "t_clean": torch.rand(5, 4), "t_adv": torch.rand(5, 4)}
        fields["y_adv"] = torch.arange(5) % 3
        kept = {name: fields[name] for name in stored}
        batch = Batch(x, torch.arange(5) % 4, torch.arange(5), kept, progress, 0, rng)
        roles = self.roles(objective)
        if hasattr(objective, "prepare"):
            objective.prepare(roles, batch)
        for network in (self.student, self.teacher, self.natural):
            network.book.clear()
        for terms in objective(roles, batch):
            sum(values.mean() for values in terms.values()).backward()
        return self.student.cost, self.teacher.cost + self.natural.cost


BANK = ("x_adv", "y_adv", "t_clean", "t_adv")
PIXELS = ("x_adv", "y_adv")
CLEAN = ("t_clean",)
EARLY, LATE = 0.0, 0.5  # before and after introspection begins
# A floor for n steps: 2 n for the attack, 3 for each output that is trained on, 1 for each other
# output that the loss reads; of a teacher 1 for each output, 2 n where the attack looks through it.
TABLE = [  # objective, stored fields, progress, F of the student, F of the teachers
    (natural.Objective(), (), EARLY, 3, 0),
    (kd.Objective(), (), EARLY, 3, 1),
    (kd.Objective(), CLEAN, EARLY, 3, 0),
    (pgd_at.Objective(steps=10), (), EARLY, 23, 0),
    (pgd_at.Objective(steps=0), (), EARLY, 3, 0),
    (rslad.Objective(steps=10), (), EARLY, 26, 1),
    (rslad.Objective(steps=10), CLEAN, EARLY, 26, 0),
    (adaad.Objective(steps=10), (), EARLY, 24, 21),
    (adaad.Objective(steps=10, alpha=0.5), (), EARLY, 26, 22),
    (dad.Objective(), BANK, EARLY, 6, 0),
    (dad.Objective(), PIXELS, EARLY, 6, 2),
    (dad_release.Objective(), BANK, EARLY, 3, 0),  # one forward of twice the images: as 6
    (dad_release.Objective(), PIXELS, EARLY, 3, 2),
    (dad_augment.Objective(), PIXELS, EARLY, 6, 0),
    (ard_dad.Objective(), BANK, EARLY, 6, 0),
    (ard_dad.Objective(), PIXELS, EARLY, 6, 1),
    (rslad_dad.Objective(), BANK, EARLY, 6, 0),
    (dat.Objective(), (), EARLY, 8, 0),
    (dat_dad.Objective(), BANK, EARLY, 11, 0),
    (dist.Objective(), (), EARLY, 3, 1),
    (dist.Objective(), CLEAN, EARLY, 3, 0),
    (trades.Objective(), (), EARLY, 27, 0),  # S(x) held still for the attack, S(x), S(x*)
    (ard.Objective(), (), EARLY, 23, 1),
    (ard.Objective(), CLEAN, EARLY, 23, 0),
    (ard.Objective(alpha=0.5), (), EARLY, 26, 1),
    (iad.Objective(), (), EARLY, 23, 1),  # ARD until it begins
    (iad.Objective(), (), LATE, 26, 2),  # then S(x) is trained on too, and T(x*) is the trust
    (iad.Objective(), CLEAN, LATE, 26, 1),
    (akd.Objective(), (), EARLY, 23, 1),
    (akd2.Objective(), (), EARLY, 23, 2),  # one of each teacher
    (mtard.Objective(), (), EARLY, 26, 2),
    (adaiad.Objective(), (), EARLY, 24, 21),  # AdaAD's, its clean forward for BatchNorm included
    (adaiad.Objective(), (), LATE, 26, 21),  # the trust is read off the target
    (crdnd_like.Objective(), (), EARLY, 26, 1),
    (crdnd_like.Objective(), CLEAN, EARLY, 26, 0),
    (gacd_like.Objective(), (), EARLY, 26, 1),  # features and logits are one forward
    (darwin.Objective(), (), EARLY, 103, 11),  # two attacks, S(x), and two outputs a step
    (darwin.Objective(), CLEAN, EARLY, 103, 10),
    (darwin.Objective(attack_bn="train"), (), EARLY, 85, 11),  # 9 outputs a path serve both
    (darwin.Objective(iakd=False), (), EARLY, 103, 2),
    (darwin.Objective(dbkd=False), (), EARLY, 53, 11),
    (darwin.Objective(iakd=False, dbkd=False), (), EARLY, 26, 2),
    (darwin_lf.Objective(), (), EARLY, 103, 11),
    (darwin_lf.Objective(attack_bn="train"), (), EARLY, 85, 11),
]


def name_of(value: object) -> str | None:
    """`rslad` for an objective of that module."""
    return type(value).__module__.rpartition(".")[2] if hasattr(value, "needs") else None


@pytest.mark.parametrize(
    ("objective", "stored", "progress", "student", "teacher"), TABLE, ids=name_of
)
def test_a_step_costs_no_more_than_its_floor(objective, stored, progress, student, teacher):
    assert Bench().step(objective, stored, progress) == (student, teacher)


@pytest.mark.parametrize(
    ("objective", "stored"), [(dat.Objective(), ()), (dat_dad.Objective(), BANK)]
)
def test_dat_reconstructs_twice_a_step(objective, stored):
    bench = Bench()
    bench.step(objective, stored, EARLY)
    assert bench.quantiser.book == ["reconstruct"] * 2


def test_the_book_counts_a_plain_step():
    bench = Bench()
    x = torch.rand(5, 3, 2, 2, requires_grad=True)
    torch.autograd.grad(bench.teacher(x).sum(), x)
    assert bench.teacher.book == ["forward", "input"]
    bench.student(x.detach()).sum().backward()
    assert bench.student.book == ["forward", "input", "parameters"]
    torch.testing.assert_close(bench.student.weight.grad, x.flatten(1).sum(0)[:, None].repeat(1, 4))
