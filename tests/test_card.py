"""Check the cards of components: read from docstrings without importing them, shown everywhere."""

from __future__ import annotations

import pytest
from bench_plugins.methods import bench_methods
from conftest import Here, fake_dist, plugin

from bench_core.api import Component
from bench_core.registry.card import card, split
from bench_core.report.cite import fields

DOCSTRING = """a_l = e·B_l.

    B_l is (C, d). Ours: no section, since it begins no line.

    Ours: one
    deviation.
    Sources: Someone 2020, arXiv:2001.00001;
    another.

    Accuracy is that of the readout.
    """


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
    assert null or "year" in fields(component.name, shown.summary, shown.source)


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


def test_no_code_gives_no_more_than_the_table() -> None:
    assert card(Component("own", "no.such.module:Rule", "a rule", "Me 2026")).entries()[0] == (
        "source",
        "Me 2026",
    )
