"""Defences that are deliberately broken: each is flagged by the outputs of its network."""

import io
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.attacks import autoattack, fgsm, pgd
from pipeline.core.attack_protocol import run_attack
from pipeline.models.output_checks import (
    OutputChecks,
    ZeroGradientClassifier,
    check_outputs,
    compute_confidences,
)
from pipeline.report.outcomes import Outcome
from pipeline.report.output_doubts import find_output_doubts, find_preparation_doubts
from pipeline.report.sanity_checks import find_doubts
from pipeline.trials.requirements import make_plain_network, make_samples
from tests.helpers.points import CLEAN

SIDE, COUNT = 8, 16


class Defended(nn.Module):
    """A network behind a defence."""

    def __init__(self, defend: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.net, self.defend = make_plain_network(4, SIDE), defend
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.defend(self.net, x)


def compress(net: nn.Module, x: Tensor) -> Tensor:
    """The network on images that went through JPEG."""
    found = []
    for image in np.uint8((x.detach() * 255).round().permute(0, 2, 3, 1).numpy()):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        found.append(np.asarray(Image.open(file)))
    return net(torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255)


DEFENCES = {
    "softmax": (lambda net, x: net(x).softmax(1), "ends in softmax"),
    "log-softmax": (lambda net, x: net(x).log_softmax(1), "ends in log-softmax"),
    "rounding": (lambda net, x: net((x * 255).round() / 255), "rounds or compresses"),
    "few bits": (lambda net, x: net((x * 15).floor() / 15), "rounds or compresses"),
    "straight-through": (
        lambda net, x: net(x + ((x * 15).round() / 15 - x).detach()),
        "rounds or compresses",
    ),
    "JPEG": (compress, "no gradient with respect to the image"),
    "noise": (lambda net, x: net(x + 0.25 * torch.randn_like(x)), "chance changes its outputs"),
    "cut gradient": (lambda net, x: net(x).detach(), "no gradient with respect to the image"),
    "no std": (lambda net, x: 1e5 * net(x), "its logits are saturated"),
}


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    x, y = make_samples(make_plain_network(4, SIDE), COUNT, SIDE)
    return (x * 255).round() / 255, y


@pytest.mark.parametrize("name", DEFENCES)
def test_a_broken_defence_is_flagged(name, samples):
    defend, message = DEFENCES[name]
    checks = check_outputs(Defended(defend), *samples)
    lines = list(find_output_doubts(checks))
    assert any(message in line for line in lines), lines
    misleads = name not in ("softmax", "log-softmax")
    assert checks.is_differentiable != misleads


def test_a_sound_network_is_not_flagged(samples):
    checks = check_outputs(make_plain_network(4, SIDE), *samples)
    assert astuple(checks) == (COUNT, "logits", 0, 0, 0, 0, True)
    assert list(find_output_doubts(checks)) == [] and checks.is_differentiable
    one = check_outputs(make_plain_network(4, SIDE), samples[0][:1], samples[1][:1])
    assert one.form == "logits"


def test_attacks_run_where_there_is_no_gradient(samples):
    model = ZeroGradientClassifier(Defended(compress)).eval()
    x, y = samples[0][:4], samples[1][:4]
    for attack in (fgsm.Attack(), pgd.Attack(steps=2), autoattack.Attack()):
        (found,) = attack(model, x, y, 0).values()
        assert found.shape == (4,)


@pytest.mark.parametrize("name", ["few bits", "JPEG"])
def test_a_transfer_is_stronger_than_the_attack_on_a_broken_defence(name, samples):
    """PGD finds nothing on a network without gradients, which PGD from its bare network misleads.

    The report says so.
    """
    x, bare = samples[0], make_plain_network(4, SIDE)
    broken = ZeroGradientClassifier(Defended(DEFENCES[name][0])).eval()
    y = broken(x).argmax(1)
    attack, found = pgd.Attack(steps=20, n_eval=COUNT), {}
    for surrogate, model in ((None, broken), ("bare", bare)):
        ((point, predictions),) = run_attack(attack, model, x, y, 0, broken).items()
        right = (predictions == y).double().numpy()
        found[replace(point, surrogate=surrogate)] = Outcome(np.arange(COUNT), right)
    white_box, transferred = (outcome.accuracy for outcome in found.values())
    assert transferred < white_box
    (doubt,) = find_doubts(found)
    assert f"{100 * transferred:.1f} % under PGD-20 from bare at 8/255" in doubt.text


def test_confidences_by_hand():
    logits = torch.tensor([[0.0, 1.0, 1.0]]).log()  # probabilities 0, 1/2, 1/2
    assert compute_confidences(logits).tolist() == [0.5]
    assert compute_confidences(torch.tensor([[0.2, 0.7, 0.1]])).tolist() == pytest.approx([0.7])
    assert compute_confidences(torch.zeros(1, 4)).tolist() == [0.25]


@pytest.mark.parametrize(("right", "flagged"), [(50, True), (75, False), (85, False)])
def test_accuracy_far_below_validation_s_is_flagged(right, flagged, tmp_path):
    import json
    from types import SimpleNamespace

    path = tmp_path / "history.json"
    path.write_text(json.dumps({"epochs": [{"val_clean": 0.1}, {"val_clean": 0.8}]}))
    model = SimpleNamespace(
        manifest=SimpleNamespace(files={"history.json": ""}, facts={}),
        get_verified_path=lambda name: path,
    )
    clean = Outcome(np.arange(100), np.float64([1] * right + [0] * (100 - right)))
    lines = list(find_preparation_doubts(model, {CLEAN: clean}))
    assert bool(lines) == flagged and all("same mean and std" in line for line in lines)
    foreign = SimpleNamespace(manifest=SimpleNamespace(files={}, facts={"trial_accuracy": 0.8}))
    assert bool(list(find_preparation_doubts(foreign, {CLEAN: clean}))) == flagged
    assert list(find_preparation_doubts(foreign, {})) == []


def test_checks_survive_a_manifest():
    import json
    from dataclasses import asdict

    checks = OutputChecks(4, "logits", 0.0, 0.0, 0.25, 0.0)
    assert OutputChecks(**json.loads(json.dumps(asdict(checks)))) == checks
