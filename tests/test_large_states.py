"""Probe batches that are large together are not kept, and give the figures of kept batches."""

from __future__ import annotations

import gc
import weakref
from importlib import import_module
from typing import Any

import pytest
import torch
from bench_plugins.diagnostics import bench_diagnostics

from bench_core.api import Diagnostic, Measured
from bench_core.execution.worker.cell import attempt, measure
from bench_core.execution.worker.tensors import probe
from bench_core.testing.diagnostics import RandomDirect, audited
from bench_core.training import audit as module
from bench_core.training import diagnostic_tools, evaluation
from bench_core.training.audit import Audit
from bench_core.training.method import Credits
from bench_core.training.probe import ProbeBatch

FEW = {"perturbation_correlation": {"draws": 2, "samples": 256}, "null_calibration": {"draws": 3}}


class Drawing(RandomDirect):
    """Credits with noise from the stream of the training, which an audit must not draw twice."""

    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        credits = super().credit(states, y, epoch)
        draws = self.tools.aux_generator
        noisy = [a + torch.randn(a.shape, generator=draws) for a in credits.audited]
        return Credits(audited=noisy, readouts={"further": list(credits.audited)})


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)


def drawing() -> Audit:
    audit = audited()
    audit.method.__class__ = Drawing
    return audit


def every_diagnostic() -> dict[str, Diagnostic]:
    made = {}
    for component in bench_diagnostics():
        path, _, name = component.target.partition(":")
        target = getattr(import_module(path), name)
        made[component.name] = target(target.Params(**FEW.get(component.name, {})))
    return made


def everything(audit: Audit) -> dict[str, Any]:
    """Measure as a worker does; return the measurements, the probe and the stream afterwards."""
    listed = every_diagnostic()
    found: dict[str, Any] = {}
    for when in ("epochs", "final"):
        audit.due = [each for each in listed.values() if each.when == when]
        for name, each in listed.items():
            if each.when == when:
                found[name] = measure(each, audit).model_dump_json()
    found["probe"] = {name: rows.tolist() for name, rows in probe(audit, 200).items()}
    found["stream"] = audit.method.tools.aux_generator.get_state().tolist()
    return found


@pytest.mark.long
def test_the_figures_are_those_of_kept_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = everything(drawing())
    monkeypatch.setattr(module, "LARGE", 0)
    again = everything(drawing())
    assert again == kept


@pytest.mark.long
def test_large_batches_are_not_kept_and_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def alive(audit: Audit) -> int:
        made: list[weakref.ref[ProbeBatch]] = []
        batch = audit.batch

        def watched(x: Any, y: Any) -> ProbeBatch:
            made.append(weakref.ref(one := batch(x, y)))
            return one

        monkeypatch.setattr(audit, "batch", watched)
        everything(audit)
        gc.collect()
        return sum(each() is not None for each in made)

    assert alive(audited()) == 10
    monkeypatch.setattr(module, "LARGE", 0)
    assert alive(audited()) == 0


def test_one_pass_serves_all_diagnostics_that_are_due(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, calls = audited(), []
    batch = audit.batch
    monkeypatch.setattr(audit, "batch", lambda x, y: calls.append(len(y)) or batch(x, y))
    names = ("scale_growth", "reference_floor", "batch_stability", "alignment")
    audit.due = listed = [every_diagnostic()[name] for name in names]
    for each in listed:
        measure(each, audit)
    assert calls == [128] * 10


class ReadsBatches(Diagnostic):
    """A diagnostic that reads batches as a list."""

    def measure(self, audit: Audit) -> Measured:
        first, *_, last = audit.batches
        read = [first, audit.batches[-1], *audit.batches[2:4]]
        sums = [float(batch.g[0].sum()) for batch in read]
        same = torch.equal(last.g[0], audit.batches[9].g[0])
        return Measured(sums[0], {"sums": sums, "batches": len(audit.batches), "same": same})


class Fails(Diagnostic):
    """A diagnostic whose `per_batch` raises."""

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> float:
        raise ZeroDivisionError("planted")

    def measure(self, audit: Audit) -> Measured:
        return Measured(sum(audit.figures(self)))


def test_a_diagnostic_reads_large_batches_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = ReadsBatches(ReadsBatches.Params())
    kept = reads.measure(drawing())
    monkeypatch.setattr(module, "LARGE", 0)
    assert reads.measure(drawing()) == kept
    assert kept.details["batches"] == 10
    assert kept.details["same"]


def test_a_diagnostic_that_raises_costs_no_other_its_figures(large: None) -> None:
    audit, fails = audited(), Fails(Fails.Params())
    good = every_diagnostic()["scale_growth"]
    audit.due = [fails, good]
    assert measure(good, audit).value is not None
    assert "planted" in attempt("fails", fails, audit).details["error"]


def test_a_test_set_is_evaluated_in_small_batches_where_states_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audit = audited()
    whole = evaluation.evaluate(audit.net, audit.data)
    monkeypatch.setattr(evaluation, "LARGE_STATE", 0)
    sizes: list[int] = []
    batches = type(audit.data).test_batches

    def watched(self: Any, size: int, count: int | None = None) -> Any:
        sizes.append(size)
        return batches(self, size, count)

    monkeypatch.setattr(type(audit.data), "test_batches", watched)
    assert evaluation.evaluate(audit.net, audit.data) == pytest.approx(whole)
    assert max(sizes) == 100


def test_parts_of_a_batch_keep_their_order_and_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostic_tools, "PART", 3 * 8 * 4)  # three rows of eight float32
    x, y = torch.arange(56.0).view(7, 8), torch.arange(7.0)
    sizes = []

    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x * y[:, None]

    assert torch.equal(diagnostic_tools.by_parts(product, x, y), x * y[:, None])
    assert sizes == [3, 3, 1]
