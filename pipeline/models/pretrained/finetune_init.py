"""A student that begins with weights from elsewhere, such as ImageNet-21k's."""

import copy
import logging
from pathlib import Path

from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.models.pretrained.checkpoint_files import (
    load_foreign_weights,
    map_to_own_name,
    read_fitting_weights,
)
from pipeline.models.pretrained.weight_sets import StateDict

REVISION = 1

log = logging.getLogger("retort")


def load_initial_weights(
    path: Path, sha256: str, student: Classifier, class_count: int, take: str | None = None
) -> None:
    """Loads a file with the sum ``sha256`` into a student of ``class_count`` classes.

    If the file has no head or one of another size, the student keeps the head drawn from its seed.
    ``take`` names the file's set of weights, None the only one that fits.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    outline = copy.deepcopy(student).to("meta")
    _, state = read_fitting_weights(
        path, sha256, take, lambda state: fill_student(state, outline, class_count, str(path))
    )
    if not fill_student(state, student, class_count, str(path)):
        log.info("%s: no head of %d classes in it; the student's is new", path.name, class_count)


def fill_student(state: StateDict, student: Classifier, class_count: int, where: str) -> bool:
    """Puts weights into a student and says whether its head is the file's.

    Raises:
        RetortError: they do not fit. The message begins with ``where``.
    """
    own = student.network.state_dict()
    head = list_head_names(student.network, class_count)
    targets = {name: map_to_own_name(name, own) for name in state}
    fits = [n for n, t in targets.items() if t in head and state[n].shape == own[t].shape]
    has_head = len(fits) >= len(head)
    if not has_head:
        body = {name: value for name, value in state.items() if targets[name] not in head}
        state = body | {name: own[name] for name in head}
    load_foreign_weights(student, state, where)
    return has_head


def list_head_names(network: nn.Module, class_count: int) -> list[str]:
    """Names of the last layer's weights: the last linear or 1x1 layer with one output per class."""
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) == class_count
    ]
    prefix = f"{layers[-1]}."
    return [name for name in network.state_dict() if name.startswith(prefix)]
