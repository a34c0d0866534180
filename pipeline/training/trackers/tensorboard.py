"""TensorBoard: each number of an epoch as a scalar, by the epoch's number."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

_writers: dict[Path, SummaryWriter] = {}  # of this process, by folder


def write_epoch(
    folder: Path, history: Mapping[int, Mapping[str, float]], is_finished: bool
) -> None:
    """Append the last epoch to the event file in a folder; what was written after it is hidden."""
    epoch = max(history)
    if folder not in _writers:
        _writers[folder] = SummaryWriter(str(folder), purge_step=epoch)
    for name, value in history[epoch].items():
        _writers[folder].add_scalar(name, value, epoch)
    _writers[folder].flush()
