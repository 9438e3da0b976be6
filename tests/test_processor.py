"""Check that a worker's matrix products equal torch's, with either library."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench_plugins.archs.resmlp import ResMLP
from nets import TRAINING, rule_class, toy_data

from bench_core.execution.worker import memory
from bench_core.training import processor
from bench_core.training.build import build
from bench_core.training.net import tensors_of

# (rows, inner, columns): at the size from which oneDNN is called, above it, and below it; vectors
SHAPES = (
    "(128, 64, 128), (64, 768, 32), (1, 2048, 512), (2048, 512, 1), "
    "(512, 1, 2048), (7, 9, 11), (0, 5, 3), (4, 0, 3)"
)

AGREE = f"""
import torch
from torch.nn import functional as F
from bench_core.training import processor

torch.manual_seed(0)
torch.set_num_threads(1)

def layouts(rows, columns):
    yield torch.randn(rows, columns)
    yield torch.randn(columns, rows).t()
    yield torch.randn(2 * rows, 3 * columns)[::2, ::3]
    yield torch.randn(rows, 1).expand(rows, columns)
    yield torch.randn(1, columns).expand(rows, columns)

def near(found, exact, size, k):
    "Within Higham's bound for a float32 sum of k + 2 terms, elementwise |a||b| at most `size`."
    assert found.dtype == torch.float32 and found.shape == exact.shape, (found.dtype, found.shape)
    error = (found.double() - exact).abs().max() if found.numel() else 0.0
    assert error <= (k + 2) * 2**-24 * size, error

def agree(n, k, m, a, b):
    exact = a.double() @ b.double()
    size = float((a.abs().double() @ b.abs().double()).max()) if n * k * m else 1.0
    near(a @ b, exact, size, k)
    for bias in (torch.randn(m), torch.randn(1).expand(m), torch.randn(n, m)):
        near(torch.addmm(bias, a, b), bias + exact, size + 5, k)
        near(torch.addmm(bias, a, b, beta=0.5, alpha=2),\
 0.5 * bias + 2 * exact, 2 * size + 5, k)

def products():
    "Every layout beside every other in the first shape, beside a dense operand in the rest."
    for n, k, m in ({SHAPES}):
        for i, a in enumerate(layouts(n, k)):
            for j, b in enumerate(layouts(k, m)):
                if 0 in (i, j) or i == j or (n, k, m) == (128, 64, 128):
                    agree(n, k, m, a, b)

def derivatives():
    "autograd, twice; forward mode; vmap; another dtype; what is not a number stays so"
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

print(processor.matmul_library(), len(processor._KERNELS))
products()
derivatives()
print("oneDNN" if processor._use_onednn() else "absent", len(processor._KERNELS))
products()
derivatives()
print("agree")
"""


@pytest.mark.long
def test_products_are_right_with_either_library() -> None:
    """BENCH_MATMUL=torch keeps torch's own products on every machine; then oneDNN replaces them.

    With both, products agree in every layout of the operands, with biases and scales. So do
    derivatives of first and second order, forward mode and vmap.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::FutureWarning", "-c", AGREE],
        capture_output=True,
        text=True,
        env={**os.environ, "BENCH_MATMUL": "torch"},
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    own, other, last = done.stdout.splitlines()
    assert (own, last) == ("torch's own 0", "agree")
    if other == "absent 0":
        pytest.skip("this torch has no oneDNN product")
    assert other == "oneDNN 1"


def toy_files() -> SimpleNamespace:
    """A data set with the toy data."""
    data = toy_data(n=64, test=64)
    shape = tuple(data.train_x.shape[1:])
    return SimpleNamespace(load=lambda folder: data, shape=shape, classes=data.classes)


@pytest.mark.usefixtures("tf32")
def test_no_training_rounds_the_factors_of_float32_products() -> None:
    files = toy_files()
    parts = [(kind, kind.Params()) for kind in (rule_class("dfa"), ResMLP)]
    recipe = {**TRAINING, "threads": 1, "deterministic": False, "compile": False}
    build([*parts, (lambda params: files, None)], recipe, {"limit": None}, 1, None)
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


class Masked(ResMLP):
    def __init__(self, params: Any, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        self.blocks[0].register_buffer("mask", torch.ones(2), persistent=False)


@pytest.mark.usefixtures("tf32")
def test_the_initial_tensors_are_all_that_the_network_has() -> None:
    """Also buffers that are in no state_dict: else a constant would count as moved."""
    files = toy_files()
    parts = [(kind, kind.Params()) for kind in (rule_class("dfa"), Masked)]
    recipe = {**TRAINING, "threads": 1, "deterministic": False, "compile": False}
    built = build([*parts, (lambda params: files, None)], recipe, {"limit": None}, 1, None)
    assert built.initial.keys() == tensors_of(built.net).keys()
    assert torch.equal(built.initial["blocks.0.mask"], torch.ones(2))


def test_without_a_compiler_the_blocks_train_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processor, "compiler_fault", lambda device: "InvalidCxxCompiler: none")
    files = toy_files()
    parts = [(kind, kind.Params()) for kind in (rule_class("dfa"), ResMLP)]
    weights = []
    for compiled in (False, True):
        recipe = {**TRAINING, "threads": 1, "deterministic": False, "compile": compiled}
        made = build([*parts, (lambda params: files, None)], recipe, {"limit": None}, 1, None)
        data = made.data.training
        made.method.step(data.train_x[:32], data.train_y[:32], 0)
        weights.append(torch.cat([p.detach().flatten() for p in made.net.parameters()]))
    assert torch.equal(*weights)
    assert capsys.readouterr().out.count("InvalidCxxCompiler: none") == 1


def test_large_states_get_pages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *call: calls.append(call), malloc_trim=lambda size: 0)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    memory.spare_memory([(256,), (65, 128)], 128)
    assert calls == []
    memory.spare_memory([(32, 32, 32), (256,)], 128)
    assert calls == [(memory.M_MMAP_THRESHOLD, memory.APART)]


@pytest.mark.long
def test_the_library_does_not_depend_on_the_default_type() -> None:
    code = "import torch; from bench_core.training import processor; "
    code += "print(processor.matmul_library())"
    told = {
        subprocess.run(
            [sys.executable, "-c", f"import torch; torch.set_default_dtype({kind}); {code}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kind in ("torch.float32", "torch.float64")
    }
    assert len(told) == 1
