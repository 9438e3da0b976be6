"""Write the remarks below a leaderboard; `legend` explains how to read it.

All functions return raw text, which each format escapes. Lines depend on the set of records only,
not on their order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from statistics import fmean

from bench_core.analysis.verdicts.alignment import NOT_IN_USE
from bench_core.analysis.verdicts.kinds import TRUSTWORTHY
from bench_core.analysis.verdicts.ranks import resolved
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import (
    AT_CHANCE,
    BEATS,
    Margin,
    beats,
    below_zero,
    ends,
    worse,
)
from bench_core.names import CEILINGS_FLOOR, OURS, bare_name
from bench_core.printable import few
from bench_core.report.tables.columns import COLUMNS, further
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import NONE, cosine, fraction, part, plural, with_interval
from bench_core.report.words import doubts, reasons
from bench_core.report.words.criteria import criteria
from bench_core.report.words.rows import BP_FLOOR, gamma, gamma_by_state, random_blocks, value_of
from bench_core.report.words.summary import WORDS
from bench_core.results.hashing import plain_text
from bench_core.results.marks import ORDER
from bench_core.results.reference import edition, machine, machines

NO_FLOOR_OF_BP = f"no finished run of {CEILINGS_FLOOR} with this recipe"
NOTHING = "No runs yet: nothing to show."
AGAINST = -0.5
UNJUDGED = ", and no verdict rests on it"
REPLACED = f" by its own floor, but by {BP_FLOOR}"
TEACHER = f"{OURS}/teacher"
SCORED_ON = {"validation": "held-out training samples", "test": "the test set"}
HARMLESS = {  # other causes where a diagnostic fires alone
    "batch_stability": "test samples unlike those of the training, such as images that are not "
    "augmented, and a network that computes otherwise in evaluation, by BatchNorm or dropout, do "
    "this too",
    "scale_growth": "an embedding whose states are small beside the outputs of the blocks does "
    "this too",
}
OTHER_CREDIT = " is not that of the credit from which its blocks learn"
WRONG_SIGN = "such credit points against the gradient; is its sign right?"


def _absent(group: Group) -> list[str]:
    """Name the seeds of which rows have no run."""
    rows: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in group.rows:
        if absent := set(group.seeds) - {run.record.cell.seed for run in row.runs}:
            rows[tuple(sorted(absent))].append(row)
    return [
        f"no run of seed {listed(map(str, seeds))}: {_labels(own)}" for seeds, own in rows.items()
    ]


def _labels(rows: Sequence[Row]) -> str:
    """List rows: the rules by name, and the number of floors if there are several."""
    rules = [row.label for row in rows if row.role != "floor"]
    floors = [row.label for row in rows if row.role == "floor"]
    if len(floors) < 2:
        return listed(rules + floors)
    return ", ".join([listed(rules)] * bool(rules) + [plural(len(floors), "floor")])


class _Kind(IntEnum):
    """What a remark says of a method, in the order of the remarks."""

    MEANS_NOTHING = 0
    WRONG_SIGN = 1
    OTHER_CREDIT = 2
    NOT_IN_USE = 3
    NOT_JUDGED = 4
    NOT_MEASURED = 5
    NOT_FINITE = 6
    FIRES_ALONE = 7


def marked(group: Group) -> list[str]:
    """Explain † and ‡, and say which diagnostics are not judged."""
    return _shared(group, (_Kind.MEANS_NOTHING, _Kind.NOT_IN_USE, _Kind.NOT_JUDGED))


def _shared(group: Group, kinds: Collection[_Kind] = tuple(_Kind)) -> list[str]:
    """Write each remark of these kinds once, with the labels of all methods that it is about."""
    letters = [column.letter for column in (*COLUMNS, *further(group.rows)) if column.letter]
    labels_of: dict[tuple[_Kind, str, str], dict[str, None]] = defaultdict(dict)
    for row in group.rows:
        for remark in _remarks(row, letters):
            labels_of[remark][row.label] = None
    every = {row.label for row in group.competing if row.finished}
    return [
        before + _names(kind, labels, every) + after
        for (kind, before, after), labels in sorted(labels_of.items())
        if kind in kinds
    ]


def _remarks(row: Row, letters: Sequence[str]) -> Iterator[tuple[_Kind, str, str]]:
    """Yield the remarks on a method: the kind, the text before its label and the text after it."""
    deep = gamma(row)
    if deep.not_diagnostic is not None:
        yield (
            _Kind.MEANS_NOTHING,
            "† Γ is not diagnostic (it means nothing) for ",
            f": {deep.not_diagnostic}",
        )
    elif deep.estimate is not None and deep.estimate.mean < AGAINST:
        yield _Kind.WRONG_SIGN, "Γ deep of ", f" is under {AGAINST}: {WRONG_SIGN}"
    elif below_zero(deep.estimate) and row.role != "floor":  # its fixed draws scatter about 0
        yield _Kind.WRONG_SIGN, "Γ deep of ", f" lies below 0 with its interval: {WRONG_SIGN}"
    else:
        below = [
            layer for layer, own in gamma_by_state(row).items() if own and fmean(own) < AGAINST
        ]
        if below and row.role != "floor":
            states = listed([f"h_{layer}" for layer in below])
            yield _Kind.WRONG_SIGN, f"Γ at {states} of ", f" is under {AGAINST}: {WRONG_SIGN}"
    pair = [cosine(each.mean) for each in (deep.estimate, deep.blocks) if each is not None]
    if len(set(pair)) == 2:
        yield _Kind.OTHER_CREDIT, "Γ deep of ", f"{OTHER_CREDIT}: there it is {pair[1]}"
    if not deep.in_use:
        yield _Kind.NOT_IN_USE, "‡ Γ of ", f": {NOT_IN_USE}"
    done = [run for run in row.runs if run.record.status == "done"]
    silent = Counter(pair for run in done for pair in run.judgement.not_diagnostic)
    for (letter, reason), count in silent.items():
        read = reason == AT_CHANCE and letter not in row.verdict.unread
        whole = REPLACED if read else UNJUDGED
        some = f" in {count} of {len(done)} runs" if count < len(done) else whole
        measured = next(r.deciding[letter][0] for r in done if letter in r.deciding)
        short = bare_name(measured)
        fires = f" (fires if {WORDS[short][1]})" if short in WORDS else ""
        state = "judged" if whole == REPLACED else "diagnostic"
        yield _Kind.NOT_JUDGED, f"{short}{fires} is not {state} for ", f"{some}: {reason}"
    for measured, item in (pair for run in done for pair in run.record.measurements.items()):
        if error := item.raised:
            yield _Kind.NOT_MEASURED, f"{measured} not measured for ", f": {error}"
    fired = {run.deciding[letter][0] for run in done for letter in run.judgement.fired}
    alone = bare_name(*fired) if len(fired) == 1 else ""
    if alone in HARMLESS and beats(row.read):
        also = f", and the blocks beat random ones: {HARMLESS[alone]} (docs/protocol.md, section 6)"
        yield _Kind.FIRES_ALONE, f"{alone} alone fires for ", also
    firing = {letter for run in done for letter in run.judgement.fired}
    values = [value_of(row, letter) for letter in letters if letter in firing]
    if any(value is not None and not math.isfinite(value) for value in values):
        yield _Kind.NOT_FINITE, "A measurement of ", " is not finite, and such a value fires"


def _names(kind: _Kind, labels: Collection[str], every: Collection[str]) -> str:
    if kind in (_Kind.MEANS_NOTHING, _Kind.NOT_JUDGED) and len(every) > 1 and every == set(labels):
        return "any rule"
    return listed(sorted(labels) if kind in (_Kind.NOT_JUDGED, _Kind.NOT_MEASURED) else labels)


def _relied_on(group: Group) -> list[str]:
    """Count the runs that were checked or replicated, by method; no line if all are posted."""
    by_state: dict[str, Counter[str]] = defaultdict(Counter)
    for row in group.rows:
        for run in row.runs:
            by_state[run.standing.trust][row.label] += 1
    if by_state.keys() <= {"posted"}:
        return []
    parts = []
    for state in (state for state in ORDER if state in by_state):
        names = listed(f"{name} {count}" for name, count in sorted(by_state[state].items()))
        methods = f" ({names})" if state != "posted" else ""
        parts.append(f"{by_state[state].total()} {state}{methods}")
    total = sum(map(Counter.total, by_state.values()))
    return [f"Of {plural(total, 'run')}: {'; '.join(parts)}"]


def references(group: Group) -> list[str]:
    """Count the runs of the reference by machine, and name the rows that have them."""
    every = [(row, run.record) for row in group.rows for run in row.runs]
    mine = [(row, run) for row, run in every if run.status == "done" and not run.shipped]
    own = [(row, run) for row, run in every if run.shipped]
    runs = [run for _, run in own]
    parts = []
    for where, count in machines(runs).items():
        rows = {id(row): row for row, run in own if machine(run) == where}
        parts.append(f"{count} on {where} ({_labels([*rows.values()])})")
    counted = part(len(runs), len(every), "run")
    lines = [f"{counted} from {edition(runs)}: {'; '.join(parts)}"] if runs else []
    if any(run.environment.get("lapsed") for run in runs):
        train = "bench run SUITE --no-reference trains them again"
        lines.append(f"lapsed: today's code gives other numbers than these runs have; {train}")
    if len(places := Counter(run.place for _, run in mine)) > 1:
        labels = {
            name: _labels([*{id(row): row for row, run in mine if run.place == name}.values()])
            for name in places
        }
        parts = [f"{count} on {name} ({labels[name]})" for name, count in sorted(places.items())]
        lines.append(f"trained on different machines or PyTorch: {'; '.join(parts)}")
    return lines


def warning(group: Group, settings: Settings) -> str:
    """Write that a recipe cannot judge depth utility, and what would; empty if it can."""
    if group.blind is None:
        return ""
    own, floor = group.blind.margin, group.blind.floor
    ceiling = next(row for row in group.rows if row.role == "ceiling")
    limit = next(c.limit(settings.thresholds) for c in criteria([ceiling]) if c.margin) or 0.0
    given = floor.kind == "literal"
    against = random_blocks(ceiling) if given else "its random blocks"
    remedy = "" if given else " More epochs or more data may help."
    if not given and floor.mean and 100 * (1 - floor.mean) < limit:
        reached = fraction(floor.mean)
        remedy = (
            f" These reach {reached}; {limit:g} points more are impossible: take a harder task."
        )
    if worse(own):
        remedy = " It does not train bp: look at the learning rate first."
    points = f"{with_interval(own)} points"
    gain = f"bp itself gains only {points} over {against}"
    if own.mean <= 0:
        gain = f"bp itself gains nothing over {against} ({points})"
    by = f" by {limit:g} points" * (limit != BEATS)
    open_ = own.half_width is None or ends(own)[1] >= limit
    what = f"this recipe can tell trained blocks from random ones{by}"
    text = f"{'One seed does' if own.n == 1 else 'The seeds of bp do'} not show that {what}"
    if not open_:
        text = what.replace("this recipe can", "This recipe cannot")
    clear = [row.label for row in group.competing if row.verdict.kind == TRUSTWORTHY]
    though = f" {listed(clear)}: the whole interval lies above {limit:g} points." * bool(clear)
    return f"{text}: {gain}.{remedy}{though}"


def _unchecked(group: Group) -> list[str]:
    """Write that bp leaves open whether the recipe can judge depth utility."""
    if all(row.role != "method" or row.margin is None for row in group.rows):
        return []
    ceiling = next((row for row in group.rows if row.role == "ceiling"), None)
    if ceiling is None:
        reason = "it has no run of bp"
    elif not ceiling.complete:
        reason = f"{len(ceiling.finished)} of {len(ceiling.runs)} seeds of bp are done"
    elif ceiling.margin_matched is None and ceiling.floor.kind != "literal":
        reason = ceiling.floor.reason or NO_FLOOR_OF_BP
    else:
        return []
    rest = "verdicts rest on the margins of the rules alone"
    text = "Whether this recipe can tell trained blocks from random ones is not known"
    return [f"{text}: {reason}; {rest}"]


def _margins(group: Group) -> list[str]:
    """Write the means below the floor of bp, and how margins were compared."""
    lines = _unchecked(group)
    if group.moved:
        lines.append(
            f"{listed(group.moved)} also trained with this recipe, which a search chose: those "
            "runs stand in the table of the tuned rules"
        )
    below: dict[str, list[str]] = defaultdict(list)
    for row in group.rows:
        bp = row.margin_bp
        if row.role != "floor" and bp is not None and bp.mean < 0 and not below_zero(bp):
            shown = f"mean below {BP_FLOOR}, though the seeds do not tell the two apart"
            text = shown if bp.n > 1 else f"accuracy below {BP_FLOOR}"
            below[text].append(
                f"{row.label} ({with_interval(bp, 1 if abs(bp.mean) >= 0.05 else 3)} points)"
            )
    lines += [f"{listed(labels)}: {text}" for text, labels in below.items()]
    for row in group.rows:
        if row.role != "floor":
            lines += _pairs(row.label, "its floor", row.over_floor)
            if row.over_bp != row.over_floor:
                lines += _pairs(row.label, BP_FLOOR, row.over_bp)
    return lines


def _pairs(label: str, floor: str, over: Margin | None) -> list[str]:
    """Write how a margin was taken where a seed of the rule has no twin."""
    if over is None or over.how == "paired":
        return []
    alone = [seed for seed in over.seeds if seed not in over.floor_seeds]
    own, theirs, lacks = (
        f"seed{'s' * (len(seeds) > 1)} {listed(map(str, seeds))}"
        for seeds in (over.seeds, over.floor_seeds, alone)
    )
    how = "unpaired, with Welch's interval" if over.how == "unpaired" else "by means"
    pair = f"{label} ({own}) and {floor} ({theirs}) are compared {how}"
    return [f"{pair}, as the floor has no finished run of {lacks}"]


def _ranks(group: Group) -> list[str]:
    """Write what the ranks can tell apart, and which rows have none."""
    lines = [
        f"{row.label} unranked: {len(row.finished)} of {len(row.runs)} seeds done; the ranks are "
        "among the others"
        for row in group.rows
        if row.role != "floor" and row.finished and not row.complete
    ]
    ranking, rules = group.ranking, sum(row.rank is not None for row in group.rows)
    lines += [
        f"{group.rows[i].label} and {group.rows[j].label} share no two seeds: compared unpaired"
        for i, j in ranking.unpaired[:3]
    ]
    if (more := len(ranking.unpaired) - 3) > 0:
        lines.append(f"{more} more pairs share no two seeds and are compared unpaired")
    if ranking.dominant is not None:
        name = group.rows[ranking.dominant].label
        scatter = f"{name} scatters so much over the seeds"
        lines.append(f"{scatter} that it widens the ranks of others")
    if rules > 1 and not ranking.deviation:
        text = "The differences between the rules are equal over the seeds"
        lines.append(f"{text}: the ranks are not certain")
    if ranking.deviation:
        own, scarce = "these few runs" if ranking.n < 5 else "these runs", _fewest(group)
        text = resolved(rules, ranking.n, ranking.deviation, own, scarce)
        lines.append(f"Ranks: {text}")
    return lines


def _fewest(group: Group) -> str:
    """Name the rules that have fewer seeds than the table; "" if every rule has them all."""
    fewest = group.ranking.n
    if fewest == len(group.seeds):
        return ""
    rules = [row for row in group.rows if row.rank is not None]
    names = [row.label for row in rules if len(row.finished) == fewest]
    if not names:
        return " (so many have two rules in common at the least)"
    if len(names) == len(rules):
        return ""
    return f" (all that {listed(names)} {'has' if len(names) == 1 else 'have'})"


def _contradictions(group: Group) -> list[str]:
    """Write, a line per row, which other runs of its cells ended in another way."""
    labels = {run.record.identity: row.label for row in group.rows for run in row.runs}
    of_row: dict[str, list[str]] = defaultdict(list)
    for run, other in group.contradicted:
        one, two = run.status, other.status
        if one == two:
            one, two = (NONE if r.accuracy is None else fraction(r.accuracy) for r in (run, other))
        text = f"seed {run.cell.seed} is {one} here, but {two} in run"
        of_row[labels[run.identity]].append(f"{text} {other.identity[:12]}")
    return [f"{name} {few(texts, '; ')}" for name, texts in of_row.items()]


def _chosen(group: Group) -> list[str]:
    """Write the settings of the recipe that the searches chose for each rule."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in group.rows:
        if row.tuned is not None and row.role != "floor":
            values = [f"{key}={plain_text(value)}" for key, value in row.tuned.recipe.items()]
            texts[row.tuned.scored_on].append(" ".join([row.label, *values]))
    return [
        f"Tuned, the best score on {SCORED_ON[scored_on]} among the trials: {listed(rows)}"
        for scored_on, rows in texts.items()
    ]


def of_group(group: Group, settings: Settings, explained: Iterable[Row] = ()) -> list[str]:
    """Write where the runs of one recipe are from, and the remarks on them."""
    return references(group) + of_runs(group, settings, explained)


def of_runs(group: Group, settings: Settings, explained: Iterable[Row] = ()) -> list[str]:
    """Write the remarks on the runs of one recipe.

    explained  rows whose reasons stand in the table already
    """
    lines, in_table = list[str](), {id(row) for row in explained}
    for row in group.rows:
        texts = reasons.of_row(row, settings)
        if texts and id(row) not in in_table:
            lines.append(f"{row.label} {row.verdict.kind}: {'; '.join(texts)}")
    lines += _margins(group) + _ranks(group) + _contradictions(group) + _shared(group)
    lines += _chosen(group) + _absent(group) + doubts.of_group(group, settings)
    lines += _relied_on(group) + doubts.said(group.rows)
    single = [row.label for row in group.rows if row.accuracy is not None and row.accuracy.n == 1]
    if single:
        lines.append(f"n=1: no interval for {listed(single)}")
    if group.cell.dataset.name == TEACHER:
        lines.append(
            "teacher is synthetic: labels of a random network can reverse the order of rules that "
            "natural images give. Compare the ranks with those on CIFAR-100"
        )
    if group.set_aside:
        rule = (
            "one run of a seed counts: that of the reference, else a replicated one, else one that "
            "is done, else a checked one, else the latest of the folder named first"
        )
        lines.append(f"{group.set_aside} further records of these cells set aside: {rule}")
    if len({record.data_checksum for record in group.records if record.data_checksum}) > 1:
        lines.append("Warning: these runs did not all read the same data (different checksums)")
    return lines
