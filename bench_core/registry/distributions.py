"""Read the metadata of installed distributions: their names, versions and top-level packages."""

from __future__ import annotations

import contextlib
import re
from functools import cache
from importlib import metadata

from bench_core.names import FILE, OURS


def titled(distribution: str, version: str) -> str:
    """Return name and version of a distribution; for a rule file, which has none, its name."""
    return (
        f"the file {distribution}" if distribution.endswith(FILE) else f"{distribution} {version}"
    )


def packages_of(distribution: metadata.Distribution) -> set[str]:
    """Return the top-level packages and modules that a distribution installed."""
    tops = (distribution.read_text("top_level.txt") or "").split()
    tops = tops or [file.parts[0] for file in distribution.files or ()]
    return {top.removesuffix(".py") for top in tops}


def is_ours(distribution: metadata.Distribution) -> bool:
    """Decide whether a distribution named bench-core installed this module."""
    return __name__.partition(".")[0] in packages_of(distribution)


@cache
def our_packages() -> frozenset[str]:
    """Return the packages of our own distribution, with those of the built-in plugins."""
    packages = {__name__.partition(".")[0]}
    for distribution in metadata.distributions(name=OURS):
        with contextlib.suppress(Exception):
            if is_ours(distribution):
                packages |= packages_of(distribution)
    return frozenset(packages)


def name_and_version(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return the normalised name and the version of an entry point's distribution."""
    if point.dist is None:
        return "unknown", "0"
    about = point.dist.metadata
    name, version = (str(about[key]) if key in about else "" for key in ("Name", "Version"))
    return normalised(name or "unknown"), "".join(version.split()) or "0"


def normalised(distribution: str) -> str:
    """Return the normal spelling of a distribution's name."""
    return re.sub(r"[^a-z0-9]+", "-", distribution.lower())
