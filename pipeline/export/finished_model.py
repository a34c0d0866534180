"""A finished model with what other tools want to know of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pipeline.data.dataset_artefact import DatasetArtefact, open_dataset
from pipeline.discovery import is_installed
from pipeline.errors import RetortError
from pipeline.models.classifier import MODEL_FILE, Classifier, read_metadata
from pipeline.models.loading import load_classifier
from pipeline.planning.plan import OWN_MODELS
from pipeline.store.artefact import JOB_FILE, Artefact, open_artefact, read_json
from pipeline.upkeep.code_drift import use_saved_plugins

CLASSIFIER_KINDS = ("student", "teacher")


@dataclass(frozen=True)
class FinishedModel:
    """A classifier of the store.

    Attributes:
        artefact: the folder and manifest that it comes from.
        module: images (B,C,H,W) in [0,1] to logits (B,K), in eval mode, on the CPU.
        classes: their names in label order.
        shape: (C,H,W) of the images that it was made for.
        crop: share of the shorter side that the centre crop of an image keeps.
        decode: how colours are read, as in ``data.image_folder.convert_to_rgb``.
        dataset: name and spec of the data set that it was made for.
        results: records of ``results.csv`` on it; empty if it was not evaluated.
        licence: what a model card names as its licence; empty if unstated.
    """

    artefact: Artefact
    module: nn.Module
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    crop: float
    decode: str
    dataset: tuple[str, dict]
    results: tuple[dict, ...] = ()
    licence: str = ""

    @property
    def name(self) -> str:
        """The model's name with its seed, such as "adaad-0"."""
        return self.artefact.manifest.name

    def describe_network(self) -> dict:
        """Under ``network``: name, mean and std of what our architectures build; else nothing."""
        if not isinstance(self.module, Classifier):
            return {}
        stored = self.get_classifier_metadata("a record")
        return {"network": {name: stored[name] for name in ("model", "mean", "std")}}

    def get_classifier_metadata(self, form: str) -> dict:
        """Name, mean and std of a network that our architectures build.

        Raises:
            RetortError: it is a CLIP.
        """
        if not isinstance(self.module, Classifier):
            raise RetortError(
                f"{self.name}: is a CLIP, which {form} cannot hold; export it --to onnx"
            )
        return read_metadata(self.artefact.get_verified_path(MODEL_FILE))

    def check_builtin(self, form: str) -> None:
        """Raise RetortError if the network is one of the user's own plug-ins or a CLIP."""
        self.get_classifier_metadata(form)
        own = [name for name in self.artefact.manifest.code if name.startswith(OWN_MODELS)]
        if own:
            raise RetortError(
                f"{self.name}: its network is your own plug-in {own[0].rpartition('.')[2]}, whose "
                f"code {form} cannot hold; export it --to onnx"
            )


def open_finished_model(folder: Path, results: Sequence[dict] = ()) -> FinishedModel:
    """The classifier of a finished artefact; of ``results`` it keeps the records on it.

    Raises:
        RetortError: the artefact is no classifier, is not finished, or its data set is not there.
    """
    artefact = open_artefact(folder)
    manifest = artefact.manifest
    if manifest.kind not in CLASSIFIER_KINDS:
        raise RetortError(f"{folder}: is a {manifest.kind}; name a student or a teacher")
    use_saved_plugins(artefact.folder, manifest, None)
    path = artefact.get_verified_path(MODEL_FILE)
    data = find_dataset(artefact.folder)
    about, files = data.artefact.manifest, data.artefact.manifest.facts.get("files", {})
    return FinishedModel(
        artefact,
        load_classifier(path),
        tuple(read_metadata(path)["classes"]),
        data.shape,
        files.get("crop", 1.0),
        files.get("decode", "plain"),
        (about.name, about.spec),
        tuple(record for record in results if record["key"] == manifest.key),
    )


def find_dataset(folder: Path) -> DatasetArtefact:
    """The data set that a model was trained on; without one, that of what it was made from.

    Raises:
        RetortError: none of the artefacts that it was made from has a data set.
    """
    store, waiting = folder.parent.parent, [folder]
    while waiting:
        place = waiting.pop(0)
        inputs = read_json(place / JOB_FILE, "run 'retort plan --write' to have it back")["inputs"]
        if "dataset" in inputs:
            return open_dataset(store / inputs["dataset"])
        waiting += [store / ref for _, ref in sorted(inputs.items())]
    raise RetortError(f"{folder}: no data set says what its images are; run 'retort run' again")


def check_packages(form: str, *packages: str) -> None:
    """Raise RetortError if a package that a form needs is not installed."""
    for package in packages:
        if not is_installed(package):
            raise RetortError(
                f"{form}: needs {package}, which is not installed; pip install "
                "'/path/to/retort[export]'"
            )


def measure_difference(module: nn.Module, other: nn.Module, images: Tensor) -> tuple[float, float]:
    """The largest difference of two modules' logits, and the largest logit of the first."""
    import torch

    with torch.no_grad():
        expected, found = module(images), other(images)
    return (expected - found).abs().max().item(), expected.abs().max().item()
