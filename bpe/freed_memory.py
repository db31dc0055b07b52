"""Freed memory, kept for the next arrays instead of given back to the system.

In: nothing.  Out: nothing; the process runs faster from here on, and may give back what it does not use just now.

The system hands memory out page by page and fills each with zeros. For arrays of many megabytes that are made and
dropped again and again, as in every training step, this takes up to a quarter of the time (LOG.md), and threads wait
for each other meanwhile. glibc can be told to keep what is freed (mallopt(3)); other C libraries do as they like.
"""

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_..., from malloc.h
ALL = -1  # the largest of the library's unsigned numbers


@cache  # once said, it stays
def keep_freed_memory() -> None:
    """Let this process keep all memory that it frees."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(MMAP_THRESHOLD, ALL)
        library.mallopt(TRIM_THRESHOLD, ALL)


def give_back_freed_memory() -> None:
    """Give the system what is free at this moment, so that it counts as free there."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
