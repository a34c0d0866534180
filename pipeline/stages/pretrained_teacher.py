"""A teacher from a checkpoint made elsewhere: verified, loaded into our network, saved as ours."""

from functools import partial
from pathlib import Path

from pipeline.config.specs import get_spec
from pipeline.core.meta_device import build_on_meta
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.errors import RetortError
from pipeline.models.classifier import (
    MODEL_FILE,
    Classifier,
    build_classifier,
    initialise_classifier,
    save_classifier,
)
from pipeline.models.pretrained.checkpoint_files import load_foreign_weights, read_fitting_weights
from pipeline.models.pretrained.weight_sets import StateDict
from pipeline.stages.teacher_trial import compare_readings, try_teacher
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1


def load_checkpoint(job: Job, data: DatasetArtefact) -> Manifest:
    """Read the file, whose path is in the job file and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, does not fit the model, or is
            near chance on the training images and not `unverified`.
    """
    spec, path = get_spec(job), Path(job.run["checkpoint"]).expanduser()
    checkpoint_spec = spec.checkpoint
    mean = list(checkpoint_spec.mean or [0.0] * data.shape[0])
    std = list(checkpoint_spec.std or [1.0] * data.shape[0])
    check = partial(check_fit, spec.model, len(data.classes), mean, std, str(path))
    sum_and_set = checkpoint_spec.sha256, checkpoint_spec.take
    taken, state = read_fitting_weights(path, *sum_and_set, check)
    model = initialise_classifier(spec.model, len(data.classes), mean, std, 0)
    model.resize = spec.resize
    dropped = load_foreign_weights(model, state, str(path))
    if checkpoint_spec.mean:
        check_normalisation(model, mean, std, path)
    facts = {"left_out": dropped, "taken": taken, "accuracy_read_as": compare_readings(model, data)}
    facts |= try_teacher(model, data, str(path), job.run.get("unverified", False))
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save_classifier(model, temporary, spec.model, data.classes)
    return job.build_manifest([MODEL_FILE], facts)


def check_fit(
    model: str, class_count: int, mean: list[float], std: list[float], where: str, state: StateDict
) -> None:
    """Raise if weights do not fit a model; they and it have no values."""
    outline = build_on_meta(build_classifier, model, class_count, mean, std)
    load_foreign_weights(outline, state, where)


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
