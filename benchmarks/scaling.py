"""Measure how the cost of a training step and of a plan grows: the exponents of a power law.

    seconds ≈ c · value^exponent        least squares in log-log over all values

A step of resmlp on CIFAR-10 is timed in seconds of CPU on one thread, at widths, depths and batch
sizes around those of audit6 (256, 4, 128). The values take turns, `--repeats` times, rule by
rule, and the medians are fitted. `bench plan`, start-up included, is timed on suites of 1,000,
3,000 and 10,000 cells.

    python benchmarks/scaling.py --data-dir DIR [--rule NAME …]
"""

from __future__ import annotations

import math
import re
import statistics
import tempfile
import time
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.datasets.cifar import Cifar10
from bench_plugins.methods import bench_methods
from epoch import TRAINING, command_line, machine, one_thread
from running import BIG, run
from tabulate import tabulate

from bench_core.api import Method
from bench_core.training.data import Data
from bench_core.training.setup import set_up

USUAL = {"width": 256, "depth": 4, "batch": 128}
VALUES = {
    "width": (64, 128, 256, 512, 1024),
    "depth": (2, 4, 8, 16),
    "batch": (32, 64, 128, 256, 512),
}
RULES = ("bp", "dfa", "state_bridge", "credit_bridge", "ep", "predictive_coding")


def built(rule: str, data: Data, width: int, depth: int, batch: int) -> Method:
    torch.manual_seed(0)
    net = ResMLP(ResMLP.Params(width=width, depth=depth), data.train_x.shape[1:], data.classes)
    kind = resolve_name(next(str(e.target) for e in bench_methods() if e.name == rule))
    method: Method = kind(kind.Params())
    set_up(method, net, data, TRAINING | {"batch_size": batch}, 0)
    return method


def steps(rule: str, data: Data, name: str, repeats: int) -> dict[int, float]:
    """Return the median CPU seconds of a step at each value of width, depth or batch."""
    cases = {}
    for value in VALUES[name]:
        sizes = USUAL | {name: value}
        draws = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        batch = next(data.epoch(sizes["batch"], *draws))
        cases[value] = (built(rule, data, **sizes), batch)
    times: dict[int, list[float]] = {value: [] for value in cases}
    for number in range(repeats + 1):
        for value, (method, (x, y)) in cases.items():
            started = time.process_time()
            method.step(x, y, 50)
            if number:  # the first step warms up
                times[value].append(time.process_time() - started)
    return {value: statistics.median(own) for value, own in times.items()}


def plans(repeats: int) -> dict[int, float]:
    """Return the median CPU seconds of `bench plan`, start-up included, by number of cells."""
    spent: dict[int, list[float]] = {500 * seeds: [] for seeds in (2, 6, 20)}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for _ in range(repeats):
            for cells, own in spent.items():
                seeds = f"seeds: {list(range(1, cells // 500 + 1))}"
                (home / "big.yaml").write_text(re.sub("(?m)^seeds: .*$", seeds, BIG))
                own.append(run(home, "plan", "big.yaml")[1])
    return {cells: statistics.median(own) for cells, own in spent.items()}


def exponent(seconds: dict[int, float]) -> float:
    """Fit the slope of log seconds against log value."""
    x, y = ([math.log(v) for v in values] for values in (seconds, seconds.values()))
    return statistics.linear_regression(x, y).slope


def shown(seconds: dict[int, float]) -> str:
    return " ".join(f"{1000 * value:.3g}" for value in seconds.values())


def main() -> None:
    parser = command_line(__doc__, 15)
    parser.add_argument("--rule", nargs="+", default=RULES)
    arguments = parser.parse_args()
    library = one_thread()
    data = Cifar10(Cifar10.Params()).load(arguments.data_dir)
    print(machine(library, "CPU time", f"n={arguments.repeats}"))
    headers = [f"{name} {' '.join(map(str, values))}, ms" for name, values in VALUES.items()]
    rows: list[list[Any]] = []
    for rule in arguments.rule:
        row: list[Any] = [rule]
        for name in VALUES:
            measured = steps(rule, data, name, arguments.repeats)
            row += [f"{exponent(measured):.2f}", shown(measured)]
        rows.append(row)
    columns = [part for name, text in zip(VALUES, headers, strict=True) for part in (name, text)]
    print(tabulate(rows, headers=["rule", *columns], tablefmt="github", disable_numparse=True))
    cells = plans(3)
    print(f"bench plan: {cells} s of CPU by number of cells, exponent {exponent(cells):.2f}")


if __name__ == "__main__":
    main()
