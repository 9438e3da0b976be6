"""Write the epochs of every cell for TensorBoard, by torch's own writer.

The events of a cell lie in `BENCH_TENSORBOARD/SUITE/RULE/seed-SEED-IDENTITY` (default:
`runs/…`). Many `bench` commands import this module, so it imports no torch: the first cell does.
"""

import math
import os
from pathlib import Path

from bench_core.api import hookimpl

BENCH_API = (1, 0)  # the version of the plugin interface
FIGURES = ("accuracy", "train_loss", "test_loss", "validation_accuracy", "learning_rate", "seconds")
WRITERS = {}  # identity of a cell → its writer
HOME = [Path("runs")]


def figures(row):
    """Yield tag and value of every finite number of an epoch."""
    values = {name: row.get(name) for name in FIGURES}
    for name, measurement in row["measurements"].items():
        values[f"diagnostics/{name}"] = measurement["value"]
    for tag, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield tag, value


@hookimpl
def bench_suite_start(plan):
    WRITERS.clear()
    HOME[0] = Path(os.environ.get("BENCH_TENSORBOARD", "runs")).absolute() / plan.suite.name


@hookimpl
def bench_cell_start(identity, cell):
    from torch.utils.tensorboard import SummaryWriter

    frozen = cell.method.params.get("freeze") == "blocks"  # a floor
    rule = cell.method.short.replace("/", "_") + ("-frozen" if frozen else "")
    WRITERS[identity] = SummaryWriter(str(HOME[0] / rule / f"seed-{cell.seed}-{identity[:6]}"))


@hookimpl
def bench_epoch_end(identity, row):
    for tag, value in figures(row):
        WRITERS[identity].add_scalar(tag, value, row["epoch"])
    WRITERS[identity].flush()


@hookimpl
def bench_cell_end(identity, record):
    writer = WRITERS.pop(identity, None)  # a cell that never started has none
    if writer is not None:
        writer.add_text("status", f"{record.status} {record.reason or ''}".strip())
        writer.close()
