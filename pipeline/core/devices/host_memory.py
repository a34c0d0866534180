"""What the host's allocator does with memory that a step has freed.

This module has no REVISION, because it changes no number.
"""

import ctypes
import platform

# The names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = -1  # bytes at the end of the heap, without a sign


def keep_freed_memory() -> bool:
    """Have the process reuse freed memory instead of handing it back; whether it now does.

    A step frees its activations and the next asks for as many. By default glibc gives large ones
    back to the kernel each time, which then fills each of their pages with zeros again. The
    process never shrinks. It may grow to several times of what it uses where a few large blocks of
    growing sizes follow each other, so it is for stages of many like steps. Other C libraries are
    left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # mmap serves nothing any more, so that all comes from the heap, whose end is never given back
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, NEVER))
