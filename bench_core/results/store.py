"""Run folders: locked, built, committed at once, read.

    results/<suite>/<identity>/  log.txt  epochs.jsonl  checkpoint.safetensors  probe.safetensors
                                 run.json
    results/<suite>/quarantine/  folders that could not be read, each with its reason

Protocol. A run folder is built as `.tmp-<identity>` beside its place. Every file is fsynced;
run.json, with the checksums of the other files, comes last. Then the folder is renamed to its
place. So a run folder is complete or absent. The builder holds a flock on `.lock-<identity>`.
The worker inherits the descriptor, so the lock lives exactly as long as the runner or its
worker. The holder of the lock owns the temporary folder and may delete what a killed process
left in it.

Readers check the checksum of run.json and the sizes of the other files; `bench run` checks their
checksums before it reuses a run. An unreadable folder is not counted; the `bench run` that
trains its cell anew sets it aside. A folder written by a newer bench stays, and stops that
`bench run`."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench_core.results import files, locks, logs
from bench_core.results.files import fsync, write_file, writing
from bench_core.results.hashing import checksum, digest
from bench_core.results.migrate import NewerSchema, migrated
from bench_core.results.record import FileSum, RunRecord
from bench_core.results.status import FINAL, STATUSES

RUN = "run.json"
EPOCHS = "epochs.jsonl"
PACKED = "epochs.jsonl.gz"  # of a compact run (`bench_core.results.compact`)
CHECKPOINT = "checkpoint.safetensors"
PROBE = "probe.safetensors"
QUARANTINE = "quarantine"
TOKEN = ".shared-"  # begins the name of a file by which other machines recognise the folder
RESUME = ".resume-"  # begins the name of the file with a saved training
REPLICATES = "replicates"
REASON = ".reason.txt"  # ends the name of the file that says why a folder was set aside
BULKY = {"measurements", "initial", "code", "files"}  # fields that may be long
LONGEST = 1 << 16  # characters of any other field as JSON; a real cell has some thousand
WITHOUT_CHECKSUM = 1  # the last schema whose run.json may lack one
FILES = (logs.LOG, EPOCHS, CHECKPOINT, PROBE)  # of a run folder, beside run.json


class Unreadable(Exception):  # noqa: N818
    """A run folder that cannot be trusted; the text is the reason."""


class Newer(Unreadable):
    """A run written by a newer bench: not damaged, so it must not be moved or replaced."""


def unread(path: Path, reason: object, remedy: str = "") -> str:
    """Say in one line that a file cannot be read, and what follows from it."""
    return f"{path}: cannot be read: it {reason}" + f"; {remedy}" * bool(remedy)


def of_newer(path: Path, reason: object) -> str:
    """Say in one line that a newer bench wrote a run folder."""
    return f"{path}: written by a newer bench: {reason}"


# ------------------------------------------------------------------------------------------ names


def temporary(final: Path) -> Path:
    """Name the folder in which a run folder is built."""
    return locks.beside(final, "tmp")


def begun(folder: Path) -> list[str]:
    """Return the identities of the runs that have a temporary folder."""
    return locks.having(folder, "tmp")


def output_file(final: Path) -> Path:
    """Name the file to which the worker of a run prints, beside its temporary folder."""
    return locks.beside(final, "log")


def resume_file(final: Path) -> Path:
    """Name the file with the saved training of a cell, beside its temporary folder."""
    return final.parent / f"{RESUME}{final.name}.safetensors"


def resumable(folder: Path) -> dict[str, Path]:
    """Return identity → file of the saved trainings in a suite folder."""
    return {path.stem.removeprefix(RESUME): path for path in folder.glob(f"{RESUME}*.safetensors")}


# ------------------------------------------------------------------------------------------ write


def clear_temporary(final: Path) -> Path:
    """Create an empty temporary folder for a run; the caller holds its lock."""
    with writing(final):
        remove_temporary(final)
        temporary(final).mkdir()
    return temporary(final)


def remove_temporary(final: Path) -> None:
    """Delete the temporary folder of a run, its output, and an older run that was replaced."""
    restore(final)
    for kind in ("tmp", "log", "old"):
        files.remove(locks.beside(final, kind))


def restore(final: Path) -> None:
    """Put an older run back if the process that replaced it was killed between the two renames."""
    if not os.path.lexists(final):
        with contextlib.suppress(OSError):
            locks.beside(final, "old").rename(final)


def remove_resume(final: Path) -> None:
    """Delete the saved state of a cell."""
    files.remove(resume_file(final))


def remove(final: Path) -> bool:
    """Delete a run, all of it or nothing. Returns False if its lock is held. Raises StoreError."""
    with locks.locked(final) as descriptor:
        if descriptor is None:
            return False
        remove_temporary(final)
        with writing(final):
            final.rename(temporary(final))
        remove_temporary(final)
    return True


def remove_state(final: Path) -> bool:
    """Delete the saved state of a cell. Returns False if its lock is held. Raises StoreError."""
    with locks.locked(final) as descriptor:
        if descriptor is None:
            return False
        with writing(final):
            remove_resume(final)
    return True


def tidy(folder: Path) -> None:
    """Delete the locks, temporary folders and unfinished files of killed runners in a suite folder.

    A held lock belongs to a live process. Saved states stay until their cells have ended, and the
    tokens of a killed runner as long as its jobs may wait in a scheduler's queue (`.jobs`).
    """
    if not (folder / ".jobs").exists():
        for path in folder.glob(f"{TOKEN}*"):
            _remove_if_free(path)
    files.remove_unfinished(folder)
    left = [path for kind in ("lock", "tmp", "log", "old") for path in folder.glob(f".{kind}-*")]
    names = {path.name.partition("-")[2] for path in left}
    for name in sorted(filter(lambda name: Path(name).name, names)):  # not "" and "."
        with locks.locked(folder / name) as descriptor:
            if descriptor is not None:
                remove_temporary(folder / name)


def _remove_if_free(path: Path) -> None:
    """Delete a lock file that no process holds."""
    with contextlib.suppress(OSError):
        descriptor = files.open_lock(path)
        try:
            locks.take(descriptor)
            path.unlink()
        finally:
            os.close(descriptor)


def commit(record: RunRecord, final: Path) -> RunRecord:
    """Add run.json to the temporary folder and rename the folder to its place; the lock is held.

    A run that was cut short takes no result's place: it is not kept, and its reason says so.
    Raises StoreError if a write fails. Then the older run is still in its place, or, if only the
    last fsync failed, the complete new one.
    """
    restore(final)
    if record.status not in FINAL and result_of(final):
        return not_kept(record, final)
    folder = temporary(final)
    with writing(final):
        logs.finish(output_file(final), folder / logs.LOG)
        sums = {name: _sum(folder / name) for name in FILES if os.path.lexists(folder / name)}
        record = sealed(record.model_copy(update={"files": sums}))
        files.remove(folder / RUN)  # of a worker that was killed here
        write_file(folder / RUN, record.to_json())
        _keep_late(record, final, folder)
    put(final)
    with contextlib.suppress(OSError):
        if record.status in FINAL:
            remove_resume(final)
    return record


def _keep_late(record: RunRecord, final: Path, folder: Path) -> None:
    """Keep the late measurements of the run that is replaced, if the weights are the same."""
    with contextlib.suppress(Unreadable):
        before = read(final, states=False).files.get(CHECKPOINT)
        if before is not None and before == record.files.get(CHECKPOINT):
            for path in final.glob("late.*.json"):
                if path.name.split(".")[1] not in record.measurements:
                    with contextlib.suppress(files.Refused):  # a link of somebody else
                        files.copy(path, folder / path.name)


def not_kept(record: RunRecord, final: Path) -> RunRecord:
    """Return a record that is not in the store, as its reason says: without files and checksum."""
    stays = f"; its {result_of(final)} run stays"
    reason = (record.reason or record.status).removesuffix(stays) + stays
    return record.model_copy(update={"reason": reason, "files": {}, "checksum": None})


def result_of(final: Path) -> str:
    """Return the status of the run in a folder if it has a result; "" for another or none."""
    try:
        status = read(final, states=False).status
    except Unreadable:
        return ""
    return status * (status in FINAL and not STATUSES[status].failure)


def _sum(path: Path) -> FileSum:
    """Flush a file of a run folder and return its size and checksum. Raises OSError."""
    with files.opened(path, "file") as file:
        os.fsync(file.fileno())
        return FileSum(bytes=os.fstat(file.fileno()).st_size, blake2b=checksum(file))


def put(final: Path) -> None:
    """Put the complete temporary folder of a locked run in its place. Raises StoreError."""
    folder = temporary(final)
    with writing(final):
        fsync(folder)
        if os.path.lexists(final):
            final.rename(locks.beside(final, "old"))
            try:
                folder.rename(final)
            except OSError:
                locks.beside(final, "old").rename(final)
                raise
        else:
            folder.rename(final)
        fsync(final.parent)
    with contextlib.suppress(OSError):
        files.remove(locks.beside(final, "old"))


@contextlib.contextmanager
def installed(final: Path) -> Iterator[Path]:
    """Give an empty folder that becomes the locked run at the end. Raises StoreError."""
    folder = clear_temporary(final)
    try:
        with writing(final):
            yield folder
        put(final)
    finally:
        remove_temporary(final)


def quarantine(folder: Path, reason: str) -> Path:
    """Move a locked folder to the quarantine, with the reason, and return its new place."""
    home = folder.parent / QUARANTINE
    with writing(home):
        files.make_folder(home)
        taken = set(os.listdir(home))
        names = (f"{folder.name}-{number}" for number in itertools.count(1))
        target = home / next(n for n in names if not {n, f"{n}{REASON}"} & taken)
        write_file(home / f"{target.name}{REASON}", reason + "\n")
        folder.rename(target)
    return target


# ------------------------------------------------------------------------------------------- read


def stamp(folder: Path) -> tuple[int, int] | None:
    """Return what tells a run.json from its replacement (inode, time); None if there is none."""
    try:
        status = (folder / RUN).lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read(folder: Path, sums: bool = False, states: bool = True) -> RunRecord:
    """Read the record of a run folder and check the sizes of its files.

    sums    also check the checksums of the files
    states  require the tensors too, CHECKPOINT and PROBE; otherwise they may have stayed elsewhere
    Raises `Unreadable`, and `Newer` for a run of a newer bench.
    """
    try:
        record = _record(raw(folder))
        _check(record, folder, sums, states)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unreadable(f"cannot be read: {reason}") from None
    return record


def raw(folder: Path) -> Any:
    """Read run.json of a run folder as plain values. Raises `Unreadable`."""
    try:
        return files.read_json(folder / RUN, "run")
    except FileNotFoundError:
        raise Unreadable(f"no {RUN}") from None
    except OSError as error:
        where = "it" if error.filename == str(folder.absolute()) else RUN
        raise Unreadable(f"{where} {error.strerror}") from None
    except ValueError as error:
        raise Unreadable(f"{RUN} {error}") from None


def _record(raw: Any) -> RunRecord:
    try:
        record = RunRecord.model_validate(migrated(raw))
    except NewerSchema as error:
        raise Newer(f"{RUN} {error}") from None
    except ValidationError as error:
        raise Unreadable(f"{RUN} does not follow its schema: {first_fault(error)}") from None
    except ValueError as error:
        raise Unreadable(f"{RUN} {error}") from None
    for name in raw.keys() - BULKY:
        if (size := len(json.dumps(raw[name]))) > LONGEST:
            raise Unreadable(f"{RUN}: {name} has {size} characters; at most {LONGEST} are read")
    if record.checksum is None and raw["schema"] > WITHOUT_CHECKSUM:
        raise Unreadable(f"{RUN} has no checksum")
    if record.checksum is not None and record.checksum != _digest(raw):
        raise Unreadable(f"{RUN} was changed: its checksum differs")
    if record.checksum is None:  # marks, conflicts and late measurements name a run by it
        return record.model_copy(update={"checksum": _digest(raw)})
    return record


def first_fault(error: ValidationError) -> str:
    """Return the place and the text of the first fault."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}"


def _check(record: RunRecord, folder: Path, sums: bool, states: bool) -> None:
    accuracy = record.accuracy
    if accuracy is not None and math.isfinite(accuracy) and not 0 <= accuracy <= 1:
        raise Unreadable(f"accuracy {accuracy:g} is not between 0 and 1")
    for name in ("reset_accuracy", "recalibrated_accuracy"):
        value = getattr(record, name)
        if value is not None and not 0 <= value <= 1:  # nor NaN
            raise Unreadable(f"{name} {value:g} is not between 0 and 1")
    if record.identity != folder.name:
        raise Unreadable(f"{RUN} is that of {record.identity[:64]}")
    for name, expected in record.files.items():
        try:
            with files.opened(folder / Path(name).name, "file") as file:
                size = os.fstat(file.fileno()).st_size
                same = size != expected.bytes or not sums or checksum(file) == expected.blake2b
        except FileNotFoundError:
            if name in (CHECKPOINT, PROBE) and not states:
                continue
            raise Unreadable(f"{name[:80]} is missing") from None
        except files.Refused as reason:
            raise Unreadable(f"{name[:80]} {reason.strerror}") from None
        if size != expected.bytes:
            raise Unreadable(f"{name} has {size} bytes, not {expected.bytes}")
        if not same:
            raise Unreadable(f"{name} was changed: its checksum differs")


def sealed(record: RunRecord) -> RunRecord:
    """Return the record with the checksum of all its other fields."""
    return record.model_copy(update={"checksum": _digest(json.loads(record.to_json()))})


def _digest(raw: dict[str, Any]) -> str:
    return digest({key: value for key, value in raw.items() if key != "checksum"})
