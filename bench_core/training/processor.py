"""The processor: its name, and the library that multiplies float32 matrices on it.

torch's x86 builds hand these products to MKL, which keeps to AVX2 where the processor is not Intel's. oneDNN, part of the same
builds, uses AVX-512 on any: 2.2 times as fast on an AMD EPYC (benchmarks/RESULTS.md). The sums are float32 all the same, taken in
another order, as between two machines; which library it was stands in a run's environment.
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
    """The model name, as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """A field of Linux' /proc/cpuinfo; "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


@cache
def matmul_library() -> str:
    """The faster library for this processor, in use from the first call on in this process: "oneDNN" or "torch's own".

    BENCH_MATMUL=torch in the environment keeps torch's own.
    """
    wanted = (
        os.environ.get("BENCH_MATMUL") != "torch"
        and _cpuinfo("vendor_id") not in ("", "GenuineIntel")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
    return "oneDNN" if wanted and _use_onednn() else "torch's own"


def _use_onednn() -> bool:
    """Put oneDNN behind mm and addmm, below autograd, functorch and autocast, which see no difference.

    False, and nothing is changed, where this torch has not the operator (it is not a documented one).
    """
    try:
        linear = torch.ops.mkldnn._linear_pointwise.default
        linear(torch.ones(2, 2), torch.ones(2, 2), None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    mm_out, addmm_out = torch.ops.aten.mm.out, torch.ops.aten.addmm.out

    def served(a: Tensor, b: Tensor) -> bool:
        return (
            a.dtype == b.dtype == torch.float32
            and a.shape[0] * a.shape[1] * b.shape[1] >= MULTIPLICATIONS
        )

    def product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return linear(_dense(a), _dense(b).t(), bias, "none", [], "")  # type: ignore[no-any-return]

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if served(a, b):
            return product(a, b, None)
        return mm_out(a, b, out=a.new_empty(a.shape[0], b.shape[1]))  # type: ignore[no-any-return]

    def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        if (
            beta == alpha == 1
            and bias.shape == b.shape[1:]
            and bias.dtype == torch.float32
            and served(a, b)
        ):
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
    """Itself where its rows or its columns lie one after another, else a copy."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()
