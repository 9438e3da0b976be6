"""training.precision: the products of a step in bfloat16, everything else in float32."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import TINY, Here
from nets import METHODS, TRAINING, ready, resmlp, rule, toy_data
from torch.nn import functional as F

from bench_core.results.scan import scan
from bench_core.training.loop import train
from bench_core.training.precision import products_in


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def products() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each kind of product, and the same of rounded factors in float64."""
    draws = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(s, generator=draws) for s in ((6, 8), (5, 8), (5,)))
    image, kernel = (
        torch.randn(2, 3, 7, 7, generator=draws),
        torch.randn(4, 3, 3, 3, generator=draws),
    )
    q = torch.randn(2, 2, 4, 8, generator=draws)
    X, W, B, G, K, Q = (rounded(t).double() for t in (x, w, b, image, kernel, q))
    return [
        (x @ w.t(), X @ W.t()),
        (F.linear(x, w, b), F.linear(X, W, B)),
        (torch.einsum("nd,cd->nc", x, w), X @ W.t()),
        (q @ q.transpose(-1, -2), Q @ Q.transpose(-1, -2)),
        (x @ x[0], X @ X[0]),
        (F.conv2d(image, kernel), F.conv2d(G, K)),
        (F.conv2d(image, kernel, padding="same"), F.conv2d(G, K, padding="same")),
        (F.scaled_dot_product_attention(q, q, q), F.scaled_dot_product_attention(Q, Q, Q)),
    ]


def test_products_have_factors_and_results_of_bfloat16_in_float32() -> None:
    with products_in("bfloat16", "cpu"):
        pairs = products()
    for one, exact in pairs:
        assert one.dtype == torch.float32
        assert torch.equal(one, rounded(one))
        # half a unit in the last of 8 bits, and more for attention, whose weights are rounded too
        assert torch.allclose(one.double(), exact, rtol=2**-7, atol=2**-6)
    assert not any(torch.equal(one, rounded(one)) for one, _ in products()), "float32 outside"


def test_only_products_are_rounded() -> None:
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    calls = (
        lambda: F.layer_norm(x, (32,)),
        lambda: F.gelu(x),
        lambda: F.cross_entropy(x, torch.arange(64) % 32),
        lambda: x.square().mean(1).sqrt(),
        lambda: F.softmax(x, 1),
        lambda: x.double() @ x.double().t(),
    )
    for call in calls:
        with products_in("bfloat16", "cpu"):
            inside = call()
        assert torch.equal(inside, call())


def test_backward_products_are_rounded_and_gradients_are_float32() -> None:
    draws = torch.Generator().manual_seed(2)
    x, g = torch.randn(16, 8, generator=draws), torch.randn(16, 4, generator=draws)
    w = torch.randn(4, 8, generator=draws, requires_grad=True)
    with products_in("bfloat16", "cpu"):
        F.linear(x, w).backward(g)
    assert w.grad is not None
    assert w.grad.dtype == torch.float32
    assert torch.allclose(w.grad, rounded(rounded(g).t() @ rounded(x)), rtol=2**-7)


@pytest.mark.parametrize("name", METHODS)
def test_every_rule_trains_with_float32_state(name: str) -> None:
    data = toy_data(n=64, test=64)
    method, net = ready(rule(name), resmlp(seed=3), data, seed=5, **TRAINING)
    recipe = {**TRAINING, "epochs": 1, "precision": "bfloat16"}
    row = train(method, net, data, recipe, 5)
    assert row.train_loss is not None
    own = [*net.state_dict().values(), *method.state_dict().values()]
    moments = [
        v for u in method.tools.updaters for s in u.optimiser.state.values() for v in s.values()
    ]
    for value in [*own, *moments]:
        assert not value.is_floating_point() or value.dtype == torch.float32


@pytest.mark.long
def test_precision_is_part_of_the_cell_and_needs_a_device_that_has_it(here: Here) -> None:
    suite = here.cwd / "tiny.yaml"
    suite.write_text(TINY + "floors: false\n")
    for option in ((), ("--set", "training.precision=bfloat16")):
        assert here("run", suite, *option).returncode == 0
    records = [run.record for run in scan([here.cwd / "results"]).runs]
    assert sorted(r.cell.training["precision"] for r in records) == ["bfloat16", "float32"]
    assert len({r.identity for r in records}) == 2
    assert len({r.train_loss for r in records}) == 2
    refused = here(
        "plan", suite, "--set", "training.precision=bfloat16", "--set", "training.device=mps"
    )
    assert refused.returncode == 2
    assert "must be float32 on mps: bfloat16 needs cpu or cuda" in refused.stderr


@pytest.mark.long
def test_verdicts_on_digits_agree_in_both_precisions(here: Here) -> None:
    """bp clears its floor and dfa is walked back, as in the quickstart."""
    suite = here.cwd / "digits.yaml"
    suite.write_text(
        "name: digits\narch: {name: resmlp, width: 32, depth: 2}\ndataset: digits\n"
        "methods: [bp, dfa]\nseeds: [42, 123, 456]\n"
        "training: {epochs: 2, batch_size: 32}\n"
        "matrix: {training.precision: [float32, bfloat16]}\n"
    )
    assert here("run", suite).returncode == 0
    board = json.loads(here("leaderboard", "results", "--format", "json").stdout)
    one, other = (
        {row["label"]: row["verdict"] for row in group["rows"]}
        for group in board["suites"][0]["groups"]
    )
    assert one == other
    assert len(set(one.values())) > 1, one
