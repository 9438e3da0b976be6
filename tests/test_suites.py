"""Plan every shipped suite; each of its claims must find its row and figure in the plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nets import ready, resmlp, rule, toy_data
from test_diagnostics import diagnostic

from bench_core.analysis.claims.hold import ClaimResult, judge_claims
from bench_core.analysis.distance import NAME as DISTANCE
from bench_core.analysis.distance import filled
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.execution.planning.fingerprint import code_files
from bench_core.execution.planning.plan import Plan, make_plan
from bench_core.execution.runner import described
from bench_core.execution.worker.cell import measure
from bench_core.registry import plugins
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.load import installed_suites, load_suite
from bench_core.training.audit import Audit

DIGESTS: dict[Any, str] = {}


@pytest.fixture(autouse=True)
def _answers_here(asked_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let components answer in this process, without data files; digest each module once."""
    from bench_plugins.datasets.cifar import Cifar10

    def digest(modules: list[str], distribution: str) -> dict[str, str]:
        key = (*modules, distribution)
        if key not in DIGESTS:
            DIGESTS[key] = code_files(modules, distribution)
        return DIGESTS[key]

    monkeypatch.setattr("bench_core.execution.planning.fingerprint.code_files", digest)
    monkeypatch.setattr(Cifar10, "prepare", lambda self, folder: "0")
    monkeypatch.setattr("bench_core.execution.planning.validate._selected", lambda *arguments: {})


@pytest.fixture(scope="module")
def measurements() -> dict[str, Measurement]:
    """Measure every diagnostic on a small network: a claim about an unknown detail must fail."""
    data = toy_data(test=1280)
    method, net = ready(rule("dfa"), resmlp(depth=4), data)
    initial = {name: value.detach().clone() for name, value in net.state_dict().items()}
    audit = Audit(net, method, data, 0, 0, initial)
    net.costate = lambda states, y: tuple(states.h)  # type: ignore[method-assign]
    found: dict[str, Measurement] = {}
    for item in plugins.load().of_kind("diagnostic"):
        rows = [
            {"epoch": t, "train_loss": 2.0 - t, "measurements": _plain(found)} for t in range(2)
        ]
        audit.history = rows
        found[item.component.name] = measure(diagnostic(item.component.name), audit)
    found[DISTANCE] = filled(found[DISTANCE], [1.0] * 5, 1280, "x")
    return found


def _plain(found: dict[str, Measurement]) -> dict[str, Any]:
    return {name: item.model_dump() for name, item in found.items()}


def planned(name: str, folder: Path, overrides: Sequence[str] = ()) -> Plan:
    return make_plan(load_suite(name, overrides), plugins.load(), folder)


def runs(plan: Plan, measurements: dict[str, Measurement]) -> tuple[list[RunRecord], list[Epoch]]:
    """A finished run for every cell, with what the suite measures."""
    listed = {item["name"].rpartition("/")[2] for item in plan.diagnostics}
    own = {name: item for name, item in measurements.items() if name in listed}
    records = [
        RunRecord(
            identity=cell.identity,
            suite=plan.suite.name,
            cell=cell.cell,
            status="done",
            # a margin of 20 points, so that the recipe can judge d
            accuracy=0.3 if cell.cell.method.params.get("freeze") == "blocks" else 0.5,
            train_loss=1.0,
            measurements=own,
        )
        for cell in plan.cells
    ]
    last = max(cell.cell.training["epochs"] for cell in plan.cells)
    every = {name: item for name, item in own.items() if diagnostic(name).when == "epochs"}
    rows = [
        Epoch(epoch=t, learning_rate=1e-3, accuracy=0.5, train_loss=1.0, measurements=every)
        for t in range(last + 1)
    ]
    return records, rows


def judged(plan: Plan, records: list[RunRecord], rows: list[Epoch]) -> list[ClaimResult]:
    settings = Settings(
        depth_utility=plan.suite.depth_utility, defaults=described(plan)["defaults"]
    )
    groups, file = judge_all(records, settings), plan.suite.claimed_for
    return judge_claims(plan.suite.expect, groups, settings, file, lambda record: rows)


@pytest.mark.parametrize("name", installed_suites())
def test_a_shipped_suite_plans_and_its_claims_resolve(
    name: str, tmp_path: Path, measurements: dict[str, Measurement]
) -> None:
    plan = planned(name, tmp_path)
    assert plan.cells
    records, rows = runs(plan, measurements)
    outcomes = judged(plan, records, rows)
    unresolved = {i: o.notes for i, o in enumerate(outcomes) if o.status == "not run"}
    assert unresolved == {}
    for found in outcomes:
        assert found.measured is not None
        # one row, its seeds
        assert found.measured.n in ((1,) if found.claim.seed is not None else (1, 3))
        assert not [note for note in found.notes if note.startswith("not compared")]
        assert found.claim.source.startswith(("arXiv:", "doi:", "independent re-implementation"))


def test_the_suites_that_have_been_published_make_claims() -> None:
    names = (
        "audit5 audit6 penalty lambda_sweep depth_sweep depth_ladder width temporal cnn vit "
        "synthetic_ladder random_targets no_terminal_norm no_residual normalization lq_toy "
        "structured_aux"
    )
    published = set(names.split())
    assert published <= {name for name in installed_suites() if load_suite(name).expect}


def test_a_claim_that_is_spoilt_does_not_resolve(
    tmp_path: Path, measurements: dict[str, Measurement]
) -> None:
    """The test above can fail: an unknown detail, a missing method, a shortened recipe."""
    plan = planned("width", tmp_path)
    records, rows = runs(plan, measurements)
    groups = judge_all(records)

    def status(**changes: Any) -> str:
        claim = plan.suite.expect[0].model_copy(update=changes)
        return judge_claims(
            [claim], groups, Settings(), plan.suite.claimed_for, lambda record: rows
        )[0].status

    assert status() != "not run"
    assert (
        status(figure="alignment.deeep")
        == status(figure="nudging")
        == status(epoch=101)
        == "not run"
    )
    assert (
        status(cell={"training.epochs": 5})
        == status(cell={"arch.depth": 5})
        == status(seed=7)
        == "not run"
    )


@pytest.mark.parametrize(
    ("option", "only"),
    [
        ("arch.terminal_norm=false", ""),
        ("arch.residual=false", ""),
        ("dataset={name: cifar10, padding: black}", ""),
        ("methods[4]={name: ep, beta: 0.01, steps: 1}", "ep"),
        ("methods[2]={name: state_bridge, reduction: mean}", "state_bridge"),
    ],
)
def test_a_run_with_another_option_is_not_the_suites_cell(
    option: str, only: str, tmp_path: Path, measurements: dict[str, Measurement]
) -> None:
    plan = planned("audit5", tmp_path, [option])
    outcomes = judged(plan, *runs(plan, measurements))
    concerned = [found for found in outcomes if only in ("", found.claim.method.name)]  # type: ignore[union-attr]
    assert concerned
    for found in outcomes:
        assert (found.status == "not run") is (found in concerned)
        assert found.status != "not run" or "claimed for" in found.notes[0]


def test_the_rules_on_cifar10_are_those_on_digits() -> None:
    digits, cifar10 = load_suite("rules"), load_suite("rules_cifar10")
    for part in ("methods", "diagnostics", "expect"):
        assert getattr(digits, part) == getattr(cifar10, part), part
