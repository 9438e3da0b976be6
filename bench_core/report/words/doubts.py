"""List the facts that could have changed a verdict; every format shows them.

These are thresholds unlike the protocol's, options whose defaults no run records, measurements made
after the run, an accuracy above that of bp (the rule may have seen the test set), a search on more
trials than a peer's or on the test set, another optimiser than the recipe's, a margin that is equal
in all seeds, a training that a diagnostic ended before those beside it, a gradient that is small
because the data are fitted, two rules that trained the same networks, a network that a rule changed
before its training, and runs by older code.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from bench_core.analysis.accuracies import SAME
from bench_core.analysis.verdicts.ceilings import above_ceiling, local_ceiling, over
from bench_core.analysis.verdicts.judge import Settings, option
from bench_core.analysis.verdicts.recipes import unlike_steps
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.analysis.verdicts.untrained import agree, untrained
from bench_core.printable import few
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import compact, part, plural, with_interval
from bench_core.report.words.criteria import criteria_of
from bench_core.report.words.rows import gamma, information
from bench_core.report.words.summary import rules
from bench_core.results.hashing import canonical, plain_text
from bench_core.suite.cells import CORE_DEFAULTS
from bench_core.suite.names import CEILING, LOCAL_CEILING
from bench_core.suite.protocol import THRESHOLDS

AGAINST = "d is judged against"
FITTED = 0.01  # training loss below which the gradient is small because the data are fitted
EXACT = 0.99  # Γ deep of a credit that is the gradient
MOST_SAID = 5  # lines about a row or a table: anybody can invent users


def below_local_ceiling(group: Group) -> list[str]:
    """Write how each rule with local heads compares with backpropagation with the same heads."""
    pairs = [(row, local_ceiling(row, group.rows)) for row in group.rows]
    texts = [
        f"{row.label} {with_interval(points)} pp"
        for row, ceiling in pairs
        if ceiling is not None and (points := over(row, ceiling)) is not None
    ]
    return [f"Over bp_local_heads, backpropagation with local heads: {listed(texts)}"] * bool(texts)


def tuning(row: Row, rows: Iterable[Row]) -> list[str]:
    """Say that a row was tuned on more trials than a peer, on the test set, or more than once."""
    if row.tuned is None or row.trials is None:
        return []
    least = min((peer.trials or 0 for peer in rules(rows)), default=row.trials)
    fewest = least or "none"
    lines = [f"was tuned on {row.trials} trials, a peer on {fewest}: more trials flatter a row"]
    lines *= row.trials > least
    if row.tuned.scored_on == "test":
        lines.append("was tuned on the test set, which flatters its accuracy")
    if others := len({*row.tuned.earlier} - {*row.tuned.cells}):
        lines.append(
            f"was searched more than once: {plural(others, 'cell')} of earlier winners do not "
            "count, and their accuracies on the test set were known before the last search"
        )
    return lines


def undeclared(row: Row) -> list[str]:
    """Say that a rule audits the gradient and declares nothing by which it could know it."""
    deep, used = gamma(row), information(row.runs)
    ways = {
        "exact_hidden_gradients",
        "weight_transport",
        "learned_feedback",
        "extra_forward_passes",
        "exact_top_credit",
    }
    alike = deep.estimate is not None and deep.estimate.mean >= EXACT
    if row.role == "floor" or used is None or used & ways or not alike:
        return []
    return [
        f"its credit is the gradient (Γ deep of {EXACT} or more), and it declares no way to know "
        "it: does it pass `bench check`?"
    ]


def idle(row: Row) -> list[str]:
    """Say that no block's trained weights make a difference, where block_utility was measured."""
    every = [run.record.measurements.get("block_utility") for run in row.finished]
    lost = [item.details.get("initial") for item in every if item is not None]
    known = lost and all(isinstance(each, list) and each for each in lost)
    if row.role == "floor" or not known or any(map(any, filter(None, lost))):
        return []
    text = "the accuracy on the probe stays the same when a block gets its initial weights "
    return [text + "(block_utility): do its blocks learn at all?"]


def tied(row: Row) -> list[str]:
    """Say that a margin is equal in all seeds, so that its interval is that of rounding."""
    if row.role == "floor":
        return []
    own = row.over_matched
    if own is not None and own.tied and abs(own.estimate.mean) < 100 * SAME:
        return ["its accuracy is that of its own floor in every seed: do its blocks learn at all?"]
    equal = [over for over in (row.over_floor, row.over_bp) if over is not None and over.tied]
    if any(over.estimate.half_width is None for over in equal):
        return ["a margin over a floor is the same in both seeds, so it has no interval"]
    text = "a margin over a floor is equal in all seeds; its interval is that of the rounding of "
    return [f"{text}accuracies to a test sample"] * bool(equal)


def other_recipe(row: Row) -> list[str]:
    """Say that a rule changes weights by other means than the recipe's step, or by more steps."""
    steps = unlike_steps(run.record for run in row.finished)
    if row.role == "floor" or steps is None:
        return []
    if not steps:
        return [
            "changes weights by other means than the recipe's optimiser (`tools.updater`): a "
            "margin over bp, or over its random blocks, may be that of the optimiser"
        ]
    more = f"takes {compact(steps)} steps of the optimiser in a batch, bp one"
    return [f"{more}: it trains for longer"]


def cut_short(row: Row, rows: Iterable[Row]) -> list[str]:
    """Say that a diagnostic ended trainings of a rule before those that it is compared with."""
    ended = [run.record for run in row.finished if run.record.stopped_by is not None]
    longest = max((run.record.epochs for each in rows for run in each.finished), default=0)
    early = [record for record in ended if record.epochs < longest]
    if row.role == "floor" or not early:
        return []
    epochs = dict.fromkeys(str(record.epochs) for record in sorted(early, key=lambda r: r.epochs))
    names = listed(sorted({str(record.stopped_by) for record in early}))
    after = (
        f"{names} ended {part(len(early), len(row.finished), 'run')} after epoch {listed(epochs)}"
    )
    return [f"{after}: margins and ranks compare them with trainings of {longest} epochs"]


def fitted(row: Row) -> list[str]:
    """Say that the gradient is at the floor where hardly any training loss is left."""
    fired = [
        run.record.train_loss
        for run in row.finished
        if "b" in run.judgement.fired and not run.record.explained
    ]
    low = [loss for loss in fired if loss is not None and loss < FITTED]
    if row.role == "floor" or not low:
        return []
    return [
        f"b fires in {part(len(low), len(row.finished), 'run')} where hardly any training loss is "
        f"left ({compact(max(low))} or less): there the gradient is small because the data are "
        "fitted, which is no fault of the rule"
    ]


def _network(run: Run) -> Any:
    """Return what tells a trained network apart: accuracy, norms of states and gradients, and c.

    Seven digits count, as in the reference. None for a network without these norms or with one that
    is not above 0: ruined networks are alike without being the same.
    """
    items = [run.judged[letter][1] for letter in ("a", "b", "c") if letter in run.judged]
    norms = [
        value
        for item, key in zip(items, ("h", "g"), strict=False)
        for value in item.details.get(key, ())
    ]
    figures = [run.record.accuracy, *(item.value for item in items), *norms]
    numbers = [value for value in figures if isinstance(value, int | float)]
    whole = len(items) == 3 and len(numbers) == len(figures) and min(norms, default=0) > 0
    if not whole or not all(map(math.isfinite, numbers)):
        return None
    return run.record.cell.seed, tuple(f"{value:.7g}" for value in numbers)


def alike(group: Group) -> list[str]:
    """Name the rules that trained the same network as others, or as a floor, by all its figures."""
    rows: dict[Any, list[Row]] = defaultdict(list)
    for row in group.rows:
        for run in row.finished:
            if (network := _network(run)) is not None:
                rows[network].append(row)
    seeds: dict[tuple[str, ...], list[int]] = defaultdict(list)
    lengths: dict[tuple[str, ...], bool] = {}
    for (seed, _), same in rows.items():
        names = tuple(row.label for row in same)
        if len(names) > 1 and any(row.role != "floor" for row in same):
            seeds[names].append(seed)
            lengths[names] = all(option(row.method, "normalize") == "sample" for row in same)
    why = "; one cause may be `normalize: sample`, which removes the length of a credit"
    return [
        f"{listed(names)} trained the same network for seed {listed(map(str, own))}: accuracy and "
        f"norms of states and gradients are equal in seven digits{why * lengths[names]}"
        for names, own in seeds.items()
    ]


def redrawn(group: Group) -> list[str]:
    """Name the rules whose untrained network is not that of the other rules of a seed."""
    agreed = untrained(group.records).get("scale_growth", {})
    changed: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in group.competing:
        for run in row.runs:
            own, seed = run.record.initial.get("scale_growth"), run.record.cell.seed
            other = agreed[seed].measurement.value if seed in agreed else None
            if own is None or own.value is None or other is None or agreed[seed].rule is not None:
                continue
            if not agree(own.value, other):
                changed[row.label].append((own.value, other))
    lines = []
    for label, pairs in changed.items():
        its, others = (compact(value, 5) for value in pairs[0])
        lines.append(
            f"{label} changes the network before its training: untrained, its states grow {its} "
            f"times in one block, those of other rules {others} times "
            f"({plural(len(pairs), 'seed')})"
        )
    return lines


def one_start(group: Group) -> list[str]:
    """Name the seeds that began with the same untrained network, by growth and gradient norm."""
    agreed = untrained(group.records)
    growth, norm = (agreed.get(name, {}) for name in ("scale_growth", "reference_floor"))
    seeds: dict[tuple[float | None, float | None], list[int]] = defaultdict(list)
    for seed in sorted(growth.keys() & norm.keys()):
        if norm[seed].measurement.value:  # a head of zeros gives no gradient, whatever lies below
            seeds[growth[seed].measurement.value, norm[seed].measurement.value].append(seed)
    return [
        f"seeds {listed(map(str, own))} began with the same network: untrained, its growth and its "
        "gradient norm are equal to the last digit; intervals are too narrow, as n is that of the "
        "networks. Does the architecture set the seed itself?"
        for own in seeds.values()
        if len(own) > 1
    ]


def older_code(group: Group) -> list[str]:
    """Name the rows with runs by older code than that of other runs of the recipe."""
    changed = group.older
    rows = [row for row in group.rows if any(r.record.identity in changed for r in row.runs)]
    names = sorted({name for own in changed.values() for name in own})
    command = "bench tune" if any(row.tuned is not None for row in rows) else "bench run"
    remedy = f"`{command}` trains those again that its suite still has, `bench clean --older` "
    remedy += "removes them"
    text = f"Older code than other runs here ({few(names)}): "
    return [f"{text}{listed(row.label for row in rows)}; {remedy}"] if rows else []


def ranked_on(group: Group) -> list[str]:
    """Say on how many seeds the ranks rest if an accuracy rests on more."""
    fewest = group.ranking.n
    more = [
        f"{row.label} {len(row.finished)}"
        for row in group.rows
        if row.rank is not None and len(row.finished) > fewest > 0
    ]
    seeds = f"The ranks compare two rules on the seeds that both have, at the least {fewest}"
    return [f"{seeds}; accuracies are over all seeds: {listed(more)}"] * bool(more)


def limits(row: Row, settings: Settings) -> list[str]:
    """Name the thresholds in force that are not the protocol's, or not those of the diagnostics."""
    unlike: dict[str, None] = {}
    depth = settings.depth_utility
    for criterion in (item for run in row.runs for item in criteria_of(run)):
        limit = criterion.limit(settings.thresholds)
        usual = THRESHOLDS.get(criterion.name, criterion.item.threshold)
        given = criterion.margin and depth.floor_value is not None
        if limit is not None and usual is not None and limit != usual and not given:
            texts = (f"{criterion.shown(value):g}" for value in (limit, usual))
            unlike["{} is judged at {}, not at {}".format(criterion.letter, *texts)] = None
    if depth.floor_value is not None:
        unlike[f"{AGAINST} a given accuracy of {depth.floor_value:g}"] = None
    elif depth.floor != "matched":
        unlike[f"{AGAINST} {depth.floor} with frozen blocks"] = None
    return list(unlike)


def options(row: Row, settings: Settings) -> str:
    """List the options of a row whose defaults no run records: its name may leave some out."""
    if row.method.name not in settings.unrecorded:
        return ""
    own = [
        f"{key}={plain_text(value)}"
        for key, value in sorted(row.method.params.items())
        if key not in CORE_DEFAULTS or canonical(value) != canonical(CORE_DEFAULTS[key])
    ]
    return f"no run records the defaults of its options {', '.join(own)}" if own else ""


def late(row: Row) -> list[str]:
    """Name the measurements that were made after the runs, with their makers."""
    lines = []
    for run in row.runs:
        seed, remarks = run.record.cell.seed, run.standing.late
        lines += [f"seed {seed}: {item.text}" for item in remarks if item.judges]
    others = Counter(item.text for run in row.runs for item in run.standing.late if not item.judges)
    return lines + [f"{text} ({count} of {len(row.runs)} runs)" for text, count in others.items()]


def of_row(
    row: Row, rows: Sequence[Row], settings: Settings, changed: Collection[str] = ()
) -> list[str]:
    """Return all doubts about a row.

    changed  identities of the runs by older code than that of other runs of the recipe
    """
    old = sum(run.record.identity in changed for run in row.runs)
    aged = f"{part(old, len(row.runs), 'run')} by older code than others here" * bool(old)
    points = above_ceiling(row, rows)
    above = f"{with_interval(points)} pp above its ceiling" if points else ""
    statements = [text for run in row.runs for text in run.standing.said]
    others = [f"{count} {text}, as they say" for text, count in sorted(Counter(statements).items())]
    beside = [*filter(None, [above, aged, options(row, settings)]), *tuning(row, rows)]
    beside += [*other_recipe(row), *undeclared(row), *idle(row), *tied(row), *fitted(row)]
    beside += cut_short(row, rows)
    beside += [*limits(row, settings), *late(row)]
    return beside + _few(others)


def _few(lines: list[str]) -> list[str]:
    """Return the first lines about other users, and the number of the further ones."""
    more = [f"and {len(lines) - MOST_SAID} more by other users, as they say"]
    return lines[:MOST_SAID] + (more if len(lines) > MOST_SAID else [])


def of_group(group: Group, settings: Settings) -> list[str]:
    """Write the doubts about the rows of a recipe as lines under its table."""
    lines = below_local_ceiling(group)
    for row in group.rows:
        if points := above_ceiling(row, group.rows):
            single = points.half_width is None
            few = "in both of two seeds" if points.n > 1 else "one seed is too few for an interval"
            alone = f" ({few})" * single
            heads = local_ceiling(row, group.rows)
            ceiling = LOCAL_CEILING if heads and over(row, heads) == points else CEILING
            by = f"{with_interval(points)} pp{alone}"
            question = "has its training seen the test set?"
            lines.append(f"{row.label} lies above its ceiling {ceiling} by {by}: {question}")
        lines += [f"{row.label} {text}" for text in tuning(row, group.rows)]
    lines += one_start(group) + redrawn(group) + alike(group) + ranked_on(group)
    lines += older_code(group)
    for doubt in (other_recipe, undeclared, idle, tied, fitted, lambda r: cut_short(r, group.rows)):
        shared = _shared(group.rows, doubt)
        lines += [f"{listed(labels)}: {text}" for text, labels in shared.items()]
    judged = group.competing
    for text, labels in _shared(judged, lambda row: limits(row, settings)).items():
        if not text.startswith(AGAINST):  # the legend says this one
            every = len(labels) == len(judged)
            lines.append(text if every else f"{text} for {listed(labels)}")
    for text, labels in _shared(group.rows, late).items():
        every = len(labels) == len(group.rows) > 1
        lines.append(f"{'every row' if every else listed(labels)}: {text}")
    for row in group.rows if settings.unrecorded else ():
        if row.role != "floor" and (text := options(row, settings)):
            lines.append(f"{row.label}: {text}")
    return lines


def _shared(rows: Iterable[Row], doubts: Callable[[Row], Iterable[str]]) -> dict[str, list[str]]:
    """Map each doubt to the labels of the rows that it is about."""
    labels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for text in doubts(row):
            labels[text].append(row.label)
    return labels


def said(rows: Iterable[Row]) -> list[str]:
    """Write what other users say of these runs, by method."""
    texts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for run in row.runs:
            for text in run.standing.said:
                texts[text][row.label] += 1
    lines = [
        f"{text}, as they say: {listed(f'{name} {count}' for name, count in labels.items())}"
        for text, labels in sorted(texts.items())
    ]
    return _few(lines)
