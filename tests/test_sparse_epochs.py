"""evaluate_every and diagnose_every: less is recorded, and the training is the same."""

from __future__ import annotations

import csv
import gc
import json
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import forged
import pytest
import records
import torch
from conftest import TINY, Here
from forged import EVERY
from records import measured
from torch import Tensor

from bench_core.analysis.first_firing import firings
from bench_core.execution.planning.reuse import sparser
from bench_core.execution.resumption import CannotResume, thinned
from bench_core.execution.worker.process import CellRun
from bench_core.results import store
from bench_core.results.epochs import Epoch
from bench_core.results.record import RunRecord, environment_key
from bench_core.results.scan import scan

SUITE = TINY.replace("epochs: 1", "epochs: 5") + "floors: false\n"
SPARSE = ("--set", "evaluate_every=2", "--set", "diagnose_every=3")


def run(here: Here, *options: str, results: str = "results") -> tuple[str, RunRecord, list[Any]]:
    """Run the suite; return the output, the record of dfa and its epochs."""
    suite = here.cwd / "tiny.yaml"
    suite.write_text(SUITE)
    done = here("run", suite, "--results", results, *options)
    assert done.returncode == 0, done.stderr
    (found,) = (r for r in scan([here.cwd / results]).runs if r.record.cell.method.short == "dfa")
    lines = (found.folder / "epochs.jsonl").read_text().splitlines()
    return done.stdout, found.record, [json.loads(line) for line in lines]


@pytest.mark.long
def test_sparse_epochs_have_the_same_training(here: Here) -> None:
    _, dense, every = run(here, results="dense")
    _, sparse, some = run(here, *SPARSE, results="sparse")
    assert (sparse.evaluate_every, sparse.diagnose_every) == (2, 3)
    assert sparse.identity == dense.identity
    assert sparse.accuracy == dense.accuracy
    assert sparse.measurements == dense.measurements
    assert sparse.initial == dense.initial
    assert [row["train_loss"] for row in some] == [row["train_loss"] for row in every]
    assert [row["epoch"] for row in some if row["accuracy"] is not None] == [0, 2, 4, 5]
    assert [row["epoch"] for row in some if row["measurements"]] == [0, 3, 5]
    for row, full in zip(some, every, strict=True):
        assert row["accuracy"] in (None, full["accuracy"])
        assert row["measurements"] in ({}, full["measurements"])


@pytest.mark.long
def test_a_denser_record_serves_a_sparser_request_and_not_the_reverse(here: Here) -> None:
    _, first, _ = run(here, *SPARSE)
    out, dense, rows = run(here)
    assert "to run" not in out or " 0 reused" in out
    assert (dense.evaluate_every, dense.diagnose_every) == (1, 1)
    assert all(row["measurements"] for row in rows)
    plan = here("plan", here.cwd / "tiny.yaml", *SPARSE)
    assert " 0 to run" in plan.stdout
    _, kept, _ = run(here, *SPARSE)
    assert kept == dense
    assert kept.accuracy == first.accuracy


@pytest.mark.long
def test_the_plan_says_why_a_sparse_record_is_not_reused(here: Here) -> None:
    run(here, *SPARSE)
    plan = here("plan", here.cwd / "tiny.yaml")
    assert "recorded with evaluate_every 2, and the suite asks for 1" in plan.stdout


@pytest.mark.parametrize(
    ("has", "asked", "serves"),
    [(1, 3, True), (2, 4, True), (2, 2, True), (2, 3, False), (4, 2, False)],
)
def test_a_record_serves_if_it_has_every_epoch_that_is_asked_for(
    has: int, asked: int, serves: bool
) -> None:
    told = f"it was recorded with diagnose_every {has}, and the suite asks for {asked}"
    found = sparser(records.run(diagnose_every=has), {**EVERY, "diagnose_every": asked})
    assert found == ("" if serves else told)


@pytest.mark.long
def test_tables_and_exports_of_sparse_epochs(here: Here) -> None:
    _, record, _ = run(here, *SPARSE)
    shown = here("show", f"results/tiny/{record.identity}")
    (line,) = (line for line in shown.stdout.splitlines() if line.startswith("1 "))
    assert line.split() == ["1", "–", "–", "–"]
    exported = here("export", "results", "--table", "epochs", "--format", "csv")
    assert exported.returncode == 0, exported.stderr
    lines = list(csv.DictReader(exported.stdout.splitlines()))
    own = [line for line in lines if line["identity"] == record.identity]
    assert [bool(line["accuracy"]) for line in own] == [True, False, True, False, True, True]
    assert [bool(line["state_norm"]) for line in own] == [True, False, False, True, False, True]
    page = here("report", "results", "-o", "page.html")
    assert page.returncode == 0, page.stderr


@pytest.mark.parametrize("name", ["evaluate_every", "diagnose_every"])
def test_stop_when_judges_every_epoch(here: Here, name: str) -> None:
    suite = here.cwd / "tiny.yaml"
    suite.write_text(SUITE + f"stop_when: [scale_growth]\n{name}: 2\n")
    refused = here("plan", suite)
    assert refused.returncode == 2
    assert f"{name}: must be 1 with stop_when" in refused.stderr


def test_a_first_firing_lies_between_two_measurements() -> None:
    def row(epoch: int, growth: float | None) -> Epoch:
        items = {} if growth is None else measured(a=growth)
        return Epoch(epoch=epoch, learning_rate=0.1, accuracy=0.5, seconds=1.0, measurements=items)

    rows = [row(0, 1.0), row(1, None), row(2, 1.5), row(3, None), row(4, 99.0), row(5, 99.0)]
    firing = firings(rows)[0]
    assert firing.key == "a"
    assert (firing.since, firing.epoch) == (2, 4)
    assert firing.epochs_saved == 1
    (ended,) = (each for each in firings([*rows[:5], row(5, None)]) if each.key == "a")
    assert (ended.since, ended.epoch) == (2, 4)  # a run that ended between two measurements


def test_a_training_that_is_continued_elsewhere_says_where_it_began(tmp_path: Path) -> None:
    job = {
        "cell": records.run().cell.model_dump(),
        "final": str(tmp_path / "i"),
        "device": "cpu",
        "diagnostics": [],
    }
    here = {"torch": "2", "device_name": "A", "commit": "1"}
    there = {"torch": "2", "device_name": "B", "commit": "2", "instructions": "AVX2"}
    epoch = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0, "measurements": {}}
    rows = [{**epoch, "epoch": number} for number in range(3)]
    own = {
        "rows": rows,
        "seconds": 1.0,
        "resumed": [],
        "epoch": 2,
        "measured": {"initial": {}, "measurements": {}},
    }
    expected = {**here, "earlier": {"2": {"device_name": "B", "instructions": "AVX2"}}}
    before = {**there, "earlier": {"1": {"device_name": "C"}}}
    chain = {**expected, "earlier": {"1": {"device_name": "C"}, **expected["earlier"]}}
    for environment, found in ((here, here), (there, expected), (before, chain), (None, here)):
        attempt = CellRun({**job, **EVERY}, print)
        attempt.fields["environment"] = here
        store.clear_temporary(attempt.final)
        attempt.recall({**own, **({"environment": environment} if environment else {})}, {})
        assert attempt.fields["environment"] == found
        assert attempt.remember()["environment"] == found
    assert environment_key(records.run(environment=expected)) != environment_key(
        records.run(environment=here)
    )


def test_a_continued_training_has_the_time_of_all_its_attempts_and_no_energy(
    tmp_path: Path,
) -> None:
    """The meter has counted the last attempt alone."""
    attempt = CellRun(forged.job(forged.cell(tmp_path / "i")), print)
    store.temporary(attempt.final).mkdir()
    row = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0, "measurements": {}}
    attempt.rows = rows = [{**row, "epoch": number} for number in range(3)]
    attempt.meter.joules = 7.0
    straight = attempt.record("done")
    assert (straight.seconds < 5e5, straight.energy_joules) == (True, 7.0)
    state = {"rows": rows, "seconds": 5e5, "resumed": [], "epoch": 2}
    attempt.recall({**state, "measured": {"initial": {}, "measurements": {}}}, {})
    continued = attempt.record("done")
    assert (continued.seconds >= 5e5, continued.energy_joules) == (True, None)
    assert continued.resumed == [2]


@pytest.mark.parametrize(
    ("there", "device", "deterministic", "goes_on"),
    [
        ({}, "cpu", True, False),
        ({"device_name": "B"}, "cpu", True, True),
        ({"commit": "2"}, "cpu", True, False),  # no cause of another rounding
        ({}, "cuda", True, True),
        ({}, "cpu", False, True),
    ],
)
def test_rounding_is_allowed_for_where_it_may_differ_alone(
    tmp_path: Path, there: dict[str, str], device: str, deterministic: bool, goes_on: bool
) -> None:
    """The credit of the restored rule is the saved one but for a part in a hundred."""
    here = {"torch": "2", "device_name": "A", "commit": "1"}
    job = {
        "cell": records.run().cell.model_dump(),
        "final": str(tmp_path / "i"),
        "device": "cpu",
        "diagnostics": [],
    }
    attempt = CellRun({**job, **EVERY}, print)
    attempt.job["device"] = device
    attempt.fields["environment"] = here
    store.temporary(attempt.final).mkdir()
    state = {"rows": [], "seconds": 1.0, "resumed": [], "epoch": -1, "measured": {}}
    before = {"0": torch.ones(5, 3)}
    asked = []

    def witness(epoch: int, samples: int) -> dict[str, Tensor]:
        asked.append(samples)
        return {"0": 1.01 * before["0"]}

    attempt.witness = witness  # type: ignore[method-assign, assignment]
    torch.use_deterministic_algorithms(deterministic)
    try:
        with nullcontext() if goes_on else pytest.raises(CannotResume, match="another credit a_0"):
            attempt.recall({**state, "environment": {**here, **there}}, before)
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [5]  # as many as were saved


@pytest.mark.parametrize(
    ("changed", "serves"), [({}, True), ({"code": "b"}, False), ({"params": {"k": 2}}, False)]
)
def test_a_saved_state_serves_if_its_diagnostics_are_those_of_today(
    tmp_path: Path, changed: dict[str, Any], serves: bool
) -> None:
    listed = {"name": "lab/own", "params": {"k": 1}, "code": "a"}
    job = {"cell": records.run().cell.model_dump(), "final": str(tmp_path / "i"), "device": "cpu"}
    attempt = CellRun({**job, "diagnostics": [listed], **EVERY}, print)
    store.temporary(attempt.final).mkdir()
    attempt.leave_child = lambda: None  # type: ignore[method-assign]
    saved = attempt.remember()  # what the training before this one has written
    assert saved["diagnostics"] == {"lab/own": listed}
    state = {**saved, "seconds": 1.0, "epoch": -1, "measured": {}}
    state["diagnostics"] = {"lab/own": {**listed, **changed}}
    told = "the diagnostic lab/own has other code or options now, and two of it cannot"
    with nullcontext() if serves else pytest.raises(CannotResume, match=told):
        attempt.recall(state, {})
    with pytest.raises(CannotResume, match="it did not measure lab/own, and the curve would lack"):
        attempt.recall({**state, "diagnostics": {"lab/other": listed}}, {})
    for every in ({"evaluate_every": 0}, {"unknown_every": 1}):
        with pytest.raises(CannotResume, match="its epochs have "):
            attempt.recall({**state, "diagnostics": {}, "every": every}, {})
    del state["diagnostics"]  # of a version that kept none
    attempt.recall(state, {})


def test_a_training_that_goes_on_with_less_keeps_no_more_than_a_straight_one() -> None:
    """Else the curve of an honest run has figures that a reproduction lacks."""
    measured = {"own": {"value": 1.0}, "gone": {"value": 2.0}}
    rows = [
        {"epoch": k, "accuracy": 0.1 * k, "test_loss": 1.0, "train_loss": 2.0,
         "validation_accuracy": 0.3, "measurements": measured}
        for k in range(4)
    ]  # fmt: skip
    state = {"rows": rows, "measured": {"initial": measured, "measurements": measured}}
    listed: Any = [{"name": "lab/own", "params": {}, "code": "a"}]
    thin, figures = thinned(state, {"evaluate_every": 2, "diagnose_every": 3}, listed)
    assert [row["accuracy"] for row in thin] == [0.0, None, 0.2, None]
    assert [row["test_loss"] for row in thin] == [1.0, None, 1.0, None]
    assert ["validation_accuracy" in row for row in thin] == [True, False, True, False]
    assert [row["train_loss"] for row in thin] == [2.0] * 4
    own = {"own": {"value": 1.0}}
    assert [row["measurements"] for row in thin] == [own, {}, {}, own]
    assert figures == {"initial": own, "measurements": own}
    dense = {"evaluate_every": 1, "diagnose_every": 1}
    both: Any = [*listed, {"name": "lab/gone", "params": {}, "code": "b"}]
    assert thinned(state, dense, both) == (rows, state["measured"])


def test_a_training_that_begins_anew_keeps_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would need the memory of two."""
    job = {
        "cell": records.run().cell.model_dump(),
        "final": str(tmp_path / "i"),
        "device": "cpu",
        "diagnostics": [],
    }
    told: list[Any] = []
    attempt = CellRun({**job, **EVERY}, told.append)
    store.temporary(attempt.final).mkdir()
    first: list[weakref.ref[Any]] = []

    def train() -> None:
        if first:
            gc.collect()
            assert first[0]() is None
            return
        net = attempt.built = attempt.audit = torch.nn.Linear(2, 2)  # type: ignore[assignment]
        first.append(weakref.ref(net))
        raise CannotResume("the rule lost its feedback")

    monkeypatch.setattr(attempt, "train", train)
    monkeypatch.setattr(attempt, "record", lambda status, reason=None: (status, reason))
    assert attempt.run() == ("done", None)
    assert told == [{"event": "anew", "reason": "the rule lost its feedback"}]


@pytest.mark.parametrize(("has", "serves"), [(1, True), (2, True), (3, False), (0, False)])
def test_a_saved_state_with_sparser_epochs_is_not_continued(
    tmp_path: Path, has: int, serves: bool
) -> None:
    job = {
        "cell": records.run().cell.model_dump(),
        "final": str(tmp_path / "i"),
        "device": "cpu",
        "diagnostics": [],
        **EVERY,
    }
    attempt = CellRun({**job, "evaluate_every": 2}, print)
    store.temporary(attempt.final).mkdir()
    state = {"rows": [], "seconds": 1.0, "resumed": [], "epoch": -1, "measured": {}}
    with nullcontext() if serves else pytest.raises(CannotResume, match="evaluate_every"):
        attempt.recall({**state, "every": {"evaluate_every": has}}, {})
