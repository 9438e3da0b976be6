"""The command line: a user's mistake is one line and exit 2; no terminal breaks it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import (
    COMMAND,
    HANG,
    TINY,
    Bench,
    Finished,
    Here,
    environment,
    fake_dist,
    plan_totals,
    plugin,
)
from pydantic_core import SchemaError

from bench_core import cli
from bench_core.commands import results, run
from bench_core.errors import StoreError

MISTAKES = {
    "unknown suite": (["run", "quickstrat"], "did you mean quickstart"),
    "unknown method": (
        ["run", "suite.yaml", "--method", "dfaa"],
        "unknown method 'dfaa'; did you mean dfa",
    ),
    "first letters of a diagnostic": (
        ["run", "suite.yaml", "--set", "diagnostics=[batch]"],
        "unknown diagnostic 'batch'; did you mean batch_stability?",
    ),
    "a name like no other": (
        ["leaderboard", "nothing"],
        "nothing: no such results folder; `bench run SUITE` writes one",
    ),
    "key in the file": (
        ["run", "typo.yaml"],
        "typo.yaml:7:12: training.epoch: unknown key; did you mean epochs",
    ),
    "key on the command line": (
        ["run", "suite.yaml", "--set", "training.epoch=3"],
        "training.epoch: unknown key; did you mean epochs",
    ),
    "key without its section": (
        ["plan", "suite.yaml", "--set", "epochs=3"],
        "--set epochs=3: epochs: unknown key; did you mean training.epochs?",
    ),
    "initials of a key": (
        ["plan", "suite.yaml", "--set", "training.lr=1"],
        "training.lr: unknown key; did you mean learning_rate?",
    ),
    "no value": (["plan", "suite.yaml", "--set", "training.epochs"], "training.epochs"),
    "range": (["run", "suite.yaml", "--epochs", "0"], "training.epochs"),
    "negative seed": (["run", "suite.yaml", "--seed", "-1"], "seed"),
    "no file": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "a folder": (["run", "."], ""),
    "no results": (
        ["leaderboard", "nowhere"],
        "nowhere: no such results folder; `bench run SUITE` writes one",
    ),
    "a suite file where its results belong": (
        ["leaderboard", "suite.yaml"],
        "suite.yaml: is a file and no results folder; `bench run suite.yaml` writes one",
    ),
    "a rule of a plugin that is not here": (
        ["plan", "suite.yaml", "--method", "lab/own"],
        "unknown method 'lab/own'; no plugin of the distribution lab is installed here; known: ",
    ),
    "a full name misspelt": (
        ["plan", "suite.yaml", "--method", "bench_core/dfaa"],
        "unknown method 'bench_core/dfaa'; known: ",
    ),
    "the same, of a sweep": (["status", "typo.yaml"], "typo.yaml: is a file and no results folder"),
    "no results of a suite": (
        ["leaderboard", "class_count"],
        "class_count: no results here, and the reference has no run of this suite, only of ",
    ),
    "a suite where a run belongs": (
        ["show", "audit5"],
        "; `bench leaderboard audit5` shows the suite",
    ),
    "no results of a suite to claim": (["claims", "tuning"], "; `bench run tuning` trains it"),
    "no results of a suite to verify": (
        ["verify", "class_count"],
        "; `bench run class_count` trains it",
    ),
    "a suite misspelt": (
        ["leaderboard", "cnnn"],
        "error: cnnn: no such results folder or suite; did you mean cnn?",
    ),
    "no run of the identity": (
        ["show", "zzzz"],
        "error: zzzz: no run of the reference begins like this, and no folder results here",
    ),
    "no run of the identity to explain": (["why", "zzzz"], "zzzz: no run of the reference begins"),
    "options of a component": (["info", "dfa[frozen]"], "; write dfa, without options"),
    "a kind misspelt": (["list", "methodss"], "no such kind of component; did you mean methods?"),
    "several rules in one option": (
        ["plan", "suite.yaml", "--method", "dfa,bp[penalty=[1,2]]"],
        "names several rules; write --method dfa --method bp[penalty=[1,2]]",
    ),
    "several names in one option": (
        ["plan", "suite.yaml", "--method", "dfa,bp"],
        "error: --method dfa,bp: names several rules; write --method dfa --method bp",
    ),
    "rule files in one option": (
        ["plan", "suite.yaml", "--method", "dfa,./own.py[a=1,b=2]"],
        "names several rules; write --method dfa --method ./own.py[a=1,b=2]",
    ),
    "a rule file without its ending": (
        ["plan", "suite.yaml", "--method", "./own"],
        "the rule of a file has its path: ./own.py",
    ),
    "a package that is not installed": (
        ["plan", "suite.yaml", "--method", "my_rule"],
        "; the package bench-my-rule is here but not installed: `pip install -e bench-my-rule`",
    ),
    "a suite to check": (["check", "suite.yaml"], "it is a suite file: `bench plan suite.yaml`"),
    "a plan for a file": (
        ["plan", "suite.yaml", "-o", "own.py"],
        "own.py/tiny: `bench run` cannot write there: own.py is a file, not a folder",
    ),
    "no default results": (["leaderboard"], "results: no such results folder"),
    "a second rule forgotten": (
        ["compare", "dfa", "audit6"],
        "name a second method, as in `bench compare dfa bp audit6`, or a second folder",
    ),
    "another case": (["info", "DFA"], "no component is called 'DFA'; did you mean dfa?"),
    "a suite without a search": (
        ["tune", "quickstart"],
        "search: is missing: it says what `bench tune` may change, as in tuning and tuning_digits",
    ),
    "a page of all claims": (["claims", "--all", "-o", "x.csv"], "it takes -o FILE.md alone"),
    "two forms of a run": (["show", "0", "--suite", "--json"], "--suite writes YAML"),
    "a file to merge into": (["merge", ".", "--into", "suite.yaml"], "is a file; name a folder"),
    "an ending of no table": (["export", "audit6", "-o", "x.xlsx"], "must end in .csv, .parquet"),
    "an ending of no format": (
        ["leaderboard", "audit6", "-o", "x.html"],
        "must end in .txt, .md, ",
    ),
    "an ending of another format": (
        ["leaderboard", "audit6", "--format", "csv", "-o", "x.json"],
        "-o x.json: ends in .json, and --format is csv",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(here: Here, mistake: str) -> None:
    arguments, words = MISTAKES[mistake]
    (here.cwd / "suite.yaml").write_text(TINY)
    (here.cwd / "typo.yaml").write_text(TINY.replace("epochs", "epoch"))
    (here.cwd / "own.py").write_text("")
    (here.cwd / "bench-my-rule").mkdir()
    (here.cwd / "bench-my-rule" / "pyproject.toml").write_text("")
    before = sorted(here.cwd.rglob("*"))
    done = here(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert done.stdout == ""
    assert sorted(here.cwd.rglob("*")) == before


def test_a_folder_around_the_results_leads_to_them(here: Here, finished: Finished) -> None:
    (here.cwd / "project").mkdir()
    (here.cwd / "project" / "results").symlink_to(finished.results)
    remedy = "name a folder in it: project/results"
    done = here("leaderboard", "project")
    assert done.stdout == (
        "no finished runs: `bench run SUITE` makes some, `bench status` shows those begun\n"
    )
    assert done.stderr == f"note: project has no runs; {remedy}\n"
    assert here("leaderboard", "project", "--format", "latex").stdout.startswith("% no finished")
    done = here("verify", "project")
    assert done.stderr == f"error: project: no run to check; {remedy}\n"
    done = here("leaderboard", "project/results")
    assert "note: project" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument 'SUITE'"),
        (["comapre"], "No such command 'comapre'; did you mean compare?"),
        (["explain"], "No such command 'explain'; did you mean info?"),
        (["start"], "No such command 'start'; did you mean new or run?"),
        (["run", "x", "--workers", "0"], "'--workers'"),
        (["leaderboard", "--format", "pdf"], "'pdf'"),
        (["run", "x", "--sed"], "--seed"),
        (
            ["run", "x", "--lr", "0.1"],
            "'--lr'; did you mean training.learning_rate? Set it by --set KEY=VALUE",
        ),
        (["run", "x", "--epoch", "3"], "--epochs"),
        (["plan", "x", "--penalty", "1"], "of a rule: --method 'dfa[penalty=VALUE]'"),
        (["run", "x", "--frobnicate"], "No such option '--frobnicate'."),
        (
            ["run", "x", "--set", "training.epochs", "3"],
            "--set training.epochs: must have the form",
        ),
        (["tune", "x", "dfa"], "unexpected extra argument (dfa); give one suite, and rules by"),
        (["run", "x", "--seed", "1,2"], "'1,2' is not one seed: write --seed 1 --seed 2"),
        (["audit", "--seed", "1,2"], "'1,2' is not one seed"),
        (["new"], "Choose from:\n  method,\n  arch,"),
    ],
)
def test_what_click_refuses_is_exit_2_without_a_traceback(
    arguments: list[str], words: str, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert words in told.partition("Error: ")[2]
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (StoreError("full"), 2, "error: full\n"),
        (KeyboardInterrupt(), 130, ""),
        (SchemaError("Error building SchemaValidator:\n  KeyboardInterrupt: "), 130, ""),
        (ValueError("KeyboardInterrupt"), 3, "this is a bug of bench"),
        (ZeroDivisionError("ours"), 3, "this is a bug of bench: please report it"),
        (FileNotFoundError(2, "No such file or directory", "x"), 3, "this is a bug of bench"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    raised: BaseException, code: int, words: str, monkeypatch, capsys
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(results, "print_leaderboards", fails)
    monkeypatch.setattr(sys, "argv", ["bench", "leaderboard"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    assert words in capsys.readouterr().err


def test_list_takes_what_info_takes(here: Here) -> None:
    for name in ("dfa", "method:dfa", "dataset:digits"):
        assert here("list", name).stdout == here("info", name).stdout != ""


def test_help_lists_every_command_and_each_has_its_own() -> None:
    told = CliRunner().invoke(cli.bench, ["--help"]).output
    for name in cli.COMMANDS:
        assert f"  {name}" in told
        assert CliRunner().invoke(cli.bench, [name, "--help"]).exit_code == 0


# -------------------------------------------------------------------------------------------- data


@pytest.mark.long
@pytest.mark.parametrize("named", [True, False])
def test_missing_cifar_files_are_one_line_that_says_where_they_must_lie(
    here: Here, named: bool
) -> None:
    dead = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    (here.cwd / "empty").mkdir()
    (here.cwd / "s.yaml").write_text(TINY.replace("dataset: digits", "dataset: cifar10" * named))
    done = here(
        "run", "s.yaml", "--data-dir", "empty", env={**dead, "no_proxy": "", "NO_PROXY": ""}
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "empty/cifar-10-batches-py" in line
    assert "--data-dir or BENCH_DATA_DIR" in line
    assert named != line.endswith(
        "; the suite names no dataset, so cifar10 is taken (`dataset: digits` needs no files)"
    )
    assert sorted(path.name for path in here.cwd.rglob("*")) == ["empty", "s.yaml"]


@pytest.mark.long
def test_a_corrupt_cifar_file_is_refused_before_it_is_opened(here: Here) -> None:
    """The files are pickles that would leave a mark if anybody loaded them."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(here.cwd / "mark"),)

    home = here.cwd / "data" / "cifar-10-batches-py"
    home.mkdir(parents=True)
    for name in ["batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))]:
        (home / name).write_bytes(pickle.dumps(Bomb()))
    done = here("run", "audit5", "--data-dir", "data")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "data/cifar-10-batches-py/" in line
    assert "corrupt: SHA-256 is" in line
    assert not (here.cwd / "mark").exists()
    assert not (here.cwd / "results").exists()


# --------------------------------------------------------------------------------------- terminals


def test_a_plan_is_readable_by_machines_and_says_what_is_reused(
    here: Here, finished: Finished
) -> None:
    done = here(
        "plan", finished.suite, "--results", finished.results, "--seed", 1, "--seed", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [cell["action"] for cell in told["cells"]].count("reuse") == 4
    assert len(told["cells"]) == 8
    folders = {path.parent.name for path in finished.folder.glob("*/run.json")}
    assert {cell["identity"] for cell in told["cells"] if cell["action"] == "reuse"} == folders
    assert {cell["cell"]["seed"] for cell in told["cells"] if cell["action"] == "run"} == {2}
    assert [path.name for path in here.cwd.iterdir()] == []


@pytest.mark.long
def test_a_plan_is_of_the_parts_that_its_options_name(here: Here, finished: Finished) -> None:
    options = ("--dataset", "teacher", "--arch", "relu_mlp", "--method", "fa", "--seed", 5)
    more = ("--epochs", 3, "--set", "floors=false")
    done = here("plan", finished.suite, *options, *more, "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = (each["cell"] for each in json.loads(done.stdout)["cells"])
    names = {kind: cell[kind]["name"] for kind in ("method", "arch", "dataset")}
    short = {kind: name.removeprefix("bench-core/") for kind, name in names.items()}
    assert short == {"method": "fa", "arch": "relu_mlp", "dataset": "teacher"}
    assert (cell["seed"], cell["training"]["epochs"]) == (5, 3)


@pytest.mark.parametrize(
    ("change", "source"),
    {
        "--seed=2": "from runs of the rule itself",
        "--method=dfa[penalty=0.1]": "from runs of the rule with other options",
        "--set=arch.residual=false": "from runs of the rule on another network or data of the "
        "same size",
        "--method=fa": "from runs of other rules",
        "--set=arch.width=8": "cost: unknown for 4 cells: nothing comparable was run here",
    }.items(),
)
def test_a_plan_says_from_which_runs_its_cost_is_estimated(
    here: Here, finished: Finished, change: str, source: str
) -> None:
    env = {"BENCH_REFERENCE": ""}
    totals = plan_totals(here, finished.suite, "--results", finished.results, change, env=env)
    assert totals.partition(" cost: ")[2].endswith(source.removeprefix("cost: "))


@pytest.mark.long
def test_lists_name_what_is_installed(here: Here, tmp_path: Path) -> None:
    hooks = plugin(
        "bench_archs()", 'return [Component("tall", "a:B", "\\x1b[31mred\\nand two lines")]'
    )
    fake_dist(tmp_path / "site", "x-arch", "listed", hooks)
    everything = here("list", path=[tmp_path / "site"]).stdout
    for words in (
        "x-arch/tall",
        "bench-core",
        "dfa",
        "digits",
        "alignment",
        "quickstart",
        "x-arch 1.0",
    ):
        assert words in everything
    assert all(line.isprintable() for line in everything.splitlines())
    only = here("list", "archs", path=[tmp_path / "site"]).stdout
    assert "resmlp" in only
    assert "dfa" not in only
    listed = {item["name"]: item for item in json.loads(here("list", "suites", "--json").stdout)}
    assert (listed["audit5"]["reference"], listed["class_count"]["reference"]) == ("1", "")
    suites = here("list", "suites", env={"COLUMNS": "200"}).stdout.splitlines()
    marked = [line for line in suites if "in reference 1)" in line]
    assert any("audit5" in line and "(32 runs in" in line for line in marked)
    assert listed["audit5"]["runs"] == 32
    assert not any("quickstart" in line for line in marked)
    assert "x-arch          1.0        1 arch" in here("plugins", path=[tmp_path / "site"]).stdout


def test_no_summary_of_a_command_is_cut() -> None:
    text = CliRunner().invoke(cli.bench, ["--help"], terminal_width=80).output
    lines = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(cli.COMMANDS)
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_the_schema_is_json() -> None:
    assert json.loads(CliRunner().invoke(cli.bench, ["schema"]).output)["properties"]["methods"]


@pytest.mark.parametrize("width", ["10", "1", "0", "-5", "wide", "100000"])
def test_any_width_shows_the_same_figures(here: Here, finished: Finished, width: str) -> None:
    done = here("leaderboard", "--floors", finished.results, env={"COLUMNS": width})
    assert done.returncode == 0, done.stderr
    accuracies = [
        json.loads(path.read_text())["accuracy"] for path in finished.folder.glob("*/run.json")
    ]
    for accuracy in accuracies:
        assert f"{accuracy:.3f}".removeprefix("0") in done.stdout


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_every_format_can_go_to_a_file(here: Here, finished: Finished, form: str) -> None:
    done = here("leaderboard", finished.results, "--format", form, "-o", "out")
    assert done.stdout == "out\n"
    assert "dfa" in (here.cwd / "out").read_text()
    assert [path.name for path in here.cwd.iterdir()] == ["out"]


def shell(bench: Bench, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        cwd=bench.cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("redirection", "status"),
    [("| head -n 1", 0), ("| true", 0), (">&-", 0), (">&- 2>&- <&-", 0), ("> /dev/full", 2)],
)
def test_a_reader_who_leaves_hears_nothing(
    bench: Bench, finished: Finished, redirection: str, status: int
) -> None:
    done = shell(bench, f"{COMMAND} leaderboard {finished.results} {redirection}")
    assert done.returncode == status
    expected = (
        ["error: cannot write standard output: No space left on device"]
        if "full" in redirection
        else []
    )
    assert done.stderr.splitlines() == expected


@pytest.mark.long
def test_a_run_without_standard_streams_does_its_work(bench: Bench, finished: Finished) -> None:
    """Otherwise the lock or a file of a run would get descriptor 1, and all that is printed."""
    done = shell(
        bench, f"{COMMAND} run {finished.suite} --set floors=false --results r >&- 2>&- <&-"
    )
    assert done.returncode == 0
    (folder,) = (bench.cwd / "r" / "tiny").glob("*/run.json")
    same = finished.folder / folder.parent.name / "run.json"
    files = [
        json.loads(path.read_text())["files"]["checkpoint.safetensors"] for path in (folder, same)
    ]
    assert files[0] == files[1]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Afterwards signals are handled as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_nohup_is_respected_and_a_term_is_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench_core.execution import runner

    seen = {}

    def run_plan(*arguments: object, **options: object) -> None:
        seen.update(
            {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
        )
        raise KeyboardInterrupt

    class Nothing:
        cells = to_run = ()
        folder = "r"
        counts = "0 cells"
        suite = type("Suite", (), {"name": "s"})

    monkeypatch.setattr(runner, "run_plan", run_plan)
    monkeypatch.setattr(run, "planned", lambda suite, options: (Nothing(), None))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = CliRunner().invoke(cli.bench, ["run", "x"])
    assert done.exit_code == 130
    assert "interrupted: finished cells are kept" in done.output
    assert seen == {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.default_int_handler}


@pytest.mark.usefixtures("handlers")
def test_a_term_while_a_run_is_planned_is_an_interrupt_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "planned", lambda suite, options: os.kill(os.getpid(), signal.SIGTERM))
    done = CliRunner().invoke(cli.bench, ["run", "x"])
    assert done.exit_code == 130
    assert "interrupted: nothing had begun" in done.output


def test_the_runner_is_imported_without_torch() -> None:
    code = "import sys, bench_core.execution.runner; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
