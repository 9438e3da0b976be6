"""Compute the identity of a cell: a hash of everything that can change its numbers.

    BLAKE2b of the canonical JSON of {algorithm, resolved cell, digest of the code per distribution,
    data checksum}

The code of a cell is all of `bench_core.training`, and the modules of its method, architecture and
data set with all modules that these import from their own distribution, from the built-in plugins
and from no distribution (a checkout on the path). Their syntax trees are digested
(`bench_core.execution.syntax`), so an edited docstring changes no identity.

Not covered: code imported by a computed name, and data files inside a package. Device, versions and
environment are recorded beside the identity. Algorithm 1 digested the bytes of the files that the
training loop imported; 2 digests syntax trees.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from bench_core.execution.syntax import import_statements, syntax_digest
from bench_core.registry.distributions import normalised, our_packages, packages_of
from bench_core.results.hashing import digest

ALGORITHM = 2
CORE = "bench_core"
TRAINING = "bench_core.training"


def cell_identity(
    cell: dict[str, Any], code: dict[str, str], data_checksum: str, algorithm: int = ALGORITHM
) -> str:
    """Return the identity of a resolved cell; `code` maps a distribution to its code's digest."""
    return digest({"algorithm": algorithm, "cell": cell, "code": code, "data": data_checksum})


def code_files(modules: Collection[str], distribution: str = "") -> dict[str, str]:
    """Return module → digest of its syntax tree, for all code that decides a cell's numbers.

    modules       the modules of its components
    distribution  the distribution that brought them
    """
    files = training_modules()
    components, waiting = set(modules), list(modules)
    packages = (our_packages() - {CORE}) | {name.partition(".")[0] for name in components}
    while waiting:
        name = waiting.pop()
        package = name.partition(".")[0]
        counts = package in packages or _belongs(package, distribution)
        if name in files or not counts or (package == CORE and name not in components):
            continue
        path = source(name)
        if path is not None:
            files[name] = path
            waiting.extend(imported(name, path) if path.suffix == ".py" else ())
    return {
        name: _digest(path, path.stat().st_mtime_ns, path.stat().st_size)
        for name, path in sorted(files.items())
    }


@cache
def _digest(path: Path, modified: int, size: int) -> str:
    # cached, because every component of a plan asks for the training's modules
    return syntax_digest(path.read_bytes())


def training_modules() -> dict[str, Path]:
    """Return module → file, for every module of `bench_core.training`."""
    package = source(TRAINING)
    if package is None:
        raise FileNotFoundError(f"{TRAINING} has no source file: install bench-core from a wheel")
    files = {f"{TRAINING}.{path.stem}": path for path in package.parent.glob("*.py")}
    files[TRAINING] = files.pop(f"{TRAINING}.__init__")
    return files


def _belongs(package: str, distribution: str) -> bool:
    owners = _owners().get(package)
    return package not in sys.stdlib_module_names and (owners is None or distribution in owners)


@cache
def _owners() -> dict[str, set[str]]:
    """Return top-level package → distributions that installed it; skips unreadable metadata."""
    owners: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        with contextlib.suppress(Exception):
            name = normalised(distribution.metadata["Name"])
            for top in packages_of(distribution):
                owners.setdefault(top, set()).add(name)
    return owners


def source(module: str) -> Path | None:
    """Find the source file of a module without importing it; None for a name inside a module."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for depth, _ in enumerate(rest, 2):
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = ".".join([top, *rest][:depth])
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def imported(module: str, path: Path) -> Iterator[str]:
    """Yield names that may be modules imported by `module`."""
    parts = module.split(".") + ["__init__"] * (path.name == "__init__.py")
    for node in import_statements(path.read_bytes()):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        parents = parts[: -node.level] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        modules = {name: source(name) for name in (f"{base}.{a.name}" for a in node.names)}
        yield from modules
        if None in modules.values():  # a name of the package itself, so its __init__ counts
            yield base
