"""Freed memory is used again: counted in the pages that the kernel has to fill."""

import platform
import subprocess
import sys

# 64 MB, above what glibc's heap ever holds by itself: allocated, filled and freed 20 times.
PROGRAM = """
import resource
import torch
from pipeline.core.devices.host_memory import keep_freed_memory
kept = {keep} and keep_freed_memory()
for _ in range(40):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_page_faults(keep: bool) -> tuple[bool, int]:
    """Whether a process keeps its memory, and its page faults in the loop."""
    command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept == "1", int(faults)


def test_freed_memory_is_used_again_where_the_c_library_is_glibc():
    kept, faults = count_page_faults(keep=True)
    assert kept == (platform.libc_ver()[0] == "glibc")
    without, faults_without = count_page_faults(keep=False)
    assert not without
    if kept:
        # without: 20 times 16,384 pages of 4 kB; with: none, or few, after 40 rounds of growth
        assert 4 * faults < faults_without
