"""Costs of rules: counts against sums by hand, figures of a table, and the command."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_plugins.diagnostics.step_cost import StepCost
from conftest import Finished, Here
from nets import LinearNet, arch, ready, resmlp, rule, toy_data
from records import measured, run, seeds

from bench_core.analysis.cost import cost, costs, target_of
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.api import Measured
from bench_core.execution import energy
from bench_core.report.costs import costs_text, sheet_of
from bench_core.report.text.sheet import written
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord
from bench_core.training.audit import Audit

N, X, D, L, C = 32, 12, 16, 3, 5  # batch, inputs, width, blocks, classes of the toy network


def cost_of(name: str, **params: object) -> Measured:
    data = toy_data(n=64, features=X, classes=C, test=128)
    method, net = ready(rule(name, **params), resmlp(), data)
    return StepCost(StepCost.Params()).measure(Audit(net, method, data, 0, 0))


def test_operations_are_those_of_the_products_by_hand() -> None:
    """2nkm for a product; each weight has one forward product and one or two backward ones."""
    forward = 2 * N * (X * D + L * 2 * D * D + D * C)
    update = 2 * N * (X * D + L * 4 * D * D + 2 * D * C)  # the embedding's input has no gradient
    bp = cost_of("bp")
    assert bp.value == 1
    assert [bp.details[key] for key in ("forward", "credit", "update")] == [forward, 0, update]
    dfa = cost_of("dfa")
    feedback = 2 * N * C * D * L  # e·B_l for the three sites
    assert [dfa.details[key] for key in ("forward", "credit", "update")] == [
        forward, feedback, update
    ]  # fmt: skip
    assert dfa.value == pytest.approx((forward + feedback + update) / (forward + update))


def test_the_products_inside_attention_count() -> None:
    """Q·Kᵀ and the weighted sum of V take 2·S²·d each, of S tokens with the CLS token."""
    width, depth, patch, side = 16, 3, 2, 4
    data = toy_data(n=64, features=3 * side**2, classes=C, test=128)
    shape = (3, side, side)
    images = replace(
        data, train_x=data.train_x.view(-1, *shape), test_x=data.test_x.view(-1, *shape)
    )
    net = arch("vit_mini", shape, width=width, depth=depth, heads=2, patch=patch)
    method, net = ready(rule("bp"), net, images)
    found = StepCost(StepCost.Params()).measure(Audit(net, method, images, 0, 0)).details
    tokens = (side // patch) ** 2
    linear = (tokens + 1) * (3 + 1 + 2 * 2) * width**2  # qkv, output, MLP of ratio 2
    attention = 2 * (tokens + 1) ** 2 * width
    ends = tokens * 3 * patch**2 * width + width * C
    assert found["forward"] == 2 * N * (depth * (linear + attention) + ends)


def test_frozen_blocks_cost_no_gradient_of_their_weights() -> None:
    frozen = cost_of("dfa", freeze="blocks").details
    assert frozen["update"] == 2 * N * (X * D + 2 * D * C)


def test_relaxations_count_as_credit() -> None:
    one, two = (cost_of("ep", steps=steps).details for steps in (4, 8))
    assert one["forward"] == two["forward"]
    assert one["update"] == two["update"]
    assert two["credit"] > 1.8 * one["credit"] > 0


def test_further_passes_count_as_credit() -> None:
    """pepita's second pass goes through embedding and blocks, and not through the readout."""
    one, two = cost_of("dfa").details, cost_of("pepita").details
    assert two["forward"] == one["forward"]
    assert two["credit"] >= 2 * N * (X * D + L * 2 * D * D)


def test_stored_activations_of_a_linear_network_are_the_inputs_of_its_layers() -> None:
    data = toy_data(n=64, features=X, classes=C, test=128)
    torch.manual_seed(0)
    method, net = ready(rule("bp"), LinearNet(D, L, X, C), data)
    details = StepCost(StepCost.Params()).measure(Audit(net, method, data, 0, 0)).details
    states = 4 * N * D * (L + 1)  # h_0 … h_L; x exists anyway
    of_the_loss = details["bp_stored_bytes"] - states
    assert 0 <= of_the_loss <= 4 * N * C + 8 * N + 64  # log-probabilities and labels
    # a linear block, and the readout, keep their inputs alone
    assert details["bp_checkpointed_bytes"] == states


def test_a_step_of_several_networks_counts_them_all() -> None:
    assert cost_of("credit_bridge").details["credit"] > cost_of("dfa").details["credit"]


def counted(total: int, value: float) -> dict[str, Measurement]:
    details = {"forward": total, "credit": 0, "update": 0, "n": 32, "steps_per_epoch": 10}
    return measured() | {"step_cost": Measurement(value=value, details=details)}


def group_of(*records: RunRecord) -> Any:
    (group,) = judge_all(records)
    return group


def test_cost_to_a_target_and_the_efficient_rules() -> None:
    batch = {"training": {"batch_size": 64}}
    bp = [
        run("bench-core/bp", seed, 0.6, measurements=counted(100, 1.0), **batch) for seed in (1, 2)
    ]
    dear = [run("bench-core/ep", 1, 0.5, measurements=counted(800, 8.0), **batch)]
    cheap = [run("bench-core/dfa", 1, 0.4, measurements=counted(90, 0.9), **batch)]
    group = group_of(*bp, *dear, *cheap)
    assert target_of(group) == pytest.approx(0.54)

    def curve(record: RunRecord) -> Sequence[Epoch]:
        fast = record.cell.seed == 2
        values = (0.1, 0.3, None, 0.54) if fast else (0.1, 0.2, 0.3, 0.4, 0.55, 0.3)
        if record.cell.method.short != "bp":
            values = (0.1, 0.3)
        rows = enumerate(values)
        return [
            Epoch(epoch=i, learning_rate=0.1, accuracy=a, seconds=2.0 * bool(i)) for i, a in rows
        ]

    found = {item.row.method.short: item for item in costs(group, curve, target_of(group))}
    of_bp = found["bp"]
    assert of_bp.reached == 2
    assert of_bp.seconds_to_target == pytest.approx((6.0 + 8.0) / 2)
    per_epoch = 100 * 10 * 64 / 32  # ten steps of 64, counted on 32
    assert of_bp.flops_to_target == pytest.approx(per_epoch * (3 + 4) / 2)
    assert of_bp.training_flops == pytest.approx(per_epoch * 100)
    assert found["ep"].reached == 0
    assert found["ep"].seconds_to_target is None
    efficient = {name: item.efficient for name, item in found.items()}
    assert efficient == {"bp": True, "ep": False, "dfa": True}  # dfa is the cheapest
    alike = group_of(*bp, run("bench-core/dfa", 1, 0.5, measurements=counted(100, 1.0), **batch))
    found = {item.row.method.short: item for item in costs(alike, curve, target_of(alike))}
    assert found["bp"].training_flops == found["dfa"].training_flops
    assert (found["bp"].efficient, found["dfa"].efficient) == (True, False)


def test_one_seed_that_misses_the_target_leaves_none() -> None:
    bp = [run("bench-core/bp", seed, 0.6, measurements=counted(1, 1.0)) for seed in (1, 2)]

    def curve(record: RunRecord) -> Sequence[Epoch]:
        last = 0.9 if record.cell.seed == 1 else 0.2
        return [Epoch(epoch=0, learning_rate=0.1, accuracy=last)]

    (item,) = costs(group_of(*bp), curve, 0.5)
    assert (item.reached, item.seconds_to_target) == (1, None)


def test_a_rule_with_failed_runs_is_counted_and_not_the_best() -> None:
    batch = {"training": {"batch_size": 64}}
    bp = [
        run("bench-core/bp", seed, 0.6, measurements=counted(100, 1.0), **batch) for seed in (1, 2)
    ]
    lucky = [run("bench-core/ep", 1, 0.7, measurements=counted(90, 0.9), **batch)]
    lucky += [run("bench-core/ep", 2, status="diverged", reason="loss", **batch)]
    found = costs(group_of(*bp, *lucky), lambda record: (), None)
    assert {item.row.label: item.efficient for item in found} == {"ep": False, "bp": True}
    lines = written(sheet_of("h", "aim", found, None), "table").splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("ep")] == [["ep", "1", "of", "2"]]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_the_cost_of_a_row_does_not_depend_on_the_order_of_its_runs(order: tuple[int, ...]) -> None:
    """NaN in a sorted list made the median that of the order."""
    joules = [math.nan, 7.0, 9.0]
    records = [run("bench-core/dfa", seed=i, energy_joules=joules[i]) for i in range(3)]
    (row,) = group_of(*(records[i] for i in order)).rows
    assert cost(row, lambda record: [], None).energy_joules == 9.0


def test_one_slow_epoch_does_not_count() -> None:
    """Times 2, 3 and 95 s: the mean that the record has is 33. The untrained network takes none."""
    record = run("bench-core/bp", 1, seconds_per_epoch=33.0)
    rows = [Epoch(epoch=k, learning_rate=0.1, seconds=s) for k, s in enumerate((0, 2, 95, 3))]
    (item,) = costs(group_of(record), lambda record: rows, None)
    (unread,) = costs(group_of(record), lambda record: (), None)
    assert (item.seconds_per_epoch, unread.seconds_per_epoch) == (3, 33)


def test_seconds_that_scatter_between_seeds_are_said_to_rank_no_rules() -> None:
    def table(*seconds: float) -> str:
        runs = [run("bench-core/bp", n, seconds_per_epoch=s) for n, s in enumerate(seconds)]
        found = costs(group_of(*runs), lambda record: (), None)
        return written(sheet_of("h", "aim", found, None), "table")

    said = (
        "Seconds rank no rules here: between the seeds of one rule they differ by up to 2.0 times"
    )
    assert said in table(5.0, 10.0, 8.0)
    assert "rank no rules" not in table(5.0, 7.4)
    assert "rank no rules" not in table(5.0)


def test_a_step_without_one_of_its_parts_is_not_cheap() -> None:
    part = {"step_cost": Measurement(value=1.0, details={"forward": 1, "n": 1})}
    (item,) = costs(group_of(run("bench-core/bp", 1, measurements=part)), lambda record: (), None)
    assert (item.flops_per_step, item.training_flops, item.efficient) == (None, None, False)


def test_runs_without_counted_operations_have_no_cost() -> None:
    (item,) = costs(group_of(run("bench-core/bp", 1)), lambda record: (), None)
    assert item.flops_over_bp is item.training_flops is item.seconds_to_target is None
    assert not item.efficient


def test_operations_that_were_counted_in_some_runs_only_are_said_to_be() -> None:
    def text(*measurements: dict[str, Measurement]) -> str:
        runs = [run("bench-core/bp", k, measurements=item) for k, item in enumerate(measurements)]
        found = costs(group_of(*runs), lambda record: (), None)
        assert [item.counted for item in found] == [sum(map(bool, measurements))]
        return " ".join(written(sheet_of("h", "aim", found, None), "table").split())

    known = counted(100, 1.0)
    assert "counted in some of the runs only: bp in 2 of 3" in text(known, {}, known)
    assert "in some" not in text(known, known) + text({}, {})


def test_columns_without_room_are_named() -> None:
    group = group_of(run("bench-core/bp", 1, 0.6, measurements=counted(100, 1.0)))
    found = costs(group, lambda record: (), None)
    sheet = sheet_of("h", "aim", found, 50)
    text = written(sheet, "table", 50)
    assert max(map(len, text.splitlines())) <= 50
    assert 'No room at this width for the column "RSS MB":' in text
    assert "RSS MB" not in sheet.heads
    assert "No room" not in written(sheet_of("h", "aim", found, None), "table")


def test_costs_for_a_paper_have_every_column_and_what_their_numbers_need() -> None:
    records = (run("bench-core/bp", 1, 0.6, measurements=counted(100, 1.0)),)
    found = SuiteResults("s", Settings(), records, 0)
    latex = costs_text([found], "latex", None, 40)
    assert latex.startswith("% needs")
    assert r"bp & 1 & .600 & 1 & " in latex
    assert r"FLOPs / bp: operations of products and convolutions in a step" in latex
    assert latex.index("RSS: peak memory") < latex.index(r"\end{table}")
    markdown = costs_text([found], "markdown", None, 40)
    heads = next(line for line in markdown.splitlines() if line.startswith("|"))
    assert {"method", "FLOPs / bp", "RSS MB"} <= {cell.strip() for cell in heads.split("|")}
    assert "- RSS: peak memory" in markdown


def test_the_machines_of_the_reference_are_named(tmp_path: Path) -> None:
    shipped = run("bench-core/bp", 1, environment={"reference": 1, "device_name": "AMD EPYC"})
    shipped = shipped.model_copy(update={"original": {"run.json": "of another machine"}})

    def text(*records: RunRecord) -> str:
        results = SuiteResults("s", Settings(), records, 0, tmp_path)
        return " ".join(costs_text([results], "table", None, None).split())

    told = text(shipped, run("bench-core/bp", 2))
    assert ": 1 on AMD EPYC (bp)" in told
    assert "Seconds, energy and memory of the reference are those of its machine" in told
    assert "reference" not in text(run("bench-core/bp", 2))


def test_a_recipe_of_floors_alone_is_said() -> None:
    text = written(sheet_of("lq_toy: linear_lq", "no aim", [], 100), "table", 100)
    assert text == "lq_toy: linear_lq\n\nfloors alone: no rule of this recipe has a run"


def test_a_sparse_curve_says_that_the_aim_may_have_been_reached_before() -> None:
    def text(every: int) -> str:
        group = group_of(run("bench-core/bp", 1, evaluate_every=every))
        found = costs(group, lambda record: (), None)
        return written(sheet_of("h", "aim", found, None), "table")

    assert "after every 3 epochs" in " ".join(text(3).split())
    assert "evaluate_every" not in text(1)


def test_the_command(finished: Finished, here: Here) -> None:
    table = here("cost", finished.results)
    assert table.returncode == 0, table.stderr
    assert "aim: accuracy" in table.stdout
    assert "(0.9 of bp's)" in table.stdout
    assert "of bp's)" not in here("cost", finished.results, "--target", 0.5).stdout
    assert "Operations are not counted: bench audit RESULTS" in table.stdout
    legend = [line.partition(":")[0] for line in table.stdout.rpartition("\n\n")[2].splitlines()]
    assert "RSS" in legend  # a line for each column that is there, and for no other
    assert not {"kJ", "FLOPs / bp", "TFLOPs to aim", "best"} & set(legend)
    assert costs_text([], "table", None, None) == "No runs yet: nothing to show.\n"
    rows = json.loads(here("cost", finished.results, "--format", "json").stdout)["rows"]
    text = here("cost", finished.results, "--format", "csv").stdout
    assert [row["method"] for row in csv.DictReader(io.StringIO(text))] == [
        row["method"] for row in rows
    ]
    assert all(row["seconds_per_epoch"] > 0 for row in rows)
    wrong = here("cost", finished.results, "--target", "2")
    assert wrong.returncode != 0
    assert "an accuracy is a number above 0 and at most 1" in wrong.stderr


def zone(root: Path, name: str, joules: float, wraps: float = 100.0) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{round(wraps * 1e6)}\n")
    return folder / "energy_uj"


def test_a_meter_adds_the_packages_and_counts_on_when_a_counter_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = zone(tmp_path, "intel-rapl:0", 5.0), zone(tmp_path, "intel-rapl:1", 90.0)
    part = zone(tmp_path, "intel-rapl:0:0", 1.0)  # of package 0, which counts it already
    (tmp_path / "intel-rapl:2").mkdir()  # of another driver: no counter
    monkeypatch.setattr(energy, "packages", partial(energy.packages, tmp_path))
    meter = energy.Meter("cpu")
    meter.stop()  # nothing has begun
    meter.start()
    for file, joules in ((one, 7.0), (two, 15.0), (part, 50.0)):
        file.write_text(f"{round(joules * 1e6)}\n")
    meter.stop()
    assert meter.joules == pytest.approx(2.0 + 25.0)
    one.write_text("60000000\n")  # between the intervals
    meter.start()
    one.write_text("61000000\n")
    meter.stop()
    assert meter.joules == pytest.approx(28.0)


def test_a_counter_that_fails_later_costs_the_figure_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zone(tmp_path, "intel-rapl:0", 5.0)
    monkeypatch.setattr(energy, "packages", partial(energy.packages, tmp_path))
    meter = energy.Meter("cpu")
    meter.start()
    file.unlink()
    meter.stop()
    meter.start()
    meter.stop()
    assert meter.joules is None


def test_a_machine_without_counters_has_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "packages", partial(energy.packages, tmp_path / "absent"))
    meter = energy.Meter("cuda")
    meter.start()
    meter.stop()
    assert meter.joules is None


def test_an_aim_that_the_commonest_class_reaches_says_so() -> None:
    def told(chance: float) -> str:
        records = (run("bench-core/bp", seed, 0.5) for seed in (1, 2))
        done = [record.model_copy(update={"chance": chance}) for record in records]
        results = SuiteResults("s", Settings(), tuple(done), 0)
        return " ".join(costs_text([results], "table", None, None).split())

    assert "aim: accuracy .450 (0.9 of bp's); the commonest class alone gives .489: " in told(0.489)
    assert "commonest" not in told(0.1)


def test_a_training_that_was_cut_short_is_not_called_efficient() -> None:
    """It costs less because it is shorter."""
    batch = {"training": {"batch_size": 64}, "measurements": counted(100, 1.0)}
    bp = seeds("bench-core/bp", [0.6, 0.61], epochs=12, **batch)
    for stopped in (None, "scale_growth"):
        dfa = seeds("bench-core/dfa", [0.5, 0.51], epochs=5, stopped_by=stopped, **batch)
        items = costs(group_of(*bp, *dfa), lambda record: (), None)
        found = {item.row.label: item.efficient for item in items}
        assert found == {"bp": True, "dfa": stopped is None}
