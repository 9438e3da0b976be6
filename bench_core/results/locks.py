"""Lock run folders: a flock on `.lock-<identity>`, in which `bench status` reads the holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from bench_core.errors import StoreError
from bench_core.results import files
from bench_core.results.files import writing


def beside(final: Path, kind: str) -> Path:
    """Name a hidden path of a run: "tmp", "lock", "log", or "old", the run to be replaced."""
    return final.parent / f".{kind}-{final.name}"


def having(folder: Path, kind: str) -> list[str]:
    """Return the names of the runs of a folder that have a hidden path of this kind."""
    return sorted(path.name.removeprefix(f".{kind}-") for path in folder.glob(f".{kind}-*"))


def take(descriptor: int) -> None:
    """Lock an open file. Raises BlockingIOError if another process has, OSError without locks."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(final: Path) -> int | None:
    """Lock a run folder and return a descriptor; None if another process holds the lock."""
    path = beside(final, "lock")
    while True:
        with writing(path):
            descriptor = files.open_lock(path)
        try:
            take(descriptor)
            # the holder before us may have removed the file between our open and our flock
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError as error:  # a file system without locks
            os.close(descriptor)
            raise StoreError(f"{path}: cannot be locked: {error.strerror}") from error
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Write the process and its machine into a lock file, for `bench status`.

    Errors are ignored: a full disk must not prevent the lock.

    A process number means something only among the processes that one /proc shows. A file with
    another name elsewhere stays as it is.
    """
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_nlink != 1:
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {_machine()}".encode(), 0)


def _machine() -> str:
    """Name this machine since its start, and the part of its processes that are seen here."""
    seen = boot = ""
    with contextlib.suppress(OSError):
        seen = os.readlink("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {seen} {boot}"


def is_left(path: Path) -> bool:
    """Decide whether the process of this machine that took a lock file has ended.

    False where that cannot be known: the file is of another machine, or not signed.
    """
    try:
        number, _, machine = files.read(path, "lock").decode().partition(" ")
        if machine != _machine() or not number.isdecimal():
            return False
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # not permitted: it is another user's, and lives
        return False
    return False


def unlock(final: Path, descriptor: int) -> None:
    """Remove the lock file, which this process still owns, and release the lock."""
    with contextlib.suppress(OSError):
        beside(final, "lock").unlink()
    os.close(descriptor)


@contextlib.contextmanager
def locked(final: Path) -> Iterator[int | None]:
    """Hold the lock of a run folder; inside, its descriptor, or None if it is taken already."""
    descriptor = lock(final)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            unlock(final, descriptor)


@contextlib.contextmanager
def owned(final: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Raises StoreError if it is taken."""
    with locked(final) as descriptor:
        if descriptor is None:
            held = "another bench is at work on this run; try again when it is done"
            raise StoreError(f"{final}: {held}")
        yield
