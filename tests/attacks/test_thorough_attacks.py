"""APGD with other losses, MultiTargeted, and verdicts that do not depend on how images are cut."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks import apgd, autoattack, clean, corruptions, cw_linf, fgsm, multitargeted, pgd
from pipeline.attacks import square as square_attack
from pipeline.core.attack_protocol import AttackPoint, predict_classes
from tests.attacks.test_every_attack import EPS, accuracy, samples, small_net
from tests.helpers.points import pgd as pgd_point


class Linear(nn.Module):
    """Two classes split by the sum of the pixels: an image breaks if it lies within 192 eps."""

    def forward(self, x: Tensor) -> Tensor:
        total = (x - 0.5).flatten(1).sum(1)
        return torch.stack([-total, total], 1)


def linear_samples(count: int = 7) -> tuple[Tensor, Tensor]:
    """Images of 3x8x8 at known distances from the border, and their labels."""
    distances = torch.tensor([0.5, 0.9, 1.1, 2.0, 0.1, 1.5, 0.7][:count]) * EPS
    return (0.5 + distances)[:, None, None, None].expand(-1, 3, 8, 8).clone(), torch.ones(
        count, dtype=torch.long
    )


EXACT = {  # attacks that find the best image of a linear model, whatever their start
    "fgsm": fgsm.Attack(),
    "pgd": pgd.Attack(),
    "cw_linf": cw_linf.Attack(),
    "apgd": apgd.Attack(steps=20),
    "mse": apgd.Attack(loss="mse", steps=20),
    "multitargeted": multitargeted.Attack(steps=20),
    "autoattack": autoattack.Attack(),
    "clean": clean.Attack(),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_chunks_of_any_size_give_the_same_verdicts(name, size):
    x, y = linear_samples()
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        (found,) = EXACT[name](Linear().eval(), x[rows], y[rows], start).values()
        parts.append(found == y[rows])
    expected = [False, False, True, True, False, True, False]
    assert torch.cat(parts).tolist() == ([True] * 7 if name == "clean" else expected)


@pytest.mark.parametrize("name", sorted({*EXACT} - {"clean"}))
def test_a_tiny_radius_with_one_image_left(name):
    """Three images are wrong without attack, and only the last is near the border."""
    x, y = linear_samples()
    y[:3] = 0
    step = {"step": 1e-6} if hasattr(EXACT[name], "step") else {}
    attack = replace(EXACT[name], eps=1e-6, **step)
    (found,) = attack(Linear().eval(), x[:4], y[:4], 0).values()
    assert found.tolist() == [1, 1, 1, 1]
    x[3] = 0.5 + 5e-7
    (found,) = attack(Linear().eval(), x[:4], y[:4], 0).values()
    assert found.tolist() == [1, 1, 1, 0]


def test_corruptions_and_square_do_not_depend_on_the_chunk_s_size():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)).eval()
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    attack, y = corruptions.Attack(names=("fog", "glass_blur")), torch.zeros(5, dtype=torch.long)
    whole = attack(model, x, y, 0)
    for point, found in whole.items():
        parts = [attack(model, x[i : i + 2], y[i : i + 2], 0)[point] for i in (0, 2, 4)]
        assert torch.equal(torch.cat(parts), found)
    x, y = linear_samples(1)
    (alone,) = square_attack.Attack(queries=50)(Linear().eval(), x, y, 0).values()
    assert alone.shape == (1,)


def test_the_squared_error_by_hand():
    """Softmax is (3/4, 1/4): both classes are off by 1/4, or both by 3/4."""
    logits = torch.tensor([3.0, 1.0]).log().expand(2, 2)
    found = apgd.compute_squared_error(logits, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([1 / 16, 9 / 16])


@pytest.mark.parametrize("loss", ["ce", "dlr", "mse"])
def test_apgd_is_as_strong_as_pgd_and_names_its_loss(loss):
    net = small_net(classes=4, size=8)
    x, y = samples(net, 12, size=8)
    (point,) = found = apgd.Attack(EPS, loss=loss, steps=50)(net, x, y, 3)
    assert point == AttackPoint("apgd", EPS, 50, restarts=1, variant=loss)
    by_pgd = pgd.Attack(EPS)(net, x, y, 3)[pgd_point(20, EPS)]
    clean_accuracy = accuracy(predict_classes(net, x), y)
    assert accuracy(found[point], y) <= accuracy(by_pgd, y) + 0.1 < clean_accuracy + 0.1
    assert "needs 3 classes" in apgd.Attack(loss="dlr").explain_misfit((3, 8, 8), 2)
    assert not apgd.Attack(loss="dlr").explain_misfit((3, 8, 8), 3)


def test_multitargeted_is_no_weaker_than_pgd():
    net = small_net(classes=4, size=8)
    x, y = samples(net, 12, size=8)
    (found,) = multitargeted.Attack(EPS)(net, x, y, 3).values()
    by_pgd = pgd.Attack(EPS, steps=50)(net, x, y, 3)[pgd_point(50, EPS)]
    assert accuracy(found, y) <= accuracy(by_pgd, y) < accuracy(predict_classes(net, x), y)
    (first,) = multitargeted.Attack(EPS, targets=1)(net, x, y, 3).values()
    assert accuracy(first, y) >= accuracy(found, y)
