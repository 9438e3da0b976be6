"""`bench_core.run_suite` and `bench_core.load`: `bench run` and its results as Python functions.

from bench_core import run_suite
results = run_suite("quickstart", overrides={"training.epochs": 5})
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import Options
from bench_core.execution.planning.plan import make_plan
from bench_core.execution.runner import default_data_dir, run_plan
from bench_core.printable import plain
from bench_core.registry import rule_files
from bench_core.report import results_object
from bench_core.report.results_object import Results
from bench_core.results.reference import installed

__all__ = ["Results", "load", "run_suite"]
WANTED = {  # of an argument that may be one or several
    "methods": "the name or the file of a rule, or a list of them",
    "seeds": "a whole number, or a list of them",
    "overrides": "a text key.path=value, a list of them, or a mapping from key.path to the value",
}


def run_suite(
    source: str | Path,
    *,
    overrides: str | Sequence[str] | Mapping[str, Any] = (),
    methods: str | Path | Sequence[str | Path] | None = None,
    seeds: int | Sequence[int] | None = None,
    dataset: str | None = None,
    arch: str | None = None,
    epochs: int | None = None,
    device: str | None = None,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    workers: int | None = None,
    executor: str = "local",
    settings: Mapping[str, str] | None = None,
    retry_failed: bool = False,
    reference: bool = True,
    progress: bool | None = None,
) -> Results:
    """Run a suite (a path, or the name of an installed one) and return the results of its folder.

    Finished cells are reused. `methods`, `seeds`, `dataset`, `arch`, `epochs`, `device` and
    `executor` with its `settings` are those of the command line; one of several may stand alone,
    and None stands for those of the suite.

    overrides  texts `key.path=value`, or a mapping from `key.path` to the value
    reference  runs of the shipped reference stand for cells that have none here
    progress   show how far the cells are; None: in a notebook only
    Raises SuiteError, UsageError, DataError, PluginError before any training, StoreError if results
    cannot be written.
    """
    from bench_core.commands.options import WORKERS
    from bench_core.commands.progress import choose, in_notebook

    most = int(WORKERS.max or 1)
    if workers is not None and (type(workers) is not int or not 1 <= workers <= most):
        raise UsageError(f"workers is {workers!r}: give a number from 1 to {most}, or None")
    suite, registry = rule_files.with_suite(
        source if isinstance(source, str) else _path("source", source),
        _overrides(overrides),
        [str(each) for each in _chosen("methods", methods, str, os.PathLike)],
        seeds=_chosen("seeds", seeds, int),
        dataset=dataset,
        arch=arch,
        epochs=epochs,
        device=device,
    )
    folder = _path("data_dir", data_dir) if data_dir else default_data_dir()
    shipped = installed() if reference else None
    home = _path("results", results)
    plan = make_plan(suite, registry, home, folder, retry_failed, shipped)
    for line in plan.troubles:
        warnings.warn(line, stacklevel=2)
    shown = in_notebook() if progress is None else progress
    options = Options(slots=workers, settings=settings or {})
    records = run_plan(plan, registry, executor, options, choose if shown else None)
    return results_object.load([plan.folder], records)


def _path(name: str, value: Any) -> Path:
    """Return a path. Raises UsageError for a value that is no path."""
    if not isinstance(value, str | os.PathLike):
        what = "a list: give each as an argument of its own" if isinstance(value, list) else ""
        raise UsageError(f"{name} is {what or f'{value!r}: give a path or the name of a suite'}")
    if not str(value):
        raise UsageError(f"{name} is empty: give a path or the name of a suite")
    return Path(value).expanduser()


def _chosen(name: str, value: Any, *kinds: type) -> list[Any]:
    """Return a list of the chosen values, empty for None. Raises UsageError for an empty choice."""
    if value is None:
        return []
    if not (chosen := _several(name, value, *kinds)):
        raise UsageError(f"{name} is empty: give at least one, or None for those of the suite")
    return chosen


def _several(name: str, value: Any, *kinds: type) -> list[Any]:
    """Return a list of a value or of several. Raises UsageError for one of another type."""
    single = isinstance(value, str | os.PathLike) or not hasattr(value, "__iter__")
    values = [plain(each) for each in ([value] if single else value)]
    for each in values:
        if not isinstance(each, kinds):
            raise UsageError(f"{name} has {each!r}: give {WANTED[name]}")
    return values


def _overrides(given: Any) -> list[str]:
    """Return overrides as texts, as on the command line."""
    if not isinstance(given, Mapping):
        return _several("overrides", given, str)
    try:  # YAML reads JSON
        return [f"{key}={json.dumps(plain(value))}" for key, value in given.items()]
    except (TypeError, ValueError) as error:
        raise UsageError(f"overrides has a value that a suite cannot hold: {error}") from None


def load(*folders: str | Path) -> Results:
    """Load results folders or suite folders (default: `results`).

    The name of a suite stands for its folder in `results`, else for the shipped reference. A run
    that cannot be read is a warning. Raises UsageError for a folder that is not there.
    """
    from bench_core.commands.options import shown_folders

    return results_object.load(shown_folders(tuple(_path("folder", folder) for folder in folders)))
