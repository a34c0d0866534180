"""Batches and roles: where targets come from, and which needs of an objective are unmet."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import (
    NEED_DESCRIPTIONS,
    Batch,
    Roles,
    describe_missing_needs,
    get_adversarial_teacher_logits,
    get_clean_teacher_logits,
)


class Counting(nn.Module):
    """A network that computes logits (B,2) from an image's mean and counts its forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1, 2))
        self.forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        return x.flatten(1).mean(1, keepdim=True) * self.slope


def batch(**stored: Tensor) -> Batch:
    """A batch of three images with every pixel at one half."""
    x = torch.full((3, 1, 2, 2), 0.5)
    return Batch(x, None, torch.arange(3), stored, 0.0, 0, torch.Generator())


def test_a_batch_hands_out_its_labels_or_says_that_it_has_none():
    y = torch.tensor([2, 0, 1])
    assert replace(batch(), y=y).labels is y
    with pytest.raises(ValueError, match="no labels"):
        _ = batch().labels


def test_stored_targets_spare_the_teacher():
    kept, teacher = torch.ones(3, 2), Counting()
    roles = Roles(nn.Identity(), {"robust": teacher})
    assert get_clean_teacher_logits(roles, batch(t_clean=kept)) is kept
    assert (
        get_adversarial_teacher_logits(roles, batch(x_adv=torch.zeros(3, 1, 2, 2), t_adv=kept))
        is kept
    )
    assert teacher.forwards == 0


def test_live_targets_are_one_forward_without_gradient():
    teacher = Counting()
    roles = Roles(nn.Identity(), {"robust": teacher})
    clean = get_clean_teacher_logits(roles, batch())
    adversarial = get_adversarial_teacher_logits(roles, batch(x_adv=torch.full((3, 1, 2, 2), 0.25)))
    torch.testing.assert_close(clean, torch.full((3, 2), 0.5))
    torch.testing.assert_close(adversarial, torch.full((3, 2), 0.25))
    assert not clean.requires_grad
    assert not adversarial.requires_grad
    assert teacher.forwards == 2


def test_the_teacher_is_the_only_one():
    one, two = Counting(), Counting()
    assert Roles(nn.Identity(), {"any": one}).teacher is one
    for teachers in ({}, {"natural": one, "robust": two}):
        with pytest.raises(ValueError, match="unpack"):
            _ = Roles(nn.Identity(), teachers).teacher


@pytest.mark.parametrize(
    ("needs", "roles", "given", "lacking"),
    [
        ((), (), (), ""),
        (("label",), (), ("label",), ""),
        (("label",), (), (), NEED_DESCRIPTIONS["label"]),
        (("teacher",), ("robust",), (), ""),
        (("teacher",), (), (), NEED_DESCRIPTIONS["teacher"]),
        (("teacher",), ("natural", "robust"), (), NEED_DESCRIPTIONS["teacher"]),
        (("t_clean",), ("robust",), (), ""),
        (("t_clean",), (), ("t_clean",), ""),
        (("t_clean",), ("natural", "robust"), (), NEED_DESCRIPTIONS["t_clean"]),
        (("t_adv",), ("robust",), (), NEED_DESCRIPTIONS["t_adv"]),
        (("t_adv",), ("robust",), ("x_adv",), ""),
        (("x_adv",), ("robust",), (), NEED_DESCRIPTIONS["x_adv"]),
        (("natural", "robust"), ("robust", "natural"), (), ""),
        (("natural", "robust"), ("robust",), (), NEED_DESCRIPTIONS["natural"]),
        (("generated",), (), ("generated",), ""),
        (("label", "tokens"), (), (), f"{NEED_DESCRIPTIONS['label']}, 'tokens'"),
    ],
)
def test_what_lacks_is_said_in_words(needs, roles, given, lacking):
    assert describe_missing_needs(needs, roles, given) == lacking
