"""The files of results folders: read without following links, written whole or not at all.

A results folder may come from other people, so nothing in it is trusted. `opened`, `read` and
`read_json` follow no link, open nothing but a regular file, and refuse a file that is larger than
`LARGEST` allows for its kind. `write_file`, `replace_file` and `make_folder` follow no link either,
and a temporary name cannot be guessed. All other modules read and write results through these.

`parts` says how many of the last parts of a path come from the results folder rather than from the
user. None of these may be a link; the folders before them may be. The default, 2, is that of a file
in a run folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from bench_core.errors import StoreError, UsageError
from bench_core.units import MIB

# bytes of a file, by kind; below them the parsed content takes less than 500 MB
LARGEST = {
    "run": 4 * MIB,  # a real run.json has some thousand bytes
    "suite": 48 * MIB,  # 100,000 cells take 28 MiB
    "submission": 48 * MIB,
    "tuning": 16 * MIB,  # 10,000 trials of six rules
    "late": 4 * MIB,
    "agreement": 1 * MIB,
    "epochs": 128 * MIB,  # read line by line; 10,000 epochs of a deep network are smaller
    "lock": 4096,  # a process and its machine
    "row": 4 * MIB,  # one line of epochs.jsonl
    "file": 16 << 30,  # any file of a run: hashed piece by piece; tensors are mapped
    "header": 64 * MIB,  # of a file of tensors
    "site": 4 * MIB,
}
# bytes that the records of one command may take; with the program itself that is 500 MB
_MB = os.environ.get("BENCH_MEMORY", "")
MEMORY = (int(_MB) if _MB.isdecimal() else 400) * 1_000_000
BYTES_OF_VALUE = 80  # of memory for each value of a parsed JSON text, about
NEW = ".new-"  # begins the names of unfinished files
STALE = 3600.0  # seconds after which an unfinished file has no writer any more
_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# two patterns, because one for both is three times as slow
_LONG_INTEGER = re.compile(rb"[^.0-9][0-9]{19}")
_LARGE_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3}")


class Refused(OSError):  # noqa: N818
    """A file of a kind or a size that is not read; `strerror` says why."""


def _refused(path: Path, reason: str) -> Refused:
    return Refused(errno.EINVAL, reason, str(path))


def check_memory() -> None:
    """Raise UsageError if BENCH_MEMORY is no number of MB."""
    if _MB and not (_MB.isdecimal() and int(_MB)):
        raise UsageError(f"BENCH_MEMORY={_MB!r} is no positive whole number of MB")


def reason(error: Exception) -> str:
    """Return the reason of a failed read, without the path and the number of an OSError."""
    return getattr(error, "strerror", None) or str(error)


# ------------------------------------------------------------------------------------------- read


@contextlib.contextmanager
def _folder_of(path: Path, parts: int) -> Iterator[int]:
    """Open the folder of a path, whose last `parts` parts may not be links. Raises OSError."""
    path = path.absolute()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(path.parents[parts - 1], flags)
    try:
        for level in range(parts - 1, 0, -1):
            name = path.parents[level - 1].name
            outer = descriptor
            _check(path.parents[level - 1], os.lstat(name, dir_fd=outer), stat.S_IFDIR)
            descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def _check(path: Path, status: os.stat_result, kind: int, largest: int | None = None) -> None:
    """Raise Refused unless the path has this kind and is no larger."""
    if (own := stat.S_IFMT(status.st_mode)) != kind:
        wanted = "a folder" if kind == stat.S_IFDIR else "a regular file"
        raise _refused(path, f"is {_KINDS.get(own, 'something else')}, not {wanted}")
    if largest is not None and status.st_size > largest:
        raise _refused(path, f"has {status.st_size} bytes; at most {largest} are read")


@contextlib.contextmanager
def opened(path: Path, kind: str, parts: int = 2) -> Iterator[BufferedReader]:
    """Open a regular file of a kind of `LARGEST` for reading. Raises OSError (`Refused`)."""
    with _folder_of(path, parts) as folder:
        _check(path, os.lstat(path.name, dir_fd=folder), stat.S_IFREG, LARGEST[kind])
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor), stat.S_IFREG, LARGEST[kind])
        yield file


def read(path: Path, kind: str, parts: int = 2) -> bytes:
    """Read a file of a kind of `LARGEST`. Raises OSError (`Refused`)."""
    with opened(path, kind, parts) as file:
        content = file.read(LARGEST[kind] + 1)
    if len(content) > LARGEST[kind]:  # it has grown
        raise _refused(path, f"has more than {LARGEST[kind]} bytes")
    return content


def read_json(path: Path, kind: str, parts: int = 2) -> Any:
    """Read a file as JSON (`parsed`). Raises OSError (`Refused`), ValueError."""
    return parsed(read(path, kind, parts), kind)


def newer(version: int, known: int) -> str:
    """Write that a file was written by a newer bench."""
    return f"has schema {version}, newer than this bench reads ({known}): update bench-core"


def parsed(content: bytes, kind: str) -> Any:
    """Parse JSON that other people wrote. Raises ValueError: "is no JSON: …", "has …".

    It must be UTF-8 without lone surrogates, nested at most 200 deep, and have at most a value for
    each 16 bytes that a file of its kind may have, and a million. Integers must fit in 64 bits, and
    numbers must be finite.
    """
    if values(content) > (most := min(LARGEST[kind] // 16, 1_000_000)):
        raise ValueError(f"has more than {most:,} values")
    try:
        value = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None
    if _LONG_INTEGER.search(content) or _LARGE_EXPONENT.search(content):
        json.loads(content, parse_int=_integer, parse_float=_number)
    return value


def values(content: bytes) -> int:
    """Count the values of a JSON text, or a few more."""
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"has an integer of {len(text)} digits, more than 64 bits hold")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"has the number {text[:20]}, which no float holds")
    return value


@contextlib.contextmanager
def tensors(path: Path, parts: int = 2, header: int = LARGEST["header"]) -> Iterator[str]:
    """Check a file of tensors and give safetensors a path to it. Raises OSError (`Refused`).

    header  bytes that its header may have
    The path is that of the checked, open file, whatever takes its name meanwhile.
    """
    with opened(path, "file", parts) as file:
        size = int.from_bytes(os.pread(file.fileno(), 8, 0), "little")
        if size > header:
            raise _refused(path, f"has a header of {size} bytes; at most {header} are read")
        yield f"/dev/fd/{file.fileno()}"


# ------------------------------------------------------------------------------------------ write


def open_lock(path: Path) -> int:
    """Open a lock file, which is created if there is none, and return its descriptor.

    Raises OSError (`Refused`).
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        _check(path, path.lstat(), stat.S_IFREG)
    return os.open(path, flags, 0o644)


@contextlib.contextmanager
def writing(path: Path, output: bool = False) -> Iterator[None]:
    """Turn an OSError of the block into the StoreError of a failed write to `path`.

    output  the user named the path for a command that trains nothing, so no run is in question
    """
    try:
        yield
    except OSError as error:
        reason = _reason(path, error)
        intact = "; runs that were finished before are intact" * (not output)
        reason = reason or f"{error.strerror or error}{intact}"
        raise StoreError(f"{path}: cannot be written: {reason}") from error


def _reason(path: Path, error: OSError) -> str:
    """Say why a path cannot be written, where the system's words do not; else ""."""
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"there is no folder {path.parent}: was it moved or removed meanwhile?"
    if isinstance(error, Refused):
        where = "it" if error.filename == str(path) else error.filename
        return f"{where} {error.strerror}; remove it"
    return ""


def write_file(path: Path, content: str | bytes) -> None:
    """Write and fsync a new file. Raises OSError, also if the path exists, even as a link."""
    with _folder_of(path, parts=1) as folder:
        _write(folder, path.name, content)


def _write(folder: int, name: str, content: str | bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def append_to(path: Path) -> IO[bytes]:
    """Open a file for appending, a new one if there is none. Raises OSError (`Refused`)."""
    with contextlib.suppress(FileNotFoundError):
        _check(path, path.lstat(), stat.S_IFREG)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def copy(source: Path, target: Path) -> None:
    """Copy a regular file of a run folder to a new file. Raises OSError (`Refused`)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(source, "file") as file, os.fdopen(os.open(target, flags, 0o666), "wb") as new:
        shutil.copyfileobj(file, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def replace_file(
    path: Path,
    content: str | bytes,
    parts: int = 1,
    through: Path | None = None,
    output: bool = False,
) -> None:
    """Write a file so that readers see the old one or the new one. Raises StoreError.

    A link of this name is replaced, not followed.
    through  a folder of the same file system that holds the unfinished file
    output   as in `writing`
    """
    part = f"{NEW}{secrets.token_hex(8)}"
    draft, draft_parts = (path, parts) if through is None else (through / part, 2)
    with (
        writing(path, output),
        _folder_of(path, parts) as folder,
        _folder_of(draft, draft_parts) as place,
    ):
        try:
            _write(place, part, content)
            os.replace(part, path.name, src_dir_fd=place, dst_dir_fd=folder)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=place)


def make_folder(path: Path, parts: int = 1) -> None:
    """Create the last `parts` folders of a path, or use those that are there. Raises OSError.

    None of them may be a link.
    """
    for level in range(parts, 0, -1):
        folder = path.parents[level - 2] if level > 1 else path
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        _check(folder, folder.lstat(), stat.S_IFDIR)


def remove(path: Path) -> None:
    """Delete what has this name, if anything: a folder with all its files, a link itself."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def remove_unfinished(folder: Path) -> None:
    """Delete the unfinished files that killed writers left in a folder."""
    for path in folder.glob(f"{NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > STALE:
                path.unlink()


def try_writing(folder: Path) -> None:
    """Create a file in a folder and delete it again. Raises OSError."""
    path = folder / f"{NEW}{secrets.token_hex(8)}"
    write_file(path, b"")
    path.unlink()


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk; a link is an error. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
