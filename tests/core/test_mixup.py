"""Soft labels and mixed batches."""

import numpy as np
import pytest
import torch

from pipeline.core.losses import cross_entropy
from pipeline.core.mixup import MixSettings, mix, smooth_labels
from pipeline.core.seeding import make_generator


def batch(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = make_generator("mixing", size)
    return torch.rand(size, 3, 8, 8, generator=rng), torch.arange(size) % 4


def test_nothing_to_mix_gives_the_very_tensors():
    x, y = batch()
    assert mix(x, y, MixSettings(classes=4), make_generator(0)) == (x, y)


def test_smoothing_by_hand():
    y = smooth_labels(torch.tensor([2]), 4, 0.2)
    torch.testing.assert_close(y, torch.tensor([[0.05, 0.05, 0.85, 0.05]]))


def test_cross_entropy_of_a_smoothed_label_is_torchs():
    logits, y = torch.randn(6, 4, generator=make_generator(1)), torch.arange(6) % 4
    ours = cross_entropy(logits, smooth_labels(y, 4, 0.1))
    theirs = torch.nn.functional.cross_entropy(logits, y, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [7, 8])
def test_mixup_blends_images_and_labels_by_the_same_share(size):
    x, y = batch(size)
    mixed, soft = mix(x, y, MixSettings(mixup=1.0, classes=4), make_generator(3))
    even = size - size % 2
    share = soft[0, y[0]].item()
    assert 0 < share < 1
    flipped = x[:even].flip(0)
    torch.testing.assert_close(mixed[:even], share * x[:even] + (1 - share) * flipped)
    torch.testing.assert_close(soft.sum(1), torch.ones(size))
    torch.testing.assert_close(mixed[even:], x[even:])


def test_cutmix_pastes_a_box_as_large_as_the_labels_say():
    x, y = batch()
    mixed, soft = mix(x, y, MixSettings(cutmix=1.0, classes=4), make_generator(5))
    pasted = (mixed != x).any(1).flatten(1).float().mean(1)
    torch.testing.assert_close(soft[torch.arange(8), y], 1 - pasted)


def test_draws_belong_to_the_step_and_leave_numpy_alone():
    x, y = batch()
    before = np.random.get_state()[1].tolist()
    how = MixSettings(mixup=0.8, cutmix=1.0, classes=4)
    first, again = (mix(x, y, how, make_generator(9)) for _ in range(2))
    other = mix(x, y, how, make_generator(10))
    assert np.random.get_state()[1].tolist() == before
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
