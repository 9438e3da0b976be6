"""Send the epochs of every cell to trackio, a local tracker with the interface of Weights & Biases.

A suite is a project, a rule a group, a cell a run. `BENCH_TRACKER=wandb` names another module with
the same interface. Many `bench` commands import this module, so it imports no tracker: the first
cell does.
"""

import math
import os
from contextvars import Context
from importlib import import_module

from bench_core.api import hookimpl

BENCH_API = (1, 0)  # the version of the plugin interface
FIGURES = ("accuracy", "train_loss", "test_loss", "validation_accuracy", "learning_rate", "seconds")
OPTIONS = {"wandb": {"reinit": "create_new"}}  # several cells run at once
RUNS = {}  # identity of a cell → its run


def tracker():
    return os.environ.get("BENCH_TRACKER", "trackio")


def config(cell):
    """Return the settings of a cell by dotted key."""
    parts = {"method": cell.method, "arch": cell.arch, "dataset": cell.dataset}
    values = {name: part.short for name, part in parts.items()}
    for name, part in parts.items():
        values |= {f"{name}.{key}": value for key, value in part.params.items()}
    values |= {f"data.{key}": value for key, value in cell.data.items()}
    values |= {f"training.{key}": value for key, value in cell.training.items()}
    return values | {"seed": cell.seed}


def figures(row):
    """Return the finite numbers of an epoch: losses, accuracies, diagnostics by name."""
    values = {name: row.get(name) for name in FIGURES}
    for name, measurement in row["measurements"].items():
        values[f"diagnostics/{name}"] = measurement["value"]
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def rule_of(cell):
    """Name the rule of a cell; a floor is the rule with frozen blocks."""
    frozen = cell.method.params.get("freeze") == "blocks"
    return f"{cell.method.short}[frozen]" if frozen else cell.method.short


@hookimpl
def bench_suite_start(plan):
    RUNS.clear()
    os.environ.setdefault("BENCH_TRACKER_PROJECT", f"bench-{plan.suite.name}")


@hookimpl
def bench_cell_start(identity, cell):
    # in a context of its own, because trackio ends the run that its context has
    RUNS[identity] = Context().run(
        import_module(tracker()).init,
        project=os.environ.get("BENCH_TRACKER_PROJECT", "bench"),
        name=f"{rule_of(cell)} seed {cell.seed} {identity[:6]}",
        group=rule_of(cell),
        config=config(cell),
        **OPTIONS.get(tracker(), {}),
    )


@hookimpl
def bench_epoch_end(identity, row):
    RUNS[identity].log(figures(row), step=row["epoch"])


@hookimpl
def bench_cell_end(identity, record):
    run = RUNS.pop(identity, None)  # a cell that never started has none
    if run is not None:
        run.log({"done": int(record.status == "done")}, step=record.epochs)
        run.finish()
