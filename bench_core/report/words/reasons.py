"""Write in words why a row has its verdict; the text is raw, and each format escapes it."""

from __future__ import annotations

from collections import defaultdict

from bench_core.analysis.stats import Estimate, median_of
from bench_core.analysis.verdicts.floors import is_finished
from bench_core.analysis.verdicts.kinds import NOT_SEPARATED, SINGLE_SEED, UNDETERMINED
from bench_core.analysis.verdicts.rows import RESET, SCALE, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import BEATS, CANNOT_JUDGE, UNTRIED, UNTRIED_BELOW
from bench_core.report.text.layout import joined, listed
from bench_core.report.text.numbers import apart, decimals, signed, unsigned, with_interval
from bench_core.report.words.criteria import Criterion, criteria
from bench_core.report.words.rows import (
    BP_FLOOR,
    aimless,
    chance,
    cost_of_reset,
    lacks_seeds,
    over_rescaled,
    random_blocks,
    read_floor,
)
from bench_core.results.details import finite
from bench_core.suite.protocol import LETTERS

MOST_LOST = 3  # ways not to end that are named


def of_row(row: Row, settings: Settings) -> list[str]:
    """Return the reasons for the verdict of a row, and its unfinished runs; a phrase for each."""
    return [*why(row, settings), *_undecided(row, settings), *lost(row)]


def why(row: Row, settings: Settings) -> list[str]:
    """Write why a row is walked back or flagged, a phrase for each reason.

    A phrase has the median over the runs in which the diagnostic fired, for d the margin.
    """
    residual = row.runs[0].record.cell.arch.params.get("residual") is True
    words = {
        "floor": random_blocks(row),
        "state": "residual stream" if residual else "hidden state",
    }
    lines = []
    done = [run for run in row.runs if run.record.status == "done"]
    for letter in row.verdict.letters:
        runs = [run for run in done if letter in run.deciding]
        criterion = Criterion(letter, *runs[0].deciding[letter])
        limit = criterion.limit(settings.thresholds) or 0.0
        if criterion.margin and row.margin is None:
            continue  # the accuracy is not finite, which stands below
        if criterion.margin and row.margin is not None:
            lines.append(criterion.of_margin(row.margin, limit, **words))
            continue
        fired = [run.deciding[letter][1].value for run in runs if letter in run.judgement.fired]
        known = [value for value in map(finite, fired) if value is not None]
        for value, n in ((median_of(known), len(known)), (None, len(fired) - len(known))):
            text = criterion.sentence(value, limit, **words)
            count = f" in {n} of {len(row.runs)} runs" * (n < len(row.runs))
            lines += [text + count] * (n > 0)
    if broken := len(done) - len(row.finished):
        lines.append(f"accuracy is not finite in {broken} of {len(row.runs)} runs")
    if row.verdict.still:
        lines.append("no weight of its blocks has changed in training")
    if row.verdict.below_bp and row.margin_bp is not None:
        lines.append(f"{unsigned(row.margin_bp)} points below {BP_FLOOR}")
    return lines


def _undecided(row: Row, settings: Settings) -> list[str]:
    """Write what is missing for a verdict."""
    kind = row.verdict.kind
    if row.role == "floor":
        return []
    lines = [row.floor.reason] if row.finished and row.floor.mean is None else []
    if kind == NOT_SEPARATED:
        over, floor = row.read, read_floor(row)
        limit = next(c.limit(settings.thresholds) for c in criteria([row]) if c.margin)
        if row.reset is not None and row.held == RESET:
            return [f"{cost_of_reset(row.reset)}; {BEATS:g} or more are needed"]
        if row.held == SCALE:
            need = f"{limit:+g} or more are needed, with an interval above 0"
            return [f"{over_rescaled(row)}; {need}"]
        need = f"a margin of {limit:+g} or more is needed, with an interval above 0"
        points = f"{_unlike(over, limit)} points over {floor}"
        if over is not None and over.mean < 0:
            points = f"{unsigned(over)} points below {floor}"
        replaced = f", which is read because the interval of its own floor reaches {chance(row)}"
        return [f"{points}{replaced * row.replaced}; {need}"]
    if kind not in (UNDETERMINED, SINGLE_SEED):
        return lines
    if row.verdict.unsure in (UNTRIED, UNTRIED_BELOW):
        why = f"{aimless(row)}, and random blocks of another scale may beat its floor as well"
        if row.verdict.unsure == UNTRIED_BELOW:
            why = (
                "it does not clearly beat backpropagation with random blocks of another scale, and "
                "was not compared with its own of such a scale"
            )
        remedy = ": `--set floor_scales=[10,100]` of `bench run` trains these"
        lines.append(f"{why}{remedy * (row.tuned is None)}")
    silent = {reason for run in row.finished for _, reason in run.judgement.not_diagnostic}
    if CANNOT_JUDGE in silent:
        lines.append("whether its blocks train cannot be judged by this recipe")
    if row.replaced and kind == UNDETERMINED and row.verdict.unread:
        too = "does too" if row.over_bp is not None else "was not run"
        lines.append(f"the interval of its floor reaches {chance(row)}, and {BP_FLOOR} {too}")
        if row.over_bp is not None:
            remedy = "more seeds, " * lacks_seeds(row) + "more epochs, or classes of like size"
            lines.append(f"blocks are judged where random ones do better than chance: {remedy}")
    missing = {letter for run in row.finished for letter in run.judgement.missing}
    names = LETTERS | {item.letter: item.short for item in criteria([row])}
    margins = {item.letter for item in criteria([row]) if item.margin}
    if lacking := [names.get(letter, letter) for letter in sorted(missing - margins)]:
        own = any(not run.record.original for run in row.finished)  # others have no weights
        remedy = " (`bench audit FOLDER --diagnostic NAME` measures it on finished runs)"
        lines.append(f"{joined(lacking)} not measured{remedy * own}")
    return lines


def _unlike(over: Estimate | None, limit: float | None) -> str:
    """Write a margin with so many digits that its mean is not written as the limit."""
    if over is None or limit is None:
        return with_interval(over)
    interval = "" if over.half_width is None else f" ± {decimals(over.half_width, 1)}"
    return apart(over.mean, limit, signed, 1) + interval


def lost(row: Row) -> list[str]:
    """Write how many runs are not done, with the reasons; seeds with one reason stand together."""
    broken = [run.record for run in row.runs if not is_finished(run.record)]
    if not broken:
        return []
    alike: dict[str, list[int]] = defaultdict(list)
    for record in broken:
        status = record.status if record.status != "done" else "without a usable accuracy"
        reason = f": {record.reason}" if record.reason else ""
        alike[f"{status}{reason}"].append(record.cell.seed)
    failures = [
        f"seed{'s' * (len(seeds) > 1)} {listed(map(str, seeds))} {what}"
        for what, seeds in [*alike.items()][:MOST_LOST]
    ]
    if more := sum(map(len, [*alike.values()][MOST_LOST:])):
        failures.append(f"and {more} more")
    return [f"{len(broken)} of {len(row.runs)} runs not done ({'; '.join(failures)})"]
