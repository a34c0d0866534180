"""A student that begins with weights from elsewhere, such as ImageNet-21k's."""

import logging
from pathlib import Path

from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.models.pretrained.checkpoint_files import (
    load_foreign_weights,
    map_to_own_name,
    read_state_dict,
)

REVISION = 1

log = logging.getLogger("retort")


def load_initial_weights(path: Path, sha256: str, student: Classifier, class_count: int) -> None:
    """Loads a file with the sum ``sha256`` into a student of ``class_count`` classes.

    If the file has no head or one of another size, the student keeps the head drawn from its seed.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    state, own = read_state_dict(path, sha256), student.network.state_dict()
    head = list_head_names(student.network, class_count)
    targets = {name: map_to_own_name(name, own) for name in state}
    fits = [n for n, t in targets.items() if t in head and state[n].shape == own[t].shape]
    if len(fits) < len(head):
        body = {name: value for name, value in state.items() if targets[name] not in head}
        state = body | {name: own[name] for name in head}
        log.info("%s: no head of %d classes in it; the student's is new", path.name, class_count)
    load_foreign_weights(student, state, str(path))


def list_head_names(network: nn.Module, class_count: int) -> list[str]:
    """Names of the last layer's weights: the last linear or 1x1 layer with one output per class."""
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) == class_count
    ]
    prefix = f"{layers[-1]}."
    return [name for name in network.state_dict() if name.startswith(prefix)]
