"""What plugins print. log.txt of a run is kept within bounds while it grows, and made safe to look at when it is kept.

The worker writes to the file itself, so that its last words survive it. Its runner looks at the size several times a second and
cuts the middle out of a log that outgrew its limit; what is kept at the end has its beginning and its end, as UTF-8
without control characters but line ends and tabs. An observer prints where the runner does, likewise without them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bench_core.printable import CONTROL, LARGEST, last_line

LOG = "log.txt"
TAIL = 64 << 10  # bytes; faulthandler's list of modules comes after what it is about
FATAL = b"Fatal Python error: "


def trim(log: Path) -> None:
    """Cut the middle out of a log that is being written (its writer appends). What is written meanwhile may be lost."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > 2 * LARGEST:
            content = _shortened(log)
            with log.open("r+b") as file:
                file.truncate(0)
                os.write(file.fileno(), content)


def finish(log: Path) -> None:
    """Put in the log's place a file that nobody has open, within its limit and safe to print. Raises OSError."""
    if not log.is_file():
        return
    text = _shortened(log).decode("utf-8", "replace")
    part = log.with_name(f".{log.name}")
    part.write_bytes(CONTROL.sub("?", text.replace("\r\n", "\n").replace("\r", "\n")).encode())
    part.replace(log)


def _shortened(log: Path) -> bytes:
    size, half = log.stat().st_size, LARGEST // 2
    with log.open("rb") as file:
        if size <= LARGEST:
            return file.read()
        head = file.read(half)
        file.seek(size - half)
        return head + "\n[… the middle of this log was left out …]\n".encode() + file.read(half)


def last_words(log: Path) -> str:
    """The last line of a log in printable characters, or what the interpreter said of its own death; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            tail = file.read()
    except OSError:
        return ""
    _, fatal, after = tail.rpartition(FATAL)
    if not fatal:
        return last_line(tail[-2000:])
    lines = [line.strip() for line in after.split(b"\n")]
    frame = next(
        (line for line in lines if line.startswith(b"File ")), b""
    )  # the innermost comes first
    return last_line(fatal + lines[0] + (b", " + frame if frame else b""))
