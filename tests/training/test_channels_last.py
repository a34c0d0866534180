"""A network that torch cannot train channels last on a CPU is trained without."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.core.devices import bf16_products, placement
from pipeline.core.devices.channels_last import find_unsafe_convolution
from pipeline.models.classifier import initialise_classifier
from pipeline.objectives import natural
from pipeline.training.state import CheckpointSettings, TrainingState
from tests.helpers import ranked


def network(name: str) -> nn.Module:
    """A network of random weights."""
    return initialise_classifier(name, 5, (0.5,) * 3, (0.25,) * 3, 0)


def prepared(student: nn.Module, folder: Path, **recipe) -> TrainingState:
    """A training that has not begun."""
    asked = Recipe(**ranked.SMALL, **recipe)
    source = ranked.source_of(ranked.Case("natural"), asked, (), folder)
    return TrainingState(
        Roles(student), natural.Objective(), source, asked, CheckpointSettings(folder), None
    )


def is_channels_last(student: nn.Module) -> bool:
    """Whether a network's kernels lie channels last."""
    kernels = [p for p in student.parameters() if p.dim() == 4 and p.shape[2] > 1]
    return all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)


@pytest.mark.parametrize(
    ("layer", "is_unsafe"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), True),
        (nn.Conv2d(8, 8, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(3, 8, 3, stride=2), False),
    ],
)
def test_strided_kernels_of_one_pixel_and_few_channels_are_found(layer, is_unsafe):
    assert find_unsafe_convolution(nn.Sequential(nn.ReLU(), layer)) == ("1" if is_unsafe else "")


@pytest.mark.parametrize(("name", "kept"), [("resnet8-s2-w4", False), ("resnet8-s2-w8", True)])
def test_a_narrow_network_trains_as_usual_on_a_cpu(name, kept, tmp_path, caplog):
    student = network(name)
    with caplog.at_level(logging.WARNING, "retort"):
        training = prepared(student, tmp_path, channels_last=True)
    assert training.is_channels_last == is_channels_last(student) == kept
    assert ("channels_last: left out" in caplog.text) != kept


def test_a_gpu_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    assert prepared(network("resnet8-s2-w4"), tmp_path, channels_last=True).is_channels_last


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_compiled_step_with_widened_products_says_that_it_is_eager(
    has_bf16, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(bf16_products, "has_bf16_instructions", lambda: has_bf16)
    with caplog.at_level(logging.WARNING, "retort"):
        prepared(network("resnet8-s2-w8"), tmp_path, bf16="both", compile="eager")
    assert ("runs as eager" in caplog.text) != has_bf16
