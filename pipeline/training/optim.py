"""Optimiser, learning rate and moving average of a recipe."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pipeline.config.recipe import Recipe

REVISION = 1

ONECYCLE_PEAK = 0.25  # share of training at which the rate is highest
ONECYCLE_START = 0.1  # first rate, as a share of the highest
ONECYCLE_END = 0.001  # last rate of one-cycle, as a share of the highest


def compute_learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate at ``progress`` in [0,1): warm-up, then the recipe's schedule."""
    if progress < recipe.warmup:
        return recipe.lr * (progress + 1e-8) / recipe.warmup
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** sum(progress >= m for m in recipe.milestones)
    if recipe.schedule == "cosine":
        begin = max(recipe.warmup, recipe.cosine_from)
        done = max(0.0, progress - begin) / (1 - begin)
        return recipe.lr * (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "onecycle":
        if progress < ONECYCLE_PEAK:
            return recipe.lr * (ONECYCLE_START + (1 - ONECYCLE_START) * progress / ONECYCLE_PEAK)
        left = (1 - progress) / (1 - ONECYCLE_PEAK)
        return recipe.lr * (ONECYCLE_END + (1 - ONECYCLE_END) * left)
    return recipe.lr


def group_by_decay(recipe: Recipe, parameters: list[nn.Parameter]) -> list[dict]:
    """Groups of parameters for an optimiser, each with its weight decay; none is empty."""
    decayed = [p for p in parameters if recipe.decay_biases or p.ndim > 1]
    others = [p for p in parameters if not recipe.decay_biases and p.ndim <= 1]
    groups = (decayed, recipe.weight_decay), (others, 0.0)
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters, with one fused kernel per step."""
    groups = group_by_decay(recipe, parameters)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    return torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def make_averaged_model(recipe: Recipe, student: nn.Module) -> AveragedModel | None:
    """The average of weights and BatchNorm statistics; None if the recipe has none.

    ``update_average`` moves it. Its own ``update_parameters`` makes the host wait for a GPU.
    """
    return AveragedModel(student, use_buffers=True) if recipe.ema or recipe.swa_from else None


@torch.no_grad()
def update_average(
    averaged: AveragedModel, student: nn.Module, decay: float, is_first: bool
) -> None:
    """Move the average towards the student by 1 - ``decay``; the first update copies it.

    Integer buffers (counters, prompt tokens) are copied: averaging would round them down.
    """
    pairs = list(
        zip(
            (*averaged.module.parameters(), *averaged.module.buffers()),
            (*student.parameters(), *student.buffers()),
            strict=True,
        )
    )
    moved = [pair for pair in pairs if pair[0].is_floating_point() and not is_first]
    copied = [pair for pair in pairs if not pair[0].is_floating_point() or is_first]
    if moved:
        torch._foreach_lerp_([a for a, _ in moved], [b for _, b in moved], 1 - decay)
    if copied:
        torch._foreach_copy_([a for a, _ in copied], [b for _, b in copied])
    averaged.n_averaged += 1


def average_epoch(averaged: AveragedModel, student: nn.Module) -> None:
    """Take an epoch's last weights into the mean of the epochs taken before."""
    count = int(averaged.n_averaged)
    update_average(averaged, student, count / (count + 1), is_first=count == 0)


def is_averaged(recipe: Recipe, epoch: int) -> bool:
    """Whether the weights after ``epoch``, counted from 0, go into the recipe's mean of epochs."""
    return recipe.swa_from > 0 and (epoch + 1) / recipe.epochs >= recipe.swa_from
