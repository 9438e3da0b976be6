"""Compute the critical values of `analysis/verdicts/ranks.py` by simulation, and check them.

    python benchmarks/rank_points.py table    # the table; a few hours on one core
    python benchmarks/rank_points.py table 2 3 4    # its rows of these numbers of seeds
    python benchmarks/rank_points.py power    # the margins beyond them that a power of 80 % needs
    python benchmarks/rank_points.py check    # family-wise error and power, printed as Markdown

All rules have the same mean, and unequal deviations: T = max over pairs of |x̄_i − x̄_j| / √(v_ij/n),
v_ij the floored variance of `ranks`. A critical value is the largest 95 % quantile of T over
deviations: the `patterns` (k equal ones beside smaller ones, three levels, geometric and log-normal
sequences), and a random climb from the best of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence

import numpy as np

from bench_core.analysis.verdicts import ranks

SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
RULES = (2, 3, 4, 5, 6, 8, 10, 13, 18, 26, 40)
DRAWS = 40_000
FINAL = 400_000  # of the few deviations that may be the worst
CLIMB = 40  # steps
# accuracies of the published audit: bp, fa, ep, dfa, credit_bridge, state_bridge
MEANS = (0.615, 0.401, 0.316, 0.306, 0.289, 0.205)
DEVIATIONS = (0.004, 0.009, 0.037, 0.008, 0.031, 0.039)


def patterns(rules: int) -> Iterator[np.ndarray]:
    """Yield deviations of the rules, the largest first."""
    index = np.arange(rules)
    for ratio in (0.001, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95):
        yield np.maximum(ratio**index, 1e-3)
    for large in sorted({1, 2, 3, 4, 6, 9, 13, 20, rules} & set(range(1, rules + 1))):
        for low in (0.001, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25):
            yield np.where(index < large, 1.0, low)
    for middle in (0.01, 0.02, 0.06, 0.1, 0.2):
        yield np.where(index < 1, 1.0, np.where(index < rules - 1, middle, middle / 10))
    draw = np.random.default_rng(rules)
    for spread in (0.5, 1.0, 1.5, 2.0):
        yield np.sort(np.exp(draw.normal(0.0, spread, rules)))[::-1]


def largest(values: np.ndarray) -> np.ndarray:
    """Return T of each draw; values has the shape (draws, rules, seeds)."""
    _, rules, seeds = values.shape
    mean = values.mean(2)
    rest = values - mean[:, :, None]
    product = rest @ rest.transpose(0, 2, 1)
    one, other = np.triu_indices(rules, 1)
    square = np.einsum("dmm->dm", product)
    variance = np.maximum(square[:, one] + square[:, other] - 2 * product[:, one, other], 0.0)
    variance /= seeds - 1
    floored = np.maximum(variance, variance.mean(1, keepdims=True))
    return (np.abs(mean[:, one] - mean[:, other]) / np.sqrt(floored / seeds)).max(1)


def drawn(deviations: np.ndarray, seeds: int, draws: int, draw: np.random.Generator) -> np.ndarray:
    """Return T for rules of equal means with these deviations."""
    step = max(1, 3_000_000 // len(deviations) ** 2)
    sizes = [min(step, draws - start) for start in range(0, draws, step)]
    shape = (len(deviations), seeds)
    return np.concatenate(
        [largest(draw.standard_normal((n, *shape)) * deviations[:, None]) for n in sizes]
    )


def critical(rules: int, seeds: int) -> float:
    """Return the critical value: the largest quantile of all deviations, searched, then redrawn."""
    step = np.random.default_rng([rules, seeds])

    def point(deviations: np.ndarray, draws: int, start: int) -> float:
        draw = np.random.default_rng([rules, seeds, start])  # equal starts: the same draws
        return float(np.quantile(drawn(deviations, seeds, draws, draw), 0.95))

    rough = [(point(each, DRAWS // 4, 0), each) for each in patterns(rules)]
    candidates = [each for _, each in sorted(rough, key=lambda item: item[0])[-3:]]
    best = max(candidates, key=lambda each: point(each, DRAWS, 1))
    height = point(best, DRAWS, 1)
    for _ in range(CLIMB):
        moved = step.random(rules) < max(0.3, 1 / rules)
        trial = best * np.exp(moved * step.normal(0.0, 0.6, rules))
        if (reached := point(trial, DRAWS, 1)) > height:
            best, height = trial, reached
    return max(point(each, FINAL, 2) for each in (*candidates, best))


def table(rows: Sequence[int]) -> None:
    for seeds in rows or SEEDS:
        row = ", ".join(f"{critical(rules, seeds):.2f}" for rules in RULES)
        print(f"    {seeds}: ({row}),", flush=True)


def power(rows: Sequence[int]) -> None:
    """Print the rows of `ranks.BEYOND`: equal deviations, and one pair whose means differ."""
    draw = np.random.default_rng(11)
    for seeds in rows or sorted(ranks.POINTS):
        needed = []
        for rules in ranks.RULES:
            draws = min(200_000, int(1e8 / rules / seeds))
            point, beyond = ranks.critical(rules, seeds), []
            for _ in range(4):
                x = draw.standard_normal((draws // 4, rules, seeds)) / math.sqrt(2)
                own = x - x.mean(2, keepdims=True)
                every = rules * (own**2).sum((1, 2)) - (own.sum(1) ** 2).sum(1)
                typical = every / (rules * (rules - 1) / 2) / (seeds - 1)
                pair = x[:, 0] - x[:, 1]
                variance = np.maximum(pair.var(1, ddof=1), typical)
                beyond.append(point * np.sqrt(variance) - pair.mean(1) * math.sqrt(seeds))
            needed.append(np.quantile(np.concatenate(beyond), 0.8) - point)
        print(f"    {seeds}: ({', '.join(f'{each:.2f}' for each in needed)}),", flush=True)


def check() -> None:
    """Print the family-wise error under equal means, and how often bp is alone at rank 1."""
    draw = np.random.default_rng(7)
    print("| rules | seeds | deviations | any pair separated | tables |")
    print("|---|---|---|---|---|")
    for rules, seeds in ((2, 3), (6, 2), (6, 3), (6, 5), (26, 3), (26, 5)):
        draws = DRAWS if rules < 20 else DRAWS // 10
        random = [np.exp(draw.normal(0, spread, rules)) for spread in np.linspace(0.2, 3, 20)]
        shares = [
            (drawn(np.asarray(each), seeds, draws, draw) > ranks.critical(rules, seeds)).mean()
            for each in (np.ones(rules), *random)
        ]
        print(f"| {rules} | {seeds} | equal | {shares[0]:.4f} | {draws} |")
        print(f"| {rules} | {seeds} | worst of 20 random | {max(shares[1:]):.4f} | {draws} |")
    for seeds in (2, 3, 5):
        tables = [
            ranks.rank([dict(enumerate(row)) for row in values.tolist()]).intervals
            for values in np.asarray(MEANS)[:, None]
            + np.asarray(DEVIATIONS)[:, None] * draw.standard_normal((2000, len(MEANS), seeds))
        ]
        names = ("bp", "fa", "ep", "dfa", "credit_bridge", "state_bridge")
        alone = sum(table[0] == (1, 1) for table in tables) / len(tables)
        middle = [tuple(np.median([t[k] for t in tables], 0).astype(int)) for k in range(6)]
        shown = ", ".join(
            f"{name} {low}–{high}" for name, (low, high) in zip(names, middle, strict=True)
        )
        print(f"\nn = {seeds}: bp at 1–1 in {alone:.4f} of 2,000 audits; median intervals {shown}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["table", "power", "check"])
    parser.add_argument("seeds", type=int, nargs="*", help="rows of the table; none: all")
    chosen = parser.parse_args()
    if chosen.what == "check":
        check()
    else:
        {"table": table, "power": power}[chosen.what](chosen.seeds)
