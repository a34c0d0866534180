"""The state of a training, from step to step and from run to run."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.core.devices import placement
from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.core.devices.bf16_products import needs_widening
from pipeline.core.devices.channels_last import find_unsafe_convolution
from pipeline.core.devices.pass_graph import PassGraphs
from pipeline.data.batches import BatchSource
from pipeline.training.divergence import DivergenceWatch, Number, read_numbers
from pipeline.training.optim import make_averaged_model, make_optimizer
from pipeline.training.trained_roles import make_trained_teachers
from pipeline.training.validation import ValidationSplit

REVISION = 1

log = logging.getLogger("retort")


@dataclass(frozen=True)
class CheckpointSettings:
    """Where training keeps its state and how often it saves it; the trackers that follow it."""

    state_folder: Path
    device: str = "cpu"
    interval_seconds: float = 60.0
    trackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training beside the student itself.

    Attributes:
        history: one record per epoch.
        kept_weights: weights by name: "epoch-60" for an epoch of ``keep_epochs``, "last" where the
            student holds those of the best epoch.
    """

    history: list[dict]
    kept_weights: dict[str, dict[str, Tensor]]


@dataclass
class TrainingState:
    """Everything that a resumed run needs."""

    roles: Roles
    objective: object
    source: BatchSource
    recipe: Recipe
    checkpoint_settings: CheckpointSettings
    validation: ValidationSplit | None
    history: list[dict] = field(default_factory=list)
    term_sums: dict[str, Number] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    best_checkpoint: dict | None = None
    kept_weights: dict[str, dict] = field(default_factory=dict)
    first_norms: list[Tensor] = field(init=False, default_factory=list)
    watch: DivergenceWatch | None = field(init=False, default=None)  # None on a CPU
    ascents: AscentGraphs | None = field(init=False, default=None)
    passes: PassGraphs | None = field(init=False, default=None)

    def __post_init__(self):
        student = self.roles.student
        networks = (student, *self.roles.teachers.values())
        self.is_channels_last = self.recipe.channels_last and self.allows_channels_last(networks)
        if self.is_channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)
        prepare_objective(self.objective, self.roles, self.source, self.checkpoint_settings.device)
        objective_parameters = (
            self.objective.parameters() if isinstance(self.objective, nn.Module) else []
        )
        self.parameters = [
            p for p in (*student.parameters(), *objective_parameters) if p.requires_grad
        ]
        self.optimizer = make_optimizer(self.recipe, self.parameters)
        self.averaged_model = make_averaged_model(self.recipe, student)
        if placement.is_accelerator(self.checkpoint_settings.device):
            self.watch = DivergenceWatch(torch.zeros((), device=self.checkpoint_settings.device))
            self.optimizer.found_inf = self.watch.found
        found_inf = self.watch.found if self.watch is not None else None
        self.trained_teachers = make_trained_teachers(self.objective, self.roles, found_inf)
        if self.recipe.compile == "graph":
            self.ascents = make_ascent_graphs(self.checkpoint_settings.device)
            self.passes = make_pass_graphs(self.ascents)
        elif self.recipe.compile != "none":
            student.compile(backend=self.recipe.compile)
            if needs_widening(self.checkpoint_settings.device, self.recipe.bf16 != "none"):
                log.warning("compile: runs as eager, as this processor's bf16 products are widened")

    def allows_channels_last(self, networks: Iterable[nn.Module]) -> bool:
        """Whether torch computes all networks rightly channels last; a log line says if not."""
        if placement.is_accelerator(self.checkpoint_settings.device):
            return True
        for name in filter(None, map(find_unsafe_convolution, networks)):
            log.warning("channels_last: left out, as torch fails at convolution %s on a CPU", name)
            return False
        return True

    def read_term(self, value: Tensor) -> Number:
        """A term's scalar: read on a CPU; on an accelerator its float64 there, not yet read."""
        return value.item() if self.watch is None else value.detach().double()

    def serve_passes(self) -> AbstractContextManager:
        """Repeats the networks' passes from graphs within a step, if the recipe asks for it."""
        if self.passes is None:
            return nullcontext()
        return self.passes.serve(self.roles.student, self.roles.teachers)

    @property
    def exported_model(self) -> nn.Module:
        """The model that is validated and exported: the average, once there is one."""
        averaged = self.averaged_model
        if averaged is None or (self.recipe.swa_from and not averaged.n_averaged):
            return self.roles.student
        return averaged.module

    def list_float_buffers(self) -> list[Tensor]:
        """Floating-point buffers of all that trains, such as BatchNorm statistics."""
        objective_modules = [self.objective] if isinstance(self.objective, nn.Module) else []
        teachers = [teacher.network for teacher in self.trained_teachers]
        networks = [self.roles.student, *objective_modules, *teachers]
        return [b for n in networks for b in n.buffers() if b.is_floating_point()]

    def state_dict(self) -> dict:
        """The complete state as tensors and plain values."""
        return {
            "student": self.roles.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.averaged_model.state_dict() if self.averaged_model is not None else {},
            "objective": self.objective.state_dict()
            if isinstance(self.objective, nn.Module)
            else {},
            "teachers": [teacher.state_dict() for teacher in self.trained_teachers],
            "source": self.source.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "counters": [self.epoch, self.step],
            "history": self.history,
            "sums": read_numbers(self.term_sums),
            "first_norms": [norm.item() for norm in self.first_norms],
            "best": self.best_checkpoint,
            "kept": self.kept_weights,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore a saved state."""
        self.roles.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged_model is not None:
            self.averaged_model.load_state_dict(state["average"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        if self.trained_teachers:
            for teacher, saved in zip(self.trained_teachers, state["teachers"], strict=True):
                teacher.load_state_dict(saved)
        self.source.load_state_dict(state["source"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.epoch, self.step = state["counters"]
        self.history, self.term_sums = state["history"], state["sums"]
        self.first_norms = [torch.tensor(norm) for norm in state.get("first_norms", ())]
        self.best_checkpoint, self.kept_weights = state["best"], state["kept"]


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def make_ascent_graphs(device: str) -> AscentGraphs | None:
    """What captures inner ascents on a device; None, and a line of the log, on a CPU."""
    if placement.is_accelerator(device):
        return AscentGraphs()
    log.info("compile: graph captures on a GPU alone; all runs eagerly")
    return None


def make_pass_graphs(ascents: AscentGraphs | None) -> PassGraphs | None:
    """What captures the passes outside of ascents; None where ascents are not captured."""
    return None if ascents is None else PassGraphs(ascents)


def prepare_objective(objective: object, roles: Roles, source: BatchSource, device: str) -> None:
    """Move an objective that is a module to the device, and call its ``prepare`` if it has one.

    ``objective.prepare(roles, batch)`` gets the models and the first batch, and may allocate
    parameters. The source's state is restored afterwards.
    """
    if isinstance(objective, nn.Module):
        objective.to(device)
    if hasattr(objective, "prepare"):
        state = source.state_dict()
        objective.prepare(roles, next(source.iterate_batches(0, 0, roles)))
        source.load_state_dict(state)
