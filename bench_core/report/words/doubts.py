"""List the facts about a table that could have changed a verdict, as lines below it.

Beside those about single rows (`row_doubts`) these are two rules that trained the same networks, a
network that a rule changed before its training, seeds that began with the same network, ranks on
fewer seeds than the accuracies, a small test set, and runs by older code.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from bench_core.analysis.verdicts.ceilings import above_ceiling, local_ceiling, over
from bench_core.analysis.verdicts.floors import explained
from bench_core.analysis.verdicts.kinds import TRUSTWORTHY
from bench_core.analysis.verdicts.roles import is_drawn
from bench_core.analysis.verdicts.rows import RESET, Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.untrained import agree, untrained
from bench_core.analysis.verdicts.verdict import BEATS
from bench_core.printable import few
from bench_core.report.text.layout import joined, listed
from bench_core.report.text.numbers import compact, fraction, plural, with_interval
from bench_core.report.words import row_doubts
from bench_core.report.words.rows import alignments, bp_rescaled
from bench_core.report.words.summary import below_rescaled, inflected


def below_local_ceiling(group: Group) -> list[str]:
    """Write how each rule with local heads compares with backpropagation with the same heads."""
    pairs = [(row, local_ceiling(row, group.rows)) for row in group.rows]
    texts = [
        f"{row.label} {with_interval(points)} pp"
        for row, ceiling in pairs
        if ceiling is not None and (points := over(row, ceiling, group.scored)) is not None
    ]
    return [f"Over bp_local_heads, backpropagation with local heads: {listed(texts)}"] * bool(texts)


def _network(run: Run) -> Any:
    """Return what tells a trained network apart: accuracy, norms of states and gradients, and c.

    Seven digits count, as in the reference. None for a network without these norms or with one that
    is not above 0: ruined networks are alike without being the same.
    """
    items = [run.deciding[letter][1] for letter in ("a", "b", "c") if letter in run.deciding]
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
            lengths[names] = all(row.method.params.get("normalize") == "sample" for row in same)
    why = "; one cause may be `normalize: sample`, which removes the length of a credit"
    return [
        f"{listed(names)} trained the same network for {'seeds' if len(own) > 1 else 'seed'} "
        f"{listed(map(str, own))}: accuracy and "
        f"norms of states and gradients are equal in seven digits{why * lengths[names]}"
        for names, own in seeds.items()
    ]


def redrawn(group: Group) -> list[str]:
    """Name the rules whose untrained network is not that of the other rules of a seed."""
    agreed = untrained(group.records).get("scale_growth", {})
    changed: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in group.competing:
        if not is_drawn(row.method):  # the core has changed it
            continue
        for run in row.finished:
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
        if row.rank is not None and len(row.finished) > fewest
    ]
    seeds = f"The ranks compare two rules on the seeds that both have, at the least {fewest}"
    wide = "the rule with the fewest widens the ranks of all"
    return [f"{seeds}; {wide}; accuracies are over all seeds: {listed(more)}"] * bool(more)


def unknown_resets(group: Group) -> list[str]:
    """Name the trustworthy rules whose blocks were not tried with their initial weights, beside one
    whose verdict rests on that."""
    names = [
        row.label for row in group.rows if row.verdict.kind == TRUSTWORTHY and row.reset is None
    ]
    untried = "whose runs do not say their accuracy with initial blocks (reset_accuracy)"
    line = f"not tried with their initial blocks: {listed(names)}, {untried}"
    return [line] * (bool(names) and any(row.held == RESET for row in group.rows))


def untried_scales(group: Group) -> list[str]:
    """Name the trustworthy rules that were not compared with random blocks of another scale."""
    names = [
        row.label
        for row in group.rows
        if row.verdict.kind == TRUSTWORTHY and not row.rescaled.tried
    ]
    line = (
        "not compared with random blocks of another scale, which may reach as much: "
        f"{listed(names)}; `bench run` trains these with `--set floor_scales=[10,100]`"
    )
    return [line] * bool(names)


def unknown_direction(group: Group) -> list[str]:
    """Name the trustworthy rules of which nothing says whether they learn along the gradient."""
    names = [
        row.label
        for row in group.rows
        if row.verdict.kind == TRUSTWORTHY and row.role == "method"
        if not row.rescaled.tried and not alignments(row)
    ]
    unknown = "Γ is not measured, so larger random blocks may beat random ones as well as"
    remedy = "`bench audit FOLDER --diagnostic alignment` measures it"
    return [f"{unknown} {listed(names)}: {remedy}"] * bool(names)


def below_bp_rescaled(group: Group) -> list[str]:
    """Name the rules less accurate than backpropagation with random blocks of another scale."""
    other = bp_rescaled(group.rows)
    if other is None:
        return []
    floor, best = other
    below = below_rescaled(group.rows)
    reaches = f"reaches {fraction(best)} ({plural(len(floor.accuracies), 'seed')})"
    good = [row.label for row in below if row.verdict.kind == TRUSTWORTHY]
    than = f", more than {listed([row.label for row in below])}" * bool(below)
    own = f"; of these {joined(good)} beats|beat its|their own random blocks" * bool(good)
    own = inflected(own, len(good) == 1)
    text = (
        f"backpropagation with random blocks of another scale ({floor.name}) {reaches}{than}"
        f"{own}; verdicts compare a rule with bp's random blocks as they were drawn, and with its "
        "own of each scale that was trained; one that does not clearly beat bp's of another scale "
        "must have been trained with its own of that scale"
    )
    return [text] * bool(below)


def few_test_samples(group: Group) -> list[str]:
    """Say how far the size of the test set leaves an accuracy open, if that is more than the points
    by which a rule must beat its floor.

    By the normal approximation to a binomial share p of N: ± 1.96·√(p(1−p)/N), of the row whose
    accuracy is nearest to 1/2.
    """
    size = group.scored.samples
    shares = [row.accuracy.mean for row in group.competing if row.accuracy is not None]
    if size is None or not shares or explained(group.records):
        return []
    spread = max(share * (1 - share) for share in shares)
    half = 100 * 1.96 * math.sqrt(max(0.0, spread) / size)
    read = group.cell.data.get("evaluate_on", "test")
    return [
        f"accuracies are of {plural(size, f'{read} sample')}: so few leave one open by up to "
        f"± {half:.1f} points (95 %), and the intervals here, which are over seeds, leave this out"
    ] * (half > BEATS)


def of_group(group: Group, settings: Settings) -> list[str]:
    """Write the doubts about the rows of a recipe as lines under its table."""
    lines = below_local_ceiling(group)
    for row in group.rows:
        if above := above_ceiling(row, group):
            points, ceiling = above.points, above.ceiling.method.short
            why = "in both of two seeds" if points.n > 1 else "one seed is too few for an interval"
            by = f"{with_interval(points)} pp" + f" ({why})" * (points.half_width is None)
            question = "has its training seen the test set, or more data in a step?"
            lines.append(f"{row.label} lies above its ceiling {ceiling} by {by}: {question}")
        lines += [f"{row.label} {text}" for text in row_doubts.tuning(row, group.rows)]
    lines += (
        below_bp_rescaled(group)
        + few_test_samples(group)
        + unknown_resets(group)
        + untried_scales(group)
        + unknown_direction(group)
        + one_start(group)
        + redrawn(group)
        + alike(group)
        + ranked_on(group)
    )
    lines += older_code(group)
    shared = _shared(group.rows, lambda row: row_doubts.of_training(row, group.rows))
    lines += [f"{listed(labels)}: {text}" for text, labels in shared.items()]
    judged = group.competing
    for text, labels in _shared(judged, lambda row: row_doubts.limits(row, settings)).items():
        if not text.startswith(row_doubts.AGAINST):  # the legend says this one
            every = len(labels) == len(judged)
            lines.append(text if every else f"{text} for {listed(labels)}")
    for text, labels in _shared(group.rows, row_doubts.late).items():
        every = len(labels) == len(group.rows) > 1
        lines.append(f"{'every row' if every else listed(labels)}: {text}")
    for row in group.rows if settings.unrecorded else ():
        if row.role != "floor" and (text := row_doubts.options(row, settings)):
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
    return row_doubts.few_users(lines)
