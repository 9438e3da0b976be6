"""The protocol between a parent and a Python child process.

Answers, problems, limits, and how a child died.
"""

from __future__ import annotations

import os
import resource
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG, alive, wait_until

from bench_core.errors import UsageError
from bench_core.processes import child, forking, groups

pytestmark = pytest.mark.processes

SCRIPTED = """
import os, signal, subprocess, sys, time
from bench_core.errors import UsageError
from bench_core.processes import child

def serve(request, say):
    exec(request["body"], {**globals(), "request": request.get("request"), "say": say})

def main():
    child.serve(serve)
"""

Run = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module whose work is a text in its request."""
    folder = tmp_path_factory.mktemp("scripted")
    (folder / "scripted.py").write_text(SCRIPTED)
    return folder


@pytest.fixture(params=["1", "0"], ids=["forked", "started"])
def run(scripted: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Run:
    """Run the body of a `serve` in a child, forked or in an interpreter of its own.

    `run(body, request, seconds, each=…)` gives its answers.
    """
    monkeypatch.setenv("PYTHONPATH", str(scripted), prepend=":")
    monkeypatch.setenv("BENCH_FORK", request.param)
    monkeypatch.setattr(groups, "GRACE", 0.2)

    def answers(
        body: str, request: object = None, seconds: float = 30.0, each: bool = False
    ) -> list[Any]:
        work = {"body": body, "request": request}
        return list(child.ask("scripted", work, seconds, each=each))

    return answers


def test_answers_come_in_order_and_prints_do_not_disturb_them(run: Run) -> None:
    body = (
        "for n in range(request['n']):\n    print('[\"answer\", 9]', flush=True)\n    say({'n': n})"
    )
    assert run(body, {"n": 3}) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_problem_is_the_parents_usage_error(run: Run) -> None:
    with pytest.raises(UsageError, match=r"^no such thing$"):
        run("say(1)\nraise UsageError('no such thing')")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("sys.exit(3)", "ended the process (exit code 3)"),
        ("raise ValueError('no')", "ended the process (exit code 1): ValueError: no"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended the process (killed by SIGKILL)"),
        (
            "print('last words', flush=True); os._exit(0)",
            "ended the process (exit code 0): last words",
        ),
        ("time.sleep(600)", "did not end within 1 s"),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
            "did not end within 1 s",
        ),
        ("while True: os.write(2, b'loud' * 1000)", "did not end within 1 s"),
        ("os.closerange(0, 100)\ntime.sleep(600)", "did not end within 1 s"),
        ("while True: os.write(3, b'{}\\n[1]\\n')", "did not end within 1 s"),
    ],
)
def test_a_child_that_hangs_or_dies_says_how(run: Run, body: str, text: str) -> None:
    """One that dies has all the time that a busy machine takes."""
    with pytest.raises(child.ChildError) as caught:
        run(body, seconds=1 if text == "did not end within 1 s" else HANG)
    assert str(caught.value) == text


@pytest.mark.long
def test_a_large_request_to_a_child_that_has_died_is_no_broken_pipe(tmp_path: Path) -> None:
    with pytest.raises(child.ChildError, match="No module named 'no_such_module_at_all'"):
        list(child.ask("no_such_module_at_all", "x" * (1 << 20), 30))


@pytest.mark.long
def test_each_answer_has_its_own_limit(run: Run, leap: Any) -> None:
    """An hour passes with every answer; the limit is an hour and a half."""
    answers: list[int] = []
    leap(lambda: len(answers))
    body = "for n in range(4):\n    say(n)\n"

    def take(body: str, **options: bool) -> None:
        for answer in child.ask("scripted", {"body": body}, 5400, **options):
            answers.append(answer)

    take(body, each=True)
    assert answers == [0, 1, 2, 3]
    with pytest.raises(child.ChildError, match="did not end within 5400 s"):
        take(body + "time.sleep(600)")
    with pytest.raises(child.ChildError, match="did not end within 1 s"):
        run("say(1)\ntime.sleep(600)", seconds=1, each=True)


def test_processes_that_a_child_started_end_with_it(run: Run) -> None:
    (pid,) = run("say(subprocess.Popen(['sleep', '600']).pid)")
    assert wait_until(lambda: not alive(pid))


def test_a_child_has_the_import_path_of_its_caller_and_keeps_no_module_for_the_next(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what a script added to it, relative to a folder that is not the child's."""
    (tmp_path / "added").mkdir()
    module = tmp_path / "added" / "found_by_the_caller.py"
    body = "os.chdir('/')\nimport found_by_the_caller\nsay(found_by_the_caller.VALUE)"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("added")
    for value in (1, 23):
        module.write_text(f"VALUE = {value}")
        assert run(body) == [value]
    monkeypatch.setattr(sys, "path", sys.path[1:])
    assert run("say('added' in str(sys.path))") == [False]
    with pytest.raises(child.ChildError, match="No module named 'found_by_the_caller'"):
        run(body)


# ------------------------------------------------------------------------------------ forked ones


def test_a_forked_child_has_what_a_started_one_has(run: Run, tmp_path: Path) -> None:
    """A session, a folder, an environment and no descriptor but its streams and a duplicate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_VARIABLE", "here")
        patch.chdir(tmp_path)
        (found,) = run(
            "found = [os.getsid(0), os.getcwd(), os.environ.get('A_VARIABLE')]\n"
            "found += [sorted(map(int, os.listdir('/proc/self/fd')))[:-1]]\n"
            "found += [signal.getsignal(signal.SIGINT) is signal.default_int_handler]\n"
            "found += [len(os.listdir('/proc/self/task'))]\n"
            "found += [[os.path.basename(text) for text in sys.argv]]\n"
            "say(found)"
        )
    assert found[0] != os.getsid(0)
    assert found[1:] == [str(tmp_path), "here", [0, 1, 2, 3], True, 1, ["scripted.py"]]


def test_an_environment_that_no_message_holds_ends_no_server(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def servers() -> list[tuple[int, int | None]]:
        return [(server.process.pid, server.process.poll()) for server in forking._servers.values()]

    run("say(0)")
    before = servers()
    with monkeypatch.context() as large:
        for number in range(5):
            large.setenv(f"A_LONG_VARIABLE_{number}", "x" * 30_000)
        assert run("say(len(os.environ['A_LONG_VARIABLE_4']))") == [30_000]
    run("say(0)")
    assert servers() == before


@pytest.mark.long
def test_a_child_has_the_limits_that_its_caller_has_now(run: Run) -> None:
    ask = "import resource\nsay([os.umask(0), *resource.getrlimit(resource.RLIMIT_CORE)])"
    (before,) = run(ask)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    other, mask = (0 if soft else min(4096, hard) if hard >= 0 else 4096), os.umask(0o27)
    resource.setrlimit(resource.RLIMIT_CORE, (other, hard))
    try:
        (now,) = run(ask)
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert before == [mask, soft, hard]
    assert now == [0o27, other, hard]


@pytest.mark.long
def test_children_share_no_module_and_no_draw(run: Run) -> None:
    body = (
        "import random, numpy, torch\n"
        "draws = [random.random(), numpy.random.rand(), float(torch.rand(1))]\n"
        "say(['this' in sys.modules, *draws])\n"
        "import this"
    )
    (first,), (second,) = run(body), run(body)
    assert first[0] is second[0] is False
    assert all(one != other for one, other in zip(first[1:], second[1:], strict=True))


@pytest.mark.long
def test_the_mark_of_a_forked_worker_stands_where_the_kernel_shows_it(run: Run) -> None:
    mark = secrets.token_hex(8)  # of this test alone: the same test may run beside it
    env = {**child.environment(), groups.MARK: mark}
    process = child.start("scripted", env=env, fork=True, stderr=subprocess.PIPE)
    with process:
        child.send(process, {"body": "subprocess.Popen(['sleep', '600'])\ntime.sleep(600)"})

        def asleep() -> bool:  # the last of the family; a child that is started has a guard too
            lines = (Path(f"/proc/{pid}/cmdline") for pid in groups.family(process.pid))
            return any(line.read_bytes().startswith(b"sleep") for line in lines)

        wait_until(asleep, process)
        family = groups.family(process.pid)
        wait_until(lambda: sorted(groups._marked(mark)) == sorted(family))
        groups.kill_marked(mark)
        assert process.wait(HANG) == -signal.SIGKILL


def test_a_child_leads_its_group_before_its_caller_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a child that is ended at once gets no signal, and its caller waits for ever."""
    begins, release = os.pipe()
    real = os.setsid

    def late() -> None:
        os.read(begins, 1)  # the child is slow here, until the caller has had its time
        real()

    monkeypatch.setattr(os, "setsid", late)
    threading.Timer(0.3, os.write, [release, b"."]).start()
    null = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]
    request = {"module": "bench_core.errors", "to": [0, 1, 2], "env": {}, "cwd": "/", "path": []}
    pid = forking._fork(request, null)
    try:
        assert os.getsid(pid) == pid
    finally:
        os.waitpid(pid, 0)
        for descriptor in (begins, release, null[0]):
            os.close(descriptor)


def test_a_child_is_ended_before_it_has_a_request(scripted: Path, run: Run) -> None:
    for _ in range(20):
        process = child.start(
            "scripted", env=child.environment(), fork=True, stderr=subprocess.DEVNULL
        )
        with process:
            assert groups.end_groups([process])


@pytest.mark.long
def test_a_forked_child_ends_with_its_server_and_says_so(scripted: Path, run: Run) -> None:
    if os.environ["BENCH_FORK"] == "0":
        pytest.skip("it has no server")
    process = child.start("scripted", env=child.environment(), fork=True, stderr=subprocess.PIPE)
    assert isinstance(process, forking.Forked)
    with process:
        child.send(process, {"body": "time.sleep(600)"})
        os.kill(process.parent, signal.SIGKILL)
        assert process.wait(HANG) == -signal.SIGKILL
        assert process.killed_with_server
    assert run("say(1)") == [1]  # with a new server


@pytest.mark.long
def test_the_server_of_workers_has_one_thread(scripted: Path) -> None:
    """Another thread would be missing in a fork, with the locks that it held."""
    worker = "bench_core.execution.worker.process"
    process = child.start(worker, env=child.environment(), fork=True, stderr=subprocess.PIPE)
    assert isinstance(process, forking.Forked)
    assert len(os.listdir(f"/proc/{process.parent}/task")) == 1
    child.send(process, {})
    with process:
        assert process.wait(HANG) == 1
