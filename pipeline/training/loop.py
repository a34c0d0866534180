"""The only training loop."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core import collectives
from pipeline.core.batch import Batch, Roles, Terms, compute_terms, split_batch
from pipeline.core.devices.bf16_products import widen_products
from pipeline.core.seeding import derive_seed
from pipeline.data.batches import BatchSource
from pipeline.interrupts import StopRequest, defer_stop_signals
from pipeline.progress import Progress
from pipeline.store import checkpoint
from pipeline.store.artefact import write_json
from pipeline.training import data_parallel
from pipeline.training.divergence import (
    Number,
    find_bad_term,
    list_batch_tensors,
    make_divergence_error,
    read_numbers,
)
from pipeline.training.epoch_log import (
    log_epoch,
    log_first_norms,
    measure_gradient,
    track_epochs,
)
from pipeline.training.optim import (
    average_epoch,
    compute_learning_rate,
    is_averaged,
    update_average,
)
from pipeline.training.state import CheckpointSettings, TrainingResult, TrainingState, copy_weights
from pipeline.training.validation import ValidationSplit

REVISION = 1

log = logging.getLogger("retort")

CHECKPOINT_FILE = "checkpoint.pt"
FIRST_BATCHES = 10  # whose gradient norms are logged


def fit(
    roles: Roles,
    objective: object,
    source: BatchSource,
    recipe: Recipe,
    place: CheckpointSettings,
    validation: ValidationSplit | None = None,
) -> TrainingResult:
    """Train the student in place; returns one record per epoch and the other kept weights.

    Resumes if ``place`` holds a checkpoint. On SIGTERM it saves and exits with status 143. At the
    end the student holds the weights to export: the moving average where the recipe has one, and
    those of the best epoch on the validation split where the recipe selects on it. Teachers that
    the objective trains are trained in place too, and frozen at the end.

    With ``recipe.gpus`` above 1 every rank calls it with the same models and complete batches;
    only the first returns, the others end here with status 0.

    Raises:
        RetortError: the loss is not finite; the message names the saved batch.
        SystemExit: the process was asked to stop.
    """
    if recipe.gpus > 1:
        spread = data_parallel.set_up_data_parallel
        source = spread(roles, objective, source, recipe, place.device)
    training = TrainingState(roles, objective, source, recipe, place, validation)
    if (saved := checkpoint.load(place.state_folder / CHECKPOINT_FILE, place.device)) is not None:
        training.load_state_dict(saved)
        log.info("resumed at epoch %d, step %d", training.epoch + 1, training.step)
    with defer_stop_signals() as stop_request:
        while training.epoch < recipe.epochs:
            run_epoch(training, stop_request)
    if recipe.gpus > 1:
        data_parallel.end_other_ranks()
    return finish_training(training)


def finish_training(training: TrainingState) -> TrainingResult:
    """The result; the student gets the weights to export, and what trained is in eval mode."""
    student = training.roles.student
    final = training.exported_model.state_dict()
    if training.best_checkpoint is not None:
        training.kept_weights["last"] = copy_weights(training.exported_model)
        final = training.best_checkpoint["weights"]
    student.load_state_dict(final)
    student.eval()
    for teacher in training.trained_teachers:
        teacher.freeze()
    return TrainingResult(training.history, training.kept_weights)


def run_epoch(training: TrainingState, stop_request: StopRequest) -> None:
    """Train for the rest of the current epoch and append its record to the history."""
    start_time, last_save_time, first_step = time.monotonic(), time.monotonic(), training.step
    source, checkpoint_settings = training.source, training.checkpoint_settings
    steps = training.recipe.epochs * source.steps
    progress = Progress("step", steps, training.epoch * source.steps + first_step)
    for batch in source.iterate_batches(training.epoch, training.step, training.roles):
        take_optimizer_step(training, batch)
        training.step += 1
        progress.add_steps()
        if training.watch is not None and training.watch.is_due():
            check_watched_steps(training)
        stop_signal = collectives.all_reduce_max(stop_request.signal_number)
        if stop_signal or time.monotonic() - last_save_time >= checkpoint_settings.interval_seconds:
            save_state(training)
            last_save_time = time.monotonic()
        if stop_signal:
            log.info("asked to stop: saved at epoch %d, step %d", training.epoch + 1, training.step)
            collectives.destroy_process_group()
            raise SystemExit(128 + stop_signal)
    check_watched_steps(training)
    if is_averaged(training.recipe, training.epoch):
        average_epoch(training.averaged_model, training.roles.student)
    sums = sorted(read_numbers(training.term_sums).items())
    record = {name: total / source.steps for name, total in sums}
    record |= {"epoch": training.epoch + 1, "lr": training.optimizer.param_groups[0]["lr"]}
    if training.validation is not None:
        record |= training.validation.measure_accuracy(training.exported_model)
    keep_weights(training, record)
    training.history.append(record)
    log_first_norms(training)
    log_epoch(training, record, time.monotonic() - start_time, source.steps - first_step)
    track_epochs(training.checkpoint_settings, training.history, training.recipe.epochs)
    training.epoch, training.step, training.term_sums = training.epoch + 1, 0, {}


def save_state(training: TrainingState) -> None:
    """Write the state on rank 0; it is the same on every rank."""
    if collectives.get_rank() == 0:
        check_watched_steps(training)
        checkpoint.save(
            training.checkpoint_settings.state_folder / CHECKPOINT_FILE, training.state_dict()
        )


def keep_weights(training: TrainingState, record: dict) -> None:
    """Keep the weights of the epochs in ``keep_epochs``, and the best weights so far."""
    if record["epoch"] in training.recipe.keep_epochs:
        training.kept_weights[f"epoch-{record['epoch']}"] = copy_weights(training.exported_model)
    if training.recipe.select_on == "last":
        return
    score = record["val_robust"]
    if training.best_checkpoint is None or score > training.best_checkpoint["score"]:
        weights = copy_weights(training.exported_model)
        training.best_checkpoint = {"score": score, "epoch": record["epoch"], "weights": weights}


def take_optimizer_step(training: TrainingState, batch: Batch) -> None:
    """Take one optimiser step on a batch."""
    optimizer, recipe = training.optimizer, training.recipe
    if training.is_channels_last:
        batch = replace(batch, x=batch.x.contiguous(memory_format=torch.channels_last))
    attack_dtype = torch.bfloat16 if recipe.bf16 in ("inner", "both") else None
    batch = replace(batch, attack_dtype=attack_dtype, ascents=training.ascents)
    prepare_step(training, batch.progress)
    uses_autocast = recipe.bf16 in ("outer", "both")
    combines_gradients = hasattr(training.objective, "combine")
    parts = split_batch(batch, recipe.accumulate)
    autocast = torch.autocast(batch.x.device.type, torch.bfloat16, enabled=uses_autocast)
    widening = widen_products(batch.x.device, recipe.bf16 != "none")
    with seed_networks(batch), autocast, widening, training.serve_passes():
        accumulate_function = (
            accumulate_combined_gradients if combines_gradients else accumulate_gradients
        )
        scalars = accumulate_function(training, parts)
    scalars = check_finite(training, batch, scalars)
    if not combines_gradients:
        collectives.average_tensors([p.grad for p in training.parameters if p.grad is not None])
    if training.epoch == 0 and training.step < FIRST_BATCHES:
        training.first_norms.append(measure_gradient(training.parameters))
    if recipe.clip_grad:
        nn.utils.clip_grad_norm_(training.parameters, recipe.clip_grad)
    optimizer.step()
    for teacher in training.trained_teachers:
        teacher.take_step()
    if not recipe.sync_bn:
        collectives.average_tensors(training.list_float_buffers())
    if recipe.ema:
        is_first = training.epoch == 0 and training.step == 0
        update_average(training.averaged_model, training.roles.student, recipe.ema, is_first)
    for name, value in scalars.items():
        training.term_sums[name] = training.term_sums.get(name, 0.0) + value


def prepare_step(training: TrainingState, progress: float) -> None:
    """Set learning rates, gradients and modes of all that trains for the step at ``progress``."""
    for group in training.optimizer.param_groups:
        group["lr"] = compute_learning_rate(training.recipe, progress)
    training.optimizer.zero_grad(set_to_none=True)
    training.roles.student.train()
    for teacher in training.trained_teachers:
        teacher.prepare_step(progress)


@contextmanager
def seed_networks(batch: Batch) -> Iterator[None]:
    """Seed torch's global generator by rank and step for layers that draw, such as drop-path.

    So a resumed run draws what an uninterrupted one does. The generator's state is restored
    afterwards.
    """
    device = batch.x.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed("networks", collectives.get_rank(), batch.rng.initial_seed()))
        yield


def average_terms(terms: Terms) -> dict[str, Tensor]:
    """The mean of each term over the batch, which is the loop's only reduction."""
    return {name: values.mean() for name, values in terms.items()}


def accumulate_gradients(training: TrainingState, parts: list[Batch]) -> dict[str, Number]:
    """The terms' values; backpropagates each dict of terms as the objective yields it."""
    scalars: dict[str, Number] = {}
    for part in parts:
        for terms in compute_terms(training.objective, training.roles, part):
            averaged = {name: value / len(parts) for name, value in average_terms(terms).items()}
            sum(averaged.values()).backward()
            for name, value in averaged.items():
                scalars[name] = scalars.get(name, 0.0) + training.read_term(value)
    return scalars


def accumulate_combined_gradients(training: TrainingState, parts: list[Batch]) -> dict[str, Number]:
    """The terms' values; the objective's ``combine`` merges the gradients of single terms."""
    grads: dict[str, list[Tensor]] = {}
    scalars: dict[str, Number] = {}
    for part in parts:
        (terms,) = compute_terms(training.objective, training.roles, part)
        averaged = {name: value / len(parts) for name, value in average_terms(terms).items()}
        for left, (name, value) in enumerate(averaged.items(), 1 - len(averaged)):
            new = torch.autograd.grad(
                value, training.parameters, retain_graph=left < 0, materialize_grads=True
            )
            old = grads.get(name)
            grads[name] = (
                list(new) if old is None else [a + b for a, b in zip(old, new, strict=True)]
            )
            scalars[name] = scalars.get(name, 0.0) + training.read_term(value)
    grads = {name: collectives.all_reduce_mean(own) for name, own in grads.items()}
    merged, extra = training.objective.combine(grads, training.parameters)
    for parameter, grad in zip(training.parameters, merged, strict=True):
        parameter.grad = grad
    return scalars | {name: training.read_term(value) for name, value in extra.items()}


def check_finite(
    training: TrainingState, batch: Batch, scalars: Mapping[str, Number]
) -> Mapping[str, Number]:
    """The terms' means over the ranks, once they are known to be finite, or watched for it.

    Raises:
        RetortError: a term is not finite; the batch is saved, and the weights have not changed. On
            an accelerator `check_watched_steps` raises it.
    """
    place = training.epoch, training.step
    if training.watch is not None:
        return training.watch.note_step(batch, scalars, place)
    scalars = collectives.average_numbers(scalars)
    if (bad := find_bad_term(scalars)) is not None:
        tensors, folder = list_batch_tensors(batch), training.checkpoint_settings.state_folder
        lr = training.recipe.lr
        raise make_divergence_error(training.objective, lr, place, bad, tensors, folder)
    return scalars


def check_watched_steps(training: TrainingState) -> None:
    """Ask an accelerator whether all terms since the last look were finite; waits for it.

    Raises:
        RetortError: one was not; the weights are those before its step, and its batch is saved.
    """
    if training.watch is not None:
        folder = training.checkpoint_settings.state_folder
        training.watch.check(training.objective, training.recipe.lr, folder)


def write_history(path: Path, history: list[dict]) -> None:
    """Save the records of a training; they are the same for resumed and uninterrupted runs."""
    write_json(path, {"epochs": history})
