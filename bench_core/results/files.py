"""Durable file writes: fsync before rename, and one message for a write that fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench_core.errors import StoreError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the StoreError of a failed write to `path`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {_reason(path, error)}") from error


def _reason(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"there is no folder {path.parent}"
    reason = error.strerror or error
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        reason = error.args[0][0][-1]  # the first of the files of a tree that could not be copied
    return f"{reason}; runs that were finished before are intact"


def write_file(path: Path, content: str | bytes) -> None:
    """Write and fsync a new file."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old one or the new one. Raises StoreError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path):
            write_file(part, content)
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
