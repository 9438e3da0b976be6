"""Check what programs read: JSON, exit codes, schemas for editors, llms.txt and SKILL.md."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from conftest import TINY
from folders import audit_folder
from test_python import run_code

from bench_core import api, cli, load
from bench_core.analysis.verdicts import kinds
from bench_core.errors import Exit, UsageError
from bench_core.names import OURS
from bench_core.registry import plugins
from bench_core.results.epochs import Epoch
from bench_core.results.record import RunRecord
from bench_core.suite.load import load_suite

DIAGNOSTICS = {item.component.name for item in plugins.load(only={OURS}).of_kind("diagnostic")}
ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in
         ("SKILL.md", "llms.txt", "docs/programs.md", "docs/python.md")}  # fmt: skip
TABLE = re.compile(r"`(bench [^`]+)`")
BLOCK = re.compile(r"^    (bench [^#\n]+)", re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return the commands in code of a page; of `bench a [KIND] --json` without the brackets."""
    found = [*TABLE.findall(text), *BLOCK.findall(text)]
    return [re.sub(r"\[[^\]]*\]", "", command).strip() for command in found]


ALL = sorted({command for text in PAGES.values() for command in commands(text)})


def invoke(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli.bench, [str(item) for item in arguments], standalone_mode=False)
    assert not isinstance(done.exception, UsageError), done.exception
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.mark.parametrize("command", ALL)
def test_the_commands_that_the_pages_name_exist_with_these_options(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    found = cli.bench.get_command(click.Context(cli.bench), name)
    assert found is not None, name
    context = click.Context(found, info_name=name, resilient_parsing=True)
    found.make_parser(context).parse_args(list(arguments))  # raises for an unknown option
    choices = {opt: p.type for p in found.params for opt in p.opts if hasattr(p.type, "choices")}
    for option, value in pairwise(arguments):
        if option in choices:
            assert value in choices[option].choices, command


def test_the_pages_name_files_that_are_there() -> None:
    assert len(ALL) > 20
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / name).parent.joinpath(link).exists(), (name, link)


def test_every_page_for_people_is_listed() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")]
    assert len(pages) > 10
    missing = [page.name for page in pages if f"(docs/{page.name})" not in PAGES["llms.txt"]]
    assert missing == []


def test_the_variables_that_the_code_reads_are_listed() -> None:
    """All but the mark that a worker gives to its own children."""
    text = "".join(path.read_text() for path in (ROOT / "bench_core").rglob("*.py"))
    read = {name for name in re.findall(r"BENCH_[A-Z_]+", text) if name != "BENCH_API"}
    listed = set(re.findall(r"^\| `(BENCH_[A-Z_]+)", PAGES["docs/programs.md"], re.MULTILINE))
    assert listed == read - {"BENCH_WORKER"}


def test_the_rule_that_the_skill_shows_is_a_rule() -> None:
    code = re.search(r"```python\n(.*?)```", PAGES["SKILL.md"], re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    run_code(code[1], names)
    from bench_core.testing.subjects import MethodSubject

    trial = MethodSubject(names["MyRule"], {}).trial("residual").steps(1)
    assert len(trial.credits(*trial.states()).audited) == len(trial.net.sites)
    head = yaml.safe_load(PAGES["SKILL.md"].split("---")[1])
    assert head["name"] == "bench"
    assert len(head["description"]) < 400
    assert all(f"*{kind}*" in PAGES["SKILL.md"].replace("\n  ", " ") for kind in kinds.VERDICTS)


def test_the_table_of_exit_codes_has_every_code() -> None:
    text = PAGES["docs/programs.md"].partition("## Exit codes")[2].partition("##")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == list(Exit)
    short = re.search(r"Exit codes: ([^.]*)\.", PAGES["SKILL.md"])
    assert short
    assert [int(code) for code in re.findall(r"\b\d+\b", short[1])] == list(Exit)


def test_runs_are_json_for_programs(tmp_path: Path) -> None:
    folder = audit_folder(tmp_path, 1)
    run = next(path for path in sorted(folder.iterdir()) if path.is_dir())
    shown = json.loads(invoke("show", run, "--json"))
    record = json.loads((run / "run.json").read_text())
    assert shown["record"] == record
    assert shown["identity"] == run.name
    assert {"label", "rule_verdict", "reasons", "verdict", "margin_pp"} <= shown.keys()
    why = json.loads(invoke("why", run.name[:8], tmp_path, "--json"))
    assert why["identity"] == run.name
    assert why["nearest"]["changes"]
    checked = json.loads(invoke("verify", tmp_path, "--json", code=1))  # made-up identities
    assert checked["total"] == len(checked["runs"]) == checked["faulty"] == 18
    assert all(item["faults"] for item in checked["runs"])


def promised(folder: Path) -> dict[str, list[str]]:
    """Return the names that docs/compatibility.md promises to keep, by what has them."""
    results = load(folder)
    tables = {name: getattr(results, name).columns for name in ("runs", "epochs", "measurements")}
    names = {"bench_core.api": api.__all__, "CSV": results.leaderboard().columns, **tables}
    for name in cli.COMMANDS:
        command = cli.bench.get_command(click.Context(cli.bench), name)
        assert command is not None
        names[f"bench {name}"] = [
            opt for p in command.params for opt in (*p.opts, *p.secondary_opts)
        ]
    return {name: sorted(own) for name, own in names.items()}


def test_no_name_of_a_release_is_lost(tmp_path: Path) -> None:
    released = json.loads((ROOT / "tests" / "released.json").read_text())
    audit_folder(tmp_path, 1)
    now = promised(tmp_path)
    lost = {name: sorted({*own} - {*now.get(name, ())}) for name, own in released.items()}
    assert not any(lost.values()), lost


def test_plugins_are_json_for_programs() -> None:
    listed = json.loads(invoke("plugins", "--json"))
    assert listed["plugins"][0]["distribution"] == "bench-core"
    assert listed["troubles"] == []


def test_a_suite_that_is_written_brings_its_schema(tmp_path: Path) -> None:
    invoke("new", "suite", "mine", "--into", tmp_path)
    assert load_suite(tmp_path / "mine.yaml").name == "mine"
    folder = audit_folder(tmp_path / "results", 0)
    run = next(path for path in sorted(folder.iterdir()) if path.is_dir())
    invoke("show", run, "--suite", "-o", tmp_path / "again.yaml")
    schema = json.loads(invoke("schema"))
    for name in ("mine", "again"):
        first, *rest = (tmp_path / f"{name}.yaml").read_text().splitlines()
        stated = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert stated
        assert json.loads((tmp_path / stated[1]).read_text()) == schema
        assert rest
    done = CliRunner().invoke(cli.bench, ["new", "suite", "mine", "--into", str(tmp_path)])
    assert "is there already" in str(done.exception)
    text = "a suite 'quickstart' is installed already; choose another name"
    for name in ("quickstart", "quickstart.yaml"):
        done = CliRunner().invoke(cli.bench, ["new", "suite", name, "--into", str(tmp_path)])
        assert str(done.exception) == text
    invoke("new", "suite", "other.yaml", "--into", tmp_path)
    assert load_suite(tmp_path / "other.yaml").name == "other"


def test_every_column_of_an_export_is_explained(tmp_path: Path) -> None:
    after = PAGES["docs/programs.md"].partition("## The columns of `bench export`")[2]
    text = after.partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    explained = {
        table: {
            name
            for names, tables, _ in rows
            if tables.strip() == "all" or table in tables.strip().split(", ")
            for name in re.findall(r"`(\w+)", names)
        }
        for table in ("runs", "epochs", "measurements")
    }
    folder = audit_folder(tmp_path)
    for table, known in explained.items():
        header = next(csv.reader(io.StringIO(invoke("export", folder, "--table", table))))
        measured = {name for name in header if name.removesuffix("_samples") in DIAGNOSTICS}
        others = {name for name in header if not name.startswith("environment_")} - measured
        assert others - known == set(), table
        assert known - {*header, "environment_"} == set(), table


def test_every_field_of_a_record_is_explained() -> None:
    after = PAGES["docs/programs.md"].partition("## The fields of run.json")[2]
    table, _, below = after.partition("\n## ")[0].partition("\n`epochs.jsonl`")
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    explained = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    fields = RunRecord.model_fields
    assert sorted(explained) == sorted(item.alias or name for name, item in fields.items())
    of_epoch = re.findall(r"`(\w+)`", below)
    assert sorted(of_epoch) == sorted(Epoch.model_fields)


@pytest.mark.long
def test_the_distance_of_the_states_is_a_column_in_every_form(here, tmp_path: Path) -> None:
    """It takes two runs, so it is computed when the table is made."""
    suite = tmp_path / "near.yaml"
    text = TINY.replace("name: tiny", "name: near") + "diagnostics: [state_distance]\n"
    suite.write_text(text)
    results = tmp_path / "results"
    assert here("run", suite, "--results", results).returncode == 0
    csv_text = here("leaderboard", results, "--format", "csv").stdout
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(csv_text))}
    assert float(rows["bp"]["state_distance"]) == 0
    far = float(rows["dfa"]["state_distance"])
    assert far > 0
    table = here("leaderboard", results, "--column", "state_distance").stdout
    assert f"{far:.3g}" in table
