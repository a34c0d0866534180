"""Whether every term of a step is finite: asked at once on a CPU, later on an accelerator.

Reading a number from an accelerator waits for all of its work. So there the question stays on the
device: from the first bad step on the optimiser changes nothing, and the host looks now and then.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.contracts.own_files import is_own
from pipeline.core import collectives
from pipeline.core.batch import Batch
from pipeline.discovery import describe_plugin
from pipeline.errors import RetortError
from pipeline.store.artefact import write_atomically

CHECK_STEPS = 100  # an accelerator's steps between two looks of the host

Number = float | Tensor  # a scalar of the host; or of an accelerator, float64 and not yet read


def read_numbers(values: Mapping[str, Number]) -> dict[str, float]:
    """The values as numbers of the host; those of an accelerator come in one copy."""
    waiting = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    read = torch.stack(list(waiting.values())).tolist() if waiting else []
    return {**values, **dict(zip(waiting, read, strict=True))}


def list_batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """What is saved of a batch: images, rows, stored fields."""
    return {"x": batch.x, "index": batch.index, **batch.stored}


def make_divergence_error(
    objective: object,
    lr: float,
    place: tuple[int, int],
    term: str,
    tensors: Mapping[str, Tensor],
    folder: Path,
) -> RetortError:
    """The error for a term that is not finite; saves the batch's tensors, which it names.

    Args:
        place: epoch and step, counted from 0.
        folder: where the batch is saved, under this rank's name.
    """
    rank = collectives.get_rank()
    name = f"diverged-{rank}" if collectives.get_world_size() > 1 else "diverged"
    path = folder / f"{name}.safetensors"
    with write_atomically(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
    is_own_term = is_own(type(objective).__module__)
    where = describe_plugin(objective) if is_own_term else "recipe.lr"
    hint = "see what it divides by, or " if is_own_term else ""
    return RetortError(
        f"{where}: term '{term}' is not finite at epoch {place[0] + 1}, step {place[1]}; its batch "
        f"is in {path}; {hint}lower recipe.lr ({lr:g})"
    )


def find_bad_term(values: Mapping[str, float]) -> str | None:
    """The first term that is not finite."""
    return next((name for name, value in values.items() if not math.isfinite(value)), None)


@dataclass(frozen=True)
class WatchedStep:
    """A step that the host has not looked at: its place, its terms, the form of its batch."""

    place: tuple[int, int]  # epoch and step
    names: tuple[str, ...]
    values: Tensor  # (number of terms,) float64
    form: tuple[tuple[str, torch.Size], ...]


@dataclass
class DivergenceWatch:
    """The steps of an accelerator since the host last looked.

    Attributes:
        found: 1 from the first step on of which a term is not finite, else 0; float32 on the
            device, which the fused optimisers know as ``found_inf`` and change nothing at 1.
        unread: the steps since the last look.
        kept: the first bad batch; for each form of batch, the tensors of one.
    """

    found: Tensor
    unread: list[WatchedStep] = field(default_factory=list)
    kept: dict[tuple, dict[str, Tensor]] = field(default_factory=dict)

    def note_step(
        self, batch: Batch, values: Mapping[str, Tensor], place: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The terms' means over the ranks; remembers the step and, if it is the first bad, all."""
        stacked = torch.stack(list(values.values()))
        collectives.average_tensors([stacked])
        total = stacked.sum()
        is_bad = (total - total) != 0  # inf - inf and nan - nan are nan
        is_first = is_bad & (self.found == 0)
        self.found.masked_fill_(is_bad, 1.0)
        tensors = {name: value.detach() for name, value in list_batch_tensors(batch).items()}
        form = tuple((name, value.shape) for name, value in tensors.items())
        if form in self.kept:
            for name, old in self.kept[form].items():
                old.copy_(torch.where(is_first, tensors[name], old))
        else:
            self.kept[form] = {name: value.clone() for name, value in tensors.items()}
        self.unread.append(WatchedStep(place, tuple(values), stacked, form))
        return dict(zip(values, stacked.unbind(), strict=True))

    def is_due(self) -> bool:
        """Whether the host should look."""
        return len(self.unread) >= CHECK_STEPS

    def check(self, objective: object, lr: float, folder: Path) -> None:
        """Look, which waits for the device.

        Raises:
            RetortError: a term was not finite; the message names its step and its saved batch.
        """
        if self.found.item():
            for step in self.unread:
                values = dict(zip(step.names, step.values.tolist(), strict=True))
                if (bad := find_bad_term(values)) is not None:
                    tensors = self.kept[step.form]
                    raise make_divergence_error(objective, lr, step.place, bad, tensors, folder)
        self.unread.clear()
