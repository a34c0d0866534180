"""A card's matrix rate and copy bandwidth, which are the floors of everything else."""

import gc
import platform
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.record import CARD, Report
from benchmarks.timing import name_processor, show, summarise, take_turns

ROUNDS, PRODUCTS = 5, 5
SIDE, COPIED_BYTES = 8192, 2**30
PROFILED = 12  # rows of a profile


def name_card(device: str) -> str:
    """The card's name; on a CPU the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name().removeprefix("NVIDIA ")
    return name_processor() or platform.machine()


def make_clock(device: str) -> Callable[[], float]:
    """Seconds on the clock, after the device has finished what it was given."""

    def read() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return read


def free_memory(device: str) -> None:
    """Give back the card's memory that nothing holds any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def make_product(device: str, side: int, dtype: torch.dtype, tf32: bool) -> Callable[[], None]:
    """Some products of two square matrices."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        for _ in range(PRODUCTS):
            a @ b
        torch.backends.cuda.matmul.allow_tf32 = before

    return multiply


def measure_card(report: Report, device: str, scale: float) -> float:
    """Rates in TFLOP/s and GB/s; returns the bf16 rate in FLOP/s."""
    side = max(int(SIDE * scale**0.5), 128)
    size = max(int(COPIED_BYTES * scale), 2**20) // 4
    source = torch.randn(size, device=device)
    target, host = torch.empty_like(source), torch.randn(size)
    host = host.pin_memory() if device == "cuda" else host
    works = {
        "fp32": make_product(device, side, torch.float32, False),
        "tf32": make_product(device, side, torch.float32, True),
        "bf16": make_product(device, side, torch.bfloat16, False),
        "copy on the card": lambda: target.copy_(source),
        "copy from pinned memory": lambda: target.copy_(host, non_blocking=True),
    }
    seconds = take_turns(works, ROUNDS, warm=2, clock=make_clock(device))
    flop = PRODUCTS * 2 * side**3
    for name in ("fp32", "tf32", "bf16"):
        rates = [flop / s / 1e12 for s in seconds[name]]
        report.add_row(CARD, [f"{name}, TFLOP/s", show(rates, 1)], name, summarise(rates))
    for name, factor in (("copy on the card", 8), ("copy from pinned memory", 4)):
        rates = [factor * size / s / 1e9 for s in seconds[name]]
        report.add_row(CARD, [f"{name}, GB/s", show(rates, 1)], name, summarise(rates))
    return report.data[CARD]["bf16"]["median"] * 1e12


def profile_kernels(work: Callable[[], object], device: str) -> str:
    """A table of the operations that take most time in one call of a work."""
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        work()
        if device == "cuda":
            torch.cuda.synchronize()
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    table = found.key_averages().table(sort_by=key, row_limit=PROFILED, max_name_column_width=60)
    return "\n".join(line.rstrip() for line in table.splitlines())
