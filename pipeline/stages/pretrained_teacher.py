"""A teacher from a checkpoint made elsewhere: verified, loaded into our network, saved as ours."""

import logging
from pathlib import Path

import torch

from pipeline.config.specs import get_spec
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.errors import RetortError
from pipeline.models.classifier import (
    MODEL_FILE,
    Classifier,
    initialise_classifier,
    save_classifier,
)
from pipeline.models.pretrained.checkpoint_files import load_foreign_weights, read_state_dict
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

TRIAL_IMAGES = 64  # number of training images on which the loaded network is tried

log = logging.getLogger("retort")


def load_checkpoint(job: Job, data: DatasetArtefact) -> Manifest:
    """Read the file, whose path is in the job file and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    spec, path = get_spec(job), Path(job.run["checkpoint"]).expanduser()
    checkpoint_spec = spec.checkpoint
    mean = list(checkpoint_spec.mean or [0.0] * data.shape[0])
    std = list(checkpoint_spec.std or [1.0] * data.shape[0])
    state = read_state_dict(path, checkpoint_spec.sha256)
    model = initialise_classifier(spec.model, len(data.classes), mean, std, 0)
    model.resize = spec.resize
    dropped = load_foreign_weights(model, state, str(path))
    if checkpoint_spec.mean:
        check_normalisation(model, mean, std, path)
    accuracy = measure_trial_accuracy(model, data)
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save_classifier(model, temporary, spec.model, data.classes)
    return job.build_manifest(
        [MODEL_FILE], {"left_out": dropped, "accuracy_of_first_rows": accuracy}
    )


def check_normalisation(model: Classifier, mean: list[float], std: list[float], path: Path) -> None:
    """Raise if the file holds another normalisation than the configuration states."""
    for name, stated in (("mean", mean), ("std", std)):
        found = getattr(model, name).flatten().tolist()
        if any(abs(a - b) > 1e-4 for a, b in zip(found, stated, strict=True)):
            held = [round(value, 4) for value in found]
            raise RetortError(
                f"{path}: holds {name} {held}, checkpoint.{name} says {stated}; drop "
                "checkpoint.mean and .std to take the file's"
            )


@torch.no_grad()
def measure_trial_accuracy(model: Classifier, data: DatasetArtefact) -> float:
    """Accuracy on the first training images; warns with the usual causes if it is near chance."""
    train = data.read_split("train")
    images, labels = train.images[:TRIAL_IMAGES].float() / 255, train.labels[:TRIAL_IMAGES]
    accuracy = (model.eval()(images).argmax(1) == labels).double().mean().item()
    log.info("right on %.0f %% of the first %d training images", 100 * accuracy, len(labels))
    if accuracy < 2 / len(data.classes):
        log.warning("near chance: is its order of classes another, or checkpoint.mean missing?")
    return accuracy
