"""Corruptions with CIFAR-10-C's strengths: digests of ten images, and strengths that rise."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.attacks import corruptions
from pipeline.core.corruptions import cifar
from pipeline.core.corruptions.cifar_strengths import STRENGTHS
from tests.helpers.points import corrupted

DIGESTS = json.loads(Path(__file__).with_name("cifar_corruptions.json").read_text())
COUNT, SIDE = 10, 32


def make_images() -> np.ndarray:
    """Ten images (10,32,32,3) uint8 with edges, ramps and colours, made without any library."""
    row, column = np.mgrid[:SIDE, :SIDE]
    images = []
    for number in range(COUNT):
        waves = [(row * (number + 1) + column * (c + 2)) % (64 + 16 * c) * 3 for c in range(3)]
        disk = (row - 8 - number) ** 2 + (column - 16) ** 2 < 60
        images.append(np.stack([np.where(disk, 255 - 20 * number, w) for w in waves], axis=2))
    return np.uint8(np.stack(images))


def digest_severities(name: str) -> list[str]:
    """First digits of the sha256 of the ten corrupted images, by severity."""
    return [
        hashlib.sha256(
            np.stack([cifar.corrupt(image, name, s, i) for i, image in enumerate(make_images())])
        ).hexdigest()[:12]
        for s in range(1, 6)
    ]


@pytest.mark.parametrize("name", cifar.CORRUPTIONS)
def test_ten_images_are_corrupted_as_stored(name):
    assert digest_severities(name) == DIGESTS[name]


def test_every_corruption_has_five_strengths_and_changes_images_more_and_more():
    assert STRENGTHS.keys() == cifar.CORRUPTIONS.keys() == set(corruptions.CORRUPTIONS)
    images = make_images()
    for name, strengths in STRENGTHS.items():
        assert len(strengths) == 5
        mild, strong = (
            np.mean([np.abs(cifar.corrupt(x, name, s, 0) - x.astype(float)) for x in images])
            for s in (1, 5)
        )
        assert strong > mild > 0 or name in ("saturate", "elastic_transform")


def test_noise_and_contrast_by_hand():
    grey = np.full((32, 32, 3), 128, np.uint8)
    rng = np.random.default_rng(4)
    noise = np.clip(grey / 255 + rng.normal(size=grey.shape, scale=0.08), 0, 1) * 255
    assert np.array_equal(cifar.corrupt(grey, "gaussian_noise", 3, 4), np.uint8(noise))
    halves = grey.copy()
    halves[:16], halves[16:] = 51, 204  # the mean is 0.5 of white
    found = cifar.corrupt(halves, "contrast", 5, 0)
    assert found[0, 0, 0] == int(255 * (0.5 - 0.3 * 0.15))
    assert found[31, 0, 0] == int(255 * (0.5 + 0.3 * 0.15))


def test_images_of_any_shape_are_corrupted():
    image = np.tile(make_images()[0], (2, 1, 1))[:40]
    for name in cifar.CORRUPTIONS:
        found = cifar.corrupt(image, name, 3, 0)
        assert (found.shape, found.dtype) == (image.shape, np.uint8), name


@pytest.mark.parametrize(("side", "strengths"), [(32, "cifar"), (63, "cifar"), (64, "imagenet")])
def test_the_side_chooses_the_strengths_and_points_name_them(side, strengths):
    assert corruptions.choose_strengths((3, side, side)) == strengths
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * side * side, 2)).eval()
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    (point,) = corruptions.Attack(names=("contrast",))(model, x, torch.tensor([0, 1]), 0)
    assert point == corrupted("contrast", variant=strengths)
    (given,) = corruptions.Attack(names=("contrast",), strengths="imagenet")(
        model, x, torch.tensor([0, 1]), 0
    )
    assert given.variant == "imagenet"
    one, two = (corruptions.corrupt_batch(x, "contrast", 3, 0, s) for s in ("cifar", "imagenet"))
    assert one.std() > 1.5 * two.std()
