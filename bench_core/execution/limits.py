"""Limit what a run of other people may use when it is run or measured again here.

A posted cell is not trusted: it may ask for any number of epochs and parameters. The limits follow
from the needs that the posted run states. An honest run has room. No run gets more than a day, nor
more than the memory of this machine.
"""

from __future__ import annotations

from bench_core.errors import UsageError
from bench_core.processes.groups import machine_memory
from bench_core.results.record import RunRecord
from bench_core.suite.recipe import MAX_EPOCHS
from bench_core.units import MIB

SLOWER = 100  # times slower than the posted run may be: another device, a busy machine
SECONDS = (600.0, 86_400.0)  # least and most of a budget
MEMORY_MB = 2048  # beside twice the memory that the posted run names
SHARE = 0.75  # of this machine's memory


def allowance(record: RunRecord) -> dict[str, float | int]:
    """Return the budget of a cell that reproduces a run. Raises UsageError for one too long."""
    if record.cell.last_epoch > MAX_EPOCHS or record.epochs > MAX_EPOCHS:
        epochs = max(record.cell.last_epoch, record.epochs)
        raise UsageError(f"it has {epochs:,} epochs; at most {MAX_EPOCHS:,} are run again")
    least, most = SECONDS
    memory = 2 * (record.peak_memory_bytes or 0) // MIB + MEMORY_MB
    return {
        "seconds": min(most, max(least, SLOWER * record.seconds)),
        "memory_mb": min(memory, int(SHARE * machine_memory()) // MIB),
    }
