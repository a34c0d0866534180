"""Exchanges between the processes that share a training step.

A single process is rank 0 of 1, and every function here returns its tensors unchanged. With N
processes, each holds its own rows of the batch and back-propagates the mean loss over them. The
mean of the ranks' gradients is then the gradient of the whole batch. For that to hold, the gradient
of an exchanged tensor is summed over the ranks.

This module has no REVISION, because it changes no number of a single process. Artefacts of several
processes have the REVISION of `pipeline.training.data_parallel` in their keys.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

EXCHANGE_TIMEOUT = timedelta(minutes=30)  # for the slowest rank of an exchange


def get_world_size() -> int:
    """The number of processes that share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def get_rank() -> int:
    """The rank of this process, counted from 0."""
    return dist.get_rank() if get_world_size() > 1 else 0


def init_process_group(device: str) -> None:
    """Joins the other processes that torchrun started, each with a GPU of its own."""
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=EXCHANGE_TIMEOUT)


def destroy_process_group() -> None:
    """Waits for the other processes and leaves the group; a single process returns at once."""
    if get_world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()


class AllReduceSum(torch.autograd.Function):
    """The sum of the ranks' tensors; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        """The sum; ``x`` has any shape, the same on every rank."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        """The sum of the ranks' gradients."""
        return AllReduceSum.forward(ctx, grad)


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of the ranks' tensors, which have one shape; differentiable."""
    return x if get_world_size() == 1 else AllReduceSum.apply(x)


def all_gather(x: Tensor) -> Tensor:
    """The rows (B,…) of all ranks as (N B,…), in order of rank; differentiable."""
    if get_world_size() == 1:
        return x
    if x.requires_grad:
        zeros = torch.zeros_like(x)
        return all_reduce_sum(
            torch.cat([x if i == get_rank() else zeros for i in range(get_world_size())])
        )
    parts = [
        torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(get_world_size())
    ]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def take_own_rows(rows: Tensor) -> Tensor:
    """This rank's part (B,…) of the rows (N B,…) of all ranks."""
    return rows if get_world_size() == 1 else rows.chunk(get_world_size())[get_rank()]


def repeat_for_ranks(x: Tensor) -> Tensor:
    """(B,…) repeated to the whole batch's (N B,…); draws of that shape serve every rank."""
    return x if get_world_size() == 1 else x.repeat(get_world_size(), *[1] * (x.ndim - 1))


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> list[Tensor]:
    """The mean of each tensor over the ranks; one exchange for each dtype."""
    if get_world_size() == 1 or not tensors:
        return tensors
    found: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        places = [i for i, t in enumerate(tensors) if t.dtype == dtype]
        flat = torch.cat([tensors[i].flatten() for i in places])
        dist.all_reduce(flat)
        parts = (flat / get_world_size()).split([tensors[i].numel() for i in places])
        found |= {i: p.view(tensors[i].shape) for i, p in zip(places, parts, strict=True)}
    return [found[i] for i in range(len(tensors))]


@torch.no_grad()
def average_tensors(tensors: list[Tensor]) -> None:
    """Overwrites each tensor with its mean over the ranks."""
    if get_world_size() > 1:
        for tensor, mean in zip(tensors, all_reduce_mean(tensors), strict=True):
            tensor.copy_(mean)


def average_numbers(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over the ranks of each number."""
    if get_world_size() == 1 or not values:
        return dict(values)
    sums = zip(values, sum_numbers(values.values()), strict=True)
    return {name: total / get_world_size() for name, total in sums}


def sum_numbers(values: Iterable[float]) -> list[float]:
    """The sum over the ranks of each number."""
    numbers = torch.tensor(list(values), dtype=torch.float64)
    if get_world_size() > 1:
        dist.all_reduce(numbers)
    return numbers.tolist()


def all_reduce_max(number: int) -> int:
    """The largest of the ranks' numbers, on every rank."""
    if get_world_size() == 1:
        return number
    largest = torch.tensor(number)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def broadcast_object(value: object) -> object:
    """Rank 0's value, on every rank."""
    holder = [value]
    if get_world_size() > 1:
        dist.broadcast_object_list(holder, 0)
    return holder[0]
