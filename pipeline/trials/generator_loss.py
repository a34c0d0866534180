"""Trials of a generator's loss: its terms, through whom it looks, and what it remembers."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.batch import check_terms
from pipeline.data_free.teacher_view import GeneratedBatch, show_to_teacher
from pipeline.discovery import load_plugin
from pipeline.trials.requirements import are_equal, require

COUNT, CLASSES = 6, 4


class Network(nn.Module):
    """A convolution, BatchNorm with odd statistics or none, and a head; in double precision."""

    def __init__(self, seed: int, norm: bool = True) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 5, 3, 2)
        self.norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.fc = nn.Linear(5, CLASSES)
        self.double().eval().requires_grad_(False)
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype) * 2 - 0.9)
        self.fc.bias.zero_()
        if norm:
            self.norm.running_var.abs_().add_(0.1)

    def features(self, x: Tensor) -> Tensor:
        """Features (B,5)."""
        return self.norm(self.conv(x)).tanh().mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K)."""
        return 4 * self.fc(features)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))


with torch.random.fork_rng(devices=[]):  # a layer's first weights are drawn from torch's chance
    TEACHER, STUDENT = Network(1), Network(4)  # of six answers they share five


def make_images(seed: int = 0) -> Tensor:
    """Images (6,3,7,7) in double precision that want a gradient."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(COUNT, 3, 7, 7, generator=rng, dtype=torch.float64)
    return (x * torch.linspace(0.1, 1, COUNT).view(-1, 1, 1, 1)).requires_grad_()


def show_images(
    loss: Any, x: Tensor, teacher: nn.Module = TEACHER, student: nn.Module = STUDENT, seed: int = 3
) -> GeneratedBatch:
    """What a source shows a loss, which is prepared for it."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(COUNT) % CLASSES
    uses, watch = "teacher" in loss.needs(), getattr(loss, "watch", None)
    made = show_to_teacher(x, y, teacher, student, rng, uses_teacher=uses, watch=watch)
    if hasattr(loss, "prepare"):
        loss.prepare(made)
        made = dataclasses.replace(made, rng=torch.Generator().manual_seed(seed))
    return made


def compute_values(
    name: str, teacher: nn.Module = TEACHER, student: nn.Module = STUDENT
) -> dict[str, Tensor]:
    """The terms of a loss with its defaults, detached."""
    loss = load_plugin("generator_losses", name).Loss()
    terms = loss(show_images(loss, make_images(), teacher, student))
    return {k: v.detach() for k, v in terms.items()}


def check_needs(name: str) -> None:
    """It needs no other than teacher and student."""
    needs = set(load_plugin("generator_losses", name).Loss().needs())
    unknown = needs - {"teacher", "student"}
    require(not unknown, f"needs() names {sorted(unknown)}; it may name 'teacher' and 'student'")


def check_terms_reach_the_images_alone(name: str, norm: bool) -> None:
    """Terms are finite, one a sample, and their gradient reaches every image and no network."""
    loss, x = load_plugin("generator_losses", name).Loss(), make_images()
    with torch.random.fork_rng(devices=[]):
        teacher = Network(1, norm)
    terms = check_terms(loss, loss(show_images(loss, x, teacher)), COUNT)
    require(("bn" in terms) <= norm, "a term 'bn' of a teacher without BatchNorm")
    for term, values in terms.items():
        require(bool(values.isfinite().all()), f"term {term!r} is not finite: {values.tolist()}")
    sum(terms.values()).mean().backward()
    require(
        x.grad is not None and bool(x.grad.isfinite().all()), "the images' gradient is not finite"
    )
    reached = bool((x.grad.flatten(1).norm(dim=1) > 0).all())
    require(reached, "no gradient reaches some of the images")
    clean = all(p.grad is None for n in (teacher, STUDENT) for p in n.parameters())
    require(clean, "a gradient reaches a network's parameters")


def check_looks_through_whom_it_says(name: str) -> None:
    """Its values depend on teacher and student exactly where it needs them."""
    needs, usual = load_plugin("generator_losses", name).Loss().needs(), compute_values(name)
    with torch.random.fork_rng(devices=[]):
        other = Network(9)
    for role, found in (
        ("student", compute_values(name, student=other)),
        ("teacher", compute_values(name, teacher=other)),
    ):
        unmoved = are_equal([usual], [found])
        require(unmoved or role in needs, f"it reads the {role}, but needs() does not say so")
        require(not unmoved or role not in needs, f"needs() names the {role}, which is not read")
    if "student" in needs:
        swapped = are_equal([usual], [compute_values(name, student=TEACHER)])
        require(not swapped, "the teacher in the student's place makes no difference")


def check_chance(name: str) -> None:
    """The step's generator is the only chance."""
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(compute_values(name))
            kept = torch.equal(torch.get_rng_state(), before)
            require(kept, "it draws from torch's global generator; give generator=batch.rng")
    require(are_equal(found[:1], found[1:]), "two runs of the same step give other terms")


def check_state_round_trip(name: str) -> None:
    """What it remembers comes back from its state; a loss that remembers nothing has none."""
    loss, again = (load_plugin("generator_losses", name).Loss() for _ in range(2))
    if not isinstance(loss, nn.Module):
        return
    for seed in (0, 1):
        made = show_images(loss, make_images(seed))
        loss(made)
        if hasattr(loss, "remember"):
            loss.remember(made)
    again.load_state_dict(copy.deepcopy(loss.state_dict()))
    one, two = (each(show_images(each, make_images(2))) for each in (loss, again))
    require(are_equal([one], [two]), "after its state was saved and loaded it gives other terms")
    fresh = load_plugin("generator_losses", name).Loss()
    other = fresh(show_images(fresh, make_images(2)))
    require(not are_equal([one], [other]), "it has a state, but remembers nothing")


def try_generator_loss(name: str) -> None:
    """All trials.

    Raises:
        RetortError: what was seen in the first that fails.
    """
    check_needs(name)
    for norm in (True, False):
        check_terms_reach_the_images_alone(name, norm)
    check_looks_through_whom_it_says(name)
    check_chance(name)
    check_state_round_trip(name)
