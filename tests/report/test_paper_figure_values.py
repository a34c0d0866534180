"""What the papers' figures compute: paths, landscapes, heat maps and steps, by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.report.outcomes import Study
from pipeline.report.paper_figures import cosine, grad_cam, landscape, path_accuracy
from pipeline.store.artefact import Artefact, Manifest
from tests.helpers.specs import completed


class Threshold(nn.Module):
    """Class 1 for one-pixel images above a threshold, class 0 below."""

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        z = x.flatten(1)
        return torch.cat([torch.zeros_like(z), 50 * (z - self.threshold)], 1)


def test_a_path_crosses_a_threshold_by_hand():
    """From 0.5, class 0 below 0.5 + 6.5/255: sample 6 is right, and 7 to 14, which stop at 8, not.

    The partner at 0.6, class 1, descends towards class 0: at most 8/255 = 0.031, never to 0.5255.
    The first image descends its partner's cross-entropy of class 1, which is the same ascent.
    """
    x, y = torch.tensor([0.5, 0.6]).view(2, 1, 1, 1), torch.tensor([0, 1])
    untargeted, targeted = path_accuracy.measure_paths(Threshold(0.5 + 6.5 / 255), x, y)
    assert untargeted[:, 0].tolist() == [True] + 8 * [False]
    assert untargeted[:, 1].all()
    assert targeted.shape == (9, 2)
    assert targeted.double().mean(1).tolist() == [1.0] + 8 * [0.5]


def test_one_class_has_no_targeted_path():
    x, y = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3, dtype=torch.int64)
    untargeted, targeted = path_accuracy.measure_paths(Threshold(0.9), x, y)
    assert untargeted.all() and targeted.shape == (9, 0)


def test_filters_keep_their_lengths():
    """Filters (3, 4) and (0, 2) have lengths 5 and 2; noise (1, 0) and (3, 4) becomes these."""
    noise, weight = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    found = landscape.normalise_filters(noise, weight)
    torch.testing.assert_close(found, torch.tensor([[5.0, 0.0], [1.2, 1.6]]))


def test_a_loss_is_traced_and_the_weights_restored(monkeypatch):
    """w = (1, 2), direction (2, 0): |w|² at -0.5, 0 and 0.5 is 0 + 4, 1 + 4 and 4 + 4."""
    monkeypatch.setattr(landscape, "SCALES", (-0.5, 0.0, 0.5))
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
    direction = {"weight": torch.tensor([[2.0, 0.0]])}
    losses = landscape.trace_loss(net, direction, lambda n: float(n.weight.square().sum()))
    assert losses == [4.0, 5.0, 8.0]
    assert net.weight.tolist() == [[1.0, 2.0]]
    drawn = landscape.draw_direction(nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3)), rng())
    assert set(drawn) == {"0.weight"}


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_adversarial_loss_by_hand():
    """Logits (0, 0) whatever the image: log 2."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    x, y = torch.rand(5, 1, 1, 1, generator=rng()), torch.tensor([0, 1, 0, 1, 0])
    assert landscape.compute_adversarial_loss(net, x, y) == pytest.approx(np.log(2))


class OneMap(nn.Module):
    """Class k has the mean of channel k of the image itself as its logit."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(2, 2, 1, bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.eye(2).view(2, 2, 1, 1))

    def forward(self, x):
        return self.maps(x).mean((2, 3))


def test_a_heat_map_by_hand():
    """d logit_k / d A_k is the same everywhere, 0 for the other: the map is channel k, scaled."""
    x = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]], [[0.2, 0.2], [0.2, 0.6]]]])
    net = OneMap().eval()
    assert grad_cam.find_target_layer(net, x) is net.maps
    for label, expected in ((0, [[0, 0.5], [1, 0.25]]), (1, [[0, 0], [0, 1]])):
        (found,) = grad_cam.compute_heat_maps(net, x, torch.tensor([label]))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    assert grad_cam.compute_heat_maps(flat, x, torch.tensor([0])) is None


def test_steps_of_an_epoch_are_the_student_s_own_its_generator_s_or_of_the_images():
    def artefact(kind: str, key: str, inputs: dict, facts: dict, **spec) -> Artefact:
        return Artefact(Path(key), Manifest(kind, key, key, spec, inputs, {}, facts, {}))

    def student(reads: dict, **more) -> Artefact:
        recipe = {"epochs": 2, "batch": 8}
        spec = {"model": "r8", "recipe": recipe, "objective": {"derd": {}}, **more}
        return artefact("student", "s", reads, {}, **completed("student", spec))

    warm = completed("generator", {"model": "r8", "recipe": {"epochs": 2}, "steps_per_epoch": 7})
    known = {"generator/g": artefact("generator", "g", {}, {}, **warm)}
    known["dataset/d"] = artefact("dataset", "d", {}, {"counts": {"train": 23}})
    study, generator = Study(known, {}), {"generator": "g"}
    own = student(generator, sampling={"steps_per_epoch": 3})
    assert cosine.count_steps(study, own) == 3
    assert cosine.count_steps(study, student(generator)) == 7
    assert cosine.count_steps(study, student({"dataset": "d"})) == 2
