"""Attacks: they stay in their balls, agree with other implementations, and leave no trace."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks import autoattack, clean, corruptions, cw_linf, fgsm, pgd
from pipeline.core.attack_protocol import AttackPoint, load_foolbox, predict_classes
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import Linf
from pipeline.errors import RetortError
from pipeline.report.attack_labels import format_attack_at
from pipeline.trials.attack import Watched, check_repeats_and_leaves_no_trace
from pipeline.trials.requirements import make_plain_network as small_net
from pipeline.trials.requirements import make_samples as samples
from tests.helpers.points import pgd as pgd_point

EPS = 8 / 255
NAMES = ("clean", "fgsm", "pgd", "cw_linf", "autoattack", "corruptions", "boundary_risk")
ONE_STEP = (fgsm.Attack, pgd.Attack, cw_linf.Attack)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A small net trained on 8x8 digits, and 200 digits it was not trained on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels)
    net = small_net(size=8, channels=1)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(net(x[200:]), y[200:]).mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    return net, x[:200], y[:200]


def accuracy(predictions: Tensor, y: Tensor) -> float:
    return (predictions == y).float().mean().item()


@pytest.mark.parametrize("attack", ONE_STEP)
def test_images_stay_in_the_ball_and_in_range(attack) -> None:
    net = small_net()
    x, y = samples(net)
    watched = Watched(net).eval()
    attack(eps=EPS)(watched, x, y, 0)
    farthest = max((z - x).abs().max().item() for z in watched.seen)
    assert farthest == pytest.approx(EPS, abs=1e-6)
    assert min(z.min().item() for z in watched.seen) >= 0
    assert max(z.max().item() for z in watched.seen) <= 1


@pytest.mark.parametrize("attack", ONE_STEP)
def test_a_curve_has_a_point_for_each_radius_and_starts_clean(attack) -> None:
    net = small_net()
    x, y = samples(net)
    found = attack(eps=(0.0, 2 / 255, EPS))(net, x, y, 0)
    first, *_, last = found
    assert list(found) == [replace(first, eps=eps) for eps in (0.0, 2 / 255, EPS)]
    assert torch.equal(found[first], clean.Attack()(net, x, y, 0)[AttackPoint("clean")])
    alone = attack(eps=EPS)(net, x, y, 0)
    assert torch.equal(found[last], alone[last])
    assert accuracy(found[last], y) < accuracy(found[first], y)


def foolbox_images(attack, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return attack(load_foolbox().PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=EPS)[0]


def test_our_ascent_is_foolboxs_pgd() -> None:
    net = small_net()
    x, y = samples(net)
    net, x = net.double(), x.double()
    pgd_10 = load_foolbox().attacks.LinfPGD(abs_stepsize=0.01, steps=10, random_start=False)
    with freeze_modules(net):
        theirs = foolbox_images(pgd_10, net, x, y)
        ours = run_pgd(
            x,
            lambda z: cross_entropy(net(z), y),
            Linf(EPS),
            steps=10,
            step_size=0.01,
            start="clean",
        )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_one_step_of_our_ascent_is_foolboxs_fgsm() -> None:
    net = small_net()
    x, y = samples(net)
    with freeze_modules(net):
        theirs = foolbox_images(load_foolbox().attacks.FGSM(), net, x, y)
        ours = run_pgd(
            x, lambda z: cross_entropy(net(z), y), Linf(EPS), steps=1, step_size=EPS, start="clean"
        )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert torch.equal(
        fgsm.Attack(EPS)(net, x, y, 0)[AttackPoint("fgsm", EPS)], predict_classes(net, ours)
    )


def test_pgd_agrees_with_art_on_digits(digits) -> None:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    net, x, y = digits
    art = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu"
    )
    art_pgd = ProjectedGradientDescent(
        art, eps=0.1, eps_step=0.02, max_iter=20, num_random_init=0, verbose=False
    )
    theirs = torch.from_numpy(art_pgd.generate(x.numpy(), y.numpy()))
    net.eval()
    found = pgd.Attack(eps=0.1, step=0.02)(net, x, y, 0)[pgd_point(20, 0.1, 0.02)]
    ours = run_pgd(
        x, lambda z: cross_entropy(net(z), y), Linf(0.1), steps=20, step_size=0.02, start="clean"
    )
    broken_by_art = (predict_classes(net, theirs) != y).sum().item()
    assert 20 < broken_by_art < 180
    assert (predict_classes(net, ours) != y).sum().item() == pytest.approx(broken_by_art, abs=1)
    assert (found != y).sum().item() == pytest.approx(broken_by_art, abs=2)


def test_restarts_only_add_broken_samples(digits) -> None:
    net, x, y = digits
    point = pgd_point(2, 0.08, 0.05)
    once = pgd.Attack(0.08, steps=2, step=0.05)(net, x, y, 3)[point]
    often = pgd.Attack(0.08, steps=2, step=0.05, restarts=5)(net, x, y, 3)
    often = often[replace(point, restarts=5)]
    assert torch.all((often != y) | (once == y))
    assert (often != y).sum() > (once != y).sum()


def test_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0], [0.5, 4.0, 4.5]], requires_grad=True)
    value = cw_linf.compute_margin(logits, torch.tensor([0, 1]))
    assert value.tolist() == [-2.0, 0.5]
    value.sum().backward()
    assert logits.grad.tolist() == [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]


def test_cw_ascends_the_margin() -> None:
    net = small_net(classes=4, size=8)
    x, y = samples(net, size=8)
    library = load_foolbox().attacks.LinfPGD(abs_stepsize=0.01, steps=10, random_start=False)
    library.get_loss_fn = cw_linf.make_margin_loss
    with freeze_modules(net):
        theirs = foolbox_images(library, net, x, y)
        ours = run_pgd(
            x,
            lambda z: cw_linf.compute_margin(net(z), y),
            Linf(EPS),
            steps=10,
            step_size=0.01,
            start="clean",
        )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_autoattack_keeps_the_librarys_predictions_and_is_no_weaker_than_pgd(monkeypatch) -> None:
    import pyautoattack

    results = []

    class Recorded(pyautoattack.AutoAttack):
        def run_standard_evaluation(self, x: Tensor, y: Tensor, *, batch_size: int):
            assert self.apgd_targeted.n_target_classes == self.fab.n_target_classes == 3
            assert self.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
            assert self.seed == 7
            results.append(super().run_standard_evaluation(x, y, batch_size=batch_size))
            return results[0]

    monkeypatch.setattr(pyautoattack, "AutoAttack", Recorded)
    net = small_net(classes=4, size=8)
    x, y = samples(net, 6, size=8)
    x = x.contiguous(memory_format=torch.channels_last)
    found = autoattack.Attack(EPS)(net, x, y, 7)[AttackPoint("autoattack", EPS)]
    images, predictions = results[0]
    assert torch.equal(found, predictions)
    assert torch.equal(found, predict_classes(net, images))
    assert (images - x).abs().max() <= EPS + 1e-6
    assert found[0] == predict_classes(net, x)[0]
    by_pgd = pgd.Attack(EPS)(net, x, y, 7)[pgd_point(20, EPS)]
    assert 0 < accuracy(found, y) <= accuracy(by_pgd, y) < accuracy(predict_classes(net, x), y)


@pytest.mark.parametrize("classes", [2, 3])
def test_autoattack_on_few_classes_says_which_attacks_it_ran(classes, monkeypatch) -> None:
    import pyautoattack

    ran = []

    class Recorded(pyautoattack.AutoAttack):
        def run_standard_evaluation(self, x: Tensor, y: Tensor, *, batch_size: int):
            ran.extend(self.attacks_to_run)
            return super().run_standard_evaluation(x, y, batch_size=batch_size)

    monkeypatch.setattr(pyautoattack, "AutoAttack", Recorded)
    net = small_net(classes=classes, size=8)
    x, y = samples(net, 6, size=8)
    (point,) = found = autoattack.Attack(EPS)(net, x, y, 7)
    assert ran == ["apgd-ce", "fab", "square"]
    assert point == AttackPoint("autoattack", EPS, variant="APGD-CE, FAB, Square")
    assert format_attack_at(point) == "AutoAttack (APGD-CE, FAB, Square) at 8/255"
    by_pgd = pgd.Attack(EPS)(net, x, y, 7)[pgd_point(20, EPS)]
    assert accuracy(found[point], y) <= accuracy(by_pgd, y) < accuracy(predict_classes(net, x), y)


@pytest.mark.parametrize("name", corruptions.Attack().names + corruptions.SEEDED_BY_ARGUMENT[:1])
def test_corruptions_depend_on_seed_and_image_alone(name: str) -> None:
    x, _ = samples(small_net(), 6)
    before = np.random.get_state()[1].copy()
    whole = corruptions.corrupt_batch(x, name, 3, 5)
    parts = [corruptions.corrupt_batch(part, name, 3, 5) for part in x.split(4)]
    assert torch.equal(torch.cat(parts), whole)
    other = corruptions.corrupt_batch(x, name, 3, 6)
    fixed = ("defocus_blur", "contrast", "jpeg_compression")
    assert torch.equal(other, whole) == (name in fixed)
    assert whole.shape == x.shape
    assert 0 <= whole.min() < whole.max() <= 1
    assert np.array_equal(np.random.get_state()[1], before)


def test_corruptions_know_the_librarys_names_and_limits() -> None:
    from imagecorruptions import get_corruption_names

    assert list(corruptions.CORRUPTIONS) == get_corruption_names("all")
    with pytest.raises(RetortError, match="3x8x8"):
        corruptions.corrupt_batch(torch.rand(1, 3, 8, 8), "fog", 3, 0)
    grey = corruptions.corrupt_batch(torch.rand(1, 1, 32, 32), "fog", 3, 0)
    assert grey.shape == (1, 1, 32, 32)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "autoattack"])
def test_attacks_repeat_and_leave_no_trace(name: str) -> None:
    check_repeats_and_leaves_no_trace(name)


@pytest.mark.parametrize("name", NAMES)
def test_models_must_be_in_eval_mode_and_float32(name: str) -> None:
    attack = importlib.import_module(f"pipeline.attacks.{name}").Attack()
    x, y = samples(small_net())
    with pytest.raises(RetortError, match="training mode"):
        attack(small_net().train(), x, y, 0)
    with pytest.raises(RetortError, match="float32"):
        attack(small_net().half(), x, y, 0)
