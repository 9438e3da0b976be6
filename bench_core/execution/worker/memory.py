"""Keep the resident memory of a cell near what its training holds at one time."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterable

from bench_core.processes.child import HUGE_PAGES
from bench_core.training.audit import release_freed_memory

LARGE = 16 * 2**20  # bytes of a float32 state of one training batch
APART = 4 * 2**20  # bytes of a tensor that then gets pages of its own
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def spare_memory(shapes: Iterable[tuple[int, ...]], batch_size: int) -> None:
    """Give freed memory back; with large states, give large tensors pages of their own.

    torch aligns its tensors, so glibc's heap cannot put a tensor into the room that an equal one
    left, and grows to twice what a step holds. Fresh pages cost time, huge ones less: so only where
    torch asks for huge pages. THP_MEM_ALLOC_ENABLE=0 in the environment leaves all to glibc.

    shapes  of the states, without the batch dimension
    """
    release_freed_memory()
    largest = max((4 * batch_size * math.prod(shape) for shape in shapes), default=0)
    if sys.platform != "linux" or largest < LARGE or os.environ.get(HUGE_PAGES) != "1":
        return
    if hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, APART)
