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
from pipeline.data.batches import BatchSource
from pipeline.errors import RetortError
from pipeline.training.sync_batchnorm import convert_sync_batchnorm

REVISION = 1


@dataclass
class RankSource:
    """A source's batches, cut to this rank's rows.

    Row blocks go by part of an accumulated batch first and then by rank, so that the ranks'
    rows of a part are the rows one process would put into it. A source that learns does so on
    every rank alike, on whole batches, and starts each epoch from rank 0's state.
    """

    source: BatchSource
    part_count: int
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.source.steps

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """This rank's rows of an epoch's batches from step ``start`` on."""
        if self.source.state_dict():
            self.source.load_state_dict(collectives.broadcast_object(self.source.state_dict()))
        for batch in self.source.iterate_batches(epoch, start, roles):
            yield self.take_rank_rows(batch)

    def take_rank_rows(self, batch: Batch) -> Batch:
        """The rank's rows of a batch.

        Raises:
            RetortError: the rows do not divide.
        """
        divisor = self.part_count * collectives.get_world_size()
        if len(batch.x) % divisor:
            raise RetortError(
                f"recipe.gpus: a batch has {len(batch.x)} rows, which {divisor} parts (accumulate "
                "times gpus) do not divide; choose batch and replayed as their multiples"
            )

        def take_rows(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            blocks = value.unflatten(0, (self.part_count, collectives.get_world_size(), -1))
            return blocks[:, collectives.get_rank()].flatten(0, 1)

        stored = {name: take_rows(value) for name, value in batch.stored.items()}
        x, y, index = take_rows(batch.x), take_rows(batch.y), take_rows(batch.index)
        return replace(batch, x=x, y=y, index=index, stored=stored)

    def state_dict(self) -> dict:
        """The source's own."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Give the source its own back."""
        self.source.load_state_dict(state)


def set_up_data_parallel(
    roles: Roles, objective: object, source: BatchSource, recipe: Recipe, device: str
) -> RankSource:
    """Ready student and objective for the ranks; returns the source of this one's rows.

    A first signal is a wish, as everywhere; a second one is not obeyed, for it is the first's echo.

    Raises:
        RetortError: there are not as many processes as the recipe has GPUs.
    """
    if collectives.get_world_size() != recipe.gpus:
        raise RetortError(
            f"recipe.gpus: {recipe.gpus}, but {collectives.get_world_size()} process trains; start "
            f"the stage "
            "by its verb, which starts the others"
        )
    for number in (signal.SIGTERM, signal.SIGINT):  # torchrun repeats what a scheduler sent
        signal.signal(number, signal.SIG_IGN)
    if recipe.sync_bn:
        for network in (roles.student, objective):
            convert_sync_batchnorm(network, device)
    return RankSource(source, recipe.accumulate)


def end_other_ranks() -> None:
    """After training rank 0 goes on alone; the others end here.

    Raises:
        SystemExit: with status 0, on every rank but the first.
    """
    is_other_rank = collectives.get_rank() > 0
    collectives.destroy_process_group()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_other_rank:
        raise SystemExit(0)
