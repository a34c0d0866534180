"""IGDM: a term that any attacking objective can carry (Lee et al., arXiv:2312.03286)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, compute_terms, find_trained_roles
from pipeline.core.losses import kl_divergence, subtract_logits
from pipeline.discovery import describe_plugin
from pipeline.errors import RetortError

REVISION = 2

TERM = "igdm"


class WatchedNetwork(nn.Module):
    """A network that remembers its output on the adversarial images of a step.

    So that a term on the same images costs no second pass. All else is the network's own.
    """

    def __init__(self, network: nn.Module, *, learns: bool) -> None:
        super().__init__()
        self.network = network
        self.learns = learns
        self.made: list[Tensor] = []
        self.output: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        network = self._modules["network"]
        return network if name == "network" else getattr(network, name)

    def watch(self, made: list[Tensor]) -> None:
        """Forgets the last step; ``made`` will hold the images (B,C,H,W) to wait for."""
        self.made, self.output = made, None

    def forward(self, x: Tensor) -> Tensor:
        """The network's logits (B,K)."""
        logits = self.network(x)
        if self.made and x is self.made[-1] and torch.is_grad_enabled() >= self.learns:
            self.output = logits
        return logits


class GradientMatching(nn.Module):
    """An objective, and alpha progress KL(softmax(T(x+d) - T(x-d)) || softmax(S(x+d) - S(x-d))).

    d = x* - x of the objective's own inner attack; x - d is not clipped, as in the released code.
    The teacher is the one in the role `robust`, or the only one. Outputs on x* that the objective
    computes are used again: on top of it a step costs at most 6 F_S + 2 F_T, and 3 F_S + 1 F_T
    where it computes both, as AdaAD does.

    Raises:
        RetortError: the objective makes no x*, merges gradients itself, trains a teacher, or has
            this term.
    """

    def __init__(self, objective: Any, alpha: float) -> None:
        super().__init__()
        self.objective = objective
        self.alpha = alpha
        self.needs_whole_batch = getattr(objective, "needs_whole_batch", False)
        self.watched: dict[str, WatchedNetwork] = {}
        if hasattr(objective, "prepare"):
            self.prepare = objective.prepare
        if hasattr(objective, "combine"):
            raise RetortError(f"{describe_plugin(objective)}: merges gradients itself; drop igdm")
        if find_trained_roles(objective):
            raise RetortError(f"{describe_plugin(objective)}: trains its teacher; drop igdm")

    def needs(self) -> tuple[str, ...]:
        """What the objective needs, and a live teacher."""
        own = tuple(self.objective.needs())
        return own if {"robust", "teacher"} & {*own} else (*own, "teacher")

    def watch_networks(self, roles: Roles, made: list[Tensor]) -> Roles:
        """The roles with the student and its teacher watched for the images to be made."""
        role = "robust" if "robust" in roles.teachers else next(iter(roles.teachers))
        if not self.watched or self.watched["student"].network is not roles.student:
            self.watched = {
                "student": WatchedNetwork(roles.student, learns=True),
                "teacher": WatchedNetwork(roles.teachers[role], learns=False),
            }
        for network in self.watched.values():
            network.watch(made)
        teachers = {**roles.teachers, role: self.watched["teacher"]}
        return replace(roles, student=self.watched["student"], teachers=teachers)

    def match(self, x: Tensor, x_adv: Tensor, progress: float) -> Tensor:
        """The term (B,) at images x and x* (B,C,H,W)."""
        student, teacher = self.watched["student"], self.watched["teacher"]
        mirrored = x - (x_adv - x)
        with torch.no_grad():
            target = teacher.output if teacher.output is not None else teacher.network(x_adv)
            target = subtract_logits(target.detach(), teacher.network(mirrored))
        logits = student.output if student.output is not None else student.network(x_adv)
        difference = subtract_logits(logits, student.network(mirrored))
        return self.alpha * progress * kl_divergence(difference, target)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        made: list[Tensor] = []
        watched = self.watch_networks(roles, made)
        is_matched = False
        for terms in compute_terms(self.objective, watched, replace(batch, made=made)):
            if TERM in terms:
                raise RetortError(f"{describe_plugin(self.objective)}: has igdm already; drop igdm")
            if not is_matched and self.watched["student"].output is not None:
                terms, is_matched = self.add_term(terms, batch, made), True
            yield terms
        if not is_matched:
            yield self.add_term({}, batch, made)

    def add_term(self, terms: Terms, batch: Batch, made: list[Tensor]) -> Terms:
        """The terms and this one."""
        if not made:
            where = describe_plugin(self.objective)
            raise RetortError(f"{where}: makes no adversarial images of its own; drop igdm")
        return terms | {TERM: self.match(batch.x, made[-1], batch.progress)}
