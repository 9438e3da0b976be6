"""Describe a component of an installed distribution, without torch and without its code."""

from __future__ import annotations

from dataclasses import dataclass

import pluggy

API_VERSION = (1, 0)

hookimpl = pluggy.HookimplMarker("bench_core")


@dataclass(frozen=True)
class Component:
    """A component of a distribution: strings only, so that listing it imports none of its code.

    name     snake_case, unique in its kind and distribution; the full name is `distribution/name`
    target   "package.module:Class"
    summary  one line for `bench list`
    cite     the source of the definition (free text, DOI or arXiv number)
    """

    name: str
    target: str
    summary: str = ""
    cite: str = ""
