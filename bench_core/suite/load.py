"""Load a YAML file, with command-line options, as a validated `Suite`.

Contract: `load_suite` returns a `Suite` in which every value has its type and range and whose
cells can be listed, or raises one `SuiteError` with all faults, each `file:line:col: key.path:
what; hint`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from bench_core.errors import Problem, SuiteError, UsageError, did_you_mean
from bench_core.suite.cells import frozen
from bench_core.suite.component import ComponentSpec
from bench_core.suite.messages import problems_of
from bench_core.suite.model import (
    AXES,
    MAX_CELLS,
    MAX_EPOCHS,
    DataOptions,
    Seeds,
    Suite,
    TrainingOptions,
    too_many,
)
from bench_core.suite.options import apply_options, list_at
from bench_core.suite.yaml_reader import MAX_BYTES, Document, KeyPath, printable, read_yaml


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
    line = next((line for line in text.splitlines() if line.startswith("title:")), "title: ''")
    return str(yaml.safe_load(line)["title"])


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
) -> Suite:
    """Load a suite file, or an installed suite by its bare name, and apply command-line options.

    overrides      texts `key.path=value`, applied last; list items as in `methods[0].penalty=0.01`
    methods        replace the suite's list: a name keeps the parameters of the suite's entries of
                   that name, `name[key=value,…]` is taken as it stands. Entries of `include` for
                   other methods are dropped
    seeds          replace the suite's, in `include` too
    dataset, arch  replace the component, in the same two forms
    epochs         sets `training.epochs` and drops a larger `stop_after`

    Raises `SuiteError` with all faults, `UsageError` for a missing file.
    """
    file, data = _read(source)
    document = read_yaml(data, file)
    if document.value is None and not document.problems:
        raise SuiteError(
            [document.problem((), "the file is empty", "a suite needs at least name and methods")]
        )
    if not isinstance(document.value, dict):
        what = "the top of a suite must be a mapping with name and methods"
        raise SuiteError(
            [*document.problems, *([] if document.broken else [document.problem((), what)])]
        )
    problems = list(document.problems)
    recipe = _recipe_of(document.value) if "expect" in document.value else None
    problems += apply_options(
        document,
        overrides,
        methods=methods,
        seeds=seeds,
        dataset=dataset,
        arch=arch,
        epochs=epochs,
        device=device,
    )
    suite = _validate(document, problems)
    suite._claimed_for = recipe
    return suite


def _recipe_of(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the recipe that the file's claims are made for; None if only options make it valid."""
    try:
        return Suite.model_validate(copy.deepcopy(value)).recipe()
    except ValidationError:
        return None


def _read(source: str | Path) -> tuple[str, bytes]:
    """Return the file's name for messages and its bytes, at most one more than allowed."""
    path, shown = Path(source), printable(str(source), 300)
    try:
        if path.exists() and not path.is_dir():
            with path.open("rb") as file:
                return shown, file.read(MAX_BYTES + 1)
        names = installed_suites()
        if str(source) in names:
            with resources.files("bench_suites").joinpath(f"{source}.yaml").open("rb") as installed:
                return f"bench_suites/{source}.yaml", installed.read(MAX_BYTES + 1)
        if path.is_dir():
            raise UsageError(f"{shown}: is a folder, not a suite file")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    hint = did_you_mean(path.stem, names).replace("known:", "installed suites:")
    raise UsageError(f"{shown}: no such file or installed suite" + (f"; {hint}" if hint else ""))


def _validate(document: Document, problems: list[Problem]) -> Suite:
    """Make all checks; `problems` are the faults known so far."""
    suite = None
    try:
        suite = Suite.model_validate(document.value)
    except ValidationError as error:
        problems += problems_of(document, error, Suite, document.value)
    problems += _check_cells(document)
    places = {(problem.file, problem.line, problem.column) for problem in problems}
    for path, position in document.values.items():
        value = (
            document.at(path)
            if (position.file, position.line, position.column) not in places
            else None
        )
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(
                document.problem(path, f"must be a finite number, not {position.text or value}")
            )
    if suite is not None and not problems:
        suite._document = document
        suite.cells()  # combinations of values that are good one by one
        return suite
    raise SuiteError(sorted(dict.fromkeys(problems), key=lambda p: (p.line == 0, p.line, p.column)))


def _check_cells(document: Document) -> list[Problem]:
    """Check dotted keys and their values, which the models leave open, and the number of cells."""
    problems: list[Problem] = []
    matrix = document.at(("matrix",))
    for key, values in matrix.items() if isinstance(matrix, dict) else ():
        path: KeyPath = ("matrix", key)
        if wrong := _check_key(document, path, key):
            problems.append(wrong)
            continue
        seen: set[Any] = set()
        for i, value in enumerate(values if isinstance(values, list) else ()):
            problems += _check_value(document, (*path, i), key, value)
            if isinstance(value, list):
                problems.append(
                    document.problem((*path, i), "must be a single value or a mapping, not a list")
                )
            elif frozen(value) in seen:
                problems.append(document.problem((*path, i), "is listed twice"))
            seen.add(frozen(value))
    for i, entry in enumerate(list_at(document, "include")):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            path = ("include", i, key)
            wrong = None if key in ("method", "seeds") else _check_key(document, path, key)
            problems += [wrong] if wrong else _check_value(document, path, key, value)
        if isinstance(entry, dict) and "method" not in entry:
            problems.append(document.problem(("include", i, "method"), "is missing"))
    rules: list[tuple[KeyPath, Any]] = [
        (("exclude", i), rule) for i, rule in enumerate(list_at(document, "exclude"))
    ]
    claims = enumerate(list_at(document, "expect"))
    rules += [
        (("expect", i, "cell"), claim.get("cell")) for i, claim in claims if isinstance(claim, dict)
    ]
    for place, rule in rules:
        for key, value in rule.items() if isinstance(rule, dict) else ():
            path = (*place, key)
            known = key == "method" or (key == "seed" and place[0] == "exclude")
            wrong = None if known else _check_key(document, path, key)
            options = value if isinstance(value, list) else [value]
            if (
                not wrong
                and key in ("method", "arch", "dataset")
                and not all(isinstance(o, str) for o in options)
            ):
                wrong = document.problem(path, "must be a name or a list of names")
            problems += [wrong] if wrong else []
    sizes = [
        len(list_at(document, "methods")),
        len(list_at(document, "seeds")) if document.at(("seeds",)) else 3,
    ]
    sizes += (
        [len(values) for values in matrix.values() if isinstance(values, list)]
        if isinstance(matrix, dict)
        else []
    )
    if (total := math.prod(sizes)) > MAX_CELLS:
        problems.append(too_many(document, total))
    return problems


def _check_key(document: Document, path: KeyPath, key: str) -> Problem | None:
    """Check that a dotted key names a parameter of a component or a field of the recipe."""
    root, dot, rest = key.partition(".")
    hint = AXES
    if root in ("seed", "seeds", "method", "methods") and root + dot != "method.":
        hint = f"list them under {root.removesuffix('s')}s, beside matrix"
    elif root in _RECIPE and dot:
        known = set(_RECIPE[root].model_fields)
        if rest in known:
            return None
        return document.problem(
            path, "unknown key", did_you_mean(printable(rest), known), at_key=True
        )
    elif root in ("arch", "dataset") and not dot:
        return None
    elif root in ("method", "arch", "dataset") and "" not in rest.split("."):
        if rest != "name":
            return None
        hint = "list them under methods" if root == "method" else f"use the key {root}"
    return document.problem(path, "unknown key", hint, at_key=True)


def _check_value(document: Document, path: KeyPath, key: str, value: Any) -> list[Problem]:
    """Check the value of a dotted key by the same models as the body of the suite."""
    root, _, rest = key.partition(".")
    annotation = _RECIPE.get(root) or _WHOLE.get(key)
    if annotation is None:  # a component's parameter, which the component checks
        return []
    skip = 0
    if root in _RECIPE:  # a field alone: the cells compare stop_after with epochs
        most = {"epochs": MAX_EPOCHS} if root == "training" else {}
        value, skip = {**most, rest: value}, 1
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return problems_of(document, error, annotation, value, lambda below: path + below[skip:])
    return []


_RECIPE: dict[str, type[BaseModel]] = {"training": TrainingOptions, "data": DataOptions}
_WHOLE: dict[str, Any] = {
    "seeds": Seeds,
    **dict.fromkeys(("method", "arch", "dataset"), ComponentSpec),
}
