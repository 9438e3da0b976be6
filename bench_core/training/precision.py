"""Compute the products of a training step in bfloat16: `training.precision: bfloat16`.

A product is a matrix product, a convolution or an attention, forward or backward. Its factors and a
bias that it adds are rounded to bfloat16, its sums are float32, and its result is rounded to
bfloat16 and returned as float32. So the gradient of such a bias is rounded too. All else is
float32: parameters, optimiser, states between products, norms, losses, the normalisation of
credits, and every measurement, which happens outside of a step.

torch's autocast leaves a product's result in bfloat16, and what follows computes in that. Here its
kernels of products are replaced, so that autograd still computes the backward products alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench_core.errors import NoDevice

DEVICES = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}  # device → key of its autocast's kernels
PRODUCTS = (
    "linear", "matmul", "mm", "mv", "bmm", "addmm", "addmv", "addbmm", "baddbmm",
    "linalg_vecdot", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "scaled_dot_product_attention",
)  # fmt: skip


@contextmanager
def products_in(precision: str, device: str) -> Iterator[None]:
    """Compute the products inside in "float32" or "bfloat16".

    Raises NoDevice if the device has no such products.
    """
    if precision == "float32":
        yield
        return
    kind = device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise NoDevice(f"{torch.cuda.get_device_name(device)} has no bfloat16 products")
    _replace_kernels(DEVICES[kind])
    with torch.autocast(kind, dtype=torch.bfloat16, cache_enabled=False):
        yield


@cache
def _replace_kernels(key: str) -> None:
    """Put ours in the place of autocast's kernels, in this process, for as long as it lasts."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name in PRODUCTS:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if not overload.endswith("out"):
                kernel = _kernel(getattr(packet, overload), key)
                where = f"{name}.{overload}" if overload != "default" else name
                library.impl(where, kernel, key, allow_override=True)  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)


_LIBRARIES: list[torch.library.Library] = []  # kernels last as long as their library


def _kernel(product: Callable[..., Tensor], key: str) -> Callable[..., Tensor]:
    autocast = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(*arguments: Any, **options: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            if not any(map(_is_float32, arguments)):  # integers, float64, complex numbers
                return product(*arguments, **options)
            options = {name: _rounded(value) for name, value in options.items()}
            return product(*map(_rounded, arguments), **options).float()

    return kernel


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype is torch.float32


def _rounded(value: Any) -> Any:
    return value.bfloat16() if _is_float32(value) else value
