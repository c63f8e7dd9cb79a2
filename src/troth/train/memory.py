"""Keep large freed blocks inside the process: on Linux, glibc otherwise returns every one of them to the kernel and
pays a page fault per 4 KiB when the next step asks again (measured: a quarter of a small training step)."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Raise glibc's thresholds for giving memory back; does nothing under another C library."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # Older ones take at most half of a thread's heap, which is 32 MiB.
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) or libc.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
