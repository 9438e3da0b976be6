"""Take learning rules from Python files: `bench run SUITE --method ./my_rule.py`.

A suite names such a file by its path from the suite's folder: `methods: [dfa, ./my_rule.py]`. A
rule file defines one class derived from `LocalMethod` or `Method`, or has a hook
`bench_methods()`. Its folder joins the import path, behind all others, so the processes that
need the rule import the file as a module, and the identity of a cell covers its code as that of a
plugin. In suites, records and messages the rule is called `my_rule.py/my_rule`: the name of the
file stands where an installed rule has its distribution.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.names import FILE, NAME, distribution_of
from bench_core.registry import plugins
from bench_core.registry.modules import place
from bench_core.registry.registry import Installed, Registry
from bench_core.suite.component import split_options
from bench_core.suite.load import RulesOf, load_suite
from bench_core.suite.model import Suite

# file, rule of a file with several, options
_TEXT = re.compile(rf"\s*([^\[\]]*{re.escape(FILE)})(?:/([^/\[\]\s]*))?\s*(\[.*)?", re.DOTALL)


def load(texts: Iterable[str]) -> tuple[Registry, list[str]]:
    """Load the plugins and the rule files among `texts`; return full names in the files' places.

    texts  components as on the command line: NAME, FILE.py or FILE.py/RULE, each with
           [option=value] or without
    Raises UsageError for a file that cannot be taken.
    """
    parts = [(text, _file_in(text)) for text in texts]
    for text, match in parts:
        several = split_options(text)
        if match and len(several) > 1 and not Path(os.path.expanduser(match[1])).is_file():
            again = " ".join(f"--method {name.strip()}" for name in several)
            raise UsageError(f"--method {text}: names several rules; write {again}")
    paths = {match[1]: on_path(match[1]) for _, match in parts if match}
    registry = plugins.load(files=paths.values())
    named: list[str] = []
    for text, match in parts:
        if match is None:
            named.append(text)
        else:
            file, wanted, options = match.groups()
            rules = rules_of(paths[file], registry, file)
            own = [item for item in rules if wanted in (None, item.component.name)]
            if not own:
                known = " or ".join(f"{file}/{item.component.name}" for item in rules)
                raise UsageError(f"{file}: brings no rule {wanted!r}; write {known}")
            named += [f"{item.full_name}{options or ''}" for item in own]
    return registry, named


def _file_in(text: str) -> re.Match[str] | None:
    """Find the rule file that a text names; None for a name, such as `my_rules.py/one`, which is
    that of a rule whose file is on the import path.
    """
    match = _TEXT.fullmatch(text)
    is_name = match is not None and match[2] is not None and os.sep not in match[1]
    return None if match and is_name and not Path(match[1]).is_file() else match


def with_suite(
    source: str | Path, overrides: Sequence[str], methods: Iterable[str], **short: Any
) -> tuple[Suite, Registry]:
    """Load a suite, as `load_suite`, the plugins, and the rule files that suite or options name."""
    registry, named = load(methods)
    suite = load_suite(source, overrides, methods=named, rules_of=taken_into(registry), **short)
    add(registry, (method.name for method in suite.methods))
    return suite, registry


def taken_into(registry: Registry) -> RulesOf:
    """Return the `rules_of` of `load_suite`, which takes the rules of a file into a registry."""

    def rules_of_file(file: Path, _: str | None) -> list[str]:
        shown = os.path.relpath(file)
        name = on_path(str(file), shown)
        if name not in {item.distribution for item in registry.components}:
            registry.add(plugins.load(only=[name]))
        return [item.full_name for item in rules_of(name, registry, shown)]

    return rules_of_file


def on_path(file: str, shown: str = "") -> str:
    """Let the processes of this command import a rule file; return its name. Raises UsageError.

    shown  the path in messages, if not `file`
    """
    path, file = Path(os.path.expanduser(file)).absolute(), shown or file
    if not path.is_file():
        raise UsageError(f"{file}: no such file")
    if not (path.stem.isidentifier() and re.fullmatch(NAME, path.stem)):
        rule = "its name has 1 to 64 of a-z, 0-9 and _, a letter first, a letter or digit last"
        raise UsageError(f"{file}: {rule}; rename it")
    importlib.invalidate_caches()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    other = place(path.stem)
    if other is None or not other.exists() or not other.samefile(path):
        raise UsageError(f"{file}: Python has another module {path.stem}, {other}; rename the file")
    return path.name


def importable(methods: Iterable[str]) -> set[str]:
    """Return the names of the rule files of these methods that lie on the import path."""
    files = {distribution_of(name) for name in methods}
    stems = {file: place(file.removesuffix(FILE)) for file in files if file.endswith(FILE)}
    return {file for file, path in stems.items() if path is not None and path.name == file}


def add(registry: Registry, methods: Iterable[str]) -> None:
    """Load the rule files on the import path that bring these methods, as a suite names them."""
    if files := importable(methods) - {item.distribution for item in registry.components}:
        registry.add(plugins.load(only=files))


def rules_of(name: str, registry: Registry, file: str) -> list[Installed]:
    """Return the rules that a rule file brought. Raises UsageError with its faults."""
    rules = [item for item in registry.of_kind("method") if item.distribution == name]
    if not rules:
        faults = [trouble.reason for trouble in registry.troubles if trouble.distribution == name]
        raise UsageError(
            f"{file}: {'; '.join(dict.fromkeys(faults)) or 'it brings no learning rule'}"
        )
    return rules
