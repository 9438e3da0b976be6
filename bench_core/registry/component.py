"""Describe a component that an installed distribution brings; loads neither torch nor the component's code."""

from __future__ import annotations

from dataclasses import dataclass

import pluggy

API_VERSION = (1, 0)

hookimpl = pluggy.HookimplMarker("bench_core")


@dataclass(frozen=True)
class Component:
    """A component that a distribution brings: strings only, so that listing it costs no import of its code.

    name     snake_case, unique in its kind within the distribution; the full name is `distribution/name`
    target   "package.module:Class"
    summary  one line for `bench list`
    cite     where the definition comes from (free text, DOI or arXiv number)
    """

    name: str
    target: str
    summary: str = ""
    cite: str = ""
