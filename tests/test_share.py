"""Results of several people: merged without loss, checked for what cannot be, and made again."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import TINY, Here, leftovers
from records import PASSPORT, measured, run

from bench_core.analysis.gather import gather
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.cli import bench
from bench_core.errors import StoreError, UsageError
from bench_core.execution.planning.fingerprint import ALGORITHM, cell_identity
from bench_core.report.pages.page import page
from bench_core.report.tables.formats import leaderboards
from bench_core.report.tables.next_steps import next_steps
from bench_core.results import ledger, locks, marks, store, suite_folder
from bench_core.results.agreement import CLOCK, compare, disagreement
from bench_core.results.record import (
    SCHEMA,
    FileSum,
    Measurement,
    RunRecord,
    cell_key,
    same_environment,
)
from bench_core.results.scan import Stored, scan
from bench_core.results.store import CHECKPOINT
from bench_core.sharing import merge as merging
from bench_core.sharing import replicate, verify

CORPUS = Path(__file__).parent / "corpus"
HERE, THERE = {"torch": "2.15", "device_name": "a"}, {"torch": "2.14", "device_name": "a"}
WEIGHTS = FileSum(bytes=1, blake2b="w")
CODE = {"bench-core": {"version": "1", "digest": "d"}}


def true(**fields: Any) -> RunRecord:
    """A record whose identity is that of its cell, with an environment."""
    record = run(**{"environment": HERE, "code": CODE, "algorithm": ALGORITHM, **fields})
    identity = cell_identity(
        record.cell.model_dump(mode="json"), {"bench-core": "d"}, record.data_checksum
    )
    return record.model_copy(update={"identity": identity, "suite": "s"})


def named(digit: str, **fields: Any) -> RunRecord:
    """The same cell under an identity of another code."""
    return true(**fields).model_copy(update={"identity": digit * 32})


def rows(record: RunRecord) -> str:
    """The epochs.jsonl that belongs to a record."""
    lines = []
    for epoch in range(record.epochs + 1):
        last = epoch == record.epochs
        told = (
            {name: item.model_dump(mode="json") for name, item in record.measurements.items()}
            if last
            else {}
        )
        row = {
            "epoch": epoch,
            "accuracy": record.accuracy,
            "train_loss": record.train_loss if last else 1.0,
        }
        lines.append(json.dumps({**row, "seconds": 0.1, "measurements": told}))
    return "\n".join(lines) + "\n"


def put(results: Path, record: RunRecord, **files: str) -> Path:
    """A complete run folder."""
    final = suite_folder.create(results, "s") / record.identity
    lock = locks.lock(final)
    assert lock is not None
    folder = store.clear_temporary(final)
    if record.status == "done":
        contents = {
            "epochs.jsonl": rows(record),
            "checkpoint.safetensors": f"weigh{record.cell.seed % 100:02}",
            "probe.safetensors": "states",
        }
        for name, content in {
            **contents,
            **{key.replace("_", "."): value for key, value in files.items()},
        }.items():
            (folder / name).write_text(content)
    store.commit(record, final)
    locks.unlock(final, lock)
    return final


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------------------------------- merge


def test_runs_are_copied_as_they_are_and_twice_is_once(tmp_path: Path) -> None:
    put(tmp_path / "a", true(seed=1))
    put(tmp_path / "b", true(seed=2))
    suite_folder.write(tmp_path / "b" / "s", {"name": "s", "cells": {"k": "v"}, "title": "theirs"})
    for _ in range(2):
        done = merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "into")
        assert done.conflicts == []
    assert done.count("same") == 2
    assert tree(tmp_path / "into") == tree(tmp_path / "a") | tree(tmp_path / "b")
    assert leftovers(tmp_path / "into" / "s") == []


def test_other_numbers_from_the_same_environment_are_a_conflict_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    put(tmp_path / "a", true(seed=1, accuracy=0.4))
    put(tmp_path / "b", true(seed=1, accuracy=0.5))
    put(tmp_path / "b", true(seed=2))
    before = tree(tmp_path / "a")
    done = merging.merge([tmp_path / "b"], tmp_path / "a")
    (line,) = done.conflicts
    assert "accuracy 0.5 and 0.4" in line
    assert str(tmp_path / "a") in line
    assert tree(tmp_path / "a") == before
    both = merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "new")
    assert len(both.conflicts) == 1
    assert not (tmp_path / "new").exists()


def test_other_weights_alone_are_a_conflict(tmp_path: Path) -> None:
    put(tmp_path / "a", true(seed=1))
    put(tmp_path / "b", true(seed=1), checkpoint_safetensors="others")
    assert "weights differ" in merging.merge([tmp_path / "b"], tmp_path / "a").conflicts[0]


@pytest.mark.parametrize(
    ("theirs", "fate"),
    [
        ({"accuracy": 0.5}, "conflict"),
        ({"accuracy": 0.5, "environment": THERE}, "replicate"),
        ({}, "same"),
    ],
)
def test_a_run_that_another_merge_wrote_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: dict[str, Any], fate: str
) -> None:
    """The second merge runs between the first one's look at the target and its first lock."""
    mine = put(tmp_path / "a", true(seed=1, accuracy=0.4))
    put(tmp_path / "a", true(seed=2))
    put(tmp_path / "b", true(seed=1, **{"accuracy": 0.4, **theirs}))
    lock, waiting = locks.lock, [True]

    def late(final: Path) -> int | None:
        if waiting and waiting.pop():
            assert merging.merge([tmp_path / "b"], tmp_path / "into").count("copy") == 1
        return lock(final)

    monkeypatch.setattr(locks, "lock", late)
    done = merging.merge([tmp_path / "a"], tmp_path / "into")
    accuracies = {run.record.accuracy for run in scan([tmp_path / "into"]).runs}
    assert done.fates[mine] == fate
    assert done.late is bool(done.conflicts) is (fate == "conflict")
    assert {theirs.get("accuracy", 0.4)} <= accuracies
    assert len(scan([tmp_path / "into"]).runs) == 2
    kept = list((tmp_path / "into" / "s" / store.REPLICATES).glob("*/*/run.json"))
    assert [json.loads(path.read_text())["accuracy"] for path in kept] == (
        [0.4] if fate == "replicate" else []
    )
    assert leftovers(tmp_path / "into" / "s") == []


def test_two_merges_into_one_folder_keep_the_cells_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other merge writes suite.json just before this one has the lock of the suite."""
    for name, seed in (("a", 1), ("b", 2)):
        put(tmp_path / name, true(seed=seed))
        suite_folder.write(tmp_path / name / "s", {"name": "s", "cells": {name: "identity"}})
    put(tmp_path / "into", true(seed=3))
    suite_folder.write(tmp_path / "into" / "s", {"name": "s", "cells": {}})
    lock, waiting = locks.lock, [True]

    def late(final: Path) -> int | None:
        if final.name == suite_folder.SUITE and waiting and waiting.pop():
            merging.merge([tmp_path / "b"], tmp_path / "into")
        return lock(final)

    monkeypatch.setattr(locks, "lock", late)
    merging.merge([tmp_path / "a"], tmp_path / "into")
    suite = suite_folder.read(tmp_path / "into" / "s")
    assert suite is not None
    assert suite["cells"] == {"a": "identity", "b": "identity"}


@pytest.mark.parametrize("how", ["environment", "not deterministic"])
def test_a_replicate_is_kept_beside_and_not_counted(tmp_path: Path, how: str) -> None:
    recipe = {"deterministic": False} if how == "not deterministic" else {}
    put(tmp_path / "a", true(seed=1, accuracy=0.4, training=recipe))
    environment = THERE if how == "environment" else HERE
    theirs = put(
        tmp_path / "b", true(seed=1, accuracy=0.5, training=recipe, environment=environment)
    )
    done = merging.merge([tmp_path / "b"], tmp_path / "a")
    assert done.count("replicate") == 1
    (kept,) = (tmp_path / "a" / "s" / "replicates").glob("*/*")
    assert tree(kept) == tree(theirs)
    (results,), troubles = gather([tmp_path / "a"])
    assert [record.accuracy for record in results.records] == [0.4]
    assert troubles == []


def test_two_replicates_of_one_environment_that_differ_are_a_conflict(tmp_path: Path) -> None:
    """Neither may replace the other, whether they come at once or one after the other."""
    put(tmp_path / "a", true(seed=1, accuracy=0.4))
    for name, accuracy in (("b", 0.41), ("c", 0.61), ("d", 0.41)):
        put(tmp_path / name, true(seed=1, accuracy=accuracy, environment=THERE))
    both = [tmp_path / "b", tmp_path / "c"]
    done = merging.merge([tmp_path / "a", *both], tmp_path / "at_once")
    assert [done.count(fate) for fate in ("replicate", "conflict")] == [1, 1]
    assert "accuracy 0.61 and 0.41" in done.conflicts[0]
    assert not (tmp_path / "at_once").exists()
    assert merging.merge(both[:1], tmp_path / "a").count("replicate") == 1
    assert merging.merge([tmp_path / "d"], tmp_path / "a").count("same") == 1
    assert merging.merge(both[1:], tmp_path / "a").count("conflict") == 1
    (kept,) = (tmp_path / "a" / "s" / "replicates").glob("*/*")
    assert store.read(kept).accuracy == 0.41


@pytest.mark.parametrize(
    ("new", "there", "stays"),
    [("done", "crashed", False), ("crashed", "done", True), ("timeout", "oom", True)],
)
def test_a_run_that_ended_is_worth_more_than_one_that_did_not(
    tmp_path: Path, new: Any, there: Any, stays: bool
) -> None:
    put(tmp_path / "a", true(seed=1, status=there, reason="r"))
    put(tmp_path / "b", true(seed=1, status=new, reason="r"))
    merging.merge([tmp_path / "b"], tmp_path / "a")
    (found,) = scan([tmp_path / "a"]).runs
    assert found.record.status == (there if stays else new)


def test_what_is_damaged_is_left_out_and_said(tmp_path: Path) -> None:
    folder = put(tmp_path / "b", true(seed=1))
    (folder / "checkpoint.safetensors").write_text("Weights")
    done = merging.merge([tmp_path / "b"], tmp_path / "a")
    assert done.fates == {}
    assert "left out: checkpoint.safetensors was changed" in done.troubles[0]
    with pytest.raises(UsageError, match="is merged into itself"):
        merging.merge([tmp_path / "b"], tmp_path / "b")


def test_a_full_disk_leaves_the_target_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a", true(seed=1))
    put(tmp_path / "b", true(seed=2))
    before = tree(tmp_path / "a")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        merging.merge([tmp_path / "b"], tmp_path / "a")
    assert tree(tmp_path / "a") == before
    assert leftovers(tmp_path / "a" / "s") == []


def test_the_targets_word_on_how_to_judge_stays(tmp_path: Path) -> None:
    for name, title, seed in (("a", "ours", 1), ("b", "theirs", 2)):
        put(tmp_path / name, true(seed=seed))
        cells = {"shared": name, name: name}
        suite_folder.write(
            tmp_path / name / "s", {"title": title, "cells": cells, "thresholds": {"x": seed}}
        )
    done = merging.merge([tmp_path / "b"], tmp_path / "a")
    told = suite_folder.read(tmp_path / "a" / "s")
    assert told == {
        "title": "ours",
        "cells": {"shared": "a", "a": "a", "b": "b"},
        "thresholds": {"x": 1},
    }
    assert "judged by other thresholds" in done.troubles[0]


def test_a_stopped_merge_is_completed_and_a_search_that_stays_out_is_named(tmp_path: Path) -> None:
    folder = put(tmp_path / "a", true(seed=1)).parent
    search = ledger.Tuned(
        method={}, seed=0, trials=1, scored_on="validation", sampler="", versions={}, space={}
    )
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    ledger.write(folder, "s", {"dfa": search})
    assert merging.merge([tmp_path / "a"], tmp_path / "b").troubles == []
    assert tree(tmp_path / "b") == tree(tmp_path / "a")
    ledger.write(folder, "s", {"dfa": search.model_copy(update={"trials": 2})})
    (line,) = merging.merge([tmp_path / "a"], tmp_path / "b").troubles
    assert "its search of dfa is left out" in line


# --------------------------------------------------------------------------------------- verify


def test_a_sound_run_has_no_fault(tmp_path: Path) -> None:
    folder = put(tmp_path, true(seed=1))
    assert verify.faults(Stored(store.read(folder), folder)) == []
    (failed,) = [put(tmp_path, true(seed=2, status="failed", reason="it raised"))]
    assert verify.faults(Stored(store.read(failed), failed)) == []


LIES: dict[str, tuple[Callable[[RunRecord], RunRecord], str]] = {
    "accuracy over 1": (
        lambda r: r.model_copy(update={"accuracy": 1.7}),
        "accuracy 1.7 is not between 0 and 1",
    ),
    "no accuracy": (
        lambda r: r.model_copy(update={"accuracy": None}),
        "done, but without an accuracy",
    ),
    "too few epochs": (
        lambda r: r.model_copy(update={"epochs": 3}),
        "done after 3 epochs, but its recipe has 100",
    ),
    "too many epochs": (
        lambda r: r.model_copy(update={"epochs": 101}),
        "101 epochs, more than its recipe's 100",
    ),
    "other cell": (
        lambda r: r.model_copy(update={"data_checksum": "other"}),
        "its identity is not that of its cell",
    ),
    "a cosine of 1.4": (
        lambda r: r.model_copy(
            update={
                "measurements": {
                    "alignment": r.measurements["alignment"].model_copy(update={"value": 1.4})
                }
            }
        ),
        "measurements.alignment: 1.4 is no cosine",
    ),
    "a cost that its operations do not give": (
        lambda r: r.model_copy(
            update={
                "measurements": {
                    **r.measurements,
                    "step_cost": Measurement(value=1.1, details={"forward": 9, "bp": 10}),
                }
            }
        ),
        "measurements.step_cost: 1.1 is not 9 operations over bp's 10",
    ),
    "faster than its epochs": (
        lambda r: r.model_copy(update={"seconds": 2.0}),
        "of training in a run of 2.0 s",
    ),
    "a name with a space that cannot be seen": (
        lambda r: r.model_copy(
            update={
                "cell": r.cell.model_copy(
                    update={
                        "method": r.cell.method.model_copy(update={"name": "bench-core/bp\xa0"})
                    }
                )
            }
        ),
        "method 'bench-core/bp\\xa0': its name must be 1 to 64 of a-z",
    ),
    "the letter of a built-in diagnostic": (
        lambda r: r.model_copy(update={"measurements": {"growth": r.measurements["scale_growth"]}}),
        "measurement growth has the letter a of scale_growth",
    ),
    "a built-in diagnostic that no replica would compare": (
        lambda r: r.model_copy(
            update={
                "measurements": {
                    "alignment": r.measurements["alignment"].model_copy(
                        update={"repeatable": False}
                    )
                }
            }
        ),
        "measurement alignment is stated as not repeatable",
    ),
    "a passport without a line": (
        lambda r: r.model_copy(update={"passport": {k: PASSPORT[k] for k in list(PASSPORT)[1:]}}),
        "its passport lacks exact_hidden_gradients",
    ),
    "a setting that is none": (
        lambda r: true(seed=1, training={"label_noise": 0.4}),
        "no setting training.label_noise",
    ),
    "a setting out of its range": (
        lambda r: true(seed=1, training={"batch_size": -1}),
        "training.batch_size must be between 1 and 1,000,000, not -1",
    ),
    "a seed that is none": (lambda r: true(seed=-5), "seed -5 is not between 0 and 4294967295"),
    "failed without a reason": (
        lambda r: r.model_copy(update={"status": "failed", "reason": None}),
        "without a reason",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_is_said(tmp_path: Path, lie: str) -> None:
    change, said = LIES[lie]
    record = change(true(seed=1))
    folder = put(tmp_path, record)
    assert any(said in line for line in verify.faults(Stored(record, folder)))
    done = merging.merge([tmp_path], tmp_path / "into")
    assert any(said in line for line in done.troubles)
    assert not (tmp_path / "into").exists() or not scan([tmp_path / "into"]).runs


def test_a_share_over_one_or_a_missing_checksum_is_in_no_table(tmp_path: Path) -> None:
    over, bare = put(tmp_path, true(seed=1, accuracy=1.7)), put(tmp_path, true(seed=2))
    raw = json.loads((bare / "run.json").read_text())
    del raw["checksum"]
    (bare / "run.json").write_text(json.dumps(raw))
    found = scan([tmp_path])
    assert found.runs == []
    assert sorted(line.rpartition(": ")[2] for line in found.troubles) == [
        "accuracy 1.7 is not between 0 and 1",
        "run.json has no checksum",
    ]
    assert all(str(folder) in "".join(found.troubles) for folder in (over, bare))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda text: text.replace('"accuracy": 0.4', '"accuracy": 0.5'),
            "accuracy is 0.4 in run.json and 0.5 at the end",
        ),
        (lambda text: "\n".join(text.splitlines()[1:]) + "\n", "has not the epochs 0 … 100"),
        (lambda text: text[: len(text) // 2], "epochs.jsonl is no JSON"),
        (lambda text: "", "epochs.jsonl has no row"),
        (
            lambda text: text.replace('"value": 1.1', '"value": 1.2'),
            "scale_growth is 1.1 in run.json and 1.2",
        ),
    ],
)
def test_a_curve_that_tells_another_story_is_said(
    tmp_path: Path, edit: Callable[[str], str], said: str
) -> None:
    """Edited before the sums were taken: as a program would that invents results."""
    record = true(seed=1)
    folder = put(tmp_path, record, epochs_jsonl=edit(rows(record)))
    assert any(said in line for line in verify.faults(Stored(store.read(folder), folder)))


@pytest.mark.parametrize(("blocks", "fault"), [((5, 2), 1), ((-1, 4), 1), ((0, 4), 0), (None, 0)])
def test_no_more_blocks_change_than_may(tmp_path: Path, blocks: Any, fault: int) -> None:
    folder = put(tmp_path, true(seed=1, blocks_changed=blocks))
    lines = verify.faults(Stored(store.read(folder), folder))
    assert len([line for line in lines if "blocks changed" in line]) == fault


def test_a_run_that_will_run_again_contradicts_none(tmp_path: Path) -> None:
    put(tmp_path / "a", true(seed=1))
    put(tmp_path / "b", true(seed=1, status="crashed", accuracy=None, reason="killed"))
    assert list(verify.between(scan([tmp_path / "a", tmp_path / "b"]).runs)) == []


def test_what_contradicts_among_runs_is_said(tmp_path: Path) -> None:
    for name, fields in (("a", {"accuracy": 0.4}), ("b", {"accuracy": 0.5})):
        put(tmp_path / name, true(seed=1, **fields))
    put(tmp_path / "a", true(seed=2, data_checksum="x"))
    put(tmp_path / "a", true(seed=3, data_checksum="y"))
    told = list(verify.between(scan([tmp_path / "a", tmp_path / "b"]).runs))
    assert any(
        "one identity, one environment, other numbers: accuracy 0.5 and 0.4" in line
        for line in told
    )
    assert any("cifar10 {}: runs read 2 different data" in line for line in told)
    assert list(verify.between(scan([tmp_path / "b"]).runs)) == []


def test_seeds_with_the_weights_of_another_seed_are_said(tmp_path: Path) -> None:
    """Copies under other seeds give tiny intervals; accuracies alone may tie by chance."""
    for seed, weights in ((1, "a"), (2, "b"), (3, "a"), (4, "c")):
        put(tmp_path, true(seed=seed), checkpoint_safetensors=weights)
    put(tmp_path, true(method="bench-core/ep", seed=7), checkpoint_safetensors="a")  # another cell
    (told,) = verify.between(scan([tmp_path]).runs)
    assert told.endswith(
        ": seeds 1, 3 have the same trained weights: a copy, or the seed has no effect"
    )


def test_what_cannot_be_read_is_set_aside_when_asked(tmp_path: Path) -> None:
    good, bad = put(tmp_path, true(seed=1)), put(tmp_path, true(seed=2))
    (bad / "run.json").write_text("{")
    assert list(verify.unreadable([tmp_path])) == [bad]
    assert verify.set_aside(bad) == tmp_path / "s" / "quarantine" / f"{bad.name}-1"
    assert verify.set_aside(good) is None
    assert list(verify.unreadable([tmp_path])) == []


# ------------------------------------------------------------------------------------ agreement


def test_equal_bits_agree_and_another_bit_does_not() -> None:
    posted = true(seed=1)
    assert compare(posted, posted).agrees
    other = compare(posted, posted.model_copy(update={"accuracy": 0.4000001}))
    assert (other.agrees, other.how) == (False, "bits")
    assert "accuracy" in other.said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["passport"].update(weight_transport=True), "passport.weight_transport"),
        (lambda raw: raw["passport"].clear(), "passport.weight_transport in one of them only"),
        (lambda raw: raw.update(chance=0.5), "chance 0.1 and 0.5"),
        (lambda raw: raw.update(chance=None), "chance in one of them only"),
        (lambda raw: raw.update(stopped_by="x"), "stopped_by None and x"),
        (lambda raw: raw.update(accuracy=0.4000001), "accuracy 0.4 and 0.4000001"),
        (
            lambda raw: (raw.get("original") or raw["files"])[CHECKPOINT].update(blake2b="other"),
            "weights differ",
        ),
        (lambda raw: (raw.get("original") or raw["files"]).clear(), "weights in one of them only"),
        (
            lambda raw: raw["initial"]["scale_growth"].update(value=51.0),
            "initial.scale_growth fires in one of them only",
        ),
        (
            lambda raw: raw["measurements"].pop("scale_growth"),
            "measurements.scale_growth in one of them only",
        ),
        (
            lambda raw: raw["measurements"]["alignment"]["details"].pop("deep"),
            "measurements.alignment details deep in one of them only",
        ),
        (
            lambda raw: raw["measurements"]["alignment"]["details"].update(deep=0.99),
            "measurements.alignment details deep 0.2 and 0.99",
        ),
        (
            lambda raw: raw["measurements"]["scale_growth"].update(threshold=1e9),
            "measurements.scale_growth threshold",
        ),
        (
            lambda raw: raw["measurements"]["scale_growth"].update(across="floor"),
            "measurements.scale_growth across",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["full", "compact"])
def test_whatever_a_table_shows_is_compared(
    change: Callable[[dict[str, Any]], object], said: str, kind: str
) -> None:
    again = true(
        seed=1,
        chance=0.1,
        passport={"weight_transport": False},
        initial=measured(),
        files={CHECKPOINT: WEIGHTS},
        numerics={"training": 1},
    )
    raw = json.loads(again.to_json())
    if kind == "compact":
        raw |= {"files": {}, "original": raw["files"]}
    assert compare(RunRecord.model_validate(raw), again).said == "equal bit by bit"
    change(raw)
    found = compare(RunRecord.model_validate(raw), again)
    assert not found.agrees
    assert said in found.said


def test_a_time_is_not_compared() -> None:
    """A diagnostic that reads a clock says so; a posted run cannot say so of another one."""

    def timed(seconds: float, repeatable: bool = False) -> RunRecord:
        clock = Measurement(value=seconds, direction="above", threshold=1.5, repeatable=repeatable)
        return true(seed=1, measurements=measured() | {"lab/clock": clock})

    assert compare(timed(1.0), timed(2.0)).said == "equal bit by bit"
    assert disagreement(timed(1.0), timed(2.0)) == []
    assert disagreement(timed(1.0, True), timed(2.0, True)) == [
        "measurements.lab/clock fires in one of them only: false and true",
        "measurements.lab/clock value 1.0 and 2.0",
        CLOCK,
    ]
    other = timed(2.0, True).model_copy(update={"accuracy": 0.2})
    assert CLOCK not in disagreement(timed(1.0, True), other)
    said = compare(timed(1.0), timed(2.0, True)).said
    assert "measurements.lab/clock repeatable in one of them only" in said


def test_a_run_from_before_schema_3_may_lack_later_fields() -> None:
    posted = true(seed=1)
    assert compare(posted, posted.model_copy(update={"chance": 0.1})).agrees


def test_the_curve_of_a_posted_run_is_compared(tmp_path: Path) -> None:
    record = true(seed=1)
    posted, again = put(tmp_path / "a", record), put(tmp_path / "b", record)
    full = [
        json.dumps(json.loads(line) | {"learning_rate": 0.1})
        for line in (again / "epochs.jsonl").read_text().splitlines()
    ]
    for folder in (posted, again):
        (folder / "epochs.jsonl").write_text("\n".join(full) + "\n")
    assert compare(record, record, (posted, again)).agrees
    full[1] = json.dumps(json.loads(full[1]) | {"accuracy": 0.875})
    (posted / "epochs.jsonl").write_text("\n".join(full) + "\n")
    found = compare(record, record, (posted, again))
    assert (found.agrees, "epochs.jsonl after epoch 1" in found.said) == (False, True)
    (posted / "epochs.jsonl").write_text("\n".join(full[:50]) + "\n")
    (again / "epochs.jsonl").write_text("\n".join(full) + "\n")
    found = compare(record, record, (posted, again))
    cut = "epochs.jsonl has 50 rows in one of them, and more in the other"
    assert (found.agrees, cut in found.said) == (False, True)


def test_the_curve_of_a_compact_run_is_compared_at_its_digits(tmp_path: Path) -> None:
    """The Γ of one epoch is forged, or rounded as compact runs are."""
    gamma = 0.123456789
    row = {"epoch": 1, "learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0}
    for name, value in (("full", gamma), ("rounded", 0.1234568), ("forged", 0.99)):
        told = {"alignment": {"value": 0.1, "details": {"deep": value}}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "epochs.jsonl").write_text(json.dumps(row | {"measurements": told}))
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    posted = true(seed=1, original={CHECKPOINT: WEIGHTS})
    for environment in (HERE, THERE):
        own = posted.model_copy(update={"environment": environment})
        found = compare(own, again, (tmp_path / "rounded", tmp_path / "full"))
        assert found.said == "equal bit by bit"
        found = compare(own, again, (tmp_path / "forged", tmp_path / "full"))
        assert (found.agrees, "epochs.jsonl after epoch 1" in found.said) == (False, True)


@pytest.mark.parametrize(
    ("fields", "agrees", "said"),
    [
        ({"accuracy": 0.41}, True, "within 2 points; the same diagnostics fire; Γ and curves not"),
        ({"passport": {}}, False, "passport.weight_transport in one of them only"),
        ({"initial": measured(a=51.0)}, False, "initial.scale_growth fires in one of them only"),
        ({"chance": 0.3}, False, "chance 0.3 and 0.1"),
        ({"data_checksum": "x"}, False, "data_checksum x and"),
        ({"accuracy": None}, False, "accuracy in one of them only"),
        ({"accuracy": 0.4201}, False, "accuracy 0.4201 and 0.4000 (here and posted)"),
        ({"status": "diverged", "reason": "r"}, False, "status diverged (r) and done"),
    ],
)
def test_elsewhere_figures_agree_within_two_points(
    fields: dict[str, Any], agrees: bool, said: str
) -> None:
    fixed: dict[str, Any] = {"seed": 1, "chance": 0.1, "initial": measured()}
    found = compare(true(**fixed), true(**{**fixed, "environment": THERE, **fields}))
    assert (found.agrees, found.how) == (agrees, "figures")
    assert said in found.said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "equal bit by bit"),
        ({"accuracy": 0.4005}, "accuracy 0.4000 and 0.4005, equal weights, all numbers within 0.0"),
        ({"accuracy": 0.41}, ""),
        ({"measurements": measured(gamma=0.99)}, ""),
    ],
)
def test_equal_weights_of_another_environment_have_equal_numbers_but_for_rounding(
    fields: dict[str, Any], said: str
) -> None:
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    posted = true(**{"seed": 1, "environment": THERE, "original": {CHECKPOINT: WEIGHTS}, **fields})
    found = compare(posted, again)
    assert found.agrees == bool(said)
    assert said in found.said
    assert ("bit by bit" in found.said) == (found.how == "bits") == (not fields)


def test_a_measurement_that_is_not_installed_is_never_equal_bit_by_bit() -> None:
    """Nor does it take the place of one that the suite has."""
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    forged = Measurement(value=1.2, letter="a", direction="above", threshold=50.0)
    posted = again.model_copy(update={"measurements": {**measured(), "growth": forged}})
    found = compare(posted, again)
    assert (found.agrees, found.how) == (True, "figures")
    assert "not installed here, so not compared: growth" in found.said
    del posted.measurements["scale_growth"]
    assert "measurements.scale_growth in one of them only" in compare(posted, again).said


def test_diagnostics_fire_at_the_thresholds_of_the_suite() -> None:
    posted = true(seed=1, environment=THERE, initial=measured(a=1.06))
    again = true(seed=1, initial=measured(a=1.0))
    assert compare(posted, again).agrees
    found = compare(posted, again, limits={"scale_growth": 1.05})
    assert "initial.scale_growth fires in one of them only" in found.said


def test_a_diagnostic_that_the_posted_run_was_not_asked_for_is_no_difference() -> None:
    """Its suite has gained it since. One that the run was asked for must be there."""
    again = true(seed=1, measurements={**measured(), "drift": Measurement(value=0.1)})
    asked = {f"diagnostic bench-core/{name}": 1 for name in measured()}
    posted = true(seed=1, numerics=asked)
    found = compare(posted, again)
    assert (found.agrees, found.how) == (True, "bits")
    assert found.said == "equal bit by bit; not measured by the posted run: drift"
    hidden = posted.model_copy(update={"numerics": {**asked, "diagnostic bench-core/drift": 1}})
    assert "measurements.drift in one of them only" in compare(hidden, again).said


def test_a_diagnostic_that_fires_in_one_of_them_only_is_no_agreement() -> None:
    from records import SICK

    found = compare(true(seed=1), true(seed=1, environment=THERE, measurements=SICK))
    assert not found.agrees
    assert "scale_growth fires in one of them only" in found.said


def test_a_run_in_which_a_fault_is_found_is_no_longer_checked(tmp_path: Path) -> None:
    folder = put(tmp_path, true(seed=1))
    assert (
        CliRunner().invoke(bench, ["verify", str(tmp_path)], catch_exceptions=False).exit_code == 0
    )
    assert marks.read(folder.parent, store.read(folder)).state == "checked"
    (folder / "checkpoint.safetensors").write_text("Weights")
    assert (
        CliRunner().invoke(bench, ["verify", str(tmp_path)], catch_exceptions=False).exit_code == 1
    )
    assert marks.read(folder.parent, store.read(folder)).state == "posted"


def test_a_mark_belongs_to_one_run_json(tmp_path: Path) -> None:
    folder = put(tmp_path, true(seed=1))
    record = store.read(folder)
    mark = marks.read(folder.parent, record)
    assert mark.state == "posted"
    marks.write(folder.parent, mark.signed("checked", "now"))
    assert marks.read(folder.parent, record).state == "checked"
    for agrees, state in ((True, "replicated"), (False, "disputed")):
        replica = compare(record, record).model_copy(update={"agrees": agrees})
        marks.write(folder.parent, marks.read(folder.parent, record).replicated(replica))
        assert marks.read(folder.parent, record).state == state
    again = store.read(put(tmp_path, true(seed=1, accuracy=0.5)))
    assert marks.read(folder.parent, again).state == "posted"
    for content in ("", "[]", "{", '{"identity": 3}'):
        (folder.parent / marks.FOLDER / f"{record.identity}.json").write_text(content)
        assert marks.read(folder.parent, record).state == "posted"


def test_environments_are_alike_as_far_as_both_state_them() -> None:
    old, new = {"torch": "2"}, {"torch": "2", "instructions": "AVX2", "commit": "x"}
    other = {**new, "instructions": "AVX512"}
    pairs = [(old, new, True), (new, {**new, "commit": "y"}, True), (new, other, False)]
    pairs += [(old, {**new, "torch": "3"}, False), (old, {**new, "matmul": "oneDNN"}, False)]
    for one, two, alike in pairs:
        runs_of = [true(seed=1, environment=each) for each in (one, two)]
        assert same_environment(*runs_of) is same_environment(*reversed(runs_of)) is alike


def test_only_runs_that_state_all_the_same_must_be_equal_bit_by_bit(tmp_path: Path) -> None:
    """A run that does not state its instructions is like two that differ: no conflict follows."""
    old, one = {"torch": "2"}, {"torch": "2", "instructions": "AVX2"}
    environments = [old, one, {**one, "instructions": "AVX512"}]
    runs_of = [
        Stored(true(seed=1, accuracy=accuracy, environment=each), tmp_path / str(number))
        for number, (accuracy, each) in enumerate(zip([0.5, 0.4, 0.5], environments, strict=True))
    ]
    for order in permutations(runs_of):
        assert not [line for line in verify.between(order) if "other numbers" in line]
        assert merging.fate(order[0].record, order[1].record) in ("replicate", "same")
    again = true(seed=1, accuracy=0.3, environment=one)
    assert merging.fate(again, runs_of[1].record) == "conflict"
    assert [*verify.between([runs_of[1], Stored(again, tmp_path)])]


def test_runs_in_conflict_lead_to_a_replication() -> None:
    (group,) = judge_all([true(seed=1).model_copy(update={"status": "conflict", "reason": "r"})])
    (line,) = next_steps([group], "s")
    assert line.startswith("Next: `bench replicate RESULTS --sample 100%` trains the runs in")


def test_a_suite_json_of_a_newer_bench_is_named_and_not_replaced(here: Here) -> None:
    (here.cwd / "tiny.yaml").write_text(TINY)
    assert here("run", "tiny.yaml", "--set", "training.epochs=1").returncode == 0
    (path,) = (here.cwd / "results").glob("*/suite.json")
    path.write_text(json.dumps(newer := {**json.loads(path.read_text()), "schema": 99, "new": 1}))
    told = "has schema 99, newer than this bench reads (1): update bench-core"
    shutil.copytree(here.cwd / "results", here.cwd / "other")
    merged = here("merge", "other", "--into", "new")
    assert merged.returncode == 1
    assert f"other/tiny/suite.json: left out: it {told}" in merged.stderr
    for command in ("plan tiny.yaml", "run tiny.yaml", "merge new --into results"):
        done = here(*command.split())
        assert done.returncode == 2, command
        assert told in done.stderr
        assert json.loads(path.read_text()) == newer
    search = "search: {trials: 1, training: {learning_rate: [0.1, 0.2]}}\n"
    held_out = TINY.replace("data: {", "data: {validation: 32, ")
    (here.cwd / "tuned.yaml").write_text(held_out + search)
    for command in ("tune tuned.yaml", "submit results -o sent"):
        done = here(*command.split())
        assert done.returncode == 2, command
        assert told in done.stderr, command
        assert not list((here.cwd / "results").rglob("tuning.json"))
    for command in ("status results", "clean results"):  # which replace no suite.json
        assert here(*command.split()).returncode == 0
    assert told in here("leaderboard", "results").stderr
    assert here("report", "results", "-o", "page.html").returncode == 0
    path.write_text("{")
    done = here("run", "tiny.yaml", "--set", "training.epochs=1")
    assert done.returncode == 0
    assert "suite.json: it cannot be read; `bench run` writes it anew and forgets" in done.stderr


def test_cleaning_takes_what_no_table_counts_and_nothing_else(tmp_path: Path) -> None:
    old, new = put(tmp_path, named("1", seed=1)), put(tmp_path, named("2", seed=1))
    failed = put(tmp_path, named("3", seed=3, status="failed", reason="r"))
    odd = put(tmp_path, named("4", seed=4))
    (odd / "run.json").write_text("{")
    aside = store.quarantine(odd, "damaged")
    good = put(tmp_path, named("5", seed=5))  # new code failed where old code was done
    broken = store.read(put(tmp_path, named("6", seed=5, status="failed", reason="r")))
    cells = {cell_key(store.read(new).cell): "2" * 32, cell_key(broken.cell): "6" * 32}
    suite_folder.write(new.parent, {"name": new.parent.name, "cells": cells})
    states = [store.resume_file(new.parent / (digit * 32)) for digit in "27"]
    for state in states:  # of the newest code, and of code that was edited since
        state.write_bytes(b"x")
    before = table(tmp_path)

    said = CliRunner().invoke(bench, ["clean", str(tmp_path)], catch_exceptions=False)
    assert (said.exit_code, old.exists(), aside.exists()) == (0, True, True)
    listed = {line.split()[1] for line in said.output.splitlines()[:-1]}
    assert listed == {str(old), str(aside), str(states[1])}
    assert "--yes removes them" in said.output

    held_by = [old, new.parent / ("7" * 32)]
    held = [locks.lock(each) for each in held_by]
    assert None not in held
    said = CliRunner().invoke(bench, ["clean", str(tmp_path), "--yes"], catch_exceptions=False)
    for each, lock in zip(held_by, held, strict=True):
        locks.unlock(each, lock)
    assert (said.exit_code, old.exists(), aside.exists()) == (1, True, False)
    assert states[1].exists()
    assert CliRunner().invoke(bench, ["clean", str(tmp_path), "--yes"]).exit_code == 0
    assert not old.exists()
    assert [state.exists() for state in states] == [True, False]
    states[0].unlink()
    assert new.exists()
    assert failed.exists()
    assert good.exists()
    assert list((new.parent / store.QUARANTINE).iterdir()) == []
    assert leftovers(new.parent) == []
    assert table(tmp_path) == before
    assert CliRunner().invoke(bench, ["clean", str(tmp_path)]).output == "nothing to remove\n"


def table(results: Path) -> str:
    from bench_core.report.tables.formats import leaderboards

    return leaderboards(gather([results])[0], "csv")


def test_every_leaderboard_and_the_page_say_how_far_runs_can_be_relied_on(tmp_path: Path) -> None:
    from bench_core.report.pages.page import page
    from bench_core.report.tables.formats import leaderboards

    record = store.read(folder := put(tmp_path, true(seed=1)))
    put(tmp_path, true(seed=2))
    replica = compare(record, record)
    marks.write(folder.parent, marks.read(folder.parent, record).replicated(replica))
    suites, _ = gather([tmp_path])
    said = "Of 2 runs: 1 replicated (dfa 1); 1 posted"
    for form in ("table", "markdown", "latex", "csv", "json"):
        text = leaderboards(suites, form)
        assert ("1 replicated; 1 posted" if form == "csv" else said) in " ".join(text.split()), form
    assert said in page(suites)
    told = {run["identity"]: run["trust"] for run in _runs_of(leaderboards(suites, "json"))}
    assert told[record.identity] == "replicated"
    assert set(told.values()) == {"replicated", "posted"}


def _runs_of(text: str) -> list[dict[str, Any]]:
    (suite,) = json.loads(text)["suites"]
    return [run for group in suite["groups"] for row in group["rows"] for run in row["runs"]]


def test_merging_carries_what_is_known_of_a_run_and_adds_it_up(tmp_path: Path) -> None:
    record = store.read(mine := put(tmp_path / "mine", true(seed=1)))
    theirs = put(tmp_path / "theirs", true(seed=1))
    replica = compare(record, record)
    marks.write(mine.parent, marks.read(mine.parent, record).replicated(replica))
    marks.write(theirs.parent, marks.read(theirs.parent, record).signed("checked", "then"))
    for source in ("mine", "theirs", "mine"):
        merging.merge([tmp_path / source], tmp_path / "all")
    mark = marks.read(tmp_path / "all" / mine.parent.name, record)
    assert mark.checked is not None
    assert mark.checked.when == "then"
    assert [each.said for each in mark.replicas] == [replica.said]


@pytest.mark.parametrize("command", [("verify",), ("verify", "--json"), ("site", "-o", "site")])
def test_a_folder_without_a_run_is_refused_by_name(here: Here, command: tuple[str, ...]) -> None:
    (here.cwd / "empty" / "suite").mkdir(parents=True)
    done = here(*command, "empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: empty: no run to ")
    assert not (here.cwd / "site").exists()


def test_a_sample_is_a_share_of_the_runs_that_are_done(tmp_path: Path) -> None:
    runs = [Stored(true(seed=seed), tmp_path / str(seed)) for seed in range(20)]
    runs.append(Stored(true(seed=99, status="failed", reason="r"), tmp_path / "99"))
    drawn = replicate.sample(runs, replicate.share("10%"), 7)
    assert len(drawn) == 2
    assert drawn == replicate.sample(runs[::-1], 0.1, 7)
    assert drawn != replicate.sample(runs, 0.1, 8)
    assert len(replicate.sample(runs, replicate.share("100%"), 7)) == 20
    assert len(replicate.sample(runs, replicate.share("3"), 7)) == 3
    assert len(replicate.sample(runs, 0.001, 7)) == 1
    for text in ("0%", "101%", "x", "0.5", "-1", "nan%", "0"):
        with pytest.raises(UsageError, match="must be a share such as 10%"):
            replicate.share(text)
    with pytest.raises(UsageError, match="no run that is done"):
        replicate.sample(runs[-1:], 0.1, 7)


def test_a_draw_that_meets_every_row_adds_one_run_of_each_that_it_missed(tmp_path: Path) -> None:
    """A rule and its floor count apart: either can be forged."""
    ways = [
        (f"bench-core/{name}", {"freeze": freeze})
        for name in ("bp", "dfa")
        for freeze in (None, "blocks")
    ]
    records = [true(method=name, params=params, seed=k) for name, params in ways for k in range(9)]
    runs = [Stored(record, tmp_path / record.identity) for record in records]
    for seed in range(20):
        few = replicate.sample(runs, 0.1, seed)
        drawn = replicate.sample(runs, 0.1, seed, each_row=True)
        assert drawn[:4] == few  # the tenth stays as it was
        count = Counter(str(item.record.cell.method) for item in drawn)
        missed = count.keys() - {str(item.record.cell.method) for item in few}
        assert len(count) == len(ways)
        assert all(count[method] == 1 for method in missed)
        assert len({item.folder for item in drawn}) == len(drawn)
    long = true(training={"epochs": 7}, seed=1)  # a row of another recipe
    both = [*runs, Stored(long, tmp_path / "long")]
    assert any(item.record == long for item in replicate.sample(both, 1, 0, each_row=True))


def test_runs_that_no_table_counts_are_not_drawn(tmp_path: Path) -> None:
    """Honest runs of other code beside a forged run would hide it."""
    put(tmp_path, shown := true(seed=1))
    for digit in "123456789":
        put(tmp_path, named(digit, seed=1))
    suite_folder.write(tmp_path / "s", {"cells": {cell_key(shown.cell): shown.identity}})
    assert [run.record.identity for run in replicate.counted(tmp_path)] == [shown.identity]


# ---------------------------------------------------------------------------- formats that last


@pytest.mark.parametrize("kind", sorted(path.name for path in CORPUS.iterdir()))
def test_results_of_every_earlier_schema_are_read_and_verified(tmp_path: Path, kind: str) -> None:
    """Frozen folders as older versions wrote them: nothing is unreadable, nothing has a fault,
    nothing is rewritten."""
    shutil.copytree(CORPUS / kind, tmp_path / kind)
    before = tree(tmp_path / kind)
    (results,), troubles = gather([tmp_path / kind])
    assert troubles == []
    assert results.settings.title
    assert {record.schema_version for record in results.records} == {SCHEMA}
    assert all("stop_when" in record.cell.training for record in results.records)
    assert sum(record.status == "done" for record in results.records) == 1
    for run_ in scan([tmp_path / kind]).runs:
        assert verify.faults(run_) == []
    merging.merge([tmp_path / kind], tmp_path / "into")
    assert {k: v for k, v in tree(tmp_path / "into").items() if "suite.json" not in k} == {
        k: v for k, v in before.items() if "suite.json" not in k
    }
    assert tree(tmp_path / kind) == before


def test_the_steps_in_a_batch_agree_where_an_older_run_does_not_say_them() -> None:
    changed = [true(seed=1, blocks_changed=pair) for pair in ((4, 4), (0, 4), None)]
    assert "blocks_changed" in compare(changed[0], changed[1]).said
    assert "blocks_changed in one of them only" in compare(changed[2], changed[0]).said
    posted, again = true(seed=1), true(seed=1, steps_per_batch=(1, 1))
    assert compare(posted, again).agrees  # its schema had no such field
    silent = true(seed=1, steps_per_batch=None)
    assert "steps_per_batch in one of them only" in compare(silent, again).said
    two = true(seed=1, steps_per_batch=(1, 2))
    assert "steps_per_batch" in compare(again, two).said


def test_a_number_of_steps_that_depends_on_the_machine_is_no_disagreement() -> None:
    here, there = ({"torch": name} for name in ("2.1", "2.2"))
    one = true(seed=1, steps_per_batch=(1, 2.31), environment=here)
    for taken, agrees in (((1, 2.32), True), ((1, 1), False), ((0, 2.31), False)):
        other = true(seed=1, steps_per_batch=taken, environment=there)
        assert compare(one, other).agrees == agrees, taken
        assert (disagreement(one, other) == []) == agrees


SUITE_2 = """
name: corpus
title: A results folder of schema 2
arch: {name: resmlp, width: 2, depth: 1}
dataset: digits
methods: [dfa]
seeds: [1]
training: {epochs: 1, batch_size: 32, threads: 1}
data: {limit: 64}
floors: false
"""


def test_a_run_of_an_older_schema_is_shown_and_not_reused(tmp_path: Path) -> None:
    shutil.copytree(CORPUS / "schema-2", tmp_path / "results")
    (suite,), _ = gather([tmp_path / "results"])
    assert "1 of 2 runs not done (seed " in " ".join(leaderboards([suite]).split())
    assert page([suite]).count("badge timeout") == 1
    (tmp_path / "tiny.yaml").write_text(SUITE_2)
    arguments = ["plan", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]
    told = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert "0 reused, 1 to run" in told.stdout
    assert "run: an earlier run is kept but not reused: its identity was" in told.stdout
    assert "algorithm 1" in told.stdout
