"""Training by several processes: each takes its rows of every batch (METHODS: data parallelism).

The ranks draw the whole batch from the same seeds and keep their own rows, so that N processes see
what one would, augmentation, mixing and noise included.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from pipeline.config.recipe import Recipe
from pipeline.core import collectives
from pipeline.core.batch import Batch, Roles
from pipeline.data.batches import Source
from pipeline.errors import RetortError
from pipeline.training.sync_batchnorm import synchronised

REVISION = 1


@dataclass
class RankSource:
    """A source's batches, cut to this rank's rows.

    Row blocks go by part of an accumulated batch first and then by rank, so that the ranks'
    rows of a part are the rows one process would put into it. A source that learns does so on
    every rank alike, on whole batches, and starts each epoch from rank 0's state.
    """

    source: Source
    parts: int
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.source.steps

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """This rank's rows of an epoch's batches from step ``start`` on."""
        if self.source.state_dict():
            self.source.load_state_dict(collectives.first_ones(self.source.state_dict()))
        for batch in self.source.batches(epoch, start, roles):
            yield self.cut(batch)

    def cut(self, batch: Batch) -> Batch:
        """The rank's rows of a batch.

        Raises:
            RetortError: the rows do not divide.
        """
        size = self.parts * collectives.size()
        if len(batch.x) % size:
            raise RetortError(
                f"recipe.gpus: a batch has {len(batch.x)} rows, which {size} parts (accumulate "
                "times gpus) do not divide; choose batch and replayed as their multiples"
            )

        def rows(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            blocks = value.unflatten(0, (self.parts, collectives.size(), -1))
            return blocks[:, collectives.rank()].flatten(0, 1)

        stored = {name: rows(value) for name, value in batch.stored.items()}
        x, y, index = rows(batch.x), rows(batch.y), rows(batch.index)
        return replace(batch, x=x, y=y, index=index, stored=stored)

    def state_dict(self) -> dict:
        """The source's own."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Give the source its own back."""
        self.source.load_state_dict(state)


def spread(
    roles: Roles, objective: object, source: Source, recipe: Recipe, device: str
) -> RankSource:
    """Ready student and objective for the ranks; returns the source of this one's rows.

    A first signal is a wish, as everywhere; a second one is not obeyed, for it is the first's echo.

    Raises:
        RetortError: there are not as many processes as the recipe has GPUs.
    """
    if collectives.size() != recipe.gpus:
        raise RetortError(
            f"recipe.gpus: {recipe.gpus}, but {collectives.size()} process trains; start the stage "
            "by its verb, which starts the others"
        )
    for number in (signal.SIGTERM, signal.SIGINT):  # torchrun repeats what a scheduler sent
        signal.signal(number, signal.SIG_IGN)
    if recipe.sync_bn:
        for network in (roles.student, objective):
            synchronised(network, device)
    return RankSource(source, recipe.accumulate)


def part() -> None:
    """After training rank 0 goes on alone; the others end here.

    Raises:
        SystemExit: with status 0, on every rank but the first.
    """
    leaves = collectives.rank() > 0
    collectives.leave()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if leaves:
        raise SystemExit(0)
