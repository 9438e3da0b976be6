"""Load a YAML file, with command-line options, as a validated `Suite`, or raise all its faults."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from bench_core.errors import SuiteError, UsageError, did_you_mean
from bench_core.names import FILE, bare_name
from bench_core.suite.cells import CORE_DEFAULTS, PARTS, hashable
from bench_core.suite.component import ComponentSpec, flow_text
from bench_core.suite.document import Document, KeyPath, printable
from bench_core.suite.messages import problems_of
from bench_core.suite.model import (
    AXES,
    Seeds,
    Suite,
)
from bench_core.suite.options import apply_options, list_at
from bench_core.suite.recipe import MAX_EPOCHS, RECIPE
from bench_core.suite.yaml_reader import MAX_BYTES, read_yaml, spaced

RulesOf = Callable[[Path, str | None], list[str]]


def installed_suites() -> list[str]:
    """List the names of the suites in the package `bench_suites`."""
    try:
        files = resources.files("bench_suites").iterdir()
    except ModuleNotFoundError:
        return []
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def title_of(name: str) -> str:
    """Read the title of an installed suite; "" if it has none."""
    text = (resources.files("bench_suites") / f"{name}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("title:")]
    return str(yaml.safe_load(lines[0])["title"]) if lines else ""


def load_suite(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
    arch: str | None = None,
    epochs: int | None = None,
    device: str | None = None,
    rules_of: RulesOf | None = None,
) -> Suite:
    """Load a suite file, or an installed suite by its bare name, and apply command-line options.

    overrides      texts `key.path=value`, applied last; list items as in `methods[0].penalty=0.01`
    methods        replace the suite's list: a name keeps the parameters of the suite's entries of
                   that name, `name[key=value,…]` is taken as it stands. Entries of `include` for
                   other methods are dropped
    seeds          replace the suite's, in `include` too
    dataset, arch  replace the component, in the same two forms
    epochs         sets `training.epochs` and drops a larger `stop_after`
    rules_of       gives the full names of the rules of a file, which `methods` may name by its path
                   from the suite's folder, and the one that is wanted; without it, such a path is a
                   fault

    Raises `SuiteError` with all faults, `UsageError` for a missing file.
    """
    file, data = _read(source)
    document = read_yaml(data, file)
    if not isinstance(document.value, dict):
        if document.value is None and not document.problems:
            document.report((), "the file is empty", "a suite needs at least name and methods")
        elif not document.broken:
            what, value = (
                "the top of a suite must be a mapping with name and methods",
                document.value,
            )
            document.report((), what, spaced(value) if isinstance(value, str) else "")
        raise SuiteError(document.problems)
    if rules_of is not None:
        _name_rules(document, Path(os.path.expanduser(source)).parent, rules_of, bool(methods))
    stated = None
    with contextlib.suppress(SuiteError):  # only options may make the file valid
        stated = _validate(copy.deepcopy(document))
    every, others = copy.deepcopy(document), (list(seeds), dataset, arch, epochs, device)
    apply_options(document, overrides, methods, *others)
    suite = _validate(document).from_file(stated=stated)
    if methods:
        with contextlib.suppress(SuiteError):  # the options may fit the chosen methods alone
            apply_options(every, overrides, (), *others)
            suite.from_file(whole=_validate(every))
    return suite


def _name_rules(document: Document, folder: Path, rules_of: RulesOf, chosen: bool) -> None:
    """Put the full name of its rule in the place of every rule file under `methods`, `include`.

    chosen  options choose the methods: an entry whose file cannot be taken is left out
    """
    for key in ("methods", "include"):
        kept, entries = [], list_at(document, key)
        for i, value in enumerate(entries):
            path: KeyPath = (key, i)
            if key == "include" and isinstance(value, dict):
                path, value = (*path, "method"), value.get("method")
            path = (*path, "name") if isinstance(value, dict) else path
            try:
                if path in document.values and path not in document.broken:
                    _name_rule(document, path, folder, rules_of)
            except UsageError as error:
                if chosen:
                    continue
                document.report(path, str(error))
                document.broken.add(path)
            kept.append(document.subtree((key, i)))
        if chosen and kept:
            document.put_list((key,), kept, document.values[(key,)])


def _name_rule(document: Document, path: KeyPath, folder: Path, rules_of: RulesOf) -> None:
    """Put the full name of its rule in the place of a rule file. Raises UsageError."""
    if (name := _rule_of(str(document.at(path)), folder, rules_of)) is not None:
        position = document.values[path]
        document.put(path, Document(document.file, name, {(): position}))


def _rule_of(text: str, folder: Path, rules_of: RulesOf) -> str | None:
    """Return the full name of the rule that a text names by its file; None for a name.

    A file with several rules is followed by the name of one: `./my_rules.py/one`.
    Raises UsageError.
    """
    match = re.fullmatch(rf"(.+{re.escape(FILE)})(?:/([^/]*))?", text)
    if match is None:
        return None
    written, wanted = match.groups()
    file = folder / os.path.expanduser(written)
    if wanted and "/" not in written and not file.is_file():
        return None  # the name of a rule whose file is on the import path
    rules = rules_of(file, wanted)
    own = [rule for rule in rules if bare_name(rule) == wanted or not wanted]
    if len(own) != 1:
        one = " or ".join(f"{written}/{bare_name(rule)}" for rule in rules)
        raise UsageError(f"{written}: write the one that you mean: {one}")
    return own[0]


def _read(source: str | Path) -> tuple[str, bytes]:
    """Return the file's name for messages and its bytes, at most one more than allowed."""
    path, shown = Path(os.path.expanduser(source)), printable(str(source), 300)
    names = installed_suites()
    try:
        if path.exists() and not path.is_dir():
            if path.suffix == FILE:
                rule = shown if os.sep in shown else f"./{shown}"
                hint = f"a rule from a file: `bench run quickstart --method {rule}`"
                raise UsageError(f"{shown}: is Python, not a suite file; {hint}")
            with path.open("rb") as file:
                return shown, file.read(MAX_BYTES + 1)
        if str(source) in names:
            with resources.files("bench_suites").joinpath(f"{source}.yaml").open("rb") as installed:
                return f"bench_suites/{source}.yaml", installed.read(MAX_BYTES + 1)
        if path.is_dir():
            raise UsageError(f"{shown}: is a folder, not a suite file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown}: cannot be read: {reason}") from None
    hint = did_you_mean(path.stem, names).replace("known:", "installed suites:")
    if path.suffix in (".yml", ".yaml"):
        with contextlib.suppress(OSError):  # a file beside it, such as mine.yaml for mine.yml
            beside = [each.name for each in path.parent.glob("*.y*ml")]
            if near := get_close_matches(path.name, beside, n=1, cutoff=0.8):
                hint = f"did you mean {path.with_name(near[0])}?"
    raise UsageError(f"{shown}: no such file or installed suite" + (f"; {hint}" if hint else ""))


def _validate(document: Document) -> Suite:
    suite = None
    _refuse_rule_options(document)
    try:
        suite = Suite.model_validate(document.value)
    except ValidationError as error:
        document.problems += problems_of(document, error, Suite, document.value)
    _check_cells(document)
    places = {(problem.file, problem.line, problem.column) for problem in document.problems}
    for path, position in document.values.items():
        value = document.at(path)
        known = (position.file, position.line, position.column) in places
        if isinstance(value, float) and not math.isfinite(value) and not known:
            document.report(path, f"must be a finite number, not {position.text or value}")
    if suite is not None and not document.problems:
        suite.from_file(document)
        suite.cells()  # combinations of values that are good one by one
        return suite
    problems = dict.fromkeys(document.problems)
    raise SuiteError(sorted(problems, key=lambda p: (p.line == 0, p.line, p.column)))


def _refuse_rule_options(document: Document) -> None:
    """Report options of a rule that stand beside the suite's keys, and take them out."""
    for key, value in list(_mapping(document.value).items()):
        path: KeyPath = (key,)
        if key == "method" and value and isinstance(value, dict) and "name" not in value:
            key, value = next(iter(value.items()))
            path = ("method", key)
        elif key not in CORE_DEFAULTS:
            continue
        written, given = flow_text({"name": "dfa", key: value}), flow_text(value)
        texts = (f"{written} in methods", f"--method 'dfa[{key}={given}]'")
        hint = "it is an option of a rule: write " + ", or ".join(texts)
        document.report(path, "unknown key", printable(hint, 200), at_key=True)
        document.drop(path[:1])


def _check_cells(document: Document) -> None:
    """Check dotted keys and their values, which the models leave open."""
    for key, values in _mapping(document.at(("matrix",))).items():
        if _check_key(document, ("matrix", key)) and isinstance(values, list):
            _check_axis(document, key, values)
    for i, entry in enumerate(list_at(document, "include")):
        for key, value in _mapping(entry).items():
            path: KeyPath = ("include", i, key)
            if key in ("method", "seeds") or _check_key(document, path):
                _check_value(document, path, key, value)
        if isinstance(entry, dict) and "method" not in entry:
            document.report(("include", i, "method"), "is missing")
    rules: list[KeyPath] = [("exclude", i) for i in range(len(list_at(document, "exclude")))]
    rules += [("expect", i, "cell") for i in range(len(list_at(document, "expect")))]
    for place in rules:
        for key, value in _mapping(document.at(place)).items():
            path = (*place, key)
            options = value if isinstance(value, list) else [value]
            if key in PARTS and not all(isinstance(option, str) for option in options):
                document.report(path, "must be a name or a list of names")
            elif key in PARTS and any("[" in option for option in options):
                beside = f"write its options beside it, as in `{key}.OPTION: VALUE`"
                document.report(path, "must be a name without options", beside)
            elif key != "method" and (key, place[0]) != ("seed", "exclude"):
                _check_key(document, path)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_axis(document: Document, key: str, values: list[Any]) -> None:
    earlier = set()
    for i, value in enumerate(values):
        path = ("matrix", key, i)
        _check_value(document, path, key, value)
        if isinstance(value, list):
            document.report(path, "must be a single value or a mapping, not a list")
        elif hashable(value) in earlier:
            document.report(path, "is listed twice")
        earlier.add(hashable(value))


def _check_key(document: Document, path: KeyPath) -> bool:
    """Check that a dotted key names a parameter of a component or a field of the recipe."""
    root, dot, rest = str(path[-1]).partition(".")
    hint = AXES
    if path[0] == "exclude" and root == "seeds":
        hint = "did you mean seed?"
    elif path[0] == "include" and root == "seed":
        hint = "did you mean seeds?"
    elif path[0] in ("exclude", "include") and root in CORE_DEFAULTS:
        hint = f"did you mean method.{root}?"
    elif root in ("seed", "seeds", "method", "methods") and root + dot != "method.":
        hint = f"list them under {root.removesuffix('s')}s, beside matrix"
    elif root in RECIPE and dot:
        known = set(RECIPE[root].model_fields)
        if rest in known:
            return True
        hint = did_you_mean(printable(rest), known)
    elif root in ("arch", "dataset") and not dot:
        return True
    elif root in PARTS and "" not in rest.split("."):
        if rest != "name":
            return True
        hint = "list them under methods" if root == "method" else f"use the key {root}"
    document.report(path, "unknown key", hint, at_key=True)
    return False


def _check_value(document: Document, path: KeyPath, key: str, value: Any) -> None:
    """Check the value of a dotted key by the same models as the body of the suite."""
    root, _, rest = key.partition(".")
    annotation = RECIPE.get(root) or _WHOLE.get(key)
    if annotation is None:  # a component's parameter, which the component checks
        return
    skip = 0
    if root in RECIPE:  # a field alone: the cells compare stop_after with epochs
        most = {"epochs": MAX_EPOCHS} if root == "training" else {}
        value, skip = {**most, rest: value}, 1
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        document.problems += problems_of(
            document, error, annotation, value, lambda below: path + below[skip:]
        )


_WHOLE: dict[str, Any] = {"seeds": Seeds, **dict.fromkeys(PARTS, ComponentSpec)}
