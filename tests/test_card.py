"""Check the cards of components: read from docstrings without importing them, shown everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench_plugins.archs import bench_archs
from bench_plugins.datasets import bench_datasets
from bench_plugins.diagnostics import bench_diagnostics
from bench_plugins.executors import bench_executors
from bench_plugins.methods import bench_methods
from conftest import Here, fake_dist, plugin
from pybtex.database import parse_string as bibliography

from bench_core.api import Component
from bench_core.registry.bibliography import of_package, works
from bench_core.registry.card import card, other_source, split
from bench_core.report.words.cite import fields

DOCSTRING = """a_l = e·B_l.

    B_l is (C, d). Ours: no section, since it begins no line.

    Ours: one
    deviation.
    Sources: Someone 2020, arXiv:2001.00001;
    another.

    Accuracy is that of the readout.
    """

BUILT_IN = [*bench_methods(), *bench_archs(), *bench_datasets(), *bench_diagnostics()]


def test_sections_end_at_an_empty_line_or_at_the_next_section() -> None:
    assert split(DOCSTRING) == {
        "definition": "a_l = e·B_l.\n\nB_l is (C, d). Ours: no section, since it begins no line."
        "\n\nAccuracy is that of the readout.",
        "deviations": "one deviation.",
        "source": "Someone 2020, arXiv:2001.00001; another.",
    }


@pytest.mark.parametrize("component", bench_methods(), ids=lambda component: component.name)
def test_every_built_in_rule_has_a_whole_card(component: Component) -> None:
    shown = card(component)
    assert all((shown.definition, shown.source, shown.deviations, shown.verified))
    null = shown.source == "null method of this suite"
    assert null or "year" in fields("learning rule", component.name, shown.source)


@pytest.mark.long
def test_the_card_of_a_strangers_rule_is_shown_without_importing_it(here: Here) -> None:
    table = 'return [Component("own", "own_rule:Rule", "a rule", "Me 2026")]'
    folder = here.cwd / "site"
    fake_dist(folder, "x-own", "own_table", plugin("bench_methods()", table))
    (folder / "own_rule.py").write_text(f'raise SystemExit\nclass Rule:\n    """{DOCSTRING}"""\n')
    shown = here("list", "own", path=[folder]).stdout
    assert "x-own/own: method of x-own 1.0\na rule\n\na_l = e·B_l.\n" in shown
    assert "\nsource\n  Me 2026\n" in shown
    assert "\ndeviations from the source\n  one deviation.\n" in shown
    assert "\nverified\n  not stated\n" in shown


@pytest.mark.parametrize("component", BUILT_IN, ids=lambda component: component.target)
def test_a_built_in_cites_the_works_of_its_docstring(component: Component) -> None:
    assert other_source(component) == ""


@pytest.mark.parametrize(
    ("cite", "agrees"),
    [
        ("Someone, arXiv: 2001.00001", True),  # by its number
        ("Someone 2020", True),  # as part of the text
        ("", True),
        ("Frenkel, Lefebvre, Bol 2021, arXiv:1909.01311", False),
        ("Someone 2020, arXiv:2001.00001; Frenkel 2021, arXiv:1909.01311", False),
        ("Frenkel 2021", False),
    ],
)
def test_the_source_of_table_and_docstring_are_the_same_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cite: str, agrees: bool
) -> None:
    (tmp_path / "own_source.py").write_text(f'class Rule:\n    """{DOCSTRING}"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    component = Component("own", "own_source:Rule", "a rule", cite)
    source = "Someone 2020, arXiv:2001.00001; another"
    assert other_source(component) == ("" if agrees else source)


def test_every_work_that_a_built_in_names_is_in_the_bibliography() -> None:
    """Each has authors, title and year for a parser of BibTeX, and a component that names it."""
    cited: dict[str, str] = {}
    for component in [*bench_methods(), *bench_archs(), *bench_datasets()]:
        shown = card(component)
        ids = set(re.findall(r"\d{4}\.\d{4,5}|10\.\d{4,}/[\w.]*\w", shown.source))
        text = "\n".join(shown.works.values())
        assert [one for one in ids if one not in text] == [], component.name
        assert shown.works or shown.source == "null method of this suite", component.name
        cited |= shown.works
    parsed = bibliography("\n".join(cited.values()), "bibtex").entries
    assert set(parsed) == set(cited) == set(of_package("bench_plugins")) | {"hao2026"}
    for key, entry in parsed.items():
        assert entry.persons["author"], key
        assert {"title", "year"} <= set(entry.fields), key
        # its year and first author are those of the key
        assert key.endswith(entry.fields["year"]), key


def test_a_package_of_plugins_brings_its_own_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    entry = "@misc{me2026,\n  title = {On Rules},\n  url = {https://host/me/rules},\n}"
    (package / "references.bib").write_text(f"% a comment\n{entry}\n@misc{{broken,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert works("Me 2026, On\nrules", "own_package.rule") == {"me2026": entry}
    assert works("code: me/rules", "own_package.rule") == {"me2026": entry}
    assert works("On Rulesets", "own_package.rule") == {}
    assert works("On Rules; arXiv:2606.21126", "no_such_package").keys() == {"hao2026"}
    assert works("after Nøkland; arXiv:1609.01596", "no_such_package").keys() == {"nokland2016"}


def test_an_executor_is_described_by_its_module_and_its_function() -> None:
    (ray,) = (each for each in bench_executors() if each.name == "ray")
    shown = card(ray).definition
    assert "--executor-set address=" in shown
    assert "Run the cells; " in shown


def test_no_code_gives_no_more_than_the_table() -> None:
    assert card(Component("own", "no.such.module:Rule", "a rule", "Me 2026")).entries()[0] == (
        "source",
        "Me 2026",
    )
