"""Tune every rule of a suite, and bp, on the same number of trials: `bench tune`.

A trial is an ordinary cell with drawn values of the recipe and of the rule's own parameters. It has
one seed, that of the search, which is no seed of the suite. It holds out the suite's validation
samples and is scored on them: they take the place of the test set, which is not read (`evaluate_on:
validation`). It has no floors, and no diagnostics but those of `stop_when`. The runs of the trials
lie in the results folder `trials` of the suite folder, so a search that was stopped continues: its
finished trials are reused like any cell.

Values are drawn by Optuna's TPE sampler, whose seed is that of the search for every rule. The
first `STARTUP` trials do not depend on scores and run at once, all others one after another. The
draws of a rule depend on its own scores alone, so they repeat with the seed, however many cells run
at once. A trial that is not done counts as a score of 0 for the sampler.

The best trial of each rule is trained anew with the suite's seeds, with its matched floor if the
suite has floors. Validation samples are still held out, and the test set is read. bp is tuned like
a rule, so the bp floor and the ceiling have bp's own winning recipe. bp_local_heads is tuned too
where a rule has local heads.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench_core.errors import UsageError
from bench_core.execution.planning.plan import Plan, PlannedCell, make_plan
from bench_core.execution.tuning.contenders import (
    Contender,
    Entry,
    cells_of,
    contender,
    derived,
    prepared,
)
from bench_core.names import LOCAL_CEILING
from bench_core.registry.registry import Registry
from bench_core.results import ledger, store, suite_folder
from bench_core.results.ledger import Spread, Trial, Tuned, Values
from bench_core.results.logs import LOG
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.status import STATUSES
from bench_core.suite.cells import same_name
from bench_core.suite.component import ComponentSpec
from bench_core.suite.model import Suite
from bench_core.suite.search import Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial as OptunaTrial

STARTUP = 10  # trials of a rule that the sampler draws without looking at scores
Carry = Callable[[Plan, Callable[[PlannedCell, RunRecord], None]], list[RunRecord]]


class Draws:
    """The samplers of a search, one for each rule; they learn from the scores of their own rule."""

    def __init__(self, contenders: Sequence[Contender], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.contenders = contenders
        self.asked: list[tuple[Study, OptunaTrial]] = []
        self.studies = [
            optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
            )
            for _ in contenders
        ]

    def ask(self, count: int) -> list[tuple[Contender, Values]]:
        """Draw the values of so many further trials of each rule."""
        pairs = list(zip(self.contenders, self.studies, strict=True))
        self.asked = [(study, study.ask()) for _, study in pairs for _ in range(count)]
        rules = [one for one, _ in pairs for _ in range(count)]
        return [(one, one.drawn(trial)) for one, (_, trial) in zip(rules, self.asked, strict=True)]

    def tell(self, records: Sequence[RunRecord]) -> None:
        """Take the results of the trials that were asked for last."""
        for (study, trial), record in zip(self.asked, records, strict=True):
            study.tell(trial, _score(record) or 0.0)


class Tuning:
    """The search of a suite.

    results  the results folder; the ledger and the trials lie in `folder`, that of the suite
    rules    the entries of the ledger
    """

    def __init__(
        self,
        suite: Suite,
        registry: Registry,
        results: Path,
        data_dir: Path | None = None,
        retry_failed: bool = False,
    ) -> None:
        """Check the search, with every value that it may draw. Raises SuiteError, UsageError."""
        self.suite, self.registry, self.retry_failed = suite, registry, retry_failed
        self.results, self.data_dir = results, data_dir
        self.search, self.contenders = prepared(suite)
        self.folder = results / suite.name
        suite_folder.refuse_newer(self.folder)
        self.started = time.monotonic()
        planned = self._check_ends()
        listed = any(same_name(one.key, LOCAL_CEILING) for one in self.contenders)
        if not listed and any(cell.passport["local_heads"] for cell in planned.cells):
            heads = contender({"name": LOCAL_CEILING}, ("methods",), self.search)
            self.contenders.append(heads)
        self.ended: set[str] = set()  # rules whose winners are known
        self.rules = {one.key: self._new(one) for one in self.contenders}

    # ------------------------------------------------------------------------------------- plans

    def trials(self, drawn: Sequence[tuple[Contender, Values]]) -> tuple[Plan, list[PlannedCell]]:
        """Plan a trial of each of these values; also return the cell of each."""
        entries = [
            Entry(one, values, [self.search.seed], {key: p for key, (_, p) in one.space.items()})
            for one, values in drawn
        ]
        held = {"evaluate_on": "validation"} if self.search.scored_on == "validation" else {}
        ends = [spec for spec in self.suite.diagnostics if self._ends_training(spec)]
        suite = derived(
            self.suite,
            entries,
            data=self.suite.data.model_copy(update=held),
            diagnostics=ends,
            expect=[],
        )
        plan = self._plan(suite, self.folder / ledger.TRIALS)
        return plan, cells_of(plan, entries, suite)

    def winners(self) -> tuple[Plan, dict[str, list[str]]]:
        """Plan the trainings with the best values; also the keys of the cells of each rule."""
        entries = [
            Entry(one, self.rules[one.key].winner, self.suite.seeds, {}, frozen)
            for one in self.contenders
            if self.rules[one.key].best is not None
            for frozen in ((False, True) if self.suite.floors else (False,))
        ]
        if not entries:
            raise UsageError(
                f"{self.suite.name}: no trial of any rule is done: mend the cause, then repeat "
                "`bench tune` with --retry-failed"
            )
        suite = derived(self.suite, entries)
        stated = self.suite.stated
        unchanged = stated is not None and stated.content() == self.suite.content()
        suite.from_file(stated=suite if unchanged else stated)
        plan, cells = self._plan(suite, self.results), dict[str, list[str]]()
        by_entry = [entry for entry in entries for _ in entry.seeds]
        for entry, cell in zip(by_entry, cells_of(plan, entries, suite), strict=True):
            cells.setdefault(entry.contender.key, []).append(cell_key(cell.cell))
        return plan, cells

    def _ends_training(self, spec: ComponentSpec) -> bool:
        return any(same_name(spec.name, name) for name in self.suite.stop_when)

    def _plan(self, suite: Suite, results: Path) -> Plan:
        budget = suite.budget
        if budget.sweep_seconds is not None:  # of the whole command
            left = max(budget.sweep_seconds - (time.monotonic() - self.started), 1e-3)
            budget = budget.model_copy(update={"sweep_seconds": left})
            suite = suite.model_copy(update={"budget": budget})
        return make_plan(suite, self.registry, results, self.data_dir, self.retry_failed)

    def _check_ends(self) -> Plan:
        """Plan a trial with each corner of the space, so that all faults show now."""
        entries = [
            Entry(
                one,
                {key: value for key, value, _ in corner},
                [self.search.seed],
                {key: place for key, _, place in corner},
            )
            for one in self.contenders
            for corner in one.corners()
        ]
        entries += [Entry(one, {}, [self.search.seed], {}) for one in self.contenders]
        suite = derived(self.suite, entries, expect=[])
        return make_plan(suite, self.registry, self.folder / ledger.TRIALS, self.data_dir)

    # ------------------------------------------------------------------------------------ search

    def batches(self) -> Iterator[tuple[int, int]]:
        """Yield the first number and the count of the trials of each rule that run at once."""
        first = min(STARTUP, self.search.trials)
        yield 0, first
        yield from ((number, 1) for number in range(first, self.search.trials))

    def run(self, carry: Carry) -> str:
        """Run all trials; return why some have no result yet, or "".

        carry  runs a plan, calls a function with each cell that has ended, and returns the records
        """
        self.started = time.monotonic()
        suite_folder.create(self.results, self.suite.name)
        draws = Draws(self.contenders, self.search.seed)
        for number, count in self.batches():
            records = self._batch(draws.ask(count), number, carry)
            draws.tell(records)
            if lost := [r for r in records if r.status in ("skipped", "interrupted")]:
                what = f"{len(lost)} trials have no result: {lost[0].status}"
                return f"{what}; the same command continues the search"
        return ""

    def without_result(self) -> Iterator[str]:
        """Say of each rule without a finished trial how the trials ended, and name a log."""
        for one in self.contenders:
            if self.rules[one.key].best is not None:
                continue
            ended = self.rules[one.key].results
            counts = Counter(trial.status for trial in ended)
            how = ", ".join(f"{status} {count}" for status, count in counts.items())
            home = self.folder / ledger.TRIALS / self.suite.name
            logs = [path for t in ended if (path := home / t.identity / LOG).is_file()]
            where = f"; the first log: {logs[0]}" if logs else ""
            again = any(STATUSES[status].failure for status in counts)
            remedy = "--retry-failed trains them again" if again else "search lower learning rates"
            yield (
                f"{one.key}: none of its trials is done ({how}), so nothing is trained; "
                f"{remedy}{where}"
            )

    def there(self) -> tuple[int, int, Plan]:
        """Count the trials and the cells of winners that need no training any more.

        Also return the plan with the first cells that need it. Nothing is written.
        """
        draws, count = Draws(self.contenders, self.search.seed), 0
        for number, of_each in self.batches():
            drawn = draws.ask(of_each)
            plan, cells = self.trials(drawn)
            ended = _reused(plan)
            self._note(drawn, cells, number, ended)
            count += sum(cell.identity in ended for cell in cells)
            if len(ended) < len({cell.identity for cell in cells}):
                return count, 0, plan
            draws.tell([ended[cell.identity] for cell in cells])
        plan, _ = self.winners()
        return count, len(_reused(plan)), plan

    def _batch(
        self, drawn: Sequence[tuple[Contender, Values]], number: int, carry: Carry
    ) -> list[RunRecord]:
        """Run a trial of each of these values; write the ledger whenever one has ended.

        number  of the first of them
        """
        plan, cells = self.trials(drawn)
        ended = _reused(plan)

        def write() -> None:
            self._note(drawn, cells, number, ended)
            self.write()

        def on_end(cell: PlannedCell, record: RunRecord) -> None:
            ended[cell.identity] = record
            write()

        records = carry(plan, on_end)
        ended |= {record.identity: record for record in records}
        write()
        return [ended[cell.identity] for cell in cells]

    def _note(
        self,
        drawn: Sequence[tuple[Contender, Values]],
        cells: Sequence[PlannedCell],
        number: int,
        ended: Mapping[str, RunRecord],
    ) -> None:
        """Note the trials from this number on that have ended, by identity."""
        results = {one.key: list(self.rules[one.key].results[:number]) for one, _ in drawn}
        for (one, values), cell in zip(drawn, cells, strict=True):
            if (record := ended.get(cell.identity)) is not None:
                results[one.key].append(_trial(values, record))
        for key, trials in results.items():
            self.rules[key] = _judged(self.rules[key], trials)

    # ------------------------------------------------------------------------------------ ledger

    def _known(self) -> dict[str, Tuned]:
        """Read the entries of the ledger. Raises UsageError if it is damaged."""
        try:
            return dict(ledger.read(self.folder).rules)
        except store.Unreadable as error:
            remedy = "remove it, and this command writes it anew from the trials"
            raise UsageError(store.unread(self.folder / ledger.LEDGER, error, remedy)) from None

    def _new(self, one: Contender) -> Tuned:
        search = self.search
        return Tuned(
            method=one.method,
            seed=search.seed,
            trials=search.trials,
            scored_on=search.scored_on,
            sampler="optuna.samplers.TPESampler",
            versions={name: version(name) for name in ("optuna", "numpy")},
            space={key: _plain(space) for key, (space, _) in one.space.items()},
            cells=[],
            earlier=[],
        )

    def won(self, cells: Mapping[str, list[str]]) -> None:
        """Note the cells that are trained with the best values, and write the ledger."""
        for key, own in cells.items():
            self.rules[key] = self.rules[key].model_copy(update={"cells": own})
            self.ended.add(key)
        self.write()

    def write(self) -> None:
        """Write the entries of these rules; those of others stay, which may be tuned meanwhile.

        An earlier search with winners stays until the new one has its own; then its cells are those
        of an earlier winner. So are those of another search of the rule that ended meanwhile. The
        same search again, for further seeds, adds its cells.
        """
        with suite_folder.locked(self.folder):
            known = self._known()
            own = {key: self._beside(key, known.get(key)) for key in self.rules}
            ledger.write(self.folder, self.suite.name, {**known, **own})

    def _beside(self, key: str, there: Tuned | None) -> Tuned:
        """Return the entry of a rule, beside the one that the ledger has."""
        rule = self.rules[key]
        if there is None or (key not in self.ended and not there.cells):
            return rule
        if key not in self.ended:
            return there
        cells = [*there.cells, *rule.cells] if rule.continues(there) else rule.cells
        earlier = {*rule.earlier, *there.earlier, *there.cells} - {*cells}
        return rule.model_copy(
            update={"cells": [*dict.fromkeys(cells)], "earlier": sorted(earlier)}
        )


def _reused(plan: Plan) -> dict[str, RunRecord]:
    """Return the records of the cells that are reused, by identity."""
    return {cell.identity: store.read(cell.folder) for cell in plan.cells if cell.action == "reuse"}


def _plain(space: Space) -> Any:
    return space if isinstance(space, list) else space.model_dump()


def _score(record: RunRecord) -> float | None:
    accuracy = record.accuracy if record.status == "done" else None
    return accuracy if accuracy is not None and math.isfinite(accuracy) else None


def _trial(values: Values, record: RunRecord) -> Trial:
    return Trial(
        values=values,
        identity=record.identity,
        status=record.status,
        score=_score(record),
        seconds=record.seconds,
    )


def _judged(rule: Tuned, trials: list[Trial]) -> Tuned:
    """Return the entry of a rule with these trials, the best one and the spread of the scores."""
    scores = [trial.score for trial in trials if trial.score is not None]
    update: dict[str, Any] = {"results": trials, "best": None, "spread": None}
    if scores:
        highest = max(scores)
        update["best"] = next(i for i, trial in enumerate(trials) if trial.score == highest)
        update["spread"] = Spread(lowest=min(scores), median=median(scores), highest=highest)
    return rule.model_copy(update=update)
