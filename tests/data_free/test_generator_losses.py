"""Generator losses: the contract of every file, and each loss written out by hand."""

import dataclasses
import inspect
import re

import pytest
import torch
from torch import Tensor, nn

from pipeline.data_free.generator_losses import (
    dafl,
    derd,
    dfad,
    dfard_like,
    dfhl_rs,
    inversion,
    zskt,
)
from pipeline.data_free.teacher_view import show_to_teacher
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.trials import generator_loss
from tests.helpers.loss_views import CLASSES, COUNT, STUDENT, TEACHER, images, shown
from tests.helpers.plain import EXACT, ce, divergence, log_probabilities

NAMES = list_plugin_names("generator_losses")
SOURCE = re.compile(r"\b(?:19|20)\d\d\b|\beqs?\. ?\d|\bSec\. ?\d")

every_loss = pytest.mark.parametrize("name", NAMES)


@every_loss
def test_its_form(name):
    module = load_plugin("generator_losses", name)
    text = f"{inspect.getdoc(module)} {inspect.getdoc(module.Loss)}"
    assert SOURCE.search(text), "cite the paper with its year, or an equation or section"
    assert ("approximation" in text) == name.endswith("_like")
    assert isinstance(module.REVISION, int)
    assert isinstance(module.Loss.rounds, bool)
    assert module.Loss.__dataclass_params__.frozen or issubclass(module.Loss, nn.Module)
    generator_loss.check_needs(name)
    for field in dataclasses.fields(module.Loss):
        assert field.default is not dataclasses.MISSING, f"{field.name} has no default"
        if field.type in ("float", float):
            assert isinstance(field.default, float), f"{field.name}: write it as a float"


@every_loss
@pytest.mark.parametrize("norm", [True, False])
def test_terms_are_one_a_sample_and_reach_the_images_alone(name, norm):
    generator_loss.check_terms_reach_the_images_alone(name, norm)


@every_loss
def test_it_looks_through_whom_it_says_and_never_takes_one_for_the_other(name):
    generator_loss.check_looks_through_whom_it_says(name)


@every_loss
def test_the_steps_generator_is_the_only_chance(name):
    generator_loss.check_chance(name)


@every_loss
def test_what_it_remembers_comes_back_from_its_state(name):
    generator_loss.check_state_round_trip(name)


def moments_gap(x: Tensor) -> Tensor:
    """L_BN of the only BatchNorm, written out."""
    rows = TEACHER.conv(x).transpose(0, 1).flatten(1)
    mean = rows.sum(1) / rows.shape[1]
    var = ((rows - mean[:, None]) ** 2).sum(1) / rows.shape[1]
    norm = TEACHER.norm
    gaps = ((mean - norm.running_mean) ** 2).sum(), ((var - norm.running_var) ** 2).sum()
    return sum(gap**0.5 for gap in gaps)


def imbalance(z: Tensor) -> Tensor:
    """sum_c q_c log q_c of the mean output."""
    q = log_probabilities(z).exp().sum(0) / len(z)
    return (q * q.log()).sum()


def all_of(scalar: Tensor) -> Tensor:
    return scalar.expand(COUNT)


def check(loss, expected: dict[str, Tensor], x: Tensor) -> None:
    """Check the terms' values and their gradients in the images, to 1e-9."""
    terms = loss(shown(loss, x))
    assert terms.keys() == expected.keys()
    for name, wanted in expected.items():
        torch.testing.assert_close(terms[name], wanted, **EXACT)
        ours, plain = (
            torch.autograd.grad(v.mean(), x, retain_graph=True)[0] for v in (terms[name], wanted)
        )
        assert plain.abs().max() > 1e-7
        torch.testing.assert_close(ours, plain, **EXACT)


@pytest.mark.parametrize("labels", ["own", "given"])
def test_derd(labels):
    x = images()
    z, features = TEACHER(x), TEACHER.features(x)
    y = z.argmax(1) if labels == "own" else torch.arange(COUNT) % CLASSES
    expected = {
        "oh": 0.3 * ce(z, y),
        "activation": -0.2 * features.abs().sum(1) / 5,
        "balance": all_of(4 * imbalance(z)),
        "bn": all_of(0.7 * moments_gap(x)),
    }
    check(derd.Loss(oh=0.3, activation=0.2, bn=0.7, balance=4.0, labels=labels), expected, x)


def test_dafl():
    x = images()
    z, features = TEACHER(x), TEACHER.features(x)
    expected = {
        "oh": 0.5 * ce(z, z.argmax(1)),
        "activation": -0.1 * features.abs().sum(1) / 5,
        "balance": all_of(3 * imbalance(z)),
    }
    check(dafl.Loss(oh=0.5, activation=0.1, balance=3.0), expected, x)
    expected |= {"adv": -2 * divergence(z, STUDENT(x))}
    loss = dafl.Loss(oh=0.5, activation=0.1, balance=3.0, adv=2.0)
    z = TEACHER(x)
    check(loss, expected, x)
    assert dafl.Loss().needs() == ("teacher",)


def test_dfad_and_zskt_play_against_the_student():
    x = images()
    gap = (TEACHER(x) - STUDENT(x)).abs().sum(1) / CLASSES
    check(dfad.Loss(adv=0.5), {"adv": -0.5 * gap}, x)
    check(zskt.Loss(adv=0.5), {"adv": -0.5 * divergence(TEACHER(x), STUDENT(x))}, x)


def test_inversion():
    x = images()
    across = ((x[..., 1:] - x[..., :-1]) ** 2).sum((1, 2, 3)) / (3 * 7 * 6)
    down = ((x[:, :, 1:] - x[:, :, :-1]) ** 2).sum((1, 2, 3)) / (3 * 6 * 7)
    expected = {
        "oh": 2 * ce(TEACHER(x), torch.arange(COUNT) % CLASSES),
        "tv": 3 * (across + down),
        "l2": 5 * ((x - 0.5) ** 2).sum((1, 2, 3)) / 147,
        "bn": all_of(7 * moments_gap(x)),
    }
    check(inversion.Loss(oh=2.0, tv=3.0, l2=5.0, bn=7.0), expected, x)


def test_dfhl_rs_smooths_the_clones_own_labels_over_the_other_classes():
    x = images()
    log_p = log_probabilities(STUDENT(x))
    y = torch.arange(COUNT) % CLASSES
    own = log_p[torch.arange(COUNT), y]
    smooth = -0.8 * own - 0.2 * (log_p.sum(1) - own) / (CLASSES - 1)
    expected = {"oh": smooth, "balance": all_of(1.303 * imbalance(STUDENT(x)))}
    check(dfhl_rs.Loss(), expected, x)


def test_dfhl_rs_by_hand():
    """Outputs (4/8, 2/8, 1/8, 1/8), label 1: 0.8 ln 4 + 0.2/3 (ln 2 + 2 ln 8), 3 sum p log10 p."""
    logits = torch.tensor([[4.0, 2.0, 1.0, 1.0]], dtype=torch.float64).log()
    x, y = torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([1])
    rng = torch.Generator()
    batch = show_to_teacher(x, y, TEACHER, lambda _: logits, rng, uses_teacher=False)
    terms = dfhl_rs.Loss()(batch)
    assert terms["oh"].item() == pytest.approx(1.432505, abs=1e-6)
    assert terms["balance"].item() == pytest.approx(3 * -0.526803, abs=2e-4)


@pytest.mark.parametrize(("loss", "weight"), [(derd.Loss(), 5), (dfhl_rs.Loss(), 3)])
def test_weights_of_entropies_in_log10_units_are_converted_to_nats(loss, weight):
    """DAFL's and DFHL-RS's code sum p log10 p; DataFree's, whence our DAFL's 20 is, p ln p."""
    q = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    x = torch.zeros(1, 3, 7, 7, dtype=torch.float64)
    rng, logits = torch.Generator(), q.log()[None]
    batch = show_to_teacher(x, torch.tensor([0]), TEACHER, lambda _: logits, rng)
    found = loss(dataclasses.replace(batch, logits=logits))["balance"].item()
    assert found == pytest.approx(weight * (q * q.log10()).sum().item(), rel=3e-4)
    assert dafl.Loss().balance == 20


def test_dfard_like_weighs_terms_by_their_size():
    x, loss = images(), dfard_like.Loss(decay=0.75)
    sizes = torch.zeros(4, dtype=torch.float64)
    for step, scale in enumerate((1.0, 0.5)):
        x = (images(step) * scale).detach().requires_grad_()
        z = TEACHER(x)
        terms = {
            "oh": ce(z, z.argmax(1)),
            "adv": -divergence(z, STUDENT(x)),
            "balance": all_of(imbalance(z)),
            "bn": all_of(moments_gap(x)),
        }
        new = torch.stack([v.mean().abs() for v in terms.values()]).detach()
        sizes = new if step == 0 else 0.75 * sizes + 0.25 * new
        weights = 4 / sizes / (1 / sizes).sum()
        expected = {k: w * v for (k, v), w in zip(terms.items(), weights, strict=True)}
        check(loss, expected, x)
