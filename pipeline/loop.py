"""The only training loop."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import checkpoint
from pipeline.artifact import write_json
from pipeline.ascent import rounded
from pipeline.batch import Batch, Roles, Terms
from pipeline.errors import RetortError
from pipeline.optim import average_of, learning_rate, optimizer_for
from pipeline.sections import Recipe
from pipeline.signals import Wish, stoppable
from pipeline.source import Source
from pipeline.validation import Validation

REVISION = 1

log = logging.getLogger("retort")

STATE = "checkpoint.pt"


@dataclass(frozen=True)
class Place:
    """Where training keeps its state and how often it saves it."""

    state: Path
    device: str = "cpu"
    every_seconds: float = 60.0


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

    def __post_init__(self):
        student = self.roles.student
        if self.recipe.channels_last:
            for network in (student, *self.roles.teachers.values()):
                network.to(memory_format=torch.channels_last)
        learnt = self.objective.parameters() if isinstance(self.objective, nn.Module) else []
        self.parameters = [p for p in (*student.parameters(), *learnt) if p.requires_grad]
        self.optimizer = optimizer_for(self.recipe, self.parameters)
        self.average = average_of(self.recipe, student)

    @property
    def model(self) -> nn.Module:
        """What is validated and exported: the average if there is one."""
        return self.average.module if self.average is not None else self.roles.student

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
        self.history, self.sums, self.best = state["history"], state["sums"], state["best"]


def fit(
    roles: Roles,
    objective: object,
    source: Source,
    recipe: Recipe,
    place: Place,
    validation: Validation | None = None,
) -> list[dict]:
    """Train the student in place and return one record an epoch.

    Resumes from ``place.state`` if a checkpoint lies there. On SIGTERM it saves and exits with
    status 143. At the end the student holds the weights to export: the moving average where the
    recipe has one, the best epoch's on the validation split where it asks for that.

    Raises:
        RetortError: the loss is not finite; the batch is saved and named.
        SystemExit: the process was asked to stop.
    """
    training = Training(roles, objective, source, recipe, place, validation)
    saved = checkpoint.restore(place.state / STATE, place.device)
    if saved is not None:
        training.load_state_dict(saved)
        log.info("resumed at epoch %d, step %d", training.epoch + 1, training.step)
    with stoppable() as wish:
        while training.epoch < recipe.epochs:
            run_epoch(training, wish)
    final = training.best["weights"] if training.best is not None else training.model.state_dict()
    roles.student.load_state_dict(final)
    roles.student.eval()
    return training.history


def run_epoch(training: Training, wish: Wish) -> None:
    """The rest of the current epoch, then its record."""
    began, saved_at, first = time.monotonic(), time.monotonic(), training.step
    source, place = training.source, training.place
    for batch in source.batches(training.epoch, training.step, training.roles):
        update(training, batch)
        training.step += 1
        if wish or time.monotonic() - saved_at >= place.every_seconds:
            checkpoint.save(place.state / STATE, training.state_dict())
            saved_at = time.monotonic()
        if wish:
            log.info("asked to stop: saved at epoch %d, step %d", training.epoch + 1, training.step)
            raise SystemExit(128 + wish.signal)
    record = {name: total / source.steps for name, total in sorted(training.sums.items())}
    record |= {"epoch": training.epoch + 1, "lr": training.optimizer.param_groups[0]["lr"]}
    if training.validation is not None:
        record |= training.validation.measure(training.model)
        keep_best(training, record)
    training.history.append(record)
    announce(training, record, time.monotonic() - began, source.steps - first)
    training.epoch, training.step, training.sums = training.epoch + 1, 0, {}


def announce(training: Training, record: Mapping, seconds: float, steps: int) -> None:
    """One line of progress with what is left, in seconds."""
    left = (training.recipe.epochs - training.epoch - 1) * training.source.steps
    shown = {k: v for k, v in record.items() if k not in ("epoch", "lr", "cosine")}
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
    eta = left * seconds / max(steps, 1)
    log.info("epoch %d/%d  %s  %.0f s left", record["epoch"], training.recipe.epochs, numbers, eta)


def keep_best(training: Training, record: dict) -> None:
    """Copy the weights when the validation split likes them best so far."""
    if training.recipe.select_on != "val":
        return
    score = record["val_robust"]
    if training.best is None or score > training.best["score"]:
        weights = {k: v.detach().clone() for k, v in training.model.state_dict().items()}
        training.best = {"score": score, "epoch": record["epoch"], "weights": weights}


def update(training: Training, batch: Batch) -> None:
    """One optimiser step."""
    optimizer, recipe = training.optimizer, training.recipe
    if recipe.channels_last:
        batch = replace(batch, x=batch.x.contiguous(memory_format=torch.channels_last))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, batch.progress)
    optimizer.zero_grad(set_to_none=True)
    training.roles.student.train()
    inner = torch.bfloat16 if recipe.bf16 in ("inner", "both") else None
    outer = recipe.bf16 in ("outer", "both")
    with rounded(inner), torch.autocast(batch.x.device.type, torch.bfloat16, enabled=outer):
        if hasattr(training.objective, "combine"):
            scalars = accumulate_combined(training, batch)
        else:
            scalars = accumulate(training, batch)
    check_finite(training, batch, scalars)
    if recipe.clip_grad:
        nn.utils.clip_grad_norm_(training.parameters, recipe.clip_grad)
    optimizer.step()
    if training.average is not None:
        training.average.update_parameters(training.roles.student)
    for name, value in scalars.items():
        training.sums[name] = training.sums.get(name, 0.0) + value


def means(terms: Terms) -> dict[str, Tensor]:
    """The loop's only reduction: each term's mean over the batch."""
    return {name: values.mean() for name, values in terms.items()}


def accumulate(training: Training, batch: Batch) -> dict[str, float]:
    """Backpropagate each dict of terms as the objective yields it; returns the terms' values."""
    scalars: dict[str, float] = {}
    for terms in training.objective(training.roles, batch):
        averaged = means(terms)
        sum(averaged.values()).backward()
        for name, value in averaged.items():
            scalars[name] = scalars.get(name, 0.0) + value.item()
    return scalars


def accumulate_combined(training: Training, batch: Batch) -> dict[str, float]:
    """Each term's gradient by itself, merged by the objective's ``combine``."""
    (terms,) = training.objective(training.roles, batch)
    averaged = means(terms)
    grads = {}
    for left, (name, value) in enumerate(averaged.items(), 1 - len(averaged)):
        grads[name] = torch.autograd.grad(
            value, training.parameters, retain_graph=left < 0, materialize_grads=True
        )
    merged, extra = training.objective.combine(
        {name: list(grad) for name, grad in grads.items()}, training.parameters
    )
    for parameter, grad in zip(training.parameters, merged, strict=True):
        parameter.grad = grad
    return {name: value.item() for name, value in (averaged | extra).items()}


def check_finite(training: Training, batch: Batch, scalars: Mapping[str, float]) -> None:
    """Stop at the first loss that is not finite, before it reaches the weights."""
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        path = training.place.state / "diverged.safetensors"
        tensors = {"x": batch.x, "index": batch.index, **batch.stored}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        raise RetortError(
            f"recipe.lr: term '{bad[0]}' is not finite at epoch {training.epoch + 1}, step "
            f"{training.step}; its batch is in {path}; lower recipe.lr ({training.recipe.lr:g})"
        )


def write_history(path: Path, history: list[dict]) -> None:
    """Save the records of a training, which are the same for resumed and unbroken runs."""
    write_json(path, {"epochs": history})
