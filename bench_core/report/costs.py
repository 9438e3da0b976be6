"""Write the costs of rules as tables, CSV or JSON (`bench cost`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal

from bench_core.analysis.cost import SHARE, Cost, costs, target_of
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.rows import Group
from bench_core.errors import UsageError
from bench_core.report.tables.columns import OPERATIONS
from bench_core.report.tables.data import csv_text, document
from bench_core.report.tables.notes import NOTHING, references
from bench_core.report.text.escape import visible
from bench_core.report.text.layout import no_room, paragraph, tabulated
from bench_core.report.text.numbers import NONE, compact, fraction, optional
from bench_core.report.view import View, view

Format = Literal["table", "csv", "json"]
SCHEMA = "bench-cost/1"
HEADS = [
    "method", "n", "accuracy", "FLOPs / bp", "credit", "kept MB", "bp keeps", "RSS MB", "s/ep",
    "kJ", "s to aim", "TFLOPs to aim", "best",
]  # fmt: skip
UNCERTAIN = 1.5  # times that the seconds of one rule may differ between its seeds
LEAST = ("RSS MB", "bp keeps", "kJ", "credit", "s/ep", "kept MB")  # left out first
LEGEND = {  # heading → what it says
    "n": "n: finished runs (`2 of 3` if some failed); all figures are over finished runs.",
    "FLOPs / bp": f"FLOPs / bp: {OPERATIONS}.",
    "credit": "credit: the share of these operations that is neither forward pass nor update.",
    "kept MB": "kept MB: activations that are kept for backward passes.",
    "bp keeps": "bp keeps: the activations in MB that bp keeps, and that bp keeps with the inputs "
    "of blocks alone, while it computes the blocks again (checkpointing).",
    "RSS MB": "RSS: peak memory of the process, libraries and data included.",
    "s/ep": "s/ep: seconds of the median epoch of training, without measurements. Other work on "
    "the machine makes these and all other seconds longer.",
    "kJ": "kJ: energy of the machine while it trained, with all that ran beside the cell.",
    "s to aim": "s to aim: seconds of training until the accuracy first reaches the aim; a "
    "row has them if all its finished runs reach it.",
    "TFLOPs to aim": "TFLOPs to aim: operations until then, those of a step after the last epoch "
    "times the steps.",
    "best": "best: no other rule of the recipe is as accurate with fewer operations of training; "
    "only rules of which every run has trained to its last epoch are compared.",
}


def costs_text(
    suites: Sequence[SuiteResults], form: Format, target: float | None, width: int | None
) -> str:
    """Return the costs of every recipe.

    target  the accuracy to reach; None: `SHARE` of the mean accuracy of bp in each recipe
    Raises UsageError for a target that is no accuracy.
    """
    views = [view(suite) for suite in suites]
    if form == "table":
        given = target is not None
        blocks = [
            table_of(
                f"{visible(shown.results.name)}: {header}",
                _aim(aim, given, group),
                own,
                width,
                references(group),
            )
            for shown, header, group, aim, own in _by_recipe(views, target)
        ]
        heads = {head for _, used in blocks for head in used}
        legend = [text for head, text in LEGEND.items() if head in heads]
        below = [paragraph(legend, width)] if legend else []
        texts = [*(text for text, _ in blocks), *below] if blocks else [paragraph([NOTHING], width)]
        return "\n\n".join(texts) + "\n"
    rows = records(views, target)
    if form == "json":
        return document({"schema": SCHEMA, "rows": rows})
    return csv_text(_names(), [list(row.values()) for row in rows])


def records(views: Sequence[View], target: float | None = None) -> list[dict[str, Any]]:
    """Return a flat record per rule and recipe; `target` as `costs_text` has it."""
    tables = _by_recipe(views, target)
    return [
        _flat(shown, header, aim, item) for shown, header, _, aim, own in tables for item in own
    ]


def _by_recipe(
    views: Sequence[View], target: float | None
) -> Iterator[tuple[View, str, Group, float | None, list[Cost]]]:
    if target is not None and not 0 < target <= 1:
        raise UsageError(f"target {target:g}: an accuracy is above 0 and at most 1")
    for shown in views:
        for header, group in shown.recipes:
            aim = target_of(group) if target is None else target
            yield shown, header, group, aim, costs(group, shown.epochs, aim)


def _names() -> list[str]:
    place = ["suite", "recipe", "method", "runs", "finished", "accuracy", "target"]
    return place + [field.name for field in fields(Cost) if field.name != "row"]


def _flat(shown: View, header: str, target: float | None, item: Cost) -> dict[str, Any]:
    row = item.row
    accuracy = row.accuracy.mean if row.accuracy else None
    known = [shown.results.name, header, row.label, len(row.runs), len(row.finished), accuracy]
    figures = {f.name: getattr(item, f.name) for f in fields(Cost) if f.name != "row"}
    return dict(zip(_names(), [*known, target, *figures.values()], strict=True))


def _aim(target: float | None, given: bool, group: Group) -> str:
    """Write the aim, and that reaching it shows nothing where one answer for all samples does."""
    if target is None:
        return "no aim: bp has no finished run"
    text = f"aim: accuracy {fraction(target)}" + ("" if given else f" ({SHARE:g} of bp's)")
    chance = max((r.chance for r in group.records if r.chance is not None), default=0.0)
    if target <= chance:
        text += f"; the commonest class alone gives {fraction(chance)}: `--target` sets another aim"
    return text


def table_of(
    header: str, aim: str, rows: Sequence[Cost], width: int | None, machines: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """Return the table of a recipe, without columns for which there is no room, and its heads.

    machines  says on which machines runs of the reference were trained
    """
    if not rows:
        return f"{header}\n\nfloors alone: no rule of this recipe has a run", []
    lines = [_cells(item) for item in rows]
    used = [i for i in range(len(HEADS)) if any(line[i] != NONE for line in lines)]
    left_out: list[str] = []
    for head in (None, *LEAST):
        if head is not None and HEADS.index(head) in used:
            used.remove(HEADS.index(head))
            left_out.append(head)
        heads, cells = [HEADS[i] for i in used], [[line[i] for i in used] for line in lines]
        align = ["left", *["right"] * (len(heads) - 1)]
        table = tabulated(cells, heads, align=align, width=width, narrow=[(0, 20)])
        if width is None or max(map(len, table.splitlines())) <= width:
            break
    remarks = [no_room(left_out)] * bool(left_out)
    if all(item.flops_over_bp is None for item in rows):
        remarks.append(
            "Operations are not counted: bench audit RESULTS --diagnostic step_cost counts them"
        )
    some = [item for item in rows if 0 < item.counted < len(item.row.finished)]
    if some:
        of = ", ".join(
            f"{visible(item.row.label)} in {item.counted} of {len(item.row.finished)}"
            for item in some
        )
        remarks.append(f"Operations were counted in some of the runs only: {of}")
    every = [run.record.evaluate_every for item in rows for run in item.row.finished]
    if (most := max(every, default=1)) > 1:
        remarks.append(
            f"The accuracy was computed after every {most} epochs (evaluate_every): "
            "a rule may have reached the aim in the epochs between"
        )
    spread = max((item.seconds_spread or 1.0 for item in rows), default=1.0)
    if spread > UNCERTAIN:
        remarks.append(
            f"Seconds rank no rules here: between the seeds of one rule they differ by up to "
            f"{spread:.1f} times, from other work on the machine or from unlike machines"
        )
    remarks += machines
    if len({run.record.shipped for item in rows for run in item.row.runs}) > 1:
        remarks.append("Seconds, energy and memory of the reference are those of its machine")
    below = f"\n\n{paragraph(remarks, width)}" if remarks else ""
    return f"{paragraph([header, aim], width)}\n\n{table}{below}", heads


def _cells(item: Cost) -> list[str]:
    row, total, n = item.row, item.flops_per_step, len(item.row.finished)
    share = item.credit / total if total and item.credit is not None else None
    bp = [optional(value, _mega) for value in (item.bp_stored_bytes, item.bp_checkpointed_bytes)]
    reach = f"{item.reached} of {n}"
    some = 0 < item.reached < n
    return [
        visible(row.label),
        f"{n}" if row.complete else f"{n} of {len(row.runs)}",
        NONE if row.accuracy is None else fraction(row.accuracy.mean),
        optional(item.flops_over_bp),
        optional(share, lambda value: f"{100 * value:.0f} %"),
        optional(item.stored_bytes, _mega),
        NONE if bp == [NONE, NONE] else "; ".join(bp),
        optional(item.peak_memory_bytes, _mega),
        optional(item.seconds_per_epoch),
        optional(item.energy_joules, lambda value: compact(value / 1e3)),
        reach if some else optional(item.seconds_to_target),
        optional(item.flops_to_target, lambda value: compact(value / 1e12)),
        "yes" if item.efficient else NONE,
    ]


def _mega(size: float) -> str:
    return compact(size / 1e6)
