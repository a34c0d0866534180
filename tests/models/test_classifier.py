"""Classifiers: normalisation inside, safetensors and back, errors that name the file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import RetortError
from pipeline.models.classifier import (
    Classifier,
    build_classifier,
    find_model_family,
    initialise_classifier,
    load,
    read_metadata,
    save_classifier,
)
from pipeline.models.loading import load_classifier

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
NAME = "resnet8-s2-w8"
CLASSES = tuple("abcde")


@pytest.fixture
def model() -> Classifier:
    made = initialise_classifier(NAME, len(CLASSES), MEAN, STD, seed=3)
    made.train()
    with torch.no_grad():
        made(images(16))
    return made.eval()


def images(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_normalisation_is_inside(model):
    x = images()
    normal = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    features = model.network.features(normal)
    torch.testing.assert_close(model.features(x), features)
    torch.testing.assert_close(model(x), model.network.fc(features))
    torch.testing.assert_close(model(x), model.head(model.features(x)))
    assert features.shape == (4, 32)


def test_a_saved_model_comes_back_bit_for_bit(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_classifier(model, path, NAME, CLASSES)
    about = read_metadata(path)
    assert about["classes"] == list(CLASSES)
    assert about["model"] == NAME
    for loader in (load, load_classifier):
        back = loader(path)
        assert back.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in back.state_dict().items())
    back = load_classifier(path)
    assert not back.training
    assert torch.equal(back(images()), model(images()))


def test_initial_weights_are_named_by_their_seed():
    state = torch.get_rng_state()
    one, two, other = (initialise_classifier(NAME, 5, MEAN, STD, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.network.fc.weight, two.network.fc.weight)
    assert not torch.equal(one.network.fc.weight, other.network.fc.weight)


@pytest.mark.parametrize(("depth", "stem", "kernel"), [(8, 2, 4), (8, 1, 3), (14, 2, 4)])
def test_parameters_by_hand(depth, stem, kernel):
    width, classes = 4, 10
    network = build_classifier(f"resnet{depth}-s{stem}-w{width}", classes, MEAN, STD)
    count = 3 * width * kernel**2 + 2 * width
    inputs = width
    for outputs in (width, 2 * width, 4 * width):
        for block in range((depth - 2) // 6):
            count += 9 * outputs * (inputs + outputs) + 4 * outputs
            if block == 0 and inputs != outputs:
                count += inputs * outputs + 2 * outputs
            inputs = outputs
    count += 4 * width * classes + classes
    assert sum(p.numel() for p in network.parameters()) == count
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vgg16", "model 'vgg16' is unknown; known: resnet<"),
        ("resnet8-s3-w8", "is unknown"),
        ("resnet8-s2-w8x", "is unknown"),
        ("resnet9-s2-w8", "the depth must be 6 n [+] 2"),
        ("resnet2-s2-w8", "the depth must be 6 n [+] 2"),
    ],
)
def test_unknown_names_are_refused(name, words):
    with pytest.raises(RetortError, match=words):
        build_classifier(name, 10, MEAN, STD)


def test_a_name_has_one_family():
    assert find_model_family(NAME).NAME_PATTERN.fullmatch(NAME)


def test_files_that_are_no_models_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(RetortError, match="model.safetensors: not a model"):
        read_metadata(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(RetortError, match="not a model saved by this pipeline"):
        load_classifier(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(RetortError, match="not a model saved by this pipeline"):
        load_classifier(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"retort": json.dumps({"kind": "vqgan"})})
    with pytest.raises(RetortError, match="holds 'vqgan', which is no classifier"):
        load_classifier(path)
