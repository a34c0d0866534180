"""Stored views: draws by counter, and every operation against values by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.banks.stored_views import ImageSet, StoredViews, beta_quantile, blend_images
from pipeline.core.seeding import derive_seed, draw_uniforms
from tests.helpers.specs import bank_spec

ROWS, SIDE = 12, 10
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
NEUTRAL = {"augment": "none", "rand_augment": 0, "mixup": 0.0, "cutmix": 0.0}


def images(count: int = ROWS) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)


def views(count: int = 3, **options: object) -> StoredViews:
    return StoredViews.from_spec(bank_spec(seed=5, views={"count": count, **NEUTRAL, **options}))


def side(starts: tuple[int, ...] = (0, 5, ROWS)) -> ImageSet:
    return ImageSet(images(), 100 + np.arange(ROWS), np.array(starts))


def scrambled(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draw(seed: int, row: int, view: int, number: int) -> float:
    """One draw, computed with Python's integers."""
    key = scrambled((seed + GOLDEN) & MASK) ^ row
    key = scrambled((key + GOLDEN) & MASK) ^ view
    key = scrambled((key + GOLDEN) & MASK)
    return (scrambled((key + (number + 1) * GOLDEN) & MASK) >> 11) / 2**53


def test_splitmix_is_splitmix():
    """The published generator's first output for seed 0 is e220a8397b1dcdaf."""
    assert scrambled(GOLDEN) == 0xE220A8397B1DCDAF


@given(seed=st.integers(0, 2**63 - 1), row=st.integers(0, 10**9), view=st.integers(0, 99))
def test_draws_are_a_function_of_seed_row_and_view(seed, row, view):
    found = draw_uniforms(seed, np.array([row, row + 1]), view, 4)
    for i in range(2):
        assert found[i].tolist() == [draw(seed, row + i, view, k) for k in range(4)]


def test_draws_are_uniform_and_unrelated():
    found = draw_uniforms(1, np.arange(20000), 0, 2)
    assert np.abs(np.quantile(found, [0.1, 0.5, 0.9], axis=0).T - [0.1, 0.5, 0.9]).max() < 0.015
    others = [found[:, 1], draw_uniforms(1, np.arange(20000), 1, 1)[:, 0], np.roll(found[:, 0], 1)]
    assert max(abs(np.corrcoef(found[:, 0], other)[0, 1]) for other in others) < 0.03


def test_a_view_does_not_depend_on_its_batch():
    made = views(augment="crop_flip", rand_augment=9, mixup=0.8, cutmix=1.0)
    together = made.make_view(side(), torch.arange(ROWS), 1)
    for i in range(ROWS):
        alone = made.make_view(side(), torch.tensor([i]), 1)
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(together[0], made.make_view(side(), torch.arange(ROWS), 2)[0])


def test_flip_and_crop_by_hand():
    made, seed = views(augment="crop_flip"), derive_seed(5, "views")
    found, partners, shares = made.make_view(side(), torch.arange(ROWS), 2)
    assert torch.equal(partners, torch.arange(ROWS))
    assert torch.equal(shares, torch.ones(ROWS, dtype=torch.float64))
    for i, image in enumerate(images()):
        flip, down, right = (draw(seed, 100 + i, 2, k) for k in range(3))
        image = image.flip(2) if flip < 0.5 else image
        padded = torch.zeros(3, SIDE + 8, SIDE + 8, dtype=torch.uint8)
        padded[:, 4:-4, 4:-4] = image
        top, left = int(down * 9), int(right * 9)
        assert torch.equal(found[i], padded[:, top : top + SIDE, left : left + SIDE])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixtures_by_hand(kind):
    made, seed = views(**{kind: 1.0}), derive_seed(5, "views")
    found, partners, shares = made.make_view(side(), torch.arange(ROWS), 0)
    for i, image in enumerate(images().int()):
        first, stop = (0, 5) if i < 5 else (5, ROWS)
        partner = first + int(draw(seed, 100 + i, 0, 4) * (stop - first))
        assert partners[i] == partner
        lam = draw(seed, 100 + i, 0, 5)  # Beta(1, 1) is uniform
        weight = torch.full((SIDE, SIDE), round(256 * lam))
        if kind == "cutmix":
            half = int((1 - lam) ** 0.5 * SIDE) // 2
            top, left = (int(draw(seed, 100 + i, 0, k) * SIDE) for k in (7, 8))
            weight = torch.full((SIDE, SIDE), 256)
            weight[max(top - half, 0) : top + half, max(left - half, 0) : left + half] = 0
        mixed = (weight * image + (256 - weight) * images()[partner].int()) / 256
        assert (found[i] - mixed).abs().max() <= 0.5
        assert shares[i] == pytest.approx(weight.double().mean().item() / 256)


def test_with_both_each_view_takes_one():
    made = views(mixup=1.0, cutmix=1.0)
    found, partners, _ = made.make_view(side((0, ROWS)), torch.arange(ROWS), 0)
    pixels = images()
    cut = [
        bool(((found[i] == pixels[i]) | (found[i] == pixels[partners[i]])).all())
        for i in range(ROWS)
        if partners[i] != i
    ]
    assert 0 < sum(cut) < len(cut)


def test_quantiles_and_rounding():
    assert beta_quantile(0.0, np.array([0.3])).tolist() == [1.0]
    found = beta_quantile(0.8, np.array([0.2, 0.8]))
    assert found.sum() == pytest.approx(1.0)
    assert (np.diff(beta_quantile(0.8, np.linspace(0, 1, 9))) > 0).all()
    one, other = torch.tensor([[[[255, 3]]]]).byte(), torch.tensor([[[[0, 4]]]]).byte()
    weights = torch.full((1, 1, 2), 128, dtype=torch.int32)
    assert blend_images(one, other, weights).flatten().tolist() == [128, 4]
