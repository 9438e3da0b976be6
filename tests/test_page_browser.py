"""The page in a real browser: headless Chromium opens it from disk; skipped without Chromium.

The tests use Debian's chromium. If it is missing and they run as root, they install it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from folders import audit_folder

from bench_core.analysis.gather import gather
from bench_core.report.pages.page import page

# the browser itself may not use the network: updates, safe browsing, field trials, downloads
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-default-apps",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
UNFOLD = "() => document.querySelectorAll('details.more').forEach((d) => { d.open = true; })"
DRAWN = "() => [...document.querySelectorAll('.panel')].every((panel) => panel.dataset.drawn)"


def chromium() -> str:
    """The path of Chromium; skips with the reason where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)) and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet: dict[str, Any] = {"capture_output": True, "check": False, "timeout": 300}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], **quiet
        )
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        why = (
            "and could not be installed"
            if os.geteuid() == 0
            else "and only root may install it: apt-get install chromium"
        )
        pytest.skip(f"no Chromium here, {why}")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright for Python is not installed"
    )
    path = chromium()
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    audit_folder(root / "results")
    path = root / "report.html"
    path.write_text(page(*gather([root / "results"])), encoding="utf-8")
    return path


class Opened:
    """A page of its own, with all that it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, width: int, height: int, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console", lambda message: self.complaints.append(f"{message.type}: {message.text}")
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def draw_all(self) -> None:
        self.page.evaluate(UNFOLD)
        panels = self.page.locator(".panel")
        for index in range(panels.count()):
            panels.nth(index).scroll_into_view_if_needed()
        self.page.wait_for_function(DRAWN, timeout=120_000)

    def column(self, number: int) -> list[str]:
        rows = self.page.locator(".verdicts tbody tr:visible")
        return [rows.nth(k).locator("th, td").nth(number).inner_text() for k in range(rows.count())]


@pytest.fixture
def opened(browser: Any, built: Path) -> Iterator[Opened]:
    found = Opened(browser, built, 1280, 900, color_scheme="light")
    yield found
    found.context.close()


def test_it_opens_from_disk_draws_everything_and_asks_for_nothing(
    opened: Opened, tmp_path: Path
) -> None:
    opened.draw_all()
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [opened.url]
    panels = opened.page.locator(".panel")
    assert panels.count() >= 11
    for index in range(panels.count()):
        assert (
            panels.nth(index)
            .locator("svg .mark-symbol path, svg .mark-rect path, svg .mark-line path")
            .count()
            > 0
        )
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    shot = opened.page.screenshot(path=tmp_path / "desktop.png", full_page=True)
    assert len(shot) > 50_000


@pytest.mark.long
def test_a_chart_that_is_drawn_moves_nothing_below_it(opened: Opened) -> None:
    heights = "[...document.querySelectorAll('.panel')].map((panel) => panel.offsetHeight)"
    opened.page.evaluate(UNFOLD)
    before = opened.page.evaluate(heights)
    opened.draw_all()
    assert opened.page.evaluate(heights) == before
    assert min(before) > 60
    marks = opened.page.locator(".panel svg.marks")
    drawn = marks.evaluate_all("nodes => nodes.map((n) => n.getBoundingClientRect().height)")
    spare = [place - height for place, height in zip(before, drawn, strict=True)]
    assert max(spare) < 30  # nor is there a hole below it


def expect(locator: Any) -> Any:
    """Wait until something holds of a part of the page: its script runs after the click."""
    from playwright.sync_api import expect

    return expect(locator)


@pytest.mark.long
def test_the_table_sorts_and_filters(opened: Opened) -> None:
    header = opened.page.locator(".verdicts thead th", has_text="accuracy")
    header.locator("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")  # it waits for the handler
    values = [float(text) for text in opened.column(2) if text != "–"]
    assert values == sorted(values)
    assert opened.column(2)[-1] == "–"  # a run without an accuracy comes last, either way
    header.locator("button").press("Enter")  # by keyboard
    expect(header).to_have_attribute("aria-sort", "descending")
    values = [float(text) for text in opened.column(2) if text != "–"]
    assert values == sorted(values, reverse=True)
    assert opened.column(2)[-1] == "–"
    opened.page.locator(".find").fill("dfa 123")
    expect(opened.page.locator(".count")).to_have_text("2 of 18 runs")
    assert [opened.column(0), opened.column(1)] == [["dfa[frozen]", "dfa"], ["123", "123"]]
    opened.page.locator(".find").fill("")
    opened.page.locator(".kind").select_option("flagged")
    wait_until(lambda: opened.column(0) == ["dfa"] * 3)
    assert opened.complaints == []


@pytest.mark.long
def test_a_point_tells_its_run_and_the_legend_chooses(opened: Opened) -> None:
    figure = opened.page.locator("figure.audit")
    figure.scroll_into_view_if_needed()
    opened.draw_all()
    figure.locator(".panel svg .mark-symbol path").first.hover(force=True)
    tip = opened.page.locator("#vg-tooltip-element")
    tip.wait_for(state="visible")
    for word in ("method", "seed", "growth", "verdict"):
        assert word in tip.inner_text()

    def faded() -> int:
        opacity = "nodes => nodes.filter((n) => Number(getComputedStyle(n).opacity) < 0.2).length"
        return int(
            figure.locator(".panel").first.locator("svg .mark-symbol path").evaluate_all(opacity)
        )

    assert faded() == 0
    key = figure.locator(".legend button", has_text="fired")
    key.click()
    expect(key).to_have_attribute("aria-pressed", "true")
    wait_until(lambda: faded() == 5)  # three dfa runs stay
    key.click()
    wait_until(lambda: faded() == 0)
    assert opened.complaints == []


@pytest.mark.long
def test_the_theme_switches_and_charts_follow(opened: Opened) -> None:
    opened.draw_all()
    paper = "() => getComputedStyle(document.body).backgroundColor"
    label = (
        "() => getComputedStyle(document.querySelector('.panel svg .role-axis-label text')).fill"
    )
    light = [opened.page.evaluate(paper), opened.page.evaluate(label)]
    button = opened.page.locator("#theme")
    assert button.inner_text() == "Dark"
    button.click()
    expect(opened.page.locator("html")).to_have_attribute("data-theme", "dark")
    opened.page.wait_for_function(f"() => ({label})() !== '{light[1]}'")
    assert opened.page.evaluate(paper) != light[0]
    assert opened.complaints == []


@pytest.mark.long
def test_a_link_to_a_run_opens_its_list(opened: Opened) -> None:
    opened.draw_all()  # the page's script has run
    opened.page.evaluate(
        "() => document.querySelectorAll('details.runs').forEach((d) => { d.open = false; })"
    )
    link = opened.page.locator(".verdicts tbody a").first
    identity = str(link.get_attribute("href")).removeprefix("#r-")
    link.click()
    row = opened.page.locator(f"[id='r-{identity}']")
    row.wait_for(state="visible")
    assert identity in row.inner_text()


@pytest.mark.long
def test_it_is_readable_on_a_phone_in_the_dark(browser: Any, built: Path, tmp_path: Path) -> None:
    opened = Opened(browser, built, 390, 844, color_scheme="dark", has_touch=True, is_mobile=True)
    opened.draw_all()
    assert opened.page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= 390
    wide = "nodes => nodes.filter((n) => n.getBoundingClientRect().right > 391).length"
    assert opened.page.locator(".panel svg, h2, h3, figcaption, .notes").evaluate_all(wide) == 0
    opened.page.evaluate(UNFOLD)
    reasons = opened.page.locator("td:visible .struck .unseen")  # no pointer to hover with
    tall = "nodes => Math.min(...nodes.map((n) => n.getBoundingClientRect().height))"
    assert reasons.count() > 0
    assert reasons.evaluate_all(tall) > 5
    assert (
        float(opened.page.evaluate("() => parseFloat(getComputedStyle(document.body).fontSize)"))
        >= 13
    )
    assert opened.complaints == []
    assert len(opened.page.screenshot(path=tmp_path / "phone.png", full_page=True)) > 50_000
    opened.context.close()


def test_rules_stand_on_the_first_screen_and_floors_are_folded(opened: Opened) -> None:
    board = opened.page.locator(".board").first
    rows = board.locator("tbody tr:visible th")
    assert rows.all_inner_texts() == ["bp", "ep", "dfa"]
    edge = "nodes => Math.max(...nodes.map((n) => n.getBoundingClientRect().right))"
    assert board.locator("tbody td.passport:visible").evaluate_all(edge) <= 1280
    board.locator(".unfold").check()
    assert rows.all_inner_texts() == ["bp", "bp[frozen]", "ep", "ep[frozen]", "dfa", "dfa[frozen]"]
    opened.page.set_viewport_size({"width": 400, "height": 800})
    words = board.locator("tbody th:visible, tbody .verdict:visible")
    assert words.evaluate_all(edge) <= 400
    assert board.evaluate("n => n.querySelector('.scroll').scrollWidth") <= 400
    heights = rows.evaluate_all("nodes => nodes.map((n) => n.getBoundingClientRect().height)")
    assert max(heights) < 40  # each name in one line
    opened.page.set_viewport_size({"width": 794, "height": 1123})  # A4
    opened.page.emulate_media(media="print")
    cut = "nodes => nodes.filter((n) => n.scrollWidth > n.clientWidth + 1).map((n) => n.ariaLabel)"
    assert opened.page.locator(".scroll:visible").evaluate_all(cut) == []


@pytest.mark.long
def test_a_screen_reader_finds_its_way(opened: Opened) -> None:
    """Landmarks, a heading order without gaps, names for everything that can be operated."""
    levels = opened.page.locator("h1, h2, h3, h4").evaluate_all(
        "nodes => nodes.map((n) => Number(n.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert opened.page.get_by_role(role).count() == 1
    opened.page.evaluate(UNFOLD)
    unnamed = opened.page.locator("button, input, select, [role=region]").evaluate_all(
        "nodes => nodes.filter((n) => !(n.innerText || n.ariaLabel || n.labels?.length)).length"
    )
    assert unnamed == 0
    struck = opened.page.locator("td:has(s[title])")  # a number that means nothing: read aloud
    assert struck.count() > 0
    for k in range(struck.count()):
        reason = struck.nth(k).locator("s").get_attribute("title")
        assert f"({reason})" in struck.nth(k).inner_text()
    tall = "nodes => Math.min(...nodes.map((n) => n.getBoundingClientRect().height))"
    reasons = opened.page.locator("td:visible .struck .unseen")
    assert reasons.evaluate_all(tall) <= 1  # under the pointer
    opened.page.emulate_media(media="print")
    assert reasons.evaluate_all(tall) > 5  # on paper beside the number
    opened.page.emulate_media(media="screen")
    opened.page.keyboard.press("Tab")
    wait_until(lambda: opened.page.evaluate("() => document.activeElement.className") == "skip")
