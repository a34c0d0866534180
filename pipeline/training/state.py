"""What training carries from step to step and from run to run."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.data.batches import Source
from pipeline.training.optim import average_of, optimizer_for
from pipeline.training.validation import Validation

REVISION = 1


@dataclass(frozen=True)
class Place:
    """Where training keeps its state and how often it saves it."""

    state: Path
    device: str = "cpu"
    every_seconds: float = 60.0


@dataclass(frozen=True)
class Fitted:
    """What a training leaves beside the student.

    Attributes:
        history: one record an epoch.
        kept: weights by name: "epoch-60" where asked for, "last" where the student holds the best.
    """

    history: list[dict]
    kept: dict[str, dict[str, Tensor]]


@dataclass
class Training:
    """Everything that a resumed run needs."""

    roles: Roles
    objective: object
    source: Source
    recipe: Recipe
    place: Place
    validation: Validation | None
    history: list[dict] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    best: dict | None = None
    kept: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self):
        student = self.roles.student
        if self.recipe.channels_last:
            for network in (student, *self.roles.teachers.values()):
                network.to(memory_format=torch.channels_last)
        prepare(self.objective, self.roles, self.source, self.place.device)
        learnt = self.objective.parameters() if isinstance(self.objective, nn.Module) else []
        self.parameters = [p for p in (*student.parameters(), *learnt) if p.requires_grad]
        self.optimizer = optimizer_for(self.recipe, self.parameters)
        self.average = average_of(self.recipe, student)
        if self.recipe.compile != "none":
            student.compile(backend=self.recipe.compile)

    @property
    def model(self) -> nn.Module:
        """What is validated and exported: the average if there is one."""
        return self.average.module if self.average is not None else self.roles.student

    def statistics(self) -> list[Tensor]:
        """What student and objective gather of their batches: their real-valued buffers."""
        learnt = [self.objective] if isinstance(self.objective, nn.Module) else []
        networks = [self.roles.student, *learnt]
        return [b for n in networks for b in n.buffers() if b.is_floating_point()]

    def state_dict(self) -> dict:
        """All state as tensors and plain values."""
        return {
            "student": self.roles.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "objective": self.objective.state_dict()
            if isinstance(self.objective, nn.Module)
            else {},
            "source": self.source.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "counters": [self.epoch, self.step],
            "history": self.history,
            "sums": self.sums,
            "best": self.best,
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take a saved state back."""
        self.roles.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.source.load_state_dict(state["source"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.epoch, self.step = state["counters"]
        self.history, self.sums = state["history"], state["sums"]
        self.best, self.kept = state["best"], state["kept"]


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def prepare(objective: object, roles: Roles, source: Source, device: str) -> None:
    """Move an objective that is a module to the device, and let it size what it learns.

    ``objective.prepare(roles, batch)``, where there is one, gets the models and the first batch;
    the source is put back to where it stood.
    """
    if isinstance(objective, nn.Module):
        objective.to(device)
    if hasattr(objective, "prepare"):
        state = source.state_dict()
        objective.prepare(roles, next(source.batches(0, 0, roles)))
        source.load_state_dict(state)
