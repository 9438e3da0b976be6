"""Submissions: what others need to judge own runs, and nothing of the machine they ran on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import folders
import pytest
import yaml
from conftest import Finished, Here
from hostile import reseal
from records import measured
from records import run as recorded

from bench_core.analysis.gather import gather
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.errors import UsageError
from bench_core.execution.planning.fingerprint import cell_identity
from bench_core.results import epochs, reference, store, suite_folder
from bench_core.results.hashing import file_text, jsonable
from bench_core.results.record import ComponentRef, Measurement, RunRecord
from bench_core.results.scan import Stored, scan
from bench_core.sharing.submission import (
    LIST,
    NEEDS,
    Submission,
    _about,
    _requirements,
    against_their_lists,
    places,
    submit,
    without_paths,
    write_compact,
)
from bench_core.sharing.suite_differences import judged_otherwise, unlike
from bench_core.suite.load import load_suite

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "board"


@pytest.fixture
def good(here: Here, finished: Finished) -> Path:
    (here.cwd / "results").symlink_to(finished.results)
    done = here("submit", "tiny", "-o", "submissions/me")
    (here.cwd / "results").unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "submissions/me: 4 runs; needs bench-core alone\n"
    return here.cwd / "submissions" / "me"


def test_a_submission_has_runs_rules_and_environments_and_no_more(
    good: Path, finished: Finished
) -> None:
    about = json.loads((good / "submission.json").read_text())
    assert about["suites"] == ["tiny"]
    assert about["rules"]["bench-core/dfa"]["numerics"] == 1
    assert about["rules"]["bench-core/dfa"]["passport"]["weight_transport"] is False
    assert about["environments"][0]["torch"]
    assert (good / "requirements.txt").read_text() == ""
    own = json.loads((good / "tiny" / "suite.json").read_text())
    at_home = json.loads((finished.folder / "suite.json").read_text()).keys() - own.keys()
    assert at_home == {"decisions", "used"}  # they name cells that are not submitted
    names = {path.name for path in (good / "tiny").glob("*/*")}
    assert names == {"run.json", "epochs.jsonl.gz"}
    for run in scan([good]).runs:
        own = store.read(finished.folder / run.record.identity)
        assert run.record.accuracy == pytest.approx(own.accuracy, rel=1e-6)
        assert len(epochs.read(run.folder)) == 2


def test_the_requirements_name_the_distribution_of_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    known = {"pytest/clock": {}, "pytest/absent": {}, "bench-core/alignment": {}}
    suite_folder.write(tmp_path / "s", {"name": "s", "diagnostics": known})
    record = recorded(measurements=measured() | {"clock": Measurement(value=1.0)})
    assert _requirements([record], [tmp_path / "s"]) == [f"pytest=={version('pytest')}"]
    assert _requirements([recorded(measurements=measured())], [tmp_path / "s"]) == []
    # a package that trained a run has the version of then, whatever is installed
    trained = record.model_copy(update={"code": {"pytest": {"version": "1.0"}}})
    assert _requirements([trained], [tmp_path / "s"]) == ["pytest==1.0"]


def test_texts_lose_paths_and_the_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    listed = {"path": "/home/bob/a:/opt/b/c file:///home/bob/x"}
    assert without_paths(listed) == {"path": "<path>:<path> <path>"}
    assert without_paths(["ada", "bench-core/ada", "ada@b.c"]) == [
        "ada", "bench-core/ada", "<user>@b.c"
    ]  # fmt: skip
    said = {"reason": "ada: no /home/ada/x.py; see https://a.b/c/d, 3 FLOPs / bp", "cell": "/a/b"}
    assert without_paths(said) == {
        "reason": "<user>: no <path>; see https://a.b/c/d, 3 FLOPs / bp", "cell": "/a/b"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("~/secret/x", "<path>"),
        ("no ~bob/secret/x.", "no <path>"),
        ("../../secret/plan.txt", "<path>"),
        ("/scratch: No space left (/tmp)", "<path>: No space left (<path>)"),
        ("file:///scratch", "<path>"),
        ("--data=/home//bob/a,b=1%/c; done", "--data=<path>; done"),
        ('File "/home/x y/z.py", line 3', 'File "<path>", line 3'),
        ("No such file: '/home/bob/my project/x'", "No such file: '<path>'"),
        (r"b'/data disk/o\'b x/y' `~/a b` and '../a b'", "b'<path>' `<path>` and '<path>'"),
        ("cut off '/home/bob/my pro", "cut off '<path>"),
        # what a space in a name means cannot be told outside quotes, as docs/publish.md says
        ("open(/home/bob/my project/x.py)", "open(<path> project/x.py)"),
        ("/mnt/c/Users/Bob Smith/x", "<path> Smith/x"),
    ],
)
def test_every_kind_of_path_is_taken_out(text: str, left: str) -> None:
    assert without_paths(text) == left


@pytest.mark.parametrize(
    "text",
    ["1/2 or ~1/2 of a/b", "3 samples/s, 3 /s", "and/or a / b", "https://a.b/c/d?e=/f s3://a/b/c",
     "https://a.b/~bob/x", "'/' or '~' or '..'", ".../x …/x", "(a)/b 'a'/'b'", "a/../b ./x",
     "arXiv:2606.21126 doi:10.1162/0899", "node_perturbation[samples=16]/bp"],
)  # fmt: skip
def test_other_texts_with_slashes_stay(text: str) -> None:
    assert without_paths(text) == text


@pytest.mark.parametrize("home", [True, False])
def test_spaces_of_the_home_and_the_working_folder_end_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool
) -> None:
    own = tmp_path / "my own project"
    own.mkdir()
    if home:
        monkeypatch.setenv("HOME", str(own))
    else:
        monkeypatch.chdir(own)
    assert without_paths(f"{own}/data/x.npy: is missing") == "<path>: is missing"


def test_a_run_with_a_place_of_this_machine_as_an_option_is_left_out(
    finished: Finished, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(finished.results, tmp_path / "results"))
    folder = next(results.glob("tiny/*/run.json")).parent
    raw = store.raw(folder)
    cell = raw["cell"]
    cell["dataset"]["params"]["source"] = "/home/ada/images"
    digests = {name: entry["digest"] for name, entry in raw["code"].items()}
    identity = cell_identity(cell, digests, raw["data_checksum"])
    folder = folder.rename(folder.with_name(identity))
    forge(folder / "run.json", cell=cell, identity=identity)
    made = submit(results, tmp_path / "out")
    kept = {run.record.identity for run in scan([tmp_path / "out"]).runs}
    assert len(kept) == 3
    assert identity not in kept
    said = "dataset.source=/home/ada/images names a place or the user of this machine"
    lacks = "tiny: 3 of the 4 runs of its suite have ended and are here; the same `bench run` "
    assert made.troubles == [f"{folder}: left out: {said}", f"{lacks}trains the others"]
    for other in results.glob("tiny/*/run.json"):
        if other.parent != folder:
            shutil.rmtree(other.parent)
    with pytest.raises(UsageError) as raised:
        submit(results, tmp_path / "none")
    assert str(raised.value) == f"{results}: has no run to submit; {folder}: left out: {said}"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "value",
    ["/data", "~/x", "~bob/x", "./x", "../x/y", "file:///x", ["a", "/data/x"], [{"a": "~/x"}],
     "made by ada"],
)  # fmt: skip
def test_an_option_that_is_a_path_is_a_place(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    (said,) = places({"dataset": {"name": "a/b", "params": {"source": value, "n": 1}}})
    assert said.startswith("dataset.source=")


@pytest.mark.parametrize(
    "value",
    ["train/test", "bench-mine/ada", "/", "1/2", "m/s", "~", ".5", "...", "https://a.b/c/d",
     "s3://a/b/c", ["a/b"], None, 0.5],
)  # fmt: skip
def test_another_option_with_a_slash_is_none(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert places({"dataset": {"name": "a/b", "params": {"source": value}}}) == []


def test_a_submission_unlike_the_installed_suite_is_named(
    good: Path, here: Here, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = reference.installed()
    assert known is not None
    runs = [run.record for run in scan([known.folder / "audit6"]).runs]
    assert unlike(runs) == []
    one = next(run for run in runs if run.cell.method.short == "dfa" and run.cell.seed == 42)
    training = {**one.cell.training, "epochs": 1}
    short = one.model_copy(update={"cell": one.cell.model_copy(update={"training": training})})
    told = "differs from audit6: training.epochs 1, not 100; no run of seed 123, 456: dfa"
    assert unlike([short]) == [told]
    less = {name: item for name, item in one.measurements.items() if name != "alignment"}
    others = [run for run in runs if run.cell != one.cell]
    assert unlike([one.model_copy(update={"measurements": less}), *others]) == [
        "differs from audit6: not measured: alignment"
    ]
    made = [run.record for run in scan([good]).runs]
    assert unlike(made) == []  # tiny is not installed
    monkeypatch.setattr("bench_core.sharing.submission.unlike", lambda records: [told])
    assert here("submit", finished.results, "-o", "other").stderr == f"warning: {told}\n"


def test_a_part_of_a_suite_is_said_to_be_one(here: Here, good: Path, finished: Finished) -> None:
    """By submit, and by verify of what it made; the suite is the author's own."""
    shutil.copytree(finished.results, here.cwd / "part")
    for path in sorted((here.cwd / "part").glob("*/*/run.json"))[1:]:
        shutil.rmtree(path.parent)
    told = "1 of the 4 runs of its suite have ended and are here; the same `bench run` trains"
    for command in (["submit", "part", "-o", "less"], ["verify", "less"]):
        done = here(*command)
        assert done.returncode == 0
        assert told in done.stderr
    assert "have ended" not in here("verify", good).stderr


def test_rows_of_epochs_lose_paths_too(finished: Finished, tmp_path: Path) -> None:
    (run, *_), own = scan([finished.results]).runs, tmp_path / "own"
    shutil.copytree(run.folder, own)
    rows = [json.loads(line) for line in (own / store.EPOCHS).read_text().splitlines()]
    rows[-1]["measurements"]["drift"] = {"details": {"error": "no file /home/ada/x.npy"}}
    (own / store.EPOCHS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "tiny").mkdir()
    final = tmp_path / "tiny" / run.record.identity
    write_compact(type(run)(run.record, own), final, {}, None, without_paths)
    assert epochs.read(final)[-1].measurements["drift"].raised == "no file <path>"


def test_rules_from_files_and_folders_without_own_runs_are_refused(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no run of yours"):
        submit(good, tmp_path / "again")  # compact runs are another's
    with pytest.raises(UsageError, match="exists already"):
        submit(good, good)
    run = scan([good]).runs[0]
    record = run.record.model_copy(update={"original": {}, "code": {"my.py": {}}})
    found = scan([good])
    found.runs[:] = [type(run)(record, run.folder)]
    monkeypatch.setattr("bench_core.sharing.submission.scan", lambda roots: found)
    name = record.cell.method.name
    with pytest.raises(UsageError, match=f"makes its package, .* --method {name} --yes. removes"):
        submit(good, tmp_path / "again")


def test_requirements_that_lack_a_package_of_the_runs_are_a_fault(tmp_path: Path) -> None:
    """The judge would train another version of the rule than the submitter."""
    record = recorded("lab/mine").model_copy(
        update={"code": {"lab": {"version": "0.1.0", "digest": "x"}}, "suite": "s"}
    )
    root = tmp_path / "me"
    run = Stored(record, root / "s" / "x")
    (root / "s").mkdir(parents=True)
    (root / "s" / "suite.json").write_text("{}")  # no installed suite has its name
    (root / LIST).write_text(file_text(_about(Submission([record]))))
    lacking = ("lab==9.9\n", "", "# lab==0.1.0\nlab==9.9\n", "other  # lab==0.1.0\n")
    given = ("lab==0.1.0\n", "lab == 0.1.0  # the rule\n", "lab-tools==2\nlab==0.1.0\n")
    for lines, fault in [(each, False) for each in given] + [(each, True) for each in lacking]:
        (root / NEEDS).write_text(lines)
        said = list(against_their_lists([root], [run]))
        line = f"{root / NEEDS}: lacks lab==0.1.0, with which its runs were trained"
        other = f"{root / NEEDS}: names another version of a package of its runs: lab==9.9"
        assert said == [line] * fault + [other] * ("\nlab==9.9" in f"\n{lines}")
        assert list(against_their_lists([tmp_path], [run])) == said  # the folder of submissions
        assert list(against_their_lists([root / "s"], [run])) == []  # a part of one
    for line in ("lab@git+https://a.b/x", "LAB==9.9", "lab[fast]==9.9", "lab>0"):
        (root / NEEDS).write_text(f"lab==0.1.0\n{line}\n")
        (told,) = against_their_lists([root], [run])
        assert told.endswith(f"names another version of a package of its runs: {line}")
    (root / NEEDS).write_text("lab==0.1.0\n")
    other = tmp_path / "gutted"
    shutil.copytree(root, other)
    (told,) = against_their_lists([tmp_path], [run])
    assert told.startswith(f"{other / LIST}: lists runs that are not here")
    shutil.rmtree(other)
    about = _about(Submission([record]))
    for changed, said in (
        ({"suites": ["elsewhere"]}, "states other suites than its runs have"),
        ({"environments": [{"cpu": "forged"}]}, "states other environments than its runs have"),
        ({"runs": 2 * about["runs"]}, f"lists runs that are not here: {record.identity[:12]}"),
    ):
        (root / LIST).write_text(file_text(about | changed))
        assert list(against_their_lists([root], [run])) == [f"{root / LIST}: {said}"]
    (root / LIST).write_text("[]")
    assert f"{root / LIST}: is not of schema 1" in against_their_lists([root], [run])
    (root / LIST).unlink()
    assert list(against_their_lists([root], [run])) == []  # no submission


def judge(here: Here, folder: Path) -> list[tuple[str, int, str]]:
    """Run the commands of the example's judge.sh, up to the first that fails."""
    said = []
    for line in (EXAMPLE / "judge.sh").read_text().splitlines():
        if line.startswith("bench "):
            line = re.sub(r'"\$\{SAMPLE:-10%\}"', "1", line).replace('"$1"', str(folder))
            done = here(*line.split()[1:])
            said.append((line.split()[1], done.returncode, done.stdout + done.stderr))
            if done.returncode:
                break
    return said


ODD = {
    "good": ({"submissions/me/requirements.txt": "bench-mine==1.0\n"}, 0),
    "no requirements": ({"submissions/me/requirements.txt": ""}, 0),
    "two folders": ({"submissions/me/requirements.txt": "", "judge.sh": "exit 0"}, 1),
    "an option": ({"submissions/me/requirements.txt": "a==1\n--index-url=http://x\n"}, 1),
    "an option like a name": ({"submissions/me/requirements.txt": "--index-url==x.org\n"}, 1),
    "an address": ({"submissions/me/requirements.txt": "a @ http://x/a.whl"}, 1),
    "a NUL byte": ({"submissions/me/requirements.txt": "a==1\n\0 --pre\n"}, 1),
    "a command": ({"submissions/$(id)/requirements.txt": ""}, 1),
    "a name beyond ASCII": ({"submissions/é/requirements.txt": ""}, 1),
    "variables": ({"A=1/a": "", "BASH_ENV=submissions/x.sh": "", "submissions/e=1/run": ""}, 1),
    "none": ({"submissions/me/run.json": ""}, 1),
    "another's folder moved": ({}, 1),
    "another's folder deleted": ({"submissions/me/requirements.txt": ""}, 1),
    "another's folder changed": ({}, 1),
    "another's folder deleted alone": ({}, 1),
    "a file in another's folder": ({"submissions/alice/run.json": ""}, 1),
    "a page moved": ({"submissions/me/requirements.txt": ""}, 1),
}
MOVES = {  # a rename is a change of two places
    "another's folder deleted": "git rm -rq submissions/alice",
    "another's folder changed": "echo bob==1 > submissions/alice/requirements.txt",
    "another's folder deleted alone": "git rm -rq submissions/alice",
    "another's folder moved": "git mv submissions/alice submissions/me",
    "a page moved": "git mv README.md submissions/me/",
}


@pytest.mark.long
def test_the_workflow_takes_one_plain_folder_with_plain_requirements(tmp_path: Path) -> None:
    steps = yaml.safe_load((EXAMPLE / ".github/workflows/judge.yml").read_text())
    script = next(step["run"] for step in steps["jobs"]["judge"]["steps"] if "run" in step)
    page, alice = "a page of some lines\n" * 9, "submissions/alice/requirements.txt"
    base = (
        f"git init -qb main . && mkdir -p submissions/alice && echo '{page}' > README.md "
        f"&& echo alice==1 > {alice} && git add README.md {alice} && git commit -qm base"
    )
    about = {
        f"GIT_{who}_{key}": "a@b" for who in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")
    }
    for number, (name, (contents, code)) in enumerate(ODD.items()):
        (home := tmp_path / str(number)).mkdir()
        for place, content in contents.items():
            (home / place).parent.mkdir(parents=True, exist_ok=True)
            (home / place).write_text(content)
        change = MOVES.get(name, "true")
        head = f"{base} && git update-ref refs/remotes/origin/main HEAD && {change} && git add -A"
        text = f"({head})\n{script}"
        variables = {**os.environ, **about, "GITHUB_BASE_REF": "main", "GITHUB_ENV": "env"}
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", text], cwd=home, env=variables)
        assert done.returncode == code, name
        assert (home / "env").exists() == (code == 0), name


def test_nothing_that_a_submission_prints_leaves_the_code_block_of_the_comment(
    tmp_path: Path,
) -> None:
    steps = yaml.safe_load((EXAMPLE / ".github/workflows/judge.yml").read_text())
    script = next(
        step["run"] for step in steps["jobs"]["judge"]["steps"] if step.get("name") == "The verdict"
    )
    line = next(each for each in script.splitlines() if "> comment.md" in each)
    said = [b"x" * 60_000 + b"# accepted", b"y\r# accepted", b"# accepted\n" * 25_000 + b"z"]
    for text in said:
        (tmp_path / "said.txt").write_bytes(text)
        subprocess.run(["bash", "-eo", "pipefail", "-c", line], cwd=tmp_path, check=True)
        comment = (tmp_path / "comment.md").read_bytes()
        assert 0 < len(comment) < 22_000
        assert b"\r" not in comment
        assert all(each.startswith(b"    ") for each in comment.splitlines())


def forge(path: Path, **fields: Any) -> None:
    """Change a run.json as a forger does: with a checksum that fits."""
    reseal(path.parent, {**store.raw(path.parent), **fields})


def test_a_good_submission_is_verified_and_replicated(here: Here, good: Path) -> None:
    said = judge(here, good)
    assert [code for _, code, _ in said] == [0, 0, 0, 0], said
    assert "4 of 4 agree (4 bit by bit)" in said[1][2]  # by the weights of the original
    assert "replicated" in (here.cwd / "verdict.md").read_text()
    assert (here.cwd / "site" / "suite-tiny.html").exists()


@pytest.mark.long
def test_broken_and_forged_submissions_are_refused(here: Here, good: Path, tmp_path: Path) -> None:
    def spoiled(name: str) -> Path:
        folder = Path(shutil.copytree(good, tmp_path / name))
        return next(folder.glob("tiny/*/run.json"))

    path = spoiled("broken")
    path.write_text(path.read_text()[:-50])
    (name, code, text), *more = judge(here, path.parents[2])
    assert (name, code, more) == ("verify", 1, [])
    assert "is no JSON" in text

    path = spoiled("forged")  # another accuracy, with a checksum that fits
    forge(path, accuracy=0.99)
    (name, code, text), *more = judge(here, path.parents[2])
    assert (name, code, more) == ("verify", 1, [])
    assert "accuracy is 0.99 in run.json" in text

    path = spoiled("nicer")  # another Γ, which verify cannot know
    measured = store.raw(path.parent)["measurements"]
    measured["alignment"]["details"]["mean"] = 0.99
    forge(path, measurements=measured)
    (_, code, _), (_, disagrees, text) = judge(here, path.parents[2])
    assert (code, disagrees) == (0, 1)
    assert "3 of 4 agree (3 bit by bit)" in text
    assert "DISAGREES: measurements.alignment details mean" in text

    path = spoiled("unjudged")  # nothing says by which limits
    (path.parents[1] / "suite.json").unlink()
    (name, code, text), *more = judge(here, path.parents[2])
    assert (name, code, more) == ("verify", 1, [])
    assert "tiny/suite.json: is missing, so nothing says by which limits its runs are" in text

    path = spoiled("thinned")  # an unlucky seed taken out
    shutil.rmtree(path.parent)
    (name, code, text), *more = judge(here, path.parents[2])
    assert (name, code, more) == ("verify", 1, [])
    assert f"submission.json: lists runs that are not here: {path.parent.name[:12]}" in text

    path = spoiled("modest").parents[2] / "submission.json"  # a rule that says to use less
    path.write_text(
        path.read_text().replace('"weight_transport": true', '"weight_transport": false')
    )
    (name, code, text), *more = judge(here, path.parent)
    assert (name, code, more) == ("verify", 1, [])
    assert "states bench-core/bp otherwise than its runs" in text

    path = spoiled("linked")
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert judge(here, path.parents[2])[0][1] == 1


def test_a_submission_is_judged_by_the_limits_of_the_installed_suite(
    here: Here, good: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "named"))
    home = folder / "tiny"
    shutil.move(home, folder / "quickstart")
    path = folder / "quickstart" / "suite.json"
    stated = json.loads(path.read_text())
    judging = jsonable(load_suite("quickstart").judging())
    told = {
        "": {},
        "title Trustworthy, not Five rules": {"title": "Trustworthy"},
        'thresholds {"bench-core/scale_growth": 1000000000.0}, not {}': {
            "thresholds": {"bench-core/scale_growth": 1e9}
        },
        'depth_utility {"floor_value": 0.05}': {"depth_utility": {"floor_value": 0.05}},
    }
    for said, change in told.items():
        path.write_text(json.dumps({**stated, "name": "quickstart", **judging, **change}))
        lines = [line for line in against_their_lists([folder], []) if "unlike" in line]
        assert lines == []  # without a run there is nothing to judge
        lines = judged_otherwise(folder / "quickstart")
        assert len(lines) == bool(said)
        assert all(said in line for line in lines)
    path.write_text(json.dumps({**stated, "name": "quickstart", **judging, "title": "Other"}))
    for name in ("other", "Quickstart", "quickstart ", 7, None, ["quickstart"]):
        path.write_text(json.dumps({**stated, **judging, "name": name, "thresholds": {"a": 1e9}}))
        assert "is of another suite than its folder" in "".join(judged_otherwise(path.parent))
    del stated["title"]
    path.write_text(json.dumps({**stated, "name": "quickstart"}))
    assert "title null, not Five rules" in "".join(judged_otherwise(path.parent))
    path.write_text("{")
    assert "suite.json: it is no JSON" in "".join(judged_otherwise(path.parent))


def test_a_run_that_calls_itself_a_row_of_the_reference_is_none(here: Here, good: Path) -> None:
    path = next(good.glob("tiny/*/run.json"))
    about = store.raw(path.parent)["environment"]
    forge(path, environment={**about, "reference": "1"})
    done = here("leaderboard", good)
    assert "has no such row" in done.stderr
    assert "from reference" not in done.stdout


def test_a_submission_needs_one_version_and_leaves_out_what_newer_code_has_made_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule whose code a release left as it was keeps its run of the version before."""

    def made(name: str, day: int, number: str, **files: str) -> RunRecord:
        code = {"x-lab": {"version": number, "files": files}}
        record = recorded(name, code=code, finished=f"2026-11-{day:02}T00:00:00+00:00")
        cell = record.cell.model_copy(update={"dataset": ComponentRef(name="x-lab/rings")})
        return record.model_copy(update={"cell": cell})

    kept = made("x-lab/mine", 1, "1.0", data="a", mine="a")
    folder = folders.write(
        tmp_path / "r", [kept, made("x-lab/more", 2, "2.0", data="a", more="a")], None, "made"
    )
    monkeypatch.setattr("bench_core.sharing.submission.faults", lambda run: [])
    done = submit(folder, tmp_path / "one")
    assert (len(done.runs), done.requirements) == (2, ["x-lab==2.0"])
    assert done.troubles == []
    (told,) = against_their_lists([tmp_path / "one"], scan([tmp_path / "one"]).runs)
    assert "suite.json: is missing" in told  # as in the folder of the runs
    old = made("x-lab/old", 1, "1.0", data="before", old="a")
    mixed = made("x-lab/mine", 3, "2.0", data="a", mine="b")
    folders.write(tmp_path / "r", [old, mixed], None, "made")
    done = submit(folder, tmp_path / "two")
    assert {run.cell.method.short for run in done.runs} == {"x-lab/more", "x-lab/mine"}
    (left,) = done.troubles
    assert left.endswith("left out: its cell, rule, data set or network has newer code")
    third = made("x-lab/third", 4, "2.0", data="a", mine="c")
    folders.write(tmp_path / "r", [third], None, "made")
    _, changed = submit(folder, tmp_path / "three").troubles
    assert changed == "1 run has older code than others (mine); `bench run` trains them again"
    # the last plan took the older run, so the two others are older
    folders.write(
        tmp_path / "r", [made("x-lab/fourth", 5, "2.0", data="a", mine="c")], None, "made"
    )
    by_day = {run.record.finished[8:10]: run.folder.name for run in scan([folder]).runs}
    stated = json.loads((folder / "suite.json").read_text())
    stated["used"] = {by_day["03"]: "2026-11-09T00:00:00+00:00"}
    (folder / "suite.json").write_text(json.dumps(stated))
    changed = submit(folder, tmp_path / "four").troubles[-1]
    assert changed == "2 runs have older code than others (mine); `bench run` trains them again"
    (results,), _ = gather([folder])
    (group,) = judge_all(results.records, results.settings)
    assert group.older == {by_day[day]: ["mine"] for day in ("04", "05")}
