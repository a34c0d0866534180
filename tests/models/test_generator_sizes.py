"""The sizes of generators and of their images, and those that are refused."""

import pytest
import torch
from torch import nn

from pipeline.errors import RetortError
from pipeline.models.generator import Generator, GeneratorSize


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize(("drawn", "out"), [(0, 3), (16, 1)])
def test_images_have_the_asked_shape_and_range(size, drawn, out):
    x = Generator(GeneratorSize(7, 8, size, out, drawn))(torch.randn(3, 7))
    assert x.shape == (3, out, size, size)
    assert torch.equal(x, x.clamp(0, 1))


@pytest.mark.parametrize(
    "sizes", [(8, 30), (8, 32, 3, 15), (7, 32), (8, 0), (8, 216, 3, 0, 4), (4, 32, 3, 0, 4)]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(RetortError, match=r"generator\.(image|drawn|channels)"):
        GeneratorSize(4, *sizes)


def test_four_doublings_reach_224_pixels():
    network = Generator(GeneratorSize(7, 16, 224, doublings=4)).eval()
    assert network.start.out_features == 16 * 14 * 14
    assert network(torch.randn(1, 7)).shape == (1, 3, 224, 224)
    assert network.layers[-2].in_channels == 2


def test_the_large_generator_halves_its_channels_at_once():
    """DataFree's LargeGenerator is 256, 128, 64 channels wide; its smaller one 128, 128, 64."""
    for size, widths in (
        (GeneratorSize(256, 256, 32, halves_first=True), [(256, 128), (128, 64), (64, 3)]),
        (GeneratorSize(256, 128, 32), [(128, 128), (128, 64), (64, 3)]),
    ):
        layers = [m for m in Generator(size).modules() if isinstance(m, nn.Conv2d)]
        assert [(layer.in_channels, layer.out_channels) for layer in layers] == widths
    with pytest.raises(RetortError, match=r"generator\.channels: 2 must be a multiple of 4"):
        GeneratorSize(4, 2, 32, halves_first=True)
