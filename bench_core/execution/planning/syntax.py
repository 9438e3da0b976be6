"""Digest the part of a Python module that can change numbers: its syntax tree without words.

Left out are comments, formatting, docstrings, annotations, the order of imports, blocks for type
checkers, and texts for people:

    the arguments of `raise`, `print`, `warn` and of a logger's methods; the message of `assert`;
    the keywords description, title, summary and cite; the texts that `unsupported` returns

In the body of a class an annotation goes, but the annotated name stays, because it may be a field
of a dataclass or of a pydantic model. The values that pydantic makes of an annotation stand in the
resolved parameters of a cell.
The digest is the same in every version of Python that this package supports.
"""

from __future__ import annotations

import ast
from typing import Any

from bench_core.results.hashing import digest_bytes

_PRINTING = {"print", "warn"}
_LOGGERS = {"log", "logger", "logging", "warnings", "_log", "_logger"}
_LOGGING = {"warn", "debug", "info", "warning", "error", "exception", "critical"}
_PROSE = {"description", "title", "summary", "cite"}
_TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
_MARKERS = ("ClassVar", "InitVar", "KW_ONLY")  # annotations that change what a dataclass does
_FIELD = 2  # `simple` of an annotated name in the body of a class; Python itself has 0 and 1
_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores", "returns"}


def syntax_digest(source: bytes) -> str:
    """Return the BLAKE2b, 32 hex digits, of a module; of its bytes if they are no Python."""
    try:
        text = "".join(_parts(Stripped().visit(ast.parse(source))))
    except (SyntaxError, ValueError, RecursionError):
        return digest_bytes(source)
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


class Stripped(ast.NodeTransformer):
    """Remove the parts of a syntax tree that cannot change numbers."""

    def visit(self, node: ast.AST) -> Any:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, _statements(block))
        return super().visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        self.generic_visit(node)
        node.msg = None
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        function, owner = node.func, getattr(node.func, "value", None)
        logs = getattr(owner, "id", None) in _LOGGERS  # `net.loss.error(…)` computes
        if getattr(function, "id", None) in _PRINTING or (
            logs and getattr(function, "attr", None) in _LOGGING
        ):
            node.args = []
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _PROSE]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                marked = [name for name in _MARKERS if name in ast.unparse(field.annotation)]
                field.annotation, field.simple = ast.Name("+".join(marked)), _FIELD
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        if node.simple == _FIELD:
            return node
        return None if node.value is None else ast.Assign([node.target], node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name == "unsupported":
            for child in ast.walk(node):
                if isinstance(child, ast.Return):
                    _Wordless().visit(child)
        return self.generic_visit(node)


class _Wordless(ast.NodeTransformer):
    """Empty the texts of an expression."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Constant("") if isinstance(node.value, str) else node


def _statements(block: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements that run, sorted imports first; of `if TYPE_CHECKING` its else."""
    running: list[ast.stmt] = []
    for statement in block:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in _TYPE_CHECKING:
            running += _statements(statement.orelse)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            running.append(statement)
    imports = [node for node in running if isinstance(node, ast.Import | ast.ImportFrom)]
    single = {"".join(_parts(one)): one for node in imports for one in _one_by_one(node)}
    rest = [node for node in running if not isinstance(node, ast.Import | ast.ImportFrom)]
    return [single[key] for key in sorted(single)] + rest


def _one_by_one(node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
    """Split `from m import a, b` into two statements; drop `from __future__`."""
    if isinstance(node, ast.Import):
        return [ast.Import([name]) for name in node.names]
    if node.module == "__future__":
        return []
    return [ast.ImportFrom(node.module, [name], node.level) for name in node.names]


def _parts(value: Any) -> list[str]:
    """Write a tree as text without empty fields, which differ between versions of Python."""
    if isinstance(value, list):
        return ["[", *(part for item in value for part in _parts(item)), "]"]
    if not isinstance(value, ast.AST):
        return [f"{type(value).__name__}:{value!r};"]
    parts = [type(value).__name__, "("]
    for field in value._fields:
        item = getattr(value, field, None)
        ignored = field in _IGNORED_FIELDS or (field == "annotation" and isinstance(value, ast.arg))
        if item is not None and item != [] and not ignored:
            parts += [field, "=", *_parts(item)]
    return [*parts, ")"]
