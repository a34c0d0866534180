"""The only training loop."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core import collectives
from pipeline.core.batch import Batch, Roles, Terms, split
from pipeline.core.seeding import seed_of
from pipeline.data.batches import Source
from pipeline.errors import RetortError
from pipeline.interrupts import Wish, stoppable
from pipeline.progress import Progress
from pipeline.store import checkpoint
from pipeline.store.artifact import write_json
from pipeline.training import data_parallel
from pipeline.training.optim import learning_rate
from pipeline.training.state import Fitted, Place, Training, copied
from pipeline.training.validation import Validation

REVISION = 1

log = logging.getLogger("retort")

STATE = "checkpoint.pt"


def fit(
    roles: Roles,
    objective: object,
    source: Source,
    recipe: Recipe,
    place: Place,
    validation: Validation | None = None,
) -> Fitted:
    """Train the student in place; returns one record an epoch and the weights kept beside it.

    Resumes from ``place.state`` if a checkpoint lies there. On SIGTERM it saves and exits with
    status 143. At the end the student holds the weights to export: the moving average where the
    recipe has one, the best epoch's on the validation split where it asks for that.

    With ``recipe.gpus`` above 1 every rank calls it with the same models and whole batches; only
    the first returns, the others end here with status 0.

    Raises:
        RetortError: the loss is not finite; the batch is saved and named.
        SystemExit: the process was asked to stop.
    """
    if recipe.gpus > 1:
        source = data_parallel.spread(roles, objective, source, recipe, place.device)
    training = Training(roles, objective, source, recipe, place, validation)
    saved = checkpoint.restore(place.state / STATE, place.device)
    if saved is not None:
        training.load_state_dict(saved)
        log.info("resumed at epoch %d, step %d", training.epoch + 1, training.step)
    with stoppable() as wish:
        while training.epoch < recipe.epochs:
            run_epoch(training, wish)
    if recipe.gpus > 1:
        data_parallel.part()
    if training.best is not None:
        training.kept["last"] = copied(training.model)
    final = training.best["weights"] if training.best is not None else training.model.state_dict()
    roles.student.load_state_dict(final)
    roles.student.eval()
    return Fitted(training.history, training.kept)


def run_epoch(training: Training, wish: Wish) -> None:
    """The rest of the current epoch, then its record."""
    began, saved_at, first = time.monotonic(), time.monotonic(), training.step
    source, place = training.source, training.place
    steps = training.recipe.epochs * source.steps
    progress = Progress("step", steps, training.epoch * source.steps + first)
    for batch in source.batches(training.epoch, training.step, training.roles):
        update(training, batch)
        training.step += 1
        progress.step()
        stop = collectives.agreed(wish.signal)
        if stop or time.monotonic() - saved_at >= place.every_seconds:
            save(training)
            saved_at = time.monotonic()
        if stop:
            log.info("asked to stop: saved at epoch %d, step %d", training.epoch + 1, training.step)
            collectives.leave()
            raise SystemExit(128 + stop)
    record = {name: total / source.steps for name, total in sorted(training.sums.items())}
    record |= {"epoch": training.epoch + 1, "lr": training.optimizer.param_groups[0]["lr"]}
    if training.validation is not None:
        record |= training.validation.measure(training.model)
    keep(training, record)
    training.history.append(record)
    announce(training, record, time.monotonic() - began, source.steps - first)
    training.epoch, training.step, training.sums = training.epoch + 1, 0, {}


def save(training: Training) -> None:
    """Write the state, which is the same on every rank, once."""
    if collectives.rank() == 0:
        checkpoint.save(training.place.state / STATE, training.state_dict())


def announce(training: Training, record: Mapping, seconds: float, steps: int) -> None:
    """One line of progress with what is left, in seconds."""
    left = (training.recipe.epochs - training.epoch - 1) * training.source.steps
    shown = {k: v for k, v in record.items() if k not in ("epoch", "lr", "cosine")}
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
    eta = left * seconds / max(steps, 1)
    log.info("epoch %d/%d  %s  %.0f s left", record["epoch"], training.recipe.epochs, numbers, eta)


def keep(training: Training, record: dict) -> None:
    """Copy the weights of a chosen epoch, and those that selection likes best so far."""
    if record["epoch"] in training.recipe.keep_epochs:
        training.kept[f"epoch-{record['epoch']}"] = copied(training.model)
    if training.recipe.select_on == "last":
        return
    score = record["val_robust"]
    if training.best is None or score > training.best["score"]:
        weights = copied(training.model)
        training.best = {"score": score, "epoch": record["epoch"], "weights": weights}


def update(training: Training, batch: Batch) -> None:
    """One optimiser step."""
    optimizer, recipe = training.optimizer, training.recipe
    if recipe.channels_last:
        batch = replace(batch, x=batch.x.contiguous(memory_format=torch.channels_last))
    inner = torch.bfloat16 if recipe.bf16 in ("inner", "both") else None
    batch = replace(batch, attack_dtype=inner)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, batch.progress)
    optimizer.zero_grad(set_to_none=True)
    training.roles.student.train()
    outer = recipe.bf16 in ("outer", "both")
    combines = hasattr(training.objective, "combine")
    parts = split(batch, recipe.accumulate)
    cast = torch.autocast(batch.x.device.type, torch.bfloat16, enabled=outer)
    with dice(batch), cast:
        gather = accumulate_combined if combines else accumulate
        scalars = gather(training, parts)
    scalars = collectives.averaged(scalars)
    check_finite(training, batch, scalars)
    if not combines:
        collectives.average([p.grad for p in training.parameters if p.grad is not None])
    if recipe.clip_grad:
        nn.utils.clip_grad_norm_(training.parameters, recipe.clip_grad)
    optimizer.step()
    if not recipe.sync_bn:
        collectives.average(training.statistics())
    if training.average is not None:
        training.average.update_parameters(training.roles.student)
    for name, value in scalars.items():
        training.sums[name] = training.sums.get(name, 0.0) + value


@contextmanager
def dice(batch: Batch) -> Iterator[None]:
    """Networks that draw for themselves, as drop-path does, draw from the rank's and step's seed.

    So a resumed run draws what an unbroken one does, and nothing else in the process is disturbed.
    """
    device = batch.x.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of("networks", collectives.rank(), batch.rng.initial_seed()))
        yield


def means(terms: Terms) -> dict[str, Tensor]:
    """The loop's only reduction: each term's mean over the batch."""
    return {name: values.mean() for name, values in terms.items()}


def accumulate(training: Training, parts: list[Batch]) -> dict[str, float]:
    """Backpropagate each dict of terms as the objective yields it; returns the terms' values."""
    scalars: dict[str, float] = {}
    for part in parts:
        for terms in training.objective(training.roles, part):
            averaged = {name: value / len(parts) for name, value in means(terms).items()}
            sum(averaged.values()).backward()
            for name, value in averaged.items():
                scalars[name] = scalars.get(name, 0.0) + value.item()
    return scalars


def accumulate_combined(training: Training, parts: list[Batch]) -> dict[str, float]:
    """Each term's gradient by itself, over all parts, merged by the objective's ``combine``."""
    grads: dict[str, list[Tensor]] = {}
    scalars: dict[str, float] = {}
    for part in parts:
        (terms,) = training.objective(training.roles, part)
        averaged = {name: value / len(parts) for name, value in means(terms).items()}
        for left, (name, value) in enumerate(averaged.items(), 1 - len(averaged)):
            new = torch.autograd.grad(
                value, training.parameters, retain_graph=left < 0, materialize_grads=True
            )
            old = grads.get(name)
            grads[name] = (
                list(new) if old is None else [a + b for a, b in zip(old, new, strict=True)]
            )
            scalars[name] = scalars.get(name, 0.0) + value.item()
    grads = {name: collectives.means(own) for name, own in grads.items()}
    merged, extra = training.objective.combine(grads, training.parameters)
    for parameter, grad in zip(training.parameters, merged, strict=True):
        parameter.grad = grad
    return scalars | {name: value.item() for name, value in extra.items()}


def check_finite(training: Training, batch: Batch, scalars: Mapping[str, float]) -> None:
    """Stop at the first loss that is not finite, before it reaches the weights."""
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        name = f"diverged-{collectives.rank()}" if collectives.size() > 1 else "diverged"
        path = training.place.state / f"{name}.safetensors"
        tensors = {"x": batch.x, "index": batch.index, **batch.stored}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        raise RetortError(
            f"recipe.lr: term '{bad[0]}' is not finite at epoch {training.epoch + 1}, step "
            f"{training.step}; its batch is in {path}; lower recipe.lr ({training.recipe.lr:g})"
        )


def write_history(path: Path, history: list[dict]) -> None:
    """Save the records of a training, which are the same for resumed and unbroken runs."""
    write_json(path, {"epochs": history})
