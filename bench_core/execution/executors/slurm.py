"""Run cells as an array of Slurm jobs, through submitit (`pip install 'bench-core[slurm]'`).

`--workers N` cells run at once. Every `--executor-set KEY=VALUE` is an option of sbatch as submitit
spells it, such as `partition=gpu`, `account=…`, `qos=…`, or one of `timeout_min`, `mem_gb`,
`cpus_per_task`, `gpus_per_node`, `signal_delay_s`, `max_num_timeout`. Unless set, a job gets the
cell's threads as CPUs, one GPU on `cuda`, and the cell's budgets of memory and time with a reserve,
without budget a day. A job that is preempted or runs out of time returns to the queue and continues
from the cell's saved state (`checkpoint_every`). The results folder must be shared. `cluster=local`
runs the jobs as processes of this machine.

submitit keeps its scripts and answers, pickled, in `.jobs` beside the runs until the sweep ends.
"""

from __future__ import annotations

import math
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import JobOf, OnEvent, Options, remote
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.results import files
from bench_core.results.files import writing

# settings that submitit shares among clusters, and one of Slurm alone; all are whole numbers
SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
NUMBERS = (*SHARED, "signal_delay_s", "max_num_timeout")
A_DAY = 24 * 60  # minutes
LOOK = 20.0  # seconds between two looks at the queue
MISSING = 3  # looks at the queue without the job until it counts as lost


class RunJob:
    """`remote.run_job` with the method that submitit calls to put a preempted job back."""

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
            command = ["squeue", "--noheader", "--jobs", str(self.job.job_id)]
            # any other failure of squeue says nothing about the job
            try:
                queue = subprocess.run(command, capture_output=True, text=True, timeout=LOOK)
            except subprocess.TimeoutExpired:
                return False
            absent = "Invalid job id" in queue.stderr
            absent |= queue.returncode == 0 and not queue.stdout.strip()
            self.missing = self.missing + 1 if absent else 0
        return self.missing >= MISSING

    def cancel(self) -> None:
        self.job.cancel(check=False)


def execute(cells: Sequence[PlannedCell], job: JobOf, on_event: OnEvent, options: Options) -> None:
    """Run the cells; `bench_core.execution.executors` has the contract."""
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError:
        hint = "pip install 'bench-core[slurm]'"
        raise UsageError(f"the executor slurm needs submitit: {hint}") from None
    cluster, timeouts, settings = _settings(options)
    # submitit unpickles the answers: a name that nobody could know before
    home = cells[0].folder.parent / ".jobs" / secrets.token_hex(8)
    with writing(home):
        files.make_folder(home, parts=2)

    def submit(texts: list[tuple[PlannedCell, str]]) -> list[remote.Handle]:
        jobs: dict[str, Any] = {}
        for needs in sorted({_needs(cell, job(cell)) for cell, _ in texts}):
            executor = submitit.AutoExecutor(
                home, cluster, **{f"{cluster}_max_num_timeout": timeouts}
            )
            executor.update_parameters(**_parameters(needs, options.slots) | settings)
            own = [(cell, text) for cell, text in texts if _needs(cell, job(cell)) == needs]
            try:
                with executor.batch():
                    submitted = [executor.submit(RunJob(), text) for _, text in own]
            except FailedJobError as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                last = lines[-1] if lines else "no message"
                hint = "`sinfo` says whether Slurm is there"
                raise UsageError(f"sbatch failed: {last}; {hint}") from None
            jobs |= {cell.identity: j for (cell, _), j in zip(own, submitted, strict=True)}
        return [_Queued(jobs[cell.identity], cluster == "slurm") for cell, _ in texts]

    at_once = options.slots if cluster == "local" else None  # Slurm holds the array to its slots
    try:
        remote.drive(cells, job, on_event, options, submit, at_once)
    finally:
        _remove_jobs(home)


def _settings(options: Options) -> tuple[str, int | None, dict[str, Any]]:
    """Return the cluster, the number of timeouts and the job's parameters. Raises UsageError."""
    cluster = options.settings.get("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise UsageError(f"--executor-set cluster={cluster}: must be slurm or local")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        hint = "run where jobs are submitted, or with --executor-set cluster=local"
        raise UsageError(f"no sbatch on this machine: {hint}")
    parameters = {
        key if key in SHARED else f"slurm_{key}": (
            options.whole_number(key) if key in NUMBERS else value
        )
        for key, value in options.settings.items()
        if key not in ("cluster", "max_num_timeout")
    }
    return cluster, options.whole_number("max_num_timeout", 100), parameters


def _needs(cell: PlannedCell, job: Job) -> tuple[int, int, int, float]:
    """Return threads, GPUs, minutes and MiB that a cell asks for; equal ones share an array."""
    budget = job["budget"]
    minutes = math.ceil(budget["seconds"] / 60) + 5 if "seconds" in budget else A_DAY
    gpus = int(cell.device.startswith("cuda"))
    return cell.cell.training["threads"], gpus, minutes, budget.get("memory_mb", 0)


def _parameters(needs: tuple[int, int, int, float], slots: int | None) -> dict[str, Any]:
    threads, gpus, minutes, memory = needs
    parameters = {
        "name": "bench",
        "timeout_min": minutes,
        "cpus_per_task": threads,
        "gpus_per_node": gpus,
        "mem_gb": math.ceil(memory * 1.25 / 1024),
        "slurm_array_parallelism": slots,
    }
    return {key: value for key, value in parameters.items() if value}


def _remove_jobs(home: Path) -> None:
    """Delete submitit's files; a job that is being cancelled may write there for a moment."""
    for _ in range(5):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            with suppress(OSError):  # other jobs are at work
                home.parent.rmdir()
            return
        time.sleep(0.2)
