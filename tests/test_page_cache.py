"""A page is written once: unchanged results do not render it again, and any change does."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import TINY, Finished, Here

from bench_core.report.pages import cache

MARK = re.compile(r'<meta name="bench-results" content="[0-9a-f]{32}">')


@pytest.fixture
def results(here: Here) -> Path:
    (here.cwd / "tiny.yaml").write_text(TINY + "floors: false\n")
    done = here("run", "tiny.yaml", "--report")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("report: results/tiny/report.html")
    return here.cwd / "results/tiny"


def again(here: Here) -> bool:
    """Run the suite again; return whether its page was written."""
    done = here("run", "tiny.yaml", "--report")
    assert done.returncode == 0, done.stderr
    return not done.stdout.rstrip().endswith("report.html (shows these results already)")


def test_unchanged_results_do_not_render_their_page_again(here: Here, results: Path) -> None:
    page = results / "report.html"
    before, written = page.read_text(), page.stat().st_mtime_ns
    assert MARK.search(before)
    assert not cache.is_foreign(page)
    page.write_text(MARK.sub("", before))  # of a user without a key
    assert not cache.is_foreign(page)
    page.write_text(before)
    os.utime(page, ns=(written, written))
    assert not again(here)
    assert page.stat().st_mtime_ns == written
    page.unlink()
    assert again(here)
    assert page.read_text() == before


@pytest.mark.long
def test_a_change_of_results_suite_or_page_renders_it_again(here: Here, results: Path) -> None:
    (record,) = results.glob("*/run.json")
    os.utime(record, ns=(1, 1))
    assert again(here)
    assert not again(here)
    (here.cwd / "tiny.yaml").write_text(TINY + "floors: false\ntitle: Another title\n")
    assert again(here)
    assert "Another title" in (results / "report.html").read_text()
    (results / "report.html").write_text("<title>mine</title>")
    assert again(here)


def test_the_default_folder_has_the_mark_of_its_results(here: Here, finished: Finished) -> None:
    (here.cwd / "results").symlink_to(finished.results)
    mark = cache.mark([here.cwd / "results"])
    (here.cwd / "report.html").write_text(f'<meta name="bench-results" content="{mark}">')
    assert here("report").stdout == "report.html (shows these results already)\n"


def test_an_edited_docstring_changes_the_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It changes no identity, but the page shows it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "suite.json").write_text('{"defaults": {"own_rule.py/own": {}}}')
    (tmp_path / "own_rule.py").write_text('"""One."""')
    before = cache.mark([tmp_path])
    assert cache.mark([tmp_path]) == before != ""
    (tmp_path / "own_rule.py").write_text('"""Another."""')
    assert cache.mark([tmp_path]) != before


def test_a_page_that_came_with_results_is_not_taken_for_ours(
    here: Here, results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its mark is sealed by another user's key."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    assert again(here)


def test_without_a_folder_for_caches_texts_are_made_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "text"

    assert [cache.kept("a", make), cache.kept("a", make), len(made)] == ["text", "text", 1]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [cache.kept("a", make), cache.kept("a", make), len(made)] == ["text", "text", 3]
