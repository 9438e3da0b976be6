"""The identity of a cell: a hash of everything that can change its numbers.

    BLAKE2b of the canonical JSON of {algorithm version, resolved cell, digest of the code per distribution, data checksum}

The code that took part is found by following imports: from the method's, the architecture's and the data set's module and from the
training loop, through every module of the distribution that they belong to, of ours, and of none (a checkout on the path).
So an edit of a plugin's helper changes the identity, and an edit of a table, a diagnostic or the command line does not. What
it cannot see is code that is imported by a computed name, and data files inside a package. Nothing is imported here that is not
yet. Device, versions and environment are recorded beside the identity.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from bench_core.plugins import normalised, our_packages, packages_of

ALGORITHM = 1
LOOP = "bench_core.train"


def digest(value: Any) -> str:
    """BLAKE2b, 32 hex digits, of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def cell_identity(cell: dict[str, Any], code: dict[str, str], data_checksum: str) -> str:
    """The identity of a resolved cell; `code` maps a distribution to the digest of its code."""
    return digest({"algorithm": ALGORITHM, "cell": cell, "code": code, "data": data_checksum})


def code_digest(modules: Iterable[str], distribution: str = "") -> str:
    """Digest of the source of `modules` and of all that they import from `distribution`, from ours and from no distribution."""
    return digest(code_files(modules, distribution))


def code_files(modules: Iterable[str], distribution: str = "") -> dict[str, str]:
    """Module → digest of its source, of all that `code_digest` counts."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    packages = our_packages() | {module.partition(".")[0] for module in waiting}
    while waiting:
        name = waiting.pop()
        package = name.partition(".")[0]
        if name in found or not (package in packages or _belongs(package, distribution)):
            continue
        path = source(name)
        if path is not None:
            found[name] = path
            waiting.extend(imported(name, path) if path.suffix == ".py" else ())
    return {name: blake2b(path.read_bytes(), digest_size=16).hexdigest() for name, path in sorted(found.items())}


def _belongs(package: str, distribution: str) -> bool:
    """Whether a top-level package is the distribution's, or nobody's."""
    owners = _owners().get(package)
    return package not in sys.stdlib_module_names and (owners is None or distribution in owners)


@cache
def _owners() -> dict[str, set[str]]:
    """Top-level package → the normalised names of the distributions that installed it; unreadable metadata is passed over."""
    owners: dict[str, set[str]] = {}
    for each in metadata.distributions():
        with contextlib.suppress(Exception):
            name = normalised(each.metadata["Name"])
            for top in packages_of(each):
                owners.setdefault(top, set()).add(name)
    return owners


def source(module: str) -> Path | None:
    """The source file of a module; None where it has none or is not a module but a name inside one. Imports nothing."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for depth, _ in enumerate(rest, 2):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(".".join([top, *rest][:depth]), list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def imported(module: str, path: Path) -> Iterator[str]:
    """Names that may be modules imported by `module`, also inside functions, but not for type checking only."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # whoever imports it will say so
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            modules = {name: source(name) for name in (f"{base}.{alias.name}" for alias in node.names)}
            yield from modules
            if None in modules.values():  # a name of the package itself; else its __init__, a table, takes no part
                yield base


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _walk(other)
            continue
        yield child
        yield from _walk(child)
