"""Samples of a bank for the report's figure, with and without a discretizer."""

import numpy as np
import torch

from pipeline.report.bank_samples import find_moved_samples
from pipeline.report.figures import draw_bank_samples


def block():
    """Three samples: one that the attack moved, one that it did not, one the teacher doubts."""
    logits = np.array([[3, 0], [3, 0], [0, 3]], np.float16)
    moved = np.zeros((3, 3, 8, 8), np.uint8)
    moved[0] += 8
    moved[2] += 8
    return {
        "row": np.array([4, 5, 6]), "label": np.zeros(3, np.int16), "accepted": np.ones(3, bool),
        "x_adv": moved, "t_adv": logits,
    }  # fmt: skip


def test_a_bank_without_a_discretizer_shows_its_moved_samples(tmp_path):
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    (found,) = find_moved_samples("pixels", block(), images, None, ["cat", "dog"])
    assert found.reconstruction is None and found.bank == "pixels"
    assert found.caption == "label: cat\nteacher: cat 95 %"
    assert abs(found.stored - found.clean).max() == np.float32(8 / 255)
    draw_bank_samples(tmp_path / "samples.png", [found])
    assert (tmp_path / "samples.png").stat().st_size > 1000
