"""Results folders as a stranger may send them: each side file replaced by what it must not be."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from bench_core.results import files

OTHER = "0" * 32  # an identity that no run has

# place in a suite folder → kind of its content; {run} is the identity of a run, {compact} that of a
# compact run, {cell} that of a cell that `bench run` trains
SIDE_FILES = {
    "suite.json": "suite",
    "tuning.json": "tuning",
    "{run}/run.json": "run",
    "{run}/epochs.jsonl": "epochs",
    "{compact}/epochs.jsonl.gz": "epochs",
    "{run}/checkpoint.safetensors": "file",
    "{run}/probe.safetensors": "file",
    "{run}/log.txt": "file",
    "{run}/late.alignment.json": "late",
    "agreement/{run}.json": "agreement",
    ".resume-{cell}.safetensors": "file",
    ".resume-{cell}.new": "file",
    ".lock-{cell}": "file",
    ".lock-{run}": "file",
    ".lock-suite.json": "file",
    ".log-{cell}": "file",
    ".new-0123456789abcdef": "file",
    "report.html": "file",
    "{run}": "folder",
    "agreement": "folder",
    "quarantine": "folder",
    "replicates": "folder",
    ".tmp-{cell}": "folder",
    ".old-{cell}": "folder",
    ".jobs": "folder",
    "": "folder",  # the suite folder itself
}
KINDS = ("link", "dangling link", "FIFO", "device", "socket", "too large", "other type")


def plant(place: Path, content: str, kind: str, own: Path) -> bool:
    """Put a thing of this kind in a place; False if there is no such thing.

    own  a folder of the user, with `file` and `folder/file`, that links point to
    """
    if kind == "too large" and content == "folder":
        return False
    if stat.S_ISDIR(place.lstat().st_mode) if os.path.lexists(place) else False:
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        place.symlink_to(own / ("folder" if content == "folder" else "file"))
    elif kind == "dangling link":
        place.symlink_to(own / "nothing")
    elif kind == "FIFO":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero") if os.getuid() else _device(place)
    elif kind == "socket":
        _socket(place)
    elif kind == "too large":
        place.touch()
        os.truncate(place, files.LARGEST[content] + 1)
    elif content == "folder":
        place.write_text("a file in the place of a folder")
    else:
        place.mkdir()
        (place / "file").touch()
    return True


def _device(place: Path) -> None:
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except OSError:  # a container without the right
        place.symlink_to("/dev/zero")


def _socket(place: Path) -> None:
    """Bind a socket; its path may be longer than a socket's address."""
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(place.parent)
            server.bind(place.name)
        finally:
            os.fchdir(here)
            os.close(here)


def own_files(home: Path) -> Path:
    """Make the user's own files, which no command may change."""
    own = home / "own"
    (own / "folder").mkdir(parents=True)
    for path in (own / "file", own / "folder" / "file"):
        path.write_text("the user's own\n")
    return own


def state(folder: Path) -> list[tuple[str, int, bytes]]:
    """Return all names, times and contents below a folder."""
    paths = sorted([folder, *folder.rglob("*")])
    return [(str(p), p.stat().st_mtime_ns, b"" if p.is_dir() else p.read_bytes()) for p in paths]


def cases() -> Iterator[tuple[str, str]]:
    """Yield every side file with every kind."""
    yield from ((place, kind) for place in SIDE_FILES for kind in KINDS)
