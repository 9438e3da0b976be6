"""Write the costs of rules as tables, CSV or JSON (`bench cost`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, Literal

from bench_core.analysis.cost import SHARE, Cost, costs, target_of
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.rows import Group
from bench_core.errors import UsageError
from bench_core.report.tables.columns import OPERATIONS
from bench_core.report.tables.data import csv_text, document
from bench_core.report.tables.notes import NOTHING, references
from bench_core.report.text.escape import markdown_list
from bench_core.report.text.layout import no_room, paragraph
from bench_core.report.text.numbers import NONE, compact, fraction, optional
from bench_core.report.text.sheet import NEEDS, Form, Sheet, written
from bench_core.report.view import View, view

Format = Literal["table", "markdown", "latex", "csv", "json"]
SCHEMA = "bench-cost/1"
UNCERTAIN = 1.5  # times that the seconds of one rule may differ between its seeds


@dataclass(frozen=True)
class Column:
    """A column of the table.

    cell   writes the value of a rule
    says   its line in the legend
    spare  where there is no room, columns are left out in the order of this number; 0: never
    """

    head: str
    cell: Callable[[Cost], str]
    says: str = ""
    spare: int = 0


def _finished(item: Cost) -> str:
    n = len(item.row.finished)
    return f"{n}" if item.row.complete else f"{n} of {len(item.row.runs)}"


def _accuracy(item: Cost) -> str:
    return NONE if item.row.accuracy is None else fraction(item.row.accuracy.mean)


def _share_of_credit(item: Cost) -> str:
    total = item.flops_per_step
    share = item.credit / total if total and item.credit is not None else None
    return optional(share, lambda value: f"{100 * value:.0f} %")


def _bp_keeps(item: Cost) -> str:
    sizes = [optional(value, _mega) for value in (item.bp_stored_bytes, item.bp_checkpointed_bytes)]
    return NONE if sizes == [NONE, NONE] else "; ".join(sizes)


def _to_aim(item: Cost) -> str:
    n = len(item.row.finished)
    if 0 < item.reached < n:
        return f"{item.reached} of {n}"
    return optional(item.seconds_to_target)


def _mega(size: float) -> str:
    return compact(size / 1e6)


COLUMNS = (
    Column("method", lambda item: item.row.label),
    Column(
        "n",
        _finished,
        "n: finished runs (`2 of 3` if some failed); all figures are over finished runs.",
    ),
    Column("accuracy", _accuracy),
    Column("FLOPs / bp", lambda item: optional(item.flops_over_bp), f"FLOPs / bp: {OPERATIONS}."),
    Column(
        "credit",
        _share_of_credit,
        "credit: the share of these operations that is neither forward pass nor update.",
        spare=4,
    ),
    Column(
        "kept MB",
        lambda item: optional(item.stored_bytes, _mega),
        "kept MB: activations that are kept for backward passes.",
        spare=6,
    ),
    Column(
        "bp keeps",
        _bp_keeps,
        "bp keeps: the activations in MB that bp keeps, and that bp keeps with the inputs of "
        "blocks alone, while it computes the blocks again (checkpointing).",
        spare=2,
    ),
    Column(
        "RSS MB",
        lambda item: optional(item.peak_memory_bytes, _mega),
        "RSS: peak memory of the process, libraries and data included.",
        spare=1,
    ),
    Column(
        "s/ep",
        lambda item: optional(item.seconds_per_epoch),
        "s/ep: seconds of the median epoch of training, without measurements. Other work on the "
        "machine makes these and all other seconds longer.",
        spare=5,
    ),
    Column(
        "kJ",
        lambda item: optional(item.energy_joules, lambda value: compact(value / 1e3)),
        "kJ: energy of the machine while it trained, with all that ran beside the cell.",
        spare=3,
    ),
    Column(
        "s to aim",
        _to_aim,
        "s to aim: seconds of training until the accuracy first reaches the aim; a row has them if "
        "all its finished runs reach it.",
    ),
    Column(
        "TFLOPs to aim",
        lambda item: optional(item.flops_to_target, lambda value: compact(value / 1e12)),
        "TFLOPs to aim: operations until then, those of a step after the last epoch times the "
        "steps.",
    ),
    Column(
        "best",
        lambda item: "yes" if item.efficient else NONE,
        "best: no other rule of the recipe is as accurate with fewer operations of training; only "
        "rules of which every run has trained to its last epoch are compared.",
    ),
)


def costs_text(
    suites: Sequence[SuiteResults], form: Format, target: float | None, width: int | None
) -> str:
    """Return the costs of every recipe.

    target  the accuracy to reach; None: `SHARE` of the mean accuracy of bp in each recipe
    Raises UsageError for a target that is no accuracy.
    """
    views = [view(suite) for suite in suites]
    if form in ("table", "markdown", "latex"):
        return _written(views, form, target, width)
    rows = records(views, target)
    if form == "json":
        return document({"schema": SCHEMA, "rows": rows})
    return csv_text(_names(), [list(row.values()) for row in rows])


def _written(views: Sequence[View], form: Form, target: float | None, width: int | None) -> str:
    given = target is not None
    sheets = [
        sheet_of(
            f"{shown.results.name}: {header}", _aim(aim, given, group), own,
            width if form == "table" else None, references(group),
        )
        for shown, header, group, aim, own in _by_recipe(views, target)
    ]  # fmt: skip
    if form == "latex":  # what stands below a table goes with it into a paper
        sheets = [replace(sheet, below=[*sheet.below, *_legend([sheet])]) for sheet in sheets]
        tables = [written(sheet, form) for sheet in sheets]
        return "\n\n".join([NEEDS, *tables] if tables else [f"% {NOTHING}"]) + "\n"
    blocks = [written(sheet, form, width) for sheet in sheets]
    if legend := _legend(sheets) if sheets else [NOTHING]:
        blocks.append(paragraph(legend, width) if form == "table" else markdown_list(legend))
    return "\n\n".join(blocks) + "\n"


def _legend(sheets: Sequence[Sheet]) -> list[str]:
    heads = {head for sheet in sheets for head in sheet.heads}
    return [column.says for column in COLUMNS if column.head in heads and column.says]


def records(views: Sequence[View], target: float | None = None) -> list[dict[str, Any]]:
    """Return a flat record per rule and recipe; `target` as `costs_text` has it."""
    tables = _by_recipe(views, target)
    return [
        _flat(shown, header, aim, item) for shown, header, _, aim, own in tables for item in own
    ]


def _by_recipe(
    views: Sequence[View], target: float | None
) -> Iterator[tuple[View, str, Group, float | None, list[Cost]]]:
    if target is not None and not (isinstance(target, Real) and 0 < target <= 1):
        raise UsageError(f"target {target}: an accuracy is a number above 0 and at most 1")
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


def sheet_of(
    header: str, aim: str, rows: Sequence[Cost], width: int | None, machines: Sequence[str] = ()
) -> Sheet:
    """Return the table of a recipe, without columns for which there is no room.

    machines  says on which machines runs of the reference were trained
    """
    if not rows:
        return Sheet([header], [], [], ["floors alone: no rule of this recipe has a run"])
    used = [column for column in COLUMNS if any(column.cell(item) != NONE for item in rows)]
    spare = sorted((column for column in used if column.spare), key=lambda column: column.spare)
    for left_out in range(len(spare) + 1):
        shown = [column for column in used if column not in spare[:left_out]]
        heads = [column.head for column in shown]
        cells = [[column.cell(item) for column in shown] for item in rows]
        sheet = Sheet([header, aim], heads, cells, least=20)
        if width is None or sheet.fits(width):
            break
    remarks = [no_room([column.head for column in spare[:left_out]])] * bool(left_out)
    if all(item.flops_over_bp is None for item in rows):
        remarks.append(
            "Operations are not counted: bench audit RESULTS --diagnostic step_cost counts them"
        )
    some = [item for item in rows if 0 < item.counted < len(item.row.finished)]
    if some:
        of = ", ".join(
            f"{item.row.label} in {item.counted} of {len(item.row.finished)}" for item in some
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
    return replace(sheet, below=remarks)
