"""Find runs whose code is older than that of other runs of their recipe.

The newest code of a module is that of the last finished run of the recipe that has the module. A
run is older if one of its modules has other code. Superseded runs, whose own cell was run by other
code since, do not count at all (`bench_core.analysis.gather.current`). Nor do runs on a data set or
a network whose code has changed since (`overtaken`): they cannot be compared with newer ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bench_core.analysis.verdicts.recipes import recipe
from bench_core.results.record import RunRecord
from bench_core.suite.names import OURS


def modules(record: RunRecord) -> dict[str, str]:
    """Return module → digest of the code of a run; runs of an older bench record none."""
    entries = (entry.get("files") for entry in record.code.values() if isinstance(entry, dict))
    files = [own for own in entries if isinstance(own, dict)]
    return {str(name): str(digest) for own in files for name, digest in own.items()}


def older(records: Iterable[RunRecord]) -> dict[str, list[str]]:
    """Return identity → the modules that a newer run of the same recipe has with other code.

    records  of one recipe
    """
    runs = sorted(records, key=lambda run: (run.finished, run.identity))
    newest = {name: digest for run in runs for name, digest in modules(run).items()}
    changed = {run.identity: _changed(modules(run), newest) for run in runs}
    return {identity: names for identity, names in changed.items() if names}


def overtaken(records: Iterable[RunRecord]) -> dict[str, list[str]]:
    """Return identity → modules that all rules of its recipe have and that have changed since.

    That is the code of the data set or the network, and what it imports: of the packages of these
    two all modules that a rule of another package has, or else that every rule has. Of bench-core
    `numerics` count instead. The newest code is that of the last done run.
    """
    changed: dict[str, list[str]] = {}
    for group in by_recipe(records):
        own = {run.identity: _plugins(run) for run in group if modules(run)}
        runs = [run for run in group if run.identity in own]
        done = [run for run in runs if run.status == "done"]
        rules: dict[str, set[str]] = {}
        for run in runs:
            name = run.cell.method.name
            rules[name] = rules.get(name, own[run.identity].keys()) & own[run.identity].keys()
        others = any(name.rpartition("/")[0] not in _used(group[0]) for name in rules)
        if done and (others or len(rules) > 1):
            common = set.intersection(*map(set, rules.values()))
            newest = own[max(done, key=lambda run: (run.finished, run.identity)).identity]
            for run in runs:
                if names := _changed({k: own[run.identity][k] for k in common}, newest):
                    changed[run.identity] = names
    return changed


def _plugins(record: RunRecord) -> dict[str, str]:
    """Return the modules of these packages."""
    code = {name: entry for name, entry in record.code.items() if name in _used(record)}
    return modules(record.model_copy(update={"code": code}))


def _used(record: RunRecord) -> set[str]:
    """Return the packages, but bench-core, that the data set and the network are from."""
    refs = (record.cell.arch, record.cell.dataset)
    return {ref.name.rpartition("/")[0] for ref in refs} - {OURS}


def by_recipe(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Group records by their recipe."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[recipe(record)].append(record)
    return list(groups.values())


def _changed(own: Mapping[str, str], newest: Mapping[str, str]) -> list[str]:
    return sorted(name for name, digest in own.items() if newest[name] != digest)
