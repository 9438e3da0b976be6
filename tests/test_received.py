"""Whatever lies in a received results folder, no command hangs, breaks, fills the memory, or
touches a file outside. A part of the matrix runs with every test, all of it in `make soak`."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import side_files
from conftest import Finished, Here, environment

from bench_core import cli
from bench_core.processes import forking
from bench_core.results import store
from bench_core.results.scan import Stored, scan
from bench_core.sharing.submission import write_compact

pytestmark = pytest.mark.processes

MEMORY = 500_000  # kB
SECONDS = 10  # of CPU that a command may take: other work on the machine does not count
GUARD = 60  # seconds until a command counts as hanging
WORKERS = int(os.environ.get("BENCH_SOAK_WORKERS", os.cpu_count() or 1))
READERS = {
    "leaderboard": "leaderboard received",
    "leaderboard json": "leaderboard received --format json",
    "report": "report received -o out/report.html",
    "show": "show {run} received",
    "status": "status received",
    "why": "why {run} received",
    "compare": "compare dfa dfa[freeze=blocks] received",
    "claims": "claims received",
    "export runs": "export received -o out/runs.csv",
    "export epochs": "export received --table epochs -o out/epochs.csv",
    "cite": "cite received",
    "figure": "figure audit received -o out/audit.svg",
    "site": "site received -o out/site",
    "submit": "submit received -o out/submission",
    "verify": "verify received",
    "verify --quarantine": "verify received --quarantine",
    "clean": "clean received",
    "clean --yes": "clean received --yes",
    "merge from": "merge received --into merged",
    "merge into": "merge fresh --into received",
}
TRAINERS = {
    "plan": "plan tiny.yaml --results received",
    "run": "run tiny.yaml --results received",
    "audit": "audit received --diagnostic alignment --workers 1",
    "replicate": "replicate received --sample 1 --seed 1 --into replicas --workers 1",
}
COMMANDS = READERS | TRAINERS
# they start threads, so that a fork of the process that ran one would wait for ever
DRAWERS = ("report", "figure", "site")


@dataclass(frozen=True)
class Place:
    """A folder with received results, a fresh copy of them, and files of the user's own."""

    home: Path
    run: str
    cell: str
    compact: str

    def path(self, side_file: str) -> Path:
        names = {"run": self.run, "cell": self.cell, "compact": self.compact}
        return self.home / "received" / "tiny" / side_file.format(**names)

    def words(self, command: str) -> list[str]:
        return command.format(run=self.run).split()

    def renew(self, finished: Finished) -> None:
        """Put everything back as it was, with a cell that has not been run and a compact run."""
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.home / "out").mkdir()
        (self.home / "tiny.yaml").write_bytes(finished.suite.read_bytes())
        for name in ("received", "fresh"):  # no command writes into a file that is there
            shutil.copytree(finished.results, self.home / name, copy_function=os.link)
        shutil.rmtree(self.path("{cell}"))
        shutil.rmtree(self.path("{compact}"))
        folder = finished.folder / self.compact
        write_compact(Stored(store.read(folder), folder), self.path("{compact}"), {}, None)
        side_files.own_files(self.home)


def place_in(home: Path, finished: Finished) -> Place:
    runs = {
        (record.cell.method.short, record.cell.method.params["freeze"]): record.identity
        for record in (run.record for run in scan([finished.results]).runs)
    }
    place = Place(home, runs["dfa", None], runs["bp", None], runs["dfa", "blocks"])
    place.home.mkdir()
    place.renew(finished)
    return place


@pytest.fixture
def received(finished: Finished, tmp_path: Path) -> Place:
    return place_in(tmp_path / "home", finished)


# each kind once, and each side file once or twice
FEW = [
    ("suite.json", "link"),
    ("suite.json", "FIFO"),
    ("{run}/run.json", "device"),
    ("{run}/epochs.jsonl", "FIFO"),
    ("{run}/epochs.jsonl", "too large"),
    ("{compact}/epochs.jsonl.gz", "FIFO"),
    ("{compact}/epochs.jsonl.gz", "other type"),
    ("{run}/checkpoint.safetensors", "socket"),
    ("{run}/probe.safetensors", "FIFO"),
    ("{run}/late.alignment.json", "FIFO"),
    ("{run}/late.alignment.json", "link"),
    ("agreement/{run}.json", "device"),
    ("agreement", "link"),
    ("quarantine", "link"),
    (".lock-{run}", "dangling link"),
    (".lock-suite.json", "link"),
    ("{run}", "link"),
    ("replicates", "link"),
    ("", "link"),
]
QUICK = (
    "leaderboard json",
    "show",
    "status",
    "export epochs",
    "submit",
    "verify --quarantine",
    "clean --yes",
    "merge into",
)


@pytest.mark.parametrize(("side_file", "kind"), FEW)
def test_a_planted_side_file_stops_no_command_and_leads_nowhere(
    received: Place, side_file: str, kind: str
) -> None:
    own = received.home / "own"
    side_files.plant(received.path(side_file), side_files.SIDE_FILES[side_file], kind, own)
    before = side_files.state(own)
    for name in QUICK:
        done = Here(received.home)(*received.words(READERS[name]))
        assert done.returncode in (0, 1, 2), (name, done.stderr)
        assert "Traceback" not in done.stderr, (name, done.stderr)
    assert side_files.state(own) == before


def test_merge_from_within_a_suite_folder_keeps_its_level_and_copies_no_link(
    received: Place,
) -> None:
    own, tiny = received.home / "own", received.home / "received" / "tiny"
    (received.path("{run}") / "late.alignment.json").symlink_to(own / "file")
    (received.path("{run}") / "note").symlink_to(own / "file")
    done = Here(tiny)("merge", ".", "--into", received.home / "merged")
    assert "late.alignment.json: left out: it is a link, not a regular file" in done.stderr
    merged = received.home / "merged"
    assert [path.name for path in merged.iterdir()] == ["tiny"]
    assert (merged / "tiny" / received.run / "run.json").is_file()
    assert [path for path in merged.rglob("*") if path.is_symlink()] == []


# ---------------------------------------------------------------------------------------- make soak


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None if it had to be killed.

    cpu     seconds of the command and of the children that it waited for
    memory  kB of the command at most
    """

    code: int | None
    errors: str
    seconds: float
    cpu: float
    memory: int


def adopt_fork_server() -> None:
    """Let this fork of the test process use the test process's fork server."""
    for key, server in list(forking._servers.items()):
        server.process.poll = lambda: None  # type: ignore[method-assign]  # not our child
        forking._servers[(os.getpid(), *key[1:])] = server


def forked(words: Sequence[str], home: Path) -> Ended:
    """Run a command in a fork of this process, which has imported most of it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            adopt_fork_server()
            os.chdir(home)
            null, errors = (
                os.open(os.devnull, os.O_RDWR),
                os.open("out/errors", os.O_RDWR | os.O_CREAT),
            )
            for target, source in ((0, null), (1, null), (2, errors)):
                os.dup2(source, target)
            sys.stdin, sys.stdout, sys.stderr = (
                open(number, mode, closefd=False)  # noqa: SIM115
                for number, mode in ((0, "r"), (1, "w"), (2, "w"))
            )
            os.environ.update(environment())
            sys.argv = ["bench", *words]
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    return ended(pid, home)


def ended(pid: int, home: Path) -> Ended:
    """Wait for a forked command; kill it if it hangs."""
    begun = time.monotonic()
    while True:
        waited, status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - begun
        if waited:
            break
        if seconds > GUARD:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return Ended(None, "it hangs", seconds, 0.0, 0)
        time.sleep(0.005)
    text = (home / "out" / "errors").read_text(errors="replace")
    cpu = usage.ru_utime + usage.ru_stime
    return Ended(os.waitstatus_to_exitcode(status), text, seconds, cpu, usage.ru_maxrss)


@dataclass(frozen=True)
class Outcome:
    """One command before one planted thing, and what was wrong."""

    command: str
    planted: str
    ended: Ended
    faults: tuple[str, ...]


@cache
def prepared(finished: Finished, home: Path) -> Place:
    """Return this process's own place, once it has imported all that the commands use."""
    place = place_in(home / str(os.getpid()), finished)
    for module in ("pages.page", "pages.site", "figures.audit"):
        importlib.import_module(f"bench_core.report.{module}")
    for name, command in COMMANDS.items():
        place.renew(finished)
        if name in DRAWERS:
            code, errors = (end := forked(place.words(command), place.home)).code, end.errors
        else:
            code, errors = (done := Here(place.home)(*place.words(command))).returncode, done.stderr
        assert code == 0, (command, errors)  # else it would be tried in vain
    gc.freeze()
    return place


def tried(finished: Finished, home: Path, name: str, side_file: str, kind: str) -> Outcome | None:
    """Plant a thing, run a command before it, and look for faults; None if there is no such thing.

    The command must end, say what is wrong in lines, and stay within its limits.
    """
    place = prepared(finished, home)
    own, content = place.home / "own", side_files.SIDE_FILES[side_file]
    place.renew(finished)
    if not side_files.plant(place.path(side_file), content, kind, own):
        return None
    before = side_files.state(own)
    end = forked(place.words(COMMANDS[name]), place.home)
    unusual = f"exit code {end.code}: {end.errors[-300:]}"
    faults = {
        unusual: end.code not in (0, 1, 2),
        "a traceback": "Traceback" in end.errors,
        f"{end.cpu:.1f} s of CPU": end.cpu > SECONDS,
        f"{end.memory} kB": end.memory > MEMORY,
        "the user's own was changed": side_files.state(own) != before,
    }
    planted = f"{side_file or 'the suite folder'}: {kind}"
    return Outcome(name, planted, end, tuple(text for text, wrong in faults.items() if wrong))


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_soak_every_side_file_of_every_kind_and_every_command(
    finished: Finished, tmp_path: Path
) -> None:
    """{link, FIFO, device, …} x {every side file} x {every command}, two at once."""
    outcomes: list[Outcome] = []
    begun = time.monotonic()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        cases = [(name, *case) for case in side_files.cases() for name in COMMANDS]
        jobs = [pool.submit(tried, finished, tmp_path, *case) for case in cases]
        for number, job in enumerate(as_completed(jobs), 1):
            if number % 500 == 0:
                print(f"{number} of {len(jobs)} cases", flush=True)
            if (outcome := job.result()) is not None:
                outcomes.append(outcome)
                if outcome.faults:
                    print(f"{outcome.command}, {outcome.planted}: {outcome.faults}", flush=True)
    for name in COMMANDS:
        ends = [outcome.ended for outcome in outcomes if outcome.command == name]
        codes = dict(sorted(Counter(str(end.code) for end in ends).items()))
        longest, cpu = max(end.seconds for end in ends), max(end.cpu for end in ends)
        memory = max(end.memory for end in ends) / 1000
        text = f"{len(ends)} cases, exit codes {codes}; at most {longest:.1f} s"
        print(f"{name}: {text}, {cpu:.1f} s of CPU, {memory:.0f} MB")
    bad = [outcome for outcome in outcomes if outcome.faults]
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(outcomes)} cases in {minutes:.1f} minutes; {len(bad)} with faults")
    assert not bad
