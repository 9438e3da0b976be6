"""Results of several people, merged without loss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import leftovers
from posted import HERE, THERE, put, tree, true

from bench_core.analysis.gather import gather
from bench_core.errors import StoreError, UsageError
from bench_core.results import ledger, locks, store, suite_folder
from bench_core.results.scan import scan
from bench_core.results.status import Status
from bench_core.sharing import merge as merging
from bench_core.sharing.verify import searches

pytestmark = pytest.mark.processes


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


@pytest.mark.parametrize(("status", "kept"), [("interrupted", True), ("done", False)])
def test_a_saved_training_goes_on_after_a_merge_of_an_unfinished_run(
    tmp_path: Path, status: Status, kept: bool
) -> None:
    run = true(seed=1, status=status, reason=None if status == "done" else "r")
    put(tmp_path / "a", run)
    into = put(tmp_path / "into", true(seed=2)).parent
    saved = store.resume_file(into / run.identity)
    saved.touch()
    assert merging.merge([tmp_path / "a"], tmp_path / "into").count("copy") == 1
    assert saved.exists() == kept


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


def test_trials_without_their_ledger_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a", true(seed=1))
    put(tmp_path / "a" / "s" / "trials", true(seed=2))
    (line,) = merging.merge([tmp_path / "a"], tmp_path / "b").troubles
    assert line.startswith(
        f"{tmp_path / 'a' / 's' / 'trials'}: left out: trials without tuning.json"
    )
    (line,) = (each for each in gather([tmp_path / "a"])[1] if "tuning.json" in each)
    assert "is missing beside trials: winners of the search are shown as plain rows" in line
    (line,) = searches(scan([tmp_path / "a"]).runs)
    assert "is missing beside trials" in line
    (tmp_path / "a" / "s" / "tuning.json").write_text("{}")
    assert [*searches(scan([tmp_path / "a"]).runs)] == []


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
