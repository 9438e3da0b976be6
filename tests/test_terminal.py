"""Colours, and plain text for a pipe."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from conftest import invoke
from folders import audit_folder, write
from records import run

from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.text.terminal import COLOURS, coloured, paint

DFA, BP, FA, EP = (f"bench-core/{name}" for name in ("dfa", "bp", "fa", "ep"))


def suite(records: list, name: str = "made") -> SuiteResults:  # type: ignore[type-arg]
    return SuiteResults(name, Settings(), tuple(records), 0)


def test_colours_keep_the_text_and_the_widths() -> None:
    text = "bp  trustworthy  x\ndfa  walked back a 1/3, d\nlab/failed_rule  failed 1/3\n"
    painted = paint(text)
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == text
    assert "\x1b[32m\x1b[1mtrustworthy\x1b[0m" in painted
    assert "\x1b[31m\x1b[1mwalked back\x1b[0m" in painted
    assert "\x1b[1mfailed 1/3\x1b[0m" in painted
    assert "lab/failed_rule" in painted
    # unreadable on light or dark
    assert not {"yellow", "cyan", "white", "black"} & set(COLOURS.values())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_only_where_it_is_wanted(
    environ: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr("sys.stdout", type("Terminal", (), {"isatty": lambda self: True})())
    assert coloured() is expected
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert coloured() is False


@pytest.mark.parametrize(("after", "line"), [([], ""), ([4], "4"), ([4, 12], "4 and 12")])
def test_the_resumptions_of_a_run_are_shown(tmp_path: Path, after: list[int], line: str) -> None:
    write(tmp_path, [run(resumed=after)])
    (results,), _ = gather([tmp_path])
    lines = invoke("show", results.run_folder(results.records[0])).splitlines()
    told = [text for text in lines if text.startswith("resumed")]
    assert told == ([f"resumed     after epoch {line}"] if after else [])


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    audit_folder(tmp_path, epochs=1)
    assert "\x1b" not in invoke("leaderboard", tmp_path) + invoke(
        "show", gather([tmp_path])[0][0].records[0].identity, tmp_path
    )
