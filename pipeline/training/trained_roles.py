"""Teachers that train beside the student: their optimisers, their steps and their state.

The teacher's artefact is only read: what trains is a copy in memory, and ends with the training.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.core import collectives
from pipeline.core.batch import Roles, TrainedRole, find_trained_roles
from pipeline.discovery import describe_plugin
from pipeline.errors import RetortError

REVISION = 1


@dataclass
class TrainedTeacher:
    """A teacher that trains, and its optimiser."""

    about: TrainedRole
    network: nn.Module
    is_learning: bool = field(init=False, default=False)

    def __post_init__(self):
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=self.about.lr,
            momentum=self.about.momentum,
            weight_decay=self.about.weight_decay,
            fused=True,
        )

    def prepare_step(self, progress: float) -> None:
        """Set mode, learning rate and gradients of the step at ``progress`` in [0,1)."""
        start = self.about.start
        self.is_learning = progress >= start
        self.network.train().requires_grad_(self.is_learning)
        self.optimizer.zero_grad(set_to_none=True)
        if self.is_learning:
            done = (progress - start) / (1 - start)
            for group in self.optimizer.param_groups:
                group["lr"] = self.about.lr * (1 + math.cos(math.pi * done)) / 2

    def take_step(self) -> None:
        """Take one step on the ranks' mean gradients, once it learns."""
        if self.is_learning:
            grads = [p.grad for p in self.network.parameters() if p.grad is not None]
            collectives.average_tensors(grads)
            self.optimizer.step()

    def freeze(self) -> None:
        """Leave the network as every other teacher is: frozen, in eval mode, without gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.network.eval().requires_grad_(False)

    def state_dict(self) -> dict:
        """The state of network and optimiser."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore a saved state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def make_trained_teachers(
    objective: object, roles: Roles, found_inf: Tensor | None
) -> list[TrainedTeacher]:
    """The teachers that an objective trains; those of most objectives are none.

    Args:
        found_inf: on an accelerator, the scalar at 1 of which their optimisers change nothing.

    Raises:
        RetortError: no teacher plays such a role, or the objective merges gradients itself.
    """
    trained = find_trained_roles(objective)
    for about in trained:
        if about.role not in roles.teachers:
            raise RetortError(
                f"{describe_plugin(objective)}: trains() names the role '{about.role}', which no "
                "teacher plays; list it in needs()"
            )
    if trained and hasattr(objective, "combine"):
        raise RetortError(
            f"{describe_plugin(objective)}: combine() merges the student's gradients alone; drop "
            "it, or trains()"
        )
    teachers = [TrainedTeacher(about, roles.teachers[about.role]) for about in trained]
    if found_inf is not None:
        for teacher in teachers:
            teacher.optimizer.found_inf = found_inf
    return teachers
