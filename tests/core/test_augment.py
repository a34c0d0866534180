"""Augmentation: every output is a window of the padded, perhaps mirrored, input."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.core.augment import PADDING, augment, crop, draw_crop_box, erase, flip, resized_crop

SIDE = 2 * PADDING + 1


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, height: int = 6, width: int = 7) -> Tensor:
    """Images without two equal pixels, so that a window is known by its content."""
    return (torch.arange(n * 2 * height * width) + 1.0).view(n, 2, height, width)


def windows(x: Tensor) -> Tensor:
    """All crops (B,9,9,C,H,W) of the zero-padded images, by brute force."""
    h, w = x.shape[2:]
    padded = F.pad(x, (PADDING,) * 4)
    rows = [
        torch.stack([padded[:, :, i : i + h, j : j + w] for j in range(SIDE)], 1)
        for i in range(SIDE)
    ]
    return torch.stack(rows, 1)


def places(cut: Tensor, x: Tensor) -> list[tuple[int, int]]:
    """The position at which each crop was cut."""
    same = (windows(x) == cut[:, None, None]).flatten(3).all(3)
    found = same.nonzero()
    assert found[:, 0].tolist() == list(range(len(x)))
    return [tuple(place) for place in found[:, 1:].tolist()]


@given(seed=st.integers(0, 2**31))
def test_a_crop_is_a_window(seed):
    x = images()
    places(crop(x, rng(seed)), x)


@given(seed=st.integers(0, 2**31))
def test_a_flip_mirrors_or_leaves(seed):
    x = images()
    for before, after in zip(x, flip(x, rng(seed)), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))


@given(seed=st.integers(0, 2**31))
def test_crop_flip_is_a_window_of_an_image_or_its_mirror(seed):
    x = images()
    out = augment(x, "crop_flip", rng(seed))
    for i, after in enumerate(out):
        both = torch.stack([x[i], x[i].flip(2)])
        same = (windows(both) == after).flatten(3).all(3)
        assert same.sum() == 1


def test_every_window_and_both_sides_come_up_evenly():
    counts = torch.zeros(SIDE, SIDE)
    for row, column in places(crop(images(900, 5, 5), rng()), images(900, 5, 5)):
        counts[row, column] += 1
    assert (counts > 0).all()
    assert counts.max() < 30
    wide = images(4000, 1, 2)
    share = (flip(wide, rng()) != wide).flatten(1).any(1).float().mean()
    assert share == pytest.approx(0.5, abs=0.03)


def test_none_is_the_same_tensor_and_draws_nothing():
    x, generator = images(), rng()
    before = generator.get_state()
    assert augment(x, "none", generator) is x
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", ["flip", "crop_flip"])
def test_the_generator_decides_and_the_input_stays(kind):
    x = images()
    kept = x.clone()
    assert torch.equal(augment(x, kind, rng(3)), augment(x, kind, rng(3)))
    assert not torch.equal(augment(x, kind, rng(3)), augment(x, kind, rng(4)))
    assert torch.equal(x, kept)


def test_flip_alone_is_the_flip():
    x = images()
    assert torch.equal(augment(x, "flip", rng(5)), flip(x, rng(5)))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (3, 200)])
def test_a_crop_box_is_a_random_part_of_imagenet_s_kind(width, height):
    rng = torch.Generator().manual_seed(0)
    boxes = [draw_crop_box(width, height, rng) for _ in range(400)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
    if width > 3:
        shares = [(r - left) * (b - t) / (width * height) for left, t, r, b in boxes]
        ratios = [(r - left) / (b - t) for left, t, r, b in boxes]
        assert 0.07 < min(shares) < 0.12 and 0.85 < max(shares) <= 1
        assert 0.74 < min(ratios) < 0.78 and 1.28 < max(ratios) < 1.35
        assert len({box[:2] for box in boxes}) > 300
    else:
        assert set(boxes) == {(0, 98, 3, 102)}


def test_a_resized_crop_of_a_flat_image_is_flat_and_its_draws_are_the_generator_s():
    x = torch.full((2, 3, 8, 8), 0.25)
    rng = torch.Generator().manual_seed(1)
    torch.testing.assert_close(augment(x, "resized_crop", rng), x)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    one, two = (resized_crop(ramp, torch.Generator().manual_seed(s)) for s in (2, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])


def test_erasing_leaves_one_box_of_noise_in_the_share_of_images_it_is_asked_for():
    x = torch.full((400, 3, 16, 16), 2.0)  # outside [0,1], so that noise is recognised
    found = erase(x, 0.25, torch.Generator().manual_seed(0))
    changed = (found != x).all(1)
    assert torch.equal(changed, (found != x).any(1))
    hit = changed.flatten(1).any(1)
    assert 0.19 < hit.float().mean() < 0.31
    for box in changed[hit]:
        rows, columns = box.any(1), box.any(0)
        assert box.sum() == rows.sum() * columns.sum()  # a full rectangle
        assert 0.01 < box.float().mean() < 0.45
    assert found[changed.unsqueeze(1).expand_as(found)].max() <= 1
    assert torch.equal(erase(x, 0.0, torch.Generator().manual_seed(0)), x)
