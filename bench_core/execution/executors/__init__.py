"""Run the cells of a plan: what an executor is, and how to write one.

An executor is a callable that a distribution offers through the hook `bench_executors`:

    execute(cells, job, on_event, options) -> None

    cells     the cells to run (`PlannedCell`), in the plan's order; at least one. No two have the
              same identity; their run folders may lie in several suite folders
    job       job(cell) → what the worker process of a cell must know, plain JSON values
    on_event  on_event(cell, event); call it in the process and the thread of `execute` with an
              event of `bench_core.execution.events`, a mapping such as {"event": "start"}
    options   `Options`, what the user asked for

When it returns, every cell whose record has a checksum has a run folder (`cell.folder`). The
numbers are the same, bit by bit, whatever the executor. It raises StoreError if the results folder
cannot be written, UsageError if there is no machine to run on or a setting is wrong, and
KeyboardInterrupt if it was interrupted. Then, too, no worker, no temporary folder and no lock is
left.

The built-in executors are `local`, `ray` and `slurm`. For another scheduler use `remote.drive`,
which keeps all of these promises: it needs a function that submits `remote.run_job` with a text,
and a handle for each submitted job. This is a whole executor for dask:

    from bench_core.execution.executors import remote
    from distributed import Client

    class Handle:
        def __init__(self, future):
            self.future = future

        def answer(self):                 # the text that run_job returned, None until then
            if not self.future.done():
                return None
            if self.future.status != "finished":
                raise remote.Lost(f"lost in dask: {self.future.status}")
            return self.future.result()

        def cancel(self):
            self.future.cancel()

    def execute(cells, job, on_event, options):
        with Client(options.settings.get("address")) as client:
            def submit(texts):            # texts: pairs of a PlannedCell and the text of its job
                futures = [client.submit(remote.run_job, text, pure=False) for _, text in texts]
                return [Handle(future) for future in futures]

            remote.drive(cells, job, on_event, options, submit, options.slots)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench_core.errors import UsageError
from bench_core.execution.events import Event
from bench_core.execution.planning.job import Job

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell

JobOf = Callable[["PlannedCell"], Job]
OnEvent = Callable[["PlannedCell", Event], None]


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    slots          cells at once; None: as many as there are cores or accelerators
    per_gpu        cells at once on one accelerator
    sweep_seconds  after this time the cells that have not started are skipped
    settings       the executor's own, such as `partition` for slurm
    """

    slots: int | None = None
    per_gpu: int = 1
    sweep_seconds: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def whole_number(self, name: str, default: int | None = None) -> int | None:
        """Return a setting that is a whole number. Raises UsageError."""
        text = self.settings.get(name)
        if text is not None and not text.isdigit():
            raise UsageError(f"--executor-set {name}={text}: must be a whole number")
        return default if text is None else int(text)


Execute = Callable[[Sequence["PlannedCell"], JobOf, OnEvent, Options], None]
