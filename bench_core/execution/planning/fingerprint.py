"""Compute the identity of a cell: a hash of everything that can change its numbers.

    BLAKE2b of the canonical JSON of {algorithm, resolved cell, digest of the code per distribution,
    data checksum}

The code of a cell is all of `bench_core.training`, and the modules of its method, architecture and
data set with all modules that these import: from their own distribution, from the built-in plugins,
from editable installations, archives and folders on the import path. Their syntax trees are
digested (`bench_core.execution.planning.syntax`), so an edited docstring changes no identity. The
packages around a plugin's module are imported before it, so they are digested too. Of every other
distribution that they import the version and the Python files count, and what these files import
from the distributions that it requires, from editable installations and from folders.

Not covered: code imported by a computed name, data files inside a package, and the files and
environment variables that a rule reads when it runs. Device, environment
and the versions of Python, torch and numpy are recorded beside the identity. Algorithm 1 digested
the bytes of the files that the training loop imported; 2 digests syntax trees.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.planning.imports import imported, of_library
from bench_core.execution.planning.syntax import syntax_digest
from bench_core.registry.distributions import our_packages
from bench_core.registry.modules import contents, unreadable
from bench_core.registry.modules import place as source
from bench_core.registry.ownership import installer, misplaced
from bench_core.results.hashing import digest

ALGORITHM = 2
CORE = "bench_core"
TRAINING = "bench_core.training"
RECORDED = ("torch", "numpy")  # `environment` of a run has their versions


def cell_identity(
    cell: dict[str, Any], code: dict[str, str], data_checksum: str, algorithm: int = ALGORITHM
) -> str:
    """Return the identity of a resolved cell; `code` maps a distribution to its code's digest."""
    return digest({"algorithm": algorithm, "cell": cell, "code": code, "data": data_checksum})


def code_files(modules: Collection[str], distribution: str = "") -> dict[str, str]:
    """Return module → digest of its syntax tree, for all code that decides a cell's numbers.

    modules       the modules of its components
    distribution  the distribution that brought them
    Other distributions that the modules import stand in it by their names.
    Raises UsageError for a module that cannot be read, or that is another distribution's.
    """
    digests = {name: _digest(name, path) for name, path in training_modules().items()}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in digests or (_is_left_out(name) and name not in modules):
            continue
        path = source(name)
        if path is None:
            if loader := unreadable(name):
                raise UsageError(f"{name} cannot be digested: {loader} shows no code of it")
            continue
        names = list(imported(name, path)) if path.suffix == ".py" else []
        if _is_ours(name):
            names = [each for each in names if _is_ours(each)]
        elif fault := misplaced(name, distribution):
            raise UsageError(f"{distribution}: {fault}")
        elif (by := installer(path)) is not None and by.name != distribution:
            if (key := f"distribution {by.name}") not in digests:
                digests[key] = by.code()
                waiting += of_library(by, digests[key])
            continue
        digests[name] = _digest(name, path)
        waiting += names
        if not _is_ours(name) and "." in name:  # its package is imported before it
            waiting.append(name.rpartition(".")[0])
    return dict(sorted(digests.items()))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in our_packages()


def _is_left_out(module: str) -> bool:
    package = module.partition(".")[0]
    return package in sys.stdlib_module_names or package in (CORE, *RECORDED)


def _digest(module: str, path: Path) -> str:
    if not path.is_file():
        return syntax_digest(contents(module, path))
    return _digest_of_file(path, path.stat().st_mtime_ns, path.stat().st_size)


@cache
def _digest_of_file(path: Path, modified: int, size: int) -> str:
    # cached, because every component of a plan asks for the training's modules
    return syntax_digest(path.read_bytes())


def training_modules() -> dict[str, Path]:
    """Return module → file, for every module of `bench_core.training`."""
    package = source(TRAINING)
    if package is None:
        raise FileNotFoundError(f"{TRAINING} has no source file: install bench-core from a wheel")
    files = {f"{TRAINING}.{path.stem}": path for path in package.parent.glob("*.py")}
    files[TRAINING] = files.pop(f"{TRAINING}.__init__")
    return files
