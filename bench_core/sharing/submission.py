"""Make a submission of results: own runs in compact form, and what others need to judge them.

    DIR/submission.json   suites, runs, rules with requirement, passport and numerics, environments
    DIR/requirements.txt  the distributions to install, `bench-mine==1.0`
    DIR/<suite>/          suite.json, the compact runs, and tuning.json if `bench tune` chose their
                          values; `bench verify DIR`, `bench replicate DIR`

Rows of the reference, marks of trust, logs, states and weights stay out. Paths and the user's name
are taken out of every text. A run with a path or that name in an option of its cell is left out,
and a rule from a file is refused: others could not train them.
"""

from __future__ import annotations

import getpass
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench_core.analysis.distance import NAME, attach
from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.verdicts.older_code import by_recipe, older
from bench_core.errors import UsageError, by_reason
from bench_core.names import FILE, OURS, distribution_of
from bench_core.printable import few
from bench_core.results import compact, epochs, files, ledger, store, suite_folder
from bench_core.results.files import writing
from bench_core.results.hashing import canonical, file_text, jsonable, plain_text
from bench_core.results.ledger import Ledger, Tuned
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.scan import Stored, scan
from bench_core.results.suite_json import SuiteJson
from bench_core.sharing.suite_differences import judged_otherwise, unfinished, unlike
from bench_core.sharing.verify import faults

SCHEMA = 1
# the parts of suite.json that a submission has: decisions and times of its author stay at home
PUBLISHED = (
    "schema", "name", "title", "description", "thresholds", "depth_utility", "expect",
    "claimed_for", "diagnostics", "file", "cells", "defaults",
)  # fmt: skip
LIST, NEEDS = "submission.json", "requirements.txt"
_MIDDLE, _LAST = r"[^\s/\"'`<>|:]+", r"[^\s/\"'`<>|:;,()\[\]{}]+"  # parts of a path: /MIDDLE/LAST
_REST = rf"(?:/+{_MIDDLE}(?=/))*/+{_LAST}/?"
_HOME = r"~(?:[A-Za-z_][\w.-]*)?"  # `~1/2` is a number
_ALONE = r"/[A-Za-z_.][\w.+@-]{2,}/?"  # `/scratch`; `/s` is a unit
_PATH = re.compile(
    rf"(?<![\w.~/])(?:(?:file://)?/{_MIDDLE}{_REST}|(?:{_HOME}|\.\.){_REST})"
    rf"|(?<![^\s(\[{{=:,;\"'`])(?:file://)?{_ALONE}"
)
# a path in quotes, whose parts may have spaces; a text that was cut off has no closing quote
_QUOTED = re.compile(
    rf"([\"'`])(?=(?:file://)?/[^/\"'`]+/|(?:file://)?{_ALONE}|{_HOME}/|\.\./)"
    r"(?:\\.|(?!\1)[^\\\n])+(\1|\Z)"
)
_PLACE = re.compile(r"file:|~[\w.-]*/|\.\.?/|/[\w.~]")  # the beginning of an option that is a path
_WORD = re.compile(r"[\w./+-]*")  # such as the name of a component: a user may be called `test`
_COMMON = {"root", "user", "runner", "ubuntu"}  # names of users that tell nothing


@dataclass
class Submission:
    """What was written: the runs, the requirements, and lines about left out or unlike runs."""

    runs: list[RunRecord] = field(default_factory=list)
    requirements: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def distances(suites: Iterable[SuiteResults]) -> dict[str, Measurement]:
    """Return each run's distance to the states of bp by identity: compact runs have no states."""
    records = [record for suite in suites for record in attach(suite).records]
    measured = {record.identity: record.measurements.get(NAME) for record in records}
    return {name: item for name, item in measured.items() if item is not None}


def write_compact(
    run: Stored,
    final: Path,
    about: Mapping[str, Any],
    distance: Measurement | None,
    change: Callable[[Any], Any] = lambda value: value,
) -> RunRecord:
    """Write a run in compact form and return its record. Raises StoreError.

    about     what its environment lacks
    distance  of its states to those of bp
    change    applied to the content of run.json and to every row
    """
    raw, lines = store.raw(run.folder), []
    if store.EPOCHS in run.record.files:
        lines = list(epochs.lines(run.folder))
    if distance is not None and distance.value is not None and lines:
        for measurements in (raw["measurements"], lines[-1]["measurements"]):
            measurements[NAME] = distance.model_dump(mode="json")
    rows = compact.packed([change(line) for line in lines])
    with writing(final):
        files.make_folder(final, 2)
    text = compact.run_text(change(raw), rows, about)
    files.replace_file(final / store.PACKED, rows, parts=2)
    files.replace_file(final / store.RUN, text, parts=2)
    return store.read(final, sums=True)


def without_paths(value: Any) -> Any:
    """Take paths and the user's name out of every text but the cell.

    A path is absolute or begins with ~ or .., and ends at a space if it is not in quotes. A text of
    one word keeps the name.
    """
    if isinstance(value, dict):
        return {key: v if key == "cell" else without_paths(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    user, text = getpass.getuser(), value
    for folder in (os.getcwd(), os.path.expanduser("~")):  # their spaces end no path
        text = text.replace(folder, folder.replace(" ", "_"))
    text = _PATH.sub("<path>", _QUOTED.sub(r"\1<path>\2", text))
    if user in _COMMON or len(user) < 3 or _WORD.fullmatch(value):
        return text
    return re.sub(rf"\b{re.escape(user)}\b", "<user>", text)


def places(cell: Mapping[str, Any], at: str = "") -> list[str]:
    """Say which settings of a cell name a place or the user of this machine.

    Settings are part of the identity, so they stay, and other machines lack the place.
    """
    said = []
    for key, value in cell.items():
        name = f"{at}.{key}" if at else key
        if isinstance(value, dict):
            said += places(value, name)
        elif _local(value):
            shown = name.replace(".params.", ".")
            said.append(f"{shown}={plain_text(value)} names a place or the user of this machine")
    return said


def _local(value: Any) -> bool:
    """Decide whether a value, or one in it, names a place or the user of this machine."""
    if isinstance(value, dict | list):
        return any(map(_local, value.values() if isinstance(value, dict) else value))
    text = value if isinstance(value, str) else ""
    return _PLACE.match(text) is not None or without_paths(text) != text


def submit(results: Path, output: Path) -> Submission:
    """Write a submission of own runs into a new folder. Raises UsageError, StoreError."""
    if output.exists():
        raise UsageError(f"-o {output}: exists already; name a new folder")
    stored, submission = scan([results]), Submission()
    submission.troubles += stored.troubles
    own = [run for run in stored.runs if not run.record.original]
    if of_files := {
        run.record.cell.method.name
        for run in own
        if any(name.endswith(FILE) for name in run.record.code)
    }:
        options = " ".join(f"--method {name}" for name in sorted(of_files))
        what = f"{results}: has runs of a rule from a file, which others cannot install"
        package = "`bench new method NAME --from FILE.py` makes its package"
        remedy = f"{package}, and `bench run --method PACKAGE/NAME` its runs; if you have those"
        clean = f"`bench clean {results} {options} --yes` removes the runs of the file"
        raise UsageError(f"{what}; {remedy}, {clean}")
    ledgers = {folder: _ledger(folder) for folder in {run.folder.parent for run in own}}
    suites = gather([results])[0]
    states, left = distances(suites), []
    stale = {record.identity for suite in suites for record in suite.settings.older}
    by_folder: dict[Path, list[RunRecord]] = defaultdict(list)
    for run in own:
        if run.record.identity in stale:
            left.append(
                (run.folder, "left out: its cell, rule, data set or network has newer code")
            )
            continue
        if lines := faults(run) or places(run.record.cell.model_dump(mode="json")):
            left.append((run.folder, f"left out: {'; '.join(lines)}"))
            continue
        if not submission.runs:
            with writing(output):
                output.mkdir(parents=True)
        final = output / run.suite / run.record.identity
        distance = states.get(run.record.identity)
        by_folder[run.folder.parent].append(write_compact(run, final, {}, distance, without_paths))
        submission.runs.append(by_folder[run.folder.parent][-1])
    submission.troubles += by_reason(left)
    if left and not submission.runs:
        raise UsageError("; ".join([f"{results}: has no run to submit", *by_reason(left)]))
    if not submission.runs:
        raise UsageError(f"{results}: has no run of yours to submit; `bench run SUITE` makes some")
    for folder, records in by_folder.items():
        _write_suite(folder, output, {record.identity for record in submission.runs})
        _write_ledger(ledgers[folder], output / folder.resolve().name, records)
        submission.troubles += unfinished(folder, records)
    submission.troubles += [*unlike(submission.runs), *_mixed(suites)]
    submission.requirements = _requirements(submission.runs, list(by_folder))
    needs = "".join(f"{line}\n" for line in submission.requirements)
    files.replace_file(output / NEEDS, needs)
    files.replace_file(output / LIST, file_text(_about(submission)))
    return submission


def against_their_lists(roots: Sequence[Path], runs: Sequence[Stored]) -> Iterator[str]:
    """Yield where the runs of submissions are not those that their submission.json states.

    So a run that was taken out is found, and a passport that was changed in one place. Also yield
    where their suite.json judges otherwise than the installed suite. Only submissions that were
    read whole are looked at: the roots, and those that lie in them.
    """
    for root, own in _submissions(roots, runs).items():
        records = [run.record for run in own]
        yield from _against_list(root / LIST, records)
        yield from _against_needs(root / NEEDS, records)
        for folder in sorted({run.folder.parent for run in own}):
            yield from judged_otherwise(folder)
            named = {run.record.suite for run in own if run.folder.parent == folder}
            if others := sorted(named - {folder.resolve().name}):
                yield f"{folder}: has runs of another suite: {few(others)}"


def unlike_their_suites(roots: Sequence[Path], runs: Sequence[Stored]) -> list[str]:
    """Say how the runs of submissions differ from their suites; this is no fault."""
    lines = []
    for root, own in _submissions(roots, runs).items():
        by_folder = defaultdict[Path, list[RunRecord]](list)
        for run in own:
            by_folder[run.folder.parent].append(run.record)
        lines += [f"{root}: {line}" for line in unlike([run.record for run in own])]
        for folder, records in by_folder.items():
            lines += [f"{root}: {line}" for line in unfinished(folder, records)]
    return lines


def _submissions(roots: Sequence[Path], runs: Sequence[Stored]) -> dict[Path, list[Stored]]:
    """Map the folders of the submissions that were read whole to their runs."""
    inside = {run.folder.parent.parent for run in runs}
    inside = {root for root in inside if any(each in root.parents for each in roots)}
    inside |= {path.parent for root in roots for path in root.glob(f"*/{LIST}")}
    return {
        root: [run for run in runs if run.folder.parent.parent == root]
        for root in sorted({*roots, *inside})
        if os.path.lexists(root / LIST)
    }


def _against_list(path: Path, records: Sequence[RunRecord]) -> Iterator[str]:
    try:
        stated = files.read_json(path, "submission", parts=1)
    except (OSError, ValueError) as error:
        yield f"{path}: {files.reason(error)}"
        return
    if not isinstance(stated, dict) or stated.get("schema") != SCHEMA:
        yield f"{path}: is not of schema {SCHEMA}"
        return
    found = jsonable(_about(Submission([*records])))
    listed = stated.get("runs")
    named = Counter(map(str, listed)) if isinstance(listed, list) else Counter[str]()
    here = Counter[str](found["runs"])  # a run may stand in two suites
    if lost := sorted(name[:12] for name in named - here):
        yield f"{path}: lists runs that are not here: {few(lost)}"
    if added := sorted(name[:12] for name in here - named):
        yield f"{path}: does not list runs that are here: {few(added)}"
    for key in ("suites", "environments"):
        if not lost and not added and stated.get(key) != found[key]:
            yield f"{path}: states other {key} than its runs have"
    for name, rule in found["rules"].items():
        rules = stated.get("rules")
        if not isinstance(rules, dict) or rules.get(name) != rule:
            yield f"{path}: states {name} otherwise than its runs (version, passport or numerics)"


def _against_needs(path: Path, records: Sequence[RunRecord]) -> Iterator[str]:
    try:
        text = files.read(path, "submission", parts=1).decode()
    except (OSError, ValueError) as error:
        yield f"{path}: {files.reason(error)}"
        return
    bare = (line.partition("#")[0] for line in text.splitlines())
    lines = {"".join(line.split()) for line in bare}
    needed = set(_requirements(records, []))
    if lacking := needed - lines:
        yield f"{path}: lacks {few(sorted(lacking))}, with which its runs were trained"
    names = {_package(need) for need in needed}
    if others := [line for line in lines - needed if _package(line) in names]:
        yield f"{path}: names another version of a package of its runs: {few(sorted(others))}"


def _package(line: str) -> str:
    """Return the name of the package of a requirement as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower()


def _write_suite(folder: Path, output: Path, names: set[str]) -> None:
    """Write suite.json of a submitted suite, with its submitted cells."""
    suite_folder.refuse_newer(folder)
    content = suite_folder.read(folder) or {}
    listed = SuiteJson.readable(content).cells.items()
    own = {key: name for key, name in listed if name in names}
    if own:
        kept = {key: content[key] for key in PUBLISHED if key in content}
        suite_folder.write(output / folder.resolve().name, without_paths(kept) | {"cells": own})


def _ledger(folder: Path) -> Ledger:
    """Read tuning.json of a suite folder; an empty one if there is none. Raises UsageError."""
    try:
        return ledger.read(folder)
    except store.Unreadable as error:
        remedy = "remove it, and `bench tune` writes it anew from the trials"
        raise UsageError(store.unread(folder / ledger.LEDGER, error, remedy)) from None


def _write_ledger(known: Ledger, folder: Path, records: Sequence[RunRecord]) -> None:
    """Write tuning.json of a submitted suite: the searches that chose these runs, with all trials.

    The runs of the trials stay out.
    """
    searches = {
        name: Tuned.model_validate(without_paths(tuned.model_dump(mode="json")))
        for name, tuned in known.among(records).items()
        if tuned.cells or tuned.earlier
    }
    if searches:
        ledger.write(folder, known.suite, searches)


def _mixed(suites: Iterable[SuiteResults]) -> list[str]:
    """Name what a compact run no longer shows: the modules that are older than in other runs."""
    groups = ((group, suite) for suite in suites for group in by_recipe(suite.records))
    found = [older(group, suite.settings.used) for group, suite in groups]
    changed = [names for own in found for names in own.values()]
    names = few(sorted({name for own in changed for name in own}))
    remedy = "`bench run` trains them again"
    count = "1 run has" if len(changed) == 1 else f"{len(changed)} runs have"
    return [f"{count} older code than others ({names}); {remedy}"] * bool(changed)


def _requirements(records: Sequence[RunRecord], folders: Sequence[Path]) -> list[str]:
    """Return a line for each distribution but bench-core that trained or measured the runs.

    Of several versions it is that of the last run: a run is kept while its own code is the same. A
    run does not say which version measured it: the installed one is named.
    """
    last = sorted(records, key=lambda run: (run.finished, run.identity))
    versions = {name: part.get("version") for run in last for name, part in run.code.items()}
    measured = {name for run in records for name in run.measurements}
    for folder in folders:
        for full_name in suite_folder.saved(folder).diagnostics:
            distribution, _, name = full_name.rpartition("/")
            if distribution and name in measured and distribution not in versions:
                with suppress(PackageNotFoundError):
                    versions[distribution] = version(distribution)
    return sorted(f"{name}=={number}" for name, number in versions.items() if name != OURS)


def _about(submission: Submission) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for record in submission.runs:
        name = record.cell.method.name
        number = record.code.get(distribution_of(name), {}).get("version")
        numerics = record.numerics.get("method")
        rules[name] = {"version": number, "passport": record.passport, "numerics": numerics}
    environments = {canonical(record.environment): record.environment for record in submission.runs}
    return {
        "schema": SCHEMA,
        "suites": sorted({record.suite for record in submission.runs}),
        "runs": sorted(record.identity for record in submission.runs),
        "rules": rules,
        "requirements": submission.requirements,
        "environments": [environments[key] for key in sorted(environments)],
    }
