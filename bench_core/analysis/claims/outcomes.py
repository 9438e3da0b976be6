"""Judge the claims of the results of a suite, with the epochs of their runs."""

from __future__ import annotations

from bench_core.analysis import distance
from bench_core.analysis.claims.hold import ClaimResult, judge_claims
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.results import epochs, store
from bench_core.results.epochs import Epoch
from bench_core.results.record import RunRecord

CURVES = 16 << 20  # bytes of epochs.jsonl whose rows are kept while claims are judged


def claims_of(results: SuiteResults) -> tuple[list[ClaimResult], list[str]]:
    """Judge every claim of a suite; also a line for each run whose epochs are unreadable."""
    troubles: list[str] = []
    cache: dict[str, tuple[Epoch, ...]] = {}
    kept = 0

    def rows(record: RunRecord) -> tuple[Epoch, ...]:
        nonlocal kept
        if record.identity not in cache:
            entry = epochs.stated(record)
            size = entry.bytes if entry else 0
            if kept + size > CURVES:
                cache.clear()
                kept = 0
            kept += size
            folder = results.run_folder(record)
            try:
                cache[record.identity] = epochs.read(folder, entry)
            except store.Unreadable as reason:
                troubles.append(f"{folder}: the epochs are not counted: {reason}")
                cache[record.identity] = ()
        return cache[record.identity]

    if any(claim.parsed.name == distance.NAME for claim in results.expect):
        results = distance.attach(results)
    settings = results.settings
    groups = judge_all(results.records, settings)
    outcomes = judge_claims(
        results.expect, groups, settings, results.claimed_for, rows, results.diagnostics
    )
    return outcomes, troubles
