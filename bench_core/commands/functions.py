"""`bench_core.run_suite` and `bench_core.load`: `bench run` and its results as Python functions.

from bench_core import run_suite
results = run_suite("quickstart", overrides=["training.epochs=5"])
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.execution.executors import Options
from bench_core.execution.plan import make_plan
from bench_core.execution.runner import default_data_dir, run_plan
from bench_core.registry import rule_files
from bench_core.report import loaded
from bench_core.report.loaded import Results
from bench_core.results.reference import installed

__all__ = ["Results", "load", "run_suite"]


def run_suite(
    source: str | Path,
    *,
    overrides: Sequence[str] = (),
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    workers: int | None = None,
    executor: str = "local",
    settings: Mapping[str, str] | None = None,
    retry_failed: bool = False,
    reference: bool = True,
    progress: bool | None = None,
    **short: Any,
) -> Results:
    """Run a suite (a path, or the name of an installed one) and return the results of its folder.

    Finished cells are reused. `short`: methods, seeds, dataset, arch, epochs, device, as on the
    command line; `executor` and its `settings` too.

    reference runs of the shipped reference stand for cells that have none here
    progress   show how far the cells are; None: in a notebook only
    Raises SuiteError, UsageError, DataError, PluginError before any training, StoreError if results
    cannot be written.
    """
    from bench_core.commands.progress import choose, in_notebook

    suite, registry = rule_files.with_suite(source, overrides, short.pop("methods", ()), **short)
    folder = Path(data_dir).expanduser() if data_dir else default_data_dir()
    shipped = installed() if reference else None
    home = Path(results).expanduser()
    plan = make_plan(suite, registry, home, folder, retry_failed, shipped)
    for line in plan.troubles:
        warnings.warn(line, stacklevel=2)
    shown = in_notebook() if progress is None else progress
    options = Options(slots=workers, settings=settings or {})
    records = run_plan(plan, registry, executor, options, choose if shown else None)
    return loaded.load([plan.folder], records)


def load(*folders: str | Path) -> Results:
    """Load results folders or suite folders (default: `results`).

    The name of a suite stands for its folder in `results`, else for the shipped reference. A run
    that cannot be read is a warning. Raises UsageError for a folder that is not there.
    """
    from bench_core.commands.options import shown_folders

    return loaded.load(shown_folders(tuple(Path(folder).expanduser() for folder in folders)))
