"""Create and lock suite folders; read and write suite.json, their last plan (`SuiteJson`)."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_core.errors import StoreError, UsageError
from bench_core.results import files, locks
from bench_core.results.files import replace_file
from bench_core.results.hashing import file_text
from bench_core.results.store import RUN, Newer, Unreadable
from bench_core.results.suite_json import SuiteJson

SUITE = "suite.json"
SCHEMA = 1
LISTS = {"cells", "decisions", "file", "used"}  # fields of suite.json with an entry for each cell
LONGEST_OF_SUITE = 1 << 20  # characters of any other field


def create(results: Path, suite: str) -> Path:
    """Create results/<suite>. Raises UsageError where it cannot be written."""
    folder = results / suite
    try:
        results.mkdir(parents=True, exist_ok=True)
        files.make_folder(folder)
        files.try_writing(folder)
    except OSError as error:
        why = error.strerror
        if isinstance(error, FileExistsError | NotADirectoryError):
            why = obstacle(folder) or why
        reason = f"{why}; choose another folder"
        raise UsageError(f"{folder}: cannot be written: {reason}") from None
    return folder


def obstacle(folder: Path) -> str:
    """Say which part of a path is no folder; "" if all are."""
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            return f"{place} is a link to {os.readlink(place)}, which does not exist"
        if place.exists() and not place.is_dir():
            return f"{place} is a {'file' if place.is_file() else 'device'}, not a folder"
    return ""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a suite folder, to read and then write suite.json or marks.

    Waits for another holder. Raises StoreError after a minute.
    """
    deadline = time.monotonic() + 60
    while (descriptor := locks.lock(folder / SUITE)) is None:
        if time.monotonic() > deadline:
            raise StoreError(f"{folder}: another bench has been writing {SUITE} for a minute")
        time.sleep(0.02)
    try:
        yield
    finally:
        locks.unlock(folder / SUITE, descriptor)


def read(folder: Path) -> dict[str, Any] | None:
    """Read suite.json of a suite folder; None if it is missing or unreadable."""
    try:
        return content(folder)
    except Unreadable:
        return None


def refuse_newer(folder: Path) -> None:
    """Raise StoreError if a newer bench wrote suite.json of a folder: it must not be replaced."""
    try:
        content(folder)
    except Newer as reason:
        raise StoreError(f"{folder / SUITE}: {reason}") from None
    except Unreadable:
        pass


def saved(folder: Path) -> SuiteJson:
    """Return suite.json as the last plan left it, as far as it can be read (`readable`)."""
    return SuiteJson.readable(read(folder) or {})


def content(folder: Path) -> dict[str, Any]:
    """Read suite.json of a suite folder. Raises `Unreadable`, and `Newer` for a newer bench's."""
    try:
        raw = files.read_json(folder / SUITE, "suite", parts=1)
    except (OSError, ValueError) as error:
        raise Unreadable(files.reason(error)) from None
    if not isinstance(raw, dict):
        raise Unreadable("is no mapping")
    if isinstance(version := raw.get("schema"), int) and version > SCHEMA:
        raise Newer(files.newer(version, SCHEMA))
    for name in raw.keys() - LISTS:
        if (size := len(json.dumps(raw[name]))) > LONGEST_OF_SUITE:
            limit = f"at most {LONGEST_OF_SUITE} are read"
            raise Unreadable(f"has {size} characters of {name[:80]}; {limit}")
    return raw


def text(folder: Path) -> bytes | None:
    """Return suite.json of a suite folder as it is; None if it is missing or not read."""
    try:
        return files.read(folder / SUITE, "suite", parts=1)
    except OSError:
        return None


def put_back(folder: Path, written: bytes | None, earlier: bytes | None) -> None:
    """Put an earlier suite.json back, unless another command has replaced the written one.

    If there was none before, and no run is there, the written one is removed.
    """
    with locked(folder):
        if text(folder) == written:
            if earlier is not None:
                replace_file(folder / SUITE, earlier)
            elif not any(folder.glob(f"*/{RUN}")):
                files.remove(folder / SUITE)


def write(folder: Path, value: dict[str, Any]) -> None:
    """Write suite.json of a suite folder. Raises StoreError."""
    replace_file(folder / SUITE, file_text(value))
