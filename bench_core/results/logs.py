"""Keep log.txt, the output of a run's plugins, small and safe to print.

The worker writes to the file itself, so its last output survives its death. The runner checks the
size several times a second and cuts the middle out of a log that exceeds the limit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bench_core.printable import CONTROL, LARGEST, last_line

LOG = "log.txt"
TAIL = 64 << 10  # bytes; faulthandler prints its list of modules after the error
FATAL = b"Fatal Python error: "


def trim(log: Path) -> None:
    """Cut the middle out of a growing log. Output written at the same moment may be lost."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > 2 * LARGEST:
            content = _shortened(log)
            with log.open("r+b") as file:
                file.truncate(0)
                os.write(file.fileno(), content)


def finish(log: Path) -> None:
    """Rewrite a log within the limit, as UTF-8 without control characters. Raises OSError."""
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
    """Return the last line of a log, or the interpreter's fatal error; empty without a log."""
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
    innermost = next((b", " + line for line in lines if line.startswith(b"File ")), b"")
    return last_line(fatal + lines[0] + innermost)
