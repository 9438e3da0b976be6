"""Where output goes: a wrong path is one line, and no finished run is a hostage to its printing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_plugins.datasets import cifar_files
from bench_plugins.datasets.cifar import Cifar10
from conftest import COMMAND, HANG, TINY, Finished, Here, environment, runs

from bench_core.commands import options, progress, run
from bench_core.errors import DataError
from bench_core.execution import runner
from bench_core.execution.planning import job
from bench_core.report.pages import cache, page, site
from bench_core.report.tables import formats
from bench_core.suite.load import load_suite

ONE = TINY.replace("seeds: [1]", "seeds: [1]\nfloors: false")


# ------------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize("path", [".", "", "nowhere/x.svg", "/dev/nothing"])  # of root: a device
@pytest.mark.parametrize(
    "command",
    ["report", "leaderboard", "claims", "figure alignment", "export", "export --format parquet"],
)
def test_an_output_that_is_no_file_is_one_line(
    here: Here, finished: Finished, command: str, path: str
) -> None:
    done = here(*command.split(), finished.results, "-o", path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: -o {path}".rstrip())
    assert list(here.cwd.iterdir()) == []


def test_a_file_of_the_user_is_not_replaced_by_a_page_or_a_suite(
    here: Here, finished: Finished
) -> None:
    """A page replaces pages alone, and a suite file nothing."""
    mine = {name: here.cwd / name for name in ("k.py", "s.yaml", "s.txt", "report.html")}
    for path in mine.values():
        path.write_text("mine\n")
    done = here("report", finished.results, "-o", "k.py")
    assert (done.returncode, done.stderr) == (2, "error: -o k.py: must end in .html\n")
    foreign = "is there already and no page of bench; name another file"
    done = here("report", finished.results)  # to report.html
    assert (done.returncode, done.stderr) == (2, f"error: -o report.html: {foreign}\n")
    identity = next(finished.folder.glob("*/run.json")).parent.name
    show = ("show", identity, finished.results, "--suite", "-o")
    assert "s.yaml is there already; remove it, or choose" in here(*show, "s.yaml").stderr
    assert here(*show, "s.txt").stderr == "error: s.txt: must end in .yaml or .yml\n"
    assert {path.read_text() for path in mine.values()} == {"mine\n"}
    assert sorted(path.name for path in here.cwd.iterdir()) == sorted(mine)
    for text, foreign in (
        ("", False),
        ("mine", True),
        ('<meta name="generator" content="benchmarker 3">', True),
        ('<!DOCTYPE html>\n<meta name="generator" content="bench">', False),
        ('<meta name="bench-results" content="0123">', False),  # of an older bench
    ):
        (here.cwd / "page.html").write_text(text)
        assert cache.is_foreign(here.cwd / "page.html") is foreign
    assert not cache.is_foreign(here.cwd / "nowhere.html")


def test_a_pipe_is_not_replaced(here: Here) -> None:
    os.mkfifo(here.cwd / "pipe")
    assert (
        here("schema", "-o", "pipe").stderr
        == "error: -o pipe: is a device or a pipe; name a file\n"
    )
    assert (here.cwd / "pipe").is_fifo()


@pytest.mark.parametrize(
    "command", [["leaderboard", ""], ["merge", "x", "--into", ""], ["plan", "x", "--results", ""]]
)
def test_an_empty_path_is_not_this_folder(here: Here, command: list[str]) -> None:
    done = here(*command)
    assert done.returncode == 2
    assert "is empty" in done.stderr


def test_the_tilde_is_the_home_folder(
    here: Here, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = here.cwd / "home"
    home.mkdir()
    shutil.copy(finished.suite, home / "mine.yaml")
    monkeypatch.setenv("HOME", str(home))
    assert here("leaderboard", finished.results, "-o", "~/table.txt").returncode == 0
    assert "dfa" in (home / "table.txt").read_text()
    parameter = run.run.params[[item.name for item in run.run.params].index("data_dir")]
    assert options.PATH.convert("~/d", parameter, None) == home / "d"
    monkeypatch.setenv("BENCH_DATA_DIR", "~/d")
    assert runner.default_data_dir() == home / "d"
    assert load_suite("~/mine.yaml").name == "tiny"
    assert not (here.cwd / "~").exists()


def test_a_site_goes_into_an_empty_folder_or_its_own(
    here: Here, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "pages", lambda *arguments: {"index.html": "a page"})
    taken, own = here.cwd / "taken", here.cwd / "own"
    for folder in (taken, own):
        folder.mkdir()
    (taken / "mine.txt").write_text("mine")
    refused = here("site", finished.results, "-o", taken)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: -o {taken}: has files of its own and no site")
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    assert here("site", finished.results, "-o", "/").returncode == 2
    assert here("site", finished.results, "-o", own).returncode == 0
    (own / "index.html").unlink()
    assert here("site", finished.results, "-o", own).returncode == 0
    assert (own / "index.html").exists()
    assert here("site", finished.results, "-o", taken / "mine.txt").returncode == 2


def test_the_inner_data_folder_is_recognised(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    with pytest.raises(DataError, match=f"give the folder that holds it, {tmp_path}"):
        cifar_files.ensure(Cifar10.source, inner)


def test_a_deleted_working_folder_is_one_line(tmp_path: Path) -> None:
    line = f"mkdir gone && cd gone && rmdir ../gone && exec {COMMAND} plan ../tiny.yaml"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the working folder was deleted")


# ----------------------------------------------------------------------------------------- commit


def test_a_checkout_of_another_owner_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, fault = job.checkout.__wrapped__()
    if not expected:
        pytest.skip(f"no checkout: {fault}")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert job.checkout.__wrapped__()[0]["commit"] == expected["commit"]


def test_a_commit_that_git_withholds_is_a_warning(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(job.__file__).resolve().parents[3]
    if not (root / ".git").exists():
        pytest.skip("no checkout")
    git = here.cwd / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho fatal: detected dubious ownership >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(git.parent), prepend=os.pathsep)
    facts, fault = job.checkout.__wrapped__()
    assert facts == {}
    assert fault == f"fatal: detected dubious ownership; `git -C {root} status` must work"
    for module in (job, runner):  # the function itself would keep its answer for later tests
        monkeypatch.setattr(module, "checkout", lambda: (facts, fault))
    (here.cwd / "one.yaml").write_text(ONE)
    done = here("run", "one.yaml")
    assert done.returncode == 0
    assert done.stderr == f"warning: the runs do not name the commit of this code: {fault}\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_edited_code_is_not_that_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench_core" / "__init__.py"
    file.parent.mkdir()
    file.touch()
    author = ["-c", "user.name=x", "-c", "user.email=x", "-c", "commit.gpgsign=false"]
    for command in (["init"], ["add", "."], [*author, "commit", "-m", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True, capture_output=True)
    monkeypatch.setattr(job.bench_core, "__file__", str(file))
    for name, edited in (("untracked.py", False), (file.name, True)):
        file.with_name(name).write_text("edited = True")
        facts, fault = job.checkout.__wrapped__()
        assert (facts["dirty"], fault) == (edited, "")


# --------------------------------------------------------------------------------------- printing


LOST = (
    "warning: cannot write to standard output (No space left on device): printing stops, "
    "the results are kept\n"
)


def broken(*arguments: Any, **more: Any) -> Any:
    raise AttributeError("no doc")


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [
        (formats, "texts", "table"),
        (page, "page", "report"),
        (progress.Plain, "event", "progress"),
    ],
)
def test_what_cannot_be_printed_costs_a_line(
    here: Here, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, what: str
) -> None:
    monkeypatch.setattr(module, name, broken)
    (here.cwd / "one.yaml").write_text(ONE)
    done = here("run", "one.yaml", env={"BENCH_REPORT": "1"})
    assert done.returncode == 0
    assert done.stderr == f"warning: no {what}: AttributeError: no doc\n"
    assert len(list((here.cwd / "results/tiny").glob("*/run.json"))) == 1


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_a_full_disk_behind_standard_output_costs_one_warning(
    tmp_path: Path, unbuffered: dict[str, str]
) -> None:
    code = (
        "from bench_core.commands.options import spared\n"
        "from bench_core.report.text.terminal import echo\n"
        "for what in ('progress', 'table', 'report'):\n    with spared(what): echo(what)\n"
    )
    variables = {k: v for k, v in environment().items() if k != "PYTHONUNBUFFERED"} | unbuffered
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables,
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANG, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, LOST)


@pytest.mark.long
@pytest.mark.parametrize("reader", ["full", "gone"])
def test_a_run_whose_standard_output_is_lost_trains(tmp_path: Path, reader: str) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(TINY + "floors: false\n")
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full" if reader == "full" else write, "w", encoding="utf-8") as out:
        done = subprocess.run(
            [COMMAND, "run", suite], cwd=tmp_path, env=environment(),
            stdout=out, stderr=subprocess.PIPE, text=True, timeout=HANG, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, LOST if reader == "full" else "")
    assert [run["status"] for run in runs(tmp_path / "results" / "tiny").values()] == ["done"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_a_terminal_without_greek_gets_stand_ins(finished: Finished, encoding: str) -> None:
    done = subprocess.run(
        [COMMAND, "leaderboard", finished.results],
        env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=True,
    )  # fmt: skip
    lines = done.stdout.decode("utf-8" if encoding == "ascii" else encoding).splitlines()
    assert any(line.startswith("  #  rule") for line in lines)
    assert not any("?" in line for line in lines if "is its sign right" not in line)


@pytest.mark.long
def test_figures_need_no_home_folder(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
    )
    variables = environment([tmp_path])
    done = subprocess.run(
        [COMMAND, "figure", "alignment", finished.results, "-o", tmp_path / "x.svg"],
        env={name: value for name, value in variables.items() if name != "HOME"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_python_without_docstrings_costs_the_page_one_line(finished: Finished) -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "bench_core", "figure", "alignment", finished.results],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "run python without -OO" in line
