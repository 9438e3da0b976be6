"""The identity of a cell: a hash of everything that can change its numbers.

    BLAKE2b of the canonical JSON of {algorithm version, resolved cell, digest of the code per distribution, data checksum}

The code that took part is found by following imports: from the method's, the architecture's and the data set's module and from the
training loop, through every module of the distributions that they belong to. So an edit of a plugin's helper changes the
identity, and an edit of a table, a diagnostic or the command line does not. What it cannot see is code that is imported
by a computed name, and data files inside a package. Device, versions and environment are recorded beside the identity.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

ALGORITHM = 1
OUR_PACKAGES = frozenset({"bench_core", "bench_plugins"})
LOOP = "bench_core.train"


def digest(value: Any) -> str:
    """BLAKE2b, 32 hex digits, of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def cell_identity(cell: dict[str, Any], code: dict[str, str], data_checksum: str) -> str:
    """The identity of a resolved cell; `code` maps a distribution to the digest of its code."""
    return digest({"algorithm": ALGORITHM, "cell": cell, "code": code, "data": data_checksum})


def code_digest(modules: Iterable[str]) -> str:
    """Digest of the source of `modules` and of all that they import from their own distribution and from ours."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    packages = OUR_PACKAGES | {module.partition(".")[0] for module in waiting}
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in packages:
            continue
        path = source(name)
        if path is not None:
            found[name] = path
            waiting.extend(imported(name, path))
    return digest({name: blake2b(path.read_bytes(), digest_size=16).hexdigest() for name, path in found.items()})


def source(module: str) -> Path | None:
    """The source file of a module; None where it has none or is not a module but a name inside one."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def imported(module: str, path: Path) -> Iterator[str]:
    """Names that may be modules imported by `module`, also inside functions, but not for type checking only."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _walk(child)
