"""Share what many tests need: fake distributions, the command, a finished run, waiting."""

from __future__ import annotations

import gc
import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forged
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from bench_core import cli
from bench_core.processes import clock as clocks
from bench_core.processes import groups
from bench_core.processes.forking import MARK, UNMARKED

# a shell's background job ignores it, and tests raise it
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it too
# the same examples every time, however slow the machine is
settings.register_profile(
    "bench", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("bench")
# two test processes on two cores: more threads only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# the tests sign by a key of their own
_STATE = tempfile.TemporaryDirectory(prefix="bench-state-")
os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"] = _STATE.name

COMMAND = Path(sys.executable).with_name("bench")
HANG = 240  # seconds after which a test is ended rather than the suite held up
REAL_CLOCK = time.monotonic

TINY = """\
name: tiny
arch: {name: resmlp, width: 16, depth: 2}
dataset: digits
methods: [dfa]
seeds: [1]
data: {limit: 256}
training: {epochs: 1, batch_size: 64}
"""


def some(names: Iterable[str], few: Container[str]) -> list[Any]:
    """All names; `make test` has a few of them."""
    return [
        pytest.param(name, marks=() if name in few else pytest.mark.long, id=name) for name in names
    ]


def pairs(
    firsts: Iterable[str], seconds: Iterable[str], main: str, few: Sequence[str]
) -> list[Any]:
    """All pairs; `make test` has each first with `main`, and a few firsts with every second."""
    return [
        pytest.param(one, other, marks=() if other == main or one in few else pytest.mark.long)
        for one, other in itertools.product(firsts, seconds)
    ]


def pytest_collection_finish() -> None:
    """Spare the collector the modules and the tests themselves: they stay until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def fake_dist(
    home: Path, name: str, module: str, source: str, *, version: str = "1.0", entry: str = "it"
) -> None:
    """An installed distribution with one plugin module, as pip would leave it in `home`."""
    info = home / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[bench_core.plugins]\n{entry} = {module}\n")
    (home / f"{module}.py").write_text(source)


def plugin(hook: str, body: str) -> str:
    """The source of a plugin module with one hook."""
    return f"from bench_core.api import Component, hookimpl\n\n@hookimpl\ndef {hook}:\n    {body}\n"


def environment(path: Sequence[Path] = (), **more: str) -> dict[str, str]:
    """This process's environment without what would change the command, with `path` in front."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("BENCH_DATA_DIR", "COLUMNS", "PYTHONHASHSEED")
    }
    before = [kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else []
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([*map(str, path), *before]),
        "COLUMNS": "100",
        "BENCH_REPORT": "0",
        **more,
    }


@dataclass(frozen=True)
class Bench:
    """The installed command in a folder of its own."""

    cwd: Path

    def __call__(
        self,
        *arguments: Any,
        path: Sequence[Path] = (),
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> Any:
        return subprocess.run(
            [COMMAND, *map(str, arguments)], cwd=self.cwd, env=environment(path, **(env or {})),
            timeout=HANG, capture_output=True, text=True, check=False, **options,
        )  # fmt: skip

    def start(
        self, *arguments: Any, path: Sequence[Path] = (), env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)], cwd=self.cwd, env=environment(path, **(env or {})),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # a shell's background job ignores SIGINT, and so would the command under test
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def invoke(*arguments: object) -> str:
    """Return the output of a command that is carried out in this process and succeeds."""
    done = CliRunner().invoke(cli.bench, [str(item) for item in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@dataclass(frozen=True)
class Here:
    """The command in this process: for tests whose law is not about the process.

    Its children are forked from a server that this process keeps, so no test imports torch again.
    The folders of `path` stand in front of the import path until the command ends.
    """

    cwd: Path

    def __call__(
        self,
        *arguments: Any,
        path: Sequence[Path] = (),
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        variables = {"COLUMNS": "100", "BENCH_REPORT": "0", **(env or {})}
        code: Any = 0
        with pytest.MonkeyPatch.context() as patch, ExitStack() as redirected:
            patch.chdir(self.cwd)
            patch.delenv("BENCH_DATA_DIR", raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            for folder in reversed(path):
                patch.syspath_prepend(str(folder))
            redirected.callback(forget_modules, path)
            patch.setattr(sys, "argv", ["bench", *map(str, arguments)])
            redirected.enter_context(redirect_stdout(streams[0]))
            redirected.enter_context(redirect_stderr(streams[1]))
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(list(arguments), int(code or 0), out, err)


def forget_modules(path: Sequence[Path]) -> None:
    """Remove the modules that were imported from these folders."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and any(Path(file).is_relative_to(folder) for folder in path):
            del sys.modules[name]


def plan_totals(here: Here, *arguments: Any, **more: Any) -> str:
    """Return what `bench plan` prints above its tables, in one line."""
    done = here("plan", *arguments, **more)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.partition("\n\n")[0].split())


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Run cells with a few lines of code in the place of a worker."""
    return forged.runner(tmp_path, monkeypatch)


@dataclass(frozen=True)
class Finished:
    """A tiny suite that ran to its end: read only."""

    suite: Path
    results: Path
    output: str

    @property
    def folder(self) -> Path:
        return self.results / "tiny"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """dfa with its floors and the ceiling: four cells, two at once."""
    home = tmp_path_factory.mktemp("finished")
    suite = home / "tiny.yaml"
    suite.write_text(TINY)
    done = Here(home)("run", suite, "--results", home / "results", "--workers", 2)
    assert done.returncode == 0, done.stderr
    return Finished(suite, home / "results", done.stdout)


def wait_until(
    condition: Callable[[], Any], process: subprocess.Popen[str] | None = None, guard: float = HANG
) -> Any:
    """Return the first true value of `condition()`.

    Fail when `process` has ended before, or after `guard` seconds: a guard against a hang only.
    """
    deadline = REAL_CLOCK() + guard
    while not (value := condition()):
        if process is not None and process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode}: {process.communicate()}")
        if REAL_CLOCK() > deadline:
            if process is not None:
                process.kill()
            pytest.fail(f"not true after {guard} s")
        time.sleep(0.02)
    return value


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate components in this process, over the same JSON, instead of in a child process."""
    from bench_core.execution.planning import validate
    from bench_core.registry import plugins

    def ask(request: dict[str, Any], timeout: float = 0) -> dict[str, Any]:
        registry = plugins.load(isolated=False)
        answer = validate.answer(json.loads(json.dumps(request)), registry)
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    monkeypatch.setattr(validate, "ask", ask)


@pytest.fixture
def leap(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Let time.monotonic go an hour forward once a condition is true, or as often as it counts.

    With a budget of some minutes a process runs out of time exactly then, on a busy machine too.
    """

    def install(condition: Callable[[], int]) -> None:
        hours = 0

        def clock() -> float:
            nonlocal hours
            hours = max(hours, int(condition()))
            return REAL_CLOCK() + 3600.0 * hours

        monkeypatch.setattr(time, "monotonic", clock)
        monkeypatch.setattr(clocks, "LONGEST", math.inf)

    return install


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def workers_of(pid: int) -> list[int]:
    """Return the worker processes among the descendants of a process.

    A worker leads a session and has a mark in its environment; a fork server's mark is all zeros.
    """
    workers = []
    for child in groups.family(pid)[1:]:
        with suppress(OSError):  # it ended while we looked
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            marks = [each for each in variables if each.startswith(f"{MARK}=".encode())]
            if marks and not marks[0].endswith(UNMARKED.encode()) and os.getsid(child) == child:
                workers.append(child)
    return workers


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a suite folder by identity."""
    paths = folder.glob("[!.]*/run.json")  # without those that are being written
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def lines(file: Path) -> list[str]:
    """The lines that processes have written to a file so far; none where it does not exist yet."""
    return file.read_text().splitlines() if file.exists() else []


def leftovers(folder: Path) -> list[str]:
    """What a run must not leave in a suite folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# ------------------------------------------------------------------------------ state of torch


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 in convolutions on a GPU, as torch has it by default; a training turns it off."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = before


# ------------------------------------------------------------------------- data for tests of rules


@pytest.fixture
def data() -> Any:
    """Return a small set of random images with labels that can be learned."""
    from nets import toy_data

    return toy_data()


@pytest.fixture
def few() -> Any:
    """Return two batches of training data: enough for a law about bits."""
    from nets import toy_data

    return toy_data(n=64, test=128)


@pytest.fixture
def batch(data: Any) -> Any:
    return data.train_x[:32], data.train_y[:32]
