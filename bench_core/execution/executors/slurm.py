"""The slurm executor: cells as an array of Slurm jobs, through submitit (`pip install 'bench-core[slurm]'`).

`--workers N` cells run at once. Every `--executor-set KEY=VALUE` is an option of sbatch as submitit spells it, such as
`partition=gpu`, `account=…`, `qos=…`, or one of `timeout_min`, `mem_gb`, `cpus_per_task`, `gpus_per_node`, `signal_delay_s`,
`max_num_timeout`. Unless set, a job gets the cell's threads as CPUs, one GPU on `cuda`, the cell's budgets and a reserve for
memory and time, else a day. A job that is preempted or runs out of time is put back in the queue and goes on from the cell's saved
state (`checkpoint_every`). The results folder must be shared. `cluster=local` runs the jobs as processes of this machine.

submitit keeps its scripts and answers in `.jobs` beside the runs until the sweep ends; it pickles them itself, for itself.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import Event, Job, Options, remote
from bench_core.execution.plan import PlannedCell

NUMBERS = (
    "timeout_min",
    "mem_gb",
    "cpus_per_task",
    "gpus_per_node",
    "signal_delay_s",
    "max_num_timeout",
)
A_DAY = 24 * 60  # minutes
MISSING = 3  # looks at the queue without the job, `LOOK` seconds apart, before it counts as lost
LOOK = 20.0


class Carried:
    """`remote.run_job` as submitit wants it: `checkpoint` puts the cell back in the queue with the same job."""

    def __call__(self, text: str) -> str:
        return remote.run_job(text)

    def checkpoint(self, text: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


class _Queued:
    """One job of the array."""

    def __init__(self, job: Any, slurm: bool) -> None:
        self.job, self.slurm = job, slurm
        self.looked, self.missing = time.monotonic(), 0

    def answer(self) -> str | None:
        if not self.job.paths.result_pickle.exists():
            if self._gone():
                raise remote.Lost(f"job {self.job.job_id} left the queue without an answer")
            return None
        outcome, result = self.job._get_outcome_and_result()
        if outcome == "error":
            raise remote.Lost(f"job {self.job.job_id}: {' '.join(str(result).split())[-300:]}")
        return str(result)

    def _gone(self) -> bool:
        if not self.slurm:
            return bool(self.job.done()) and not self.job.paths.result_pickle.exists()
        now = time.monotonic()
        if now - self.looked >= LOOK:
            self.looked = now
            told = subprocess.run(
                ["squeue", "--noheader", "--jobs", str(self.job.job_id)],
                capture_output=True,
                text=True,
                check=False,
            )
            unknown = (
                "Invalid job id" in told.stderr
            )  # any other failure says nothing about the job
            self.missing = (
                self.missing + 1
                if unknown or (told.returncode == 0 and not told.stdout.strip())
                else 0
            )
        return self.missing >= MISSING

    def cancel(self) -> None:
        self.job.cancel(check=False)


def execute(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Job],
    on_event: Event,
    options: Options,
) -> None:
    """Run the cells; the contract is that of `bench_core.execution.executors`. Raises UsageError where there is no Slurm."""
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError:
        raise UsageError(
            "the executor slurm needs submitit: pip install 'bench-core[slurm]'"
        ) from None
    settings: dict[str, Any] = dict(options.settings)
    cluster = settings.pop("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise UsageError(f"--executor-set cluster={cluster}: must be slurm or local")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UsageError(
            "no sbatch on this machine: run where jobs are submitted, or with --executor-set cluster=local"
        )
    for name in NUMBERS:
        if name in settings:
            try:
                settings[name] = int(settings[name])
            except ValueError:
                raise UsageError(
                    f"--executor-set {name}={settings[name]}: must be a whole number"
                ) from None
    timeouts = settings.pop("max_num_timeout", 100)
    home = cells[0].folder.parent / ".jobs"

    def submit(texts: list[tuple[PlannedCell, str]]) -> list[remote.Handle]:
        jobs: dict[str, Any] = {}
        for needs in sorted({_needs(cell, job(cell)) for cell, _ in texts}):
            executor = submitit.AutoExecutor(
                home, cluster, **{f"{cluster}_max_num_timeout": timeouts}
            )
            executor.update_parameters(**_parameters(needs, settings, options.slots))
            own = [(cell, text) for cell, text in texts if _needs(cell, job(cell)) == needs]
            try:
                with executor.batch():
                    submitted = [executor.submit(Carried(), text) for _, text in own]
            except FailedJobError as error:
                said = next(
                    (line for line in reversed(str(error).splitlines()) if line.strip()),
                    "without a word",
                )
                raise UsageError(
                    f"sbatch failed: {said.strip()}; `sinfo` says whether Slurm is there"
                ) from None
            jobs |= {cell.identity: each for (cell, _), each in zip(own, submitted, strict=True)}
        return [_Queued(jobs[cell.identity], cluster == "slurm") for cell, _ in texts]

    try:
        remote.drive(
            cells, job, on_event, options, submit, options.slots if cluster == "local" else None
        )
    finally:
        _sweep_up(home)


def _needs(cell: PlannedCell, job: Job) -> tuple[int, int, int, int]:
    """Threads, GPUs, minutes and MiB that a cell asks for; equal ones share an array."""
    budget = job["budget"]
    minutes = math.ceil(budget["seconds"] / 60) + 5 if "seconds" in budget else A_DAY
    return (
        cell.cell.training["threads"],
        int(cell.device.startswith("cuda")),
        minutes,
        budget.get("memory_mb", 0),
    )


def _parameters(
    needs: tuple[int, int, int, int], settings: dict[str, Any], slots: int | None
) -> dict[str, Any]:
    threads, gpus, minutes, memory = needs
    found: dict[str, Any] = {"name": "bench", "timeout_min": minutes, "cpus_per_task": threads}
    found |= {"gpus_per_node": gpus} if gpus else {}
    found |= {"mem_gb": math.ceil(memory * 1.25 / 1024)} if memory else {}
    found |= {"slurm_array_parallelism": slots} if slots else {}
    shared = set(NUMBERS) - {"signal_delay_s"}
    return found | {
        key if key in shared else f"slurm_{key}": value for key, value in settings.items()
    }


def _sweep_up(home: Path) -> None:
    """What submitit kept; a job that is being cancelled may still write there for a moment."""
    for _ in range(5):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(0.2)
