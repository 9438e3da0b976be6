"""Find runs whose code is older than that of other runs of their recipe.

The newest code of a module is that of the last run of the recipe that has the module and came to
its own end (done or diverged): a run that raised or was killed may be of code that never worked. A
run is older if its date is before that one's and it has other code of the module. The date of a run
is the later of its end and its last reuse by `bench run`: after an edit was undone, the runs from
before the edit count as today's code.

Superseded runs, whose own cell was run by other code since, do not count at all
(`bench_core.analysis.gather.current`). Nor do runs on a data set or a network whose code has
changed since (`overtaken`): they cannot be compared with newer ones. Nor do the seeds of a row that
older code of its rule trained (`edited`): the mean would be that of no rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from bench_core.analysis.verdicts.recipes import recipe
from bench_core.names import OURS, distribution_of
from bench_core.results.record import RunRecord

Used = Mapping[str, str]
NEVER: Used = MappingProxyType({})


def modules(record: RunRecord) -> dict[str, str]:
    """Return module → digest of the code of a run; runs of an older bench record none."""
    entries = (entry.get("files") for entry in record.code.values() if isinstance(entry, dict))
    files = [own for own in entries if isinstance(own, dict)]
    return {str(name): str(digest) for own in files for name, digest in own.items()}


def older(records: Iterable[RunRecord], used: Used = NEVER) -> dict[str, list[str]]:
    """Return identity → the modules that a newer run of the same recipe has with other code.

    records  of one recipe
    used     identity → when the last plan of its folder took the run
    """
    runs = list(records)
    return _behind(runs, {run.identity: modules(run) for run in runs}, used)


def overtaken(records: Iterable[RunRecord], used: Used = NEVER) -> dict[str, list[str]]:
    """Return identity → modules that all rules of its recipe have and that have changed since.

    That is the code of the data set or the network, and what it imports: of the packages of these
    two all modules that a rule of another package has, or else that every rule has. Of bench-core
    `numerics` count instead.
    """
    changed: dict[str, list[str]] = {}
    for group in by_recipe(records):
        own = {run.identity: _plugins(run) for run in group if modules(run)}
        runs = [run for run in group if run.identity in own]
        rules: dict[str, set[str]] = {}
        for run in runs:
            name = run.cell.method.name
            rules[name] = rules.get(name, own[run.identity].keys()) & own[run.identity].keys()
        others = any(distribution_of(name) not in _used(group[0]) for name in rules)
        if others or len(rules) > 1:
            common = set.intersection(*map(set, rules.values()))
            shared = {name: {k: files[k] for k in common} for name, files in own.items()}
            changed |= _behind(runs, shared, used)
    return changed


def edited(
    records: Iterable[RunRecord], row_of: Callable[[RunRecord], str], used: Used = NEVER
) -> dict[str, list[str]]:
    """Return identity → modules that a newer run of the same row has with other code.

    That is all code of other packages than bench-core, whose `numerics` count instead: the rule
    from a file or a package, what it imports, and what ends its training.

    row_of  the key of the row of a run, within its recipe
    """
    changed: dict[str, list[str]] = {}
    for group in by_recipe(records):
        rows: dict[str, list[RunRecord]] = defaultdict(list)
        for run in group:
            rows[row_of(run)].append(run)
        for runs in rows.values():
            changed |= _behind(runs, {run.identity: _foreign(run) for run in runs}, used)
    return changed


def _behind(
    records: Sequence[RunRecord], own: Mapping[str, Mapping[str, str]], used: Used
) -> dict[str, list[str]]:
    """Return identity → modules that a later run, which came to its end, has with other code.

    own  identity → module → digest
    """

    def when(record: RunRecord) -> tuple[str, bool, str]:
        taken = used.get(record.identity, "")
        return max(record.finished, taken), taken >= record.finished, record.identity

    newest: dict[str, tuple[str, tuple[str, bool, str]]] = {}
    for run in sorted(records, key=when):
        if run.status in ("done", "diverged"):
            newest |= {name: (digest, when(run)) for name, digest in own[run.identity].items()}
    changed = {
        run.identity: sorted(
            name
            for name, digest in own[run.identity].items()
            if name in newest and newest[name][0] != digest and when(run) < newest[name][1]
        )
        for run in records
    }
    return {identity: names for identity, names in changed.items() if names}


def _plugins(record: RunRecord) -> dict[str, str]:
    """Return the modules of the packages that the data set and the network are from."""
    return _of_packages(record, _used(record))


def _foreign(record: RunRecord) -> dict[str, str]:
    """Return the modules of all packages but bench-core."""
    return _of_packages(record, record.code.keys() - {OURS})


def _of_packages(record: RunRecord, names: Collection[str]) -> dict[str, str]:
    code = {name: entry for name, entry in record.code.items() if name in names}
    return modules(record.model_copy(update={"code": code}))


def _used(record: RunRecord) -> set[str]:
    """Return the packages, but bench-core, that the data set and the network are from."""
    refs = (record.cell.arch, record.cell.dataset)
    return {distribution_of(ref.name) for ref in refs} - {OURS}


def by_recipe(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Group records by their recipe."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[recipe(record)].append(record)
    return list(groups.values())
