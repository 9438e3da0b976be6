"""One cell in a process of its own: train, measure, write the run folder.

The job arrives as JSON on standard input. Events leave as JSON lines on a duplicate of standard output: {"event": "epoch", …} after
every epoch, {"event": "unwritable", "reason": …} where the results folder cannot be written; everything that is printed goes to
log.txt in the temporary folder. The worker dies with the runner that started it, and holds the run folder's lock (an
inherited descriptor) until then.

Exit codes: 0 a run folder was written, whatever its status; 74 the results folder cannot be written (EX_IOERR).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from bench_core.errors import BenchError, NoDevice, StoreError
from bench_core.execution.cell import attempt, build_cell, diagnostics, environment, measure
from bench_core.execution.devices import absent
from bench_core.execution.executors.supervise import EX_IOERR
from bench_core.execution.tensors import save_tensors
from bench_core.printable import brief
from bench_core.registry import plugins
from bench_core.results import store
from bench_core.results.files import writing
from bench_core.results.hashing import jsonable
from bench_core.results.record import Cell, Measurement, RunRecord, fires
from bench_core.results.status import Status
from bench_core.suite.budget import MIB
from bench_core.suite.model import Training

OUT_OF_MEMORY = re.compile(
    r"^(OutOfMemoryError|MemoryError|\w+ArrayMemoryError)|(not enough|can't allocate|out of) memory"
)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the runner dies (Linux; elsewhere an orphan finishes its cell)."""
    if sys.platform != "linux":
        return
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


class CellRun:
    """The run of one job: what it measured so far, and how it ends."""

    def __init__(self, job: dict[str, Any], channel: IO[str]) -> None:
        self.job, self.channel = job, channel
        self.final = Path(job["final"])
        self.folder = store.temporary(self.final)
        self.cell = Cell.model_validate(job["cell"])
        self.started = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self.fields: dict[str, Any] = {"why": job["why"], "budget": job["budget"], "resumed": []}
        self.spent = 0.0  # seconds of earlier attempts

    def tell(self, event: str, **more: Any) -> None:
        self.channel.write(json.dumps(jsonable({"event": event, **more})) + "\n")
        self.channel.flush()

    def run(self) -> RunRecord:
        """Train and measure; whatever a plugin does wrong becomes a status."""
        from bench_core.execution.resumption import CannotGoOn
        from bench_core.training.loop import Diverged

        status: Status = "done"
        reason = None
        try:
            try:
                self.train()
            except CannotGoOn as error:
                print(f"the saved state cannot be used, training begins anew: {error}")
                store.remove_resume(self.final)
                self.train()
        except Diverged as error:
            status, reason = "diverged", str(error)
        except StoreError:
            raise
        except NoDevice as error:
            status, reason = "crashed", str(error)
        except BenchError as error:
            status, reason = "failed", str(error)
        except BaseException as error:  # KeyboardInterrupt too: nobody but the code that runs here raises it in a worker
            traceback.print_exc()
            reason = brief(error)
            status = "oom" if OUT_OF_MEMORY.search(reason) else "failed"
        return self.record(status, reason)

    def train(self) -> None:
        from bench_core.execution.resumption import Keeper
        from bench_core.training.audit import Audit
        from bench_core.training.loop import EpochRow, train

        job, cell, device = self.job, self.cell, self.job["device"]
        if missing := absent(device):
            raise NoDevice(missing)
        training = {**Training().model_dump(), **cell.training, "device": device}
        used = [ref.name for ref in (cell.method, cell.arch, cell.dataset)] + [
            d["name"] for d in job["diagnostics"]
        ]
        registry = plugins.load_for(used)
        limit_gpu(device, job["budget"].get("gpu_memory_mb"))
        if job.get("verify"):
            from bench_core.execution.machine import check_machine

            check_machine(job, registry)
        listed = diagnostics(registry, job["diagnostics"])
        built = build_cell(registry, cell, training, job["data_dir"])
        net, method = built.net, built.method
        self.fields |= {"environment": {**environment(device, training), **job["environment"]},
                        "passport": method.passport.as_dict(), "forward_passes": method.forward_passes}  # fmt: skip

        last = cell.last_epoch
        audit = None

        def observe(row: EpochRow) -> bool:
            """Measure and write one row; True ends the training."""
            nonlocal audit
            audit = Audit(
                net, method, built.data, cell.seed, max(row.epoch - 1, 0), initial=built.initial
            )
            line = {**asdict(row), "measurements": {}}
            audit.history = [*self.rows, line]
            seen = audit
            measured: dict[str, Measurement] = {}

            def run(when: str) -> None:
                for name, diagnostic in listed:
                    if diagnostic.when == when:
                        measured[name] = attempt(
                            name, diagnostic, partial(measure, diagnostic, seen)
                        )
                line["measurements"] = {k: m.model_dump(mode="json") for k, m in measured.items()}

            run("epochs")
            stopped_by = self.stopped_by(measured) if row.epoch else None
            if row.epoch == 0 or row.epoch == last or stopped_by:
                run("final")
            if row.epoch == 0:
                self.fields["initial"] = measured
            self.fields |= {
                "measurements": measured,
                "stopped_by": stopped_by if row.epoch < last else None,
            }
            self.rows.append(line)
            self.write_rows([line])
            self.tell("epoch", row=line)
            return stopped_by is not None

        keeper = Keeper(
            store.resume_file(self.final),
            job["identity"],
            job["checkpoint_every"],
            net,
            method,
            self.remember,
            self.recall,
        )
        train(method, net, built.data, training, cell.seed, observe, keeper)
        changed = [name for name, value in built.data.sums().items() if value != built.sums[name]]
        if changed:
            raise BenchError(
                f"{', '.join(changed)} changed while it ran: {cell.method.short}, or another plugin of it, writes to the data"
            )
        if audit is not None:
            save_tensors(self.folder, net, method, audit)

    def write_rows(self, rows: list[dict[str, Any]], mode: str = "a") -> None:
        text = "".join(
            json.dumps(jsonable(row), sort_keys=True, allow_nan=False) + "\n" for row in rows
        )
        with (
            writing(self.final),
            (self.folder / store.EPOCHS).open(mode, encoding="utf-8") as file,
        ):
            file.write(text)

    def remember(self) -> dict[str, Any]:
        """What an attempt that goes on from here needs to know of this one."""
        measured = {key: self.fields[key] for key in ("initial", "measurements")}
        return {
            "rows": self.rows,
            "seconds": self.spent + time.perf_counter() - self.started,
            "resumed": self.fields["resumed"],
            "measured": {
                key: {k: m.model_dump(mode="json") for k, m in each.items()}
                for key, each in measured.items()
            },
        }

    def recall(self, state: dict[str, Any]) -> None:
        self.rows, self.spent = state["rows"], state["seconds"]
        self.write_rows(self.rows, "w")
        for key, found in state["measured"].items():
            self.fields[key] = {
                name: Measurement.model_validate(value) for name, value in found.items()
            }
        self.fields["resumed"] = [*state["resumed"], state["epoch"]]
        print(f"goes on after epoch {state['epoch']}")

    def stopped_by(self, measured: dict[str, Measurement]) -> str | None:
        """The first diagnostic of `stop_when` that fires now and did not on the untrained network."""
        for name, threshold in self.cell.training.get("stop_when", {}).items():
            short: str = name.rpartition("/")[2]
            now, before = measured.get(short), self.fields["initial"].get(short)
            if (
                now is not None
                and fires(now, threshold)
                and not (before is not None and fires(before, threshold))
            ):
                return short
        return None

    def record(self, status: Status, reason: str | None) -> RunRecord:
        job, last = self.job, self.rows[-1] if self.rows else None
        trained = [row for row in self.rows if row["epoch"] > 0]
        seconds = [row["seconds"] for row in trained]
        return RunRecord(
            identity=job["identity"],
            algorithm=job["algorithm"],
            numerics=job["numerics"],
            suite=job["suite"],
            cell=self.cell,
            status=status,
            reason=reason,
            epochs=last["epoch"] if last else 0,
            seconds=round(self.spent + time.perf_counter() - self.started, 3),
            seconds_per_epoch=round(sum(seconds) / len(seconds), 4) if seconds else None,
            peak_memory_bytes=peak_memory(job["device"]),
            accuracy=last["accuracy"] if last and trained else None,
            train_loss=last["train_loss"] if last else None,
            code=job["code"],
            data_checksum=job["data_checksum"],
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **self.fields,
        )


def peak_memory(device: str) -> int:
    """Peak bytes: of the accelerator where there is one, else resident memory of this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def limit_gpu(device: str, megabytes: int | None) -> None:
    """Hold this process to its share of a CUDA device; more than that is an OutOfMemoryError."""
    if megabytes is None or not device.startswith("cuda"):
        return
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, megabytes * MIB / total), device)


def forget(descriptor: int) -> None:
    """What a plugin starts or forks shall not keep the lock when we are gone."""
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the runner made log.txt our standard error
    faulthandler.enable()
    job = json.load(sys.stdin)
    die_with(job["runner"])
    forget(job["lock"])
    with contextlib.suppress(
        OSError
    ):  # where memory runs out the system shall end a worker, not its runner
        Path("/proc/self/oom_score_adj").write_text("1000")
    run = CellRun(job, channel)
    try:
        record = run.run()
        sys.stdout.flush()
        sys.stderr.flush()
        store.commit(record, run.final)
    except (StoreError, OSError) as error:
        run.tell("unwritable", reason=str(error))
        os._exit(EX_IOERR)
    os._exit(0)  # threads that a plugin left behind have no say


if __name__ == "__main__":
    main()
