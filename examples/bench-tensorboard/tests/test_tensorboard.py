"""Tests of the observer with a writer that keeps what it gets."""

import sys
from types import SimpleNamespace

import bench_tensorboard

from bench_core.results.record import Cell, ComponentRef


class Writer:
    made = {}  # noqa: RUF012

    def __init__(self, folder):
        self.rows, self.texts, self.closed = [], [], False
        self.made[folder] = self

    def add_scalar(self, tag, value, step):
        self.rows.append((tag, value, step))

    def add_text(self, tag, text):
        self.texts.append((tag, text))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def a_cell(seed):
    refs = {name: ComponentRef(name=f"bench-core/{name}") for name in ("arch", "dataset")}
    method = ComponentRef(name="x-own/rule")
    return Cell(method=method, **refs, data={}, training={"epochs": 2}, seed=seed)


def test_a_cell_has_a_folder_of_events(monkeypatch, tmp_path):
    Writer.made.clear()
    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setenv("BENCH_TENSORBOARD", str(tmp_path))
    bench_tensorboard.bench_suite_start(SimpleNamespace(suite=SimpleNamespace(name="tiny")))
    bench_tensorboard.bench_cell_start("1" * 32, a_cell(7))
    measurements = {"scale_growth": {"value": 1.5}, "odd": {"value": "inf"}}
    row = {"epoch": 1, "accuracy": 0.5, "train_loss": None, "measurements": measurements}
    bench_tensorboard.bench_epoch_end("1" * 32, row)
    bench_tensorboard.bench_cell_end("1" * 32, SimpleNamespace(status="failed", reason="why"))
    bench_tensorboard.bench_cell_end("2" * 32, SimpleNamespace(status="skipped", reason=None))
    ((folder, writer),) = Writer.made.items()
    assert folder == str(tmp_path / "tiny" / "x-own_rule" / "seed-7-111111")
    assert writer.rows == [("accuracy", 0.5, 1), ("diagnostics/scale_growth", 1.5, 1)]
    assert writer.texts == [("status", "failed why")]
    assert writer.closed
