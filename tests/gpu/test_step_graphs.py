"""Steps from captured graphs beside eager ones, and frozen networks in their faster forms.

On a card the captures are CUDA graphs; with `RETORT_GPU_TESTS=cpu` traces of operators. With
cuDNN's deterministic algorithms a graph repeats the eager kernels. Stated tolerance: the student's
state to 1e-5 after six steps at a rate of 1e-3, in bf16 to 3e-3. Ascents take signs, so a single
rounding elsewhere would show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.training_steps import TEACHERS, OneBatch, make_workload
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import BankSpec
from pipeline.core.batch import Roles
from pipeline.models.classifier import initialise_classifier
from pipeline.models.frozen_forms import fold_batchnorms
from pipeline.schema import list_options, make_plugin
from pipeline.training.loop import take_optimizer_step
from pipeline.training.state import CheckpointSettings, TrainingState
from tests.gpu.device import DEVICE, needs_device
from tests.helpers.host_reads import noted
from tests.helpers.recorded import record_steps

pytestmark = [pytest.mark.gpu, needs_device]
NETWORK, STEPS, WARM = "resnet8-s2-w8", 6, 3
FAST = {"bf16": "both", "channels_last": True, "teacher_form": "folded"}
CASES = [*((method, {}) for method in TEACHERS), ("adaad", FAST), ("darwin", FAST)]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """The same algorithms in every run, single precision; a CPU captures by tracers."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    if DEVICE == "cpu":
        record_steps(monkeypatch)


@contextmanager
def refused_reads() -> Iterator[None]:
    """Fails where the host waits for the device within the block."""
    found: list[str] = []
    if DEVICE == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with noted(found):
            yield
    assert not found


@contextmanager
def uncached() -> Iterator[None]:
    """Autocast without its cache, which would sum two passes' gradients in bf16."""
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(True)


def trained(method: str, folder: Path, **recipe) -> TrainingState:
    """A training after some steps on one batch; the later ones must not wait for the device."""
    workload = make_workload(NETWORK, NETWORK, 8, DEVICE)
    kind = type(make_plugin("objectives", "Objective", method, {}))
    options = {"steps": 2} if "steps" in list_options(kind) else {}
    objective = make_plugin("objectives", "Objective", method, options)
    teachers = workload.build_teachers(method)
    if recipe.get("teacher_form") == "folded":
        teachers = {role: fold_batchnorms(teacher, role)[0] for role, teacher in teachers.items()}
    made = Recipe(batch=8, lr=1e-3, schedule="constant", **recipe)
    place, source = CheckpointSettings(folder, DEVICE), OneBatch(workload)
    roles = Roles(workload.build(NETWORK, 0), teachers)
    training = TrainingState(roles, objective, source, made, place, None)
    for step in range(STEPS):
        batch = source.make_batch()
        if step < WARM:
            take_optimizer_step(training, batch)
        else:
            with refused_reads():
                take_optimizer_step(training, batch)
        training.step += 1
    return training


def weights(training: TrainingState) -> dict[str, torch.Tensor]:
    """The student's state on the host."""
    return {k: v.float().cpu() for k, v in training.roles.student.state_dict().items()}


@pytest.mark.parametrize(("method", "forms"), CASES, ids=str)
def test_steps_from_graphs_are_eager_ones_and_wait_for_nothing(method, forms, tmp_path):
    captured = trained(method, tmp_path, compile="graph", **forms)
    assert captured.ascents.made
    assert all(made is not None for made in captured.ascents.made.values())
    assert captured.passes.slots
    assert not any(captured.passes.seen.values())
    with uncached():
        found, wanted = weights(captured), weights(trained(method, tmp_path, **forms))
    tolerance = 1e-5 if forms == {} else 3e-3
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=name)


def teacher() -> nn.Module:
    """A frozen network on the device."""
    made = initialise_classifier("resnet18-w8", 10, (0.5,) * 3, (0.25,) * 3, 0).to(DEVICE)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(("bf16", "share"), [(False, 1e-4), (True, 0.03)])
def test_a_folded_teacher_says_nearly_the_same(bf16, share):
    networks = pytest.importorskip("pipeline.banks.networks", exc_type=ImportError)  # taming
    spec = BankSpec(seed=0, device=DEVICE, bf16=bf16, teacher_form="folded")
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad():
        wanted, found = teacher()(x), networks.form_teacher(teacher(), spec)(x)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() <= share * wanted.abs().max()
