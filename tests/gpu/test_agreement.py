"""What a GPU computes beside a CPU, in single precision without TF32.

Stated tolerances: logits and losses to 1e-4 of their size, weights after a step to 1e-4 absolutely
(a rate of 0.1). PGD takes signs, so single pixels differ; its loss agrees to 1 %.
"""

import pytest
import torch

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import Linf
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.models.classifier import Classifier, initialise_classifier
from pipeline.objectives import natural
from pipeline.training.loop import take_optimizer_step
from pipeline.training.state import CheckpointSettings, TrainingState
from tests.gpu.device import DEVICE, needs_device

pytestmark = [pytest.mark.gpu, needs_device]
IMAGES, LABELS = (
    torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
    torch.arange(16) % 10,
)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def network(device: str) -> Classifier:
    return initialise_classifier("resnet8-s2-w8", 10, (0.5,) * 3, (0.25,) * 3, 0).to(device)


def step(device: str, folder) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and terms after one step on the images."""
    schedule = BatchSchedule(1, 16, 0, device=device)
    source = DatasetSource((IMAGES * 255).to(torch.uint8), LABELS, schedule)
    recipe = Recipe(epochs=1, batch=16, lr=0.1, schedule="constant")
    place = CheckpointSettings(folder, device)
    roles = Roles(network(device))
    training = TrainingState(roles, natural.Objective(), source, recipe, place, None)
    rng = torch.Generator(device).manual_seed(0)
    rows = torch.arange(16, device=device)
    batch = Batch(IMAGES.to(device), LABELS.to(device), rows, {}, 0.0, 0, rng)
    take_optimizer_step(training, batch)
    terms = {name: float(value) for name, value in training.term_sums.items()}
    return {k: v.cpu() for k, v in roles.student.state_dict().items()}, terms


def test_logits_agree():
    with torch.no_grad():
        found, wanted = network(DEVICE).eval()(IMAGES.to(DEVICE)), network("cpu").eval()(IMAGES)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)


def test_a_step_agrees(tmp_path):
    (weights, terms), (wanted, wanted_terms) = step(DEVICE, tmp_path), step("cpu", tmp_path)
    assert terms == pytest.approx(wanted_terms, rel=1e-4)
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4, msg=name)


def attacked_loss(device: str) -> float:
    model, x, y = network(device), IMAGES.to(device), LABELS.to(device)
    with freeze_modules(model):
        z = run_pgd(
            x,
            lambda z: cross_entropy(model(z), y),
            Linf(8 / 255),
            steps=10,
            step_size=2 / 255,
            start="clean",
        )
        assert (z - x).abs().max() <= 8 / 255 + 1e-6
        with torch.no_grad():
            return cross_entropy(model(z), y).mean().item()


def test_an_attack_reaches_the_same_loss():
    assert attacked_loss(DEVICE) == pytest.approx(attacked_loss("cpu"), rel=0.01)
