"""Training by several processes: each takes its rows of every batch (DECISIONS: more than one GPU).

All ranks draw the complete batch from the same seeds and keep their own rows. So N processes see
the same images as one, with the same augmentation, mixing and noise.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from pipeline.config.recipe import Recipe
from pipeline.core import collectives
from pipeline.core.batch import Batch, Roles, find_trained_roles
from pipeline.data.batches import BatchSource
from pipeline.errors import RetortError
from pipeline.training.sync_batchnorm import convert_sync_batchnorm

REVISION = 1


@dataclass
class RankSource:
    """A source's batches, reduced to this rank's rows.

    A batch is divided into the parts of gradient accumulation first and then among the ranks. So
    the ranks' rows of a part are the rows that one process would put into it. A source that learns
    does so on every rank, on complete batches, and starts each epoch from rank 0's state.
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
        """This rank's rows of a batch.

        Raises:
            RetortError: parts and ranks do not divide the batch evenly.
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
        """The state of the inner source."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of the inner source."""
        self.source.load_state_dict(state)


def set_up_data_parallel(
    roles: Roles, objective: object, source: BatchSource, recipe: Recipe, device: str
) -> RankSource:
    """The source of this rank's rows; prepares all that trains for several ranks.

    A first signal stops training after its step; a second is ignored, since torchrun repeats them.

    Raises:
        RetortError: the number of processes is not the recipe's ``gpus``.
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
        teachers = [roles.teachers[about.role] for about in find_trained_roles(objective)]
        for network in (roles.student, objective, *teachers):
            convert_sync_batchnorm(network, device)
    return RankSource(source, recipe.accumulate)


def end_other_ranks() -> None:
    """End every rank but the first, which continues alone after training.

    Raises:
        SystemExit: with status 0, on every rank but the first.
    """
    is_other_rank = collectives.get_rank() > 0
    collectives.destroy_process_group()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_other_rank:
        raise SystemExit(0)
