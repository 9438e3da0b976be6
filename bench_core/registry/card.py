"""Read the card of a component from the docstring of its class, without importing the class.

A card is the docstring, split at its named sections. A section begins a line with its name and a
colon, and ends at an empty line or at the next section:

    Source: where the definition comes from
    Ours: how the component deviates from its source
    Verified: the laws that were tested, and how
    Selected on: the images on which the source chose its epoch

The other paragraphs are the definition: equations, shapes and units.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import TYPE_CHECKING

from bench_core.registry.bibliography import numbers, works
from bench_core.registry.modules import contents, place

if TYPE_CHECKING:
    from bench_core.registry.hookspecs import Component

SECTIONS = {  # heading in a docstring → field of a card
    "Source": "source",
    "Ours": "deviations",
    "Verified": "verified",
    "Selected on": "selected_on",
}
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)})s?:", re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """The description of a component for a reader; a text that the author left out is empty.

    summary      one line
    definition   equations, shapes and units
    source       the works that define the component; `Component.cite` goes before the docstring
    works        BibTeX of these works by key, from the `references.bib` of the package
    deviations   differences from the source
    verified     the laws that were tested, and how
    selected_on  the images on which the source chose its epoch
    """

    summary: str = ""
    definition: str = ""
    source: str = ""
    works: dict[str, str] = field(default_factory=dict)
    deviations: str = ""
    verified: str = ""
    selected_on: str = ""

    def entries(self) -> list[tuple[str, str]]:
        """Return the title and text of every section that a learning rule should have."""
        return [
            ("source", self.source or "not stated"),
            ("deviations from the source", self.deviations or "none stated"),
            ("verified", self.verified or "not stated"),
            ("the source chose its epoch on", self.selected_on or "not known"),
        ]


def card(component: Component) -> Card:
    """Return the card of a component; without code to read it has its summary and source alone."""
    sections = split(_docstring(component.target))
    source = component.cite or sections.pop("source", "").removesuffix(".")
    found = works(source, component.target.partition(":")[0])
    return Card(component.summary, works=found, **sections | {"source": source})


def other_source(component: Component) -> str:
    """Return the docstring's source if `cite` names another work than it; "" if it does not.

    Works are compared by arXiv numbers and DOIs. If one of the texts has none, it must stand in the
    other text or contain it.
    """
    cite, source = component.cite, split(_docstring(component.target)).get("source", "")
    source = source.removesuffix(".")
    if numbers(cite) and numbers(source):
        return "" if numbers(cite) <= numbers(source) else source
    return "" if cite.removesuffix(".") in source or source in cite else source


def split(docstring: str) -> dict[str, str]:
    """Return the texts of a docstring by field of a card."""
    definition: list[str] = []
    texts: dict[str, str] = {}
    for paragraph in cleandoc(docstring).split("\n\n"):
        text, *named = _SECTION.split(paragraph)
        definition += [text.rstrip()] if text.strip() else []
        for name, body in zip(named[::2], named[1::2], strict=True):
            texts[SECTIONS[name]] = " ".join(body.split())
    return {"definition": "\n\n".join(definition), **texts}


def _docstring(target: str) -> str:
    """Return the docstring of the class `package.module:Class`, of a function after its module's.

    It is empty if no code shows one.
    """
    module, _, name = target.partition(":")
    path = place(module)
    try:
        tree = ast.parse(contents(module, path)) if path is not None else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ast.get_docstring(node, clean=False) or ""
        if isinstance(node, ast.FunctionDef) and node.name == name:
            texts = (ast.get_docstring(each) for each in (tree, node))
            return "\n\n".join(filter(None, texts))
    return ""
