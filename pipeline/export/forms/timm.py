"""A folder that timm reads: ``timm.create_model("local-dir:FOLDER", pretrained=True)``.

The weights have timm's names. timm's models take normalised images: mean and std stand in
``pretrained_cfg``, and ``timm.data.resolve_data_config`` makes the transform of them.
"""

from pathlib import Path

from torch import nn

from pipeline.errors import RetortError
from pipeline.export.finished_model import FinishedModel
from pipeline.models.classifier import Classifier
from pipeline.store.artefact import read_json, write_json

NEEDED_PACKAGES = ()
PREFIX = "timm/"


def write(model: FinishedModel, folder: Path) -> str:
    """Write ``config.json`` and ``model.safetensors``; the name of the latter.

    Raises:
        RetortError: the network is none of timm's.
    """
    metadata = model.get_classifier_metadata("timm")
    if not metadata["model"].startswith(PREFIX):
        raise RetortError(
            f"{model.name}: its network {metadata['model']} is none of timm's; export --to onnx, "
            "or train a student whose model is timm/<name>"
        )
    write_timm_files(model, metadata, folder)
    return "model.safetensors"


def write_timm_files(model: FinishedModel, metadata: dict, folder: Path) -> None:
    """Configuration and weights, by timm itself."""
    from timm.models import save_for_hf

    channels, height, width = model.shape
    side = metadata.get("resize")
    prepared = {
        "mean": metadata["mean"],
        "std": metadata["std"],
        "input_size": [channels, side or height, side or width],
        "crop_pct": model.crop,
        "crop_mode": "center",
        "interpolation": "bicubic",
    }
    arguments = {"in_chans": channels} if channels != 3 else None
    save_for_hf(
        model.module.network.model,
        folder,
        {"pretrained_cfg": prepared, "label_names": list(model.classes)},
        arguments,
        safe_serialization=True,
    )
    state_class_count_once(folder / "config.json")


def state_class_count_once(path: Path) -> None:
    """Leave ``num_classes`` at the top alone: transformers refuses it among the arguments too."""
    config = read_json(path, "export the model again")
    config.get("model_args", {}).pop("num_classes", None)
    write_json(path, config)


def load(path: Path, record: dict) -> nn.Module:
    """The model by timm, behind the normalisation that its configuration states."""
    import timm

    network = timm.create_model(f"local-dir:{path.parent.absolute()}", pretrained=True).eval()
    stated = network.pretrained_cfg
    size = stated["input_size"]
    resize = None if list(size) == record["shape"] else size[-1]
    return NormalisedNetwork(network, stated["mean"], stated["std"], resize)


class NormalisedNetwork(nn.Module):
    """A network on normalised images behind its normalisation: images (B,C,H,W) in [0,1]."""

    def __init__(self, network: nn.Module, mean, std, resize: int | None = None):
        super().__init__()
        self.inner = Classifier(LogitsOnly(network), mean, std, resize)

    def forward(self, x):
        """Logits (B,K)."""
        return self.inner(x)


class LogitsOnly(nn.Module):
    """A whole network as the features of a classifier whose head changes nothing."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def features(self, x):
        """Logits (B,K) of normalised images."""
        return self.network(x)

    def head(self, features):
        """The logits as they are."""
        return features
