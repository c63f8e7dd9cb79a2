"""Give large freed blocks back to the kernel, so that what one stage held does not stay beneath the next.

glibc raises its threshold for such blocks with every one that is freed, up to 32 MiB, and what lies below it fragments
the heap. Arrow's own allocator keeps what it once had, so the package asks for the system's. Measured on 6 MB of text:
833 MiB at the peak without this, 586 with it, in the same time.
"""

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 512 << 10
_forget_types: Callable[[], None] = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache")  # noqa: B009
_remembering: WeakSet[Any] = WeakSet()


def remembered(most: int) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """`functools.lru_cache` of what a stage reads, which a `sweep` empties."""

    def remembering(function: Callable[..., _T]) -> Callable[..., _T]:
        cached = lru_cache(most)(function)
        _remembering.add(cached)
        return cached

    return remembering


def give_back_freed_memory() -> None:
    """Fix glibc's thresholds; does nothing under another C library."""
    if libc := _glibc():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)


def sweep() -> None:
    """Free what a part of a stage left behind, in what is `remembered` and in cycles, and give the kernel what lies
    free between other blocks.

    Python's own cache of attributes keeps thousands of names that C code made to ask by (`numpy.cumsum` a new one each
    time), scattered over blocks of 1 MiB that could otherwise be freed: 18 MiB a stage.
    """
    for one in list(_remembering):
        one.cache_clear()
    gc.collect()
    _forget_types()
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, where it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
