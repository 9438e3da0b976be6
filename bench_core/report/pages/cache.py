"""Keep the parts that all pages share, and recognise a page that already shows its results.

The folder is `$XDG_CACHE_HOME/bench` (`~/.cache/bench`). Without it everything is made again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import bench_core
from bench_core.errors import StoreError
from bench_core.names import FILE, distribution_of
from bench_core.registry import entry_points
from bench_core.registry.modules import place
from bench_core.results import author, files, reference, suite_folder
from bench_core.results.hashing import canonical
from bench_core.results.suite_json import SuiteJson

_MARK = re.compile(rb'<meta name="bench-results" content="([0-9a-f]{32})">')
CODE = (".py", ".j2", ".js", ".css", ".bib")
_OURS = re.compile(rb'<meta name="(generator" content="bench"|bench-results" content=)')
_HEAD = 1 << 12  # bytes of a page that may hold the mark


def folder() -> Path | None:
    """Return the folder of this user's caches, made if it is missing; None if it cannot be."""
    with suppress(OSError, RuntimeError):
        home = os.environ.get("XDG_CACHE_HOME", "")
        path = (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "bench"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path
    return None


def kept(name: str, make: Callable[[], str]) -> str:
    """Return a text of the cache; make and keep it if it is not there."""
    home = folder()
    path = home / name if home else None
    with suppress(OSError, UnicodeError):
        if path:
            return path.read_text(encoding="utf-8")
    text = make()
    with suppress(OSError, StoreError):
        if path:
            files.replace_file(path, text)
    return text


def mark(results: Iterable[Path]) -> str:
    """Compute the mark of a page of these folders: a seal of the results and of the code.

    "" if this user has no key: a page that came with received results has no mark of this user.
    """
    contents = [line for path in results for line in _contents(path.absolute())]
    rules = {name for _, own in contents if isinstance(own, dict) for name in _rules(own)}
    code = list(_code({"bench_core", *rules, *_plugins()}))
    home = reference.folder()
    beside = [_stamp(home / reference.CELLS)] if home else []
    return author.seal(canonical([bench_core.__version__, code, beside, contents]))


def marked(page: Path) -> str:
    """Return the mark of a page; "" without one."""
    match = _MARK.search(_head(page))
    return match[1].decode() if match else ""


def is_foreign(file: Path) -> bool:
    """Decide whether a file has other content than a page of bench."""
    head = _head(file)
    return bool(head) and not _OURS.search(head)


def _head(file: Path) -> bytes:
    with suppress(OSError):
        if file.is_file():
            with file.open("rb") as opened:
                return opened.read(_HEAD)
    return b""


def _plugins() -> Iterator[str]:
    """Yield the top packages of the installed plugins: a page shows docstrings of their rules."""
    for point in entry_points.installed()[0]:
        yield point.module_name.partition(".")[0]


def _rules(suite: dict[str, Any]) -> Iterator[str]:
    """Yield the modules of the rule files that suite.json names."""
    for name in SuiteJson.readable(suite).defaults:
        if (file := distribution_of(name)).endswith(FILE):
            yield file.removesuffix(FILE)


def _code(modules: Iterable[str]) -> Iterator[list[Any]]:
    """Yield the stamps of the files of packages, and of modules that are no packages."""
    for module in sorted(modules):
        if (path := place(module)) is not None:
            paths = path.parent.rglob("*.*") if path.name == "__init__.py" else [path]
            yield from map(_stamp, sorted(file for file in paths if file.suffix in CODE))


def _stamp(path: Path) -> list[Any]:
    with suppress(OSError):
        status = path.lstat()
        return [str(path), [status.st_size, status.st_mtime_ns]]
    return [str(path), None]


def _contents(root: Path) -> Iterator[list[Any]]:
    """Yield what a page of a folder shows: its files by stamp, its suites by content."""
    yield [str(root), None]
    for path in sorted(root.rglob("*")):
        if path.name == suite_folder.SUITE:
            content = suite_folder.read(path.parent) or {}
            yield [str(path), {k: v for k, v in content.items() if k not in ("decisions", "used")}]
        elif path.suffix in (".json", ".jsonl"):
            yield _stamp(path)
