"""Nothing that lies in a results folder controls a terminal, whatever the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Here
from folders import write
from records import frozen, measured, seeds

from bench_core.report.text import terminal
from bench_core.report.text.terminal import harmless
from bench_core.results import store
from bench_core.results.record import Measurement

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
COMMANDS = (
    "leaderboard",
    "leaderboard --format markdown",
    "leaderboard --format latex",
    "leaderboard --format csv",
    "leaderboard --format json",
    "compare dfa bp",
    "claims",
    "export",
    "cite",
    "verify",
    "merge --into other",
    "clean",
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Results with escape sequences in the names of folders, suite and measurements."""
    odd = {f"odd{ESCAPES}": Measurement(value=1.0, title=ESCAPES, sentence=ESCAPES)}
    records = [
        *seeds("bench-core/dfa", [0.30, 0.31], measurements={**measured(), **odd}),
        *frozen("bench-core/dfa", [0.20, 0.21]),
        *seeds("bench-core/bp", [0.60, 0.61]),
    ]
    root = tmp_path / f"re{ESCAPES}sults"
    folder = write(root, records, suite="s", name=f"s{ESCAPES}", title=ESCAPES)
    for number, name in enumerate((store.RUN, "late.x.json")):
        bad = folder / f"{number:032x}"
        bad.mkdir()
        (bad / name).write_text("{")
    (folder / store.QUARANTINE / f"{0:032x}-1{ESCAPES}").mkdir(parents=True)
    return root


@pytest.mark.long
def test_escape_sequences_of_a_results_folder_reach_no_terminal(here: Here, hostile: Path) -> None:
    (run, *_) = hostile.glob("s/*/run.json")
    further = [f"show {run.parent.name[:12]}", f"why {run.parent.name[:12]} --results"]
    for command in (*COMMANDS, *further):
        done = here(*command.split(), hostile)
        for text in (done.stdout, done.stderr):
            assert not CONTROL.search(text.replace("\t", " ")), (command, text)
        assert done.returncode != 3, (command, done.stderr)


def test_what_is_printed_keeps_its_lines() -> None:
    assert harmless("a\nb\x1b[31m\tc ± Γ\n") == "a\nb\\x1b[31m\\x09c ± Γ\n"


def test_only_one_module_prints() -> None:
    """All others print by `echo` and `say`; `rich` draws bars of names that are written out."""
    core = Path(terminal.__file__).parents[1]
    modules = {path for path in core.rglob("*.py") if "click.echo(" in path.read_text()}
    assert modules == {Path(terminal.__file__)}
