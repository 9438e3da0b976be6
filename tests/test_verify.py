"""`bench verify`: what cannot be true of posted runs is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from posted import put, rows, true
from records import PASSPORT

from bench_core.results import store
from bench_core.results.record import (
    Measurement,
    RunRecord,
)
from bench_core.results.scan import Stored, scan
from bench_core.sharing import merge as merging
from bench_core.sharing import verify


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
    "reset accuracy over 1": (
        lambda r: r.model_copy(update={"reset_accuracy": -100.0}),
        "reset_accuracy -100 is not between 0 and 1",
    ),
    "recalibrated accuracy over 1": (
        lambda r: r.model_copy(update={"recalibrated_accuracy": 1.01}),
        "recalibrated_accuracy 1.01 is not between 0 and 1",
    ),
    "reset accuracy that is no number": (
        lambda r: r.model_copy(update={"reset_accuracy": math.nan}),
        "reset_accuracy nan is not between 0 and 1",
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
