"""Whatever lies in a received results folder, no command hangs, breaks, fills the memory, or
touches a file outside. A part of the matrix runs with every test, all of it in `make soak`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import side_files
from conftest import Finished, Here, environment

from bench_core import cli
from bench_core.processes import forking

MEMORY = 500_000  # kB
GUARD = 120  # seconds until a command counts as hanging
READERS = {
    "leaderboard": "leaderboard received",
    "leaderboard json": "leaderboard received --format json",
    "report": "report received -o out/report.html",
    "show": "show {run} received",
    "why": "why {run} --results received",
    "compare": "compare dfa bp received",
    "claims": "claims received",
    "export runs": "export received -o out/runs.csv",
    "export epochs": "export received --table epochs -o out/epochs.csv",
    "cite": "cite received",
    "figure": "figure ranking received -o out/ranking.svg",
    "site": "site received -o out/site",
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


@dataclass(frozen=True)
class Place:
    """A folder with received results, a fresh copy of them, and files of the user's own."""

    home: Path
    run: str
    cell: str

    def path(self, side_file: str) -> Path:
        return self.home / "received" / "tiny" / side_file.format(run=self.run, cell=self.cell)

    def words(self, command: str) -> list[str]:
        return command.format(run=self.run).split()

    def renew(self, finished: Finished) -> None:
        """Put everything back as it was, with one cell that has not been run."""
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.home / "out").mkdir()
        (self.home / "tiny.yaml").write_bytes(finished.suite.read_bytes())
        for name in ("received", "fresh"):
            shutil.copytree(finished.results, self.home / name)
        shutil.rmtree(self.path("{cell}"))
        side_files.own_files(self.home)


@pytest.fixture
def received(finished: Finished, tmp_path: Path) -> Place:
    records = [json.loads(path.read_text()) for path in finished.folder.glob("*/run.json")]
    dfa, bp = (
        next(
            record["identity"]
            for record in records
            if record["cell"]["method"]["name"] == f"bench-core/{name}"
            and record["cell"]["method"]["params"]["freeze"] is None
        )
        for name in ("dfa", "bp")
    )
    place = Place(tmp_path / "home", dfa, bp)
    place.home.mkdir()
    place.renew(finished)
    return place


# each kind once, and each side file once or twice
FEW = [
    ("suite.json", "link"),
    ("suite.json", "FIFO"),
    ("{run}/run.json", "device"),
    ("{run}/epochs.jsonl", "FIFO"),
    ("{run}/epochs.jsonl", "too large"),
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
    "export epochs",
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
    """How a command ended; `code` is None if it had to be killed."""

    code: int | None
    errors: str
    seconds: float
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
    begun = time.monotonic()
    while True:
        waited, status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - begun
        if waited:
            break
        if seconds > GUARD:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return Ended(None, "it hangs", seconds, 0)
        time.sleep(0.01)
    text = (home / "out" / "errors").read_text(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), text, seconds, usage.ru_maxrss)


@pytest.mark.soak
@pytest.mark.parametrize("group", ["readers", "trainers"])
@pytest.mark.timeout(4 * 3600)
def test_soak_every_side_file_of_every_kind_and_every_command(
    finished: Finished, received: Place, group: str
) -> None:
    """{link, FIFO, device, …} x {every side file} x {every command}: each ends, says what is wrong
    in lines, stays below 500 MB, and changes nothing of the user's own."""
    commands = READERS if group == "readers" else TRAINERS
    own, codes, slowest, largest = received.home / "own", Counter[int | None](), 0.0, 0
    bad = []
    for side_file, kind in side_files.cases():
        for name, command in commands.items():
            received.renew(finished)
            content = side_files.SIDE_FILES[side_file]
            if not side_files.plant(received.path(side_file), content, kind, own):
                continue
            before = side_files.state(own)
            outcome = forked(received.words(command), received.home)
            codes[outcome.code] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory)
            unusual = f"exit code {outcome.code}: {outcome.errors[-300:]}"
            faults = [unusual] * (outcome.code not in (0, 1, 2))
            faults += ["a traceback"] * ("Traceback" in outcome.errors)
            faults += [f"{outcome.memory} kB"] * (outcome.memory > MEMORY)
            faults += ["the user's own was changed"] * (side_files.state(own) != before)
            if faults:
                bad.append(f"{name}, {side_file or 'the suite folder'}: {kind}: {faults}")
                print(bad[-1], flush=True)
    print(
        f"\n{group}: {codes.total()} cases, exit codes {dict(codes)}; slowest {slowest:.1f} s, "
        f"largest {largest / 1000:.0f} MB; {len(bad)} faults"
    )
    assert not bad
