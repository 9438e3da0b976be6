"""Marks, late measurements and thresholds come from somebody: every table says from whom."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_plugins.diagnostics import batch_stability, depth_utility, reference_floor, scale_growth
from conftest import Finished, Here
from folders import leaderboard, write
from posted import THERE, put, true
from records import LOCAL, PASSPORT, frozen, measured, run, seeds

from bench_core.analysis.gather import gather
from bench_core.analysis.joined import together
from bench_core.analysis.verdicts.judge import D_DEFAULT
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.errors import StoreError, UsageError
from bench_core.execution.planning.job import make_record
from bench_core.registry import plugins
from bench_core.report.pages.page import page
from bench_core.report.pages.site import pages
from bench_core.report.tables.formats import FORMATS, leaderboards
from bench_core.results import author, locks, marks, remeasured, store, suite_folder
from bench_core.results.agreement import compare
from bench_core.results.hashing import checksum
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.scan import Stored, scan
from bench_core.sharing import merge as merging
from bench_core.sharing import replicate
from bench_core.suite.protocol import LETTERS, THRESHOLDS

pytestmark = pytest.mark.processes


@pytest.fixture
def other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """A context in which another user works, with a key of their own."""

    @contextmanager
    def acts() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(tmp_path / "other-user"))
            yield

    return acts


def maker() -> str:
    return str(marks.Signed(when="").sealed().maker)


def text_of(suites: Any, form: str) -> str:
    """Return the leaderboard, or the page, as words with single spaces and without escapes."""
    text = page(suites) if form == "page" else leaderboards(suites, form)  # type: ignore[arg-type]
    return " ".join(text.replace("\\", "").split())


def reseal(folder: Path, **fields: Any) -> RunRecord:
    """Change the record of a run as a forger does: with valid checksums."""
    record = store.sealed(store.read(folder).model_copy(update=fields))
    (folder / store.RUN).write_text(record.to_json())
    return record


# ------------------------------------------------------------------------------------- replicate


@pytest.fixture
def forged(finished: Finished, tmp_path: Path) -> Path:
    """One posted run with an invented accuracy, and a replica that agrees with it beside it."""
    results = tmp_path / "results"
    (source,) = (
        item.folder
        for item in scan([finished.results]).runs
        if item.record.cell.method.short == "dfa"
        and item.record.cell.method.params["freeze"] is None
    )
    folder = results / "tiny" / source.name
    shutil.copytree(source, folder)
    rows = (folder / "epochs.jsonl").read_text().splitlines()
    last = json.loads(rows[-1]) | {"accuracy": 0.9999}
    (folder / "epochs.jsonl").write_text("\n".join([*rows[:-1], json.dumps(last)]) + "\n")
    raw = json.loads((folder / "run.json").read_text())
    raw["accuracy"] = 0.9999
    path = folder / "epochs.jsonl"
    with path.open("rb") as file:
        raw["files"][path.name] = {"bytes": path.stat().st_size, "blake2b": checksum(file)}
    record = store.sealed(RunRecord.model_validate({**raw, "checksum": None}))
    (folder / "run.json").write_text(record.to_json())
    shutil.copytree(results, tmp_path / "results-replicas")
    planted = tmp_path / "results-replicas" / "tiny"
    (planted / f".resume-{source.name}.safetensors").write_bytes(
        b"a state that was trained on lies"
    )
    mark = marks.read(planted, record).model_copy(update={"trained": marks.Signed(when="2026")})
    marks.write(planted, mark)
    return results


def test_a_replica_measures_with_the_options_of_its_suite(
    forged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"bench-core/alignment": {"batches": 2}, "bench-core/drift": {}, "x/y": 1}
    options |= {"lab/other": {}}
    suite_folder.write(forged / "tiny", {"diagnostics": options})
    asked: list[dict[str, Any]] = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"components": [{} for _ in request["components"]], "trios": [None]}

    monkeypatch.setattr(replicate.validate, "ask", ask)
    replicate._describe(scan([forged]).runs[0], plugins.load(), None, 1.0)
    measured = [item for item in asked[0]["components"] if item[0] == "diagnostic"]
    assert ("diagnostic", "bench-core/alignment", {"batches": 2}) in measured
    assert ("diagnostic", "bench-core/scale_growth", {}) in measured
    assert ("diagnostic", "bench-core/drift", {}) in measured  # which the run lacks
    assert len(measured) == 6


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"label_noise": 0.4}, "no setting training.label_noise"),
        ({"stop_when": {"lab/growth": 1.0}}, "unknown diagnostic 'lab/growth'"),
    ],
)
def test_a_setting_that_no_training_reads_is_not_replicated(
    forged: Path, setting: dict[str, Any], said: str
) -> None:
    (folder,) = (forged / "tiny").iterdir()
    record = store.read(folder)
    training = record.cell.training | setting
    reseal(folder, cell=record.cell.model_copy(update={"training": training}))
    (planned, faults) = replicate.plan_again(
        scan([forged]).runs, plugins.load(), forged.with_name("new"), None, "cpu"
    )
    assert planned == []
    assert faults[0].startswith(f"{folder}: cannot be run again here: {said}")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"train_last": 9}, "train_last: 9 asks for more blocks than the 2 that there are"),
        ({"scale": 2}, "the installed bench-core/dfa has other parameters: scale: unknown key"),
    ],
)
def test_a_rule_that_does_not_fit_here_is_not_replicated(
    forged: Path, option: dict[str, Any], said: str
) -> None:
    (folder,) = (forged / "tiny").iterdir()
    cell = store.read(folder).cell
    method = cell.method.model_copy(update={"params": {**cell.method.params, **option}})
    reseal(folder, cell=cell.model_copy(update={"method": method}))
    (planned, faults) = replicate.plan_again(
        scan([forged]).runs, plugins.load(), forged.with_name("new"), None, "cpu"
    )
    assert planned == []
    assert faults[0].startswith(f"{folder}: cannot be run again here: {said}")


def test_a_plugin_of_another_version_than_the_one_that_trained_is_named() -> None:
    posted = {"bench-core": {"version": "0.1"}, "lab": {"version": "0.1.0"}, "gone": {}}
    here = {"bench-core": {"version": "0.2"}, "lab": {"version": "0.2.0"}, "new": {"version": "1"}}
    assert [*replicate._other_versions(posted, here)] == [
        "was trained by lab 0.1.0; 0.2.0 is installed and runs it again; `pip install lab==0.1.0` "
        "installs the code that trained it"
    ]
    assert [*replicate._other_versions(here, here)] == []
    for odd in ({"lab": 3}, {"lab": {"version": 3}}, {"lab": {"version": "1; rm -rf ~"}}):
        assert [*replicate._other_versions(odd, here)] == []


def test_a_replica_from_before_a_diagnostic_was_installed_is_trained_again(tmp_path: Path) -> None:
    names = {"training": 1, "diagnostic bench-core/alignment": 1}
    folder = put(tmp_path / "results", true(seed=1, numerics=names))
    record = store.read(folder)
    marks.write(folder.parent, marks.read(folder.parent, record).signed("trained", "2026"))

    def trained(numerics: dict[str, int]) -> str:
        cell: Any = SimpleNamespace(folder=folder, numerics=numerics)
        return replicate.trained_at(cell)

    assert trained(names) == "2026"
    assert trained({"training": 1}) == "2026"
    assert trained({**names, "diagnostic lab/new": 1}) == ""


@pytest.mark.long
def test_replicas_of_a_rule_and_of_its_floor_have_names_apart(
    here: Here, finished: Finished, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(finished.results, tmp_path / "results"))
    done = here("replicate", results, "--sample", "100%", "--workers", 2)
    assert done.returncode == 0, done.stderr
    expected = {
        f"{record.identity[:12]}  {record.cell.method.short}"
        f"{'[frozen]' * (record.cell.method.params['freeze'] == 'blocks')}"
        f" · seed {record.cell.seed}: agrees"
        for record in (run.record for run in scan([results]).runs)
    }
    said = [line for line in done.stdout.splitlines() if ": agrees: " in line]
    assert {line.partition(": equal")[0] for line in said} == expected
    assert any("dfa[frozen]" in line for line in said)


@pytest.mark.long
def test_a_replica_is_trained_here_whatever_lies_in_its_folder(here: Here, forged: Path) -> None:
    done = here("replicate", forged, "--sample", "1", "--seed", "0")
    assert done.returncode == 1
    assert "DISAGREES: accuracy" in done.stdout
    assert "0.9999 (here and posted)" in done.stdout
    again = here("replicate", forged, "--sample", "1", "--seed", "0")
    assert "(the run that you trained at 20" in again.stdout
    table = here("leaderboard", forged).stdout
    assert "1 disputed (dfa 1)" in table


def test_replicas_run_where_the_cells_of_a_suite_run(
    here: Here, forged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings of their executor, such as the partition of a cluster."""
    refused = here("replicate", forged, "--sample", "1", "--executor-set", "partition=gpu")
    assert refused.returncode == 2
    assert "partition: the local executor has no settings" in refused.stderr
    wrong = here("replicate", forged, "--executor", "slurm", "--executor-set", "gpu")
    assert (wrong.returncode, "gpu: must be KEY=VALUE" in wrong.stderr) == (2, True)

    def execute(cells: Any, job: Any, watch: Any, options: Any) -> None:
        raise UsageError(f"{options.settings} {options.slots} {options.per_gpu}")

    monkeypatch.setattr("bench_core.execution.runner.executor_named", lambda *_: execute)
    settings = ("--executor-set", "partition=gpu", "--executor-set", "time=1:00")
    slots = ("--workers", 3, "--per-gpu", 2)
    asked = here("replicate", forged, "--executor", "mine", *settings, *slots)
    assert "{'partition': 'gpu', 'time': '1:00'} 3 2" in asked.stderr


def test_a_replica_that_fails_here_disputes_nothing(
    here: Here, forged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = here("replicate", forged, "--sample", "1", "--threads", 10**11)
    assert done.returncode == 2
    assert "100000000000 is not in the range 1<=x<=1024" in done.stderr

    def execute(cells: Any, job: Any, watch: Any, options: Any) -> None:
        for cell in cells:
            record = make_record(job(cell), status="failed", reason="no room")
            with locks.locked(cell.folder):
                store.temporary(cell.folder).mkdir()
                store.commit(record, cell.folder)

    monkeypatch.setattr("bench_core.execution.runner.executor_named", lambda *_: execute)
    done = here("replicate", forged, "--sample", "1")
    assert done.returncode == 1
    assert ": could not be run here: failed: no room" in done.stderr
    assert "0 of 1 agree, 1 could not be run" in done.stdout
    assert not (forged / "tiny" / marks.FOLDER).exists()


def test_a_planted_replica_confirms_nothing_if_the_training_here_is_cut_short(
    here: Here, forged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the new runs has a copy of the forged run, as its author may send it."""
    place = forged.with_name("results-replicas")
    (folder,) = (forged / "tiny").iterdir()
    shutil.copytree(folder, place / "tiny" / folder.name, dirs_exist_ok=True)
    planted = store.read(place / "tiny" / folder.name).accuracy

    def execute(cells: Any, job: Any, watch: Any, options: Any) -> None:
        for cell in cells:
            record = make_record(job(cell), status="timeout", reason="over its budget")
            with locks.locked(cell.folder):
                store.clear_temporary(cell.folder)
                ended = store.commit(record, cell.folder)
                store.remove_temporary(cell.folder)
            watch(cell, {"event": "end", "record": ended})

    monkeypatch.setattr("bench_core.execution.runner.executor_named", lambda *_: execute)
    done = here("replicate", forged, "--sample", "1")
    assert done.returncode == 1
    assert ": could not be run here: timeout: over its budget; its done run stays" in done.stderr
    assert "0 of 1 agree, 1 could not be run" in done.stdout
    assert not (forged / "tiny" / marks.FOLDER).exists()
    assert store.read(place / "tiny" / folder.name).accuracy == planted


def test_a_replica_that_lies_elsewhere_is_asked_for(here: Here, forged: Path) -> None:
    place = forged.with_name("results-replicas")
    shutil.rmtree(place)
    (forged.parent / "own").mkdir()
    place.symlink_to("own")
    done = here("replicate", forged, "--sample", "1")
    assert done.returncode == 2
    assert "is a link; name the folder of the new runs with --into" in done.stderr
    assert not list((forged.parent / "own").iterdir())


def test_a_posted_cell_has_a_budget(here: Here, forged: Path) -> None:
    (folder,) = (forged / "tiny").iterdir()
    record = store.read(folder)
    training = record.cell.training | {"epochs": 10**8}
    reseal(folder, cell=record.cell.model_copy(update={"training": training}), epochs=10**8)
    done = here("replicate", forged, "--sample", "1")
    assert done.returncode == 1
    assert "cannot be run again here: it has 100,000,000 epochs; at most 100,000" in done.stderr


# ----------------------------------------------------------------------------------------- marks


def test_marks_of_another_user_are_what_they_say(
    here: Here, tmp_path: Path, other_user: Callable[[], Any]
) -> None:
    folder = put(tmp_path / "results", true(seed=1)).parent
    put(tmp_path / "results", true(seed=2))
    one, two = (item.record for item in scan([folder]).runs)
    replica = compare(one, one)
    with other_user():
        their = maker()
        marks.write(folder, marks.read(folder, one).replicated(replica).signed("checked", "2026"))
        marks.write(folder, marks.read(folder, two).signed("checked", "2026"))
        assert [marks.read(folder, each).state for each in (one, two)] == ["replicated", "checked"]
    assert [marks.read(folder, each).state for each in (one, two)] == ["posted", "posted"]
    said = f"replicated by user {their}, as they say"
    suites, _ = gather([folder])
    for form in (*FORMATS, "page"):
        assert said in text_of(suites, form), form
    assert "replicated (dfa" not in text_of(suites, "table")
    merging.merge([tmp_path / "results"], tmp_path / "into")
    carried = marks.read(tmp_path / "into" / "s", one)
    assert (carried.state, carried.checked) == ("posted", None)
    assert carried.said == (f"replicated by user {their}",)
    # this user's own replica counts beside it
    marks.write(folder, marks.read(folder, one).replicated(replica))
    assert [marks.read(folder, each).state for each in (one, two)] == ["replicated", "posted"]


def test_invented_users_do_not_fill_a_table(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", seeds("bench-core/dfa", [0.3]))
    (record,) = (item.record for item in scan([folder]).runs)
    replica = compare(record, record)
    many = [replica.model_copy(update={"maker": f"{k:08x}"}) for k in range(50)]
    marks.write(folder, marks.read(folder, record).model_copy(update={"replicas": many}))
    text = text_of(gather([folder])[0], "table")
    assert text.count("replicated by user") == 5
    assert "and 45 more by other users, as they say" in text
    assert "as they say: only the word of another user." in text
    for form, times in (("csv", 1), ("json", 2)):  # by the same rule; JSON has the notes, too
        text = text_of(gather([folder])[0], form)
        assert text.count("replicated by user") == 5 * times
        assert "and 45 more by other users, as they say" in text


def code(**options: Any) -> dict[str, Any]:
    """Return the code of a run of dfa, with the defaults of its options."""
    return {"bench-core": {"digest": "ab", "defaults": {"bench-core/dfa": {**LOCAL, **options}}}}


def named(*folders: Path) -> list[str]:
    """Return the names of the rows of results folders, as they are shown together."""
    (suite,), _ = together(gather(folders)[0])
    return sorted(
        row.label for group in judge_all(suite.records, suite.settings) for row in group.rows
    )


def test_a_row_is_named_by_the_defaults_that_its_runs_record(tmp_path: Path) -> None:
    """Not by those that suite.json states: its author could hide an option."""
    forged = {"defaults": {"bench-core/dfa": {**LOCAL, "scale": 3}}}
    given: dict[str, Any] = {"params": {"scale": 3}, "code": code(scale=1)}
    folder = write(tmp_path / "a", seeds("bench-core/dfa", [0.4, 0.5], **given), **forged)
    assert named(folder) == ["dfa[scale=3]"]
    assert "no run records" not in text_of(gather([folder])[0], "json")
    # a run that records another default hides nothing either
    given["code"] = code(scale=3)
    other = write(tmp_path / "b", seeds("bench-core/dfa", [0.4], **given), **forged)
    assert named(other) == ["dfa"]
    assert named(other, folder) == ["dfa[scale=3]"]
    # nor does one that records them without this option
    given["code"] = code()
    assert named(write(tmp_path / "c", seeds("bench-core/dfa", [0.4], **given))) == ["dfa[scale=3]"]


@pytest.mark.parametrize("stated", [{}, {"bench-core/dfa": {**LOCAL, "scale": 3}}])
def test_options_whose_defaults_no_run_records_stand_beside_the_row(
    tmp_path: Path, stated: dict[str, Any]
) -> None:
    records = seeds("bench-core/dfa", [0.4, 0.5], params={"scale": 3}, code={"bench-core": "odd"})
    folder = write(tmp_path, records, defaults=stated)
    assert named(folder) == ["dfa"]
    for form in (*FORMATS, "page"):
        text = text_of(gather([folder])[0], form)
        assert "no run records the defaults of its options scale=3" in text, form


@pytest.mark.parametrize("digest", ["ab", "another code"])
def test_runs_that_record_two_defaults_do_not_agree(digest: str) -> None:
    """Whatever code the posted run names: its row leaves out options at their default."""
    one = run("bench-core/dfa", params={"scale": 3}, code=code(scale=3))
    one = one.model_copy(update={"identity": digest})
    other = run("bench-core/dfa", params={"scale": 3}, code=code(scale=1))
    found = compare(one, other)
    assert (found.agrees, "default of bench-core/dfa scale is 1 and 3" in found.said) == (
        False,
        True,
    )
    assert compare(one, other.model_copy(update={"code": {}})).agrees


@pytest.mark.parametrize("name", ["mine", "nobody", "older"])
def test_a_mark_without_a_valid_seal_is_not_this_users(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "results", seeds("bench-core/dfa", [0.3]))
    (record,) = (item.record for item in scan([folder]).runs)
    replica = compare(record, record).model_copy(
        update={"maker": maker() if name == "mine" else "", "seal": "0" * 32}
    )
    mark = marks.read(folder, record)
    if name == "older":  # of schema 1: without makers
        entry = replica.model_dump(mode="json", exclude={"maker", "seal"})
        raw = {"schema_version": 1, "identity": mark.identity, "run": mark.run}
        (folder / marks.FOLDER).mkdir()
        path = folder / marks.FOLDER / f"{mark.identity}.json"
        path.write_text(json.dumps({**raw, "checked": "2026", "replicas": [entry]}))
    else:
        marks.write(folder, mark.model_copy(update={"replicas": [replica]}))
    read = marks.read(folder, record)
    assert read.state == "posted"
    assert read.said == (() if name == "mine" else ("replicated by an unknown user",))


def test_a_seal_belongs_to_one_run_and_one_kind(tmp_path: Path) -> None:
    signed = marks.Signed(when="2026").sealed("identity", "run", "checked")
    assert signed.is_mine("identity", "run", "checked")
    assert not signed.is_mine("identity", "run", "trained")
    assert not signed.is_mine("identity", "another run", "checked")
    assert not signed.model_copy(update={"when": "2027"}).is_mine("identity", "run", "checked")


def test_the_key_is_the_users_alone_and_a_place_without_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert not marks.Signed(when="").is_mine()
    assert not author.place().exists()  # reading makes no key
    maker()
    assert author.place().stat().st_mode & 0o777 == 0o600
    assert [path.name for path in author.place().parent.iterdir()] == ["key"]
    author.place().write_text("short")
    with pytest.raises(StoreError, match="is no key of bench: remove it"):
        maker()
    done = here("verify", put(tmp_path / "results", true(seed=1)).parent)
    assert "its marks cannot be written: no record can be signed" in done.stderr


# ----------------------------------------------------------------------------- late, thresholds


def late_of(stored: Stored, name: str, item: Measurement) -> remeasured.Late:
    return remeasured.Late(
        late_schema=remeasured.SCHEMA,
        checkpoint=remeasured.checkpoint_sum(stored.record),
        diagnostic=f"bench-core/{name}",
        params={},
        measurement=item,
        versions={},
        measured="2026-01-01",
    )


def test_a_late_measurement_that_changes_a_verdict_stands_beside_it(
    tmp_path: Path, other_user: Callable[[], Any]
) -> None:
    sick = measured(a=694.0)
    records = [*seeds("bench-core/dfa", [0.4, 0.41], measurements=sick)]
    folder = write(tmp_path, [*records, *frozen("bench-core/dfa", [0.2, 0.21])])
    runs = [item for item in scan([folder]).runs if not item.record.cell.method.params["freeze"]]
    for item in runs:
        marks.write(folder, marks.read(folder, item.record).signed("checked", "2026"))
    assert "walked back" in text_of(gather([folder])[0], "table")
    with other_user():
        their = maker()
        for item in runs:
            remeasured.write(item.folder, late_of(item, "scale_growth", measured()["scale_growth"]))
    suites, troubles = gather([folder])
    assert troubles == []
    beside = f"measured after the run by user {their}, as they say; the run itself: 694"
    for form in FORMATS:
        assert beside in text_of(suites, form), form
    assert "checked" not in leaderboards(suites, "csv")
    # of this user: without a maker, and the check stands
    for item in runs:
        remeasured.write(item.folder, late_of(item, "scale_growth", measured()["scale_growth"]))
    suites, _ = gather([folder])
    assert "scale_growth 1.1 measured after the run; the run itself: 694" in text_of(suites, "csv")
    assert "2 checked" in leaderboards(suites, "csv")
    for item in runs:  # the run's own value again says nothing
        remeasured.write(item.folder, late_of(item, "scale_growth", sick["scale_growth"]))
    assert "measured after the run" not in text_of(gather([folder])[0], "csv")


def test_a_measurement_that_every_row_got_later_is_said_once(tmp_path: Path) -> None:
    records = [*seeds("bench-core/dfa", [0.4, 0.41]), *frozen("bench-core/dfa", [0.2, 0.21])]
    folder = write(tmp_path, records)
    for item in scan([folder]).runs:
        remeasured.write(item.folder, late_of(item, "nudging", Measurement(value=0.1)))
    said = "every row: nudging measured after the run (2 of 2 runs)"
    text = text_of(gather([folder])[0], "table")
    assert text.count("measured after the run") == text.count(said) == 1


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_late_measurement_counts_and_is_named_in_its_own_folder(
    tmp_path: Path, other_user: Callable[[], Any], first: str
) -> None:
    """A copy of a run with another measurement changes no verdict and no word of the original."""
    records = [*seeds("bench-core/dfa", [0.4, 0.41]), *frozen("bench-core/dfa", [0.2, 0.21])]
    ours = write(tmp_path / "ours", records, suite="s")
    for item in scan([ours]).runs:
        remeasured.write(item.folder, late_of(item, "scale_growth", measured()["scale_growth"]))
        marks.write(ours, marks.read(ours, item.record).signed("checked", "2026"))
    shutil.copytree(tmp_path / "ours", tmp_path / "theirs")
    with other_user():
        for item in scan([tmp_path / "theirs"]).runs:
            odd = measured(a=694.0)["scale_growth"]
            remeasured.write(item.folder, late_of(item, "scale_growth", odd))
    roots = [tmp_path / "ours", tmp_path / "theirs"]
    suites, _ = gather(roots if first == "ours" else roots[::-1])
    for suite in suites:
        text, foreign = text_of([suite], "table"), suite.folder.parent.name == "theirs"
        assert ("scale_growth 694 measured after the run by" in text) == foreign
        assert ("4 checked" in text) != foreign
        assert ("lets the hidden states explode" in text) == foreign
    text = text_of(together(suites)[0], "table")
    assert "694" not in text
    assert "4 checked" in text


def test_thresholds_unlike_the_protocols_stand_beside_the_verdicts(tmp_path: Path) -> None:
    records = [*seeds("bench-core/dfa", [0.4, 0.41]), *frozen("bench-core/dfa", [0.5, 0.52])]
    folder = write(tmp_path, records, thresholds={"depth_utility": -100})
    suites, _ = gather([folder])
    for form in FORMATS:
        assert "d is judged at -100, not at 2" in text_of(suites, form), form
    assert "is judged at" not in leaderboard(records)
    given, _ = gather([write(tmp_path / "g", records, depth_utility={"floor_value": 0.0})])
    assert "d is judged against a given accuracy of 0" in text_of(given, "csv")
    a = Measurement(value=60.0, letter="a", direction="above", threshold=99.0)
    stored = run(measurements={**measured(), "scale_growth": a})
    assert "a is judged at 99, not at 50" in leaderboard([stored])


def test_the_protocols_thresholds_are_those_of_the_diagnostics() -> None:
    classes = {
        "scale_growth": scale_growth.ScaleGrowth,
        "reference_floor": reference_floor.ReferenceFloor,
        "batch_stability": batch_stability.BatchStability,
        "depth_utility": depth_utility.DepthUtility,
    }
    assert {name: each.threshold for name, each in classes.items()} == THRESHOLDS
    assert {each.letter: name for name, each in classes.items()} == LETTERS
    stated = D_DEFAULT.model_dump(exclude={"value", "details", "not_diagnostic"})
    own = depth_utility.DepthUtility
    assert stated == {name: getattr(own, name) for name in stated}


# ------------------------------------------------------------------------------------- conflicts


def two_people(tmp_path: Path, **second: Any) -> tuple[Path, Path]:
    """Results of two people in which dfa's seed 42 has one identity and two numbers."""
    folders = []
    for name, accuracy, fields in (("a", 0.40, {}), ("b", 0.61, second)):
        records = [
            *seeds("bench-core/bp", [0.60, 0.61, 0.62]),
            *seeds("bench-core/dfa", [accuracy, 0.41, 0.42]),
            *frozen("bench-core/dfa", [0.20, 0.21, 0.22]),
        ]
        folder = write(tmp_path / name, records, suite="s")
        for item in scan([folder]).runs:
            cell = item.record.cell
            if cell.method.short == "dfa" and cell.seed == 42 and item.record.accuracy > 0.3:
                final = folder / ("5" * 32)
                item.folder.rename(final)
                record = store.sealed(
                    item.record.model_copy(update={"identity": "5" * 32, **fields})
                )
                (final / store.RUN).write_text(record.to_json())
        folders.append(folder)
    return folders[0], folders[1]


def test_a_record_without_a_checksum_can_contradict_too(tmp_path: Path) -> None:
    """Records of schema 1 may lack one; without a checksum there was neither conflict nor mark."""
    a, b = two_people(tmp_path)
    path = b / ("5" * 32) / store.RUN
    raw = json.loads(path.read_text())
    later = ("algorithm", "numerics", "evaluate_every", "diagnose_every", "checksum")
    path.write_text(json.dumps({k: v for k, v in raw.items() if k not in later} | {"schema": 1}))
    for suite in gather([a, b])[0]:
        assert "two results of one identity: accuracy 0.4 and 0.61" in text_of([suite], "table")
    marks.write(b, marks.read(b, store.read(path.parent)).signed("checked", "2026"))
    assert marks.read(b, store.read(path.parent)).state == "checked"
    path.write_text(path.read_text().replace("0.61", "0.99"))
    assert marks.read(b, store.read(path.parent)).state == "posted"


@pytest.mark.parametrize(
    "second",
    [{}, {"finished": "2099-01-01T00:00:00+00:00"}, {"environment": {"torch": "2.99"}}],
)
def test_two_numbers_of_one_identity_are_a_conflict_everywhere(
    tmp_path: Path, second: dict[str, Any]
) -> None:
    a, b = two_people(tmp_path, **second)
    alone = json.loads(leaderboards(gather([a])[0], "json"))["suites"][0]["groups"][0]["rows"]
    assert {row["label"]: row["rank_low"] for row in alone}["dfa"] is not None
    suites, _ = gather([a, b])
    assert len(suites) == 2
    exact = "environment" not in second
    numbers = "0.4 and 0.61" if exact else "0.4000 and 0.6100"
    said = f"two results of one identity: accuracy {numbers}"
    for suite in suites:
        (row,) = (
            row
            for row in json.loads(leaderboards([suite], "json"))["suites"][0]["groups"][0]["rows"]
            if row["label"] == "dfa"
        )
        assert row["rank_low"] is None
        assert row["verdict"] == "undetermined, conflict 1/3"
        for form in ("table", "markdown", "latex", "json"):
            assert said in text_of([suite], form), form
    if second:
        return  # pages take a while
    (html,) = (text for name, text in pages(suites, {}).items() if name.startswith("suite-"))
    assert said in html
    assert "undetermined, conflict 1/3" in html


def test_a_conflict_survives_a_merge_and_this_users_replication_ends_it(tmp_path: Path) -> None:
    """A replicate from another environment is kept beside; its number still stands in the table."""
    put(tmp_path / "a", true(seed=1, accuracy=0.4))
    theirs = put(tmp_path / "b", true(seed=1, accuracy=0.6, environment=THERE))
    assert merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "into").conflicts == []
    for roots in ([tmp_path / "into"], [tmp_path / "a", tmp_path / "b"]):
        suites, _ = gather(roots)
        for suite in suites:
            assert "accuracy 0.4000 and 0.6000" in text_of([suite], "table")
    record = store.read(theirs)
    mark = marks.read(theirs.parent, record).replicated(compare(record, record))
    marks.write(theirs.parent, mark)
    suites, _ = gather([tmp_path / "a", tmp_path / "b"])
    said = ["conflict" in text_of([suite], "table") for suite in suites]
    assert said == [True, False]


@pytest.mark.parametrize(
    ("other", "environment", "settled"),
    [(0.405, THERE, False), (0.405, None, True), (0.6, THERE, True)],
)
def test_a_replica_that_agrees_with_both_results_ends_no_conflict(
    tmp_path: Path, other: float, environment: dict[str, Any] | None, settled: bool
) -> None:
    """Between environments 2 points are allowed: a replica cannot choose between .4 and .405."""
    put(tmp_path / "a", true(seed=1, accuracy=0.4))
    theirs = put(tmp_path / "b", true(seed=1, accuracy=other))
    record = store.read(theirs)
    again = record.model_copy(update={"environment": environment or record.environment})
    if environment:  # other weights too
        again = again.model_copy(update={"files": {}, "accuracy": other + 0.001})
    replica = compare(record, again)
    assert (replica.agrees, replica.how) == (True, "figures" if environment else "bits")
    marks.write(theirs.parent, marks.read(theirs.parent, record).replicated(replica))
    suites, _ = gather([tmp_path / "a", tmp_path / "b"])
    said = ["conflict" in text_of([suite], "table") for suite in suites]
    assert said == [True, not settled]


def test_a_replica_chooses_between_results_of_one_accuracy_by_what_fires(tmp_path: Path) -> None:
    record = true(seed=1, accuracy=0.4)
    fires = {**record.measurements, "far": Measurement(value=9.0, threshold=1.0, direction="above")}
    put(tmp_path / "a", true(seed=1, accuracy=0.4, measurements=fires))
    theirs = put(tmp_path / "b", record)
    own = {**fires, "far": fires["far"].model_copy(update={"value": 0.5})}
    put(tmp_path / "b", true(seed=1, accuracy=0.4, measurements=own))
    record = store.read(theirs)
    again = record.model_copy(update={"environment": THERE, "files": {}, "accuracy": 0.401})
    replica = compare(record, again)
    assert (replica.agrees, replica.how) == (True, "figures")
    marks.write(theirs.parent, marks.read(theirs.parent, record).replicated(replica))
    suites, _ = gather([tmp_path / "a", tmp_path / "b"])
    assert ["conflict" in text_of([suite], "table") for suite in suites] == [True, False]


def test_a_run_that_this_user_disputes_does_not_count(tmp_path: Path) -> None:
    """Neither alone, nor before a run of the cell by other code that nothing is known of."""
    records = seeds("bench-core/dfa", [0.9, 0.4, 0.4])
    folder = write(tmp_path / "results", records)
    record = next(run.record for run in scan([folder]).runs if run.record.accuracy == 0.9)
    mark = marks.read(folder, record)
    again = compare(record, record.model_copy(update={"accuracy": 0.4}))
    marks.write(folder, mark.replicated(again))
    suites, _ = gather([folder])
    (row,) = json.loads(leaderboards(suites, "json"))["suites"][0]["groups"][0]["rows"]
    assert (row["rank_low"], row["accuracy"]["mean"]) == (None, pytest.approx(0.4))
    assert row["verdict"] == "undetermined (d not measured), conflict 1/3"
    for form in ("table", "markdown", "latex", "json"):
        assert "your replica does not agree: accuracy 0.4" in text_of(suites, form), form
    other = write(tmp_path / "other", seeds("bench-core/dfa", [0.41], code=code()))
    (suite,), _ = together(gather([folder, other])[0])
    (group,) = judge_all(suite.records, suite.settings)
    assert {run.record.accuracy for run in group.rows[0].runs} == {0.41, 0.4}
    # a copy without the mark is the same run
    shutil.rmtree(shutil.copytree(folder, tmp_path / "copy" / folder.name) / marks.FOLDER)
    (suite,), _ = together(gather([tmp_path / "copy", folder])[0])
    (group,) = judge_all(suite.records, suite.settings)
    assert [run.record.status for run in group.rows[0].runs].count("conflict") == 1


def test_results_that_differ_by_rounding_are_no_conflict(tmp_path: Path) -> None:
    put(tmp_path / "a", true(seed=1, accuracy=0.4))
    put(tmp_path / "b", true(seed=1, accuracy=0.41, environment=THERE))
    suites, _ = gather([tmp_path / "a", tmp_path / "b"])
    assert all("conflict" not in text_of([suite], "table") for suite in suites)


# --------------------------------------------------------------------------------------- ceiling


def test_a_row_above_its_ceiling_is_flagged_in_every_format(tmp_path: Path) -> None:
    """A rule that trains on the test set lies above bp; one within the interval does not."""
    records = [
        *seeds("bench-core/bp", [0.88, 0.883, 0.886]),
        *frozen("bench-core/bp", [0.5, 0.5, 0.51]),
        *seeds("bench-core/dfa", [0.966, 0.967, 0.968]),
        *seeds("bench-core/fa", [0.80, 0.885, 0.98]),
        *frozen("bench-core/dfa", [0.5, 0.5, 0.51]),
    ]
    suites, _ = gather([write(tmp_path, records)])
    for form in FORMATS:
        text = text_of(suites, form)
        above = (
            "pp above its ceiling" if form in ("csv", "json") else "lies above its ceiling bp by"
        )
        assert above in text, form
        assert text.count(above) == 1, form
    assert "dfa lies above its ceiling bp by +8.4" in text_of(suites, "table")
    single = [run("bench-core/bp", accuracy=0.5), run("bench-core/dfa", accuracy=0.53)]
    assert "+3.0 pp (one seed is too few for an interval)" in leaderboard(single)
    single[1] = run("bench-core/dfa", accuracy=0.515)
    assert "above its ceiling" not in leaderboard(single)


def test_local_heads_are_held_against_backpropagation_with_local_heads(tmp_path: Path) -> None:
    """Above bp is no surprise below bp_local_heads, which has no ceiling itself."""
    heads = {"passport": {**PASSPORT, "local_heads": True}, "chance": 0.1}
    records = [
        *seeds("bench-core/bp", [0.60, 0.61, 0.62], chance=0.1),
        *seeds("bench-core/bp_local_heads", [0.70, 0.71, 0.72], **heads),
        *seeds("bench-core/mono_forward", [0.65, 0.66, 0.67], **heads),
        *seeds("bench-core/dfa", [0.66, 0.67, 0.68], chance=0.1),
    ]
    text = text_of(gather([write(tmp_path, records)])[0], "table")
    assert text.count("lies above its ceiling") == 1
    assert "dfa lies above its ceiling bp by" in text
    assert "with local heads: mono_forward -5.0 ± 1.0 pp" in text
    records[3:6] = seeds("bench-core/bp_local_heads", [0.50, 0.51, 0.52], **heads)
    assert "mono_forward lies above its ceiling bp by +5.0" in leaderboard(records)


def test_the_page_of_a_rule_one_run_and_the_export_say_it_too(here: Here, tmp_path: Path) -> None:
    records = [
        *seeds("bench-core/bp", [0.88, 0.883, 0.886]),
        *seeds("bench-core/dfa", [0.966, 0.967, 0.968]),
    ]
    folder = write(tmp_path / "results", records)
    suites, _ = gather([folder])
    site = pages(suites, {})
    assert "pp above its ceiling" in site["method-dfa.html"]
    assert "pp above its ceiling" not in site["method-bp.html"]
    item = next(run for run in scan([folder]).runs if run.record.cell.method.short == "dfa")
    shown = here("show", item.folder).stdout
    assert "beside      +8.4" in shown
    assert "trust       posted" in shown
    assert here("export", folder).stdout.count("pp above its ceiling") == 3
