"""The protocol between a parent and a Python child process.

Answers, problems, limits, and how a child died.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench_core.errors import UsageError
from bench_core.processes import child, groups

MODULE = """
import os, signal, subprocess, sys, time
from bench_core.errors import UsageError
from bench_core.processes import child

def serve(request, say):
{body}

child.serve(serve)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the body of a `serve` in a child.

    `run(body, request, seconds, each=…)` gives its answers.
    """
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(groups, "GRACE", 0.2)

    def answers(body: str, request: object = None, seconds: float = 30.0, **options: bool) -> list:
        indented = "\n".join(f"    {line}" for line in body.splitlines())
        (tmp_path / "a_child.py").write_text(MODULE.format(body=indented))
        return list(child.answers("a_child", request, seconds, **options))

    return answers


def test_answers_come_in_order_and_prints_do_not_disturb_them(run) -> None:
    body = (
        "for n in range(request['n']):\n    print('[\"answer\", 9]', flush=True)\n    say({'n': n})"
    )
    assert run(body, {"n": 3}) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_problem_is_the_parents_usage_error(run) -> None:
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
        ("time.sleep(600)", "did not end within 2 s"),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
            "did not end within 2 s",
        ),
        ("while True: os.write(2, b'loud' * 1000)", "did not end within 2 s"),
        ("os.closerange(0, 100)\ntime.sleep(600)", "did not end within 2 s"),
        ("while True: os.write(3, b'{}\\n[1]\\n')", "did not end within 2 s"),
    ],
)
def test_a_child_that_hangs_or_dies_says_how(run, body: str, text: str) -> None:
    with pytest.raises(child.ChildError) as caught:
        run(body, seconds=2)
    assert str(caught.value) == text


def test_a_large_request_to_a_child_that_has_died_is_no_broken_pipe(tmp_path: Path) -> None:
    with pytest.raises(child.ChildError, match="exit code 1"):
        list(child.answers("no_such_module_at_all", "x" * (1 << 20), 30))


def test_each_answer_has_its_own_limit(run) -> None:
    steps = "for n in range(4):\n    time.sleep(0.8)\n    say(n)"
    assert run(steps, seconds=2, each=True) == [0, 1, 2, 3]
    with pytest.raises(child.ChildError, match="did not end within 2 s"):
        run(f"{steps}\ntime.sleep(600)", seconds=2, each=True)


def test_processes_that_a_child_started_end_with_it(run) -> None:
    (pid,) = run("say(subprocess.Popen(['sleep', '600']).pid)")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not os.path.exists(f"/proc/{pid}")
