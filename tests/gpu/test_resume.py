"""A training that is stopped and goes on ends with the same bytes as one that is not."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.models.classifier import initialise_classifier, save_classifier
from pipeline.objectives import pgd_at
from pipeline.schema import dump_section
from pipeline.training.loop import fit
from pipeline.training.numeric_modes import (
    CUBLAS_VARIABLE,
    CUBLAS_WORKSPACE,
    set_numeric_modes,
)
from pipeline.training.state import CheckpointSettings
from tests.gpu.device import DEVICE, needs_device
from tests.helpers.plain import make_objective
from tests.helpers.recorded import record_steps

pytestmark = [pytest.mark.gpu, needs_device]
CLASSES = tuple("abcdefghij")
MODES = {
    torch.backends.cuda.matmul: ("allow_tf32",),
    torch.backends.cudnn: ("allow_tf32", "benchmark", "deterministic"),
}


class StoppedSource(DatasetSource):
    """Asks the process to stop once, before a step."""

    stop_at = 2

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        for step, batch in enumerate(super().iterate_batches(epoch, start, roles), start):
            if (epoch, step) == (1, self.stop_at) and start == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """torch's modes and the variable of CUDA's libraries as before; a CPU captures by tracers."""
    monkeypatch.setenv(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)
    for place, names in MODES.items():
        for name in names:
            monkeypatch.setattr(place, name, getattr(place, name))
    if DEVICE == "cpu":
        record_steps(monkeypatch)
    yield
    torch.use_deterministic_algorithms(False)


def train(folder: Path, kind: type[DatasetSource], **forms) -> bytes:
    """The bytes of the model's file after two epochs, in the modes that the recipe asks for."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 32, 32), generator=rng, dtype=torch.uint8)
    schedule = BatchSchedule(2, 16, 0, "crop_flip", DEVICE)
    plain = {"epochs": 2, "batch": 16, "lr": 0.1, "schedule": "onecycle", "ema": 0.9}
    recipe = Recipe(deterministic=True, **plain, **forms)
    set_numeric_modes(dump_section(recipe))
    assert torch.are_deterministic_algorithms_enabled()
    student = initialise_classifier("resnet8-s2-w8", 10, (0.5,) * 3, (0.25,) * 3, 0)
    roles = Roles(student.to(DEVICE))
    folder.mkdir(exist_ok=True)
    source = kind(images, torch.arange(64) % 10, schedule)
    fit(roles, make_objective(pgd_at, steps=2), source, recipe, CheckpointSettings(folder, DEVICE))
    save_classifier(roles.student, folder / "model.safetensors", "resnet8-s2-w8", CLASSES)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("forms", [{}, {"bf16": "both"}, {"compile": "graph"}], ids=str)
def test_a_stopped_training_ends_with_equal_bytes(forms, tmp_path):
    wanted = train(tmp_path / "whole", DatasetSource, **forms)
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / "stopped", StoppedSource, **forms)
    assert ended.value.code == 128 + signal.SIGTERM
    assert train(tmp_path / "stopped", DatasetSource, **forms) == wanted


def test_the_same_training_twice_gives_equal_bytes(tmp_path):
    assert train(tmp_path / "a", DatasetSource) == train(tmp_path / "b", DatasetSource)
