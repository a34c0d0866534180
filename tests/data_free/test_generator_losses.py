"""Generator losses: the contract of every file, and each loss written out by hand."""

import dataclasses
import inspect
import re

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop

from pipeline.data_free.generator_losses import (
    cmi,
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
from pipeline.errors import RetortError
from pipeline.models.classifier import initialise_classifier
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


def plain_contrast(local: Tensor, whole: Tensor, t: float) -> Tensor:
    """InfoNCE (N,) in a loop: each projected local view against all global ones, held fixed."""
    unit = [z / (z**2).sum(1, keepdim=True).sqrt() for z in (local, whole.detach())]
    losses = []
    for i in range(len(local)):
        scores = torch.stack([unit[0][i] @ key / t for key in unit[1]])
        losses.append(scores.exp().sum().log() - scores[i])
    return torch.stack(losses)


def layer_means(x: Tensor) -> Tensor:
    """The mean over each image of the input of the teacher's only BatchNorm."""
    values = TEACHER.conv(x).flatten(2)
    return values.sum(2) / values.shape[2]


def test_cmi():
    options = {"bn": 0.7, "oh": 0.6, "adv": 0.5, "contrast": 0.4, "temperature": 0.3}
    loss, x = cmi.Loss(**options, memory=8, negatives=5, width=7), images()
    past = []
    for seed in (5, 6):
        batch = shown(loss, images(seed))
        loss(batch)
        loss.remember(batch)
        part = cmi.zoom_randomly(images(seed), torch.Generator().manual_seed(3))
        past.append(torch.cat([layer_means(part), layer_means(images(seed))], 1).detach())
    torch.testing.assert_close(loss.past, torch.cat(past)[-8:])
    z, other = TEACHER(x), STUDENT(x)
    agree = (z.argmax(1) == other.argmax(1)).double()
    assert 0 < agree.sum() < COUNT
    rng = torch.Generator().manual_seed(3)
    part = cmi.zoom_randomly(x, rng)
    kept = torch.cat(past)[-8:][torch.randperm(8, generator=rng)[:5]]
    local = loss.head(torch.cat([layer_means(part), kept[:, :5]]))
    whole = loss.head(torch.cat([layer_means(x), kept[:, 5:]]))
    assert whole.shape == (COUNT + 5, 7)
    rows = plain_contrast(local, whole, 0.3)
    expected = {
        "oh": 0.6 * ce(z, torch.arange(COUNT) % CLASSES),
        "adv": -0.5 * agree * divergence(z, other),
        "contrast": 0.4 * (rows[:COUNT] + rows[COUNT:].sum() / 5),
        "bn": all_of(0.7 * moments_gap(x)),
    }
    check(loss, expected, x)


def test_cmi_has_the_released_sizes():
    loss = cmi.Loss()
    assert (loss.memory, loss.negatives, loss.width) == (40960, 4096, 256)
    loss.prepare(shown(loss, images()))
    assert [tuple(p.shape) for p in loss.head.parameters()] == [(5, 5), (5,), (256, 5), (256,)]
    assert all(p.abs().max() <= 5**-0.5 for p in loss.head.parameters())


def test_cmi_looks_at_stages_where_it_is_asked_to():
    network = initialise_classifier("resnet18-w4", 3, (0.5,) * 3, (0.25,) * 3, 0).eval()
    loss, seen = cmi.Loss(layers="stages"), []
    x = torch.rand(2, 3, 8, 8)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        stage = getattr(network.network, name)
        stage.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((2, 3))))
    with loss.watch(network) as found:
        network(x)
    assert [means.shape for means in found] == [(2, 4), (2, 4), (2, 8), (2, 16)]
    assert all(torch.equal(a, b) for a, b in zip(found, seen, strict=True))
    with pytest.raises(RetortError, match="has no stages; set it to 'norms'"):
        loss.find_layers(TEACHER)


def test_boxes_are_those_of_random_resized_crop():
    width, height = cmi.draw_boxes(20000, torch.Generator().manual_seed(0)).double()
    area, ratio = width * height, width / height
    assert area.min() >= 0.25 - 1e-6
    assert ratio.min() >= 0.75 - 1e-6
    assert ratio.max() <= 4 / 3 + 1e-6
    assert max(width.max(), height.max()) <= 1
    big = torch.zeros(1, 1000, 1000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [RandomResizedCrop.get_params(big, (0.25, 1), (3 / 4, 4 / 3)) for _ in range(3000)]
    sides = torch.tensor(boxes, dtype=torch.float64)[:, 2:] / 1000
    for found, theirs in (
        (area, sides.prod(1)),
        (ratio.log().abs(), sides.log().diff(dim=1).abs()),
    ):
        for q in (0.25, 0.5, 0.75):
            assert found.quantile(q).item() == pytest.approx(theirs.quantile(q).item(), abs=0.02)


def test_zooming_shows_a_part_of_the_image():
    ramp = torch.linspace(0, 1, 9).expand(4, 1, 9, 9).contiguous()
    part = cmi.zoom_randomly(ramp, torch.Generator().manual_seed(0))
    assert part.shape == ramp.shape
    spans = (part[..., -1] - part[..., 0]).abs().flatten(1).mean(1)
    assert (spans < 0.95).any()
    assert (spans > 0.35).all()
