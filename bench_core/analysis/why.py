"""Why a run is there: why it was run, what the last plan did with it, and what sets it apart from its nearest neighbour.

The distance of two runs is the number of settings in which their cells differ, plus one each where their code or their data do;
the environment does not count, it is only told. Pure functions of stored records.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.results import store
from bench_core.results.record import RunRecord
from bench_core.results.scan import Stored, scan

UNTOLD = {
    "commit",
    "dirty",
    "threads",
    "deterministic",
    "device",
}  # of an environment: said elsewhere, or no cause


def find_run(text: str, roots: Sequence[Path]) -> Stored:
    """The run of an identity, or of its first letters, or in a folder. Raises UsageError."""
    if text and Path(text).is_dir():
        try:
            return Stored(store.read(Path(text), sums=True), Path(text))
        except store.Unreadable as reason:
            raise UsageError(f"{text}: {reason}") from None
    found = scan(roots)
    runs = [run for run in found.runs if run.record.identity.startswith(text)]
    if runs and len({run.record.identity for run in runs}) == 1:
        return runs[0]
    where = ", ".join(map(str, roots))
    if runs:
        raise UsageError(
            f"{len(runs)} runs begin with {text!r} in {where}; give more letters, or the folder"
        )
    set_aside = "".join(f"; {line}" for line in found.troubles if text in line)
    raise UsageError(
        f"no run begins with {text!r} in {where}{set_aside}; `bench plan SUITE` lists identities"
    )


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted key → value."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        k: v
        for key, item in value.items()
        for k, v in flat(item, f"{path}.{key}" if path else str(key)).items()
    }


def settings(record: RunRecord) -> dict[str, Any]:
    """All settings of a cell by dotted key, as a suite writes them: `method.penalty`, `arch.width`."""
    cell = record.cell.model_dump(mode="json")
    for part in ("method", "arch", "dataset"):
        cell[part] = {"": cell[part]["name"], **cell[part]["params"]}
    return {key.rstrip("."): value for key, value in flat(cell).items()}


def differences(one: RunRecord, other: RunRecord) -> list[str]:
    """What leads from `other` to `one`, a line each; the settings first."""
    lines = _changed(settings(other), settings(one))
    for name in sorted(one.code.keys() | other.code.keys()):
        mine, theirs = one.code.get(name, {}), other.code.get(name, {})
        if mine.get("digest") == theirs.get("digest"):
            continue
        version = _changed({"version": theirs.get("version")}, {"version": mine.get("version")})
        files, before = mine.get("files"), theirs.get("files")
        if files and before:
            changed = [
                module
                for module in sorted(files | before)
                if files.get(module) != before.get(module)
            ]
            modules = f"changed: {', '.join(changed)}"
        else:
            modules = "changed; which module is not known: one of them is from an older bench"
        lines.append(f"code of {name}: {modules}" + "".join(f"; {line}" for line in version))
    if one.data_checksum != other.data_checksum:
        lines.append(
            f"data: checksum {other.data_checksum or 'none'} → {one.data_checksum or 'none'}"
        )
    return lines


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    keys = sorted(before.keys() | after.keys())
    return [
        f"{k}: {before.get(k, 'not set')} → {after.get(k, 'not set')}"
        for k in keys
        if before.get(k) != after.get(k)
    ]


def elsewhere(one: RunRecord, other: RunRecord) -> list[str]:
    """How the environments differ; no part of the identity."""
    return _changed(
        *(
            {key: value for key, value in flat(each.environment).items() if key not in UNTOLD}
            for each in (other, one)
        )
    )


def nearest(run: Stored, others: Sequence[Stored]) -> Stored | None:
    """The run with the fewest differences; of equally near ones the first by identity."""
    rest = [other for other in others if other.record.identity != run.record.identity]
    return min(
        rest,
        key=lambda other: (len(differences(run.record, other.record)), other.record.identity),
        default=None,
    )


def explain(run: Stored, others: Sequence[Stored]) -> list[str]:
    """The lines of `bench why`."""
    record = run.record
    lines = [f"{record.identity}  {record.cell.method.short} · {record.cell.arch.short} · {record.cell.dataset.short} · "
             f"seed {record.cell.seed}: {record.status}" + (f" ({record.reason})" if record.reason else "")]  # fmt: skip
    lines.append(
        f"ran until {record.finished or 'an unknown time'}: {record.why or 'it does not say why'}"
    )
    if record.resumed:
        lines.append(
            f"went on after epoch {', '.join(map(str, record.resumed))}, where earlier attempts had ended"
        )
    decided = (store.read_suite(run.folder.parent) or {}).get("decisions", {})
    decision = decided.get(record.identity) if isinstance(decided, dict) else None
    if isinstance(decision, dict) and decision.get("action") == "reuse":
        lines.append(f"reused at {decision.get('at')}: {decision.get('why')}")
    elif isinstance(decided, dict) and decided and decision is None:
        lines.append(
            "not asked for by the last `bench run` of its suite: its code, data or settings are others now"
        )
    neighbour = nearest(run, others)
    if neighbour is None:
        return [*lines, "no other run to compare it with"]
    other = neighbour.record
    lines.append(
        f"nearest: {other.identity[:12]}  {other.cell.method.short} · seed {other.cell.seed}; from it to this one"
    )
    lines += [f"  {line}" for line in differences(record, other)]
    lines += [
        f"  environment, not part of the identity: {line}" for line in elsewhere(record, other)
    ]
    return lines
