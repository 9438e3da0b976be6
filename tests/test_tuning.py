"""Check validation samples, and `bench tune`: equal trials, a ledger, marks under the table."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Here, runs
from folders import leaderboard, write
from nets import toy_data
from records import frozen, run, seeds

from bench_core.analysis.gather import gather
from bench_core.analysis.joined import together
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.recipes import tuned_of
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.standing import Standing
from bench_core.errors import SuiteError, UsageError
from bench_core.execution.tuning import trials
from bench_core.execution.tuning.trials import Tuning
from bench_core.registry import plugins
from bench_core.report.tables.formats import leaderboards
from bench_core.report.tables.next_steps import next_steps
from bench_core.results import ledger, store, suite_folder
from bench_core.results.ledger import Trial, Tuned
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.scan import scan
from bench_core.sharing.merge import merge
from bench_core.sharing.submission import submit
from bench_core.sharing.verify import searches
from bench_core.suite.load import load_suite
from bench_core.training.build import selected
from bench_core.training.data import Data, Held
from bench_core.training.loss import SQUARED_ERROR

SUITE = """\
name: small
dataset: digits
arch: {name: resmlp, width: 8, depth: 1}
methods: [dfa]
seeds: [1]
floors: false
data: {validation: 300}
training: {epochs: 1, batch_size: 64}
diagnostics: [scale_growth]
search:
  trials: 2
  training:
    learning_rate: {low: 1.0e-3, high: 1.0e-1, scale: log}
  methods:
    dfa: {normalize: [sample, none]}
"""


# ------------------------------------------------------------------------------ validation samples


def test_held_out_samples_are_stratified_and_depend_on_labels_and_count_alone() -> None:
    data = toy_data(n=200)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        one = data.hold_out(50)
    other = data.hold_out(50)
    assert torch.equal(one.validation_x, other.validation_x)  # type: ignore[arg-type]
    assert (len(one.train_y), len(one.validation_y)) == (150, 50)  # type: ignore[arg-type]
    rows = {tuple(x.flatten().tolist()) for x in (*one.train_x, *one.validation_x)}  # type: ignore[misc]
    assert rows == {tuple(x.flatten().tolist()) for x in data.train_x}
    whole = torch.bincount(data.train_y, minlength=data.classes)
    held = torch.bincount(one.validation_y, minlength=data.classes)  # type: ignore[arg-type]
    assert ((held - whole / 4).abs() < 1).all()


def test_a_regression_holds_out_samples_without_classes() -> None:
    x = torch.arange(20.0).view(20, 1)
    data = Data(x, x.clone(), x, x, 1, loss=SQUARED_ERROR)
    held = data.hold_out(5)
    assert sorted([*held.train_y.flatten(), *held.validation_y.flatten()]) == [*range(20)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (20, "must be below the 20 training samples, not 20"),
        (1, "1 leaves class 1 without a validation sample"),
        (19, "19 leaves class 1 without a training sample"),
    ],
)
def test_what_cannot_be_held_out_is_refused(count: int, reason: str) -> None:
    x, y = torch.zeros(20, 1), torch.tensor([0] * 18 + [1] * 2)
    with pytest.raises(ValueError, match=reason):
        Data(x, y, x, y, 2).hold_out(count)


def test_a_trial_has_validation_samples_in_the_place_of_the_test_set() -> None:
    data = toy_data(n=200)
    options = {"limit": 100, "validation": 50}
    trial = selected(data, {**options, "evaluate_on": "validation"})
    final = selected(data, options)
    assert torch.equal(trial.test_x, final.validation_x)  # type: ignore[arg-type]
    assert trial.validation_x is None
    assert torch.equal(final.test_x, data.test_x)
    assert torch.equal(final.train_x, trial.train_x)
    assert len(final.train_y) == 100


def test_no_tensor_holds_validation_samples_while_a_rule_trains() -> None:
    data = toy_data(n=200).hold_out(50)
    held = Held(data)
    assert len(held.training.validation_y) == 0  # type: ignore[arg-type]
    assert torch.equal(held.opened().validation_x, data.validation_x)  # type: ignore[arg-type]
    assert held.opened().sums() == data.sums()


def test_a_suite_without_validation_keeps_its_cells(tmp_path: Path) -> None:
    (cell,) = load_suite(_file(tmp_path, SUITE.replace("data: {validation: 300}\n", ""))).cells()
    assert cell.data == {"limit": None}


# -------------------------------------------------------------------------------------- the search


def _file(folder: Path, text: str = SUITE) -> Path:
    (folder / "small.yaml").write_text(text)
    return folder / "small.yaml"


def _without_seconds(folder: Path) -> Any:
    content = json.loads((folder / ledger.LEDGER).read_text())
    for rule in content["rules"].values():
        for trial in rule["results"]:
            assert trial.pop("seconds") > 0
    return content


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished search of two trials: read only."""
    home = tmp_path_factory.mktemp("tuned")
    done = Here(home)("tune", _file(home), "-o", "r", "--no-report")
    assert done.returncode == 0, done.stderr
    return home, done.stdout


def test_every_rule_and_bp_have_the_same_trials_scored_on_validation_samples(tuned: Any) -> None:
    home, _ = tuned
    folder = home / "r" / "small"
    found = ledger.read(folder)
    assert {key: len(rule.results) for key, rule in found.rules.items()} == {"dfa": 2, "bp": 2}
    trials = runs(folder / ledger.TRIALS / "small")
    for rule in found.rules.values():
        for trial in rule.results:
            record = trials[trial.identity]
            assert record["cell"]["data"]["evaluate_on"] == "validation"
            assert record["cell"]["seed"] == 0
            assert (record["accuracy"], record["status"]) == (trial.score, trial.status)
        assert rule.spread is not None
        assert rule.spread.highest == rule.results[rule.best or 0].score
    assert found.rules["dfa"].winner.keys() == {"training.learning_rate", "method.normalize"}


def test_the_winners_are_trained_on_the_seeds_of_the_suite_and_read_the_test_set(
    tuned: Any,
) -> None:
    home, output = tuned
    folder = home / "r" / "small"
    found = ledger.read(folder)
    records = runs(folder)
    assert len(records) == 2
    for identity, record in records.items():
        own = found.of_cells()[cell_key(RunRecord.model_validate(record).cell)]
        assert record["cell"]["seed"] == 1
        assert record["cell"]["data"] == {"limit": None, "validation": 300}
        rate = record["cell"]["training"]["learning_rate"]
        assert rate == own.winner["training.learning_rate"]
        last = json.loads((folder / identity / "epochs.jsonl").read_text().splitlines()[-1])
        assert last["validation_accuracy"] == record["validation_accuracy"]
    assert "data.validation=300" in output
    assert "training.learning_rate=tuned" in output
    assert "Tuned, the best score on held-out training samples among the trials: " in output


@pytest.mark.long
def test_a_search_that_was_stopped_continues_with_the_same_ledger(
    tuned: Any, tmp_path: Path
) -> None:
    home, _ = tuned
    shutil.copytree(home / "r", tmp_path / "r")
    folder = tmp_path / "r" / "small"
    first, before = _without_seconds(folder), runs(folder / ledger.TRIALS / "small")
    (folder / ledger.LEDGER).unlink()
    lost = first["rules"]["bp"]["results"][1]["identity"]
    shutil.rmtree(folder / ledger.TRIALS / "small" / lost)
    again = Here(tmp_path)("tune", _file(tmp_path), "-o", "r", "--no-report")
    assert "small: 4 cells, 3 reused, 1 to run" in again.stdout
    assert _without_seconds(folder) == first
    after = runs(folder / ledger.TRIALS / "small")
    assert {k for k in before if before[k]["finished"] == after[k]["finished"]} >= before.keys() - {
        lost
    }


def test_an_earlier_search_stays_until_the_new_one_has_winners(
    tuned: Any, tmp_path: Path, asked_here: None
) -> None:
    shutil.copytree(tuned[0] / "r", tmp_path / "r")
    folder = tmp_path / "r" / "small"
    before = ledger.read(folder)
    suite = load_suite(_file(tmp_path), ["search.seed=5"])
    tuning = Tuning(suite, plugins.load(), tmp_path / "r")
    tuning.write()
    assert ledger.read(folder) == before
    other = before.rules["dfa"]  # tuned by another command meanwhile
    ledger.write(folder, "small", {**before.rules, "ep": other})
    tuning.won({"bp": ["0"]})
    after = ledger.read(folder)
    assert (after.rules["bp"].seed, after.rules["dfa"]) == (5, other)
    assert after.rules["ep"] == other
    assert after.rules["bp"].earlier == sorted(before.rules["bp"].cells)


def test_further_seeds_of_a_search_are_added_to_its_cells(
    tuned: Any, tmp_path: Path, asked_here: None
) -> None:
    shutil.copytree(tuned[0] / "r", tmp_path / "r")
    before = ledger.read(tmp_path / "r" / "small").rules["bp"]
    tuning = Tuning(load_suite(_file(tmp_path)), plugins.load(), tmp_path / "r")
    for score, cells, earlier in ((0.0, [*before.cells, "9"], []), (1.0, ["9"], before.cells)):
        trials = [*before.results]
        best = before.best if not score else 1 - before.best
        trials[best] = trials[best].model_copy(update={"score": score or trials[best].score})
        tuning.rules["bp"] = before.model_copy(
            update={"cells": [], "results": trials, "best": best}
        )
        ledger.write(tmp_path / "r" / "small", "small", {"bp": before})
        tuning.won({"bp": ["9"]})
        after = ledger.read(tmp_path / "r" / "small").rules["bp"]
        assert (after.cells, after.earlier) == (cells, sorted(earlier))


def test_a_dry_run_estimates_what_is_left_of_a_training_and_the_whole_of_the_others(
    tuned: Any, tmp_path: Path, asked_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six cells three are there; one of the others has 1 of 2 epochs saved."""
    shutil.copytree(tuned[0] / "r", tmp_path / "r")
    folder = tmp_path / "r" / "small" / ledger.TRIALS / "small"
    shutil.rmtree(folder / next(iter(runs(folder))))
    asked = []

    class Known:
        def __init__(self, records: Any) -> None:
            pass

        def estimate(self, cell: Any, device: str, begun: int = 0) -> Any:
            asked.append(begun)
            return SimpleNamespace(seconds=1000.0 - 999.0 * begun)

    monkeypatch.setattr("bench_core.results.duration.Past", Known)
    monkeypatch.setattr(
        "bench_core.execution.planning.reuse.saved_state", lambda path: {"epoch": 1}
    )
    done = Here(tmp_path)("tune", _file(tmp_path), "-o", "r", "--dry-run")
    assert "6 cells, 3 there already" in done.stdout
    assert "cost: about 33 min of one worker" in done.stdout  # 1 + 2 · 1000 s
    assert sorted(asked) == [0, 1]


def test_two_searches_of_a_rule_at_once_know_of_each_other(
    tmp_path: Path, asked_here: None
) -> None:
    """The winners of the first to end are those of an earlier search for the second."""
    registry, file = plugins.load(), _file(tmp_path)
    first, second = (
        Tuning(load_suite(file, [f"search.seed={seed}"]), registry, tmp_path / "r")
        for seed in (0, 5)
    )
    suite_folder.create(tmp_path / "r", "small")
    first.write()
    second.write()
    first.won({"dfa": ["a", "both"]})
    second.write()  # it has no winner yet
    found = ledger.read(tmp_path / "r" / "small").rules["dfa"]
    assert (found.seed, found.cells, found.earlier) == (0, ["a", "both"], [])
    second.won({"dfa": ["b", "both"]})
    found = ledger.read(tmp_path / "r" / "small").rules["dfa"]
    assert (found.seed, found.cells, found.earlier) == (5, ["b", "both"], ["a"])
    first.write()
    found = ledger.read(tmp_path / "r" / "small").rules["dfa"]
    assert (found.seed, found.cells, found.earlier) == (0, ["a", "both"], ["b"])


@pytest.mark.long
def test_a_merge_carries_the_trials_along(tuned: Any, tmp_path: Path, asked_here: None) -> None:
    """From a results folder and from a suite folder; then nothing is left to train."""
    home, _ = tuned
    for source in (home / "r", home / "r" / "small"):
        target = tmp_path / source.name
        done = merge([source], target)
        assert done.troubles == []
        assert set(done.fates.values()) == {"copy"}
        assert _without_seconds(target / "small") == _without_seconds(home / "r" / "small")
        tuning = Tuning(load_suite(_file(tmp_path)), plugins.load(), target)
        assert tuning.there()[:2] == (4, 2)


def test_a_merge_carries_a_search_without_winners_along(
    tuned: Any, tmp_path: Path, asked_here: None
) -> None:
    home, _ = tuned
    stopped = tmp_path / "stopped"
    shutil.copytree(home / "r", stopped)
    for identity in runs(stopped / "small"):
        shutil.rmtree(stopped / "small" / identity)
    (stopped / "small" / "suite.json").unlink()
    assert merge([stopped], tmp_path / "r").troubles == []
    tuning = Tuning(load_suite(_file(tmp_path)), plugins.load(), tmp_path / "r")
    assert tuning.there()[:2] == (4, 0)


def test_a_submission_carries_the_searches_of_its_runs(tuned: Any, tmp_path: Path) -> None:
    results, folder = tmp_path / "r", tmp_path / "r" / "small"
    shutil.copytree(tuned[0] / "r", results)
    submit(results, tmp_path / "one")
    sent = tmp_path / "one" / "small"
    assert ledger.read(sent) == ledger.read(folder)
    assert not (sent / ledger.TRIALS).exists()
    assert [*searches(scan([results]).runs), *searches(scan([tmp_path / "one"]).runs)] == []
    text = leaderboards(gather([tmp_path / "one"])[0])
    assert "Tuned, the best score on held-out training samples among the trials: " in text
    content = json.loads((folder / ledger.LEDGER).read_text())
    entry = content["rules"]["dfa"]
    entry["results"][1 - entry["best"]]["values"]["method.normalize"] = "/home/ada/x"
    (folder / ledger.LEDGER).write_text(json.dumps(content))
    for identity, record in runs(folder).items():
        if record["cell"]["method"]["name"] == "bench-core/bp":
            shutil.rmtree(folder / identity)
    submit(results, tmp_path / "two")
    known = ledger.read(tmp_path / "two" / "small")
    assert known.rules.keys() == {"dfa"}
    trial = known.rules["dfa"].results[1 - entry["best"]]
    assert trial.values["method.normalize"] == "<path>"
    (folder / ledger.LEDGER).write_text("{")
    with pytest.raises(UsageError, match=r"tuning\.json: cannot be read"):
        submit(results, tmp_path / "three")
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trials": 500}, "says 500 trials, and lists 2"),
        ({"results": []}, "says 2 trials, and lists 0"),
        ({"cells": ["0" * 32]}, "names cells that have no run here: 1 of 1"),
        ({"cells": "bp"}, "as its own, which is of bench-core/bp"),
        ({"values": {"training.learning_rate": 0.5}}, "has not the values of its best trial"),
        ({"identity": "0" * 32}, f"lists the trial {'0' * 32}, which has no run here"),
        ({"score": 0.99}, "with 0.99; its run has 0."),
    ],
)
def test_a_search_that_its_runs_do_not_show_is_a_fault(
    tuned: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """Of trials where they lie, of cells in a submission: there all of them are trained."""
    whole = change.keys() & {"identity", "score"}
    shutil.copytree(tuned[0] / "r", tmp_path / "r")
    if not whole:
        shutil.rmtree(tmp_path / "r" / "small" / ledger.TRIALS)
    path = tmp_path / "r" / "small" / ledger.LEDGER
    content = json.loads(path.read_text())
    entry = content["rules"]["dfa"]
    best = entry["results"][entry["best"]]
    for key, value in change.items():
        if key in best:
            best[key] = value
        else:
            entry[key] = content["rules"]["bp"]["cells"] if value == "bp" else value
    if not entry["results"]:
        entry["best"] = None
    path.write_text(json.dumps(content))
    done = Here(tmp_path)("verify", "r")
    assert done.returncode == 1
    assert said in done.stderr
    assert all(line.startswith("r/small/tuning.json: dfa: ") for line in done.stderr.splitlines())


def test_a_ledger_of_many_faults_fills_no_screen(tmp_path: Path) -> None:
    folder = write(tmp_path, [run()])
    (search,) = _searched([run()], 1).values()
    rules = {str(n): search.model_copy(update={"cells": ["0"]}) for n in range(30)}
    ledger.write(folder, "audit5", rules)
    lines = list(searches(scan([tmp_path]).runs))
    assert (len(lines), lines[-1].rpartition(": ")[2]) == (21, "10 further faults")


def test_a_ledger_speaks_of_the_runs_beside_it_alone(tmp_path: Path) -> None:
    """Neither of another person's run of the same cell, nor after a merge."""
    (one,), (other,) = (seeds("bench-core/dfa", [value]) for value in (0.3, 0.31))
    for name, record in (("a", one), ("b", other)):
        write(tmp_path / name, [record])
    key = cell_key(one.cell)
    search = next(iter(_searched([one], 8).values())).model_copy(update={"cells": [key, "0"]})
    ledger.write(tmp_path / "a" / "audit5", "audit5", {"dfa": search})
    (suite,), _ = together(gather([tmp_path / "a", tmp_path / "b"])[0])
    said = {record.accuracy: tuned_of(record, suite.settings) for record in suite.records}
    assert said == {0.3: search, 0.31: None}
    merge([tmp_path / "a"], tmp_path / "c")
    known = ledger.read(tmp_path / "c" / "audit5")
    assert known.rules["dfa"].cells == []  # the run has a fault, and is left out


def test_equal_values_are_one_cell_and_two_trials(tmp_path: Path, asked_here: None) -> None:
    """Also of two rules whose frozen floors are equal."""
    options = ["search.training={schedule: [cosine]}", "search.methods={}"]
    options.append("methods=[{name: dfa, penalty: 0.1}, {name: dfa, center: false}]")
    suite = load_suite(_file(tmp_path), options)
    tuning = Tuning(suite, plugins.load(), tmp_path / "r")
    assert [one.key for one in tuning.contenders] == ["dfa[penalty=0.1]", "dfa[center=false]", "bp"]
    drawn = [(one, {"training.schedule": "cosine"}) for one in tuning.contenders for _ in range(2)]
    plan, cells = tuning.trials(drawn)
    assert len(plan.cells) == 3
    assert [cells.index(cell) for cell in cells] == [0, 0, 2, 2, 4, 4]
    assert [cell.cell.method.params["penalty"] for cell in cells[::2]] == [0.1, 0.0, 0.0]


@pytest.mark.long
def test_a_search_in_a_suite_that_saves_its_state_is_done(tmp_path: Path) -> None:
    """Trials have no diagnostics: a state is saved without any measurement."""
    text = SUITE.replace("training: {epochs: 1", "checkpoint_every: 1\ntraining: {epochs: 2")
    done = Here(tmp_path)("tune", _file(tmp_path, text), "-o", "r", "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crashed" not in done.stdout
    assert "failed" not in done.stdout


MINE = """\
from bench_core.api import Credits, LocalMethod, Passport


class Mine(LocalMethod):
    passport = Passport()

    def credit(self, states, y, epoch):
        a = [0.1 * h for h in states.h]
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])
"""


MENDED = '\nfrom pathlib import Path\n\nMENDED = Path(__file__).with_name("mended")\n\n\n'


def _search_of_a_file(folder: Path, name: str, rule: str) -> Path:
    """Write a rule into a file, and a suite that searches it."""
    (folder / f"{name}.py").write_text(rule)
    text = SUITE.replace("methods: [dfa]", f"methods: [{{name: ./{name}.py}}]")
    own = f"    {name}: {{normalize: [sample]}}"
    return _file(folder, text.replace("    dfa: {normalize: [sample, none]}", own))


@pytest.mark.long
def test_a_search_whose_trials_all_fail_says_how_they_are_trained_again(tmp_path: Path) -> None:
    rule = MINE.replace("0.1 * h", "h / MENDED.exists()").replace("\n\n\n", MENDED, 1)
    suite = _search_of_a_file(tmp_path, "fails", rule)
    done = Here(tmp_path)("tune", suite, "-o", "r", "--no-report")
    assert done.returncode == 1  # though bp, the ceiling, is tuned
    told = " ".join(done.stderr.split())
    assert "none of its trials is done (failed 2), so nothing is trained" in told
    assert "--retry-failed trains them again; the first log: r/small/trials/small/" in told
    dry = Here(tmp_path)("tune", suite, "-o", "r", "--dry-run")
    assert "1 seeds: 5 cells, 5 there already" in dry.stdout  # and no winner of the rule that fails
    (tmp_path / "mended").touch()
    again = Here(tmp_path)("tune", suite, "-o", "r", "--no-report")
    assert again.returncode == 1
    mended = Here(tmp_path)("tune", suite, "-o", "r", "--no-report", "--retry-failed")
    assert mended.returncode == 0, mended.stderr
    assert "none of its trials" not in mended.stderr


def test_only_a_finished_trial_has_a_score() -> None:
    for status, score in (("done", 0.9), ("diverged", None), ("timeout", None)):
        assert trials._score(run(status=status, accuracy=0.9)) == score
    assert trials._score(run(accuracy=math.nan)) is None


@pytest.mark.long
def test_a_search_without_time_has_no_winners_and_says_how_it_continues(tmp_path: Path) -> None:
    """The trials that are skipped leave the search unfinished: no winner is drawn from the rest."""
    command = ("tune", _file(tmp_path), "-o", "r", "--no-report")
    done = Here(tmp_path)(*command, "--set", "budget.sweep_seconds=1e-9")
    assert done.returncode == 1
    assert "trials have no result: skipped; the same command continues the search" in done.stderr
    folder = tmp_path / "r" / "small"
    assert all(not rule.cells for rule in ledger.read(folder).rules.values())
    reasons = {record["reason"] for record in runs(folder / ledger.TRIALS / "small").values()}
    assert reasons - {None} == {"the sweep's time (budget.sweep_seconds) was spent"}


def test_every_batch_of_a_search_has_the_time_that_is_left(
    tmp_path: Path, asked_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(_file(tmp_path), ["budget.sweep_seconds=100"])
    tuning = Tuning(suite, plugins.load(), tmp_path / "r")
    for passed, left in ((0.0, 100.0), (30.0, 70.0), (200.0, 1e-3)):
        monkeypatch.setattr(trials.time, "monotonic", lambda now=tuning.started + passed: now)
        plan = tuning._plan(suite, tmp_path / "r")
        assert plan.suite.budget.sweep_seconds == pytest.approx(left)


def test_trials_of_equal_values_are_one_training() -> None:
    searched = next(iter(_searched([run()], 8).values()))
    (trial,) = searched.results
    other = trial.model_copy(update={"identity": "other"})
    for results, tried in (([trial], 8), ([trial, other], 8), ([trial, trial, other], 7)):
        assert searched.model_copy(update={"results": results}).tried == tried


def test_a_table_says_which_of_its_rules_a_search_has_moved_to_another() -> None:
    """bp won with the suite's own learning rate: the table of the untuned rules lacks it."""
    bp = _stored("bench-core/bp", [0.6, 0.61, 0.62], training={"learning_rate": 0.003})
    plain = _stored("bench-core/dfa", [0.3, 0.31, 0.32], training={"learning_rate": 0.003})
    dfa = _stored("bench-core/dfa", [0.4, 0.41, 0.42], training={"learning_rate": 0.01})
    settings = _settings(_searched(bp, 8) | _searched(dfa, 8))
    groups = judge_all([*bp, *plain, *dfa], settings)
    assert sorted((len(group.rows), group.moved) for group in groups) == [(1, ("bp",)), (2, ())]
    told = "bp also trained with this recipe, which a search chose: those runs stand in the table"
    assert told in leaderboard([*bp, *plain, *dfa], settings, width=None)
    assert "also trained" not in leaderboard([*bp, *dfa], settings, width=None)
    # a search over options alone has no recipe of its own
    options = next(iter(_searched(bp, 8).values()))
    (trial,) = options.results
    options = options.model_copy(update={"results": [trial.model_copy(update={"values": {}})]})
    (group,) = judge_all([*bp, *plain], _settings(dict.fromkeys(_searched(bp, 8), options)))
    assert (group.set_aside, group.moved) == (0, ())


def test_a_dry_run_writes_nothing(tuned: Any, tmp_path: Path) -> None:
    done = Here(tmp_path)("tune", _file(tmp_path), "--dry-run", "--trials", 3)
    assert done.stdout.startswith("small: 2 rules × 3 trials, then the best of each × 1 seeds: 8")
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_a_dry_run_counts_what_is_there(tuned: Any, tmp_path: Path, asked_here: None) -> None:
    shutil.copytree(tuned[0] / "r", tmp_path / "r")
    done = Here(tmp_path)("tune", _file(tmp_path), "-o", "r", "--dry-run")
    assert "1 seeds: 6 cells, 6 there already" in done.stdout
    assert "cost: about 0 s" in done.stdout
    folder = tmp_path / "r" / "small" / ledger.TRIALS / "small"
    shutil.rmtree(folder / next(iter(runs(folder))))
    before = sorted(tmp_path.rglob("*"))
    done = Here(tmp_path)("tune", _file(tmp_path), "-o", "r", "--dry-run")
    assert "1 seeds: 6 cells, 3 there already" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("search=null", "search: is missing"),
        ("search.trials=0", "search.trials: must be between 1"),
        ("search.seed=1", "search.seed: 1 is a seed of the suite"),
        ("search.training.learning_rate={low: 1, high: 1}", "is empty: low (1) must be below"),
        (
            "search.training.learning_rate={low: 0, high: 1, scale: log}",
            "needs low above 0 for a log",
        ),
        ("search.training.learning_rate=[]", "must have at least 1 item"),
        ("search.training.learning_rate={low: 0, high: 9999}", "high: must be between 0 and 1,000"),
        ("search.training.epochs=[1, 2]", "search.training.epochs: unknown key"),
        ("search.training={}", "search: names nothing to search for bp"),
        ("search.methods.dfa={name: [ep, dfa]}", "dfa.name: is the rule itself, no parameter"),
        ("search.methods.dfa={freeze: [blocks]}", "dfa.freeze: makes the floor of the rule"),
        ("search.methods.dfa={train_last: [7]}", "search.methods.dfa: dfa cannot train resmlp"),
        (
            "methods=[{name: dfa, normalize: batch}]",
            "dfa.normalize: is fixed by dfa[",
        ),
        (
            "search.methods.ep={beta: [1.0]}",
            "search.methods.ep: is no rule of the suite, which has dfa, bp; name one",
        ),
        ("search.methods.dfa.beta=[1, 2]", "search.methods.dfa.beta: unknown key"),
        ("search.methods.dfa.normalize=[sample, no]", "search.methods.dfa.normalize[1]: must be"),
        ("data.validation=null", "data.validation: is missing"),
        ("data.validation=1437", "data.validation: must be below the 1,437 training samples"),
        ("data.validation=4", "without a validation sample"),
        ("data.validation=1400", "37 training samples do not fill one batch of 64"),
        ("matrix={arch.depth: [1, 2]}", "matrix: a suite that is tuned has one recipe"),
    ],
)
def test_a_wrong_search_is_one_line_before_anything_trains(
    option: str, place: str, tmp_path: Path, asked_here: None
) -> None:
    with pytest.raises(SuiteError) as error:
        Tuning(load_suite(_file(tmp_path), [option]), plugins.load(), tmp_path / "r")
    (line,) = str(error.value).splitlines()
    assert place in line
    assert not (tmp_path / "r").exists()


def test_values_that_exclude_each_other_are_a_fault_of_the_search(
    tmp_path: Path, asked_here: None
) -> None:
    """Each is right with the defaults of the other."""
    text = SUITE.replace("[dfa]", "[predictive_coding]").replace("dfa:", "predictive_coding:")
    own = "{fixed_prediction: [false, true], dual_step: [0.0, 1.0]}"
    with pytest.raises(SuiteError, match=r"search\.methods\.predictive_coding: .* exclude each"):
        Tuning(
            load_suite(_file(tmp_path, text), [f"search.methods.predictive_coding={own}"]),
            plugins.load(),
            tmp_path / "r",
        )


def test_the_second_ceiling_of_local_heads_is_tuned_too(tmp_path: Path, asked_here: None) -> None:
    text = SUITE.replace("[dfa]", "[mono_forward]").replace("dfa:", "mono_forward:")
    tuning = Tuning(load_suite(_file(tmp_path, text)), plugins.load(), tmp_path / "r")
    assert [one.key for one in tuning.contenders] == ["mono_forward", "bp", "bp_local_heads"]


def test_a_rule_that_is_not_chosen_is_not_searched(tmp_path: Path) -> None:
    text = SUITE.replace("[dfa]", "[dfa, ep]").replace("    dfa:", "    bench-core/dfa:")
    suite = load_suite(_file(tmp_path, text), methods=["ep"])
    assert suite.search is not None
    assert suite.search.methods == {}


def test_a_fault_of_the_file_names_line_and_column(tmp_path: Path, asked_here: None) -> None:
    text = SUITE.replace("[sample, none]", "[sample, nun]")
    with pytest.raises(SuiteError) as error:
        Tuning(load_suite(_file(tmp_path, text)), plugins.load(), tmp_path / "r")
    assert "small.yaml:15:31: search.methods.dfa.normalize[1]: " in str(error.value)


def test_without_optuna_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench_core.execution.tuning.contenders.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'bench-core\[tune\]'"):
        Tuning(load_suite(_file(tmp_path)), plugins.load(), tmp_path)


# ------------------------------------------------------------------------------------------ tables


def _searched(records: list[RunRecord], trials: int, scored_on: str = "validation") -> Any:
    rate = records[0].cell.training["learning_rate"]
    best = Trial(values={"training.learning_rate": rate}, identity="0", status="done", score=0.5)
    cells = [cell_key(record.cell) for record in records]
    checksums = [record.checksum for record in records]
    tuned = Tuned(
        method={}, seed=0, trials=trials, scored_on=scored_on, sampler="", versions={}, space={},
        results=[best], best=0, cells=cells,
    )  # fmt: skip
    return dict.fromkeys(checksums, tuned)


def _settings(searched: Any) -> Settings:
    return Settings(standings={key: Standing(tuned=tuned) for key, tuned in searched.items()})


def _stored(*args: Any, **fields: Any) -> list[RunRecord]:
    """Records with checksums, as stored runs have them."""
    return [r.model_copy(update={"checksum": r.identity}) for r in seeds(*args, **fields)]


def test_rows_with_other_tuned_rates_stand_in_one_table_and_unfair_ones_are_marked() -> None:
    bp = _stored("bench-core/bp", [0.6, 0.61, 0.62], training={"learning_rate": 0.003})
    dfa = _stored("bench-core/dfa", [0.3, 0.31, 0.32], training={"learning_rate": 0.01})
    fair = _settings(_searched(bp, 8) | _searched(dfa, 8))
    text = leaderboard([*bp, *dfa], fair, "markdown")
    assert text.count(" trials |") == 1
    assert "flatter" not in text
    for unfair, mark in (
        (_searched(dfa, 50), "dfa was tuned on 50 trials, a peer on 8"),
        (_searched(dfa, 8, "test"), "dfa was tuned on the test set"),
    ):
        settings = _settings(_searched(bp, 8) | unfair)
        text = leaderboard([*bp, *dfa], settings, width=None)
        assert mark in text
        assert "bp was tuned" not in text
        (group,) = json.loads(leaderboard([*bp, *dfa], settings, "json"))["suites"][0]["groups"]
        doubts = {row["label"]: row["doubts"] for row in group["rows"]}
        assert [bool(doubts[name]) for name in ("bp", "dfa")] == [False, True]
    assert " trials |" not in leaderboard([*bp, *dfa], format="markdown")
    for records in ([*bp, *dfa], [bp[0]], [*bp, bp[1].model_copy(update={"status": "skipped"})]):
        step = " ".join(next_steps(judge_all(records, fair), "mine"))
        assert "bench tune" in step
        assert "bench run" not in step
        assert "--seed" not in step  # of `bench tune` it is the seed of the search
    other = next(iter(_searched(bp, 8).values()))
    for edited in (other, other.model_copy(update={"best": None})):
        settings = _settings(dict.fromkeys(_searched(dfa, 8), edited))
        assert tuned_of(dfa[0], settings) is None


def _over(searched: Any, **ranges: Any) -> Any:
    space = {f"training.{key}": values for key, values in ranges.items()}
    space["normalize"] = ["sample", "batch"]  # an option of the rule, which its peers lack
    return {key: tuned.model_copy(update={"space": space}) for key, tuned in searched.items()}


def test_rules_that_were_searched_over_unlike_ranges_are_marked() -> None:
    wide = {"low": 1e-4, "high": 0.1, "scale": "log"}
    narrow = {"low": 1e-4, "high": 0.001, "scale": "log"}
    bp, dfa, fa = (
        _stored(f"bench-core/{name}", [mean, mean + 0.01], training={"learning_rate": rate})
        for name, mean, rate in (("bp", 0.6, 0.001), ("dfa", 0.3, 0.001), ("fa", 0.5, 0.01))
    )

    def told(of_bp: Any, of_dfa: Any, of_fa: Any) -> str:
        searched = _over(_searched(bp, 8), **of_bp) | _over(_searched(dfa, 8), **of_dfa)
        searched |= _over(_searched(fa, 8), **of_fa)
        return leaderboard([*bp, *dfa, *fa], _settings(searched), width=None)

    rate = {"learning_rate": narrow}
    assert "was searched over" not in told(rate, rate, rate)
    text = told(rate, rate, {"learning_rate": wide})
    assert text.count("was searched over") == 1
    ranges = "learning_rate 0.0001 … 0.1 (log), bp over 0.0001 … 0.001 (log)"
    assert f"fa was searched over {ranges}: " in text
    text = told(rate, rate, {**rate, "schedule": ["constant", "cosine"]})
    assert """fa was searched over schedule ["constant", "cosine"], bp over one value: """ in text
    without = _over(_searched(dfa, 8), **rate) | _over(_searched(fa, 8), learning_rate=wide)
    text = leaderboard([*dfa, *fa], _settings(without), width=None)
    assert {f"{name} was searched over" in text for name in ("dfa", "fa")} == {True}


def test_no_search_counts_as_none_beside_a_search_and_floors_and_controls_do_not_count() -> None:
    bp, dfa = (_stored(f"bench-core/{name}", [0.6, 0.61, 0.62]) for name in ("bp", "dfa"))
    beside = [*frozen("bench-core/dfa", [0.3]), *seeds("bench-core/random_credit", [0.1])]
    tuned = next(iter(_searched(dfa, 20).values()))
    tuned = tuned.model_copy(
        update={"results": [tuned.results[0].model_copy(update={"values": {}})]}
    )
    searched = dict.fromkeys(_searched(dfa, 20), tuned)
    mark = "dfa was tuned on 20 trials, a peer on none"
    assert mark in leaderboard([*bp, *dfa], _settings(searched), width=None)
    for records, known in (([*dfa, *beside], searched), ([*bp, *dfa], {})):
        assert "flatter" not in leaderboard(records, _settings(known), width=None)


@pytest.mark.parametrize(
    "change",
    [
        {"best": 5},
        {"results": [{"values": {"training.epochs": 1}}]},
        {"trials": "x"},
        {"trials": 0},
        {"results": [{"score": None}, {"score": 0.5}]},
        {"trials": 1, "results": [{}, {}]},
    ],
)
def test_a_ledger_without_its_form_is_unreadable(change: Any, tmp_path: Path) -> None:
    searched = next(iter(_searched([run()], 8).values())).model_dump(mode="json")
    (trial,) = searched["results"]
    results = [trial | other for other in change.get("results", [{}])]
    content = {"suite": "s", "rules": {"dfa": searched | change | {"results": results}}}
    (tmp_path / ledger.LEDGER).write_text(json.dumps(content))
    with pytest.raises(store.Unreadable):
        ledger.read(tmp_path)


def test_trials_of_other_code_and_repeated_searches_are_named(tuned: Any, tmp_path: Path) -> None:
    home, _ = tuned
    shutil.copytree(home / "r", tmp_path / "r")
    assert not [line for line in gather([tmp_path / "r"])[1] if "the trials of" in line]
    bp = _stored("bench-core/bp", [0.6, 0.61, 0.62], training={"learning_rate": 0.003})
    dfa = _stored("bench-core/dfa", [0.3, 0.31, 0.32], training={"learning_rate": 0.01})
    again = {
        key: item.model_copy(update={"earlier": ["a", "b", *item.cells[:1]]})
        for key, item in _searched(dfa, 8).items()
    }
    text = leaderboard([*bp, *dfa], _settings(_searched(bp, 8) | again), width=None)
    assert "dfa was searched more than once: 2 cells of earlier winners do not count" in text
    assert "bp was searched" not in text


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_rule_that_was_edited_after_its_search_is_named(tmp_path: Path, first: str) -> None:
    """Whichever of the two runs stands first in the folder, suite.json names the new one."""

    def of_code(digest: str, **fields: Any) -> RunRecord:
        return run("lab/mine", code={"lab": {"files": {"mine": digest}}}, **fields)

    old, new = of_code("before"), of_code("after")
    trials = write(tmp_path / "r/s/trials", [old], suite="s")
    (trial,) = (path.parent.name for path in trials.glob("*/run.json"))
    best = Trial(values={}, identity=trial, status="done", score=0.5)
    tuned = Tuned(
        method={}, seed=0, trials=1, scored_on="validation", sampler="", versions={}, space={},
        results=[best], best=0, cells=[cell_key(old.cell)],
    )  # fmt: skip
    folder = write(tmp_path / "r", [old], suite="s")
    ledger.write(folder, "s", {"lab/mine": tuned})
    assert gather([tmp_path / "r"])[1] == []
    (before,) = (path.parent.name for path in folder.glob("*/run.json"))
    for attempt in range(99):
        write(tmp_path / str(attempt), [new.model_copy(update={"why": str(attempt)})], suite="s")
        ((made, after),) = (
            (path.parent, path.parent.name) for path in tmp_path.glob(f"{attempt}/s/*/run.json")
        )
        if (after < before) == (first == "new"):
            break
    shutil.copytree(made, folder / after)
    suite_folder.write(folder, {"cells": {cell_key(new.cell): after}})
    (told,) = gather([tmp_path / "r"])[1]
    assert "the trials of lab/mine ran with other code than 1 of the runs that they chose" in told
