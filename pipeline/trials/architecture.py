"""Trials of an architecture: shapes, gradients, and weights that survive a save."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from pipeline.contracts.values import describe_value
from pipeline.discovery import load_plugin
from pipeline.models.classifier import (
    build_classifier,
    find_model_family,
    save_classifier,
)
from pipeline.models.loading import load_classifier
from pipeline.trials.requirements import require

CLASSES, COUNT, SIDE = ("a", "b", "c"), 4, 32
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def find_example_name(name: str) -> str:
    """A name that an architecture's file builds: its own, or its NAME_EXAMPLE.

    Raises:
        RetortError: its pattern does not fit it, and the file gives no example.
    """
    family = load_plugin("architectures", name)
    example = getattr(family, "NAME_EXAMPLE", name)
    pattern = family.NAME_PATTERN.pattern
    fits = family.NAME_PATTERN.fullmatch(example) is not None
    require(fits, f"NAME_PATTERN {pattern!r} does not fit '{example}'; give a NAME_EXAMPLE to try")
    return example


def get_side(network: nn.Module) -> int:
    """The side in pixels of the images that a network is tried on."""
    return getattr(network, "side", None) or max(getattr(network, "min_side", 1), SIDE)


def check_one_step_and_a_save(name: str, folder: Path) -> None:
    """A step reaches every parameter; the saved model gives the same logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_classifier(name, len(CLASSES), MEAN, STD)
        side = get_side(model.network)
        x = torch.rand(COUNT, 3, side, side, requires_grad=True)
        logits = model(x)
        wanted = (COUNT, len(CLASSES))
        require(
            getattr(logits, "shape", None) == wanted,
            f"logits {wanted} are expected of {COUNT} images, not {describe_value(logits)}",
        )
        logits.logsumexp(1).sum().backward()
    require(float(x.grad.abs().sum()) > 0, "no gradient reaches the images")
    for key, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.isfinite().all())
        require(reached, f"no finite gradient reaches the parameter {key}")
    path = folder / "model.safetensors"
    save_classifier(model, path, name, CLASSES)
    model.eval()
    with torch.no_grad():
        same = torch.equal(load_classifier(path)(x), model(x))
        require(same, "after a save its logits are others; keep all state in the state dict")
        features = model.features(x)
        require(
            features.ndim == 2 and len(features) == COUNT,
            f"features (B,D) are expected, not {describe_value(features)}",
        )
        same = torch.equal(model.head(features), model(x))
        require(same, "head(features(x)) is not what the model gives")
        alone = torch.allclose(model(x[:1]), model(x)[:1], atol=1e-4)
        require(alone, "in eval mode an image's logits depend on the other images")


def check_channels(name: str) -> None:
    """It takes images of one channel as well."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build_classifier(name, 2, (0.5,), (0.25,)).eval()
        side = get_side(model.network)
        logits = model(torch.rand(COUNT, 1, side, side))
    require(logits.shape == (COUNT, 2), f"logits of grey images are {describe_value(logits)}")


def try_architecture(name: str) -> None:
    """All trials.

    Raises:
        RetortError: what was seen in the first that fails.
    """
    example = find_example_name(name)
    find_model_family(example)
    with tempfile.TemporaryDirectory() as folder:
        check_one_step_and_a_save(example, Path(folder))
    if load_plugin("architectures", name).TAKES_CHANNELS:
        check_channels(example)
