"""Say what to do next with a suite; the text is raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import count, islice

from bench_core.analysis.verdicts.kinds import SINGLE_SEED, TRUSTWORTHY, WALKED_BACK
from bench_core.analysis.verdicts.rows import Group
from bench_core.names import FILE, OURS, distribution_of
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import plural
from bench_core.report.words.rows import lacks_seeds
from bench_core.results.record import RunRecord
from bench_core.results.status import STATUSES


def next_steps(
    groups: Sequence[Group],
    name: str,
    planned: Collection[str] | None = None,
    own_seeds: Sequence[int] = (),
) -> list[str]:
    """Say what to do next with a suite, a line per command.

    planned    identities of the cells of the command that ends; of others it trains none again
    own_seeds  those of the suite's file
    """
    rows = [row for group in groups for row in group.rows]
    tuned = any(row.tuned is not None for row in rows)  # `bench run` would train without a search
    command = "bench tune" if tuned else "bench run"
    shipped = all(run.record.shipped for row in rows for run in row.runs)
    own = (run.record for row in rows for run in row.runs if not run.record.shipped)
    runs = [record for record in own if planned is None or record.identity in planned]
    if any(record.status == "conflict" for record in runs):
        text = "trains the runs in conflict again; a result that it confirms counts"
        return [f"Next: `bench replicate RESULTS --sample 100%` {text}"]
    if again := sum(STATUSES[record.status].reused == "never" for record in runs):
        rest = "and any that has not begun"
        return [
            f"Next: the same `{command}` again trains {plural(again, 'unfinished run')}, {rest}"
        ]
    if failed := [record for record in runs if STATUSES[record.status].failure]:
        return [f"Next: {_retry(failed, command)}; `bench check` tests a rule of yours in a second"]
    foreign = [row for row in rows if not row.method.name.startswith(f"{OURS}/")]
    if any(all(run.record.status == "diverged" for run in row.runs) for row in foreign):
        return [
            "Next: `bench check` tests a rule of yours in a second, and names its credits that "
            "are not finite"
        ]
    single = [row for row in rows if row.verdict.kind == SINGLE_SEED and len(row.runs) == 1]
    if single and shipped:
        return [f"Next: a verdict needs more seeds: `bench plan {name}` says what they cost"]
    if any(not run.record.shipped for row in single for run in row.runs):
        lacking = _lacking(groups) or _free(groups, own_seeds) or (42, 123, 456)
        more = _with_seeds(lacking, tuned)
        return [f"Next: a verdict needs more seeds: the same `{command}` with {more}"]
    judged = any(row.verdict.kind in (TRUSTWORTHY, WALKED_BACK) for row in rows)
    if groups and not judged and all(group.blind is not None or _mute(group) for group in groups):
        seeds = "add seeds, or " * any(row.replaced and lacks_seeds(row) for row in rows)
        change = "change the epochs, the data or the task"
        return [f"Next: {seeds}{change}: this recipe cannot judge its rules"]
    run_it = f"{command} {name}" if shipped else f"the same `{command}` with"
    free = _free(groups, own_seeds) or _free(groups, count(1))
    seeds = f"add seeds: {run_it} {_with_seeds(free, tuned)}"
    seeds += " trains these alone" * (not shipped)
    if foreign:
        return [f"Next, {seeds}"]
    return [
        "Next, begin a rule of yours: bench new method my_rule; install it: pip install -e "
        f"bench-my-rule; add it to this table: {run_it} --method my_rule",
        f"or {seeds}",
    ]


def _retry(failed: Sequence[RunRecord], command: str) -> str:
    """Say how failed runs are trained again; a changed rule file makes new cells."""
    files = [distribution_of(record.cell.method.name) for record in failed]
    counts = Counter(file if file.endswith(FILE) else "" for file in files)
    named = {file: n for file, n in sorted(counts.items()) if file}
    runs = plural(sum(named.values()), "failed run")
    steps = [f"mend {listed(list(named))}, then the same `{command}` trains {runs} again"]
    steps *= bool(named)
    if others := counts[""]:
        runs = f"{plural(others, 'failed run')} again"
        steps.append(f"mend the cause, then the same `{command}` with --retry-failed trains {runs}")
    return "; ".join(steps)


def _lacking(groups: Sequence[Group]) -> tuple[int, ...]:
    """Return the seeds that a rule with one seed lacks and other rows of its recipe have."""
    return tuple(
        sorted(
            {
                seed
                for group in groups
                for row in group.competing
                if len(row.runs) == 1
                for seed in set(group.seeds) - {row.runs[0].record.cell.seed}
            }
        )
    )


def _mute(group: Group) -> bool:
    """Decide whether all rules lack a floor that is shown to lie above chance."""
    return bool(group.competing) and all(
        row.replaced and row.verdict.unread for row in group.competing
    )


def _free(groups: Sequence[Group], seeds: Iterable[int]) -> tuple[int, ...]:
    """Return the first two seeds that no group has."""
    used = {seed for group in groups for seed in group.seeds}
    return tuple(islice((seed for seed in seeds if seed not in used), 2))


def _with_seeds(seeds: Sequence[int], tuned: bool) -> str:
    """Write the option for seeds; `--seed` of `bench tune` is that of its search."""
    if tuned:
        return f"--set 'seeds={list(seeds)}'"
    return " ".join(f"--seed {seed}" for seed in seeds)
