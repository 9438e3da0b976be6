"""Check that a worker's matrix products equal torch's, with either library."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHAPES = (
    "(128, 64, 128), (128, 3072, 64), (1, 2048, 512), (2048, 512, 1), "
    "(512, 1, 2048), (7, 9, 11), (0, 5, 3), (4, 0, 3)"
)

AGREE = f"""
import sys
import torch
from torch.nn import functional as F
from bench_core.training import processor

torch.manual_seed(0)
torch.set_num_threads(1)
if sys.argv[1] == "oneDNN" and not processor._use_onednn():
    print("absent"); sys.exit()

def layouts(rows, columns):
    yield torch.randn(rows, columns)
    yield torch.randn(columns, rows).t()
    yield torch.randn(2 * rows, 3 * columns)[::2, ::3]
    yield torch.randn(rows, 1).expand(rows, columns)
    yield torch.randn(1, columns).expand(rows, columns)

def near(found, exact, size):
    "Within Higham's bound for a float32 sum of k + 2 terms, elementwise |a||b| at most `size`."
    assert found.dtype == torch.float32 and found.shape == exact.shape, (found.dtype, found.shape)
    error = (found.double() - exact).abs().max() if found.numel() else 0.0
    assert error <= (k + 2) * 2**-24 * size, error

for n, k, m in ({SHAPES}):
    for a in layouts(n, k):
        for b in layouts(k, m):
            exact, size = a.double() @ b.double(),\
 float((a.abs().double() @ b.abs().double()).max()) if n * k * m else 1.0
            near(a @ b, exact, size)
            for bias in (torch.randn(m), torch.randn(1).expand(m), torch.randn(n, m)):
                near(torch.addmm(bias, a, b), bias + exact, size + 5)
                near(torch.addmm(bias, a, b, beta=0.5, alpha=2),\
 0.5 * bias + 2 * exact, 2 * size + 5)

# autograd, twice; forward mode; vmap; another dtype; what is not a number stays so
x, w, b = (torch.randn(s, requires_grad=True) for s in ((128, 96), (128, 96), (128,)))
def loss(x, w, b):
    return F.linear(x, w, b).tanh().square().sum()
first = torch.autograd.grad(loss(x, w, b), (x, w, b), create_graph=True)
exact = torch.autograd.grad(loss(x.double(), w.double(), b.double()), (x, w, b))
for mine, theirs in zip(first, exact):
    assert torch.allclose(mine, theirs.float(), rtol=1e-4, atol=1e-3)
second, = torch.autograd.grad(first[0].square().sum(), w)
assert torch.isfinite(second).all()
out, slope = torch.func.jvp(lambda x: F.linear(x, w, b), (x,), (torch.ones_like(x),))
assert torch.allclose(slope, torch.ones_like(x) @ w.t(), rtol=1e-4, atol=1e-4)
many = torch.func.vmap(lambda x: F.linear(x, w, b))(torch.stack([x, x]))
assert torch.allclose(many[1], F.linear(x, w, b), rtol=1e-4, atol=1e-4)
assert (x.double() @ w.double().t()).dtype == torch.float64
bad = x.detach().clone(); bad[3, 4] = float("nan")
assert (bad @ w.t()).isnan().any(1).nonzero().flatten().tolist() == [3]
assert torch.equal(x @ w.t(), x @ w.t())
print("agree")
"""


@pytest.mark.parametrize("library", ["oneDNN", "torch's own"])
def test_products_are_right_whoever_computes_them(library: str) -> None:
    """Products agree in every layout of the operands, with biases and scales.

    So do derivatives of first and second order, forward mode and vmap.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::FutureWarning", "-c", AGREE, library],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "absent":
        pytest.skip("this torch has no oneDNN product")
    assert (done.stdout.strip(), done.stderr) == ("agree", "")


def test_the_library_is_told_and_can_be_refused() -> None:
    """BENCH_MATMUL=torch keeps torch's own products on every machine."""
    code = (
        "from bench_core.training import processor; "
        "print(processor.matmul_library(), len(processor._KERNELS))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"BENCH_MATMUL": "torch"},
        timeout=300,
    )
    assert done.stdout.strip() == "torch's own 0", done.stderr
