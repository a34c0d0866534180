"""CMI's loss against its released form, written out by hand: features, contrast, views, sizes."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from pipeline.data_free.generator_losses import cmi
from pipeline.errors import RetortError
from pipeline.models.classifier import initialise_classifier
from tests.data_free.test_generator_losses import all_of, check, moments_gap
from tests.helpers.loss_views import CLASSES, COUNT, STUDENT, TEACHER, images, shown
from tests.helpers.plain import ce, divergence


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
