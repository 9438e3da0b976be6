"""Plan a suite: every fault is reported before a write, references are added, results reused."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import (
    Finished,
    Here,
    alive,
    fake_dist,
    leftovers,
    lines,
    plan_totals,
    plugin,
    wait_until,
)
from torch import nn

from bench_core.analysis.gather import gather
from bench_core.errors import SuiteError, UsageError
from bench_core.execution.planning import validate
from bench_core.execution.planning.cell_names import names_of, rule_name
from bench_core.execution.planning.fingerprint import ALGORITHM
from bench_core.execution.planning.job import Listed, digested, make_record, measured_by
from bench_core.execution.planning.plan import Plan, make_plan
from bench_core.execution.planning.remarks import _measured
from bench_core.execution.planning.reuse import StoredRuns
from bench_core.execution.runner import described, run_plan
from bench_core.execution.worker.cell import attempt, diagnostics, make
from bench_core.registry import plugins
from bench_core.results import locks, remeasured, store, suite_folder
from bench_core.results.record import ComponentRef, cell_key
from bench_core.results.status import Status
from bench_core.suite.load import load_suite
from bench_core.training.diagnostic import Diagnostic, Measured
from bench_core.training.params import read

pytestmark = pytest.mark.processes

NUMBERS = count()
UNREAD = SimpleNamespace(net=nn.Identity())  # an audit that no diagnostic reads
RESMLP = "{name: resmlp, width: 8, depth: 2}"
SUITE = f"""\
name: planned
arch: {RESMLP}
dataset: digits
methods: [dfa]
seeds: [1, 2]
training: {{epochs: 1}}
"""
ONE = SUITE.replace("[1, 2]", "[1]") + "floors: false\n"


@pytest.fixture
def planned(tmp_path: Path, asked_here: None) -> Callable[..., Plan]:
    """Plan a suite; plugins are imported and components validated in this process."""

    def plan(text: str = SUITE, *overrides: str, **options: Any) -> Plan:
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        registry = plugins.load(isolated=False)
        made = make_plan(load_suite(path, overrides), registry, tmp_path / "results", **options)
        assert not made.folder.exists() or any(made.folder.iterdir())  # a plan writes nothing
        return made

    return plan


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Install a method: `site(source of the class body)` gives its name in a suite."""

    def install(body: str, *, imports: str = "") -> str:
        stamp = next(NUMBERS)
        home = tmp_path / "site"
        hooks = plugin("bench_methods()", f'return [Component("rule", "plan_rule_{stamp}:Rule")]')
        fake_dist(home, f"x-{stamp}", f"plan_hooks_{stamp}", hooks)
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        imports += "\nfrom bench_plugins.methods.bp import Backprop\n"
        source = f"{imports}\nclass Rule(Backprop):\n{lines}\n"
        (home / f"plan_rule_{stamp}.py").write_text(source)
        monkeypatch.syspath_prepend(str(home))
        return f"x-{stamp}/rule"

    return install


def labels(plan: Plan) -> list[tuple[str, str | None, int]]:
    return [(c.cell.method.short, c.cell.method.params["freeze"], c.cell.seed) for c in plan.cells]


# -------------------------------------------------------------------------------------------- cells


def test_floors_and_the_ceiling_are_added_for_every_seed(planned) -> None:
    found = labels(planned())
    kinds = [("dfa", None), ("dfa", "blocks"), ("bp", "blocks"), ("bp", None)]
    assert sorted(map(str, found)) == sorted(
        str((*kind, seed)) for kind in kinds for seed in (1, 2)
    )
    assert found[:2] == [("dfa", None, 1), ("dfa", None, 2)]  # the suite's own cells come first
    assert labels(planned(SUITE + "floors: false\n")) == found[:2]


def test_bp_with_a_penalty_is_not_the_ceiling(planned) -> None:
    found = labels(planned(SUITE.replace("[dfa]", "[{name: bp, penalty: 0.1}]")))
    assert [kind[:2] for kind in found].count(("bp", None)) == 4  # with the penalty, and without


def test_a_rule_with_local_heads_has_a_second_ceiling_with_its_floor(planned) -> None:
    text = SUITE.replace("[dfa]", "[mono_forward]").replace("[1, 2]", "[1]")
    names = ("mono_forward", "bp_local_heads", "bp")
    kinds = {(name, freeze) for name in names for freeze in (None, "blocks")}
    found = labels(planned(text))
    assert len(found) == 6
    assert {kind[:2] for kind in found} == kinds


def test_references_that_are_there_are_not_added_again(planned) -> None:
    text = SUITE.replace(
        "[dfa]", "[bp, {name: bp, freeze: blocks}, dfa, {name: dfa, freeze: blocks}]"
    ).replace("[1, 2]", "[1]")
    assert len(planned(text).cells) == 4


def test_a_floor_carries_no_penalty(planned) -> None:
    text = SUITE.replace("[dfa]", "[{name: dfa, penalty: 0.5}]").replace("[1, 2]", "[1]")
    methods = [cell.cell.method for cell in planned(text).cells]
    penalties = {
        (method.short, method.params["freeze"]): method.params["penalty"] for method in methods
    }
    assert penalties == {
        ("dfa", None): 0.5,
        ("dfa", "blocks"): 0,
        ("bp", "blocks"): 0,
        ("bp", None): 0,
    }


def test_floors_of_other_scales_are_added_for_every_rule_and_seed(planned) -> None:
    found = [c.cell for c in planned(SUITE + "floor_scales: [10, 100.0, 1]\n").cells]
    scales = [
        (cell.method.short, cell.seed, cell.method.params.get("block_scale", 1.0))
        for cell in found
        if cell.method.params["freeze"] == "blocks"
    ]
    expected = [(n, seed, k) for n in ("dfa", "bp") for seed in (1, 2) for k in (1.0, 10.0, 100.0)]
    assert sorted(scales) == sorted(expected)
    plain = {c.identity for c in planned().cells}
    assert plain < {c.identity for c in planned(SUITE + "floor_scales: [10]\n").cells}
    assert plain == {c.identity for c in planned(SUITE + "floor_scales: []\n").cells}


@pytest.mark.parametrize(
    ("methods", "more"),
    [
        ("[{name: dfa, block_scale: 10.0}]", ""),
        ("[dfa]", "include: [{method: {name: dfa, freeze: blocks, block_scale: 10.0}}]\n"),
        ("[dfa]", "matrix: {method.block_scale: [1.0, 10.0]}\n"),
    ],
)
def test_a_floor_of_another_scale_that_the_suite_names_is_one_cell(planned, methods, more) -> None:
    text = SUITE.replace("[dfa]", methods) + "floor_scales: [10]\n" + more
    identities = [c.identity for c in planned(text).cells]
    assert len(identities) == len({*identities})


def test_a_suite_without_floor_scales_is_the_suite_that_it_was(planned) -> None:
    """So that the stored one of an earlier version still counts as the same."""
    assert "floor_scales" not in planned().suite.content()
    assert planned(SUITE + "floor_scales: [10]\n").suite.content()["floor_scales"] == [10.0]


def test_the_scale_as_drawn_may_be_one_of_the_floors_of_a_scaled_rule(planned) -> None:
    text = SUITE.replace("[dfa]", "[{name: dfa, block_scale: 10.0}]").replace("[1, 2]", "[1]")
    found = [c.cell.method for c in planned(text + "floor_scales: [1]\n").cells]
    own = [ref.params for ref in found if ref.short == "dfa" and ref.frozen]
    assert [params.get("block_scale") for params in own] == [10.0, None]


def test_a_block_scale_at_its_default_is_no_part_of_a_cell(planned) -> None:
    written = planned(SUITE.replace("[dfa]", "[{name: dfa, block_scale: 1.0}]"))
    assert {c.identity for c in written.cells} == {c.identity for c in planned().cells}
    assert all("block_scale" not in c.cell.method.params for c in written.cells)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("floor_scales: [0]", "must be above 0"),
        ("floor_scales: [1e7]", "must be"),
        ("floor_scales: [10, 10.0]", "twice"),
        ("floors: false\nfloor_scales: [10]", "`floors: false` leaves floors out"),
    ],
)
def test_wrong_scales_of_floors_are_refused(planned, line: str, fault: str) -> None:
    with pytest.raises(SuiteError, match="floor_scales") as caught:
        planned(SUITE + line + "\n")
    assert fault in str(caught.value)


def test_defaults_that_are_written_out_are_the_same_cell(planned) -> None:
    written = SUITE.replace("[dfa]", "[{penalty: 0, name: bench-core/dfa, freeze: null}]")
    one, other = planned(), planned(written)
    assert [c.identity for c in one.cells] == [c.identity for c in other.cells]
    assert len({c.identity for c in one.cells}) == len(one.cells)


@pytest.mark.long
def test_what_cannot_change_the_numbers_is_not_in_the_identity(planned) -> None:
    def identities(*overrides: str) -> list[str]:
        return [c.identity for c in planned(SUITE, *overrides).cells]

    same = identities()
    assert identities("diagnostics=[scale_growth]") == same
    assert identities("training.device=cuda") == same
    assert identities("title=Another") == same
    for change in (
        "training.epochs=2",
        "training.threads=2",
        "arch.width=9",
        "data.limit=300",
        "training.deterministic=false",
    ):
        assert not set(identities(change)) & set(same), change


def test_other_data_are_other_cells(planned, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench_plugins.datasets.digits import Digits

    before = planned()
    monkeypatch.setattr(Digits, "prepare", lambda self, folder: "0" * 32)
    after = planned()
    assert {c.data_checksum for c in after.cells} == {"0" * 32}
    assert not {c.identity for c in before.cells} & {c.identity for c in after.cells}


def test_a_plan_names_entries_that_are_one_rule(planned) -> None:
    text = SUITE.replace("methods: [dfa]", "methods: [dfa, fa, {name: dfa, penalty: 0}]")
    plan = planned(text)
    (told,) = plan.troubles
    same = "{name: dfa} and {name: dfa, penalty: 0} are the same method, so their cells count once"
    assert told == same
    assert len(plan.cells) == len(planned(text.replace(", {name: dfa, penalty: 0}", "")).cells)
    assert not planned(text.replace("penalty: 0", "penalty: 0.1")).troubles


def test_a_plan_warns_of_an_exclude_that_matches_nothing(planned) -> None:
    (told,) = planned(SUITE + "exclude: [{method: bp}]\n").troubles
    why = 'of method, the cells have "dfa", but not "bp"'
    assert told.endswith(f"exclude[0]: matches no cell; {why}")
    (told,) = planned(SUITE + "exclude: [{method: dfa, arch.dpth: 4}]\n").troubles
    assert "no cell has a value of arch.dpth; did you mean arch.depth" in told
    (told,) = planned(SUITE + "exclude: [{method: dfa, method.freeze: blocks}]\n").troubles
    assert told.endswith("; floors are added after `exclude`; `floors: false` leaves them out")
    assert planned().troubles == ()


@pytest.mark.long
def test_a_plan_says_that_the_floors_bring_an_excluded_ceiling_back(planned) -> None:
    both = SUITE.replace("[dfa]", "[dfa, bp]")
    plan = planned(both + "exclude: [{method: [bp, fa]}]\n")
    (told,) = plan.troubles
    assert "bp runs all the same, as the ceiling of the other rules" in told
    assert told.endswith("`floors: false` runs neither ceilings nor floors")
    assert any(cell.cell.method.short == "bp" for cell in plan.cells)
    assert planned(both + "exclude: [{method: bp}]\nfloors: false\n").troubles == ()
    some = "matrix: {arch.depth: [2, 4]}\nexclude: [{method: bp, arch.depth: 2, seed: 1}]\n"
    more = "include: [{method: fa, seeds: [1]}]\n"
    for text in (some, some + more, "exclude: [{method: bp, method.penalty: null}]\n"):
        assert "bp runs all the same" in planned(both + text).troubles[0], text
    again = "exclude: [{method: bp}]\ninclude: [{method: bp}]\n"  # the file brings it back
    assert planned(both + again).troubles == ()
    assert planned(both + "exclude: [{seed: 1}]\n").troubles == ()  # bp runs with seed 2 alone
    unlisted = SUITE.replace("[dfa]", "[dfa, {name: fa, penalty: 0.0}, fa]")
    assert planned(unlisted + "exclude: [{method.penalty: 0.0}]\n").troubles == ()


def test_a_plan_names_the_misspelt_rule_of_a_claim(planned) -> None:
    """A claim about a rule that is installed and not run now is no fault."""
    claim = "expect: [{figure: accuracy, method: METHOD, value: 0.5, tolerance: 0.1, source: me}]\n"
    (told,) = planned(SUITE + claim.replace("METHOD", "dfaa")).troubles
    assert "expect[0].method: no rule is called dfaa, so this claim is never judged" in told
    assert "did you mean dfa" in told
    minus = claim.replace("METHOD", "dfa, minus: bpp")
    assert "expect[0].minus: no rule is called bpp" in planned(SUITE + minus).troubles[0]
    for name in ("dfa", "ep", "bench-core/dfa"):
        assert planned(SUITE + claim.replace("METHOD", name)).troubles == ()


def test_a_plan_names_what_every_verdict_needs_and_the_suite_does_not_measure(planned) -> None:
    few = SUITE + "diagnostics: [alignment, scale_growth]\n"
    (told,) = planned(few).troubles
    without = "without reference_floor, batch_stability, a rule that is not walked back"
    assert f"7:1: diagnostics: {without} stays undetermined; add them to the list" in told
    frozen = few.replace("[dfa]", "[{name: dfa, freeze: blocks}]") + "floors: false\n"
    assert planned(frozen).troubles == ()


def test_a_plan_says_that_the_floor_of_another_rule_is_not_run(planned) -> None:
    other = SUITE + "depth_utility: {floor: fa}\n"
    (told,) = planned(other).troubles
    assert "7:24: depth_utility.floor: no cell of fa with frozen blocks" in told
    assert told.endswith("; add {name: fa, freeze: blocks} to methods")
    for methods in ("[dfa, fa]", "[dfa, {name: fa, freeze: blocks}]"):
        assert planned(other.replace("[dfa]", methods)).troubles == ()
    assert planned(SUITE + "depth_utility: {floor: fa, floor_value: 0.4}\n").troubles == ()


def test_a_letter_that_is_to_end_a_training_has_its_name_as_the_remedy(planned) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(SUITE + "stop_when: [a, drift]\n")
    of_letter, of_name = str(caught.value).splitlines()
    assert of_letter.endswith("a is not among the suite's diagnostics; write scale_growth")
    assert of_name.endswith("drift is not among the suite's diagnostics; add it there")


@pytest.mark.long
def test_a_plan_names_a_diagnostic_that_the_runs_to_reuse_lack(
    here: Here, finished: Finished
) -> None:
    more = finished.suite.read_text().replace(
        "name: tiny", "name: tiny\ndiagnostics: [drift, alignment]"
    )
    (here.cwd / "more.yaml").write_text(more)
    shutil.copytree(finished.results, here.cwd / "results")
    done = here("plan", "more.yaml")
    assert "4 cells, 4 reused, 0 to run" in done.stdout
    told = [line for line in done.stderr.splitlines() if "did not measure" in line]
    remedy = "`bench audit results/tiny --diagnostic drift` measures it"
    assert told == [f"warning: 4 of the runs to reuse did not measure drift; {remedy}"]
    assert here("audit", "tiny", "--diagnostic", "drift").returncode == 0
    assert "did not measure" not in here("plan", "more.yaml").stderr
    for path in (here.cwd / "results").glob("tiny/*/late.drift.json"):
        late = remeasured.Late.model_validate_json(path.read_text())
        remeasured.write(path.parent, late.model_copy(update={"versions": {}}))  # as once
    assert "did not measure" not in here("plan", "more.yaml").stderr


@pytest.mark.long
def test_a_plan_names_a_diagnostic_whose_numbers_have_changed_since_the_runs_to_reuse(
    here: Here, finished: Finished
) -> None:
    results = Path(shutil.copytree(finished.results, here.cwd / "results"))
    older = sorted(path.parent for path in results.glob("tiny/*/run.json"))[0]
    record = store.read(older)
    assert record.numerics["diagnostic bench-core/alignment"] == 1
    numerics = {**record.numerics, "diagnostic bench-core/alignment": 7}
    changed = store.sealed(record.model_copy(update={"numerics": numerics}))
    (older / "run.json").write_text(changed.to_json())
    remedy = "`bench audit results/tiny --diagnostic alignment` measures it again"
    told = "measured alignment with numerics 7, and its numerics are 1 today"
    said = here("plan", finished.suite).stderr
    assert f"warning: 1 of the runs to reuse {told}; {remedy}" in said
    assert here("audit", "tiny", "--diagnostic", "alignment").returncode == 0
    assert "numerics" not in here("plan", finished.suite).stderr


def test_an_edit_of_a_strangers_helper_makes_its_cells_anew_and_no_others(
    planned, site, tmp_path: Path
) -> None:
    name = site("pass", imports="import plan_helper")
    helper = tmp_path / "site" / "plan_helper.py"
    helper.write_text("SCALE = 1\n")
    text = SUITE.replace("[dfa]", f"[{name}]")
    before = planned(text)
    folder = put(before, "done")
    helper.write_text("SCALE = 1  # the same numbers\n")
    assert planned(text).cells[0].action == "reuse"
    helper.write_text("SCALE = 2\n")
    after = planned(text)
    pairs = list(zip(before.cells, after.cells, strict=True))
    assert {a.cell.method.name for a, b in pairs if a.identity != b.identity} == {name}
    assert {a.cell.method.name for a, b in pairs if a.identity == b.identity} == {"bench-core/bp"}
    assert not_reused(after, folder) == "the code has changed since: plan_helper"


# ------------------------------------------------------------------------------------------- faults

FAULTS = {
    "method": (
        SUITE.replace("[dfa]", "[bp, dfaa]"),
        ["4:15: methods[1]: unknown method 'dfaa'; did you mean dfa"]),
    "arch": (
        SUITE.replace("resmlp", "resmpl"),
        ["2:14: arch.name: unknown arch 'resmpl'; did you mean resmlp?"]),
    "dataset": (
        SUITE.replace("digits", "digit"),
        ["3:10: dataset: unknown dataset 'digit'; did you mean digits?"]),
    "diagnostic": (
        SUITE + "diagnostics: [alignmend]\n",
        ["unknown diagnostic 'alignmend'; did you mean alignment"]),
    "diagnostic by its letter": (
        SUITE + "diagnostics: [a]\n",
        ["7:15: diagnostics[0]: unknown diagnostic 'a'; a is scale_growth"]),
    "parameter": (
        SUITE.replace("[dfa]", "[{name: dfa, penalti: 1.0}]"),
        ["4:23: methods[0].penalti: unknown key; did you mean penalty?"]),
    "claim": (
        SUITE + "expect: [{figure: acuracy, method: dfa, at_least: 0, source: s}]\n",
        ["7:19: expect[0].figure: no figure or diagnostic 'acuracy'; did you mean accuracy?"]),
    "excluded method": (
        SUITE + "exclude: [{method: dfaa}]\n",
        ["7:20: exclude[0].method: unknown method 'dfaa'; did you mean dfa or fa?"]),
    "all excluded": (
        SUITE + "exclude: [{method: dfa}]\n", ["7:10: exclude: leaves no cell to run"]),
    "floor": (
        SUITE + "depth_utility: {floor: nosuch}\n",
        ["7:24: depth_utility.floor: unknown method 'nosuch'; known: "]),
    "value": (SUITE.replace("width: 8", "width: 0"), ["2:29: arch.width: "]),
    "two at once": (
        SUITE.replace("width: 8", "width: 0").replace("[dfa]", "[{name: dfa, penalty: -1}]"),
        ["arch.width", "methods[0].penalty"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_at_its_place(planned, tmp_path: Path, fault: str) -> None:
    text, expected = FAULTS[fault]
    with pytest.raises(SuiteError) as caught:
        planned(text)
    lines = sorted(str(caught.value).splitlines())
    assert len(lines) == len(expected)
    for line, part in zip(lines, sorted(expected), strict=True):
        assert line.startswith(str(tmp_path / "suite.yaml"))
        assert part in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "def unsupported(self, net): return 'too shallow' if net.depth < 3 else None",
            "too shallow",
        ),
        (
            "def unsupported(self, net): raise ValueError('oh')",
            "it cannot say whether it supports this network: ValueError: oh",
        ),
        (
            "def unsupported(self, net): raise SystemExit(3)",
            "it cannot say whether it supports this network: SystemExit: 3",
        ),
    ],
)
def test_a_method_that_cannot_train_the_network_is_said_at_its_place(
    planned, site, body: str, reason: str
) -> None:
    name = site(body)
    with pytest.raises(SuiteError) as caught:
        planned(SUITE.replace("[dfa]", f"[dfa, {name}]"))
    (line,) = str(caught.value).splitlines()
    assert f":4:16: methods[1]: {name} cannot train resmlp on digits: " in line
    assert reason in line


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("class Params: pass", "its Params must derive from "),
        (
            "passport = None",
            r"TypeError: its passport is a NoneType: write passport = Passport\(…\)",
        ),
        (
            "def __init__(self): pass",
            r"Rule.__init__ \(\w+.py:5\) must take params and call super\(\).__init__\(params\)$",
        ),
        (
            "def __init__(self, params): pass",
            r"AttributeError: 'Rule' object has no attribute 'params'; "
            r"Rule.__init__ \(\w+.py:5\) must call super\(\).__init__\(params\) first$",
        ),
    ],
)
def test_a_component_that_is_none_is_a_plugins_fault(planned, site, body: str, reason: str) -> None:
    name = site(body)
    with pytest.raises(UsageError) as caught:
        planned(SUITE.replace("[dfa]", f"[{name}]") + "floors: false\n")
    (line,) = str(caught.value).splitlines()
    assert re.match(rf"{name.partition('/')[0]} 1\.0: method rule: {reason}", line)


ODD_PARAMS = """
class Params(Backprop.Params):
    pair: tuple[int, ...] = (1, 2)
    names: frozenset[str] = frozenset(["a"])
    pace: Pace = Pace.SLOW
    path: Path = Path("x")
"""
ODD_TYPES = "import enum\nfrom pathlib import Path\nclass Pace(enum.Enum):\n    SLOW, FAST = 1, 2\n"


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("", {"pair": [1, 2], "names": ["a"], "pace": 1, "path": "x"}),
        (", pair: [3], pace: FAST, path: y", {"pair": [3], "pace": 2, "path": "y"}),
        (", pace: 2, names: []", {"pace": 2, "names": []}),
    ],
)
def test_a_worker_gets_the_parameters_that_the_plan_saw(
    planned, site, written: str, values: dict[str, Any]
) -> None:
    name = site(ODD_PARAMS, imports=ODD_TYPES)
    plan = planned(SUITE.replace("[dfa]", f"[{{name: {name}{written}}}]") + "floors: false\n")
    job = json.loads(json.dumps(plan.job(plan.cells[0])))
    params = job["cell"]["method"]["params"]
    assert {key: params[key] for key in values} == values
    target, arrived = make(plugins.load(), "method", name, params)
    assert arrived == read(target.Params, values)
    assert isinstance(arrived.pair, tuple)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("float = math.inf", "inf", ""),
        ("float = math.nan", "nan", ""),
        ("float | None = math.inf", "inf", "it comes back as None"),
        ("Annotated[int, Field(ge=1)] = 0", "0", ""),
        ("Literal['a'] = 'b'", "'b'", ""),
        ("Annotated[int, AfterValidator(lambda v: v + 1)] = 1", "1", "it comes back as 2"),
        ("Annotated[float, PlainSerializer(round)] = 1.25", "1.25", "it comes back as 1"),
        ("Any = (1, 2)", "(1, 2)", "it comes back as [1, 2]"),
        ("int = 2**70", str(2**70), "an integer of more than 64 bits"),
        ("list[int] = [2**63]", str([2**63]), "an integer of more than 64 bits"),
        ("Any = math.sin", "<built-in function sin>", "Unable to serialize unknown type"),
        (r"bytes = b'\xff'", r"b'\xff'", "invalid utf-8"),
    ],
)
def test_a_parameter_that_a_worker_would_not_get_is_refused(
    planned, site, field: str, value: str, reason: str
) -> None:
    imports = "import math\nfrom typing import *\nfrom pydantic import *"
    name = site(f"class Params(Backprop.Params):\n    cap: {field}", imports=imports)
    with pytest.raises(UsageError) as caught:
        planned(SUITE.replace("[dfa]", f"[{name}]") + "floors: false\n")
    (line,) = str(caught.value).splitlines()
    assert f"parameter cap does not reach a worker, as JSON, with its value {value}" in line
    assert reason in line


def test_a_value_that_is_left_out_of_the_request_is_refused(planned, site) -> None:
    name = site("class Params(Backprop.Params):\n    cap: int = Field(1, exclude=True)",
                imports="from pydantic import Field")  # fmt: skip
    with pytest.raises(
        UsageError, match=r"parameter cap does not reach a worker.* value 2: it com"
    ):
        planned(SUITE.replace("[dfa]", f"[{{name: {name}, cap: 2}}]") + "floors: false\n")


def test_a_diagnostic_that_cannot_be_made_fails_its_measurement_alone() -> None:
    entries = [
        {"name": "bench-core/batch_stability", "params": {"no_such": 1}},
        {"name": "bench-core/nothing", "params": {}},
        {"name": "bench-core/drift", "params": {}},
    ]
    made = diagnostics(plugins.load(), entries)
    assert [name for name, _ in made] == ["batch_stability", "nothing", "drift"]
    for name, diagnostic in made[:2]:
        measurement = attempt(name, diagnostic, UNREAD)  # type: ignore[arg-type]
        assert measurement.value is None
        assert "could not be made" in measurement.details["error"]
    assert attempt(*made[0], UNREAD).letter == "c"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (Measured(1.0, {"by": [{"x": np.ones(2)}]}), "details['by'][0]['x'] is of type ndarray"),
        (Measured(1.0, {"x": {1, 2}}), "details['x'] is of type set"),
        (Measured(1.0, {"x": 1j}), "details['x'] is of type complex"),
        (Measured(1.0, {1: 3}), "a key of details is of type int"),  # type: ignore[dict-item]
        (Measured(np.ones(2)), "value is of type ndarray; give one number"),  # type: ignore[arg-type]
        (Measured("high"), "value is of type str; give one number"),  # type: ignore[arg-type]
    ],
)
def test_a_result_that_cannot_be_stored_says_what_to_give(result: Measured, fault: str) -> None:
    class Odd(Diagnostic):
        def measure(self, audit: Any) -> Measured:
            return result

    error = attempt("odd", Odd(None), UNREAD).details["error"]  # type: ignore[arg-type]
    assert f"it cannot be stored: {fault}" in error
    assert error.endswith(("; give numbers, texts, lists or dicts, such as x.tolist()", fault)) or (
        error.endswith("; give a text")
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            SUITE.replace(RESMLP, "vit_mini").replace("digits", "teacher"),
            "2:7: arch: vit_mini cannot be used on teacher: vit_mini needs images (channels, "
            "height, width) whose sides are multiples of its patch (4), not inputs of shape (128,)",
        ),
        (
            SUITE.replace(RESMLP, "{name: linear_lq, width: 32}"),
            "arch: linear_lq cannot be used on digits: linear_lq has no embedding: "
            "inputs must have width = 32 features, not shape",
        ),
        (
            SUITE.replace(RESMLP, "{name: vit_mini, heads: 3}"),
            "heads: 3 does not divide width 128",
        ),
        (
            SUITE.replace(RESMLP, "linear_lq")
            .replace("digits", "linear_quadratic")
            .replace("[dfa]", "[{name: dfa, random_targets: true}]"),
            "methods[0]: dfa cannot train linear_lq on linear_quadratic: "
            "random_targets draws classes, and this data set has none",
        ),
    ],
)  # fmt: skip
def test_a_network_that_does_not_suit_the_data_is_refused_at_its_place(
    planned, text: str, line: str
) -> None:
    """One line for all methods, seeds and floors."""
    with pytest.raises(SuiteError) as caught:
        planned(text.replace("methods: [dfa]", "methods: [dfa, fa]"))
    (found,) = str(caught.value).splitlines()
    assert line in found


def test_an_architecture_without_blocks_is_refused(planned, monkeypatch, tmp_path: Path) -> None:
    home = tmp_path / "site"
    source = """
from torch import nn
from bench_core.api import Component, Net, hookimpl

class Bare(Net):
    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        self.embed, self.blocks = nn.Flatten(), nn.ModuleList()
        self.readout = nn.Linear(64, classes)

@hookimpl
def bench_archs():
    return [Component("bare", "bare_arch:Bare")]
"""
    fake_dist(home, "bench-bare", "bare_arch", source)
    monkeypatch.syspath_prepend(str(home))
    with pytest.raises(
        SuiteError, match=r":2:7: arch: bare cannot be used on digits: it has no blocks"
    ):
        planned(SUITE.replace(RESMLP, "bare"))


@pytest.mark.long
def test_a_namesake_does_not_silently_judge_the_runs_of_another_file(
    planned: Callable[..., Plan],
) -> None:
    earlier = planned(SUITE + "title: Mine\n")
    earlier.folder.mkdir(parents=True)
    suite_folder.write(earlier.folder, described(earlier))
    more = planned(SUITE.replace("[1, 2]", "[1, 2, 3]") + "title: Mine\n", "training.epochs=2")
    assert more.troubles == ()
    few = "[{name: scale_growth, threshold: 3}, reference_floor, batch_stability]"
    limit = f"diagnostics: {few}\n"
    (line,) = planned(SUITE + limit).troubles
    assert "(Mine) had another title and other limits" in line
    claim = "{figure: accuracy, method: dfa, at_least: 0.1, source: me}"
    claimed = SUITE + f"title: Mine\nexpect: [{claim}]\n"
    suite_folder.write(earlier.folder, described(planned(claimed)))
    (line,) = planned(claimed.replace("epochs: 1", "epochs: 2")).troubles
    assert "(Mine) had another recipe of its claims; its" in line
    (line,) = planned(claimed + limit).troubles
    assert (
        "(Mine) had other limits and another recipe of its claims; its" in line
    )  # its diagnostics
    (line,) = planned(claimed.replace("0.1", "0.2")).troubles
    assert "(Mine) had other claims; its" in line


def test_other_options_of_a_diagnostic_than_those_of_earlier_runs_are_said(tmp_path: Path) -> None:
    now = [{"name": "bench-core/nudging", "params": {"eta": 0.5}}, {"name": "a/b", "params": {}}]
    assert _measured(now, tmp_path) == []
    for eta, times in ((0.50, 0), (0.01, 1)):
        suite_folder.write(tmp_path, {"diagnostics": {"bench-core/nudging": {"eta": eta}}})
        said = _measured(now, tmp_path)
        assert len(said) == times
    assert "its earlier runs measured nudging with other options; `bench audit`" in said[0]


def test_missing_data_are_one_line_that_says_where_they_must_lie(
    planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets.utils

    def offline(*arguments: Any, **options: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", offline)
    with pytest.raises(UsageError) as caught:
        planned(SUITE.replace("digits", "cifar10"), data_dir=tmp_path / "empty")
    (line,) = str(caught.value).splitlines()
    assert str(tmp_path / "empty" / "cifar-10-batches-py") in line
    assert "--data-dir or BENCH_DATA_DIR" in line


# -------------------------------------------------------------------------------------------- reuse


def put(plan: Plan, status: Status, **fields: Any) -> Path:
    """Keep a run of the plan's first cell, and suite.json as a sweep leaves it."""
    cell = plan.cells[0]
    identity = fields.get("identity", cell.identity)
    folder = suite_folder.create(plan.folder.parent, plan.folder.name) / identity
    with locks.locked(folder):
        store.clear_temporary(folder)
        record = make_record(plan.job(cell), status=status, **fields)
        store.commit(record, folder)
    cells = {**described(plan)["cells"], cell_key(cell.cell): identity}
    suite_folder.write(plan.folder, {**described(plan), "cells": cells})
    return folder


@pytest.mark.parametrize(
    ("status", "action", "retried"),
    [
        ("done", "reuse", "reuse"),
        ("diverged", "reuse", "reuse"),
        ("failed", "reuse", "run"),
        ("crashed", "run", "run"),
        ("oom", "run", "run"),
        ("timeout", "run", "run"),
        ("interrupted", "run", "run"),
    ],
)
def test_what_the_same_code_would_repeat_is_reused(
    planned, status: Status, action: str, retried: str
) -> None:
    first = planned()
    assert {c.action for c in first.cells} == {"run"}
    put(first, status)
    again = planned()
    assert again.cells[0].action == action
    assert status in again.cells[0].why
    stays = again.cells[0].why.endswith("; it stays so unless --retry-failed trains it again")
    assert stays == ((action, retried) == ("reuse", "run"))
    kept = {"reuse": "1 reused" if status == "done" else f"1 reused (1 {status})"}
    assert f" {kept.get(action, '0 reused')}, " in again.counts
    assert again.cells[0].stamp is not None
    assert {c.action for c in again.cells[1:]} == {"run"}
    assert planned(retry_failed=True).cells[0].action == retried


def test_the_command_runs_failed_cells_again_where_it_is_told_to(planned, here: Here) -> None:
    put(planned(), "failed")
    env = {"BENCH_REFERENCE": ""}
    assert " 1 reused (1 failed), 7 to run" in plan_totals(here, "suite.yaml", env=env)
    assert " 0 reused, 8 to run" in plan_totals(here, "suite.yaml", "--retry-failed", env=env)


def test_a_run_that_is_replaced_while_its_cell_is_decided_is_another_runners(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stamp is that of the run which the decision has read."""
    first = planned(ONE)
    folder, decide = put(first, "crashed"), StoredRuns.decide
    before = store.stamp(folder)

    def decided(*arguments: Any) -> Any:
        choice = decide(*arguments)
        put(first, "done")
        return choice

    monkeypatch.setattr(StoredRuns, "decide", decided)
    (cell,) = planned(ONE).cells
    assert (cell.action, cell.stamp) == ("run", before)
    assert store.stamp(folder) not in (None, before)


def test_a_run_of_some_seeds_forgets_no_cell_of_the_others(planned) -> None:
    whole = planned()
    put(whole, "done")
    part = planned(SUITE, "seeds=[2]")
    assert (len(whole.cells), len(part.cells)) == (8, 4)
    identities = {cell_key(cell.cell): cell.identity for cell in whole.cells}
    assert described(part)["cells"] == identities


def test_suite_json_is_read_and_written_under_one_lock(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two runners lose each other's cells."""
    put(planned(ONE), "done")
    plan, free = planned(ONE), []

    def noted(do: Callable[..., Any], folder: Path, *content: Any) -> Any:
        free.append(locks.lock(folder / suite_folder.SUITE))
        return do(folder, *content)

    for name in ("saved", "write"):
        monkeypatch.setattr(suite_folder, name, partial(noted, getattr(suite_folder, name)))
    (record,) = run_plan(plan, plugins.load(isolated=False))
    assert (record.status, free) == ("done", [None, None])


def test_a_run_removes_what_killed_runners_left_of_cells_that_are_not_planned(planned) -> None:
    folder = put(planned(ONE), "done")
    gone = folder.with_name("0" * 32)
    locks.beside(gone, "tmp").mkdir()
    locks.beside(gone, "lock").touch()
    run_plan(planned(ONE), plugins.load(isolated=False))
    assert leftovers(folder.parent) == []


def test_a_plan_says_which_cells_continue(planned, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned()
    begun = first.cells[1].identity

    state: dict[str, Any] = {"epoch": 7}

    def saved(folder: Path) -> dict[str, Any] | None:
        return state if folder.name == begun else None

    monkeypatch.setattr("bench_core.execution.planning.reuse.saved_state", saved)
    again = planned()
    assert again.counts.endswith(f"{len(first.cells)} to run (1 continues)")
    assert again.cells[1].why == "no run of it here yet; continues after epoch 7"
    assert again.cells[0].why == "no run of it here yet"
    name = "bench-core/alignment"
    listed = {each["name"]: digested(each) for each in first.diagnostics}
    for unlike, why in (
        ({"every": {"diagnose_every": 2}}, "its epochs have diagnose_every 2, not 1"),
        ({"diagnostics": listed | {name: {**listed[name], "code": "of another version"}}},
         f"the diagnostic {name} has other code or options now, and two of it cannot share"),
        ({"diagnostics": {"bench-core/other": {}}},
         f"it did not measure {first.diagnostics[0]['name']}, and the curve would lack its epochs; "
         "without that diagnostic it continues, and `bench audit` measures it then"),
    ):  # fmt: skip
        state |= unlike
        again = planned()
        assert "continue" not in again.counts
        assert f"begins anew, because its state after epoch 7 cannot be used: {why}" in (
            again.cells[1].why
        )
        state.pop(*unlike)


@pytest.mark.long
def test_a_plan_says_that_the_training_of_other_code_begins_anew(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, old = planned(), "2" * 32
    folder = suite_folder.create(first.folder.parent, first.folder.name)
    cells = {**described(first)["cells"], cell_key(first.cells[0].cell): old}
    suite_folder.write(folder, {**described(first), "cells": cells})
    assert planned().cells[0].why == "no run of it here yet"
    monkeypatch.setattr(
        "bench_core.execution.planning.reuse.saved_state",
        lambda path: {"epoch": 4} if path.name == old else None,
    )
    again = planned()
    told = "the training that was saved after epoch 4 is of other code or data"
    assert again.cells[0].why == f"no run of it here yet; begins anew, because {told}"
    assert again.cells[1].why == "no run of it here yet"
    states = {old: {"epoch": 4}, first.cells[0].identity: {"epoch": 7}}  # the code was put back
    monkeypatch.setattr(
        "bench_core.execution.planning.reuse.saved_state", lambda path: states.get(path.name)
    )
    assert planned().cells[0].why == "no run of it here yet; continues after epoch 7"
    suite_folder.write(folder, described(first))  # as a killed run leaves it
    assert planned().cells[0].why == "no run of it here yet; continues after epoch 7"


def test_a_run_from_another_device_is_reused_and_the_plan_says_so(planned) -> None:
    first = planned()
    put(first, "done", environment={"device": "cuda:1"})
    cell = planned().cells[0]
    assert cell.action == "reuse"
    told = "its run is done, trained on cuda:1, which is no part of a run's identity; "
    assert cell.why == told + "-o FOLDER trains it on cpu beside it"
    put(first, "done", environment={"device": "cpu"})
    assert planned().cells[0].why == "its run is done"


def not_reused(plan: Plan, folder: Path) -> str:
    """Check that a run is kept and its cell is run again; return the cause that the plan states."""
    assert store.read(folder, sums=True).identity == folder.name
    (cell,) = (c for c in plan.cells if "is kept but not reused" in c.why)
    assert (cell.action, cell.identity == folder.name) == ("run", False)
    before, _, cause = cell.why.partition(": ")
    assert before == "an earlier run is kept but not reused"  # one reason for all such cells
    return cause


def test_a_run_whose_identity_another_algorithm_computed_is_not_reused(planned) -> None:
    folder = put(planned(), "done", identity="1" * 32, algorithm=1)
    cause = not_reused(planned(), folder)
    assert cause == f"its identity was computed by algorithm 1, now {ALGORITHM}"


def test_a_run_of_other_data_is_not_reused(planned, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench_plugins.datasets.digits import Digits

    plan = planned()
    folder, checksum = put(plan, "done"), plan.cells[0].data_checksum
    monkeypatch.setattr(Digits, "prepare", lambda self, folder: "0" * 32)
    assert not_reused(planned(), folder) == f"its data had the checksum {checksum}, now {'0' * 32}"


def test_a_run_of_an_older_algorithm_counts_until_its_cell_has_a_new_one(planned) -> None:
    """A plan, and even a sweep that was interrupted before the cell ended, does not hide it."""
    plan = planned()
    old = put(plan, "done", identity="1" * 32, algorithm=1, accuracy=0.5)

    def counted() -> dict[str, int]:
        (results,), troubles = gather([plan.folder])
        assert troubles == []
        return {record.identity: record.algorithm for record in results.records}

    assert counted() == {old.name: 1}
    suite_folder.write(plan.folder, described(planned()))
    assert counted() == {old.name: 1}
    new = put(planned(), "done", accuracy=0.6)
    assert counted() == {new.name: ALGORITHM}
    assert old.is_dir()


GAIN = """
class Params(Backprop.Params):
    gain: Annotated[float, LATER] = 1.0
"""


def test_an_option_added_later_keeps_the_identity_at_its_default(
    planned, site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first version of a plugin has no option, the second adds `gain` with a default."""
    from bench_core.execution.planning import fingerprint

    imports = "from typing import Annotated\nfrom bench_core.api import LATER"
    name = site("pass", imports=imports)
    (rule,) = (tmp_path / "site").glob("plan_rule_*.py")
    text = SUITE.replace("[dfa]", f"[{name}]")
    # the edit changes the digest of the plugin's code; here the parameters alone are compared
    monkeypatch.setattr(fingerprint, "code_files", lambda modules, brought_by: {})
    first = planned(text)
    folder = put(first, "done")
    lines = "".join(f"    {line}\n" for line in GAIN.splitlines())
    rule.write_text(rule.read_text() + lines)
    monkeypatch.delitem(sys.modules, rule.stem)
    importlib.invalidate_caches()

    def identities(options: str) -> list[str]:
        method = f"[{{name: {name}{options}}}]"
        return [c.identity for c in planned(SUITE.replace("[dfa]", method)).cells]

    before = [cell.identity for cell in first.cells]
    assert identities("") == identities(", gain: 1.0") == before
    assert identities(", gain: 2.0")[0] not in before
    again = planned(text).cells[0]
    assert (again.action, again.folder) == ("reuse", folder)


def test_an_unreadable_run_is_run_again_and_said_and_not_yet_touched(planned) -> None:
    folder = put(planned(), "done")
    (folder / "run.json").write_text("{")
    plan = planned()
    assert plan.cells[0].action == "run"
    (line,) = plan.troubles
    assert str(folder) in line
    assert "no JSON" in line
    assert folder.exists()


# ------------------------------------------------------------------------ the process that is asked


def test_a_component_that_never_returns_is_ended_with_what_it_started(
    tmp_path: Path, leap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is up once it has written down what it started.

    What it prints then wakes the parent.
    """
    mark = tmp_path / "pid"
    fake_dist(
        tmp_path, "x-slow", "slow_hooks",
        "import subprocess, time\n"
        f"open({str(mark)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)",
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("bench_core.processes.groups.GRACE", 0.2)
    leap(lambda: bool(lines(mark)))
    with pytest.raises(UsageError, match=r"loading the plugins: it did not end within 600 s"):
        validate.ask({"components": [["method", "x-slow/rule", {}]], "trios": []}, timeout=600)
    wait_until(lambda: not alive(int(mark.read_text())))


def test_a_limit_that_fills_no_batch_is_said_before_training(planned) -> None:
    """At the limit's place, for the recipes of a matrix that it does not suit; each once."""
    with pytest.raises(SuiteError) as caught:
        planned(SUITE + "data: {limit: 64}\nmatrix: {training.batch_size: [32, 64, 128]}\n")
    (line,) = str(caught.value).splitlines()
    assert ": data.limit: 64 training samples do not fill one batch of 128; use a smaller " in line


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("", "s do not fill one batch of 5000; use a smaller training.batch_size; digits has no"),
        ("data: {limit: 2000}\n", "training.batch_size: 1437 training samples do not fill"),
        ("data: {limit: 300}\n", "data.limit: 300 training samples do not fill one batch"),
    ],
)
def test_a_batch_larger_than_the_data_is_said_before_training(planned, extra, said) -> None:
    text = SUITE.replace("training: {", "training: {batch_size: 5000, ")
    with pytest.raises(SuiteError) as caught:
        planned(text + extra)
    (line,) = str(caught.value).splitlines()
    assert said in line


def test_a_planned_cell_knows_the_defaults_of_its_rule(planned) -> None:
    """What a name is held against, in the plan and in the lines of progress."""
    found = planned(
        SUITE.replace("[dfa]", "[{name: ep, beta: 0.25}]").replace("[1, 2]", "[1]")
    ).cells
    assert found[0].defaults["beta"] == 0.5
    assert names_of(found[:1]) == ["ep[beta=0.25] · seed 1"]


def test_code_that_ends_a_training_is_part_of_its_identity(planned: Callable[..., Plan]) -> None:
    """A diagnostic decides about numbers where `stop_when` names it, and nowhere else."""
    measured = SUITE + "diagnostics: [scale_growth, alignment]\n"
    free, stopped = planned(measured), planned(measured + "stop_when: [scale_growth]\n")
    modules = [set(plan.cells[0].code["bench-core"]["files"]) for plan in (free, stopped)]
    assert "bench_plugins.diagnostics.scale_growth" in modules[1] - modules[0]
    assert not any("alignment" in name for name in modules[1])
    assert free.cells[0].identity != stopped.cells[0].identity


def test_a_run_records_the_code_of_the_diagnostics_of_others() -> None:
    """Those of bench-core have `numerics`."""
    every = [Listed(name=name, params={}, code=name) for name in ("bench-core/drift", "lab/own")]
    assert measured_by(every) == {"lab/own": "lab/own"}


def test_a_rule_is_written_with_the_options_that_are_not_its_defaults() -> None:
    params = {"freeze": "blocks", "penalty": 0.01, "normalize": "sample", "own": 2, "beta": 1}
    method = ComponentRef(name="lab/rule", params=params)
    defaults = {"freeze": None, "penalty": 0.0, "normalize": "sample", "own": 1, "beta": 1}
    assert rule_name(method, defaults) == "lab/rule[frozen, penalty=0.01, own=2]"
    plain = method.model_copy(update={"params": defaults})
    assert rule_name(plain, defaults) == "lab/rule"
