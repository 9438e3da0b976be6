"""Check claims: held, failed or not run with a reason; figures against their definitions."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from click.testing import CliRunner
from records import SICK, audit, frozen, measured, run, seeds
from test_first_firing import GROWTH, G, rows

from bench_core.analysis.claims.hold import ClaimResult, judge_claims
from bench_core.analysis.claims.ranges import holds
from bench_core.analysis.claims.recipe import recipes
from bench_core.analysis.gather import gather
from bench_core.analysis.stats import t_critical
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.cli import bench as command
from bench_core.errors import SuiteError
from bench_core.report import all_claims
from bench_core.report.claims_table import claim_text, claims_text, expected_text, measured_text
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.claim import Expectation, parse_figure
from bench_core.suite.judging import DepthUtility
from bench_core.suite.load import load_suite

BP, DFA, FA = "bench-core/bp", "bench-core/dfa", "bench-core/fa"
FILE: dict[str, Any] = {
    "arch": {"name": "resmlp", "width": 256},
    "dataset": {"name": "cifar10"},
    "training": {"epochs": 100, "learning_rate": 1e-3, "stop_after": None},
    "data": {"limit": None},
    "stop_when": [],
    "axes": [],
}
CORE = {"freeze": None, "penalty": 0.0, "random_targets": False}
DEFAULTS: dict[str, dict[str, Any]] = {
    **{f"bench-core/{rule}": CORE for rule in ("bp", "dfa", "fa", "ep")},
    "arch bench-core/resmlp": {"width": 128, "depth": 4, "residual": True},
    "dataset bench-core/cifar10": {},
}
CELLS = {part: FILE[part] for part in ("arch", "dataset", "training", "data")}
ANY = {"value": 0.3, "tolerance": 10.0}


def claim(figure: str = "accuracy", method: str | None = "dfa", **fields: Any) -> Expectation:
    bounded = fields.keys() & {"value", "at_least", "at_most"}
    return Expectation.model_validate(
        {"figure": figure, "method": method, "source": "s", **({} if bounded else ANY), **fields}
    )


def outcome(
    records: list[RunRecord],
    wanted: Expectation,
    file: dict[str, Any] | None = FILE,
    settings: Settings | None = None,
    epochs: Any = (),
) -> ClaimResult:
    settings = settings or Settings(defaults=DEFAULTS)
    groups = judge_all(records, settings)
    (found,) = judge_claims([wanted], groups, settings, file, lambda record: epochs)
    return found


def value(records: list[RunRecord], figure: str, method: str = "dfa", **fields: Any) -> float:
    found = outcome(records, claim(figure, method, **fields))
    assert found.measured is not None, found.notes
    return found.measured.value


def not_run(found: ClaimResult) -> str:
    assert (found.status, found.measured) == ("not run", None)
    (reason,) = found.notes
    return reason


def of_default(gain: float, values: list[float], default: float | None = None) -> list[RunRecord]:
    """Runs of a rule whose code has a default of `gain`."""
    own = {"defaults": {"lab/own": {**CORE, "gain": gain if default is None else default}}}
    return seeds("lab/own", values, params={"gain": gain}, code={"lab": own})


def test_a_claim_means_the_default_of_the_last_plan_where_runs_record_two() -> None:
    old, new = of_default(1.0, [0.2, 0.21, 0.22]), of_default(0.5, [0.3, 0.31, 0.32])
    for default, mean in ((0.5, 0.31), (1.0, 0.21)):
        stated = {**DEFAULTS, "lab/own": {**CORE, "gain": default}}
        settings = Settings(defaults=stated).over([*old, *new])
        found = outcome([*old, *new], claim("accuracy", "own"), settings=settings.over(new + old))
        assert found.measured is not None, found.notes
        assert found.measured.value == pytest.approx(mean)
        assert f"runs with another default of method.gain than {default} are not this claim's" in (
            found.notes
        )
        named = {"name": "own", "gain": 1.0}
        found = outcome([*old, *new], claim("accuracy", named), settings=settings)  # type: ignore[arg-type]
        assert found.measured is not None
        assert found.measured.value == pytest.approx(0.21)
        assert not found.notes
    alone = Settings(defaults=DEFAULTS).over([*old, *new])  # both options are in one row's file
    stated = {**DEFAULTS, "lab/own": {**CORE, "gain": 0.5}}
    alone = Settings(defaults=stated).over([*old, *new])
    found = outcome(new, claim("accuracy", "own"), settings=alone)
    assert found.measured is not None
    assert found.notes == ()  # no run was left out
    lost = Settings(defaults=DEFAULTS).over([*old, *new])
    reason = not_run(outcome([*old, *new], claim("accuracy", "own"), settings=lost))
    assert reason.endswith("name one under cell (they differ in method.gain)")


# ----------------------------------------------------------------------------- what holds and fails


def test_a_mean_over_seeds_with_its_interval() -> None:
    found = outcome(audit(), claim(value=0.306, tolerance=0.008))
    assert (found.status, found.label) == ("holds", "dfa")
    assert found.measured is not None
    assert found.measured.value == pytest.approx(0.306)
    assert found.measured.high == pytest.approx(0.306 + t_critical(3) * 0.004 / math.sqrt(3))
    assert found.measured.n == 3
    assert outcome(audit(), claim(value=0.32, tolerance=0.008)).status == "fails"


@pytest.mark.parametrize(
    ("fields", "measured", "expected"),
    [
        ({"value": 0.306, "tolerance": 0.008}, 0.314, True),
        ({"value": 0.306, "tolerance": 0.008}, 0.3141, False),
        ({"value": 1.0, "tolerance": 0.0}, 1.0, True),
        ({"value": 1.0, "tolerance": 0.0}, 2 / 3, False),
        ({"value": 4e8, "factor": 2.0}, 8e8, True),
        ({"value": 4e8, "factor": 2.0}, 1.9e8, False),
        ({"value": -2e-3, "factor": 2.0}, -1e-3, True),
        ({"value": -2e-3, "factor": 2.0}, 1e-3, False),
        ({"at_least": 2.0}, 2.0, True),
        ({"at_least": 2.0}, 1.9, False),
        ({"at_most": 2.0}, 2.1, False),
        ({"at_least": 1.0, "at_most": 2.0}, 1.5, True),
        ({"at_least": 1.0}, math.inf, True),
        ({"at_most": 1.0}, math.inf, False),
        ({"value": 1.0, "tolerance": 1e9}, math.inf, False),
        ({"at_least": 1.0}, math.nan, False),
        ({"at_least": 0.02}, 0.36 - 0.34, True),  # .01999999999999996 in binary
        ({"at_most": 0.306}, 0.314 - 0.008, True),
        ({"value": 0.1, "factor": 3.0}, 0.1 * 3, True),
        ({"at_least": 0.02}, 0.0199, False),
        ({"value": 1.0, "factor": 9.0}, math.nan, False),
    ],
)
def test_the_claimed_range(fields: dict[str, float], measured: float, expected: bool) -> None:
    assert holds(claim("train_loss", **fields), measured) is expected


def test_a_claim_that_holds_may_be_told_apart_from_the_published_value() -> None:
    """The interval of the three seeds is .302 ± .005."""
    records = seeds("bench-core/dfa", [0.300, 0.302, 0.304])
    cases = [(0.303, 0.02, False), (0.31, 0.02, True), (0.31, 0.001, False)]
    for published, tolerance, expected in cases:
        judged = outcome(records, claim(value=published, tolerance=tolerance))
        assert judged.excludes_published == expected
    assert not outcome(records[:1], claim(value=0.31, tolerance=0.02)).excludes_published
    assert not outcome(records, claim(at_least=0.2)).excludes_published


def test_a_factor_is_judged_on_the_geometric_mean() -> None:
    records = [run(seed=i, measurements=measured(a=a)) for i, a in enumerate((10.0, 1000.0))]
    found = outcome(records, claim("scale_growth", value=100, factor=1.5))
    assert found.status == "holds"
    assert found.measured is not None
    assert found.measured.value == pytest.approx(100)
    assert found.measured.low is not None
    assert found.measured.low < 100 / 1.5
    negative = [
        run(seed=i, measurements={"nudging": Measurement(value=v)})
        for i, v in enumerate((-1e-3, -4e-3))
    ]
    found = outcome(negative, claim("nudging", value=-2e-3, factor=1.1))
    assert found.measured is not None
    assert found.measured.value == pytest.approx(-2e-3)
    assert found.measured.low is not None
    assert found.measured.high is not None
    assert found.measured.low < found.measured.value < found.measured.high
    mixed = [
        run(seed=i, measurements={"nudging": Measurement(value=v)})
        for i, v in enumerate((-1e-3, 4e-3))
    ]
    found = outcome(mixed, claim("nudging", value=-2e-3, factor=1.1))
    note = "a value has not the sign of the claim, so the mean is arithmetic"
    assert (found.status, found.notes) == ("fails", (note,))


@pytest.mark.parametrize(
    "bound",
    [{"at_most": 4.2e-9}, {"at_least": 1e-12}, {"value": 1e-10, "tolerance": 1e-9}, {"factor": 9}],
)
def test_a_norm_is_averaged_on_the_scale_of_its_axis(bound: dict[str, float]) -> None:
    values = (1e-11, 1e-9, 1e-10)
    items = [Measurement(value=128 * v, axis="log", details={"g": [v]}) for v in values]
    records = [run(seed=i, measurements={"reference_floor": m}) for i, m in enumerate(items)]
    if "factor" in bound:
        bound = {"value": 1e-10, **bound}
    half = t_critical(3) * math.log(10) / math.sqrt(3)
    for figure, divisor in (("reference_floor", 128), ("reference_floor.g[0]", 1)):
        found = outcome(records, claim(figure, divide_by=divisor, **bound))
        assert (found.status, found.notes) == ("holds", ())
        assert found.measured is not None
        assert found.measured.value == pytest.approx(1e-10)
        ends = (found.measured.low, found.measured.high)
        assert ends == pytest.approx((1e-10 * math.exp(-half), 1e-10 * math.exp(half)))
    arithmetic = fmean(values)
    linear = [
        run(seed=i, measurements={"drift": Measurement(value=v)}) for i, v in enumerate(values)
    ]
    assert value(linear, "drift") == pytest.approx(arithmetic)
    assert value(records, "reference_floor.g[0]", minus="dfa") == 0.0
    nothing = run(seed=9, measurements={"reference_floor": Measurement(value=0.0, axis="log")})
    found = outcome([*records, nothing], claim("reference_floor", divide_by=128, at_most=1e-8))
    assert found.notes == ("a value has not a logarithm, so the mean is arithmetic",)
    assert found.measured is not None
    assert found.measured.value == pytest.approx(sum(values) / 4)


def test_the_mean_of_a_difference_is_arithmetic_with_a_factor_too() -> None:
    records = [*seeds("bench-core/dfa", [0.50, 0.42]), *seeds("bench-core/fa", [0.40, 0.40])]
    found = outcome(records, claim(minus="fa[normalize=sample]", value=0.06, factor=1.2))
    assert (found.label, found.other) == ("dfa", "fa")  # the labels of the rows, as in the table
    assert found.status == "holds"
    assert found.measured is not None
    assert found.measured.value == pytest.approx(0.06)


def test_a_difference_is_paired_by_seed() -> None:
    records = [*seeds("bench-core/dfa", [0.3, 0.4, 0.6]), *seeds("bench-core/fa", [0.2, 0.2])]
    found = outcome(records, claim(minus="fa", at_least=0))
    assert found.measured is not None
    assert found.measured.value == pytest.approx(fmean([0.1, 0.2]))
    assert found.measured.n == 2
    assert "no rows of ep" in not_run(outcome(records, claim(minus="ep", at_least=0)))


# ------------------------------------------------------------------------------------------ figures


def test_figures_of_a_run() -> None:
    records = audit()
    assert value(records, "scale_growth") == 694.0
    assert value(records, "reference_floor", divide_by=128.0) == pytest.approx(4.2e-9)
    assert value(records, "alignment.unclamped[0]") == 0.4
    assert value(records, "alignment.unclamped[-1]") == value(records, "alignment.deep") == 0.004
    assert value(records, "seconds") == 512.25
    assert (
        value(records, "margin")
        == value(records, "margin.matched")
        == value(records, "depth_utility")
        == pytest.approx(-4.3)
    )
    assert value(records, "margin.bp") == pytest.approx(-11.3)
    assert [value(records, f"fires.{letter}") for letter in "abcd"] == [1, 1, 0, 1]
    assert value(records, "fires.scale_growth") == value(records, "walked_back") == 1
    assert value(records, "walked_back", "bp") == 0
    assert value(records, "accuracy", "dfa[freeze=blocks]") == pytest.approx(0.349)
    assert value(records, "accuracy", seed=123) == pytest.approx(0.306)


def test_shares_have_no_interval() -> None:
    records = [run(seed=i, measurements=SICK if i else measured()) for i in range(3)]
    found = outcome(records, claim("fires.a", value=1.0, tolerance=0.0))
    assert found.status == "fails"
    assert found.measured is not None
    assert (found.measured.value, found.measured.low, found.measured.n) == (
        pytest.approx(2 / 3),
        None,
        3,
    )


def test_figures_of_epochs() -> None:
    course = rows(GROWTH, G)
    records = [run(seed=i, training={"epochs": 5}) for i in range(2)]
    file = {**FILE, "training": {**FILE["training"], "epochs": 5}}

    def of(figure: str, **fields: Any) -> ClaimResult:
        return outcome(records, claim(figure, **fields), file, epochs=course)

    assert [
        of("first_epoch.b", **ANY).measured.value,
        of("first_epoch.b@1024", **ANY).measured.value,
    ] == [4, 2]  # type: ignore[union-attr]
    assert of("first_epoch.reference_floor", value=4, tolerance=0).status == "holds"
    assert of("scale_growth", epoch=2, value=40, tolerance=0).status == "holds"
    assert of("accuracy", epoch=5, value=0.35, tolerance=1e-9).status == "holds"
    assert (
        of("fires.a", epoch=4, value=0, tolerance=0).status
        == of("fires.a", epoch=5, at_least=1).status
        == "holds"
    )
    assert of("ever_fires.a", at_least=1).status == of("ever_fires.c", at_most=0).status == "holds"
    assert "it has no epoch 9" in not_run(of("scale_growth", epoch=9))
    assert "was not measured after every epoch" in not_run(of("ever_fires.x"))


def test_an_interval_that_crosses_an_end_of_the_range_settles_nothing() -> None:
    """The interval of the three seeds is .302 ± .005."""
    records = seeds("bench-core/dfa", [0.300, 0.302, 0.304])
    for bounds, status, settled in (
        ({"value": 0.302, "tolerance": 0.006}, "holds", True),
        ({"value": 0.302, "tolerance": 0.004}, "holds", False),
        ({"at_least": 0.29}, "holds", True),
        ({"at_least": 0.30}, "holds", False),
        ({"at_least": 0.305}, "fails", False),
        ({"at_most": 0.29}, "fails", True),
        ({"value": 0.32, "factor": 1.05}, "fails", False),
        ({"value": 0.32, "factor": 1.01}, "fails", True),
    ):
        judged = outcome(records, claim(**bounds))
        assert (judged.status, judged.settled) == (status, settled), bounds
    assert outcome(records[:1], claim(at_least=0.29)).settled is None
    near = seeds("bench-core/dfa", [0.991, 0.995, 0.999])  # .995 ± .010, and 1 is the most
    assert outcome(near, claim(at_least=0.9, at_most=0.9999)).settled is False
    assert outcome(near, claim(at_least=0.9, at_most=1.0)).settled is True
    found = [outcome(records, claim(at_least=end)) for end in (0.29, 0.3, 0.305)]
    text = claims_text([("x", found)], "table")
    said = "fails, but its interval reaches into the range: more seeds may change this"
    touching = [
        n for n, each in enumerate(found, 1) if (each.status, each.settled) == ("fails", False)
    ]
    assert touching
    assert f"{', '.join(map(str, touching))}: {said}" in text
    counted = all_claims.settled(found)
    assert "3 of the 3 claims that were judged have an interval" in counted
    assert "1 have it wholly within the range, and 1 have an end" in counted
    assert "0 of the judged claims are about a figure that a run at least calls" in counted


def test_claims_on_figures_that_mean_nothing_are_counted_apart() -> None:
    dead = {**measured(), "alignment": Measurement(value=0.1, not_diagnostic="its states are 0")}
    records = [
        *seeds("bench-core/dfa", [0.3], measurements=dead),
        run("bench-core/dfa", 123, 0.31),
    ]
    results = [
        outcome(records, claim("alignment", value=0.1, tolerance=1.0)),
        outcome(records, claim("alignment", value=5.0, tolerance=0.1)),
        outcome(records, claim(at_least=0.2)),
    ]
    assert [result.not_diagnostic for result in results] == [True, True, False]
    assert all("not diagnostic: its states are 0" in " ".join(r.notes) for r in results[:2])
    told = "2 of the judged claims are about a figure that a run at least calls not diagnostic, so "
    assert told in (text := all_claims.settled(results))
    assert text.endswith("1 hold and 1 fail.")


@pytest.mark.parametrize(
    ("mean", "bounds", "text"),
    [
        (0.2268, {"value": 0.289, "tolerance": 0.062}, ".2268"),  # .227 would hold
        (0.3666, {"at_least": 0.367}, ".3666"),
        (0.3674, {"at_least": 0.367}, ".367"),
        (0.33004, {"value": 0.320, "tolerance": 0.010}, ".33004"),
        (0.31, {"value": 0.320, "tolerance": 0.010}, ".310"),
    ],
)
def test_a_measured_value_is_written_so_that_its_outcome_can_be_read_from_it(
    mean: float, bounds: dict[str, float], text: str
) -> None:
    found = outcome(seeds("bench-core/dfa", [mean]), claim(**bounds))
    assert measured_text(found.claim, found.measured) == text


def test_a_floor_has_no_verdict_to_claim() -> None:
    frozen_rule = {"name": "dfa", "freeze": "blocks"}
    floor = frozen("bench-core/dfa", [0.3, 0.31])
    found = outcome(floor, claim("walked_back", frozen_rule, at_most=0))
    assert found.status == "not run"
    assert "a floor has no verdict" in " ".join(found.notes)


def test_an_interval_ends_where_the_figure_does() -> None:
    def text(figure: str, *values: float, **more: Any) -> str:
        found = [
            run(seed=i, measurements={"alignment": Measurement(value=v, details={"ratio": [v]})})
            for i, v in enumerate(values)
        ]
        held = outcome(found, claim(figure, **({"at_least": 0} | more)))
        return measured_text(held.claim, held.measured)

    assert text("alignment", 0.2, 0.5, 0.9) == "0.533 [-0.339, 1]"
    assert text("alignment", 0.2, 0.5, 0.9, divide_by=0.5) == "1.07 [-0.678, 2.81]"
    assert text("alignment.ratio[0]", 0.2, 0.5, 0.9) == "0.533 [-0.339, 1.41]"
    # a share of samples, and what is divided by something else is none
    shares = [run(seed=i, measurements={"gradient_support": Measurement(value=v,
              details={"layers": [v]})}) for i, v in enumerate((0.7, 0.9, 1.0))]  # fmt: skip
    for figure in ("gradient_support", "gradient_support.layers[0]"):
        held = outcome(shares, claim(figure, at_least=0))
        assert measured_text(held.claim, held.measured).endswith(", 1]")
    equal = [run(seed=i, accuracy=0.5) for i in range(3)]
    halved = outcome(equal, claim("accuracy", at_least=0, divide_by=2)).measured
    whole = outcome(equal, claim("accuracy", at_least=0)).measured
    assert halved is not None
    assert whole is not None
    assert (halved.low, halved.high) == (0.25, 0.25)  # no count of samples: no rounding to them
    assert whole.low is not None
    assert whole.low < 0.5
    two = [*seeds(DFA, [0.6, 0.5])[:2], *frozen(DFA, [0.3, 0.2])[:2]]  # one margin twice
    same = outcome(two, claim("margin", at_least=0)).measured
    assert same is not None
    assert (same.value, same.low, same.high) == (pytest.approx(30), None, None)
    for about in ({"value": 0.5, "factor": 2.0}, {"at_least": 0, "value": None}):
        claimed = (
            claim("scale_growth", **about) if "factor" not in about else claim("accuracy", **about)
        )
        twice = [run(seed=i, accuracy=0.6, measurements=measured(a=60.0)) for i in range(2)]
        both = outcome(twice, claimed).measured  # of a geometric mean
        assert both is not None
        assert (both.low, both.high) == (None, None)
    # a geometric mean too: 0.87 [0.544, 1.39] without the end
    geometric = {"at_least": None, "value": 0.9, "factor": 1.2}
    assert text("alignment", 0.7, 0.95, 0.99, **geometric).endswith(", 1]")


def test_a_difference_of_two_that_never_fire_is_none() -> None:
    short = {"training": {"epochs": 1}}
    both = [run(**short), run("bench-core/bp", **short)]
    wanted = claim("first_epoch.a", minus="bp", at_least=0)
    found = outcome(both, wanted, None, epochs=rows([1.0, 2.0]))
    assert not_run(found) == "neither dfa nor bp ever fires: no difference"
    # of three seeds with one that fires on both sides, the others are named
    seeds_of = [run(name, seed, **short) for name in (DFA, BP) for seed in (1, 2, 3)]
    settings = Settings(defaults=DEFAULTS)
    fired = {1: rows([1.0, 99.0])}
    (held,) = judge_claims(
        [wanted], judge_all(seeds_of, settings), settings, None,
        lambda record: fired.get(record.cell.seed, rows([1.0, 2.0])),
    )  # fmt: skip
    assert held.measured is not None
    assert (held.status, held.measured.value, held.measured.n) == ("holds", 0.0, 1)
    assert "2 of 3 seeds not counted: neither rule fires in them" in held.notes


def test_equal_counts_of_epochs_have_the_interval_of_an_epoch() -> None:
    """Three seeds that fire after epoch 3: ± t(.975, 2) / √(3·12) = 4.303 / 6."""
    short = [run(seed=i, training={"epochs": 3}) for i in range(3)]
    wanted = claim("first_epoch.a", value=4, tolerance=1)

    def interval(*growth: float) -> tuple[float | None, float | None]:
        found = outcome(short, wanted, None, epochs=rows(growth))
        assert found.measured is not None
        return found.measured.low, found.measured.high

    assert interval(1.0, 2.0, 3.0, 99.0) == pytest.approx((3 - 0.717, 3 + 0.717), abs=1e-3)
    assert interval(1.0, 99.0, 99.0, 99.0) == pytest.approx((1, 1.717), abs=1e-3)  # never epoch 0
    less = outcome([*short, *(run(BP, i, training={"epochs": 3}) for i in range(3))],
                   claim("first_epoch.a", minus="bp", at_least=0), None,
                   epochs=rows([1.0, 2.0, 3.0, 99.0]))  # fmt: skip
    half = math.sqrt(2) * 0.717  # two counts
    assert less.measured is not None
    assert (less.measured.low, less.measured.high) == pytest.approx((-half, half), abs=1e-3)


def test_first_epochs_are_rounded_only_where_they_are_whole() -> None:
    """Two equal differences may be chance, and epochs divided by a number are no counts."""
    short = [run(name, i, training={"epochs": 3}) for name in (DFA, BP) for i in range(3)]
    course = rows([1.0, 2.0, 3.0, 99.0])

    def ends(records: list[RunRecord], **fields: Any) -> tuple[float | None, float | None]:
        found = outcome(records, claim("first_epoch.a", **fields), None, epochs=course)
        assert found.measured is not None
        return found.measured.low, found.measured.high

    two = [each for each in short if each.cell.seed < 2]
    assert ends(two, minus="bp", at_least=0) == (None, None)
    assert ends(short, divide_by=2, value=1.5, tolerance=1) == (1.5, 1.5)


def test_an_undefined_figure_that_is_not_diagnostic_is_no_value() -> None:
    """One of two seeds has a correlation that is not defined: the claim is judged on the other."""

    def rho(value: float, reason: str | None = None) -> dict[str, Measurement]:
        return {"perturbation_correlation": Measurement(value=value, not_diagnostic=reason)}

    dead = run(seed=1, measurements=rho(math.nan, "no nudge moves the loss"))
    wanted = claim("perturbation_correlation", value=0.2, tolerance=0.01)
    found = outcome([dead, run(seed=2, measurements=rho(0.2))], wanted)
    assert found.measured is not None
    assert (found.status, found.measured.n, found.measured.value) == ("holds", 1, 0.2)
    assert any("1 of 2 runs not counted (seed 1: " in note for note in found.notes)
    assert "no nudge moves the loss" in " ".join(found.notes)
    # without a reason it is a value that lies in no range
    assert outcome([run(measurements=rho(math.nan))], wanted).status == "fails"


def test_never_is_no_number() -> None:
    short = [run(training={"epochs": 1})]
    found = outcome(short, claim("first_epoch.a", at_most=10), None, epochs=rows([1.0, 2.0]))
    assert (found.status, found.notes[-1]) == ("fails", "it never fires in 1 of 1 runs")
    assert measured_text(found.claim, found.measured) == "never"
    silent = outcome([run()], claim("first_epoch.a"), epochs=rows([60.0, 2.0]))
    assert "already fires on the untrained network" in not_run(silent)


# ------------------------------------------------------------------------------ never a silent pass


def test_a_shortened_recipe_is_not_run_unless_the_claim_says_so() -> None:
    short = [run(seed=i, training={"epochs": 5}) for i in range(2)]
    reason = not_run(outcome(short, claim()))
    assert reason == "only with training.epochs=5 (claimed for 100)"
    found = outcome(short, claim(recipe="any"))
    assert (found.status, found.notes) == (
        "holds",
        ("measured with training.epochs=5 (claimed for 100)",),
    )
    assert outcome(short, claim(cell={"training.epochs": 5})).status == "holds"
    assert outcome(short, claim(cell={"training.epochs": [5, 7]})).status == "holds"
    both = outcome([*short, *seeds("bench-core/dfa", [0.9])], claim(recipe="any"))
    assert both.measured is not None
    assert (both.measured.value, both.notes) == (0.9, ())  # the file's own recipe goes first


@pytest.mark.parametrize(
    "changes",
    [
        {"stop_after": 5},
        {"learning_rate": 0.1},
        {"batch_size": 64},
        {"stop_when": {"bench-core/scale_growth": None}},
    ],
)
def test_every_part_of_the_recipe_counts(changes: dict[str, Any]) -> None:
    (key,) = changes
    assert f"training.{key}=" in not_run(outcome([run(training=changes)], claim()))


def test_another_network_or_less_data_is_another_recipe() -> None:
    record = run()
    cell = record.cell
    narrow = cell.arch.model_copy(update={"params": {"width": 64, "depth": 4}})
    for changed, text in (
        ({"arch": narrow}, "arch.width=64 (claimed for 256)"),
        ({"data": {"limit": 100}}, "data.limit=100 (claimed without)"),
        (
            {"dataset": cell.dataset.model_copy(update={"name": "bench-core/digits"})},
            "dataset=bench-core/digits",
        ),
    ):
        other = record.model_copy(update={"cell": cell.model_copy(update=changed)})
        assert text in not_run(outcome([other], claim()))


def test_the_first_epochs_may_be_read_from_a_run_that_was_ended_later() -> None:
    """Ended after epoch 5 of the same schedule: earlier figures hold, later ones are unknown."""
    course = rows(GROWTH, G)
    cut = [run(training={"stop_after": 5})]
    found = outcome(cut, claim("scale_growth", epoch=2, value=40, tolerance=0), epochs=course)
    assert (found.status, found.notes) == (
        "holds",
        ("measured with training.stop_after=5 (claimed without)",),
    )
    assert (
        outcome(cut, claim("first_epoch.b", value=4, tolerance=0), epochs=course).status == "holds"
    )
    assert outcome(cut, claim("ever_fires.b", at_least=1), epochs=course).status == "holds"
    for figure in ("first_epoch.c", "ever_fires.c"):
        assert "c had not fired when the run ended, after epoch 5" in not_run(
            outcome(cut, claim(figure), epochs=course)
        )
    assert "training.stop_after=5" in not_run(outcome(cut, claim("scale_growth"), epochs=course))
    other = [run(training={"epochs": 5})]  # another schedule
    assert "training.epochs=5" in not_run(
        outcome(other, claim("scale_growth", epoch=2), epochs=course)
    )
    whole = outcome(
        [*cut, run(seed=123)], claim("scale_growth", epoch=2, value=40, tolerance=0), epochs=course
    )
    assert whole.measured is not None
    assert (whole.measured.n, whole.notes) == (1, ())  # the file's own recipe goes first
    of_seed = claim("scale_growth", epoch=2, value=40, tolerance=0, seed=42)
    short = outcome([*cut, run(seed=123)], of_seed, epochs=course)
    assert (short.status, short.notes) == (  # unless it lacks the seed of the claim
        "holds",
        ("measured with training.stop_after=5 (claimed without)",),
    )
    late = claim("scale_growth", value=40, tolerance=0, seed=42)
    assert "no run of seed 42" in not_run(outcome([*cut, run(seed=7)], late, epochs=course))


def test_threads_and_device_are_no_recipe() -> None:
    assert (
        outcome([run(training={"threads": 8, "deterministic": False})], claim()).status == "holds"
    )


def test_an_axis_is_free_and_must_be_named() -> None:
    records = [run(seed=1, training={"learning_rate": lr}) for lr in (0.1, 0.2)]
    file = {**FILE, "axes": ["training.learning_rate"]}
    assert "2 rows could be meant" in (reason := not_run(outcome(records, claim(), file)))
    assert "training.learning_rate" in reason
    assert outcome(records, claim(cell={"training.learning_rate": 0.2}), file).status == "holds"


def test_options_that_nobody_names_have_their_defaults() -> None:
    records = [
        run(params={"penalty": 1e-2}, accuracy=0.36),
        run(accuracy=0.3),
        run(params={"freeze": "blocks"}, accuracy=0.1),
    ]
    assert value(records, "accuracy") == 0.3
    assert value(records, "accuracy", "dfa[penalty=1e-2]") == 0.36
    under = claim(method=None, cell={"method": "dfa", "method.penalty": 1e-2})
    assert outcome(records, under).measured.value == 0.36  # type: ignore[union-attr]
    assert "no run of this method" in not_run(outcome(records, claim(method="fa")))


def test_runs_that_are_not_done_are_said() -> None:
    found = outcome(audit(), claim(method="ep"))
    assert found.measured is not None
    assert found.measured.n == 2
    assert found.notes == ("ep: 1 of 3 runs not counted (seed 456: the run is diverged)",)
    lost = outcome([run(status="crashed")], claim())
    assert "the run is crashed" in not_run(lost)


def test_what_was_not_measured_is_said() -> None:
    assert "nudging was not measured" in not_run(outcome([run()], claim("nudging")))
    assert "alignment has no part 'deepp'; known: unclamped" in not_run(
        outcome([run()], claim("alignment.deepp"))
    )
    told = not_run(outcome([run()], claim("alignment.unclamped")))
    assert told == "dfa: alignment.unclamped has a list of 4 there: name one, as in [0]"
    assert "its floor has no finished run" in not_run(outcome([run()], claim("margin")))
    assert "d was not measured" in not_run(outcome([run()], claim("fires.d")))
    silent = measured()
    silent["batch_stability"] = silent["batch_stability"].model_copy(
        update={"not_diagnostic": "2 full probe batches"}
    )
    assert "not diagnostic: 2 full" in not_run(
        outcome([run(measurements=silent)], claim("fires.c"))
    )
    assert "no run of seed 7" in not_run(outcome([run()], claim(seed=7)))


def test_a_gamma_at_the_floor_is_never_a_number_alone() -> None:
    more = {"projected_step": Measurement(value=0.004, needs_reference=True)}
    for figure in ("alignment.deep", "projected_step"):
        found = outcome([run(measurements=SICK | more)], claim(figure))
        assert found.status == "holds"
        assert found.notes == ("dfa: not diagnostic: reference at the floor",)


def test_a_gamma_of_an_inference_that_leaves_its_equilibrium_is_never_a_number_alone() -> None:
    left = {"settledness": Measurement(value=None, details={"residual": 1.0})}
    found = outcome([run(measurements=measured() | left)], claim("alignment.deep"))
    reason = "its inference ends further from its equilibrium than it began"
    assert found.notes == (f"dfa: not diagnostic: {reason}",)
    assert outcome([run(measurements=measured() | left)], claim("accuracy")).notes == ()


def test_an_unknown_recipe_is_said() -> None:
    found = outcome([run()], claim(), None)
    assert (found.status, found.notes) == (
        "holds",
        ("the recipe of the suite's file is not known, so it was not compared",),
    )


@pytest.mark.parametrize("trial", range(20))
def test_claims_are_what_a_plain_mean_says(trial: int) -> None:
    draws = random.Random(trial)
    accuracies = [draws.uniform(0.2, 0.6) for _ in range(draws.randint(1, 5))]
    center, tolerance = draws.uniform(0.2, 0.6), draws.uniform(0, 0.2)
    found = outcome(seeds("bench-core/dfa", accuracies), claim(value=center, tolerance=tolerance))
    assert found.status == ("holds" if abs(fmean(accuracies) - center) <= tolerance else "fails")
    assert found.measured is not None
    assert found.measured.n == len(accuracies)


# ----------------------------------------------------------------------------------------- in words


def test_words() -> None:
    found = claim(
        "reference_floor",
        "dfa[penalty=1e-2]",
        divide_by=128,
        epoch=3,
        seed=42,
        cell={"arch.depth": 4},
        minus="fa",
    )
    expected = (
        "reference_floor of dfa less fa, divided by 128 after epoch 3, seed 42 (arch.depth=4)"
    )
    assert claim_text(found, "dfa") == expected
    of_rule = claim("accuracy", "dfa", cell={"method.penalty": 0.1, "arch.depth": 4}, minus="fa")
    expected = "accuracy of dfa[penalty=0.1] (method.penalty=0.1) less fa (arch.depth=4)"
    assert claim_text(of_rule, "dfa[penalty=0.1]") == expected  # fa has the penalty of its row
    assert claim_text(of_rule, "dfa", "fa[eta=2]").endswith("less fa[eta=2] (arch.depth=4)")
    assert expected_text(claim(value=0.306, tolerance=0.016)) == ".306, within .016"
    published = claim(value=0.306, deviation=0.008, tolerance=0.016)
    assert expected_text(published) == ".306 ± .008, within .016"
    assert expected_text(claim("scale_growth", value=4e8, factor=3)) == "4.0e+08, within x3"
    assert expected_text(claim("fires.a", value=1, tolerance=0)) == "1 exactly"
    assert expected_text(claim("first_epoch.a", at_least=8, at_most=11)) == "8 … 11"
    assert expected_text(claim("margin", at_least=2)) == "≥ 2"


def test_a_published_deviation_belongs_to_a_value() -> None:
    with pytest.raises(ValueError, match="has a deviation without a value"):
        claim(at_least=1, deviation=1)


def test_every_format_says_why_a_claim_was_not_run() -> None:
    judged = [
        (
            "s",
            [
                outcome(audit(), claim()),
                outcome(audit(), claim("nudging", note="a note | with a bar")),
            ],
        )
    ]
    table, markdown, text = (
        claims_text(judged, form, 80) for form in ("table", "markdown", "json")
    )  # type: ignore[arg-type]
    assert max(map(len, table.splitlines())) <= 80
    for found in (table, markdown):
        assert "2 claims: 1 holds, 0 fail, 1 not run" in found
    assert "2: dfa: nudging was not measured" in table
    assert "1–2: from s" in table
    assert "a note &#124; with a bar" in markdown
    claims = json.loads(text)["suites"][0]["claims"]
    assert [item["status"] for item in claims] == ["holds", "not run"]
    assert claims[1]["notes"] == ["dfa: nudging was not measured"]
    assert claims_text([("s", [])], "table").startswith("No claims")
    assert (
        claims_text([("s", [])], "latex") == "% No claims: a suite states them under `expect:`.\n"
    )
    (held, not_run) = csv.DictReader(io.StringIO(claims_text(judged, "csv")))
    value, low, high = (float(held[k]) for k in ("measured", "measured_low", "measured_high"))
    assert (held["status"], held["n"], held["figure"]) == ("holds", "3", "accuracy")
    assert low < value < high
    assert len(held["runs"].split()) == 3
    assert (not_run["status"], not_run["measured"], not_run["n"]) == ("not run", "", "0")
    assert not_run["notes"] == "dfa: nudging was not measured; a note | with a bar"
    latex = claims_text(judged, "latex")
    assert latex.startswith("% needs \\usepackage{booktabs,longtable}\n")
    assert "\\caption{s: 2 claims: 1 holds, 0 fail, 1 not run.}" in latex
    assert latex.count(" \\\\\n") == 3  # the head and two claims
    assert "2: dfa: nudging was not measured\\par" in latex
    below = claims_text([("s", [outcome(audit(), claim("alignment", at_least=-1))])], "latex")
    assert "$\\geq$ $-$1" in below


# ------------------------------------------------------------------------------- from suite to page

SUITE = """\
name: s
methods: [dfa]
training: {epochs: 30}
expect:
  - {figure: accuracy, method: "dfa[penalty=1e-2]", value: 0.36, tolerance: 0.01, source: t}
"""


def test_a_claim_keeps_the_recipe_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SUITE)
    short = load_suite(path, ["data.limit=100", "diagnostics=[scale_growth]"], epochs=3)
    assert short.training.epochs == 3
    claimed_for = short.claimed_for
    assert claimed_for == load_suite(path).claimed_for
    assert claimed_for is not None
    assert (claimed_for["included"], claimed_for["thresholds"]) == ([], {})
    (recipe,) = claimed_for["recipes"]
    assert (recipe["training"]["epochs"], recipe["data"]["limit"]) == (30, None)


def test_the_cells_of_the_matrix_precede_those_of_include(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    more = "matrix: {arch.depth: [2, 4]}\ninclude: [{method: dfa, training.epochs: 100}]\n"
    path.write_text(SUITE + more)
    claimed_for = load_suite(path).claimed_for
    assert claimed_for is not None
    assert [(r["arch"]["depth"]) for r in claimed_for["recipes"]] == [2, 4]
    assert [(r["training"]["epochs"]) for r in claimed_for["included"]] == [100]

    def depths(**cell: Any) -> list[int | None]:
        wanted = {key.replace("_", ".", 1): value for key, value in cell.items()}
        return [r["arch"].get("depth") for r in recipes(wanted, claimed_for)[0]]

    assert depths() == [2, 4]
    assert depths(arch_depth=4) == [4]
    assert depths(training_epochs=100) == [None]  # the recipe of `include`
    assert depths(training_epochs=7) == [2, 4]  # of no cell: `cell` changes the file's recipes


RULES = {
    "bench-core/ep": {**CORE, "beta": 0.5, "steps": 20},
    "bench-core/state_bridge": {**CORE, "reduction": "sum"},
    "arch bench-core/resmlp": {"width": 128, "depth": 4, "residual": True, "terminal_norm": True},
    "dataset bench-core/cifar10": {"padding": "mean"},
}


@pytest.mark.parametrize(
    ("method", "part", "changes", "expected"),
    [
        ("dfa", "arch", {"terminal_norm": False}, "arch.terminal_norm=false (claimed for true)"),
        ("dfa", "arch", {"residual": False}, "arch.residual=false (claimed for true)"),
        ("dfa", "arch", {"gain": 2.0}, "arch.gain=2.0 (claimed without)"),
        ("dfa", "dataset", {"padding": "black"}, "dataset.padding=black (claimed for mean)"),
        (
            "ep",
            "method",
            {"beta": 0.01, "steps": 1},
            "method.beta=0.01 (claimed for 0.5), method.steps=1 (claimed for 20)",
        ),
        (
            "state_bridge",
            "method",
            {"reduction": "mean"},
            "method.reduction=mean (claimed for sum)",
        ),
    ],
)
@pytest.mark.parametrize("form", ["file", "older file"])
def test_every_option_of_a_component_counts(
    method: str, part: str, changes: dict[str, Any], expected: str, form: str
) -> None:
    """An option that the file leaves to its default is part of the recipe as well."""
    new = {"recipes": [CELLS], "included": []}
    file = FILE if form == "older file" else new
    record = run(f"bench-core/{method}")
    ref = getattr(record.cell, part)
    cell = record.cell.model_copy(
        update={part: ref.model_copy(update={"params": {**ref.params, **changes}})}
    )
    other = record.model_copy(update={"cell": cell})
    settings = Settings(defaults={**DEFAULTS, **RULES})
    assert outcome([record], claim(method=method), file, settings).status == "holds"
    assert (
        not_run(outcome([other], claim(method=method), file, settings)) == f"only with {expected}"
    )
    named = {f"{part}.{key}": value for key, value in changes.items()}
    assert outcome([other], claim(method=method, cell=named), file, settings).status == "holds"


def test_a_difference_is_taken_to_the_method_of_all_its_options() -> None:
    records = [run("bench-core/dfa"), run("bench-core/ep", params={"beta": 0.01})]
    settings = Settings(defaults={**DEFAULTS, **RULES})
    reason = not_run(outcome(records, claim(minus="ep"), settings=settings))
    assert reason == "no rows of ep under this recipe, only with method.beta=0.01 (claimed for 0.5)"


def test_options_without_a_stored_default_are_named() -> None:
    """Results of an older bench keep the defaults of rules only."""
    found = outcome([run()], claim(), settings=Settings())
    assert found.notes == (
        "not compared, as the results do not keep their defaults: arch.depth, arch.residual",
    )


def test_a_diagnostic_with_other_options_is_not_that_of_the_claim() -> None:
    records = [run(measurements={**measured(), "nudging": Measurement(value=0.5)})]
    file = {"recipes": [CELLS], "included": [], "measured": {"nudging": {"eta": 0.02}}}
    settings = Settings(defaults={**DEFAULTS, "diagnostic bench-core/nudging": {"eta": 0.01}})

    def judged(figure: str, eta: float) -> ClaimResult:
        groups, options = judge_all(records, settings), {"bench-core/nudging": {"eta": eta}}
        wanted = [claim(figure, at_least=0)]
        return judge_claims(wanted, groups, settings, file, lambda record: (), options)[0]

    assert not_run(judged("nudging", 0.5)) == "only with nudging.eta=0.5 (claimed for 0.02)"
    for figure, eta in (("nudging", 0.02), ("accuracy", 0.5), ("fires.a", 0.5)):
        assert judged(figure, eta).status == "holds"


def test_verdicts_by_other_limits_are_not_those_of_the_claim() -> None:
    file = {"recipes": [CELLS], "included": [], "thresholds": {}}
    file["depth_utility"] = Settings().depth_utility.model_dump()
    lax = Settings(thresholds={"scale_growth": 1e4}, defaults=DEFAULTS)
    for figure in ("fires.a", "walked_back", "first_epoch.a"):
        reason = not_run(outcome([run()], claim(figure), file, lax))
        assert reason == "only with threshold.scale_growth=10000.0 (claimed without)"
    for figure in ("scale_growth", "fires.b"):
        assert outcome([run()], claim(figure), file, lax).status == "holds"
    floored = Settings(depth_utility=DepthUtility(floor_value=0.1), defaults=DEFAULTS)
    assert "depth_utility.floor_value=0.1" in not_run(
        outcome([run()], claim("margin"), file, floored)
    )
    assert outcome([run()], claim("fires.a"), file, floored).status == "holds"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "figure: margin.bq",
            "expect[0].figure: unknown margin 'bq'; known: margin, margin.matched, margin.bp",
        ),
        ("figure: fires", "expect[0].figure: needs a diagnostic's letter or name: fires.b"),
        ("figure: accuracy.x", "expect[0].figure: accuracy has no parts"),
        (
            "figure: 'alignment[a]'",
            "must be a figure such as accuracy, fires.b or alignment.unclamped[0], not the text",
        ),
        ("method: 'dfa[penalty]'", "expect[0].method: 'penalty' must have the form key=value"),
        ("value: 92", "expect[0]: accuracy is a fraction: write 0.92 for 92 %"),
        ("method: null", "expect[0]: names no method: add method, or method under cell"),
        ("value: null", "expect[0]: has a tolerance without a value"),
        ("factor: 2", "expect[0]: needs tolerance or factor beside value, and not both"),
        ("at_least: 2", "expect[0]: has a value and a bound"),
        ("figure: margin\n    epoch: 3", "expect[0]: margin has no value after an epoch"),
        (
            "figure: depth_utility\n    epoch: 3",
            "expect[0]: depth_utility has no value after an epoch",
        ),
        (
            "cell: {training.epoch: 3}",
            "expect[0].cell.training.epoch: unknown key; did you mean epochs?",
        ),
        ("cell: {seed: 3}", "expect[0].cell.seed: unknown key"),
    ],
)
def test_faults_are_found_at_their_place(tmp_path: Path, entry: str, expected: str) -> None:
    fields = {"figure": "accuracy", "method": "dfa", "value": "1", "tolerance": "1", "source": "s"}
    key, _, text = entry.partition(": ")
    fields[key] = text
    lines = "".join(f"    {key}: {text}\n" for key, text in fields.items())
    path = tmp_path / "s.yaml"
    path.write_text("name: s\nmethods: [bp]\nexpect:\n  -\n" + lines)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    (line,) = str(caught.value).splitlines()
    assert expected in line
    assert line.startswith(f"{path}:")


def test_figures_are_taken_apart() -> None:
    assert parse_figure("alignment.unclamped[-1]").path == ("unclamped", -1)
    assert parse_figure("dist/own.a.b[0][1]").path == ("a", "b", 0, 1)
    assert parse_figure("first_epoch.b@1024").name == "b@1024"
    for wrong in (
        "first_epoch.a@1024",
        "fires.b@1024",
        "ever_fires",
        "alignment.",
        "alignment..deep",
        "",
    ):
        with pytest.raises(ValueError, match=r"must be|needs"):
            parse_figure(wrong)


def test_the_command(finished: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "tiny")
    path = tmp_path / "tiny" / "suite.json"
    described = json.loads(path.read_text())
    entries = [
        claim("accuracy", at_least=0.0),
        claim("first_epoch.a", at_least=1),
        claim("nudging"),
    ]
    described |= {
        "expect": [*(item.model_dump() for item in entries), {"figure": "?"}],
        "claimed_for": None,
    }
    path.write_text(json.dumps(described))
    (results,), (trouble,) = gather([tmp_path / "tiny"])
    assert len(results.expect) == 3
    assert "1 claims cannot be read" in trouble
    done = CliRunner().invoke(command, ["claims", str(tmp_path), "--format", "json"])
    assert done.exit_code == 0, done.output
    text = done.output[done.output.index("{") :]
    assert [item["status"] for item in json.loads(text)["suites"][0]["claims"]] == [
        "holds",
        "holds",
        "not run",
    ]
    strict = CliRunner().invoke(
        command, ["claims", str(tmp_path), "--strict", "-o", str(tmp_path / "claims.txt")]
    )
    assert strict.exit_code == 1
    assert "3 claims: 2 hold, 0 fail, 1 not run" in (tmp_path / "claims.txt").read_text()


def test_a_claim_of_a_verdict_is_the_verdict_of_the_row() -> None:
    bp = [*seeds(BP, [0.611, 0.615, 0.619]), *frozen(BP, [0.418, 0.419, 0.420])]
    low = [*seeds(DFA, [0.40, 0.401, 0.402]), *frozen(DFA, [0.35, 0.352, 0.352])]
    assert not any(run.judgement.fired for run in judge_all([*bp, *low])[0].rows[1].runs)
    found = outcome([*bp, *low], claim("walked_back", value=1, tolerance=0))  # below bp's floor
    assert found.measured is not None
    assert (found.status, found.measured.value, found.measured.n) == ("holds", 1.0, 3)
    lost = [*low[:2], run(DFA, 456, status="interrupted"), *low[3:]]
    found = outcome(lost, claim("walked_back", value=0, tolerance=0))
    assert "undetermined, interrupted 1/3" in not_run(found)
    one = [run(DFA, 42, 0.4, measurements=SICK)]
    for records in (one, [*one, run(DFA, 123, status="interrupted")]):  # one finished seed
        assert outcome(records, claim("walked_back", value=1, tolerance=0)).status == "holds"


def test_equal_margins_have_the_interval_of_rounding_as_in_the_table() -> None:
    """Counts of 360 images, which the accuracies of bp show: .95 and .91667 alone may be of 60."""
    bp = seeds(BP, [353 / 360, 354 / 360, 355 / 360])
    mine = [*seeds(DFA, [342 / 360] * 3), *frozen(DFA, [330 / 360] * 3)]
    other = [*seeds(FA, [336 / 360] * 3), *frozen(FA, [330 / 360] * 3)]
    (group,) = judge_all([*bp, *mine, *other], Settings(defaults=DEFAULTS))
    (row,) = (row for row in group.rows if row.label == "dfa")
    assert row.margin is not None
    assert row.margin.half_width == pytest.approx(t_critical(3) * 100 / 360 * math.sqrt(2 / 3 / 12))

    def half(records: list[RunRecord], **fields: Any) -> float | None:
        found = outcome(records, claim("margin", **fields)).measured
        assert found is not None
        return None if found.high is None else found.high - found.value

    assert half([*bp, *mine]) == pytest.approx(row.margin.half_width)
    assert half([*bp, *mine], divide_by=100) == pytest.approx(row.margin.half_width / 100)
    of_two = half([*bp, *mine, *other], minus="fa")
    assert of_two == pytest.approx(row.margin.half_width * math.sqrt(2))
    two = [record for record in [*bp, *mine] if record.cell.seed != 456]
    assert half(two) is None  # of two equal margins the table has none either
    accuracy = outcome([*bp, *mine], claim()).measured
    assert accuracy is not None
    assert accuracy.high is not None
    assert accuracy.high - accuracy.value == pytest.approx(
        t_critical(3) / 360 * math.sqrt(1 / 3 / 12)
    )
    alone = outcome(seeds(DFA, [0.7, 0.7], test_samples=1_000), claim()).measured
    assert alone is not None
    assert alone.high is not None  # two equal accuracies, unlike two equal differences
    assert alone.high - 0.7 == pytest.approx(t_critical(2) / 1_000 * math.sqrt(1 / 2 / 12))


def test_a_margin_over_a_given_accuracy_counts_one_rounding() -> None:
    given = Settings(defaults=DEFAULTS, depth_utility=DepthUtility(floor_value=0.5))
    stated: dict[str, Any] = {"test_samples": 1_000}
    bp = [*seeds(BP, [0.90, 0.91, 0.92], **stated), *frozen(BP, [0.40, 0.41, 0.42], **stated)]
    mine = seeds(DFA, [0.7] * 3, **stated)
    (group,) = judge_all([*bp, *mine], given)
    (row,) = (row for row in group.rows if row.label == "dfa")
    assert row.margin is not None
    half = t_critical(3) * 100 / 1_000 * math.sqrt(1 / 3 / 12)
    assert row.margin.half_width == pytest.approx(half)
    file = {**FILE, "depth_utility": given.depth_utility.model_dump()}
    wanted = claim("margin", value=20.0, tolerance=1.0)
    (found,) = judge_claims([wanted], [group], given, file, lambda record: ())
    assert found.measured is not None, found.notes
    assert found.measured.value == pytest.approx(20.0)
    assert found.measured.high is not None
    assert found.measured.high - found.measured.value == pytest.approx(half)


def test_a_margin_counts_the_seeds_that_the_floor_has() -> None:
    records = [*seeds(DFA, [0.40, 0.42, 0.44]), *frozen(DFA, [0.36, 0.39])]
    for figure in ("margin", "margin.matched", "depth_utility"):
        found = outcome(records, claim(figure, at_least=0))
        assert found.measured is not None
        assert (found.measured.value, found.measured.n) == (pytest.approx(3.5), 2)
        assert "its floor has no finished run of this seed" in " ".join(found.notes)
    chance: dict[str, Any] = {"chance": 0.1}
    mute = [*seeds(DFA, [0.40, 0.42, 0.44], **chance), *frozen(DFA, [0.1] * 3, **chance)]
    found = outcome(mute, claim("margin", at_least=0))
    assert "the interval of its floor reaches chance" in " ".join(found.notes)
