"""Where tensors lie, and copies between the host and a device that wait for nothing.

This module has no REVISION, because it changes no number.
"""

import torch
from torch import Tensor


def is_accelerator(device: torch.device | str) -> bool:
    """Whether a device computes beside the host, which then waits where it reads a value."""
    return torch.device(device).type not in ("cpu", "meta")


def resolve_device(device: torch.device | str) -> torch.device:
    """A device with its number: the name `cuda` alone means another GPU in another thread."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def copy_to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; a copy from the host to an accelerator is pinned and not awaited.

    The device's own order keeps it right: whatever is computed from the copy comes after it.
    """
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def allocate_on_host(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """Memory of the host that is to be filled and copied to a device; pinned for a GPU."""
    return torch.empty(shape, dtype=dtype, pin_memory=torch.device(device).type == "cuda")


def copy_to_host(x: Tensor) -> Tensor:
    """The tensor on the host; a copy from a GPU goes to pinned memory and is not awaited.

    Its values are there once an event that was recorded after it is over.
    """
    if x.device.type == "cuda":
        return torch.empty_like(x, device="cpu", pin_memory=True).copy_(x, non_blocking=True)
    return x.to("cpu")


def record_event(device: torch.device | str) -> torch.cuda.Event | None:
    """An event after all that is queued on a GPU so far; None where nothing is queued.

    A thread that waits for it sleeps.
    """
    if torch.device(device).type != "cuda":
        return None
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event
