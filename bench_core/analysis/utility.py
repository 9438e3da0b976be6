"""Count the runs that each way of reporting would walk back: pure functions of judged runs.

    S0      accuracy only: walks nothing back
    S1      walks back where the headline Γ, the mean of Γ_l over all l, is ≤ 0
    S2 … S5 S1, or a | b | c | d fires
    S_full  S1, or any diagnostic of the verdict fires

S1 uses the Γ that a paper would print, even if the reference lies at the floor and Γ means nothing:
the table shows that it decides all the same. A Γ that is not finite walks back; a run without Γ is
counted in `without_gamma`. Only the finished runs of methods and ceilings are counted.
Source: arXiv:2606.21126 (S1 walks back none of five methods, S_full three).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bench_core.analysis.verdicts.rows import Group, Run
from bench_core.suite.protocol import STANDARD

LETTERS = {item.strategy: letter for letter, item in STANDARD.items()}
WORDS = {
    "S0": "accuracy only",
    "S1": "headline Γ ≤ 0",
    **{name: f"S1 or {letter}: {STANDARD[letter].name}" for name, letter in LETTERS.items()},
    "S_full": "S1 or any diagnostic",
}
STRATEGIES = tuple(WORDS)
HEADLINE = "Headline Γ: the mean of Γ_l over all l, the first block included, unlike Γ deep."


@dataclass(frozen=True)
class Decisions:
    """Runs of a row, or of all rows, that each strategy walks back, out of `n` finished runs."""

    label: str
    n: int
    walked_back: dict[str, int]
    without_gamma: int


def headline(run: Run) -> float | None:
    """Return Γ as a paper would print it, the unclamped mean over all layers; None without Γ."""
    item = run.record.measurements.get("alignment")
    return None if item is None else item.value


def walks_back(run: Run, strategy: str) -> bool:
    """Decide whether a strategy of `STRATEGIES` walks a finished run back."""
    if strategy == "S0":
        return False
    gamma = headline(run)
    if gamma is not None and not 0 < gamma < math.inf:
        return True
    fired = run.judgement.fired
    return bool(fired) if strategy == "S_full" else LETTERS.get(strategy) in fired


def decisions(label: str, runs: Iterable[Run]) -> Decisions:
    """Count the runs that each strategy walks back."""
    done = [run for run in runs if run.record.status == "done"]
    counts = {name: sum(walks_back(run, name) for run in done) for name in STRATEGIES}
    without = sum(headline(run) is None for run in done)
    return Decisions(label, len(done), counts, without)


def of_group(group: Group) -> list[Decisions]:
    """Count per method of one recipe, in the leaderboard's order, without floors."""
    return [decisions(row.label, row.runs) for row in group.competing]


def total(groups: Iterable[Group]) -> Decisions:
    """Count over all methods of all recipes."""
    rows = (row for group in groups for row in group.competing)
    return decisions("total", (run for row in rows for run in row.runs))
