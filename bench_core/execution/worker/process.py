"""Train and measure one cell in a process of its own, and write its run folder.

The job arrives as JSON on standard input. Events leave as JSON lines on a duplicate of standard
output: {"event": "epoch", "row": …} after every epoch, {"event": "anew", "reason": …} if a saved
state cannot be used, {"event": "cut short", "status": …} before a run is kept that has no final
status, {"event": "unwritable", "reason": …} if the results folder cannot be written. All that is
printed goes to a file that becomes log.txt. The worker dies with the runner that started it, and
holds the run folder's lock (an inherited descriptor) until then.

Exit codes: 0 a run folder was written, whatever its status; 74 (EX_IOERR) none can be written.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental.symbolic_shapes  # for `backward`: sympy once in the fork server
from torch import Tensor

from bench_core.errors import BenchError, ChangedByDiagnostic, NoDevice, StoreError
from bench_core.execution.devices import absent
from bench_core.execution.energy import Meter
from bench_core.execution.executors.supervise import EX_IOERR
from bench_core.execution.machine import CodeChanged, check_machine, check_modules
from bench_core.execution.planning.job import Job, make_record, rule_files
from bench_core.execution.resumption import (
    CONTINUES,
    CannotResume,
    Keeper,
    reason_to_begin_anew,
    thinned,
)
from bench_core.execution.worker.cell import (
    attempt,
    build_cell,
    diagnostics,
    environment,
    unasked,
)
from bench_core.execution.worker.continuity import SAMPLES, changed_credit, witness
from bench_core.execution.worker.global_state import ARITHMETIC, of_recipe, read, unlike
from bench_core.execution.worker.memory import limit_gpu, peak_memory, spare_memory
from bench_core.execution.worker.tensors import save_tensors
from bench_core.execution.worker.untouched import Untouched, check_credit
from bench_core.names import OURS, bare_name
from bench_core.processes import child
from bench_core.registry import plugins
from bench_core.registry.faults import located
from bench_core.results import files, store
from bench_core.results.epochs import Epoch
from bench_core.results.files import writing
from bench_core.results.hashing import jsonable
from bench_core.results.record import NO_CAUSE, Cell, Measurement, RunRecord, fires
from bench_core.results.status import FINAL, Status
from bench_core.suite.recipe import TrainingOptions
from bench_core.training.audit import Audit
from bench_core.training.diagnostic import Diagnostic
from bench_core.training.evaluation import reset_accuracies
from bench_core.training.loop import Diverged, EpochRow, train

OUT_OF_MEMORY = re.compile(
    r"^(OutOfMemoryError|MemoryError|\w+ArrayMemoryError)|(not enough|can't allocate|out of) memory"
)


class CellRun:
    """The run of one job.

    rows    lines of epochs.jsonl so far
    fields  of the record so far
    spent   seconds of the earlier attempts that this one continues
    meter   of the energy between two measurements: training, and the test accuracy after it
    pid     of this process; a rule may fork it
    umask   of the user: set again before every write, because a plugin may change it
    audit   the last one
    arithmetic  settings of the process before any plugin was imported
    """

    def __init__(self, job: Job, say: Callable[[Any], None]) -> None:
        self.job, self.say = job, say
        self.every = {
            "evaluate_every": job["evaluate_every"],
            "diagnose_every": job["diagnose_every"],
        }
        self.final = Path(job["final"])
        self.folder = store.temporary(self.final)
        self.cell = Cell.model_validate(job["cell"])
        self.started = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self.fields: dict[str, Any] = {"resumed": []}
        self.spent = 0.0
        self.audit: Audit | None = None
        self.meter = Meter(job["device"])
        self.arithmetic = read(ARITHMETIC)
        self.pid = os.getpid()
        self.umask = os.umask(0)
        os.umask(self.umask)

    @property
    def seconds(self) -> float:
        return self.spent + time.perf_counter() - self.started

    def report(self, event: str, **more: Any) -> None:
        """Send an event to the runner."""
        self.leave_child()
        self.say(jsonable({"event": event, **more}))

    def leave_child(self) -> None:
        """End this process if it is a fork by a plugin that came back: the run is its parent's."""
        if os.getpid() != self.pid:
            os._exit(1)

    def run(self) -> RunRecord:
        """Train and measure; any fault of a plugin becomes a status. Raises StoreError."""
        try:
            try:
                if (reason := self.resume()) is not None:  # no traceback holds the first network
                    print(f"the saved state cannot be used, training begins anew: {reason}")
                    self.report("anew", reason=reason)
                    store.remove_resume(self.final)
                    self.train()
            except Diverged:
                self.check_arithmetic()
                raise
        except StoreError:
            raise
        except Diverged as error:
            return self.record("diverged", str(error))
        except (CodeChanged, NoDevice, ChangedByDiagnostic) as error:  # no fault of the cell's code
            return self.record("crashed", str(error))
        except BenchError as error:
            return self.record("failed", located(error))
        except BaseException as error:  # KeyboardInterrupt too: only a plugin raises it here
            traceback.print_exc()
            reason = located(error)
            return self.record("oom" if OUT_OF_MEMORY.search(reason) else "failed", reason)
        return self.record("done")

    def resume(self) -> str | None:
        """Train, from the saved state if there is one; return the reason if it cannot be used."""
        try:
            self.train()
        except CannotResume as error:
            del self.built
            self.audit = None
            return str(error)
        return None

    def train(self) -> None:
        """Build the cell's network and rule, train, and write the tensors."""
        job, cell, device = self.job, self.cell, self.job["device"]
        if missing := absent(device):
            raise NoDevice(missing)
        training = {**TrainingOptions().model_dump(), **cell.training, "device": device}
        self.expected = of_recipe(self.arithmetic, training)
        check_modules(job["modules"], () if job.get("verify") else rule_files(job["code"]))
        names = [ref.name for ref in cell.refs.values()]
        registry = plugins.load_for(names + [entry["name"] for entry in job["diagnostics"]])
        limit_gpu(device, job["budget"].get("gpu_memory_mb"))
        if job.get("verify"):
            check_machine(job, registry)
        self.diagnostics = diagnostics(registry, job["diagnostics"])
        self.built = built = build_cell(registry, cell, training, job["data_dir"])
        net, method = built.net, built.method
        self.unasked = unasked(registry, method, self.diagnostics)
        self.fields["numerics"] = job["numerics"] | {
            f"diagnostic {OURS}/{name}": each.numerics for name, each in self.unasked
        }
        self.fields |= {
            "environment": {**environment(device, training), **job["checkout"]},
            "passport": method.passport.as_dict(),
            "forward_passes": method.forward_passes,
            "chance": built.data.chance,
            "test_samples": built.data.test_samples,
        }
        self.keeper = Keeper(
            store.resume_file(self.final), job["identity"], job["checkpoint_every"], net, method,
            self.remember, self.recall, self.folder, self.witness,
        )  # fmt: skip
        every = job["evaluate_every"]
        spare_memory(method.task.shapes, method.task.batch_size)
        last = train(
            method, net, built.data, training, cell.seed, self.observe, self.keeper, every,
            built.bare,
        )  # fmt: skip
        self.fields["steps_per_batch"] = built.steps_per_batch(last.epoch)
        self.fields["blocks_changed"] = changed, _ = built.blocks_changed()
        if changed:
            self.fields |= reset_accuracies(
                net, built.data, built.bare, built.initial, training["batch_size"]
            )
        written = [
            name for name, value in built.data.opened().sums().items() if value != built.sums[name]
        ]
        if written:
            raise BenchError(
                f"{', '.join(written)} changed while it ran: {cell.method.short}, "
                "or another plugin of it, writes to the data"
            )
        os.umask(self.umask)
        if self.audit is not None:
            save_tensors(self.folder, net, method, self.audit)

    def check_arithmetic(self) -> None:
        """Raise BenchError if the process does not compute as the recipe and the record say."""
        if wrong := unlike(self.expected):
            raise BenchError(
                f"{wrong}: {self.cell.method.short}, or another plugin of it, changes a setting of "
                "torch, and the run would be recorded as computed without that"
            )

    def observe(self, row: EpochRow) -> bool:
        """Measure after an epoch and write its row; return whether the training ends now."""
        self.meter.stop()
        self.check_arithmetic()
        built, last, step = self.built, self.cell.last_epoch, max(row.epoch - 1, 0)
        line = {**asdict(row), "measurements": {}}
        if row.validation_accuracy is None:
            del line["validation_accuracy"]
        data = built.data.opened()
        self.audit = Audit(
            built.net, built.method, data, self.cell.seed, step, initial=built.initial
        )
        self.audit.history = [*self.rows, line]
        if row.epoch in (0, last):
            check_credit(self.audit, self.keeper.training)
        if row.epoch != last and row.epoch % self.job["diagnose_every"]:
            measured = {}
        else:
            measured = self.measure("epochs", self.audit)
        line["measurements"] = _plain(measured)
        stopped_by = self.stopped_by(measured) if row.epoch else None
        if stopped_by and row.epoch != last:
            check_credit(self.audit, self.keeper.training)
        if row.epoch in (0, last) or stopped_by:
            measured |= self.measure("final", self.audit)
            if row.epoch:
                measured |= self.measure("final", self.audit, self.unasked)
            line["measurements"] = _plain(measured)
        if row.epoch == 0:
            self.fields["initial"] = measured
        if measured:
            self.fields["measurements"] = measured
        self.fields["stopped_by"] = stopped_by if row.epoch < last else None
        self.rows.append(line)
        self.write_rows([line])
        self.report("epoch", row=line)
        if stopped_by is None and row.epoch != last:
            self.audit = None  # with the test samples, which the training must not find
            spare_memory(built.method.task.shapes, built.method.task.batch_size)
        self.meter.start()
        return stopped_by is not None

    def measure(
        self, when: str, audit: Audit, listed: Sequence[tuple[str, Diagnostic]] | None = None
    ) -> dict[str, Measurement]:
        """Run the diagnostics of a moment, "epochs" or "final"; return their values by name.

        Raises ChangedByDiagnostic.

        listed  None: those of the suite
        """
        listed = self.diagnostics if listed is None else listed
        chosen = [(name, each) for name, each in listed if each.when == when]
        audit.due = [diagnostic for _, diagnostic in chosen]
        training = Untouched(self.keeper.training) if chosen else None
        measured = {}
        for name, diagnostic in chosen:
            measured[name] = attempt(name, diagnostic, audit)
            if training:
                training.check(name, audit)
        return measured

    def stopped_by(self, measured: dict[str, Measurement]) -> str | None:
        """Return the first diagnostic of `stop_when` that fires now and did not at epoch 0."""
        for full_name, threshold in self.cell.training.get("stop_when", {}).items():
            name: str = bare_name(full_name)
            now, before = measured.get(name), self.fields["initial"].get(name)
            fired_before = before is not None and fires(before, threshold)
            if now is not None and fires(now, threshold) and not fired_before:
                return name
        return None

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Append lines to epochs.jsonl. Raises StoreError."""
        self.leave_child()
        lines = [json.dumps(jsonable(row), sort_keys=True, allow_nan=False) for row in rows]
        os.umask(self.umask)
        with writing(self.final), files.append_to(self.folder / store.EPOCHS) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())

    def witness(self, epoch: int, samples: int = SAMPLES) -> dict[str, Tensor]:
        """Compute what a restored rule is compared by (`continuity.witness`)."""
        net, method, data = self.built.net, self.built.method, self.built.data.opened()
        return witness(net, method, data, self.cell.seed, epoch, samples)

    def remember(self) -> dict[str, Any]:
        """Return what a later attempt must know of this one, which is written next."""
        self.leave_child()
        os.umask(self.umask)
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "resumed": self.fields["resumed"],
            "every": self.every,
            "diagnostics": {each["name"]: each for each in self.job["diagnostics"]},
            "environment": self.fields.get("environment", {}),
            "measured": {
                key: _plain(self.fields.get(key, {})) for key in ("initial", "measurements")
            },
        }

    def recall(self, state: dict[str, Any], before: dict[str, Tensor]) -> None:
        """Continue the attempt that `remember` described. Raises an error if it cannot."""
        if reason := reason_to_begin_anew(state, self.every, self.job["diagnostics"]):
            raise CannotResume(reason)
        rows, seconds, epochs = state["rows"], state["seconds"], [*state["resumed"], state["epoch"]]
        if [Epoch.model_validate(row).epoch for row in rows] != list(range(state["epoch"] + 1)):
            raise ValueError("its rows are not those of its epochs")
        rows, figures = thinned(state, self.every, self.job["diagnostics"])
        measured = {
            key: {name: Measurement.model_validate(value) for name, value in values.items()}
            for key, values in figures.items()
        }
        now, then = self.fields.get("environment", {}), state.get("environment", {})
        earlier = dict(then.get("earlier", {}))
        unlike = {key: value for key, value in then.items() if value != now.get(key)}
        if other := {key: unlike[key] for key in unlike.keys() - {"earlier", *NO_CAUSE}}:
            earlier[str(state["epoch"])] = other
        if before and (name := self._changed_credit(before, state["epoch"], here=not other)):
            credit = f"credit a_{name}" if name.isdigit() else f"Credits.{name}"
            raise CannotResume(
                f"the rule rebuilt from it gives another {credit}, because its state_dict "
                "lacks something that the credit needs: keep tensors in self.kept"
            )
        if earlier:  # the epochs up to these were computed elsewhere
            self.fields["environment"] = {**now, "earlier": earlier}
        self.write_rows(rows)  # the first of this attempt
        self.rows, self.spent = rows, seconds
        self.fields |= {**measured, "resumed": epochs}
        print(f"{CONTINUES} {state['epoch']}")

    def _changed_credit(self, before: dict[str, Tensor], epoch: int, here: bool) -> str | None:
        """Name a credit of the restored rule that is not the saved one."""
        now = self.witness(epoch, len(next(iter(before.values()))))
        exact = self.job["device"] == "cpu" and torch.are_deterministic_algorithms_enabled()
        return changed_credit(now, before, here=here and exact)

    def record(self, status: Status, reason: str | None = None) -> RunRecord:
        last: dict[str, Any] = self.rows[-1] if self.rows else {}
        seconds = [row["seconds"] for row in self.rows if row["epoch"] > 0]
        return make_record(
            self.job,
            status=status,
            reason=reason,
            epochs=last.get("epoch", 0),
            seconds=round(self.seconds, 3),
            seconds_per_epoch=round(sum(seconds) / len(seconds), 4) if seconds else None,
            peak_memory_bytes=peak_memory(self.job["device"]),
            energy_joules=self.meter.joules if seconds and not self.fields["resumed"] else None,
            accuracy=last.get("accuracy") if seconds else None,
            validation_accuracy=last.get("validation_accuracy") if seconds else None,
            train_loss=last.get("train_loss"),
            **self.fields,
        )


def _plain(measured: dict[str, Measurement]) -> dict[str, Any]:
    return {name: item.model_dump(mode="json") for name, item in measured.items()}


def keep_from_children(descriptor: int) -> None:
    """Close the lock in processes that a plugin starts or forks: they may outlive this one."""
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))


def main() -> None:
    say = child.channel()  # the runner made the output file the standard error
    faulthandler.enable()
    sent = json.load(sys.stdin)
    keep_from_children(sent["lock"])
    with contextlib.suppress(OSError):  # if memory runs out, end the worker and not its runner
        Path("/proc/self/oom_score_adj").write_text("1000")
    run = CellRun(sent["job"], say)
    try:
        record = run.run()
        run.leave_child()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a plugin may have closed or replaced it
                stream.flush()
        os.umask(run.umask)
        if record.status not in FINAL:
            run.report("cut short", status=record.status, reason=record.reason)
        store.commit(record, run.final)
    except (StoreError, OSError) as error:
        cause = error.__cause__ if isinstance(error, StoreError) else error
        run.report("unwritable", reason=str(error), errno=getattr(cause, "errno", None))
        os._exit(EX_IOERR)
    os._exit(0)  # without waiting for threads that a plugin left
