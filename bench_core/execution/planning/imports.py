"""Find the modules that a module imports, without importing any.

Statements count wherever they stand, except in blocks for type checkers. So do calls of the
functions that import a module by its name, also under other names of theirs, where the name is
made of texts, of constants of the module and of its package.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from bench_core.execution.planning.syntax import Stripped
from bench_core.registry.modules import contents, find, place
from bench_core.registry.ownership import Installation, installer

IMPORTERS = {  # function → its parameters
    "import_module": ("name", "package"),
    "__import__": ("name", "globals", "locals", "fromlist", "level"),
    "resolve_name": ("name", "package"),
    "run_module": ("mod_name",),
}
_TOP = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([^\W\d]\w*)", re.MULTILINE)


def imported(module: str, path: Path) -> Iterator[str]:
    """Yield names that may be modules imported by `module`."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(contents(module, path), module, package):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            # `import a.b` binds `a`
            yield from (a.name.partition(".")[0] for a in node.names if a.asname is None)
            continue
        base = _absolute("." * node.level + (node.module or ""), package)
        modules = {name: place(name) for name in (f"{base}.{a.name}" for a in node.names)}
        yield from modules
        if None in modules.values():  # a name of the package itself, so its __init__ counts
            yield base


@lru_cache  # every component of a plan asks
def of_library(library: Installation, _code: str) -> frozenset[str]:
    """Return the modules that the files of a distribution, whose code has a digest, import.

    From distributions that it requires, from editable installations and from folders; a package
    that it uses only if it happens to be installed is none of these.
    """
    names, open_tops, closed = set[str](), set[str](), set(sys.stdlib_module_names)
    for module, path in library.modules():
        tops = {top.decode("utf-8", "replace") for top in _TOP.findall(path.read_bytes())}
        for top in tops - open_tops - closed:
            file = place(top)
            owner = None if file is None else installer(file)
            if owner is not None and owner.name in library.requires:
                names.add(top)
            is_open = owner is None and find(top) is not None
            (open_tops if is_open else closed).add(top)
        if tops & open_tops:
            every = set(imported(module, path))
            names |= {name for name in every if name.partition(".")[0] in open_tops}
    return frozenset(names)


def _statements(source: bytes, module: str, package: str) -> list[ast.Import | ast.ImportFrom]:
    try:
        nodes = list(ast.walk(Stripped().visit(ast.parse(source))))
    except (SyntaxError, ValueError, RecursionError):
        return []  # the process that imports the module reports that
    calls = _Calls(nodes, module, package)
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)] + [
        statement for node in nodes if (statement := calls.statement(node)) is not None
    ]


def _absolute(name: str, package: str) -> str:
    """Return the absolute name of a module with leading dots."""
    path = name.lstrip(".")
    parents = package.split(".")
    above = len(name) - len(path) - 1
    return ".".join(filter(None, [*parents[: len(parents) - above], path])) if above >= 0 else path


class _Calls:
    """Read the calls of a module that import other modules."""

    def __init__(self, nodes: list[ast.AST], module: str, package: str) -> None:
        self.package = package
        self.texts = {"__package__": package, "__name__": module}
        self.functions = {name: name for name in IMPORTERS}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                self.functions |= {a.asname: a.name for a in node.names if a.asname}
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(getattr(target, "id", ""), node.value)

    def _assign(self, name: str, value: ast.expr) -> None:
        if (text := self.text(value)) is not None:
            self.texts[name] = text
        elif (function := self.function(value)) is not None:
            self.functions[name] = function

    def function(self, node: ast.AST) -> str | None:
        """Return the name of the importing function that an expression is."""
        name = getattr(node, "attr", None) or self.functions.get(getattr(node, "id", ""))
        return name if name in IMPORTERS else None

    def text(self, node: ast.AST | None) -> str | None:
        """Return the text of an expression; None if it is computed from anything else."""
        if isinstance(node, ast.Name):
            return self.texts.get(node.id)
        if isinstance(node, ast.FormattedValue):
            return self.text(node.value)
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else []
        parts = node.values if isinstance(node, ast.JoinedStr) else parts
        if parts:
            texts = [self.text(part) for part in parts]
            return None if None in texts else "".join(filter(None, texts))
        value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        return value if isinstance(value, str) else None

    def statement(self, node: ast.AST) -> ast.Import | ast.ImportFrom | None:
        """Return the import that a call stands for; None for any other expression."""
        function = self.function(node.func) if isinstance(node, ast.Call) else None
        if function is None or not isinstance(node, ast.Call):
            return None
        given = dict(zip(IMPORTERS[function], node.args, strict=False))
        given |= {word.arg: word.value for word in node.keywords if word.arg}
        name = self.text(given.get(IMPORTERS[function][0]))
        if not name:
            return None
        level = getattr(given.get("level"), "value", 0)
        package = self.text(given.get("package")) or self.package
        path = _absolute("." * level + name.replace(":", "."), package)
        listed = getattr(given.get("fromlist"), "elts", [])
        attributes = [text for item in listed if (text := self.text(item))]
        if function == "resolve_name":
            path, _, last = path.rpartition(".") if "." in path else (path, "", "")
            attributes = [last] if last else []
        if attributes:
            return ast.ImportFrom(path, [ast.alias(text) for text in attributes], 0)
        return ast.Import([ast.alias(path)])
