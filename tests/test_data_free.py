"""From a generator's spec to its source: sizes, colours, and what a student may change."""

import pytest
import torch

from pipeline.data_free import make_source
from pipeline.recipe import Recipe

SPEC = {
    "seed": 0,
    "latent": 8,
    "channels": 8,
    "image": 16,
    "drawn": 0,
    "steps_per_epoch": 3,
    "replayed": 0,
    "pool": 0,
    "lr_generator": 1e-3,
    "weights": {},
}
RECIPE = Recipe(epochs=2, batch=4, augment="none")


def about(colours: int) -> dict:
    """What a student's file says."""
    return {"classes": ["a", "b", "c"], "mean": [0.5] * colours, "std": [0.25] * colours}


@pytest.mark.parametrize(("colours", "side"), [(3, 32), (1, 28), (1, 16)])
def test_images_have_the_teachers_colours_and_side(colours, side):
    source = make_source({**SPEC, "image": side}, about(colours), RECIPE, 0, "cpu")
    images = source.network(torch.randn(2, 8))
    assert images.shape == (2, colours, side, side)
    assert source.steps == 3
