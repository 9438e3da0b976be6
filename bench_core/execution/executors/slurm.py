"""Run cells as an array of Slurm jobs, through submitit (`pip install 'bench-core[slurm]'`).

`--workers N` cells run at once. Every `--executor-set KEY=VALUE` is an option of sbatch as submitit
spells it, such as `partition=gpu`, `account=…`, `qos=…`, or one of `timeout_min`, `mem_gb`,
`cpus_per_task`, `gpus_per_node`, `signal_delay_s`, `max_num_timeout`. Unless set, a job gets the
cell's threads as CPUs, one GPU on `cuda`, and the cell's budgets of memory and time with a reserve,
without budget a day. A job that is preempted returns to the queue and continues from the cell's
saved state (`checkpoint_every`). So does a job that runs out of time, 100 times; without saved
states it ends there, unless `max_num_timeout` says otherwise. The results folder must be shared.
`cluster=local` runs the jobs as processes of this machine.

submitit keeps its scripts and answers, pickled, in `.jobs` beside the runs until the sweep ends. A
runner that is killed leaves its jobs in the queue. The next one cancels those that wait, since it
submits their cells itself, and lets the others finish.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import JobOf, OnEvent, Options, remote
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.results import files, locks
from bench_core.results.files import writing

# settings that submitit shares among clusters, and one of Slurm alone; all are whole numbers
SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
NUMBERS = (*SHARED, "signal_delay_s", "max_num_timeout")
A_DAY = 24 * 60  # minutes
LOOK = 20.0  # seconds between two looks at the queue
MISSING = 3  # looks at the queue without the job until it counts as lost
TRIES = 4  # at `sbatch` while Slurm does not answer
PAUSE = 10.0  # seconds between them
BUSY_SLURM = re.compile(r"contact|timed out|temporarily|refused", re.IGNORECASE)
JOB = re.compile(r"\d+(_\d+)?")  # 103, or 103_7 of an array
NAMES = "jobs"  # file with the numbers of the jobs that were submitted, locked by their runner


class RunJob:
    """`remote.run_job` with the method that submitit calls to put a preempted job back."""

    def __call__(self, text: str) -> str:
        return remote.run_job(text)

    def checkpoint(self, text: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


class _Queued:
    """One job of an array."""

    def __init__(self, job: Any, queue: _Queue | None) -> None:
        self.job, self.queue = job, queue
        self.missing = 0

    def answer(self) -> str | None:
        number = self.job.job_id
        if not self.job.paths.result_pickle.exists():
            if self._gone():
                state = _state(number) if self.queue else ""
                raise remote.Lost(f"job {number} left the queue without an answer{state}")
            return None
        outcome, result = self.job._get_outcome_and_result()
        if outcome == "error":
            text = " ".join(str(result).split())[-300:]
            if "timed-out" in text:
                text = "it reached its time limit; --executor-set timeout_min=… gives more, and "
                text += "with checkpoint_every a job continues"
            raise remote.Lost(f"job {number}: {text}")
        return str(result)

    def _gone(self) -> bool:
        if self.queue is None:
            return bool(self.job.done()) and not self.job.paths.result_pickle.exists()
        return self.queue.lacks(self)

    def cancel(self) -> None:
        self.job.cancel(check=False)


class _Queue:
    """The jobs of a sweep in Slurm's queue: one look, and one cancellation, for all of them."""

    def __init__(self) -> None:
        self.jobs: list[_Queued] = []
        self.looked = time.monotonic()

    def lacks(self, job: _Queued) -> bool:
        """Decide whether a job has left the queue."""
        if time.monotonic() - self.looked >= LOOK:
            self.jobs = [each for each in self.jobs if not each.job.paths.result_pickle.exists()]
            present = _in_queue({each.job.job_id for each in self.jobs})
            self.looked = time.monotonic()
            for each in self.jobs:
                if present is not None:
                    each.missing = 0 if each.job.job_id in present else each.missing + 1
        return job.missing >= MISSING

    def cancel(self, handles: list[remote.Handle]) -> None:
        """Cancel jobs, the waiting ones first, so that none of them starts in between."""
        numbers = [handle.job.job_id for handle in handles if isinstance(handle, _Queued)]
        if not numbers:
            return
        _slurm("scancel", "--state=PENDING", *numbers)
        _slurm("scancel", "--full", "--signal=KILL", *numbers)  # else they have a time of grace
        done = _slurm("scancel", *numbers)
        if done is None or (done.returncode and "Invalid job id" not in done.stderr):
            whole = " ".join(sorted({number.partition("_")[0] for number in numbers}))
            print(f"not cancelled: `scancel {whole}` ends the jobs", file=sys.stderr)


def _slurm(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command of Slurm; None if it cannot be started or does not end."""
    variables = dict(os.environ)
    if clusters := variables.get("SBATCH_CLUSTERS"):  # where sbatch submitted
        variables["SLURM_CLUSTERS"] = clusters
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=LOOK, env=variables, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _in_queue(numbers: Collection[str], name: str | None = None) -> set[str] | None:
    """Return which of the jobs, with this name, wait or run; None where squeue does not say."""
    if not numbers:
        return set()
    whole = ",".join(sorted({number.partition("_")[0] for number in numbers}))
    only = [f"--name={name}"] if name else []
    queue = _slurm("squeue", "--noheader", "--array", "--format=%i", *only, "--jobs", whole)
    if queue is None or (queue.returncode and "Invalid job id" not in queue.stderr):
        return None  # another failure says nothing about the jobs
    lines = map(str.strip, queue.stdout.splitlines())
    return {line for line in lines if line in numbers}


def _state(number: str) -> str:
    """Return ": OUT_OF_MEMORY" or the like if Slurm still knows how a job ended."""
    shown = _slurm("scontrol", "--oneliner", "show", "job", number)
    found = re.search(r"JobState=(\w+)", shown.stdout) if shown and not shown.returncode else None
    if found is None:
        shown = _slurm("sacct", "--noheader", "--parsable2", "--allocations", "--format=State",
                       "--jobs", number)  # fmt: skip
        found = re.match(r"(\w+)", shown.stdout) if shown and not shown.returncode else None
    more = {
        "OUT_OF_MEMORY": "; --executor-set mem_gb=… gives a job more",
        "TIMEOUT": "; --executor-set timeout_min=… gives a job more",
    }
    return f": {found[1]}{more.get(found[1], '')}" if found else ""


def _submitted(submit: Callable[[], list[Any]]) -> list[Any]:
    """Submit an array; again after a while if Slurm does not answer. Raises UsageError."""
    from submitit.core.utils import FailedJobError

    for left in reversed(range(TRIES)):
        try:
            return submit()
        except FailedJobError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            last = lines[-1] if lines else "no message"
            if not left or not BUSY_SLURM.search(str(error)):
                hint = "`sinfo` says whether Slurm is there"
                raise UsageError(f"sbatch failed: {last}; {hint}") from None
            time.sleep(PAUSE)
    raise AssertionError


def execute(cells: Sequence[PlannedCell], job: JobOf, on_event: OnEvent, options: Options) -> None:
    """Run the cells; `bench_core.execution.executors` has the contract."""
    try:
        import submitit
    except ImportError:
        hint = "pip install 'bench-core[slurm]'"
        raise UsageError(f"the executor slurm needs submitit: {hint}") from None
    cluster, timeouts, settings = _settings(options)
    queue = _Queue() if cluster == "slurm" else None

    def array(home: Path, own: list[tuple[PlannedCell, str]]) -> list[_Queued]:
        """Submit cells with like needs."""
        first = job(own[0][0])
        saves = first["checkpoint_every"] is not None
        most = timeouts if timeouts is not None else 100 if saves else 0
        executor = submitit.AutoExecutor(home, cluster, **{f"{cluster}_max_num_timeout": most})
        needs = _needs(own[0][0], first)
        own_name = {"name": _name(home)}
        executor.update_parameters(**own_name | _parameters(needs, options.slots) | settings)

        def submit() -> list[Any]:
            with executor.batch():
                return [executor.submit(RunJob(), text) for _, text in own]

        return [_Queued(each, queue) for each in _submitted(submit)]

    at_once = options.slots if cluster == "local" else None  # Slurm holds the array to its slots
    cancel = queue.cancel if queue else remote.cancel_each
    with _home(cells[0].folder.parent) as (home, names):

        def submit(texts: list[tuple[PlannedCell, str]]) -> list[remote.Handle]:
            handles: dict[str, remote.Handle] = {}
            try:
                for needs in sorted({_needs(cell, job(cell)) for cell, _ in texts}):
                    own = [(cell, text) for cell, text in texts if _needs(cell, job(cell)) == needs]
                    jobs = array(home, own)
                    handles |= {cell.identity: j for (cell, _), j in zip(own, jobs, strict=True)}
                    if queue is not None:
                        queue.jobs += jobs
                        with writing(home):
                            print(*(each.job.job_id for each in jobs), file=names, flush=True)
            except BaseException:
                cancel([*handles.values()])
                raise
            return [handles[cell.identity] for cell, _ in texts]

        remote.drive(cells, job, on_event, options, submit, at_once, cancel)


@contextmanager
def _home(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Make a folder for submitit and a file for the numbers of the jobs, and delete them after."""
    # submitit unpickles the answers: a name that nobody could know before
    home = folder / ".jobs" / secrets.token_hex(8)
    with writing(home):
        files.make_folder(home, parts=2)
        names = os.fdopen(files.open_lock(home / ".names"), "w")
        with suppress(OSError):  # a file system without locks
            locks.take(names.fileno())
        (home / ".names").rename(home / NAMES)  # locked before another runner can see it
    try:
        _end_left(home.parent)  # this one is locked
        yield home, names
    finally:
        names.close()
        _remove_jobs(home)
        _end_left(home.parent)


def _end_left(above: Path) -> None:
    """Cancel the waiting jobs of runners that were killed; delete their files if no job is left.

    A number means a job only with the name of its folder: the results may be a copy, or of another
    cluster.
    """
    for left in above.glob(f"*/{NAMES}"):
        with suppress(OSError, ValueError), os.fdopen(files.open_lock(left)) as file:
            locks.take(file.fileno())  # BlockingIOError: the runner lives
            numbers = {number for number in file.read().split() if JOB.fullmatch(number)}
            name = _name(left.parent)
            if (present := _in_queue(numbers, name)) is None:
                continue
            if not present:
                _remove_jobs(left.parent)
                continue
            _slurm("scancel", "--state=PENDING", f"--name={name}", *sorted(present))
            after = _in_queue(numbers, name)
            if after is not None and (ended := present - after):
                print(f"cancelled, of an earlier run: {' '.join(sorted(ended))}", file=sys.stderr)


def _name(home: Path) -> str:
    """Name the jobs of a sweep, in Slurm and in no other sweep."""
    return f"bench-{home.name}"


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
    return cluster, options.whole_number("max_num_timeout"), parameters


def _needs(cell: PlannedCell, job: Job) -> tuple[int, int, int, float]:
    """Return threads, GPUs, minutes and MiB that a cell asks for; equal ones share an array."""
    budget = job["budget"]
    minutes = math.ceil(budget["seconds"] / 60) + 5 if "seconds" in budget else A_DAY
    gpus = int(cell.device.startswith("cuda"))
    return cell.cell.training["threads"], gpus, minutes, budget.get("memory_mb", 0)


def _parameters(needs: tuple[int, int, int, float], slots: int | None) -> dict[str, Any]:
    threads, gpus, minutes, memory = needs
    parameters = {
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
