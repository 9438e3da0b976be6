"""The one place through which files of results folders are read and written."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
import side_files
from folders import write
from records import run as a_run

from bench_core.analysis.gather import gather
from bench_core.analysis.prune import spare
from bench_core.errors import StoreError, UsageError
from bench_core.results import epochs, files, locks, remeasured, store, suite_folder
from bench_core.results.record import FileSum
from bench_core.results.remeasured import late_files
from bench_core.results.scan import Stored, _weight, scan
from bench_core.sharing import verify

pytestmark = pytest.mark.processes

IDENTITY = "ab" * 16


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return suite_folder.create(tmp_path / "results", "s") / IDENTITY


# ------------------------------------------------------------------------------------------- read


@pytest.mark.parametrize("kind", side_files.KINDS)
def test_only_a_regular_file_of_a_fitting_size_is_read(tmp_path: Path, kind: str) -> None:
    own = side_files.own_files(tmp_path)
    (tmp_path / "run").mkdir()
    place = tmp_path / "run" / "late.json"
    place.write_text("{}")
    assert files.read(place, "late") == b"{}"
    side_files.plant(place, "late", kind, own)
    for read in (files.read, files.read_json):
        with pytest.raises(
            files.Refused, match=r"is a .*, not a regular file|at most \d+ are read"
        ):
            read(place, "late")
    if kind != "too large":  # for a file of tensors it is small
        with pytest.raises(files.Refused), files.tensors(place):
            pass


def test_no_part_of_a_path_that_a_stranger_chose_may_be_a_link(tmp_path: Path) -> None:
    """The folders before are the user's own, and may be links."""
    (tmp_path / "there" / "run").mkdir(parents=True)
    (tmp_path / "there" / "run" / "file").write_text("x")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "there" / "other").symlink_to("run")
    assert files.read(tmp_path / "link" / "run" / "file", "late") == b"x"
    with pytest.raises(files.Refused, match="is a link, not a folder"):
        files.read(tmp_path / "there" / "other" / "file", "late")
    with pytest.raises(files.Refused, match="is a link, not a folder"):
        files.read(tmp_path / "link" / "run" / "file", "late", parts=3)
    with pytest.raises(StoreError, match="other is a link, not a folder; remove it"):
        files.replace_file(tmp_path / "there" / "other" / "file", "y", parts=2)
    assert (tmp_path / "there" / "run" / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 900 + b"]" * 900, "is no JSON: recursion limit"),
        (b'{"a": %s}' % (b"7" * 400), "has an integer of 400 digits"),
        (b'{"a": -9223372036854775809}', "has an integer of 20 digits"),
        (b'{"a": 1e400}', "has the number 1e400"),
        (b'{"a": NaN}', "is no JSON"),
        (b'{"a": "\\ud800"}', "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" + b"[]," * 70_000 + b"1]", "has more than 65,536 values"),
    ],
)
def test_json_of_strangers_is_bounded(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        files.parsed(content, "agreement")


def test_json_is_read_as_python_reads_it() -> None:
    text = '{"a": [1, -0.0, 0.1, 5e-324, 9223372036854775807, "\\u00e9", null, true, {}]}'
    assert files.parsed(text.encode(), "run") == json.loads(text)


def test_a_long_field_of_a_record_is_set_aside_by_name(final: Path) -> None:
    """Labels, keys and comparisons are made of a cell many times over."""
    record = a_run(params={"x": [0] * 50_000}).model_copy(update={"identity": IDENTITY})
    store.clear_temporary(final)
    store.commit(record, final)
    with pytest.raises(store.Unreadable, match=r"run.json: cell has \d+ characters"):
        store.read(final)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"thresholds": {"x": "%s"}}' % ("x" * (1 << 20)), "characters of thresholds"),
        ("[]", "is no mapping"),
        ('{"cells": %s}' % ("[" * 300), "is no JSON"),
    ],
)
def test_a_suite_json_that_is_not_read_is_named(final: Path, content: str, reason: str) -> None:
    store.clear_temporary(final)
    store.commit(a_run().model_copy(update={"identity": IDENTITY}), final)
    (final.parent / suite_folder.SUITE).write_text(content)
    (results,), (line,) = gather([final.parent])
    assert line.startswith(f"{final.parent / suite_folder.SUITE}: cannot be read: it ")
    assert reason in line
    assert results.name == "s"


def test_a_run_that_claims_endless_epochs_costs_no_memory(final: Path) -> None:
    training = {"epochs": 10**8}
    record = a_run(epochs=10**8, training=training).model_copy(update={"identity": IDENTITY})
    store.clear_temporary(final)
    row = {"epoch": 0, "accuracy": 0.4, "train_loss": None, "seconds": 0.0, "measurements": {}}
    (store.temporary(final) / store.EPOCHS).write_text(json.dumps(row) + "\n")
    stored = Stored(store.commit(record, final), final)
    tracemalloc.start()
    lines = verify.faults(stored)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("epochs.jsonl has not the epochs 0 … 100000000" in line for line in lines)
    assert peak < 20 << 20


def test_a_curve_is_read_within_limits(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final.mkdir()
    row = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.5}
    (final / store.EPOCHS).write_text(
        "".join(json.dumps({**row, "epoch": k}) + "\n" for k in range(20))
    )
    assert len(epochs.read(final)) == 20
    with pytest.raises(store.Unreadable, match="was changed: its checksum differs"):
        epochs.read(final, FileSum(bytes=1, blake2b="0" * 32))  # of a curve put in its place later
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "MOST", 50)
        with pytest.raises(store.Unreadable, match=r"epochs\.jsonl has more than 50 values"):
            epochs.read(final)
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "ROWS", 19)
        with pytest.raises(store.Unreadable, match=r"epochs\.jsonl has more than 19 rows"):
            epochs.read(final)
        (final / store.EPOCHS).write_text("\n" * 20)  # empty ones take time, too
        with pytest.raises(ValueError, match="has more than 19 rows"):
            list(epochs.lines(final))
        patch.setattr(epochs, "ROWS", 100)
        assert list(epochs.lines(final)) == []
        (final / store.EPOCHS).write_text(json.dumps(row) + "\n")
    monkeypatch.setitem(files.LARGEST, "row", 30)
    with pytest.raises(store.Unreadable, match=r"epochs\.jsonl has a row of more than 30 bytes"):
        epochs.read(final)


def test_only_odd_numbers_are_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second parser, which looks at every number, is ten times as slow."""
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed twice"))
    assert files.parsed(b'{"x": [0.0001234567890123456789, -12, 1e-300]}', "row")["x"][1] == -12


def test_late_measurements_of_a_run_have_a_common_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"late.{name}.json").write_text("x" * (60 if name == "a" else 30))
    monkeypatch.setitem(files.LARGEST, "late", 65)
    troubles: list[str] = []
    assert [path.name for path in late_files(tmp_path, troubles)] == ["late.a.json"]
    assert [line.partition(": left out")[0][-11:] for line in troubles] == [
        "late.b.json",
        "late.c.json",
    ]
    monkeypatch.setattr(remeasured, "MOST_MEASUREMENTS", 2)
    (tmp_path / "late.a.json").write_text("")
    troubles.clear()
    assert [path.name for path in late_files(tmp_path, troubles)] == ["late.a.json", "late.b.json"]


def test_runs_beyond_the_memory_of_a_command_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, [a_run(seed=seed) for seed in range(5)], None)
    whole = scan([folder])
    monkeypatch.setattr(files, "MEMORY", sum(_weight(run.folder) for run in whole.runs[:3]) + 9)
    part = scan([folder])
    assert [run.folder for run in part.runs] == [run.folder for run in whole.runs[:3]]
    (line,) = part.troubles
    assert line.startswith(f"{whole.runs[3].folder} and 1 more: not counted: ")
    assert "BENCH_MEMORY" in line


@pytest.mark.parametrize("told", ["x", "0", "-1", "1.5"])
def test_a_memory_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(files, "_MB", told)
    with pytest.raises(UsageError, match=f"BENCH_MEMORY='{told}' is no positive whole number"):
        scan([tmp_path])


def test_only_a_failed_write_beside_runs_speaks_of_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = {}
    for output in (False, True):
        with pytest.raises(StoreError, match="Not a directory") as failed:
            files.replace_file(tmp_path / "file" / "x", "text", output=output)
        said[output] = str(failed.value)
    assert said[False] == f"{said[True]}; runs that were finished before are intact"


def test_an_enormous_header_of_tensors_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / store.PROBE
    path.parent.mkdir()
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with (
        pytest.raises(files.Refused, match="has a header of 1099511627776 bytes"),
        files.tensors(path),
    ):
        pass


# ------------------------------------------------------------------------------------------ write


def test_what_is_written_leads_nowhere(final: Path) -> None:
    own = side_files.own_files(final.parent.parent)
    before = side_files.state(own)
    suite = final.parent
    for name in ("suite.json", store.resume_file(final).name):
        (suite / name).symlink_to(own / "file")
        files.replace_file(suite / name, "new")
        assert (suite / name).read_text() == "new"
        assert not (suite / name).is_symlink()
    for name in (f".lock-{IDENTITY}", f".log-{IDENTITY}", "agreement", "quarantine"):
        (suite / name).symlink_to(own / "nothing" if name.startswith(".") else own / "folder")
    with pytest.raises(StoreError, match="is a link, not a regular file; remove it"):
        locks.lock(final)
    with pytest.raises(files.Refused):
        files.append_to(store.output_file(final))
    final.mkdir()
    with pytest.raises(StoreError, match="quarantine: cannot be written: it is a link"):
        store.quarantine(final, "a test")
    with pytest.raises(files.Refused):
        files.make_folder(suite / "agreement" / "x", parts=2)
    assert side_files.state(own) == before


def test_a_suite_folder_that_is_a_link_is_a_usage_error(tmp_path: Path) -> None:
    own = side_files.own_files(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "s").symlink_to(own / "folder")
    with pytest.raises(UsageError, match="is a link, not a folder"):
        suite_folder.create(tmp_path / "results", "s")


def test_temporary_names_cannot_be_known_and_are_cleared_when_they_are_old(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers on one folder have processes of one number."""
    names, real = [], os.replace
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(
        os, "replace", lambda one, other, **at: names.append(one) or real(one, other, **at)
    )
    for _ in range(2):
        suite_folder.write(final.parent, {})
    assert len(set(names)) == 2
    old, young = (final.parent / f"{files.NEW}{letter}" for letter in "ab")
    for path in (old, young):
        path.touch()
    os.utime(old, times=(time.time() - 2 * files.STALE,) * 2)
    store.tidy(final.parent)
    assert (old.exists(), young.exists()) == (False, True)


def test_clean_looks_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "other" / "quarantine" / "x").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "s").symlink_to(tmp_path / "other")
    assert list(spare([tmp_path / "results"])) == []


# ---------------------------------------------------------- network file systems and open files


@pytest.mark.parametrize("name", [".fuse_hidden0000000800000003", ".nfs000000000000abcd"])
def test_hidden_files_of_file_systems_are_no_part_of_a_run(final: Path, name: str) -> None:
    """They stand for a file that was removed while it was open, and vanish when it is closed."""
    store.clear_temporary(final)
    hidden = store.temporary(final) / name
    hidden.touch()
    store.commit(a_run().model_copy(update={"identity": IDENTITY}), final)
    (final / name).unlink()
    assert set(store.read(final, sums=True).files) == set()


def test_an_open_file_is_neither_renamed_nor_replaced_nor_removed(final: Path) -> None:
    """The worker has the file open to which it prints, and commits."""
    store.clear_temporary(final)
    with files.append_to(store.output_file(final)) as output:
        output.write(b"printed\n")
        output.flush()
        before = os.fstat(output.fileno())
        store.commit(a_run().model_copy(update={"identity": IDENTITY}), final)
        assert os.path.samestat(before, store.output_file(final).stat())
        output.write(b"printed late\n")
    assert (final / "log.txt").read_text() == "printed\n"
    assert store.read(final, sums=True)
    store.remove_temporary(final)
    assert not store.output_file(final).exists()
