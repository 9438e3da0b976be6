"""Say in one sentence which rules work, and which do not and why.

A rule is a row that is no floor. Controls, which must fail, are named apart. The rules that are not
trustworthy are grouped by their main reason: of a rule that is walked back for several reasons, the
comparison with random blocks comes first, because it needs no knowledge of gradients.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from bench_core.analysis.verdicts.ceilings import above_ceiling
from bench_core.analysis.verdicts.floors import REDRAWN, explained
from bench_core.analysis.verdicts.kinds import SINGLE_SEED, TRUSTWORTHY, UNDETERMINED, WALKED_BACK
from bench_core.analysis.verdicts.recipes import unlike_steps
from bench_core.analysis.verdicts.roles import is_control
from bench_core.analysis.verdicts.rows import RESET, SCALE, Group, Row
from bench_core.analysis.verdicts.verdict import (
    BEATS,
    CANNOT_JUDGE,
    EQUAL,
    EQUAL_OF_BP,
    LOST_OF_BP,
    LOST_OF_FLOOR,
    NONE_OF_BP,
    ONE_SEED_OF_BP,
    ONE_SEED_OF_FLOOR,
    UNTRIED,
    UNTRIED_BELOW,
    beats,
    below_zero,
    ends,
    reading,
    worse,
)
from bench_core.report.text.layout import joined
from bench_core.report.text.numbers import fraction
from bench_core.report.words.criteria import Criterion
from bench_core.report.words.rows import (
    bare_labels,
    bp_floor,
    bp_rescaled,
    chance,
    chance_of,
    guesses,
    random_blocks,
    read_floor,
)
from bench_core.results.details import finite

# the built-in diagnostics of the network itself: "verb of one|of several rules, and the rest", and
# the state in which they fire
WORDS = {
    "scale_growth": ("lets|let the hidden states explode", "the hidden states explode"),
    "reference_floor": (
        "leaves|leave hardly any gradient to compare with",
        "hardly any gradient is left to compare with",
    ),
    "batch_stability": (
        "pulls|pull the gradients of all batches in one direction",
        "the gradients of all batches share a direction",
    ),
}
MANY = 7  # so many rules without a verdict are counted, not named
NO_RULES = {
    "controls": "No rule has run yet, only controls.",
    "floors": "All runs here keep their blocks frozen, so no rule is judged.",
}


def rules(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that are neither floors nor controls."""
    return [row for row in rows if row.role != "floor" and not _is_control(row)]


def below_rescaled(rows: Sequence[Row]) -> list[Row]:
    """Return the rules less accurate than bp's best random blocks of another scale."""
    best = (bp_rescaled(rows) or (None, -math.inf))[1]
    judged = [row for row in rules(rows) if row.role == "method"]
    return [row for row in judged if row.accuracy and row.accuracy.mean < best]


def tally(rows: Iterable[Row]) -> dict[str, int]:
    """Count the rules by the kind of their verdict, the trustworthy ones first."""
    counts = Counter(row.verdict.kind for row in rules(rows)).most_common()
    return dict(sorted(counts, key=lambda item: item[0] != TRUSTWORTHY))


def opening(group: Group) -> str:
    """Answer which rules of a recipe work, and say how they were trained."""
    return " ".join([sentence(group), *_at_chance(group), *_ceiling(group), *_frame(group)])


def sentence(group: Group) -> str:
    """Count the trustworthy rules of a recipe, and say why the others are not."""
    labels = dict(zip(map(id, group.rows), bare_labels(group.rows), strict=True))
    judged = [(labels[id(row)], row) for row in rules(group.rows)]
    controls = [(labels[id(row)], row) for row in group.rows if _is_control(row)]
    single = all(row.verdict.kind == SINGLE_SEED and len(row.runs) == 1 for _, row in judged)
    if judged and single:
        parts = ["No rule has a verdict yet: one finished seed is too few.", *_flagged(judged)]
    else:
        good = [label for label, row in judged if row.verdict.kind == TRUSTWORTHY]
        others: dict[str, list[tuple[str, Row]]] = defaultdict(list)
        for label, row in judged:
            if row.verdict.kind != TRUSTWORTHY:
                others[reason(row)].append((label, row))
        nothing = NO_RULES["controls" if controls else "floors"]
        parts = [_counted(good, len(judged)) if judged else nothing]
        parts += [*_over_own_alone(judged), *_asked(judged, group)]
        for phrase, pairs in sorted(others.items(), key=_is_open):
            open_ = {SINGLE_SEED, UNDETERMINED} >= {row.verdict.kind for _, row in pairs}
            subject = f"{len(pairs)} rules" * (open_ and len(pairs) > MANY)
            clause = _clause([label for label, _ in pairs], phrase, subject)
            parts += [f"{clause}.", *_flagged(pairs)]
    return " ".join([*parts, *_controls(controls)])


def _at_chance(group: Group) -> list[str]:
    """Name the rules whose accuracy is that of the commonest class, or lower."""
    labels = dict(zip(map(id, group.rows), bare_labels(group.rows), strict=True))
    judged = [row for row in rules(group.rows) if row.accuracy is not None]
    lines = []
    for share in dict.fromkeys(chance_of(row) for row in judged):
        low = [labels[id(row)] for row in judged if chance_of(row) == share and guesses(row)]
        if share is None or not low:
            continue
        subject = f"All {len(low)} rules" if len(low) == len(judged) > 2 else ""
        than = f"is|are no more accurate than the commonest class ({fraction(share)})"
        if explained(run.record for row in judged for run in row.runs):
            than = "explains|explain no variance of the targets"
        lines.append(f"{_clause(low, than, subject)}.")
    return lines


def _ceiling(group: Group) -> list[str]:
    """Name the diagnostics of the network itself that fire for a ceiling."""
    lines = []
    for row in (row for row in group.rows if row.role == "ceiling"):
        if own := [item for item in letters(row) if not item.margin]:
            clause, names = (
                _clause([row.label], fires(row, own[0])),
                joined(item.short for item in own),
            )
            recipe = "this recipe, its number of epochs included, judges no rule fairly by"
            lines.append(f"Even the ceiling {clause}: {recipe} {names}.")
    return lines


def _over_own_alone(judged: Iterable[tuple[str, Row]]) -> list[str]:
    """Name the trustworthy rules that are not shown to beat bp with random blocks, by the points
    that the protocol asks over the own floor."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for label, row in judged:
        over = row.margin_bp
        if row.verdict.kind != TRUSTWORTHY or over is None or beats(over):
            continue
        own = "its|their own random blocks"
        floor = own if row.floor.kind == "matched" else random_blocks(row)
        if reading(over, BEATS) == "fires":
            anything = ", if anything" * (over.mean <= 0)
            rest = f"over {{}} it|they gains|gain less than {BEATS:g} points{anything}"
        elif ends(over)[0] <= 0:
            rest = "the seeds do not show whether it|they beats|beat {}"
        else:
            rest = "over {} its|their gain is not settled"
        names[floor, rest.format("backpropagation with random blocks")].append(label)
    return [_sentence(own, f"beats|beat {floor}; {rest}") for (floor, rest), own in names.items()]


def _asked(judged: Iterable[tuple[str, Row]], group: Group) -> list[str]:
    """Name the trustworthy rules that lie above a ceiling, or trained by another recipe."""
    names: dict[str, list[str]] = defaultdict(list)
    for label, row in judged:
        if row.verdict.kind != TRUSTWORTHY:
            continue
        if above_ceiling(row, group) is not None:
            own = "is|are more accurate than backpropagation, its|their ceiling: has its|their "
            names[f"{own}training seen the test set, or more data in a step?"].append(label)
        steps = unlike_steps(run.record for run in row.finished)
        if steps is not None:
            more = "takes|take more steps in a batch than backpropagation"
            other = "trains|train with another optimiser than backpropagation"
            names[more if steps else other].append(label)
    return [_sentence(own, phrase).replace("?.", "?") for phrase, own in names.items()]


def _is_open(reason: tuple[str, list[tuple[str, Row]]]) -> bool:
    """Decide whether the rules of a reason have no verdict yet: they come last."""
    return reason[1][0][1].verdict.kind == SINGLE_SEED


def _frame(group: Group) -> list[str]:
    """Say whether the rules were tuned, and what backpropagation reaches with random blocks."""
    trained = rules(group.rows)
    equal = len(trained) > 1 and all(row.trials is None for row in trained)
    lines = ["All rules share one training recipe; no tuning is recorded."] if equal else []
    mean = bp_floor(group.rows)
    other = bp_rescaled(group.rows)
    also = ""
    if other is not None:
        floor, best = other
        good = [row.label for row in below_rescaled(group.rows) if row.verdict.kind == TRUSTWORTHY]
        than = f", more than {joined(good)}" * bool(good)
        also = f", and {fraction(best)} at another scale ({floor.name}){than}"
    known = (
        []
        if mean is None
        else [f"Backpropagation with random blocks reaches {fraction(mean)}{also}."]
    )
    return lines + known


def of_recipes(groups: Iterable[Group]) -> str:
    """Count the trustworthy verdicts of several recipes; empty for one: it has its own sentence."""
    every = [rules(group.rows) for group in groups]
    kinds = Counter(row.verdict.kind for own in every for row in own)
    if len(every) < 2:
        return ""
    if not kinds:
        return f"In {len(every)} recipes, every row is a control or a floor: no rule is judged."
    if len(kinds) == 1 and kinds[SINGLE_SEED]:
        return f"In {len(every)} recipes, no rule has a verdict yet: one finished seed is too few."
    verb = "is" if kinds[TRUSTWORTHY] == 1 else "are"
    rows = f"{kinds[TRUSTWORTHY]} of {kinds.total()} rows"
    return f"In {len(every)} recipes, {rows} {verb} trustworthy."


def reason(row: Row) -> str:
    """Write the main reason of a rule that is not trustworthy: `trains|train blocks that …`."""
    verdict, done = row.verdict, [run for run in row.runs if run.record.status == "done"]
    if row.runs and all(run.record.status == "conflict" for run in row.runs):
        return "has|have two results of a run that differ, so neither counts"
    if not done:
        return f"has|have no finished run ({verdict.text})"
    if verdict.kind == SINGLE_SEED:
        of_all = f" of {len(row.runs)}" if len(row.runs) > 1 else ""
        return f"has|have one finished seed{of_all}, which is too few for a verdict"
    if verdict.kind == WALKED_BACK:
        return _walked_back(row)
    if verdict.kind != UNDETERMINED:
        return _not_separated(row)
    if not row.complete:
        return "has|have unfinished runs"
    silent = {text for run in done for _, text in run.judgement.not_diagnostic}
    if verdict.unsure == LOST_OF_FLOOR:
        return "has|have a floor that lost runs, so the finished ones are not a fair sample"
    if verdict.unsure == LOST_OF_BP:
        lost = "lost runs, so the finished ones are not a fair sample"
        return f"cannot be judged: the bp floor, which replaces its|their own, {lost}"
    if verdict.unsure == ONE_SEED_OF_FLOOR:
        return "has|have a floor with one seed, which is too few for a verdict"
    if verdict.unsure == EQUAL or (verdict.unsure == EQUAL_OF_BP and row.replaced):
        return "has|have the same margin in both seeds, which shows no scatter: add a third"
    if verdict.unsure == EQUAL_OF_BP:
        below = "lies|lie below backpropagation with random blocks by"
        return f"{below} the same margin in both seeds, which shows no scatter: add a third"
    if verdict.unsure == ONE_SEED_OF_BP and row.replaced:
        return "cannot be judged: the bp floor, which replaces its|their own, has one seed"
    if verdict.unsure == ONE_SEED_OF_BP:
        return "lies|lie below backpropagation with random blocks, but these have one seed"
    if CANNOT_JUDGE in silent:
        return "cannot be judged by this recipe"
    if verdict.unsure == UNTRIED:
        aimless = "is|are not known to learn in the direction of the gradient"
        return f"{aimless}, and random blocks of another scale were not tried"
    if verdict.unsure == UNTRIED_BELOW:
        beat = "does|do not clearly beat backpropagation with random blocks of another scale"
        return f"{beat}, and its|their own of such a scale were not tried"
    if verdict.unsure == NONE_OF_BP:
        return "cannot be compared with bp's random blocks: none of these runs is done"
    if row.replaced and verdict.unread:
        floors = "neither its|their own floor nor bp's"
        return f"cannot be judged: {floors} is shown to lie above {chance(row)}"
    if row.floor.mean is None and row.floor.reason == REDRAWN.format(name=row.floor.name):
        return "changes|change the blocks before training, so that its|their floor has others"
    if row.floor.mean is None:
        return "has|have no floor to be compared with"
    return "is|are not measured completely"


def _not_separated(row: Row) -> str:
    over, floor = row.read, read_floor(row)
    if row.held == SCALE:
        return "does|do not clearly beat random blocks of another scale"
    if row.held == RESET:
        less = f"loses|lose less than {BEATS:g} points"
        return f"{less} with all blocks put back to their initial weights"
    if over is None or over.mean <= (over.half_width or 0):
        return f"is|are not yet told apart from {floor}"
    if reading(over, BEATS) == "fires":
        return f"lies|lie above {floor}, but by less than {BEATS:g} points"
    return f"lies|lie above {floor}, but by how much is not settled"


def _walked_back(row: Row) -> str:
    fired = letters(row)
    over_floor, own = any(item.margin for item in fired), row.floor.kind == "matched"
    if row.verdict.still:
        return "does|do not train its|their blocks: no weight of them changes"
    if over_floor and own and worse(row.margin):
        return "trains|train blocks that are worse than random ones"
    if row.verdict.below_bp:
        return "falls|fall below backpropagation with random blocks" + _over_own(row)
    if over_floor:
        if not own and row.margin is not None and row.margin.mean >= 0:
            return (
                f"lies|lie above {random_blocks(row)}, but by fewer points than it|they needs|need"
            )
        if not own:
            return f"stays|stay below {random_blocks(row)}"
        if beats(row.read):  # by the points of the protocol, but the suite asks for more
            return "beats|beat random blocks, but by fewer points than it|they needs|need"
        return "trains|train blocks that are hardly or no better than random ones"
    if not fired:
        return "ends|end with an accuracy that is not finite"
    over, floor = row.read, read_floor(row)
    floor = "random ones" if floor == "random blocks" else floor
    though = (
        f", though its|their blocks beat {floor}" if beats(over) and not row.dispensable else ""
    )
    return fires(row, fired[0]) + though


def _over_own(row: Row) -> str:
    """Say what the margin over its own random blocks adds for a rule below bp's."""
    over = row.margin_matched
    if over is None or row.verdict.unread:
        return ""
    if below_zero(over):
        return "; its|their blocks are worse than its|their own random ones"
    low, high = ends(over)
    if beats(over) and not row.dispensable:
        return ", though its|their blocks beat its|their own random ones"
    if reading(over, BEATS) == "fires":
        gain = f"; its|their blocks gain less than {BEATS:g} points over random ones"
        return gain + ", if anything" * (low <= 0)
    unclear = "; the seeds do not show whether it|they beats|beat its|their own random blocks"
    return unclear * (low <= 0 <= high)


def letters(row: Row) -> list[Criterion]:
    """Return the diagnostics for which a row is walked back or flagged."""
    return [
        Criterion(letter, *next(run.deciding[letter] for run in row.runs if letter in run.deciding))
        for letter in row.verdict.letters
    ]


def fires(row: Row, first: Criterion) -> str:
    """Write what a diagnostic of the network itself says of a rule: `lets|let the …`."""
    runs = [run for run in row.runs if run.record.status == "done"]
    fired = [run for run in runs if first.letter in run.judgement.fired]
    known = [run for run in fired if finite(run.deciding[first.letter][1].value) is not None]
    count = len(known or fired)
    part = f" in {count} of {len(runs)} seeds" * (count < len(runs))
    if not known:
        return f"has|have a {first.short} that is not finite{part}"
    words = WORDS[first.name][0] if first.name in WORDS else f"is|are flagged by {first.short}"
    return words + part


def _counted(good: list[str], total: int) -> str:
    if total == 1:
        return f"The only rule, {good[0]}, is trustworthy." if good else "No rule is trustworthy."
    if not good:
        return f"None of {total} rules is trustworthy."
    every = "Both" if total == 2 else f"All {total}"
    number = every if len(good) == total else f"{len(good)} of {total}"
    return f"{number} rules {'is' if len(good) == 1 else 'are'} trustworthy: {joined(good)}."


def _sentence(labels: list[str], phrase: str) -> str:
    return f"{_clause(labels, phrase)}."


def _clause(labels: list[str], phrase: str, subject: str = "") -> str:
    return f"{subject or joined(labels)} {inflected(phrase, len(labels) == 1)}"


def inflected(phrase: str, one: bool) -> str:
    """Choose the forms of a phrase: `lets|let` is `lets` for one rule."""
    return re.sub(r"(\w+)\|(\w+)", lambda pair: pair[1 if one else 2], phrase)


def _flagged(judged: Sequence[tuple[str, Row]]) -> list[str]:
    """Say what the flags of single seeds mean, without the names if more than three have one."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for label, row in judged:
        if row.verdict.kind == SINGLE_SEED and (row.verdict.letters or row.verdict.below_bp):
            reasons[_walked_back(row)].append(label)
    alike = len(judged) > 3 and [len(judged)] == [len(labels) for labels in reasons.values()]
    subject = "all of them" if alike else ""
    clauses = "; ".join(_clause(labels, text, subject) for text, labels in reasons.items())
    return [f"In that seed, {clauses}."] if reasons else []


def _controls(controls: Iterable[tuple[str, Row]]) -> list[str]:
    """Say whether the controls fail, as they must."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for label, row in controls:
        kinds[row.verdict.kind].append(label)
    failed, passed = kinds.pop(WALKED_BACK, []), kinds.pop(TRUSTWORTHY, [])
    single = kinds.pop(SINGLE_SEED, [])
    others = [label for labels in kinds.values() for label in labels]
    lines = [f"Walked back, as a control must be: {joined(failed)}."] if failed else []
    if passed:
        lines.append(f"But trustworthy, which a control must not be: {joined(passed)}.")
    if single:
        lines.append(
            _sentence(single, "has|have one finished seed, which is too few to judge a control")
        )
    if others:
        lines.append(f"Not walked back so far, though a control: {joined(others)}.")
    return lines


def _is_control(row: Row) -> bool:
    return row.role != "floor" and is_control(row.runs[0].record)
