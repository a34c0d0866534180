"""A teacher from a checkpoint made elsewhere: verified, fitted to our network, saved as ours."""

import logging
from pathlib import Path

import torch

from pipeline.config.specs import spec_of
from pipeline.data.dataset_artifact import Data
from pipeline.errors import RetortError
from pipeline.models.classifier import MODEL, Classifier, initialised, save_classifier
from pipeline.models.pretrained.checkpoint_files import fit_to, read
from pipeline.store.artifact import Job, Manifest, replacing

REVISION = 1

SEEN = 64  # training images on which the loaded network is tried

log = logging.getLogger("retort")


def load_checkpoint(job: Job, data: Data) -> Manifest:
    """Read the file, whose place is in the work order and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    spec, path = spec_of(job), Path(job.run["checkpoint"]).expanduser()
    about = spec.checkpoint
    mean = list(about.mean or [0.0] * data.shape[0])
    std = list(about.std or [1.0] * data.shape[0])
    state = read(path, about.sha256)
    model = initialised(spec.model, len(data.classes), mean, std, 0)
    model.resize = spec.resize
    dropped = fit_to(model, state, str(path))
    if about.mean:
        agree(model, mean, std, path)
    accuracy = tried(model, data)
    with replacing(job.folder / MODEL) as temporary:
        save_classifier(model, temporary, spec.model, data.classes)
    return job.manifest([MODEL], {"left_out": dropped, "accuracy_of_first_rows": accuracy})


def agree(model: Classifier, mean: list[float], std: list[float], path: Path) -> None:
    """Raise if the file brought another normalisation than the configuration states."""
    for name, stated in (("mean", mean), ("std", std)):
        found = getattr(model, name).flatten().tolist()
        if any(abs(a - b) > 1e-4 for a, b in zip(found, stated, strict=True)):
            held = [round(value, 4) for value in found]
            raise RetortError(
                f"{path}: holds {name} {held}, checkpoint.{name} says {stated}; drop "
                "checkpoint.mean and .std to take the file's"
            )


@torch.no_grad()
def tried(model: Classifier, data: Data) -> float:
    """Accuracy on the first training images; near chance, a warning with the usual causes."""
    train = data.split("train")
    images, labels = train.images[:SEEN].float() / 255, train.labels[:SEEN]
    accuracy = (model.eval()(images).argmax(1) == labels).double().mean().item()
    log.info("right on %.0f %% of the first %d training images", 100 * accuracy, len(labels))
    if accuracy < 2 / len(data.classes):
        log.warning("near chance: is its order of classes another, or checkpoint.mean missing?")
    return accuracy
