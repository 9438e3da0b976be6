"""Explain a run: why it was run, what the last plan decided, how its nearest neighbour differs.

The distance of two runs is the number of settings in which their cells differ, plus one each if
their code or their data differ. The environment is shown but not counted. Pure functions of
stored records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bench_core.analysis.find_run import also_in
from bench_core.analysis.gather import gather
from bench_core.analysis.verdicts.labels import label
from bench_core.results import ledger, store, suite_folder
from bench_core.results.hashing import flat, plain_text
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.scan import Stored

# of an environment: shown elsewhere, or no cause of a difference
UNSHOWN = {"", "commit", "dirty", "threads", "deterministic", "device"}


def differences(one: RunRecord, other: RunRecord) -> list[str]:
    """Write a line per difference from `other` to `one`; the settings come first."""
    lines = _changed(other.cell.settings(), one.cell.settings())
    for name in sorted(one.code.keys() | other.code.keys()):
        mine, theirs = one.code.get(name, {}), other.code.get(name, {})
        if mine.get("digest") == theirs.get("digest"):
            continue
        version = _changed({"version": theirs.get("version")}, {"version": mine.get("version")})
        files, before = mine.get("files"), theirs.get("files")
        if files and before:
            names = sorted(files | before)
            changed = [module for module in names if files.get(module) != before.get(module)]
            modules = f"changed: {', '.join(changed)}"
        else:
            modules = "changed; which module is not known: one of them is from an older bench"
        lines.append(f"code of {name}: {modules}" + "".join(f"; {line}" for line in version))
    if one.data_checksum != other.data_checksum:
        before, now = other.data_checksum or "none", one.data_checksum or "none"
        lines.append(f"data: checksum {before} → {now}")
    return lines


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def shown(values: dict[str, Any], key: str) -> str:
        return plain_text(values[key]) if key in values else "not set"

    return [
        f"{key}: {shown(before, key)} → {shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def elsewhere(one: RunRecord, other: RunRecord) -> list[str]:
    """Write a line per difference of the environments, which are no part of the identity."""
    before, now = (
        {key: value for key, value in flat(record.environment).items() if key not in UNSHOWN}
        for record in (other, one)
    )
    if bool(before) != bool(now):
        return [f"none recorded of {'this' if before else 'that'} run, which was cut short"]
    return _changed(before, now)


def nearest(run: Stored, others: Sequence[Stored]) -> Stored | None:
    """Return the run with the fewest differences, and of several the first by identity."""

    def distance(other: Stored) -> tuple[int, str]:
        return len(differences(run.record, other.record)), other.record.identity

    rest = [other for other in others if other.record.identity != run.record.identity]
    return min(rest, key=distance, default=None)


def explained(run: Stored, others: Sequence[Stored]) -> dict[str, Any]:
    """Return what `bench why` says of a run, as plain values.

    decision   what the last `bench run` of its suite decided about it; None: it has no part in it
    nearest    the run with the fewest differences; changes lead from it to this run
    counted    whether the tables of its folder count it
    """
    record, cell = run.record, run.record.cell
    rule = label(cell.method, (), record.defaults())
    parts = (rule, cell.arch.short, cell.dataset.short, f"seed {cell.seed}")
    decisions = suite_folder.saved(run.folder.parent).decisions
    decision = decisions.get(record.identity)
    neighbour = nearest(run, others)
    return {
        "identity": record.identity,
        "name": " · ".join(parts),
        "status": record.status,
        "reason": record.reason,
        "why": record.why,
        "finished": record.finished,
        "resumed": record.resumed,
        "counted": _is_counted(run),
        "planned": bool(decisions),
        "decision": None if decision is None else decision.model_dump(),
        "nearest": None if neighbour is None else _nearest(record, neighbour.record),
    }


def _is_counted(run: Stored) -> bool:
    suites, _ = gather([run.folder.parent])
    return any(own.identity == run.record.identity for suite in suites for own in suite.records)


def _was_replaced(run: Stored) -> bool:
    """Decide whether a later search has another winner, by the ledger beside a run."""
    try:
        return cell_key(run.record.cell) in ledger.read(run.folder.parent).replaced()
    except store.Unreadable:
        return False


def _nearest(record: RunRecord, other: RunRecord) -> dict[str, Any]:
    return {
        "identity": other.identity,
        "name": f"{label(other.cell.method, (), other.defaults())} · seed {other.cell.seed}",
        "changes": differences(record, other),
        "environment": elsewhere(record, other),
    }


def explain(run: Stored, others: Sequence[Stored]) -> list[str]:
    """Write the lines of `bench why`."""
    about = explained(run, others)
    reason = f" ({about['reason']})" if about["reason"] else ""
    lines = [f"{about['identity']}  {about['name']}: {about['status']}{reason}"]
    if places := also_in(run.record, run.folder, ((r.record, r.folder) for r in others)):
        lines.append(f"also in {places}")
    if not about["counted"]:
        since = "a later run used other code of the rule, the network or the data set"
        if _was_replaced(run):
            since = "it is of an earlier winner of `bench tune`, and a later search has another"
        lines.append(f"no table counts it: {since}")
    lines.append(f"finished {about['finished'] or 'at an unknown time'}")
    why = about["why"] or "not recorded"
    if not about["resumed"]:  # the plan expected it, and the worker could not use the saved state
        expected = "; continues after (epoch [0-9]+)"
        why = re.sub(expected, r"; was to continue after \1, but began anew", why)
    lines.append(f"why it was run: {why}")
    if about["resumed"]:
        lines.append(f"resumed after epoch {', '.join(map(str, about['resumed']))}")
    decision = about["decision"]
    if isinstance(decision, dict) and decision.get("action") == "reuse":
        lines.append(f"reused at {decision.get('at')}: {decision.get('why')}")
    elif about["planned"] and decision is None:
        lines.append(
            "not part of the last `bench run` of its suite, which had other methods, seeds, code, "
            "data or settings"
        )
    other = about["nearest"]
    if other is None:
        return [*lines, "no other run to compare it with"]
    name = f"{other['identity'][:12]}  {other['name']}"
    lines.append(f"nearest run: {name}; changes from it to this run:")
    lines += [f"  {line}" for line in other["changes"]]
    environment = "  environment, not part of the identity: "
    return [*lines, *(f"{environment}{line}" for line in other["environment"])]
