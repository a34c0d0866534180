"""What a training tells of itself: a line an epoch, the first gradients' size, trackers' records.

This module has no REVISION, because it changes no number.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.core import collectives
from pipeline.discovery import load_plugin
from pipeline.training.state import CheckpointSettings, TrainingState

log = logging.getLogger("retort")


def log_epoch(training: TrainingState, record: Mapping, seconds: float, steps: int) -> None:
    """Log an epoch's record in one line, with the remaining time in seconds."""
    steps_left = (training.recipe.epochs - training.epoch - 1) * training.source.steps
    shown = {k: v for k, v in record.items() if k not in ("epoch", "lr", "cosine")}
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
    eta = steps_left * seconds / max(steps, 1)
    log.info("epoch %d/%d  %s  %.0f s left", record["epoch"], training.recipe.epochs, numbers, eta)


def measure_gradient(parameters: list[nn.Parameter]) -> Tensor:
    """The Euclidean norm of the gradient, a scalar where the gradient lies; not read."""
    norms = [p.grad.detach().norm().float() for p in parameters if p.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def log_first_norms(training: TrainingState) -> None:
    """Log once how large the first gradients were: losses of unlike scale show in it."""
    if training.first_norms:
        count = len(training.first_norms)
        mean = sum(norm.item() for norm in training.first_norms) / count
        log.info("gradient norm %.3g, mean of the first %d batches", mean, count)
        training.first_norms.clear()


def track_epochs(settings: CheckpointSettings, history: list[dict], epochs: int) -> None:
    """Hand the records so far, of a training of some epochs, to the trackers, on rank 0.

    Each tracker has a folder beside the logs.
    """
    if collectives.get_rank() != 0 or not settings.trackers:
        return
    numbers = {r["epoch"]: {k: v for k, v in r.items() if k != "epoch"} for r in history}
    for name in settings.trackers:
        tracker = load_plugin("training.trackers", name)
        folder = settings.state_folder.parent / "attempts" / name
        tracker.write_epoch(folder, numbers, is_finished=len(history) == epochs)
