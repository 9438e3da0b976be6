"""Tests of the observer with a tracker that keeps what it gets."""

import sys
from types import SimpleNamespace

import bench_trackio

from bench_core.results.record import Cell, ComponentRef


class Run:
    def __init__(self, **options):
        self.options, self.rows, self.finished = options, [], False

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


def a_cell(seed):
    refs = {name: ComponentRef(name=f"bench-core/{name}") for name in ("arch", "dataset")}
    method = ComponentRef(name="bench-core/dfa", params={"penalty": 0.0})
    return Cell(method=method, **refs, data={}, training={"epochs": 2}, seed=seed)


def a_row(epoch, accuracy):
    measurements = {
        "scale_growth": {"value": 1.5},
        "odd": {"value": "inf"},
        "none": {"value": None},
    }
    return {"epoch": epoch, "accuracy": accuracy, "train_loss": 2.0, "measurements": measurements}


def observe(monkeypatch, module, tracker="trackio"):
    """Two cells at once: the first ends, the second does not."""
    runs = []
    monkeypatch.setitem(
        sys.modules, module, SimpleNamespace(init=lambda **o: runs.append(Run(**o)) or runs[-1])
    )
    monkeypatch.setenv("BENCH_TRACKER", tracker)
    monkeypatch.setenv("BENCH_TRACKER_PROJECT", "bench-tiny")
    bench_trackio.bench_suite_start(SimpleNamespace(suite=SimpleNamespace(name="tiny")))
    for seed in (1, 2):
        bench_trackio.bench_cell_start(f"{seed}" * 32, a_cell(seed))
    for seed in (1, 2):
        bench_trackio.bench_epoch_end(f"{seed}" * 32, a_row(1, 0.5 * seed))
    bench_trackio.bench_cell_end("1" * 32, SimpleNamespace(status="done", epochs=2))
    bench_trackio.bench_cell_end("3" * 32, SimpleNamespace(status="skipped", epochs=0))
    return runs


def test_a_cell_is_a_run_of_its_own(monkeypatch):
    first, second = observe(monkeypatch, "trackio")
    assert first.options["project"] == "bench-tiny"
    assert (first.options["group"], first.options["config"]["seed"]) == ("dfa", 1)
    assert first.options["config"]["training.epochs"] == 2
    figures = {"accuracy": 0.5, "train_loss": 2.0, "diagnostics/scale_growth": 1.5}
    assert first.rows == [(1, figures), (2, {"done": 1})]
    assert (first.finished, second.finished) == (True, False)
    assert second.rows[0][1]["accuracy"] == 1.0


def test_another_tracker_with_the_same_interface_is_named_by_a_variable(monkeypatch):
    first, _ = observe(monkeypatch, "wandb", "wandb")
    assert first.options["reinit"] == "create_new"
