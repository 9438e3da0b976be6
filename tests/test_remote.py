"""Executors on other machines: the same bits, and a lost machine costs the time of its own cells.

Two Ray nodes are processes of this machine, Slurm's jobs are submitit's local ones; for a real
Slurm see benchmarks/slurm.sh. Most workers here are a few lines of code in the place of a training:
a `sitecustomize` on the path puts them there in every process.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import forged
import pytest
from conftest import TINY, alive, leftovers, lines, wait_until

from bench_core.errors import StoreError, UsageError
from bench_core.execution import executors, runner
from bench_core.execution.executors import Options, local, remote, remote_job, slurm, supervise
from bench_core.execution.executors import ray as ray_executor
from bench_core.execution.executors import watch as watching
from bench_core.execution.machine import check_machine
from bench_core.execution.planning import validate
from bench_core.execution.planning.components import code_of
from bench_core.execution.planning.job import make_record
from bench_core.execution.planning.plan import make_plan
from bench_core.execution.runner import executor_named, run_plan
from bench_core.registry import plugins
from bench_core.results import locks, store, suite_folder
from bench_core.results.record import SCHEMA
from bench_core.suite.load import load_suite

pytestmark = pytest.mark.processes

BESIDE = "import os, sys\nsys.executable = os.environ.get('FORGED_WORKER') or sys.executable\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces every worker of child processes by `code`."""

    def put(code: str) -> None:
        script = tmp_path / "worker"
        script.write_text(f"#!{forged.PYTHON}\n{forged.FORGED}\n{code}")
        script.chmod(0o755)
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(BESIDE)
        path = os.pathsep.join(
            [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setenv("FORGED_WORKER", str(script))

    return put


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield ray and shut it down afterwards."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


def cells(tmp_path: Path, count: int) -> list[Any]:
    folder = suite_folder.create(tmp_path, "s")
    return [forged.cell(folder / f"{number:032x}") for number in range(count)]


ATTEMPT = """
import signal
from bench_core.processes.forking import die_with
die_with(int(sys.argv[-2]))
log = final.parent.parent / "attempts"
with open(log, "a") as out:
    out.write(f"{final.name} {os.getpid()}" + chr(10))
"""


def token_in(folder: Path) -> str:
    """Leave a token, as a runner does that is killed."""
    name = f"{store.TOKEN}{0:016x}"
    (folder / name).touch()
    return name


def attempts(tmp_path: Path) -> Counter[str]:
    """Count the starts of each cell."""
    return Counter(line.split()[0] for line in lines(tmp_path / "attempts"))


def at_work(tmp_path: Path) -> list[int]:
    """Return the process ids of the workers that began a cell."""
    return [int(line.split()[1]) for line in lines(tmp_path / "attempts")]


# ------------------------------------------------------------------------------------ the same bits


@pytest.mark.long
def test_the_same_cell_gives_the_same_bits_on_every_executor(
    tmp_path: Path, quiet_ray: Any
) -> None:
    """One real training on `local`, on `ray` with its own cluster, and as a submitit job."""
    suite = tmp_path / "tiny.yaml"
    suite.write_text(TINY + "floors: false\n")
    registry = plugins.load()
    plan = make_plan(load_suite(suite), registry, tmp_path / "results")
    (cell,) = plan.cells
    found = {}
    for name, settings in (("local", {}), ("ray", {"cpus": "1"}), ("slurm", {"cluster": "local"})):
        own = replace(cell, folder=suite_folder.create(tmp_path / name, "tiny") / cell.identity)
        events: list[dict[str, Any]] = []
        execute = executor_named(name, registry)
        execute(
            [own],
            plan.job,
            lambda c, event, to=events: to.append(event),
            Options(1, settings=settings),
        )
        record = store.read(own.folder, sums=True)
        assert record.status == "done", record.reason
        assert [event["event"] for event in events] == ["start", "epoch", "epoch", "end"], name
        assert leftovers(own.folder.parent) == []
        files = {
            file: record.files[file] for file in ("checkpoint.safetensors", "probe.safetensors")
        }
        found[name] = (
            files,
            record.accuracy,
            record.train_loss,
            record.measurements,
            record.initial,
        )
    assert found["ray"] == found["local"]
    assert found["slurm"] == found["local"]


# ---------------------------------------------------------------------------------------------- ray


@pytest.mark.long
def test_a_dead_ray_node_costs_only_its_own_cells_time(
    tmp_path: Path, site: Any, quiet_ray: Any
) -> None:
    """Killing the busy second node restarts its cell alone, on the first node."""
    from ray.cluster_utils import Cluster

    site(ATTEMPT + "wait_until((log.parent / 'killed').exists)\nfinish()")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        quiet_ray.init(address=cluster.address, log_to_driver=False)

        def kill() -> None:
            """Both nodes are at work until one of them is gone, and its worker with it."""
            try:
                wait_until(lambda: len(at_work(tmp_path)) == 2)
                cluster.remove_node(second, allow_graceful=False)
                wait_until(lambda: not all(map(alive, at_work(tmp_path)[:2])))
            finally:
                (tmp_path / "killed").touch()

        killer = threading.Thread(target=kill)
        killer.start()
        planned = cells(tmp_path, 5)
        events: list[tuple[str, dict[str, Any]]] = []
        ray_executor.execute(
            planned, forged.job, lambda c, event: events.append((c.identity, event)), Options()
        )
        killer.join()
    finally:
        quiet_ray.shutdown()
        cluster.shutdown()
    assert {store.read(cell.folder, sums=True).status for cell in planned} == {"done"}
    assert sorted(who for who, event in events if event["event"] == "end") == [
        cell.identity for cell in planned
    ]
    assert sorted(attempts(tmp_path).values()) == [1, 1, 1, 1, 2]
    assert leftovers(tmp_path / "s") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nodes": "3"}, "--executor-set nodes: not known by ray; known: address, retries, cpus"),
        ({"retries": "-1"}, "--executor-set retries=-1: must be a whole number"),
    ],
)
def test_settings_of_ray_are_checked(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ray_executor.execute(
            cells(tmp_path, 1), forged.job, lambda c, e: None, Options(settings=options)
        )


@pytest.mark.parametrize(
    ("resources", "threads", "device", "said"),
    [
        ({"CPU": 2.0}, 64, "cpu", "needs 64 CPUs (training.threads), and the Ray cluster that was"),
        (
            {"CPU": 2.0},
            1,
            "cuda",
            "needs a GPU (device cuda), and the Ray cluster that",
        ),
        ({"CPU": 2.0, "GPU": 1.0}, 2, "cuda:0", ""),
        ({"CPU": 2.0}, 2, "cpu", ""),
    ],
)
def test_a_cell_that_fits_no_node_of_an_own_cluster_is_refused(
    tmp_path: Path, resources: dict[str, float], threads: int, device: str, said: str
) -> None:
    """It would wait for ever."""
    (cell,) = cells(tmp_path, 1)
    training = {**cell.cell.training, "threads": threads}
    own = cell.cell.model_copy(update={"training": training})
    large = replace(cell, cell=own, device=device)
    if not said:
        ray_executor._must_have_room(resources, [large])
        return
    with pytest.raises(UsageError) as error:
        ray_executor._must_have_room(resources, [large])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("address", "cpus", "asked"),
    [
        (None, 1, ["local"]),  # never a cluster of somebody else
        (None, None, ["auto", "local"]),
        ("head:6379", 1, ["head:6379"]),
    ],
)
def test_ray_joins_a_cluster_or_starts_one(
    address: str | None, cpus: int | None, asked: list[str]
) -> None:
    calls: list[str] = []

    class Ray:
        @staticmethod
        def init(address: str, **options: Any) -> None:
            calls.append(address)
            if address == "auto":
                raise ConnectionError

    ray_executor._connect(Ray, address, cpus)
    assert calls == asked


# -------------------------------------------------------------------------------------------- slurm

LOCAL = Options(2, settings={"cluster": "local"})


@pytest.mark.long
def test_a_preempted_job_is_put_back_and_does_its_cell(tmp_path: Path, site: Any) -> None:
    """SIGUSR2 preempts the first attempt at each cell, as Slurm does."""
    site(
        ATTEMPT + "if log.read_text().count(final.name) == 1:\n"
        "    os.kill(os.getppid(), signal.SIGUSR2)\n"
        "    time.sleep(600)\n"
        "finish()"
    )
    planned = cells(tmp_path, 2)
    events: list[str] = []
    slurm.execute(planned, forged.job, lambda c, event: events.append(event["event"]), LOCAL)
    assert {store.read(cell.folder, sums=True).status for cell in planned} == {"done"}
    assert set(attempts(tmp_path).values()) == {2}
    assert events.count("end") == 2
    assert leftovers(tmp_path / "s") == []


def test_a_job_that_is_lost_is_a_row(tmp_path: Path, site: Any) -> None:
    site(
        ATTEMPT + "if final.name.endswith('0'):\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(600)\nfinish()"
    )  # fmt: skip
    planned = cells(tmp_path, 2)
    slurm.execute(planned, forged.job, lambda c, event: None, LOCAL)
    first, second = (store.read(cell.folder, sums=True) for cell in planned)
    assert first.status == "crashed"
    assert "without an answer" in str(first.reason)
    assert second.status == "done"
    assert leftovers(tmp_path / "s") == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cluster": "moon"}, "cluster=moon: must be slurm or local"),
        ({"cluster": "local", "timeout_min": "soon"}, "timeout_min=soon: must be a whole number"),
        ({}, "no sbatch on this machine"),
    ],
)
def test_settings_of_slurm_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError, match=said):
        slurm.execute(cells(tmp_path, 1), forged.job, lambda c, e: None, Options(settings=settings))


@pytest.mark.long
def test_a_refused_command_keeps_the_record_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    suite = load_suite(str(tmp_path / "tiny.yaml"))
    plan = make_plan(suite, plugins.load(), tmp_path / "results")
    monkeypatch.setattr("shutil.which", lambda name: None)
    plan.folder.mkdir(parents=True)
    last = '{"schema": 1, "name": "tiny", "decisions": {}}\n'
    (plan.folder / suite_folder.SUITE).write_text(last)
    with pytest.raises(UsageError, match="no sbatch on this machine"):
        run_plan(plan, plugins.load(), "slurm")
    assert (plan.folder / suite_folder.SUITE).read_text() == last

    def lost(cells: Any, job: Any, on_event: Any, options: Options) -> None:
        on_event(cells[0], {"event": "start"})
        raise UsageError("sbatch failed")

    monkeypatch.setattr(runner, "executor_named", lambda name, registry: lost)
    with pytest.raises(UsageError, match="sbatch failed"):
        run_plan(plan, plugins.load(), "slurm")
    decisions = suite_folder.saved(plan.folder).decisions  # a cell had begun
    assert decisions.keys() == {cell.identity for cell in plan.cells}


# ------------------------------------------------------------------------------------------ between


def here_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    script = tmp_path / "worker"
    script.write_text(f"#!{forged.PYTHON}\n{forged.FORGED}\n{code}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_a_run_from_a_machine_without_the_folder_comes_as_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here_is(
        monkeypatch,
        tmp_path,
        "(store.temporary(final) / 'curve').write_bytes(bytes(range(256)))\nfinish()",
    )
    (cell,) = cells(tmp_path, 1)
    answer = remote.run_job(remote.payload(cell, forged.job(cell), "no such token"))
    assert not cell.folder.exists()
    record = remote.settle(cell, forged.job(cell), json.loads(answer))
    assert record == store.read(cell.folder, sums=True)
    assert (cell.folder / "curve").read_bytes() == bytes(range(256))
    assert leftovers(cell.folder.parent) == []


@pytest.mark.long
def test_a_job_finds_the_modules_that_its_runner_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts").mkdir()
    with pytest.MonkeyPatch.context() as runner:
        runner.syspath_prepend(str(tmp_path / "scripts"))
        (cell,) = cells(tmp_path, 1)
        text = remote.payload(cell, forged.job(cell), "no such token")
    monkeypatch.setattr(sys, "path", [*sys.path])
    here_is(monkeypatch, tmp_path, "finish()")
    remote.run_job(text)
    assert sys.path[-1] == str(tmp_path / "scripts")


ANEW = """
if final.name.endswith("0"):
    event = {"event": "anew", "reason": "the state is another rule's"}
    os.write(1, json.dumps(event).encode() + b"\\n")
finish()
"""


@pytest.mark.long
def test_the_executor_of_the_manual_runs_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dask executor in the docstring of the executors runs, with threads in place of dask.

    A saved state that is not used is told, as by the local executor.
    """

    class Client:
        def __init__(self, address: str | None) -> None:
            self.pool = ThreadPoolExecutor()

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *error: object) -> None:
            self.pool.shutdown()

        def submit(self, function: Callable[[str], str], text: str, pure: bool) -> Any:
            future: Any = self.pool.submit(function, text)
            future.status = "finished"
            return future

    distributed: Any = ModuleType("distributed")
    distributed.Client = Client
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    manual = textwrap.dedent(str(executors.__doc__).partition("for dask:\n")[2])
    names: dict[str, Any] = {}
    exec(manual, names)
    here_is(monkeypatch, tmp_path, ANEW)
    planned = cells(tmp_path, 3)
    events: dict[str, list[str]] = {cell.identity: [] for cell in planned}

    def on_event(cell: Any, event: dict[str, Any]) -> None:
        events[cell.identity].append(str(event.get("reason", event["event"])))

    names["execute"](planned, forged.job, on_event, Options(2))
    assert {store.read(cell.folder, sums=True).status for cell in planned} == {"done"}
    said, *others = (events[cell.identity] for cell in planned)
    assert said == ["start", "the state is another rule's", "end"]
    assert others == [["start", "end"]] * 2
    assert leftovers(tmp_path / "s") == []


@pytest.mark.long
def test_a_run_that_comes_too_late_does_not_replace_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here_is(monkeypatch, tmp_path, "finish()")
    (cell,) = cells(tmp_path, 1)
    late = remote.run_job(remote.payload(cell, forged.job(cell), "no such token"))
    local.execute([cell], forged.job, lambda c, e: None, Options(1))
    before = store.stamp(cell.folder)
    assert remote.settle(cell, forged.job(cell), json.loads(late)) is not None
    assert store.stamp(cell.folder) == before
    token = token_in(cell.folder.parent)
    again = json.loads(remote.run_job(remote.payload(cell, forged.job(cell), token)))
    assert again == {"is": "reused"}


def test_a_cell_that_another_runner_trained_is_not_reported_as_trained_here(tmp_path: Path) -> None:
    """Its epochs were seen, because the folder is shared; the last of them may be missing."""
    (cell,) = cells(tmp_path, 1)
    told: list[str] = []
    watch = remote.Watch([cell], lambda c, event: told.append(event["event"]))
    store.temporary(cell.folder).mkdir(parents=True)
    row = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.1, "measurements": {}}
    (store.temporary(cell.folder) / store.EPOCHS).write_text(json.dumps(row) + "\n")
    watch.look()
    record = make_record(forged.job(cell), status="done").model_copy(update={"checksum": "x"})
    watch.end(cell, record, ran=False)
    assert told == ["start", "epoch", "reused"]


@pytest.mark.parametrize(
    ("outcome", "budget", "adopted"),
    [
        ({"status": "done"}, {}, True),
        ({"status": "failed"}, {}, True),
        ({"status": "interrupted"}, {}, False),
        ({"status": "crashed"}, {}, False),
        ({"status": "timeout", "budget": {"seconds": 8.0}}, {}, False),
        ({"status": "timeout", "budget": {"seconds": 8.0}}, {"seconds": 9}, False),
        ({"status": "timeout", "budget": {"seconds": 8.0}}, {"seconds": 8}, True),
        ({"status": "done", "evaluate_every": 5}, {}, False),
        ({"status": "done", "original": {"run.json": {"bytes": 0, "blake2b": "x"}}}, {}, False),
    ],
)
def test_the_run_of_another_runner_is_taken_only_if_a_plan_would_reuse_it(
    tmp_path: Path, outcome: dict[str, Any], budget: dict[str, float], adopted: bool
) -> None:
    (cell,) = cells(tmp_path, 1)
    job, lock = forged.job(cell, budget), locks.lock(cell.folder)
    store.clear_temporary(cell.folder)
    made = store.commit(make_record(forged.job(cell), **outcome), cell.folder)
    found = supervise.finished_elsewhere(cell.folder, cell.stamp, job)
    assert found == (made if adopted else None)
    assert supervise.finished_elsewhere(cell.folder, store.stamp(cell.folder), job) is None
    locks.unlock(cell.folder, lock)


def test_a_run_that_was_cut_short_elsewhere_takes_no_results_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here_is(monkeypatch, tmp_path, "finish()")
    (cell,) = cells(tmp_path, 1)
    token = token_in(cell.folder.parent)
    remote.run_job(remote.payload(cell, forged.job(cell), token))
    before = store.stamp(cell.folder)
    cell = replace(cell, stamp=before)
    here_is(monkeypatch, tmp_path, "os._exit(3)")
    for seen in (token, "no such token"):  # a shared folder, or files in the answer
        answer = remote.run_job(remote.payload(cell, forged.job(cell), seen))
        told = remote.settle(cell, forged.job(cell), json.loads(answer))
        assert told is not None
        assert (told.status, told.checksum, told.files) == ("crashed", None, {})
        assert (told.reason or "").count("; its done run stays") == 1
        assert store.stamp(cell.folder) == before


def test_a_cell_that_another_holds_is_busy_and_a_disk_that_is_full_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here_is(monkeypatch, tmp_path, forged.DISK_FULL)
    (cell,) = cells(tmp_path, 1)
    token = token_in(cell.folder.parent)
    lock = locks.lock(cell.folder)
    assert lock is not None
    text = remote.payload(cell, forged.job(cell), token)
    assert remote.settle(cell, forged.job(cell), json.loads(remote.run_job(text))) is None
    locks.unlock(cell.folder, lock)
    with pytest.raises(StoreError, match="the disk is full"):
        remote.settle(cell, forged.job(cell), json.loads(remote.run_job(text)))


class Idle:
    """A handle that only calls `answering`."""

    def __init__(self, answering: Callable[[], None] = lambda: None) -> None:
        self.answering, self.cancelled = answering, False

    def answer(self) -> str | None:
        self.answering()
        return None

    def cancel(self) -> None:
        self.cancelled = True


def test_what_has_not_begun_when_the_time_is_up_is_cancelled_and_skipped(
    tmp_path: Path, leap: Any
) -> None:
    """The clock passes the time limit once two of the three cells are submitted."""
    events: list[dict[str, Any]] = []
    handles: list[Idle] = []

    def submit(texts: Any) -> list[Idle]:
        handles.extend(Idle() for _ in texts)
        return handles

    leap(lambda: bool(handles))
    remote.drive(
        cells(tmp_path, 3),
        forged.job,
        lambda c, event: events.append(event),
        Options(sweep_seconds=600),
        submit,
        at_once=2,
    )
    assert [event["record"].status for event in events if event["event"] == "end"] == [
        "skipped"
    ] * 3
    assert [handle.cancelled for handle in handles] == [True, True]
    assert leftovers(tmp_path / "s") == []


def test_cells_of_two_suites_are_handed_over_at_once_each_with_the_token_of_its_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "two").mkdir()
    given: list[bool] = []

    def submit(texts: Any) -> list[Idle]:
        jobs = [json.loads(text) for _, text in texts]
        given.extend((Path(job["final"]).parent / job["token"]).is_file() for job in jobs)
        raise KeyboardInterrupt

    both = [
        *cells(tmp_path, 1),
        *(replace(c, identity="f" * 32) for c in cells(tmp_path / "two", 1)),
    ]
    with pytest.raises(KeyboardInterrupt):
        remote.drive(both, forged.job, lambda c, e: None, Options(), submit)
    assert given == [True, True]
    assert leftovers(tmp_path / "s") == leftovers(tmp_path / "two" / "s") == []


ROWS = """
row = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0, "measurements": {}}
(store.temporary(final) / "epochs.jsonl").write_text(json.dumps(row) + chr(10))
finish()
"""


class Done(Idle):
    """A job that ran to its end where it was handed over."""

    def __init__(self, text: str) -> None:
        self.text = remote.run_job(text)

    def answer(self) -> str:
        return self.text


@pytest.mark.parametrize("how", ["crashes", "is lost", "no time"])
def test_epochs_of_an_older_run_are_not_told_as_those_of_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leap: Any, how: str
) -> None:
    events: list[dict[str, Any]] = []

    def drive(submit: Any, **options: Any) -> list[str]:
        events.clear()
        (cell,) = cells(tmp_path, 1)
        cell = replace(cell, stamp=store.stamp(cell.folder))
        on_event = lambda _, event: events.append(event)  # noqa: E731
        remote.drive([cell], forged.job, on_event, Options(**options), submit)
        return [event["event"] for event in events]

    def hand_over(texts: Any) -> list[Any]:
        return [Done(text) for _, text in texts]

    here_is(monkeypatch, tmp_path, ROWS)
    assert drive(hand_over) == ["start", "epoch", "end"]
    (cell,) = cells(tmp_path, 1)
    before = store.read(cell.folder)
    here_is(monkeypatch, tmp_path, "os._exit(3)")
    if how == "crashes":
        told = drive(hand_over)
    elif how == "is lost":

        class Gone(Idle):
            def answer(self) -> str:
                raise remote.Lost("job 7 is gone")

        told = drive(lambda texts: [Gone() for _ in texts])
    else:
        handles: list[Idle] = []
        leap(lambda: bool(handles))
        told = drive(lambda texts: handles.append(Idle()) or handles, sweep_seconds=600)
    assert told == ["end"]
    assert events[-1]["record"].reason.endswith("; its done run stays")
    assert store.read(cell.folder) == before


class Dies(Idle):
    """A job that leaves a row, which is spoilt then, and is lost."""

    def __init__(self, cell: Any, spoil: Callable[[Path], object] = lambda path: None) -> None:
        self.cell, self.spoil = cell, spoil

    def answer(self) -> str:
        with locks.locked(self.cell.folder) as lock:
            assert lock is not None
            supervise.new_row(forged.job(self.cell), "crashed", "its own words")
        self.spoil(self.cell.folder / "run.json")
        raise remote.Lost("job 7 is gone")


@pytest.mark.parametrize("what", ["newer", "damaged"])
def test_a_lost_job_replaces_no_run_that_it_cannot_read(tmp_path: Path, what: str) -> None:
    (cell,) = cells(tmp_path, 1)
    events: list[dict[str, Any]] = []

    def spoil(path: Path) -> None:
        text = path.read_text()
        path.write_text(
            text.replace(f'"schema": {SCHEMA}', '"schema": 99') if what == "newer" else "{"
        )

    def drive() -> None:
        on_event = lambda _, event: events.append(event)  # noqa: E731
        dies = [Dies(cell, spoil)]
        remote.drive([cell], forged.job, on_event, Options(), lambda texts: dies)

    if what == "newer":
        with pytest.raises(StoreError, match="written by a newer bench"):
            drive()
        assert '"schema": 99' in (cell.folder / "run.json").read_text()
    else:
        drive()
        assert events[-1]["record"].reason == "job 7 is gone"
        assert len(list((tmp_path / "s" / store.QUARANTINE).glob("*/run.json"))) == 1


def test_a_run_as_bytes_that_was_cut_short_does_not_replace_a_swapped_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The done run lies beside its place: the process that replaced it was killed."""
    here_is(monkeypatch, tmp_path, "finish()")
    (cell,) = cells(tmp_path, 1)
    remote.run_job(remote.payload(cell, forged.job(cell), token_in(cell.folder.parent)))
    here_is(monkeypatch, tmp_path, "os._exit(3)")
    answer = remote.run_job(remote.payload(cell, forged.job(cell), "no such token"))
    cell.folder.rename(locks.beside(cell.folder, "old"))
    told = remote.settle(cell, forged.job(cell), json.loads(answer))
    assert told is not None
    assert told.status == "crashed"
    assert store.read(cell.folder).status == "done"


def test_a_lost_job_keeps_the_row_that_it_left(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, 1)
    events: list[dict[str, Any]] = []

    on_event = lambda _, event: events.append(event)  # noqa: E731
    remote.drive([cell], forged.job, on_event, Options(), lambda texts: [Dies(cell)])
    assert events[-1]["record"].reason == "its own words"
    assert store.read(cell.folder).reason == "its own words"


def test_an_interrupt_cancels_what_was_handed_over(tmp_path: Path) -> None:
    handles = [Idle(lambda: signal.raise_signal(signal.SIGINT)), Idle()]
    with pytest.raises(KeyboardInterrupt):
        remote.drive(
            cells(tmp_path, 2), forged.job, lambda c, e: None, Options(), lambda t: handles, None
        )
    assert [handle.cancelled for handle in handles] == [True, True]
    assert leftovers(tmp_path / "s") == []


def test_a_machine_with_other_code_or_data_refuses(tmp_path: Path) -> None:
    registry = plugins.load()
    parts = [
        ("method", "bench-core/bp", {}),
        ("arch", "bench-core/resmlp", {}),
        ("dataset", "bench-core/digits", {}),
        ("diagnostic", "bench-core/scale_growth", {}),
    ]
    told = validate.answer({"components": parts, "trios": []}, registry)["components"]
    stop_when = {"bench-core/scale_growth": None}
    code = code_of(told[:3], told[3:], stop_when)
    assert "bench_plugins.diagnostics.scale_growth" in code["bench-core"]["files"]
    cell = {kind: {"name": name, "params": params} for kind, name, params in parts[:3]}
    job = {
        "cell": {**cell, "training": {"stop_when": stop_when}},
        "diagnostics": [{"name": "bench-core/scale_growth", "params": {}}],
        "code": code,
        "data_checksum": told[2]["checksum"],
        "data_dir": None,
    }
    check_machine(job, registry)
    with pytest.raises(UsageError, match="this machine has other data: checksum"):
        check_machine({**job, "data_checksum": "another"}, registry)
    older = {**job["cell"], "method": {"name": "bench-core/bp", "params": {"scale": 2}}}
    with pytest.raises(UsageError, match=r"^other parameters are known here: scale: unknown key"):
        check_machine({**job, "cell": older}, registry)
    files = {**code["bench-core"]["files"], "bench_core.training.loop": "another"}
    other = {"bench-core": {**code["bench-core"], "digest": "another", "files": files}}
    with pytest.raises(
        UsageError,
        match=r"other code of bench-core: bench_core\.training\.loop; install the same version",
    ):
        check_machine({**job, "code": other}, registry)


# ------------------------------------------------------------------ the queue, in a few lines of sh


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of Slurm that note their arguments in `calls` and print the file of their name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("squeue", "scancel", "scontrol", "sacct"):
        script = folder / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\ncat {folder}/{name}.out 2>/dev/null\n'
            f"cat {folder}/{name}.err >&2 2>/dev/null\n[ ! -f {folder}/{name}.err ]\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


class Pickled:
    """A submitit job that has not answered."""

    def __init__(self, folder: Path, number: str) -> None:
        self.job_id = number
        self.paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl")


def queued(folder: Path, *numbers: str) -> tuple[slurm._Queue, list[slurm._Queued]]:
    whole = slurm._Queue()
    whole.jobs = [slurm._Queued(Pickled(folder, number), whole) for number in numbers]
    return whole, [*whole.jobs]


def looks(whole: slurm._Queue, jobs: list[slurm._Queued], times: int) -> list[bool]:
    for _ in range(times):
        whole.looked -= slurm.LOOK
        lacks = [whole.lacks(job) for job in jobs]
    return lacks


def test_one_look_at_the_queue_tells_which_jobs_have_left_it(tmp_path: Path, queue: Path) -> None:
    whole, jobs = queued(tmp_path, "7_0", "7_1", "9")
    (queue / "squeue.out").write_text("Welcome to the cluster!\n   7_1  \n")  # what sites print
    assert looks(whole, jobs, slurm.MISSING - 1) == [False, False, False]
    assert looks(whole, jobs, 1) == [True, False, True]
    calls = lines(queue / "calls")
    assert calls == ["squeue --noheader --array --format=%i --jobs 7,9"] * slurm.MISSING
    # a failure says nothing; an unknown number does
    whole, jobs = queued(tmp_path, "7_0")
    (queue / "squeue.err").write_text("slurm_load_jobs error: Unable to contact slurm controller\n")
    assert looks(whole, jobs, 5) == [False]
    (queue / "squeue.err").write_text("slurm_load_jobs error: Invalid job id specified\n")
    (queue / "squeue.out").write_text("7_0\n")
    assert looks(whole, jobs, 3) == [False]  # another one: this job is listed all the same
    (queue / "squeue.out").unlink()
    assert looks(whole, jobs, 3) == [True]


def test_jobs_are_cancelled_together_and_the_waiting_ones_first(
    tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, jobs = queued(tmp_path, "7_0", "7_1")
    whole.cancel([*jobs])
    assert lines(queue / "calls") == [
        "scancel --state=PENDING 7_0 7_1",
        "scancel --full --signal=KILL 7_0 7_1",
        "scancel 7_0 7_1",
    ]
    assert capsys.readouterr().err == ""
    (queue / "scancel.err").write_text("scancel: error: Socket timed out\n")
    whole.cancel([*jobs])
    assert capsys.readouterr().err == "not cancelled: `scancel 7` ends the jobs\n"
    (queue / "scancel.err").write_text("scancel: error: Kill job error on 7_0: Invalid job id\n")
    whole.cancel([*jobs])  # they have ended
    assert capsys.readouterr().err == ""


def test_a_command_of_slurm_that_hangs_or_is_absent_says_nothing(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the clusters to which `sbatch` submits."""
    monkeypatch.setenv("SBATCH_CLUSTERS", "moon")
    (queue / "squeue").write_text('#!/bin/sh\necho "7_0"\n[ "$SLURM_CLUSTERS" = moon ]\n')
    assert slurm._in_queue(["7_0"]) == {"7_0"}
    monkeypatch.setattr(slurm, "LOOK", 0.2)
    (queue / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    assert slurm._in_queue(["7_0"]) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm._in_queue(["7_0"]) is None


def test_jobs_that_have_answered_are_asked_for_no_more(tmp_path: Path, queue: Path) -> None:
    whole, jobs = queued(tmp_path, "7_0", "9")
    jobs[1].job.paths.result_pickle.touch()
    looks(whole, jobs, 1)
    assert lines(queue / "calls") == ["squeue --noheader --array --format=%i --jobs 7"]


def test_a_job_that_reached_its_time_limit_says_which_setting_gives_more(tmp_path: Path) -> None:
    (job,) = queued(tmp_path, "7")[1]
    job.job.paths.result_pickle.touch()
    job.job._get_outcome_and_result = lambda: ("error", "not requeued because: timed-out too many")
    with pytest.raises(remote.Lost, match="timeout_min=… gives more, and with checkpoint_every"):
        job.answer()


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("scontrol", "JobId=7 JobState=OUT_OF_MEMORY Reason=OutOfMemory", "OUT_OF_MEMORY; --exe"),
        ("sacct", "TIMEOUT\n", "TIMEOUT; --executor-set timeout_min=… gives a job more"),
        ("sacct", "", "without an answer"),
    ],
)  # fmt: skip
def test_a_lost_job_says_how_slurm_ended_it(
    tmp_path: Path, queue: Path, command: str, text: str, said: str
) -> None:
    _, (job,) = queued(tmp_path, "7")
    (queue / f"{command}.out").write_text(text)
    job.missing = slurm.MISSING
    with pytest.raises(remote.Lost) as lost:
        job.answer()
    assert str(lost.value).startswith("job 7 left the queue without an answer")
    assert said in str(lost.value)
    assert str(lost.value).endswith("answer") == (text == "")


def test_jobs_of_a_killed_runner_that_wait_are_cancelled_and_its_files_go(
    tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def left(name: str) -> Path:
        folder = tmp_path / ".jobs" / name
        folder.mkdir(parents=True)
        (folder / "jobs").write_text("7_0 7_1\n")
        return folder

    ended, alive_still = left("ended"), left("alive")
    (tmp_path / ".shared-0").touch()
    lock = os.open(alive_still / "jobs", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (queue / "squeue.out").write_text("7_1\n")  # it runs
    store.tidy(tmp_path)
    with slurm._home(tmp_path) as (home, _):
        assert home.parent == tmp_path / ".jobs"
    assert ended.exists()
    named = "--name=bench-ended"  # a number alone may be somebody else's job
    assert f"scancel --state=PENDING {named} 7_1" in lines(queue / "calls")
    assert all(named in call for call in lines(queue / "calls"))
    assert capsys.readouterr().err == ""
    assert (tmp_path / ".shared-0").exists()
    (queue / "squeue.out").write_text("")
    os.close(lock)
    with slurm._home(tmp_path):
        pass
    assert not (tmp_path / ".jobs").exists()
    store.tidy(tmp_path)
    assert not (tmp_path / ".shared-0").exists()
    with remote.tokens_in({tmp_path}) as names:
        store.tidy(tmp_path)  # of another runner
        assert (tmp_path / names[tmp_path]).exists()
    assert leftovers(tmp_path) == []


def test_jobs_of_a_killed_runner_that_were_cancelled_are_named(
    tmp_path: Path, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / ".jobs" / "left"
    left.mkdir(parents=True)
    (left / "jobs").write_bytes(b"7_0 7_1 8\n")
    (queue / "squeue.out").write_text("7_0\n7_1\n9\n")  # 9 is not ours
    (queue / "scancel").write_text(f"#!/bin/sh\nrm {queue}/squeue.out\n")
    slurm._end_left(tmp_path / ".jobs")
    assert capsys.readouterr().err == "cancelled, of an earlier run: 7_0 7_1\n"
    (left / "jobs").write_bytes(b"\xff\n")
    slurm._end_left(tmp_path / ".jobs")
    assert left.exists()


@pytest.mark.parametrize(("squeue", "kept"), [("", False), (None, True)])
def test_files_of_a_killed_runner_go_at_the_end_of_a_sweep_if_squeue_answers(
    tmp_path: Path, queue: Path, squeue: str | None, kept: bool
) -> None:
    left = tmp_path / ".jobs" / "left"
    left.mkdir(parents=True)
    (left / "jobs").write_text("7_0\n")
    (queue / "squeue.out").write_text("7_0\n")  # it runs
    with slurm._home(tmp_path):
        assert left.exists()
        (queue / "squeue.out").write_text("")
        if squeue is None:
            (queue / "squeue.err").write_text("Unable to contact slurm controller\n")
    assert left.exists() == kept


@pytest.mark.parametrize("second_is_refused", [False, True])
def test_jobs_are_noted_and_cancelled_through_the_queue(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch, second_is_refused: bool
) -> None:
    """Also those of an array that was accepted before an interrupt."""
    submitit = pytest.importorskip("submitit")
    noted: list[str] = []
    arrays = iter(["7_0", KeyboardInterrupt if second_is_refused else "8_0"])

    def submitted(submit: Any) -> list[Any]:
        number = next(arrays)
        if not isinstance(number, str):
            raise number
        return [Pickled(tmp_path, number)]

    def answer(self: slurm._Queued) -> str | None:
        (names,) = (tmp_path / "s" / ".jobs").glob("*/jobs")
        noted.extend(names.read_text().split())
        assert self in self.queue.jobs
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(submitit, "AutoExecutor", lambda *a, **k: SimpleNamespace(
        update_parameters=lambda **k: None))  # fmt: skip
    monkeypatch.setattr(slurm, "_submitted", submitted)
    monkeypatch.setattr(slurm._Queued, "answer", answer)
    two = [replace(cell, device=device) for cell, device in zip(
        cells(tmp_path, 2), ("cpu", "cuda"), strict=True)]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        slurm.execute(two, forged.job, lambda c, e: None, Options())
    assert noted == ([] if second_is_refused else ["7_0", "8_0"])
    last = [line for line in lines(queue / "calls") if line.startswith("scancel")][-1]
    assert last == ("scancel 7_0" if second_is_refused else "scancel 7_0 8_0")


def test_sbatch_is_tried_again_while_slurm_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit.core.utils import FailedJobError

    monkeypatch.setattr(slurm, "PAUSE", 0.0)
    said = ["sbatch: error: Unable to contact slurm controller"] * 2

    def submit() -> list[Any]:
        if said:
            raise FailedJobError(said.pop())
        return ["job"]

    assert slurm._submitted(submit) == ["job"]
    said[:] = ["never tried again", "sbatch: error: Invalid partition name specified"]
    with pytest.raises(UsageError, match=r"sbatch failed: .*Invalid partition name specified; `si"):
        slurm._submitted(submit)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("checkpoint_every", "asked", "most"),
    [(None, {}, 0), (2, {}, 100), (2, {"max_num_timeout": "0"}, 0)],
)
def test_a_job_without_saved_states_ends_at_its_time_limit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint_every: int | None,
    asked: dict[str, str],
    most: int,
) -> None:
    submitit = pytest.importorskip("submitit")
    given: list[Any] = []

    def executor(folder: Path, cluster: str, **options: Any) -> Any:
        given.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(submitit, "AutoExecutor", executor)
    job = lambda cell: {**forged.job(cell), "checkpoint_every": checkpoint_every}  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        slurm.execute(
            cells(tmp_path, 1),
            job,
            lambda c, e: None,
            Options(settings={"cluster": "local", **asked}),
        )
    assert given == [{"local_max_num_timeout": most}]
    assert leftovers(tmp_path / "s") == []


def test_arrays_that_were_accepted_are_cancelled_if_a_later_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells with unlike needs are two arrays."""
    arrays: list[list[Any]] = []
    cancelled: list[Any] = []

    def submitted(submit: Any) -> list[Any]:
        arrays.append(submit())
        if len(arrays) == 2:
            raise UsageError("sbatch failed")
        return arrays[-1]

    monkeypatch.setattr(slurm, "_submitted", submitted)
    monkeypatch.setattr(slurm._Queued, "cancel", lambda self: cancelled.append(self.job))
    two = [replace(cell, device=device) for cell, device in zip(
        cells(tmp_path, 2), ("cpu", "cuda"), strict=True)]  # fmt: skip
    with pytest.raises(UsageError, match="sbatch failed"):
        slurm.execute(two, forged.job, lambda c, e: None, LOCAL)
    assert cancelled == arrays[0]
    assert leftovers(tmp_path / "s") == []


# --------------------------------------------------------------- what an interrupt or a loss leaves


def started(cell: Any, epoch: int, log: str) -> None:
    """Put what a worker writes on its way into the temporary folder of a cell."""
    temporary = store.temporary(cell.folder)
    temporary.mkdir()
    row = {"learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0, "measurements": {}}
    rows = (json.dumps({"epoch": number, **row}) + "\n" for number in range(epoch + 1))
    (temporary / "epochs.jsonl").write_text("".join(rows))
    store.output_file(cell.folder).write_text(log)


def test_an_interrupt_leaves_the_rows_and_logs_of_cells_that_had_begun(tmp_path: Path) -> None:
    begun, waiting = cells(tmp_path, 2)

    def press() -> None:
        if not store.temporary(begun.folder).exists():
            started(begun, 3, "HELLO\n")
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        remote.drive(
            [begun, waiting], forged.job, lambda c, e: None, Options(),
            lambda texts: [Idle(press), Idle()],
        )  # fmt: skip
    record = store.read(begun.folder)
    assert (record.status, record.epochs) == ("interrupted", 3)
    assert record.reason == "interrupted after epoch 3; the next run begins it anew"
    assert (begun.folder / "log.txt").read_text().startswith("HELLO\n")
    assert not waiting.folder.exists()
    assert leftovers(tmp_path / "s") == []


def test_a_lost_job_is_cancelled_and_keeps_its_epochs_and_its_log(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, 1)

    def lose() -> None:
        started(cell, 5, "HELLO\n")
        raise remote.Lost("job 7 left the queue")

    handle = Idle(lose)
    remote.drive([cell], forged.job, lambda c, e: None, Options(), lambda texts: [handle])
    record = store.read(cell.folder)
    assert (record.status, record.epochs, record.reason) == ("crashed", 5, "job 7 left the queue")
    assert (cell.folder / "log.txt").read_text().startswith("HELLO\n")
    assert handle.cancelled
    assert leftovers(tmp_path / "s") == []


def test_an_error_of_one_cell_leaves_the_rows_of_those_at_work(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, 1)

    def fail() -> None:
        started(cell, 2, "HELLO\n")
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        remote.drive([cell], forged.job, lambda c, e: None, Options(), lambda t: [Idle(fail)])
    assert store.read(cell.folder).status == "interrupted"
    assert leftovers(tmp_path / "s") == []


def test_an_interrupt_keeps_the_row_that_a_job_has_just_left(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, 1)

    def press() -> None:
        started(cell, 2, "HELLO\n")
        with locks.locked(cell.folder):
            supervise.leave_row(forged.job(cell), "crashed", "its own words", 2)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        remote.drive([cell], forged.job, lambda c, e: None, Options(), lambda t: [Idle(press)])
    record = store.read(cell.folder, sums=True)
    assert (record.status, record.reason) == ("crashed", "its own words")
    assert len(lines(cell.folder / "epochs.jsonl")) == 3


def test_a_lost_attempt_has_the_seconds_of_the_attempts_that_it_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells(tmp_path, 1)
    monkeypatch.setattr(watching, "saved_state", lambda final: {"epoch": 1, "seconds": 50.0})

    def lose() -> None:
        if not store.temporary(cell.folder).exists():
            return started(cell, 2, "HELLO\n")
        raise remote.Lost("job 7 is gone")

    remote.drive([cell], forged.job, lambda c, e: None, Options(), lambda t: [Idle(lose)])
    assert store.read(cell.folder).seconds > 50


@pytest.mark.parametrize("number", remote.HELD)
def test_a_signal_during_a_submission_waits_for_the_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Children can be interrupted all the same, and a second signal is not put off."""
    before = {each: signal.getsignal(each) for each in remote.HELD}
    signal.signal(number, signal.default_int_handler)
    handle, blocked = Idle(), []

    def submit(texts: Any) -> list[Idle]:
        signal.raise_signal(number)
        blocked.extend(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return [handle]

    def submit_slowly(texts: Any) -> list[Idle]:
        signal.raise_signal(number)
        signal.raise_signal(number)
        raise AssertionError("a second signal was put off")

    try:
        for way in (submit, submit_slowly):
            with pytest.raises(KeyboardInterrupt):
                remote.drive(cells(tmp_path, 1), forged.job, lambda c, e: None, Options(), way)
            assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before[number])
    assert (handle.cancelled, blocked) == (True, [])
    assert {each: signal.getsignal(each) for each in remote.HELD} == before


@pytest.mark.parametrize("number", remote.HELD)
def test_a_second_signal_waits_until_the_jobs_are_cancelled(
    tmp_path: Path, number: signal.Signals
) -> None:
    handles: list[Idle] = []

    def submit(texts: Any) -> list[Idle]:
        handles.extend(Idle(partial(signal.raise_signal, number)) for _ in texts)
        return handles

    def cancel(those: Any) -> None:
        signal.raise_signal(number)
        remote.cancel_each(those)

    before = signal.signal(number, signal.default_int_handler)
    two = cells(tmp_path, 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            remote.drive(two, forged.job, lambda c, e: None, Options(), submit, cancel=cancel)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert [handle.cancelled for handle in handles] == [True, True]
    assert leftovers(two[0].folder.parent) == []


@pytest.mark.long
def test_an_interrupt_ends_the_jobs_of_this_machine(tmp_path: Path, site: Any) -> None:
    """Real jobs of submitit, whose controller is ended by SIGINT."""
    site(ATTEMPT + "time.sleep(600)")
    planned = cells(tmp_path, 2)

    def press() -> None:
        wait_until(lambda: len(at_work(tmp_path)) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        slurm.execute(planned, forged.job, lambda c, event: None, LOCAL)
    thread.join()
    wait_until(lambda: not any(map(alive, at_work(tmp_path))))
    assert leftovers(tmp_path / "s") == []


def test_a_cancellation_that_fails_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    class Stubborn(Idle):
        def cancel(self) -> None:
            raise OSError("no such job")

    handles = [Stubborn(lambda: signal.raise_signal(signal.SIGINT)), Idle()]
    with pytest.raises(KeyboardInterrupt):
        remote.drive(
            cells(tmp_path, 2), forged.job, lambda c, e: None, Options(), lambda t: handles
        )
    assert handles[1].cancelled


def test_cells_are_handed_over_outside_of_the_main_thread(tmp_path: Path) -> None:
    """Where no handler of a signal can be set."""
    handle = Idle(lambda: (_ for _ in ()).throw(remote.Lost("job 7 is gone")))
    (cell,) = cells(tmp_path, 1)
    with ThreadPoolExecutor() as pool:
        pool.submit(
            remote.drive, [cell], forged.job, lambda c, e: None, Options(), lambda texts: [handle]
        ).result()
    assert store.read(cell.folder).reason == "job 7 is gone"


def test_a_worker_that_the_supervisor_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a SIGTERM of somebody else may be that of the whole job."""
    here_is(monkeypatch, tmp_path, "time.sleep(600)")
    monkeypatch.setattr(remote_job, "PREEMPTION", 1e9)
    (cell,) = cells(tmp_path, 1)
    job = forged.job(cell, {"seconds": 0.1})
    answer = json.loads(remote.run_job(remote.payload(cell, job, token_in(cell.folder.parent))))
    assert answer["cut short"]["status"] == "timeout"


@pytest.mark.parametrize("shared", [True, False])
def test_a_machine_without_the_runners_working_folder_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    here_is(monkeypatch, tmp_path, "finish()")
    (cell,) = cells(tmp_path, 1)
    token = token_in(cell.folder.parent) if shared else "none"
    away = {**json.loads(remote.payload(cell, forged.job(cell), token)), "cwd": "/no/such/folder"}
    answer = json.loads(remote.run_job(json.dumps(away)))
    assert answer["is"] == "end"
    assert ("files" in answer) == (not shared)
    assert "cut short" not in answer


@pytest.mark.long
def test_a_worker_that_a_schedulers_sigterm_ends_is_no_crash_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job waits to be ended itself; a SIGTERM of a plugin becomes a row after a while."""
    here_is(monkeypatch, tmp_path, "os.kill(os.getpid(), 15)\ntime.sleep(600)")
    (cell,) = cells(tmp_path, 1)
    text = remote.payload(cell, forged.job(cell), token_in(cell.folder.parent))
    monkeypatch.setattr(remote_job, "PREEMPTION", 1e9)

    workers: list[supervise.Worker] = []
    asleep: list[float] = []  # after the end of the worker; one sleep may have begun before

    def start(*about: Any) -> supervise.Worker:
        workers.append(supervise_start(*about))
        return workers[-1]

    def sleep_until_the_job_ends(seconds: float) -> None:
        if workers[-1].process.poll() is not None:
            asleep.append(seconds)
            if len(asleep) == 2:
                raise SystemExit
        time.sleep(seconds)

    supervise_start = supervise.start
    monkeypatch.setattr(supervise, "start", start)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep_until_the_job_ends)
    monkeypatch.setattr(remote_job, "time", clock)
    with pytest.raises(SystemExit):
        remote.run_job(text)
    assert not cell.folder.exists()
    monkeypatch.setattr(remote_job, "PREEMPTION", 0.0)
    assert json.loads(remote.run_job(text))["cut short"]["reason"].startswith(
        "the worker ended with SIGTERM"
    )
