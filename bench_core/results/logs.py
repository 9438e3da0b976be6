"""Limit the size of log.txt, the output of a run's plugins, and remove its control characters.

The worker prints to a file beside its temporary folder (`store.output_file`), so its last output
survives its death. The runner checks the size several times a second and cuts the middle out of an
output that exceeds the limit. log.txt is written from it when the run is complete: a file that a
process still has open is neither renamed nor replaced, which FUSE and NFS answer with hidden files.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bench_core.printable import CONTROL, LARGEST, last_line
from bench_core.results import files

LOG = "log.txt"
TAIL = 64 << 10  # bytes; faulthandler prints its list of modules after the error
FATAL = b"Fatal Python error: "


def trim(output: Path) -> None:
    """Cut the middle out of a growing output. What is printed at the same moment may be lost."""
    with contextlib.suppress(OSError):
        if output.lstat().st_size > 2 * LARGEST:
            content = _shortened(output)
            with output.open("r+b") as file:
                file.truncate(0)
                os.write(file.fileno(), content)


def finish(output: Path, log: Path) -> None:
    """Write the log of an output within the limit, as UTF-8 without control characters.

    Writes nothing without an output. Raises OSError.
    """
    try:
        text = _shortened(output).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    text = CONTROL.sub("?", text.replace("\r\n", "\n").replace("\r", "\n"))
    files.remove(log)  # of a worker that was killed here
    files.write_file(log, text)


def _shortened(output: Path) -> bytes:
    half = LARGEST // 2
    with files.opened(output, "file", parts=1) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= LARGEST:
            return file.read()
        head = file.read(half)
        file.seek(size - half)
        return head + "\n[… the middle of this log was left out …]\n".encode() + file.read(half)


def last_words(output: Path) -> str:
    """Return the last line of an output, or the interpreter's fatal error; "" without an output."""
    try:
        with files.opened(output, "file", parts=1) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            tail = file.read(2 * TAIL)
    except OSError:
        return ""
    _, fatal, after = tail.rpartition(FATAL)
    if not fatal:
        return last_line(tail[-2000:])
    lines = [line.strip() for line in after.split(b"\n")]
    innermost = next((b", " + line for line in lines if line.startswith(b"File ")), b"")
    return last_line(fatal + lines[0] + innermost)
