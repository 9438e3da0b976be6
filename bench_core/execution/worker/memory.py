"""Measure and limit the memory of a worker, and keep it near what its training holds at a time."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import sys
from collections.abc import Iterable

import torch

from bench_core.processes.child import HUGE_PAGES
from bench_core.training.audit import release_freed_memory
from bench_core.units import MIB

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


def peak_memory(device: str) -> int:
    """Return peak bytes of the CUDA device, else of this process's resident memory."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def limit_gpu(device: str, megabytes: float | None) -> None:
    """Hold this process to its share of a CUDA device; beyond it torch raises OutOfMemoryError."""
    if megabytes is None or not device.startswith("cuda"):
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, megabytes * MIB / total), device)
