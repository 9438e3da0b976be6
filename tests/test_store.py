"""The store: a run folder is complete or absent, and what cannot be trusted is never a crash and
never a silent row."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import run

from bench_core.analysis.gather import gather
from bench_core.errors import StoreError, UsageError
from bench_core.printable import few
from bench_core.results import files, locks, logs, store, suite_folder
from bench_core.results.hashing import canonical
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.scan import scan

pytestmark = pytest.mark.processes

IDENTITY = "0123456789abcdef" * 2
FILES = {
    "log.txt": b"a line\n",
    "epochs.jsonl": b"{}\n",
    "checkpoint.safetensors": bytes(range(200)),
}


def record(identity: str, **fields: Any) -> RunRecord:
    return run(**fields).model_copy(update={"identity": identity, "suite": "s"})


def place(final: Path, name: str) -> Path:
    """Where a worker writes a file of its run."""
    return store.output_file(final) if name == "log.txt" else store.temporary(final) / name


def build(final: Path, **fields: Any) -> RunRecord:
    """A run folder as a worker makes it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor = locks.lock(final)
    assert descriptor is not None
    store.clear_temporary(final)
    for name, content in FILES.items():
        place(final, name).write_bytes(content)
    try:
        return store.commit(record(final.name, **fields), final)
    finally:
        store.remove_temporary(final)
        locks.unlock(final, descriptor)


def test_late_measurements_stay_with_the_weights_that_they_measured(tmp_path: Path) -> None:
    """Also where the cell is trained anew, for more epochs in its curve: the weights are equal."""
    final = tmp_path / IDENTITY
    build(final)
    (final / "late.own.json").write_text("measured")
    (final / "late.also.json").write_text("measured")
    (final / "late.link.json").symlink_to("/etc/passwd")
    build(final, measurements={"also": Measurement(value=1.0)})
    assert [path.name for path in final.glob("late.*")] == ["late.own.json"]
    assert (final / "late.own.json").read_text() == "measured"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FILES, "checkpoint.safetensors", b"others")
        build(final)
    assert list(final.glob("late.*")) == []


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "results" / "s" / IDENTITY


# ---------------------------------------------------------------------------------------- write


def test_what_was_committed_is_read_and_nothing_else_is_left(final: Path) -> None:
    written = build(final)
    assert store.read(final, sums=True) == written
    assert sorted(path.name for path in final.iterdir()) == sorted([*FILES, "run.json"])
    assert [path.name for path in final.parent.iterdir()] == [IDENTITY]
    assert set(written.files) == set(FILES)


def test_a_newer_run_takes_the_place_of_an_older_one(final: Path) -> None:
    build(final, accuracy=0.1)
    before = store.stamp(final)
    build(final, accuracy=0.2)
    assert store.read(final).accuracy == 0.2
    assert store.stamp(final) != before
    assert [path.name for path in final.parent.iterdir()] == [IDENTITY]


@pytest.mark.parametrize("cut", ["timeout", "crashed", "oom", "interrupted"])
def test_a_run_that_was_cut_short_takes_no_results_place(final: Path, cut: str) -> None:
    build(final, accuracy=0.1)
    told = build(final, accuracy=None, status=cut, reason="it ended early")
    assert told.reason == "it ended early; its done run stays"
    assert store.read(final, sums=True).accuracy == 0.1
    failed = build(final.with_name("f" * 32), status="failed")
    assert store.result_of(final.with_name("f" * 32)) == ""
    kept = build(final.with_name("f" * 32), status=cut, reason="early")
    assert store.read(final.with_name("f" * 32)) == kept != failed


class Killed(BaseException):
    """The process ends here."""


def crashed(final: Path) -> None:
    """What the runner does whose worker was killed."""
    descriptor = locks.lock(final)
    told = store.commit(record(final.name, status="crashed", reason="SIGKILL"), final)
    assert told.reason == "SIGKILL; its done run stays"
    store.remove_temporary(final)
    locks.unlock(final, descriptor)


@pytest.mark.parametrize("write", [store.tidy, store.clear_temporary, crashed])
def test_a_kill_between_the_renames_loses_no_run(
    final: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    build(final, accuracy=0.1)
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name.startswith(".tmp-"):
            raise Killed
        return rename(path, target)

    descriptor = locks.lock(final)
    store.clear_temporary(final)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies)
        with pytest.raises(Killed):
            store.commit(record(IDENTITY, accuracy=0.2), final)
    os.close(descriptor)
    assert not final.exists()
    write(final.parent if write is store.tidy else final)
    assert store.read(final, sums=True).accuracy == 0.1
    store.tidy(final.parent)
    assert [path.name for path in final.parent.iterdir()] == [IDENTITY]


def test_a_kill_while_a_run_is_removed_brings_no_part_of_it_back(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(final)

    def dies(path: Path) -> None:
        if path.exists():
            (path / "run.json").unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", dies)
        with pytest.raises(Killed):
            store.remove(final)
    store.tidy(final.parent)
    assert list(final.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_folder_is_replaced_too(final: Path, kind: str) -> None:
    final.parent.mkdir(parents=True)
    final.write_text("in the way") if kind == "file" else final.symlink_to("nowhere")
    build(final)
    assert store.read(final, sums=True)
    assert [path.name for path in final.parent.iterdir()] == [IDENTITY]


@pytest.mark.parametrize("earlier", [True, False])
def test_whichever_write_fails_earlier_results_stay_and_none_is_half(
    final: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    """The n-th of all writes, fsyncs and renames of a commit fails, for every n until the commit
    gets through."""
    other = final.with_name("f" * 32)
    shutil.copytree(_other(final), other)
    failures = 0
    for n in range(1, 100):
        shutil.rmtree(final, ignore_errors=True)
        if earlier:
            build(final, accuracy=0.1)
        descriptor = locks.lock(final)
        store.clear_temporary(final)
        for name, content in FILES.items():
            place(final, name).write_bytes(content)
        with monkeypatch.context() as patch:
            calls = fail_at(n, patch)
            try:
                store.commit(record(IDENTITY, accuracy=0.2), final)
                done = True
            except StoreError as error:
                done, said = False, str(error)
        locks.unlock(final, descriptor)
        after_rename = not done and final.exists() and store.read(final, sums=True).accuracy == 0.2
        if not done:
            assert "No space left on device; runs that were finished before are intact" in said
            failures += 1
            if earlier and not after_rename:
                assert store.read(final, sums=True).accuracy == 0.1
            elif not after_rename:
                assert not final.exists()
        assert store.read(other, sums=True).accuracy == 0.7
        if len(calls) < n:
            break
    assert done
    assert failures >= (8 if earlier else 7)


def _other(final: Path) -> Path:
    """A finished run of another identity."""
    place = final.parent.parent / "elsewhere" / ("f" * 32)
    place.parent.mkdir(parents=True)
    descriptor = locks.lock(place)
    store.clear_temporary(place)
    store.commit(run(accuracy=0.7).model_copy(update={"identity": "f" * 32}), place)
    locks.unlock(place, descriptor)
    final.parent.mkdir(parents=True)
    return place


def fail_at(n: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the n-th system call that writes fail as on a full disk; the list of the calls that
    were made."""
    calls: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    patch.setattr(os, "fsync", failing("fsync", os.fsync))
    patch.setattr(Path, "rename", failing("rename", Path.rename))
    patch.setattr(os, "replace", failing("replace", os.replace))
    patch.setattr(files, "_write", failing("write", files._write))
    return calls


def test_suite_json_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite_folder.write(tmp_path, {"title": "old"})
    for n in (1, 2, 3):
        with monkeypatch.context() as patch:
            fail_at(n, patch)
            with pytest.raises(StoreError):
                suite_folder.write(tmp_path, {"title": "new"})
        assert suite_folder.read(tmp_path) == {"title": "old"}
        assert [path.name for path in tmp_path.iterdir()] == ["suite.json"]


def test_a_log_without_end_keeps_its_beginning_and_its_end(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LARGEST", 100)
    monkeypatch.setitem(FILES, "log.txt", b"first" + b"." * 5000 + b"last")
    build(final)
    log = (final / "log.txt").read_bytes()
    assert log.startswith(b"first")
    assert log.endswith(b"last")
    assert "[… the middle of this log was left out …]".encode() in log
    assert store.read(final, sums=True)


# ---------------------------------------------------------------------------------------- locks


def test_a_lock_has_one_holder(final: Path) -> None:
    final.parent.mkdir(parents=True)
    held = locks.lock(final)
    assert held is not None
    assert locks.lock(final) is None
    locks.unlock(final, held)
    assert list(final.parent.iterdir()) == []
    again = locks.lock(final)
    assert again is not None
    locks.unlock(final, again)


def test_a_lock_that_is_a_file_of_another_name_too_is_not_written(final: Path) -> None:
    """A received folder may hold a hard link to a file of this user."""
    final.parent.mkdir(parents=True, exist_ok=True)
    mine = final.parent / "mine.txt"
    mine.write_text("mine")
    os.link(mine, locks.beside(final, "lock"))
    with locks.locked(final):
        assert mine.read_text() == "mine"
    assert mine.read_text() == "mine"


def test_the_lock_of_a_killed_process_is_free_at_once(final: Path) -> None:
    final.parent.mkdir(parents=True)
    code = f"""
import pathlib, time
from bench_core.results import locks, logs, store
held = locks.lock(pathlib.Path({str(final)!r}))
store.clear_temporary(pathlib.Path({str(final)!r})).joinpath("half").touch()
print("held", flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert locks.lock(final) is None
        holder.send_signal(signal.SIGKILL)
    descriptor = locks.lock(final)
    assert descriptor is not None
    assert list(store.clear_temporary(final).iterdir()) == []
    store.remove_temporary(final)
    locks.unlock(final, descriptor)
    assert list(final.parent.iterdir()) == []


def test_what_killed_runners_left_is_thrown_away_and_what_is_locked_is_not(final: Path) -> None:
    """One was killed before, one after its run folder was renamed in; a third is at work."""
    build(final)
    dead, alive = final.with_name("a" * 32), final.with_name("b" * 32)
    for each in (final, dead, alive):
        descriptor = locks.lock(each)
        assert descriptor is not None
        if each is not final:
            (store.clear_temporary(each) / "half").touch()
        if each is not alive:
            os.close(descriptor)
    store.tidy(final.parent)
    assert sorted(path.name for path in final.parent.iterdir()) == sorted(
        [f".lock-{'b' * 32}", f".tmp-{'b' * 32}", IDENTITY]
    )
    assert store.read(final, sums=True)
    os.close(descriptor)


@pytest.mark.parametrize("name", ["", "."])
def test_a_lock_without_a_name_deletes_nothing_beside_the_suite_folder(
    tmp_path: Path, name: str
) -> None:
    suite = suite_folder.create(tmp_path, "s")
    (suite / f".lock-{name}").touch()
    (tmp_path / ".old-s").mkdir()
    (tmp_path / ".log-s").touch()
    store.tidy(suite)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".log-s", ".old-s", "s"]


# ----------------------------------------------------------------------------------------- read


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the JSON of run.json and seal it again: what a program with another idea of the
    schema writes."""

    def act(final: Path) -> None:
        raw = json.loads((final / "run.json").read_text())
        change(raw)
        raw["checksum"] = store._digest(raw)
        (final / "run.json").write_text(json.dumps(raw))

    return act


def flip(name: str, position: int) -> Callable[[Path], None]:
    def act(final: Path) -> None:
        content = bytearray((final / name).read_bytes())
        content[position] ^= 1
        (final / name).write_bytes(content)

    return act


def retext(old: str, new: str) -> Callable[[Path], None]:
    def act(final: Path) -> None:
        text = (final / "run.json").read_text()
        assert old in text
        (final / "run.json").write_text(text.replace(old, new))

    return act


def folder_for(name: str) -> Callable[[Path], None]:
    def act(final: Path) -> None:
        (final / name).unlink()
        (final / name).mkdir()

    return act


def pipe(final: Path) -> None:
    (final / "run.json").unlink()
    os.mkfifo(final / "run.json")


def link(final: Path) -> None:
    shutil.rmtree(final)
    final.symlink_to("nowhere")


def file_for_folder(final: Path) -> None:
    shutil.rmtree(final)
    final.write_text("")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (lambda f: os.truncate(f / "run.json", 300), "run.json is no JSON"),
    "empty": (lambda f: os.truncate(f / "run.json", 0), "run.json is no JSON"),
    "zeros": (lambda f: (f / "run.json").write_bytes(bytes(4000)), "run.json is no JSON"),
    "no UTF-8": (lambda f: (f / "run.json").write_bytes(b"\xff\xfe{}"), "run.json is no JSON"),
    "not a number": (retext('"accuracy": 0.4', '"accuracy": NaN'), "run.json is no JSON"),
    "endless nesting": (
        lambda f: (f / "run.json").write_text("[" * 100_000),
        "run.json is no JSON: recursion limit",
    ),
    "lone surrogate": (retext('"reason": null', '"reason": "\\ud800"'), "run.json is no JSON"),
    "a digit of the accuracy": (
        retext('"accuracy": 0.4', '"accuracy": 0.5'),
        "run.json was changed: its checksum differs",
    ),
    "gone": (lambda f: (f / "run.json").unlink(), "no run.json"),
    "folder instead": (folder_for("run.json"), "run.json is a folder, not a regular file"),
    "pipe instead": (pipe, "run.json is a FIFO, not a regular file"),
    "enormous": (
        lambda f: os.truncate(f / "run.json", files.LARGEST["run"] + 1),
        "run.json has 4194305 bytes; at most 4194304 are read",
    ),
    "a list": (lambda f: (f / "run.json").write_text("[]"), "no schema that this bench knows"),
    "newer schema": (
        edit(lambda raw: raw.update(schema=99)),
        "schema 99, newer than this bench reads",
    ),
    "older schema": (edit(lambda raw: raw.update(schema=0)), "no schema that this bench knows"),
    "no schema": (edit(lambda raw: raw.pop("schema")), "no schema that this bench knows"),
    "unknown status": (
        edit(lambda raw: raw.update(status="fine")),
        "does not follow its schema: status",
    ),
    "unknown field": (edit(lambda raw: raw.update(more=1)), "does not follow its schema: more"),
    "no cell": (edit(lambda raw: raw.pop("cell")), "does not follow its schema: cell"),
    "another identity": (
        edit(lambda raw: raw.update(identity="f" * 32)),
        "run.json is that of ffff",
    ),
    "a file outside": (
        edit(lambda raw: raw["files"].update({"../../../x": {"bytes": 1, "blake2b": ""}})),
        "../../../x is missing",
    ),
    "an endless name": (
        edit(lambda raw: raw["files"].update({"x" * 5000: {"bytes": 1, "blake2b": ""}})),
        "File name too long",
    ),
    "curves gone": (lambda f: (f / "epochs.jsonl").unlink(), "epochs.jsonl is missing"),
    "checkpoint a folder": (
        folder_for("checkpoint.safetensors"),
        "checkpoint.safetensors is a folder, not a regular file",
    ),
    "checkpoint truncated": (
        lambda f: os.truncate(f / "checkpoint.safetensors", 9),
        "checkpoint.safetensors has 9 bytes, not 200",
    ),
    "checkpoint flipped": (
        flip("checkpoint.safetensors", 77),
        "checkpoint.safetensors was changed: its checksum differs",
    ),
    "file for folder": (file_for_folder, "is a regular file, not a folder"),
    "dangling link": (link, "is a link, not a folder"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_a_reason_and_a_line_and_never_a_row(final: Path, damage: str) -> None:
    act, reason = DAMAGE[damage]
    build(final)
    act(final)
    with pytest.raises(store.Unreadable) as caught:
        store.read(final, sums=True)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    if damage != "checkpoint flipped":  # readers check sizes; `bench run` also the sums
        results, troubles = gather([final.parent.parent])
        assert results == []
        assert len(troubles) == 1
        assert troubles[0].startswith(f"{final}: not counted: ")


@settings(max_examples=60)
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=3
    )
)
def test_whatever_bytes_change_the_record_is_refused_or_the_same(
    tmp_path: Path, edits: list[tuple[float, bytes]]
) -> None:
    final = tmp_path / "s" / IDENTITY
    if not final.exists():
        build(final)
        (tmp_path / "original").write_bytes((final / "run.json").read_bytes())
    content = (tmp_path / "original").read_bytes()
    written = RunRecord.model_validate_json(content)
    for where, new in edits:
        at = int(where * len(content))
        content = content[:at] + new + content[at + max(len(new), 1) :]
    (final / "run.json").write_bytes(content)
    with contextlib.suppress(store.Unreadable):
        assert store.read(final) == written


def test_a_record_from_before_the_checksum_is_read(final: Path) -> None:
    build(final)
    raw = json.loads((final / "run.json").read_text())
    del raw["checksum"]
    (final / "run.json").write_text(json.dumps(raw | {"schema": 1}))
    assert store.read(final, sums=True).accuracy == 0.4


def test_quarantine_keeps_the_folder_and_says_why(final: Path) -> None:
    for number in (1, 2):
        build(final)
        (final / "run.json").unlink()
        assert store.quarantine(final, "no run.json").name == f"{IDENTITY}-{number}"
        assert not final.exists()
    home = final.parent / "quarantine"
    assert (home / f"{IDENTITY}-2.reason.txt").read_text() == "no run.json\n"
    assert (home / f"{IDENTITY}-1" / "log.txt").exists()
    assert gather([final.parent.parent]) == ([], [])


# -------------------------------------------------------------------------------------- folders


def test_results_may_lie_anywhere(tmp_path: Path) -> None:
    results = tmp_path / "mit Leerzeichen ünd 字"
    folder = suite_folder.create(results, "s")
    build(folder / IDENTITY)
    (tmp_path / "link").symlink_to(results)
    for root in (results, folder, folder / IDENTITY, tmp_path / "link"):
        (found,) = scan([root]).runs
        assert found.record.identity == IDENTITY
    assert len(scan([results, folder, tmp_path / "link"]).runs) == 1


@pytest.mark.parametrize("kind", ["a file", "dangling link", "suite is a file", "below a file"])
def test_what_cannot_be_a_results_folder_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    results = tmp_path / "results"
    if kind == "a file":
        results.touch()
    elif kind == "dangling link":
        results.symlink_to("nowhere/at all")
    elif kind == "suite is a file":
        results.mkdir()
        (results / "s").touch()
    else:
        (tmp_path / "file").touch()
        results = tmp_path / "file" / "results"
    with pytest.raises(UsageError, match=r"cannot be written: .*; choose another folder$"):
        suite_folder.create(results, "s")


def test_a_file_that_is_named_as_results_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(UsageError, match="/notes is a file, not a folder; choose another folder"):
        suite_folder.create(tmp_path / "notes", "s")


def test_a_read_only_results_folder_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated: the tests may run as root, whom no mode stops."""

    def refused(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(UsageError, match="cannot be written: Read-only file system"):
        suite_folder.create(tmp_path, "s")
    with pytest.raises(StoreError, match="cannot be written: Read-only file system"):
        locks.lock(tmp_path / "s" / IDENTITY)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"cells": 3}', '{"thresholds": "x"}', "[" * 100_000, '{"name": 1}']
)
def test_a_damaged_suite_json_loses_no_run_and_is_said(final: Path, content: str) -> None:
    build(final)
    (final.parent / "suite.json").write_text(content)
    (results,), (line,) = gather([final.parent.parent])
    assert results.name == "s"
    assert [each.identity for each in results.records] == [IDENTITY]
    assert line.startswith(f"{final.parent / 'suite.json'}: cannot be read")


def test_no_such_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such results folder; `bench run SUITE` writes one"):
        scan([tmp_path / "nowhere"])


def one_tensor(value: float) -> Any:
    import torch

    return torch.tensor([value])


@pytest.mark.parametrize(
    "kind",
    [
        np.int64,
        np.uint8,
        np.float32,
        np.float64,
        np.longdouble,
        np.array,
        lambda value: np.array([[value]]),
        one_tensor,
    ],
)
def test_numbers_of_numpy_are_numbers(kind: Any) -> None:
    value = kind(3)
    assert canonical({"a": [value]}) == canonical({"a": [3]}) == '{"a": [3]}'
    details = {"one": value, "many": [value], "by": {"x": (value,)}}
    written = json.loads(Measurement(value=value, details=details).model_dump_json())
    assert written["value"] == 3
    assert written["details"] == {"one": 3, "many": [3], "by": {"x": [3]}}


def test_keys_and_names_of_numpy_are_stored_as_plain_values() -> None:
    details = {"by": {np.int64(2): [np.float32(1.5), np.float32("nan")]}, "yes": np.bool_(True)}
    written = json.loads(Measurement(details=details).model_dump_json())["details"]
    assert written == {"by": {"2": [1.5, "nan"]}, "yes": True}


def test_a_run_that_another_bench_holds_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "suite" / ("a" * 32)
    folder.parent.mkdir()
    busy = pytest.raises(StoreError, match="another bench is at work")
    with locks.owned(folder), busy, locks.owned(folder):
        pytest.fail("both hold it")
    with locks.owned(folder):  # free again
        pass


def test_a_short_list_names_three() -> None:
    assert [few(list("abcde"[:n])) for n in (1, 3, 5)] == ["a", "a, b, c", "a, b, c and 2 more"]


def test_the_obstacle_in_a_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    for place, said in (
        (tmp_path / "dangling", "dangling is a link to .*/gone, which does not exist; choose"),
        (tmp_path / "file" / "sub", "/file is a file, not a folder; choose another folder"),
        (Path("/dev/null"), "/dev/null is a device, not a folder; choose another folder"),
    ):
        with pytest.raises(UsageError, match=said):
            suite_folder.create(place, "s")
