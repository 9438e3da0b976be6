"""Keep what every page has in common, and tell a page that already shows its results.

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
from bench_core.results import author, files, store
from bench_core.results.hashing import canonical

_MARK = re.compile(rb'<meta name="bench-results" content="([0-9a-f]{32})">')
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
    """Compute the mark of a page of these folders: a seal of the results and of this code.

    "" if this user has no key: a page that came with received results has no mark of this user.
    """
    seen = [list(_seen(path)) for path in results]
    return author.seal(canonical([bench_core.__version__, list(_code()), seen]))


def marked(page: Path) -> str:
    """Return the mark of a page; "" without one."""
    with suppress(OSError), page.open("rb") as file:
        found = _MARK.search(file.read(_HEAD))
        return found[1].decode() if found else ""
    return ""


def _code() -> Iterator[Any]:
    for path in sorted(Path(bench_core.__file__).parent.rglob("*.*")):
        if path.suffix in (".py", ".j2", ".js", ".css"):
            status = path.stat()
            yield [str(path), status.st_size, status.st_mtime_ns]


def _seen(root: Path) -> Iterator[Any]:
    """Yield what a page of a folder shows: its files by size and time, its suites by content."""
    yield str(root.absolute())
    for path in sorted(root.rglob("*")):
        if path.name == store.SUITE:
            content = store.read_suite(path.parent) or {}
            yield [str(path), {k: v for k, v in content.items() if k != "decisions"}]
        elif path.suffix in (".json", ".jsonl"):
            status = path.lstat()
            yield [str(path), status.st_size, status.st_mtime_ns]
