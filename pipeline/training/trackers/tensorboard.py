"""TensorBoard: each number of an epoch as a scalar, by the epoch's number."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

_writers: dict[Path, SummaryWriter] = {}  # of this process, by folder


def write_epoch(folder: Path, record: Mapping[str, float]) -> None:
    """Append an epoch to the event file in a folder; what was written of later epochs is hidden."""
    epoch = int(record["epoch"])
    if folder not in _writers:
        _writers[folder] = SummaryWriter(str(folder), purge_step=epoch)
    for name, value in record.items():
        if name != "epoch":
            _writers[folder].add_scalar(name, value, epoch)
    _writers[folder].flush()
