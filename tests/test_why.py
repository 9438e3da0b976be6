"""Why a run is there, and what the next ones will cost: read off stored records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from records import LOCAL, run

from bench_core import cli
from bench_core.analysis import why
from bench_core.analysis.claims.trainings import Trainings
from bench_core.analysis.find_run import find_run, the_one
from bench_core.errors import UsageError
from bench_core.results import duration as cost
from bench_core.results import ledger, locks, store, suite_folder
from bench_core.results.record import ComponentRef, RunRecord, cell_key
from bench_core.results.scan import Stored, scan
from bench_core.suite.claim import Expectation
from bench_core.suite.load import load_suite

CODE = {
    "bench-core": {
        "version": "1",
        "digest": "a",
        "files": {"bench_core.training.loop": "1", "bench_plugins.methods.dfa": "2"},
    }
}
EDITED = {
    "bench-core": {
        "version": "1",
        "digest": "b",
        "files": {"bench_core.training.loop": "1", "bench_plugins.methods.dfa": "3"},
    }
}


def stored(identity: str, **fields: Any) -> Stored:
    fields = {"code": CODE, **fields}
    return Stored(
        run(**fields).model_copy(update={"identity": identity * 32}),
        Path("results/s") / (identity * 32),
    )


def test_differences_name_settings_code_and_data() -> None:
    one = stored("a", seed=1, params={"penalty": 0.1}, code=EDITED, data_checksum="x").record
    other = stored("b", seed=2, training={"epochs": 5}).record
    assert why.differences(one, other) == [
        "method.penalty: 0.0 → 0.1",
        "seed: 2 → 1",
        "training.epochs: 5 → 100",
        "code of bench-core: changed: bench_plugins.methods.dfa",
        "data: checksum none → x",
    ]
    assert why.differences(one, one) == []


def test_values_are_said_as_a_suite_writes_them() -> None:
    one = stored("a", params={"normalize": True, "normalize_eps": None}).record
    other = stored("b", params={"normalize": False}).record
    assert why.differences(one, other) == [
        "method.normalize: false → true",
        "method.normalize_eps: 1e-06 → null",
    ]


def test_code_of_an_older_bench_and_another_version_are_said() -> None:
    old = {"bench-core": {"version": "0", "digest": "z", "modules": []}}
    (line,) = why.differences(stored("a").record, stored("b", code=old).record)
    assert line.startswith("code of bench-core: changed; which module is not known")
    assert line.endswith("; version: 0 → 1")


def test_the_nearest_run_has_the_fewest_differences() -> None:
    one = stored("a", seed=1)
    far, near = stored("b", seed=2, params={"penalty": 0.1}), stored("c", seed=2)
    assert why.nearest(one, [far, one, near]) == near
    # as near, and first
    assert why.nearest(one, [far, one, near, stored("d", seed=1, code=EDITED)]) == near
    assert why.nearest(one, [one]) is None


def test_the_environment_is_told_but_does_not_count() -> None:
    one = stored("a", environment={"torch": "2.15", "commit": "x"})
    other = stored("b", environment={"torch": "2.14", "commit": "y"})
    assert why.differences(one.record, other.record) == []
    assert why.elsewhere(one.record, other.record) == ["torch: 2.14 → 2.15"]
    none = stored("c", status="interrupted", environment={"device": "cpu"})
    ended = "run, which was cut short"
    assert why.elsewhere(none.record, other.record) == [f"none recorded of this {ended}"]
    assert why.elsewhere(one.record, none.record) == [f"none recorded of that {ended}"]
    assert why.elsewhere(none.record, none.record) == []


def write(folder: Path, record: RunRecord) -> Path:
    final = folder / record.identity
    folder.mkdir(parents=True, exist_ok=True)
    lock = locks.lock(final)
    assert lock is not None
    store.clear_temporary(final)
    store.commit(record, final)
    locks.unlock(final, lock)
    return final


def test_the_lines_of_a_run(tmp_path: Path) -> None:
    results = tmp_path / "results"
    ran = stored(
        "a", why="no run of it here yet", finished="2026-01-01T00:00:00+00:00", resumed=[3, 7]
    ).record
    folder = write(results / "s", ran)
    write(results / "s", stored("b", seed=7).record)
    decisions = {
        ran.identity: {
            "action": "reuse",
            "why": "its run is done",
            "at": "2026-01-02",
        }
    }
    suite_folder.write(results / "s", {"decisions": decisions})
    lines = why.explain(find_run("aaa", [results]), scan([results]).runs)
    assert lines[1:] == [
        "finished 2026-01-01T00:00:00+00:00",
        "why it was run: no run of it here yet",
        "resumed after epoch 3, 7",
        "reused at 2026-01-02: its run is done",
        "nearest run: bbbbbbbbbbbb  dfa · seed 7; changes from it to this run:",
        "  seed: 7 → 42",
    ]
    assert find_run(str(folder), []).record == find_run("a" * 32, [results]).record
    other = why.explain(find_run("b", [results]), scan([results]).runs)
    assert "not part of the last `bench run`" in other[3]


def test_the_run_of_an_earlier_winner_says_so(tmp_path: Path) -> None:
    records = [stored(letter, seed=seed).record for letter, seed in (("a", 1), ("b", 2))]
    folders = [write(tmp_path / "s", record) for record in records]
    before, now = (cell_key(record.cell) for record in records)
    best = ledger.Trial(values={}, identity="x", status="done", score=0.5)
    search = ledger.Tuned(
        method={}, seed=0, trials=1, scored_on="validation", sampler="", versions={}, space={},
        results=[best], best=0, cells=[now], earlier=[before],
    )  # fmt: skip
    ledger.write(folders[0].parent, "s", {"dfa": search})
    lines = why.explain(find_run("aaa", [tmp_path]), scan([tmp_path]).runs)
    assert "no table counts it: it is of an earlier winner of `bench tune`, and a later" in lines[1]
    assert "no table" not in why.explain(find_run("bbb", [tmp_path]), scan([tmp_path]).runs)[1]


def test_a_run_that_no_table_counts_says_so(tmp_path: Path) -> None:
    """The rule was edited, and another seed ran with the new code."""
    codes = {"a": "old", "b": "new"}
    for seed, (letter, text) in enumerate(codes.items(), 1):
        code = {"mine.py": {"files": {"mine": text}}}
        about = {"code": code, "finished": f"2026-11-0{seed}", "accuracy": 0.4}
        write(tmp_path / "s", stored(letter, method="mine.py/mine", seed=seed, **about).record)
    for letter, counts in (("a", False), ("b", True)):
        found, runs = find_run(letter * 3, [tmp_path]), scan([tmp_path]).runs
        lines = why.explain(found, runs)
        assert (
            any(
                line.startswith("no table counts it: a later run used other code") for line in lines
            )
            != counts
        )
        assert why.explained(found, runs)["counted"] == counts


def test_of_several_suites_with_a_run_a_done_one_is_told_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    partial = stored("a", status="interrupted", reason="it stopped").record
    write(tmp_path / "first", partial)
    done = write(tmp_path / "second", stored("a").record)
    found, runs = find_run("aaa", [tmp_path]), scan([tmp_path]).runs
    assert found.folder == done
    assert f"also in {tmp_path / 'first'} (interrupted)" in why.explain(found, runs)
    shown = CliRunner().invoke(cli.bench, ["show", "aaa", str(tmp_path)], catch_exceptions=False)
    assert f"also in     {tmp_path / 'first'} (interrupted)" in shown.output
    assert "it stopped" not in shown.output
    alone = why.explain(found, [found])
    assert not any(line.startswith("also in") for line in alone)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c", "c: no run in .* begins like this; `bench plan SUITE`"),
        ("dfa", r"dfa: is a rule; give the letters of a run, the last first: \w+ \(dfa, seed "),
        ("", "RUN is empty"),
        ("e", "2 runs in .* begin like this: e1e1e1e1e1e1, e2e2"),
        ("dd", "no run in .* begins like this; .*no JSON"),
    ],
)
def test_what_is_no_run_is_a_usage_error(tmp_path: Path, text: str, said: str) -> None:
    for letters in ("a", "b", "e1", "e2"):
        record = stored("a").record.model_copy(update={"identity": (letters * 32)[:32]})
        write(tmp_path / "s", record)
    (tmp_path / "s" / ("d" * 32)).mkdir()
    (tmp_path / "s" / ("d" * 32) / "run.json").write_text("{")
    with pytest.raises(UsageError, match=said):
        find_run(text, [tmp_path])


def test_folders_are_joined_for_a_sentence_and_for_a_command() -> None:
    roots = [Path("A"), Path("B")]
    with pytest.raises(UsageError, match=r"^e: 2 runs in A and B begin like this: e1, e2; give"):
        the_one("e", ["e1", "e2"], roots)
    with pytest.raises(UsageError, match=r"^c: no run in A and B begins like this; `bench plan"):
        the_one("c", ["e1", "e2"], roots)


# ----------------------------------------------------------------------------------------- cost


def past(**fields: Any) -> RunRecord:
    fields = {
        "epochs": 10,
        "seconds": cost.START + 25.5,
        "seconds_per_epoch": 2.0,
        "environment": {"device": "cpu"},
        **fields,
    }
    return run(**fields)


def test_a_cell_costs_what_the_newest_runs_most_like_it_did() -> None:
    """After the start of `past` 10 epochs of training take 2 s each, 11 measurements 0.5 s each."""
    start = cost.START
    loaded = past(seed=2, seconds_per_epoch=30.0, seconds=start + 305.5, finished="2026-01-01")
    other = past(params={"penalty": 0.5}, seconds=start + 95.5, seconds_per_epoch=9.0)
    known = cost.Past([past(seed=1, finished="2026-01-02"), loaded, other])
    assert known.estimate(run(seed=3).cell, "cpu") == cost.Duration(
        start + 101 * 0.5 + 100 * 2.0, 1, 1
    )
    like = known.estimate(run(seed=3, params={"penalty": 0.1}).cell, "cpu")
    assert like == cost.Duration(start + 101 * 0.5 + 100 * 5.5, 2, 2)
    short = run(seed=3, training={"stop_after": 4}).cell
    assert known.estimate(short, "cpu") == cost.Duration(start + 5 * 0.5 + 4 * 2.0, 1, 1)
    left = cost.Duration(start + 1 * 0.5 + 1 * 2.0, 1, 1)  # it goes on after epoch 3
    assert known.estimate(short, "cpu", 3) == cost.nearest([known], short, "cpu", 3) == left
    pilot = cost.Past([past(epochs=1, seconds=start + 12.0, seconds_per_epoch=2.0)])
    for epochs, told in ((1, False), (2, False), (12, True)):  # work done once counts in each
        cell = run(training={"stop_after": epochs}).cell
        found = pilot.estimate(cell, "cpu")
        assert found is not None
        assert (found.seconds, found.short) == (start + (epochs + 1) * 5.0 + epochs * 2.0, told)
    fa = run("bench-core/fa").cell
    assert known.estimate(fa, "cpu") == cost.Duration(start + 101 * 0.5 + 100 * 5.5, 2, 4)

    cell = run(params={"penalty": 0.1}).cell
    arch = cell.arch.model_copy(update={"params": {**cell.arch.params, "residual": False}})
    flat = cell.model_copy(update={"arch": arch})  # its size is that of the others
    assert known.estimate(flat, "cpu") == cost.Duration(start + 101 * 0.5 + 100 * 5.5, 2, 3)
    assert known.estimate(flat.model_copy(update={"method": fa.method}), "cpu") is None
    wide = arch.model_copy(update={"params": {**arch.params, "width": 512}})
    assert known.estimate(flat.model_copy(update={"arch": wide}), "cpu") is None
    listed = arch.model_copy(update={"params": {**arch.params, "widths": [512, 256]}})
    assert known.estimate(flat.model_copy(update={"arch": listed}), "cpu") is None

    shared = past(
        method="bench-core/fa", seconds=start + 255.0, seconds_per_epoch=20.0, finished="2027"
    )
    alone = past(
        method="bench-core/fa", seconds=start + 15.5, seconds_per_epoch=1.0, finished="2026"
    )
    for records in ([shared, alone], [alone, shared]):
        shipped = cost.Past(records, foreign=True)  # the fastest: the other shared its core
        own = cost.Duration(start + 101 * 0.5 + 100 * 1.0, 1, 1, True)
        assert cost.nearest([known, shipped], fa, "cpu") == own
    assert cost.nearest([known, shipped], run().cell, "cpu") == known.estimate(run().cell, "cpu")
    assert cost.nearest([], fa, "cpu") is None


def test_a_claim_costs_what_a_plan_says() -> None:
    """The fastest run of these options counts; it is older than the option `beta`.

    No run is of the claim's own seed, so that its training is still to come.
    """
    suite = load_suite("audit5")
    spec = next(cell for cell in suite.cells() if cell.method["name"] == "ep")
    code = {"bench-core": {"defaults": {"bench-core/ep": {**LOCAL, "steps": 20, "beta": 0.5}}}}
    runs = []
    for params, day, seconds in (
        ({"steps": 20, "beta": 0.5}, "2026-01-04", 30.0),
        ({"steps": 20}, "2026-01-02", 2.0),
        ({"steps": 80}, "2026-01-03", 8.0),
    ):
        own = {
            "seconds": cost.START + 5.5 + 10 * seconds,
            "seconds_per_epoch": seconds,
            "code": code,
        }
        record = past(method="bench-core/ep", params=params, finished=day, **own)
        system = {kind: _ref(vars(spec)[kind]) for kind in ("arch", "dataset")}
        system |= {"data": spec.data, "training": spec.training, "seed": spec.seed + 1}
        cell = record.cell.model_copy(update=system)
        runs.append(record.model_copy(update={"cell": cell}))
    claim = Expectation(figure="accuracy", method="ep", at_least=0, seed=spec.seed, source="s")
    costs = Trainings(runs, {}).cost(suite, claim)
    assert costs is not None
    assert [*costs.values()] == [cost.START + 101 * 0.5 + 100 * 2.0]


def test_a_short_training_costs_the_start_of_its_worker_at_least() -> None:
    """Measured on `bench run rules`: 1.0 s until the first epoch, of bp .11 s for each of four."""
    usual = past(method="bench-core/bp", seconds=45.3, seconds_per_epoch=4.4)
    known = Trainings([usual], {})
    rules = load_suite("rules")
    costs = [seconds for c in rules.expect for seconds in (known.cost(rules, c) or {}).values()]
    assert min(costs) > cost.START == 1.0
    assert min(costs) == pytest.approx(1.47, rel=0.1)  # bp; four cells took 1.46 to 1.56 s
    known = cost.Past([past(seconds=0.6, seconds_per_epoch=0.03)])  # on a faster machine
    assert known.estimate(run().cell, "cpu") == cost.Duration(pytest.approx(0.3 + 3.0), 1, 1)


def test_a_rule_that_a_suite_does_not_list_costs_its_own_time() -> None:
    """On another network than that of its runs: bp's time there, times its ratio to bp."""
    bp, fa, dfa = (
        past(method=f"bench-core/{rule}", seconds=seconds)
        for rule, seconds in (("bp", 20.0), ("fa", 40.0), ("dfa", 60.0))
    )
    suite = load_suite("audit5", ["arch.width=256", "arch.depth=8"], methods=["dfa"])
    claim = Expectation(figure="accuracy", method="fa", at_least=0, seed=42, source="s")
    costs = Trainings([bp, fa, dfa], {}).cost(suite, claim) or {}
    assert [*costs.values()] == [pytest.approx(cost.START + 100 * 1.25 * 2.0 * 2)]


def _ref(part: dict[str, Any]) -> ComponentRef:
    params = {key: value for key, value in part.items() if key != "name"}
    return ComponentRef(name=f"bench-core/{part['name']}", params=params)


def test_nothing_is_guessed() -> None:
    known = cost.Past([past(), past(status="failed")])
    assert known.estimate(run(arch="bench-core/vit").cell, "cpu") is None
    assert known.estimate(run().cell, "cuda:1") is None
    assert known.estimate(run(training={"batch_size": 7}).cell, "cpu") is None
    assert cost.Past([]).estimate(run().cell, "cpu") is None
    assert cost.Past([past(status="diverged")]).estimate(run().cell, "cpu") is None


def test_durations_in_words() -> None:
    hour, day = 3600, 86400
    for seconds, said in (
        (0.4, "0 s"),
        (89, "89 s"),
        (120, "2 min"),
        (3 * hour + 1200, "3 h 20 min"),
        (30 * hour, "30 h 0 min"),
        (48 * hour, "2.0 days"),
        (2.5 * day, "2.5 days"),
    ):
        assert cost.spoken(seconds) == said
