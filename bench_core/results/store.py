"""Run folders: written once, atomically; everything that reports reads them.

    results/<suite>/<identity>/    log.txt  epochs.jsonl  checkpoint.safetensors  probe.safetensors  run.json
    results/<suite>/suite.json     what `bench run` planned last: title, thresholds, which identity stands for which cell
    results/<suite>/quarantine/    folders that could not be read, each with its reason

Protocol. A folder is built as `.tmp-<identity>` beside its place; every file is fsynced, run.json, with the checksums of its
siblings, last; then the folder is renamed in. So a run folder is complete or not there. Whoever builds it holds a flock on
`.lock-<identity>`; the worker inherits the descriptor, so the lock lives exactly as long as the runner or its worker does, and
whoever gets it owns the temporary folder and may throw away what a killed process left. Readers check run.json, by its own
checksum too, and the sizes of the files; `bench run` checks the sums of what it wants to reuse. An unreadable folder is not
counted, and set aside by the `bench run` that makes its cell anew; one of a newer bench stays, and stops that `bench run`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench_core.errors import StoreError, UsageError
from bench_core.results import logs
from bench_core.results.hashing import checksum, digest
from bench_core.results.migrate import NewerSchema, migrated
from bench_core.results.record import FileSum, RunRecord
from bench_core.results.status import FINAL

RUN = "run.json"
SUITE = "suite.json"
EPOCHS = "epochs.jsonl"
QUARANTINE = "quarantine"
WITHOUT_CHECKSUM = 1  # the last schema whose run.json may lack one
LARGEST_RUN = 64 << 20  # bytes of run.json; a real one has some thousand


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Unreadable(Exception):  # noqa: N818
    """A run folder that cannot be trusted; the text is the reason."""


class Newer(Unreadable):
    """A run of a newer bench: not damaged, so that nothing may take its place or move it."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes the StoreError of a failed write."""
    try:
        yield
    except OSError as error:
        raise StoreError(full(path, error)) from error


@dataclass(frozen=True)
class Stored:
    """A run and where it lies."""

    record: RunRecord
    folder: Path


@dataclass
class Scan:
    """What a results folder holds: its runs, and one line for each folder that could not be read."""

    runs: list[Stored] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def temporary(final: Path) -> Path:
    """Where a run folder is built."""
    return final.parent / f".tmp-{final.name}"


def open_suite_folder(results: Path, suite: str) -> Path:
    """results/<suite>, created; a usage error where that cannot be."""
    folder = results / suite
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder with --results"
        ) from None
    return folder


# -------------------------------------------------------------------------------------------------------------- write


def lock(final: Path) -> int | None:
    """Take the lock of a run folder: a descriptor to close later, or None where somebody else holds it."""
    path = final.parent / f".lock-{final.name}"
    while True:
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the holder before us may have removed the file between our open and our flock: then we hold a ghost
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
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


def unlock(final: Path, descriptor: int) -> None:
    """Release the lock, and its file, which we still own while we remove it."""
    with contextlib.suppress(OSError):
        (final.parent / f".lock-{final.name}").unlink()
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


def clear_temporary(final: Path) -> Path:
    """An empty temporary folder for a run; the caller holds its lock."""
    folder = temporary(final)
    with writing(final):
        remove_temporary(final)
        folder.mkdir()
    return folder


def remove_temporary(final: Path) -> None:
    """Throw away what an unfinished run left, and an older run that a finished one has replaced."""
    for path in (temporary(final), _aside(final)):
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path) and not path.is_dir():
            path.unlink(missing_ok=True)


def remove(final: Path) -> bool:
    """Throw a run away, all of it or nothing; False where somebody is at work on it. Raises StoreError."""
    descriptor = lock(final)
    if descriptor is None:
        return False
    try:
        with writing(final):
            final.rename(_aside(final))
        remove_temporary(final)
    finally:
        unlock(final, descriptor)
    return True


def resume_file(final: Path) -> Path:
    """Where a cell keeps the state that its training can go on from (`bench_core.training.checkpoint`), until it ends. It lies beside the
    temporary folder and not in it, because the run folder of a cell that crashed is that folder, renamed."""
    return final.parent / f".resume-{final.name}.safetensors"


def remove_resume(final: Path) -> None:
    for path in (resume_file(final), resume_file(final).with_suffix(".new")):
        path.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Throw away what killed runners left in a suite folder. Whatever is locked belongs to somebody who is alive. What a cell
    can go on from stays until it has ended well."""
    left = {
        path.name.partition("-")[2]
        for kind in (".lock", ".tmp", ".old")
        for path in folder.glob(f"{kind}-*")
    }
    for name in sorted(left):
        final = folder / name
        descriptor = lock(final)
        if descriptor is not None:
            remove_temporary(final)
            unlock(final, descriptor)


def _aside(final: Path) -> Path:
    return final.parent / f".old-{final.name}"


def commit(record: RunRecord, final: Path) -> RunRecord:
    """Finish `.tmp-<identity>` with run.json and rename it to its place, replacing an older run there; the lock is held.

    Raises StoreError where a write fails; then the older run is still in its place, or, where only the last fsync failed, the
    whole new one.
    """
    folder = temporary(final)
    with writing(final):
        logs.finish(folder / logs.LOG)
        sums = {}
        for path in sorted(folder.iterdir()):
            if path.name == RUN:
                continue
            fsync(path)
            sums[path.name] = FileSum(bytes=path.stat().st_size, blake2b=checksum(path))
        record = sealed(record.model_copy(update={"files": sums}))
        write_file(folder / RUN, record.to_json())
    put(final)
    with contextlib.suppress(OSError):
        if record.status in FINAL:
            remove_resume(final)
    return record


def put(final: Path) -> None:
    """Rename the complete `.tmp-<identity>` to its place, replacing an older run there; the lock is held. Raises StoreError."""
    folder = temporary(final)
    with writing(final):
        fsync(folder)
        if os.path.lexists(final):
            final.rename(_aside(final))
            try:
                folder.rename(final)
            except OSError:
                _aside(final).rename(final)
                raise
        else:
            folder.rename(final)
        fsync(final.parent)
    with contextlib.suppress(OSError):
        remove_temporary(final)


def sealed(record: RunRecord) -> RunRecord:
    """The record with the checksum of all its other fields."""
    return record.model_copy(update={"checksum": _digest(json.loads(record.to_json()))})


def _digest(raw: dict[str, Any]) -> str:
    return digest({key: value for key, value in raw.items() if key != "checksum"})


def full(path: Path, error: OSError) -> str:
    """The line for a failed write."""
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"{path}: cannot be written: there is no folder {path.parent}"
    if isinstance(error, shutil.Error) and isinstance(
        error.args[0], list
    ):  # of a tree: what came first stands for all
        return f"{path}: cannot be written: {error.args[0][0][-1]}; runs that were finished before are intact"
    return f"{path}: cannot be written: {error.strerror or error}; runs that were finished before are intact"


def write_file(path: Path, content: str | bytes) -> None:
    """Write and fsync a new file."""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_file(part, content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreError(full(path, error)) from error


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --------------------------------------------------------------------------------------------------------------- read


def stamp(folder: Path) -> tuple[int, int] | None:
    """What tells one run.json from another that later takes its place; None where there is none."""
    try:
        found = (folder / RUN).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read(folder: Path, sums: bool = False) -> RunRecord:
    """The record of a run folder. Raises `Unreadable`, `Newer`. `sums`: also check the checksums of files, not only their sizes."""
    try:
        return _read(folder, sums)
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(
            f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"
        ) from None


def _read(folder: Path, sums: bool) -> RunRecord:
    path = folder / RUN
    if not path.is_file():
        raise Unreadable(f"no {RUN}")
    if path.stat().st_size > LARGEST_RUN:
        raise Unreadable(f"{RUN} has {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(
                raw, ensure_ascii=False
            ).encode()  # refuses lone surrogates, which nothing could print
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{RUN} is no JSON: {type(error).__name__}") from None
    try:
        current = migrated(raw)
    except NewerSchema as error:
        raise Newer(f"{RUN} {error}") from None
    except ValueError as error:
        raise Unreadable(f"{RUN} {error}") from None
    try:
        record = RunRecord.model_validate(current)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        raise Unreadable(f"{RUN} does not follow its schema: {where}: {first['msg']}") from None
    if record.checksum is None and raw["schema"] > WITHOUT_CHECKSUM:
        raise Unreadable(f"{RUN} has no checksum")
    if record.checksum is not None and record.checksum != _digest(raw):
        raise Unreadable(f"{RUN} was changed: its checksum differs")
    if (
        record.accuracy is not None
        and math.isfinite(record.accuracy)
        and not 0 <= record.accuracy <= 1
    ):
        raise Unreadable(f"accuracy {record.accuracy:g} is not between 0 and 1")
    if record.identity != folder.name:
        raise Unreadable(f"{RUN} is that of {record.identity[:64]}")
    for name, expected in record.files.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise Unreadable(f"{name[:80]} is missing")
        if path.stat().st_size != expected.bytes:
            raise Unreadable(f"{name} has {path.stat().st_size} bytes, not {expected.bytes}")
        if sums and checksum(path) != expected.blake2b:
            raise Unreadable(f"{name} was changed: its checksum differs")
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def quarantine(folder: Path, reason: str) -> Path:
    """Set a folder aside with its reason; returns where it lies now. The caller holds its lock."""
    home = folder.parent / QUARANTINE
    with writing(home):
        home.mkdir(exist_ok=True)
        number = 1
        while os.path.lexists(target := home / f"{folder.name}-{number}"):
            number += 1
        (home / f"{target.name}.reason.txt").write_text(reason + "\n", encoding="utf-8")
        folder.rename(target)
    return target


def is_run_folder(path: Path) -> bool:
    """Whether a path is one that runs are stored under: 32 hex digits."""
    return len(path.name) == 32 and all(c in "0123456789abcdef" for c in path.name)


def scan(roots: Sequence[Path]) -> Scan:
    """All runs under the given folders: results folders, suite folders or run folders. Reads only; nothing is moved."""
    found = Scan()
    seen: set[tuple[int, int] | Path] = set()
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"{root}: no such results folder; `bench run SUITE` writes one")
        try:
            folders = sorted(run_folders(root))
        except OSError as error:
            raise UsageError(
                f"{error.filename or root}: cannot be read: {error.strerror}"
            ) from None
        for folder in folders:
            try:
                status = folder.stat()
                same: tuple[int, int] | Path = (status.st_dev, status.st_ino)
            except OSError:
                same = folder
            if same in seen:
                continue
            seen.add(same)
            try:
                found.runs.append(Stored(read(folder), folder))
            except Unreadable as reason:
                found.troubles.append(f"{folder}: not counted: {reason}")
    return found


def run_folders(root: Path) -> Iterator[Path]:
    """Run folders in a results folder, a suite folder, or this one itself."""
    if is_run_folder(root):
        yield root
        return
    for child in root.iterdir():
        if child.name.startswith("."):
            continue
        if is_run_folder(child):
            yield child
        elif child.is_dir() and not child.is_symlink():
            yield from (grandchild for grandchild in child.iterdir() if is_run_folder(grandchild))


def read_suite(folder: Path) -> dict[str, Any] | None:
    """suite.json of a suite folder; None where there is none or it cannot be read."""
    try:
        raw = json.loads((folder / SUITE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def write_suite(folder: Path, value: dict[str, Any]) -> None:
    replace_file(
        folder / SUITE, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
    )
