"""Time a step of dfa on resmlp that is written by hand, beside the runner's step.

The step by hand has no autograd, no modules, no checks and no optimiser object: it calls torch's
kernels in order, with the closed form of every gradient. No eager step does less, so its time is
a lower bound of the runner's. First it trains five steps and must end at the runner's parameters.

Printed: CPU time of a step on one thread, the smallest and the median of n; its ratio to the sum
of the parts (products, fused AdamW, augmentation), each timed the same way.

    python benchmarks/by_hand.py --data-dir DIR
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import islice

import epoch as parts
import torch
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.datasets.cifar import Cifar10
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from torch import Tensor
from torch.nn import functional as F

from bench_core.training.rng import stream

STEPS = 20  # per measurement
Batch = tuple[Tensor, Tensor]


class ByHand:
    """The network, the optimiser's state and the feedback of a run, as plain tensors."""

    def __init__(self, net: ResMLP, method: DirectFeedbackAlignment) -> None:
        self.groups = [list(own) for own in net.groups().values()]
        self.parameters = [p for own in self.groups for p in own]
        self.mean, self.square = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.steps = [torch.zeros(()) for _ in self.parameters]
        self.feedback = [method.kept[f"B_{layer}"] for layer in range(net.depth)]

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor) -> None:
        embed, *blocks, readout = self.groups
        aten, n, width = torch.ops.aten, len(x), [len(embed[1])]
        x = x.view(n, -1)
        h = torch.addmm(embed[1], x, embed[0].t())
        saved = []
        for gain, shift, w1, b1, w2, b2 in blocks:
            z, mean, scale = aten.native_layer_norm(h, width, gain, shift, 1e-5)
            before = torch.addmm(b1, z, w1.t())
            after = F.gelu(before)
            saved.append((h, z, mean, scale, before, after))
            h = h + torch.addmm(b2, after, w2.t())
        gain, shift, head, bias = readout
        z, mean, scale = aten.native_layer_norm(h, width, gain, shift, 1e-5)
        error = F.softmax(torch.addmm(bias, z, head.t()), 1) - F.one_hot(y, len(bias))
        top = error / n
        last = aten.native_layer_norm_backward(
            top.mm(head), h, width, mean, scale, gain, shift, [False, True, True]
        )[1:]
        last += (top.t().mm(z), top.sum(0))
        credits = [error.mm(B) for B in self.feedback]
        credits = [a / ((a.square().mean(1, keepdim=True).sqrt() + 1e-6) * n) for a in credits]
        gradients = [credits[0].t().mm(x), credits[0].sum(0)]
        for (gain, shift, w1, _, w2, _), block, c in zip(blocks, saved, credits, strict=True):
            h, z, mean, scale, before, after = block
            inner = aten.gelu_backward(c.mm(w2), before)
            norm = aten.native_layer_norm_backward(
                inner.mm(w1), h, width, mean, scale, gain, shift, [False, True, True]
            )[1:]
            own = [inner.t().mm(z), inner.sum(0), c.t().mm(after), c.sum(0)]
            gradients += [*norm, *own]
        self._update([*gradients, *last])

    def _update(self, gradients: list[Tensor]) -> None:
        norms = iter(torch.stack(torch._foreach_norm(gradients)).tolist())
        factors: list[float] = []
        for own in self.groups:
            norm = sum(next(norms) ** 2 for _ in own) ** 0.5
            factors += [min(1.0, 1.0 / (norm + 1e-6))] * len(own)
        torch._foreach_mul_(gradients, factors)
        torch._foreach_add_(self.steps, 1)
        torch._fused_adamw_(
            self.parameters, gradients, self.mean, self.square, [], self.steps, lr=1e-3,
            beta1=0.9, beta2=0.999, weight_decay=0.01, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


def timed(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds per step of each call, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.process_time()
            call()
            times[name].append(1000 * (time.process_time() - started) / STEPS)
    return times


def main() -> None:
    arguments = parts.command_line(__doc__, 25).parse_args()
    library = parts.one_thread()
    cifar = Cifar10(Cifar10.Params())
    cifar.prepare(arguments.data_dir)
    data = cifar.load(arguments.data_dir)

    def batches() -> list[Batch]:
        return list(
            islice(data.epoch(parts.N, stream(0, "order"), stream(0, "augmentation")), STEPS)
        )

    batch = batches()
    net, method = parts.fresh(data)
    by_hand = ByHand(*parts.fresh(data))
    for x, y in batch[:5]:
        method.step(x, y, 0)
        by_hand.step(x, y)
    for own, other in zip(by_hand.parameters, net.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    times = timed(
        {
            "step by hand": lambda: [by_hand.step(x, y) for x, y in batch],
            "runner's step": lambda: [method.step(x, y, 0) for x, y in batch],
            "matrix products": lambda: parts.gemms(STEPS),
            "fused AdamW": lambda: [method.tools.updater.optimiser.step() for _ in batch],
            "augmentation": batches,
        },
        arguments.repeats,
    )
    print(parts.machine(library))
    for name, values in times.items():
        low, middle = min(values), statistics.median(values)
        print(f"{name:16} {low:6.2f} ms, median {middle:6.2f} ms, n={len(values)}")
    for statistic in (min, statistics.median):
        of = {name: statistic(values) for name, values in times.items()}
        whole = of["matrix products"] + of["fused AdamW"] + of["augmentation"]
        by, run = ((of[k] + of["augmentation"]) / whole for k in ("step by hand", "runner's step"))
        ratios = f"step by hand {by:.2f}, runner's step {run:.2f}"
        print(f"{statistic.__name__:7} {ratios} times the sum of the parts")


if __name__ == "__main__":
    main()
