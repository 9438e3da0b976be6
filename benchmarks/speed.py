"""Time a training step of every built-in rule on every architecture for CIFAR-10, beside bp's.

Each step is timed in seconds of CPU on one thread, so other work on the machine matters little. The
rules of an architecture take turns, `--repeats` times; the medians are printed as a table of
ratios to bp. A rule that an architecture does not support has a dash. Epoch 50 of 100 is timed,
where every warm-up is over.

    python benchmarks/speed.py --data-dir DIR [--arch NAME …] [--rule NAME …]
"""

from __future__ import annotations

import statistics
import time
from pkgutil import resolve_name
from typing import Any

import torch
from bench_plugins.archs import bench_archs
from bench_plugins.datasets.cifar import Cifar10
from bench_plugins.methods import bench_methods
from epoch import TRAINING, N, command_line, machine, one_thread
from tabulate import tabulate

from bench_core.api import Component, Method
from bench_core.training.data import Data
from bench_core.training.setup import set_up

ARCHS = ("resmlp", "relu_mlp", "small_cnn", "small_resnet", "vit_mini")


def built(rule: Component, arch: Component, data: Data) -> Method | None:
    """Set up a rule on a fresh network; None if the architecture does not support it."""
    torch.manual_seed(0)
    kind, network = resolve_name(str(rule.target)), resolve_name(str(arch.target))
    net = network(network.Params(), data.train_x.shape[1:], data.classes)
    method: Method = kind(kind.Params())
    if method.unsupported(net) is not None:
        return None
    set_up(method, net, data, TRAINING, 0)
    return method


def seconds(arch: Component, data: Data, repeats: int, names: list[str]) -> dict[str, list[float]]:
    """Return the CPU seconds of steps by rule."""
    chosen = [rule for rule in bench_methods() if not names or rule.name in {"bp", *names}]
    methods = {rule.name: built(rule, arch, data) for rule in chosen}
    rules = {name: method for name, method in methods.items() if method is not None}
    times: dict[str, list[float]] = {name: [] for name in rules}
    draws = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    for number, (x, y) in zip(range(repeats + 1), data.epoch(N, *draws), strict=False):
        for name, method in rules.items():
            started = time.process_time()
            method.step(x, y, 50)
            if number:  # the first step warms up
                times[name].append(time.process_time() - started)
    return times


def main() -> None:
    parser = command_line(__doc__, 5)
    parser.add_argument("--arch", nargs="+", default=ARCHS, choices=ARCHS)
    parser.add_argument("--rule", nargs="+", default=[], help="these and bp alone")
    arguments = parser.parse_args()
    library = one_thread()
    data = Cifar10(Cifar10.Params()).load(arguments.data_dir)
    steps = len(data.train_y) // N
    known = {arch.name: arch for arch in bench_archs()}
    columns = {
        name: seconds(known[name], data, arguments.repeats, arguments.rule)
        for name in arguments.arch
    }
    print(machine(library, "CPU time", f"n={arguments.repeats}"))
    median = {
        arch: {rule: statistics.median(values) for rule, values in times.items()}
        for arch, times in columns.items()
    }
    rows: list[list[Any]] = [
        ["bp, s per epoch", *(f"{steps * own['bp']:.1f}" for own in median.values())]
    ]
    measured = {rule for own in median.values() for rule in own}
    for rule in (item.name for item in bench_methods() if item.name in measured):
        ratios = [own[rule] / own["bp"] if rule in own else None for own in median.values()]
        rows.append([rule, *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    print(tabulate(rows, headers=["rule / bp", *median], tablefmt="github", disable_numparse=True))
    spread = [max(v) / min(v) for times in columns.values() for v in times.values()]
    print(
        f"largest / smallest of a rule's steps: median {statistics.median(spread):.2f}, "
        f"at most {max(spread):.2f}"
    )


if __name__ == "__main__":
    main()
