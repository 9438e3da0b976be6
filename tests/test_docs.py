"""Build the site of the documentation, in which no link is dead, and check what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench_core import api
from bench_core.report.figures import CHARTS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, with proxies that lead nowhere."""
    home = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(home)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return home


@pytest.mark.long
def test_the_site_shows_every_public_name_with_its_fields(site: Path) -> None:
    page = (site / "api.html").read_text("utf-8")
    assert [name for name in api.__all__ if f'id="bench_core.api.{name}"' not in page] == []
    assert "<li><strong>audited</strong> a_l at the states" in " ".join(page.split())


@pytest.mark.long
def test_no_page_of_the_site_asks_another_host(site: Path) -> None:
    asked = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="?(?:https?:)?//[^">]*')
    found = {page.name: asked.findall(page.read_text("utf-8")) for page in site.glob("*.html")}
    assert not any(found.values()), found


def test_pages_from_outside_docs_are_linked(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    for name in ("write-a-method", "hooks", "publish", "reliability", "protocol", "measured"):
        assert f'href="{name}.html"' in page, name


def test_every_chart_stands_in_the_gallery_with_its_command() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert [chart.name for chart in CHARTS if f"bench figure {chart.name} " not in page] == []
    for image in re.findall(r"\]\((gallery/\w+\.svg)\)", page):
        assert (ROOT / "docs" / image).is_file(), image
