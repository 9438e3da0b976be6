"""Name the processor and choose the library that multiplies float32 matrices on it.

torch's x86 builds multiply by MKL, which uses only AVX2 on processors that are not Intel's. oneDNN
is part of the same builds and uses AVX-512 on any processor: 2.2 times as fast on an AMD EPYC
(benchmarks/RESULTS.md). Both sum in float32, in another order, as two machines do. The environment
of a run names the library.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

MULTIPLICATIONS = 1 << 20  # of a product: below, calling oneDNN costs more than it brings


def name() -> str:
    """Return the model name that the system gives."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """Read a field of Linux' /proc/cpuinfo; "" if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


@cache
def matmul_library() -> str:
    """Choose the faster library for this processor and use it in this process from now on.

    Returns "oneDNN" or "torch's own". BENCH_MATMUL=torch in the environment keeps torch's own.
    """
    wanted = (
        os.environ.get("BENCH_MATMUL") != "torch"
        and _cpuinfo("vendor_id") not in ("", "GenuineIntel")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
    return "oneDNN" if wanted and _use_onednn() else "torch's own"


@cache
def compiler_fault(device: str) -> str | None:
    """Compile a small function for a device; return why torch cannot, or None if it can."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def _use_onednn() -> bool:
    """Put oneDNN behind mm and addmm, below autograd, functorch and autocast.

    False, with nothing changed, if this torch lacks the operator, which is not documented.
    """
    try:
        linear = torch.ops.mkldnn._linear_pointwise.default
        ones = torch.ones(2, 2, dtype=torch.float32)  # whatever the default type is
        linear(ones, ones, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    mm_out, addmm_out = torch.ops.aten.mm.out, torch.ops.aten.addmm.out

    def served(a: Tensor, b: Tensor) -> bool:
        large = a.shape[0] * a.shape[1] * b.shape[1] >= MULTIPLICATIONS
        return large and a.dtype == b.dtype == torch.float32

    def product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return linear(_dense(a), _dense(b).t(), bias, "none", [], "")  # type: ignore[no-any-return]

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if served(a, b):
            return product(a, b, None)
        return mm_out(a, b, out=a.new_empty(a.shape[0], b.shape[1]))  # type: ignore[no-any-return]

    def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        plain = beta == alpha == 1 and bias.shape == b.shape[1:] and bias.dtype == torch.float32
        if plain and served(a, b):
            return product(a, b, bias.contiguous())
        out: Tensor = a.new_empty(a.shape[0], b.shape[1])
        addmm_out(bias, a, b, beta=beta, alpha=alpha, out=out)
        return out

    kernels = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    kernels.impl("mm", mm, "CPU")  # type: ignore[no-untyped-call]
    kernels.impl("addmm", addmm, "CPU")  # type: ignore[no-untyped-call]
    _KERNELS.append(kernels)
    return True


_KERNELS: list[torch.library.Library] = []  # they last as long as this object


def _dense(matrix: Tensor) -> Tensor:
    """Return a matrix with contiguous rows or columns: itself if it has them, else a copy."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()
