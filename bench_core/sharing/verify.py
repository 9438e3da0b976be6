"""Check stored runs: checksums, schema, identity, and figures that must fit together.

The checks find damage, mistakes and careless edits. They cannot find a forgery, because a forger
can recompute every checksum; `bench replicate` can.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from bench_core.execution.planning.fingerprint import cell_identity
from bench_core.names import FULL_NAME, NAME_RULE, without_ours
from bench_core.results import epochs, files, ledger, locks, store
from bench_core.results.agreement import differing
from bench_core.results.details import COSINES, SCHEMAS
from bench_core.results.hashing import canonical
from bench_core.results.ledger import Tuned
from bench_core.results.record import (
    SCHEMA,
    Cell,
    Measurement,
    RunRecord,
    cell_key,
    environment_key,
)
from bench_core.results.scan import Stored, run_folders, scan
from bench_core.results.status import FINAL
from bench_core.suite.cells import same_name
from bench_core.suite.claim import MAX_SEED
from bench_core.suite.messages import explain
from bench_core.suite.protocol import LETTERS, may_have
from bench_core.suite.recipe import RECIPE
from bench_core.training.method import Passport

ROUNDING = 1e-6
MOST_LINES = 20  # of a ledger
KEPT = (store.EPOCHS, store.CHECKPOINT, store.PROBE)  # files of a done run


def faults(run: Stored) -> list[str]:
    """List the faults of one run by itself."""
    try:
        record = store.read(run.folder, sums=True, states=run.states)
    except store.Unreadable as reason:
        return [str(reason)]
    raw = store.raw(run.folder)
    parts = {name: entry for name, entry in record.code.items() if isinstance(entry, dict)}
    code = {name: entry.get("digest", "") for name, entry in parts.items()}
    identity = cell_identity(raw["cell"], code, record.data_checksum, record.algorithm)
    wrong = "its identity is not that of its cell, code and data"
    curve = _curve(run.folder, record) if record.status == "done" else []
    recipe = untrainable(record.cell) if raw["schema"] == SCHEMA else []
    mismatch = [wrong] if identity != record.identity else []
    return [*mismatch, *recipe, *_names(record), *_figures(record), *curve]


def untrainable(cell: Cell) -> list[str]:
    """List the settings of a cell's recipe that no suite can give it."""
    reasons = []
    for part, model in RECIPE.items():
        values = {key: own for key, own in getattr(cell, part).items() if key != "stop_when"}
        try:
            model.model_validate(values)
        except ValidationError as error:
            for path, what, _, unknown in explain(error.errors(include_url=False), model, values):
                name = f"{part}.{'.'.join(map(str, path))}"[:80]
                reasons.append(f"no setting {name}" if unknown else f"{name} {what}")
    if not 0 <= cell.seed <= MAX_SEED:
        reasons.append(f"seed {cell.seed:.3g} is not between 0 and {MAX_SEED}")
    return reasons


def _names(record: RunRecord) -> Iterator[str]:
    """Name invalid names and letters, which a table would show as those of another component."""
    names = {kind: ref.name for kind, ref in record.cell.refs.items()}
    for kind, name in (*names.items(), *(("measurement", name) for name in record.measurements)):
        if not re.fullmatch(FULL_NAME, name):
            yield f"{kind} {name[:40]!a}: its name must be {NAME_RULE}"
    for name, item in record.measurements.items():
        if not may_have(name, item.letter):
            yield f"measurement {name} has the letter {item.letter} of {LETTERS[item.letter]}"
        if not item.repeatable and without_ours(name) in SCHEMAS:
            yield f"measurement {name} is stated as not repeatable, and it is"
    if lacking := Passport().as_dict().keys() - record.passport.keys():
        yield f"its passport lacks {', '.join(sorted(lacking))}"


def _figures(record: RunRecord) -> Iterator[str]:
    planned = record.cell.last_epoch
    if record.status == "done":
        if record.accuracy is None:
            yield "done, but without an accuracy"
        if record.stopped_by is None and planned and record.epochs != planned:
            yield f"done after {record.epochs} epochs, but its recipe has {planned}"
        kept = (store.PACKED,) if record.original else KEPT
        if missing := set(kept) - record.files.keys():
            yield f"done, but without {', '.join(sorted(missing))}"
    elif record.reason is None:
        yield f"{record.status}, but without a reason"
    if (blocks := record.blocks_changed) and not 0 <= blocks[0] <= blocks[1]:
        yield f"{blocks[0]} of {blocks[1]} blocks changed"
    if planned and record.epochs > planned:
        yield f"{record.epochs} epochs, more than its recipe's {planned}"
    for when, measured in (("initial", record.initial), ("measurements", record.measurements)):
        for name, item in measured.items():
            value = item.value
            if name in COSINES and value is not None and abs(value) > 1 + ROUNDING:
                yield f"{when}.{name}: {value:g} is no cosine"
            if item.unit == "x" and value is not None and value < 0:
                yield f"{when}.{name}: {value:g} is no ratio of norms"
            bp, parts = item.details.get("bp"), ("forward", "credit", "update")
            if name == "step_cost" and value is not None and bp:
                total = sum(item.details.get(part, 0) for part in parts)
                if abs(value * bp - total) > ROUNDING * total:
                    yield f"{when}.{name}: {value:g} is not {total:,} operations over bp's {bp:,}"


def _curve(folder: Path, record: RunRecord) -> list[str]:
    """Compare epochs.jsonl with run.json, row by row."""
    count, gaps, trained = 0, False, 0.0
    try:
        for count, last in enumerate(epochs.lines(folder), 1):
            gaps |= last["epoch"] != count - 1
            trained += last["seconds"]
        if not count:
            return ["epochs.jsonl has no row"]
        pairs = {name: (getattr(record, name), last[name]) for name in ("accuracy", "train_loss")}
        for name, item in record.measurements.items():
            if (final := last["measurements"].get(name)) is not None:
                pairs[name] = (item.value, Measurement.model_validate(final).value)
        result = []
        if gaps or count != record.epochs + 1:
            result.append(f"epochs.jsonl has not the epochs 0 … {record.epochs}, each once")
        for name, (one, other) in pairs.items():
            if repr(one) != repr(other):  # NaN equals NaN here
                result.append(f"{name} is {one} in run.json and {other} at the end of epochs.jsonl")
        if trained > record.seconds + 0.01 * count + 0.01:
            result.append(f"{trained:.1f} s of training in a run of {record.seconds:.1f} s")
        return result
    except ValidationError as error:
        return [f"epochs.jsonl does not follow its schema: {store.first_fault(error)}"]
    except (OSError, ValueError) as error:
        return [f"epochs.jsonl {files.reason(error)}"]
    except (KeyError, TypeError, AttributeError) as error:
        return [f"epochs.jsonl cannot be read: {type(error).__name__}"]


def between(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield data sets with two checksums, identities with other numbers in one environment, and
    seeds of one cell with the same weights, to the byte."""
    sums: dict[str, dict[str, Path]] = defaultdict(dict)
    first: dict[tuple[str, str], Stored] = {}
    for run in runs:
        record = run.record
        dataset = f"{record.cell.dataset.short} {canonical(record.cell.dataset.params)}"
        if record.data_checksum:
            sums[dataset].setdefault(record.data_checksum, run.folder)
        if record.status not in FINAL:
            continue  # it will be run again: another end is no other number
        other = first.setdefault((record.identity, environment_key(record)), run)
        parts = differing(record, other.record)
        if parts and record.cell.training.get("deterministic", True):
            where = f"{run.folder} and {other.folder}"
            yield f"{where}: one identity, one environment, other numbers: {'; '.join(parts)}"
    for dataset, folders in sums.items():
        if len(folders) > 1:
            places = (f"{sum_[:12]} ({folders[sum_].name[:12]})" for sum_ in sorted(folders))
            yield f"{dataset}: runs read {len(folders)} different data: {', '.join(places)}"
    yield from _copied(runs)


def _copied(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield the seeds whose trained weights are those of another seed of their cell."""
    same: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    for run in runs:
        cell = canonical(run.record.cell.model_dump(mode="json", exclude={"seed"}))
        weights = {**run.record.files, **run.record.original}.get(store.CHECKPOINT)
        if run.record.status == "done" and weights is not None:
            same[cell, weights.blake2b].setdefault(run.record.cell.seed, run.folder)
    for seeds in same.values():
        if len(seeds) > 1:
            where = " and ".join(str(seeds[seed]) for seed in sorted(seeds)[:2])
            what = f"seeds {', '.join(map(str, sorted(seeds)))} have the same trained weights"
            yield f"{where}: {what}: a copy, or the seed has no effect"


def searches(runs: Sequence[Stored]) -> Iterator[str]:
    """Yield where the ledgers of `bench tune` beside these runs do not fit the runs there."""
    for folder in sorted({run.folder.parent for run in runs}):
        path = folder / ledger.LEDGER
        try:
            known = ledger.read(folder)
        except store.Unreadable as error:
            yield store.unread(path, error)
            continue
        if ledger.is_lost(folder):
            yield f"{path}: is missing beside {ledger.TRIALS}: no word which runs a search chose"
        if known.rules:
            cells = {cell_key(run.record.cell): run.record for run in scan([folder]).runs}
            trials = _trials(folder / ledger.TRIALS)
            lines = [
                f"{path}: {name}: {line}"
                for name, tuned in known.rules.items()
                for line in _search(tuned, cells, trials)
            ]
            yield from lines[:MOST_LINES]
            if len(lines) > MOST_LINES:
                yield f"{path}: {len(lines) - MOST_LINES} further faults"


def _trials(folder: Path) -> dict[str, RunRecord] | None:
    """Return the runs of the trials by identity; None if they are not here, as in a submission."""
    if not folder.is_dir() or folder.is_symlink():
        return None
    return {run.record.identity: run.record for run in scan([folder]).runs}


def _search(
    tuned: Tuned, cells: Mapping[str, RunRecord], trials: Mapping[str, RunRecord] | None
) -> Iterator[str]:
    """Hold the search of a rule against the cells that it chose, and against its trials.

    Where the trials are, winners may still have to be trained; a submission has both or neither.
    """
    if tuned.cells and len(tuned.results) < tuned.trials:
        yield f"says {tuned.trials} trials, and lists {len(tuned.results)}"
    if trials is None and (lost := set(tuned.cells) - cells.keys()):
        yield f"names cells that have no run here: {len(lost)} of {len(tuned.cells)}"
    for trial in () if trials is None else tuned.results:
        if (run := (trials or {}).get(trial.identity)) is None:
            yield f"lists the trial {trial.identity[:32]}, which has no run here"
        elif trial.score not in (None, run.accuracy):
            yield f"scores the trial {run.identity} with {trial.score}; its run has {run.accuracy}"
    for run in (cells[key] for key in tuned.cells if key in cells):
        if not same_name(run.cell.method.name, tuned.method.get("name")):
            yield f"names the run {run.identity} as its own, which is of {run.cell.method.name}"
        elif not tuned.chose(run.cell):
            yield f"names the run {run.identity}, which has not the values of its best trial"


def unreadable(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the run folders under the given folders that cannot be read."""
    for root in roots:
        for folder in sorted(run_folders(root)):
            try:
                store.read(folder, sums=True)
            except store.Unreadable:
                yield folder


def set_aside(folder: Path) -> Path | None:
    """Quarantine an unreadable folder and return its new place.

    Returns None if its lock is held, if it is readable by now, or if a newer bench wrote it.
    """
    with locks.locked(folder) as descriptor:
        if descriptor is not None:
            try:
                store.read(folder, sums=True)
            except store.Newer:
                return None
            except store.Unreadable as reason:
                return store.quarantine(folder, str(reason))
    return None
