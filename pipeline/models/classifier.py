"""Classifiers on pixels: their first layer normalises, their files are safetensors."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.contracts.values import describe_bad_network
from pipeline.discovery import describe_module, list_own_model_names, load_plugin, load_plugins
from pipeline.errors import RetortError, explain_denied_reading

REVISION = 1

MODEL_FILE = "model.safetensors"  # the file of an artefact that is a classifier


def get_epoch_file_name(epoch: int) -> str:
    """The file beside ``MODEL_FILE`` that holds the weights after an epoch, counted from 1."""
    return f"epoch-{epoch}.safetensors"


class Classifier(nn.Module):
    """A network behind its normalisation: images (B,C,H,W) in [0,1] to logits (B,K).

    With ``resize`` it first resizes images to that side.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        resize: int | None = None,
    ):
        super().__init__()
        self.network, self.resize = network, resize
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,D)."""
        return self.network.features((resize_images(x, self.resize) - self.mean) / self.std)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features (B,D)."""
        return self.network.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))


def resize_images(x: Tensor, side: int | None) -> Tensor:
    """Images resized to (B,C,side,side), bicubic with antialiasing as for CLIP; unchanged for None.

    Resizing is linear in x: gradients are exact, and values near edges may leave [0,1] slightly.
    """
    if side is None or x.shape[-2:] == (side, side):
        return x
    return F.interpolate(x, (side, side), mode="bicubic", align_corners=False, antialias=True)


def find_model_family(name: str) -> ModuleType:
    """The module of ``architectures/`` whose pattern fits a model's name.

    Raises:
        RetortError: no family knows the name, or two do.
    """
    ours, own = load_plugins("architectures"), list_own_model_names()
    found = [family for family in ours if family.NAME_PATTERN.fullmatch(name)]
    named = [own_name for own_name, pattern in own.items() if re.fullmatch(pattern, name)]
    found += [load_plugin("architectures", own_name) for own_name in named]
    if len(found) > 1:
        both = " and ".join(family.__name__ for family in found)
        raise RetortError(f"model '{name}' fits the names of {both}; rename your own")
    if not found:
        known = [*(family.NAME_FORMAT for family in ours), *own.values()]
        raise RetortError(f"model '{name}' is unknown; known: {'; '.join(known)}")
    return found[0]


def build_classifier(
    name: str, class_count: int, mean: Sequence[float], std: Sequence[float]
) -> Classifier:
    """A classifier by name, with random weights from torch's global generator.

    It takes images of as many channels as there are means.

    Raises:
        RetortError: no family knows the name.
    """
    network = build_network(name, class_count, len(mean))
    return Classifier(network, mean, std)


def build_network(name: str, class_count: int, channels: int = 3) -> nn.Module:
    """A network by name: normalised images (B,C,H,W) to features, and features to logits.

    Raises:
        RetortError: no family knows the name, or the network has no features or no head.
    """
    family = find_model_family(name)
    network = family.build(name, class_count, channels)
    if fault := describe_bad_network(network):
        raise RetortError(f"{describe_module(family.__name__)}: {fault}")
    return network


def initialise_classifier(name: str, class_count: int, mean, std, seed: int) -> Classifier:
    """A classifier by name, its weights drawn from ``seed``, not from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_classifier(name, class_count, mean, std)


def save_classifier(model: Classifier, path: Path, name: str, classes: Sequence[str]) -> None:
    """Writes weights and what is needed to rebuild the model: architecture, classes, mean, std."""
    metadata = {
        "kind": "classifier",
        "model": name,
        "classes": list(classes),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
    }
    if model.resize is not None:
        metadata["resize"] = model.resize
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, path, metadata={"retort": json.dumps(metadata)})


def read_metadata(path: Path) -> dict:
    """The metadata that was saved with a model.

    Raises:
        RetortError: the file is no safetensors file of this pipeline.
    """
    try:
        with explain_denied_reading(path), path.open("rb"):
            pass  # safetensors does not tell a denied file from a broken one
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["retort"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise RetortError(f"{path}: not a model saved by this pipeline ({error})") from error


def load(path: Path) -> Classifier:
    """A classifier saved by ``save_classifier``, on the CPU."""
    metadata = read_metadata(path)
    model = build_classifier(
        metadata["model"], len(metadata["classes"]), metadata["mean"], metadata["std"]
    )
    model.resize = metadata.get("resize")
    model.load_state_dict(load_file(path))
    return model
