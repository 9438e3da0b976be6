"""Write a complete plugin package (`bench new`): a copy of an example; or a suite file.

`bench_examples` holds `bench-drtp`, the package of a learning rule. Its folder `parts` holds the
files that an architecture, a data set or a diagnostic has instead. A copy differs from the tested
example in its names, and in its table of components: the line about the component is its author's.
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bench_core.errors import UsageError
from bench_core.names import NAME, NAME_RULE
from bench_core.registry.distributions import our_packages
from bench_core.registry.hookspecs import API_VERSION
from bench_core.registry.modules import find
from bench_core.suite.load import installed_suites

EXAMPLES = "bench_examples"
SOURCE, OWN = "bench-drtp", "drtp"
BUILT = ("__pycache__", "build", ".pytest_cache")
# kind → (description, module and class in the example)
KINDS = {
    "method": ("learning rule", "rule", "RandomTargetProjection"),
    "arch": ("architecture", "net", "TanhNet"),
    "dataset": ("data set", "data", "Blobs"),
    "diagnostic": ("diagnostic", "measure", "SignAgreement"),
}

NEW = (*KINDS, "suite")
SUITE = """\
# Every method on the data set, for each seed, with its floors: `bench plan FILE` lists the cells.
name: {name}
title: A suite of my own
methods: [bp, dfa]  # names; a rule with options: {{name: dfa, penalty: 0.01}}
arch: {{name: resmlp, width: 64, depth: 4}}
dataset: digits
seeds: [1, 2, 3]
training:
  epochs: 4
  batch_size: 32
# matrix: {{arch.depth: [2, 4, 8]}}  # further axes
"""

TO_WRITE = "(write here in one line what it does)"
TABLE = '''\
"""The table of components of this package.

Many `bench` commands read it, so it imports nothing heavy.
"""

from bench_core.api import Component, hookimpl

BENCH_API = {version}  # the version of the plugin interface


@hookimpl
def bench_{kind}s() -> list[Component]:
    return [
        Component(
            "{name}",
            "bench_{word}.{module}:{target}",
            {summary},
        )
    ]
'''
TESTS = '''\
"""The conformance checks of bench. Add tests of the rule's mathematics."""

from bench_core.testing import conformance


@conformance("{name}")
def test_conformance(check):
    check()
'''


@dataclass(frozen=True)
class Rule:
    """A learning rule of one file: its path and text, the class, and a line about it."""

    path: Path
    text: str
    target: str
    summary: str


def suite(name: str, home: Path) -> tuple[Path, str]:
    """Return the path and the text of a suite file. Raises UsageError for an unusable name."""
    name = name.removesuffix(".yaml")
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!a} is no name of a suite ({NAME_RULE})")
    if name in installed_suites():
        raise UsageError(f"a suite {name!r} is installed already; choose another name")
    path = home / f"{name}.yaml"
    if not home.is_dir():
        raise UsageError(f"{home} is no folder; make it first")
    return path, SUITE.format(name=name)


def new(kind: str, name: str, home: Path, taken: set[str], rule: Rule | None = None) -> Path:
    """Write the package `bench-NAME` into the folder `home` and return its path.

    taken  names of the installed components of this kind
    rule   the learning rule of the package; default: that of the example
    Raises UsageError for an unusable name or an existing folder; then nothing is written.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!a} is no component name ({NAME_RULE})")
    if name in taken:
        raise UsageError(f"a {kind} {name!r} is installed already; choose another name")
    word = re.sub(r"[^a-z0-9]", "_", name)
    if keyword.iskeyword(word):
        raise UsageError(f"{name!r} is a keyword of Python; choose another name")
    if not word[0].isalpha():
        raise UsageError(f"{name!r} makes no name of a Python class; begin with a letter")
    other = find(f"bench_{word}")  # the file of the rule itself may have the name of the package
    if other is not None and (rule is None or other.origin != str(rule.path)):
        raise UsageError(f"a module bench_{word} is installed already; choose another name")
    place = home / f"bench-{word.replace('_', '-')}"
    if os.path.lexists(place):
        remedy = "remove it, choose another name, or say --into FOLDER"
        raise UsageError(f"{place} is there already; {remedy}")
    if not home.is_dir():
        raise UsageError(f"{home} is no folder; make it first")
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".bench-new-") as temporary:
            package = Path(temporary) / place.name
            for path, text in files(kind, name, word, rule).items():
                (package / path).parent.mkdir(parents=True, exist_ok=True)
                (package / path).write_text(text, encoding="utf-8")
            shutil.move(package, place)
    except OSError as error:
        raise UsageError(f"{place} cannot be written: {error.strerror or error}") from None
    return place


def module(kind: str, name: str) -> str:
    """Return the path, inside the package, of the file that its author edits."""
    return f"{_package(name)}/{KINDS[kind][1]}.py"


def table(name: str) -> str:
    """Return the path, inside the package, of its table of components."""
    return f"{_package(name)}/__init__.py"


def _package(name: str) -> str:
    return f"bench_{re.sub(r'[^a-z0-9]', '_', name)}"


def command(kind: str, name: str) -> str:
    """Return the command that tries a component."""
    if kind == "diagnostic":
        return f"bench audit results/quickstart --diagnostic {name}"
    return f"bench run quickstart --{kind} {name} --seed 42"


def files(kind: str, name: str, word: str, rule: Rule | None = None) -> dict[str, str]:
    """Return path inside the package → text. Raises UsageError without the examples."""
    try:
        root = Path(str(resources.files(EXAMPLES)))
        texts = _read(root / SOURCE)
    except (ModuleNotFoundError, FileNotFoundError):
        raise UsageError(
            f"the examples are missing from this installation ({EXAMPLES}): install bench-core anew"
        ) from None
    if kind != "method":
        texts.pop("bench_drtp/rule.py")
        texts |= _read(root / "parts" / kind)
    description, file, class_name = KINDS[kind]
    renamed = "".join(part.capitalize() for part in word.split("_") if part)
    changes = {
        command("method", OWN): command(kind, OWN),
        KINDS["method"][0]: description,
        class_name: renamed,
        "bench-drtp": f"bench-{word.replace('_', '-')}",
        "bench_drtp": f"bench_{word}",
        "_drtp": f"_{word}",
        '"drtp"': f'"{name}"',
        "drtp = ": f"{word} = ",
    }

    def change(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return re.sub(r"\bdrtp\b", name, text)

    texts = {change(path): change(text) for path, text in texts.items()}
    texts["README.md"] = texts["README.md"].replace("/rule.py", f"/{file}.py")
    target, summary = renamed, TO_WRITE
    if rule is not None:
        target, summary = rule.target, rule.summary
        texts[module(kind, name)] = without_hook(rule.text)
        texts[f"tests/test_{word}.py"] = TESTS.format(name=name)
    texts[table(name)] = TABLE.format(
        kind=kind, name=name, word=word, module=file, target=target, summary=repr(summary),
        version=API_VERSION,
    )  # fmt: skip
    return texts


def neighbours(text: str, file: Path) -> list[str]:
    """List the modules that the code of a file imports from its own folder.

    The packages of bench are none: every environment has them, and a checkout has their folders.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    places = {name: (file.with_name(f"{name}.py"), file.with_name(name)) for name in names}
    return sorted(
        name
        for name, (module, package) in places.items()
        if name not in (file.stem, *our_packages())
        and (module.is_file() or (package / "__init__.py").is_file())
    )


def without_hook(text: str) -> str:
    """Remove the hook `bench_methods` of a rule file, and the imports of `bench_core.api` for it.

    The table of the package has this hook.
    """
    body, lines = ast.parse(text).body, text.splitlines(keepends=True)
    hooks = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == "bench_methods"]
    spare = _names(hooks) - _names([node for node in body if node not in hooks])
    for node in reversed(body):
        first = node.lineno
        if isinstance(node, ast.FunctionDef) and node in hooks:
            first = min([first, *(decorator.lineno for decorator in node.decorator_list)])
            while first > 1 and not lines[first - 2].strip():
                first -= 1
            kept = ""
        elif isinstance(node, ast.ImportFrom) and node.module == "bench_core.api" and spare:
            names = [
                ast.unparse(each) for each in node.names if (each.asname or each.name) not in spare
            ]
            wide = node.end_lineno != first
            listed = "(\n    " + ",\n    ".join(names) + ",\n)" if wide else ", ".join(names)
            kept = f"from bench_core.api import {listed}\n" if names else ""
        else:
            continue
        lines[first - 1 : node.end_lineno] = [kept]
    return "".join(lines)


def _names(nodes: Sequence[ast.AST]) -> set[str]:
    """Return the names that occur in pieces of code."""
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _read(folder: Path) -> dict[str, str]:
    """Return path → text of every file in a folder of the examples, except built files."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): path.read_text(encoding="utf-8")
        for name, path in paths.items()
        if not any(part in BUILT or part.endswith((".egg-info", ".pyc")) for part in name.parts)
    }
