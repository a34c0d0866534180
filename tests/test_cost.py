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
from pipeline.objectives import adaad, dad, kd, natural, pgd_at, rslad


class Work(torch.autograd.Function):
    """x @ weight; books forwards and what each backward has to compute."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, book: list[str]) -> Tensor:
        book.append("forward")
        ctx.save_for_backward(x, weight)
        ctx.book = book
        return x @ weight

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        trains = ctx.needs_input_grad[1]
        ctx.book.append("parameters" if trains else "input")
        return grad @ weight.T, x.T @ grad if trains else None, None


COST = {"forward": 1, "input": 1, "parameters": 2}


class Network(nn.Module):
    """One booked layer on flattened images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(12, 4, generator=rng))
        self.book: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        return Work.apply(x.flatten(1), self.weight, self.book)

    @property
    def cost(self) -> int:
        """F spent so far."""
        return sum(COST[entry] for entry in self.book)


@dataclass
class Bench:
    """Networks and a batch with whatever a bank may store."""

    student: Network = field(default_factory=lambda: Network(1))
    teacher: Network = field(default_factory=lambda: Network(2).requires_grad_(False))

    def step(self, objective, stored: tuple[str, ...]) -> tuple[int, int]:
        """F of student and teacher for one training step."""
        rng = torch.Generator().manual_seed(0)
        x = torch.rand(5, 3, 2, 2, generator=rng)
        fields = {"x_adv": 1 - x, "t_clean": torch.rand(5, 4), "t_adv": torch.rand(5, 4)}
        kept = {name: fields[name] for name in stored}
        batch = Batch(x, torch.arange(5) % 4, torch.arange(5), kept, 0.0, 0, rng)
        for terms in objective(Roles(self.student, {"robust": self.teacher}), batch):
            sum(values.mean() for values in terms.values()).backward()
        return self.student.cost, self.teacher.cost


BANK = ("x_adv", "t_clean", "t_adv")
TABLE = [  # objective, stored fields, F of the student, F of the teacher
    (natural.Objective(), (), 3, 0),
    (kd.Objective(), (), 3, 1),
    (kd.Objective(), ("t_clean",), 3, 0),
    (pgd_at.Objective(steps=10), (), 23, 0),
    (pgd_at.Objective(steps=0), (), 3, 0),
    (rslad.Objective(steps=10), (), 26, 1),
    (rslad.Objective(steps=10), ("t_clean",), 26, 0),
    (adaad.Objective(steps=10), (), 24, 21),
    (adaad.Objective(steps=10, alpha=0.5), (), 26, 22),
    (dad.Objective(), BANK, 6, 0),
    (dad.Objective(), ("x_adv",), 6, 2),
]


def name_of(value: object) -> str | None:
    """`rslad` for an objective of that module."""
    return type(value).__module__.rpartition(".")[2] if hasattr(value, "needs") else None


@pytest.mark.parametrize(("objective", "stored", "student", "teacher"), TABLE, ids=name_of)
def test_a_step_costs_no_more_than_its_floor(objective, stored, student, teacher):
    assert Bench().step(objective, stored) == (student, teacher)


def test_the_book_counts_a_plain_step():
    bench = Bench()
    x = torch.rand(5, 3, 2, 2, requires_grad=True)
    torch.autograd.grad(bench.teacher(x).sum(), x)
    assert bench.teacher.book == ["forward", "input"]
    bench.student(x.detach()).sum().backward()
    assert bench.student.book == ["forward", "parameters"]
    torch.testing.assert_close(bench.student.weight.grad, x.flatten(1).sum(0)[:, None].repeat(1, 4))
