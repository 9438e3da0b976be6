"""Write the lines below a leaderboard: why methods are walked back, and legends.

All functions return raw text, which each format escapes. Lines depend on the set of records only,
not on their order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from statistics import fmean

from bench_core.analysis.early_stop import savings
from bench_core.analysis.judge import NOT_IN_USE, Settings, label
from bench_core.analysis.leaderboard import Group, Row, is_finished
from bench_core.analysis.older import listed as modules_of
from bench_core.analysis.older import older
from bench_core.analysis.ranks import resolved
from bench_core.analysis.verdict import AT_CHANCE, Margin, below_zero
from bench_core.report import doubts
from bench_core.report.columns import COLUMNS, further, shipped
from bench_core.report.criteria import criteria
from bench_core.report.numbers import NONE, fraction, plural, signed, with_interval
from bench_core.report.rows import (
    OTHER,
    PASSPORT,
    alignments,
    floor_words,
    gamma,
    passport,
    trust,
    value_of,
    why,
)
from bench_core.report.text import listed
from bench_core.results.hashing import line_text
from bench_core.results.marks import ORDER

CITATION = "arXiv:2606.21126"
NOTHING = "No runs yet: nothing to show."
AGAINST = -0.5
TEACHER = "bench-core/teacher"
WORDS = {"validation": "held-out training samples", "test": "the test set"}
WRONG_SIGN = "such credit points against the gradient; is its sign right?"


def _failures(group: Group) -> list[str]:
    lines = []
    for row in group.rows:
        broken = [run.record for run in row.runs if not is_finished(run.record)]
        if broken:
            failures = []
            for record in broken[:3]:
                status = record.status if record.status != "done" else "without a usable accuracy"
                reason = f": {record.reason}" if record.reason else ""
                failures.append(f"seed {record.cell.seed} {status}{reason}")
            failures += [f"and {len(broken) - 3} more"] if len(broken) > 3 else []
            count = f"{len(broken)} of {len(row.runs)} runs not done"
            lines.append(f"{row.label}: {count} ({'; '.join(failures)})")
        absent = sorted(set(group.seeds) - {run.record.cell.seed for run in row.runs})
        if absent:
            lines.append(f"{row.label}: no run of seed {listed(map(str, absent))}")
    return lines


def _shared(group: Group) -> list[str]:
    """Write each remark once, with the labels of all methods that it is about."""
    letters = [column.letter for column in (*COLUMNS, *further(group.rows)) if column.letter]
    # (place, text before the labels, text after them) → labels
    remarks: dict[tuple[int, str, str], dict[str, None]] = defaultdict(dict)
    for row in group.rows:
        deep, name = gamma(row), row.label
        if deep.not_diagnostic is not None:
            remarks[0, "† Γ means nothing for ", f": {deep.not_diagnostic}"][name] = None
        elif deep.estimate is not None and deep.estimate.mean < AGAINST:
            remarks[1, "Γ deep of ", f" is under {AGAINST}: {WRONG_SIGN}"][name] = None
        elif below_zero(deep.estimate):
            remarks[1, "Γ deep of ", f" lies below 0 with its interval: {WRONG_SIGN}"][name] = None
        if not deep.in_use:
            remarks[2, "‡ Γ of ", f": {NOT_IN_USE}"][name] = None
        done = [run for run in row.runs if run.record.status == "done"]
        silent = Counter(pair for run in done for pair in run.judgement.not_diagnostic)
        for (letter, reason), count in silent.items():
            some = f" in {count} of {len(done)} runs" if count < len(done) else ""
            remarks[3, f"{letter} not diagnostic for ", f"{some}: {reason}"][name] = None
        for measured, item in (pair for run in done for pair in run.record.measurements.items()):
            if error := item.raised:
                remarks[4, f"{measured} not measured for ", f": {error}"][name] = None
        if row.role != "floor" and row.finished and row.floor.mean is None:
            remarks[4, "d not measured for ", f": {row.floor.reason}"][name] = None
        values = [value_of(row, letter) for letter in letters]
        if any(value is not None and not math.isfinite(value) for value in values):
            remarks[5, "A measurement of ", " is not finite, and such a value fires"][name] = None
    return [
        before + listed(sorted(labels) if place in (3, 4) else labels) + after
        for (place, before, after), labels in sorted(remarks.items())
    ]


def _readouts(group: Group) -> list[str]:
    """Write Γ deep of further read-outs of the credit (ep: displacement), if it is diagnostic."""
    values = []
    for row in group.rows:
        read = alignments(row)
        if not read or any(item.not_diagnostic is not None for item in read):
            continue
        for name in read[0].readouts:
            own = [(item.readouts.get(name), item.deep) for item in read]
            others = [value for value, deep in own if value is not None and value != deep]
            values += [f"{row.label} {name} {signed(fmean(others), 3)}"] if others else []
    return [f"Γ deep by further read-outs: {listed(values)}"] if values else []


def _relied_on(group: Group, settings: Settings) -> list[str]:
    """Count the runs that were checked or replicated, by method; no line if all are posted."""
    by_state: dict[str, Counter[str]] = defaultdict(Counter)
    for row in group.rows:
        for run in row.runs:
            by_state[trust(run, settings)][row.label] += 1
    if by_state.keys() <= {"posted"}:
        return []
    parts = []
    for state in (state for state in ORDER if state in by_state):
        names = listed(f"{name} {count}" for name, count in sorted(by_state[state].items()))
        methods = f" ({names})" if state != "posted" else ""
        parts.append(f"{by_state[state].total()} {state}{methods}")
    total = sum(map(Counter.total, by_state.values()))
    return [f"Of {total} run{'s' * (total != 1)}: {'; '.join(parts)}"]


def _references(group: Group) -> list[str]:
    """Write which rows have runs of the reference, with the dates and hardware of these."""
    rows: dict[str, list[str]] = defaultdict(list)
    for row in group.rows:
        if text := shipped(row):
            rows[text].append(row.label)
    return [f"° {text}: {listed(labels)}" for text, labels in rows.items()]


def warning(group: Group) -> str:
    """Write that a recipe cannot judge d, and what would; empty if it can."""
    if group.ceiling is None:
        return ""
    ceiling = next(row for row in group.rows if row.role == "ceiling")
    given = ceiling.floor.kind == "literal"
    floor = floor_words(ceiling) if given else "its frozen blocks"
    remedy = "" if given else " More epochs or more data may help."
    if group.ceiling.mean < 0 or ceiling.judged.letters:
        remedy = " It does not train bp: look at the learning rate first."
    gain = f"bp itself gains only {with_interval(group.ceiling)} pp over {floor}"
    return f"This recipe cannot judge d: {gain}.{remedy}"


def _unchecked(group: Group) -> list[str]:
    """Write that bp leaves open whether the recipe can judge d, and what d then rests on."""
    if all(row.role != "method" or row.margin is None for row in group.rows):
        return []
    ceiling = next((row for row in group.rows if row.role == "ceiling"), None)
    if ceiling is None:
        reason = "it has no run of bp"
    elif not ceiling.complete:
        reason = f"{len(ceiling.finished)} of {len(ceiling.runs)} seeds of bp are done"
    elif ceiling.margin is None:
        reason = ceiling.floor.reason
    else:
        return []
    rest = "d rests on the margins of the rules alone"
    return [f"Whether this recipe can judge d is not known: {reason}; {rest}"]


def _margins(group: Group, settings: Settings) -> list[str]:
    """Write the margins that decide nothing yet, and how margins were compared."""
    lines = _unchecked(group)
    for row in group.rows:
        if row.judged.kind.startswith("not separated"):
            over, floor = row.margin, floor_words(row)
            if AT_CHANCE in dict(row.runs[0].judgement.not_diagnostic).values():
                over, floor = row.margin_bp, "bp with frozen blocks"
            limit = next(c.limit(settings.thresholds) for c in criteria([row]) if c.margin)
            text = f"{with_interval(over)} pp over {floor}"
            need = f"d needs {limit:g} and an interval above 0"
            lines.append(f"{row.label} not separated from its floor: {text}; {need}")
        bp = row.margin_bp
        if row.role != "floor" and bp is not None and bp.mean < 0 and not below_zero(bp):
            mean = "mean" if bp.n > 1 else "accuracy"
            written = with_interval(bp, 1 if abs(bp.mean) >= 0.05 else 3)
            text = f"its {mean} is below bp with frozen blocks ({written} pp)"
            lines.append(f"{row.label}: {text}")
        if row.role != "floor":
            lines += _pairs(row.label, "its floor", row.over_floor)
            if row.over_bp != row.over_floor:
                lines += _pairs(row.label, "bp with frozen blocks", row.over_bp)
    return lines


def _pairs(label: str, floor: str, over: Margin | None) -> list[str]:
    """Write how a margin was taken where a seed of the rule has no twin."""
    if over is None or over.how == "paired":
        return []
    own, theirs = (listed(map(str, seeds)) for seeds in (over.seeds, over.floor_seeds))
    how = "unpaired, with Welch's interval" if over.how == "unpaired" else "by means"
    return [f"{label} (seeds {own}) and {floor} (seeds {theirs}) are compared {how}"]


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
    if ranking.loud is not None:
        name = group.rows[ranking.loud].label
        lines.append(f"{name} scatters so much over its seeds that it widens the ranks of others")
    if ranking.deviation:
        lines.append(resolved(rules, ranking.n, ranking.deviation))
    return lines


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
    return [f"{name} {'; '.join(texts)}" for name, texts in of_row.items()]


def _chosen(group: Group) -> list[str]:
    """Write the settings of the recipe that the searches chose for each rule."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in group.rows:
        if row.tuned is not None and row.role != "floor":
            values = [
                f"{key}={value if isinstance(value, str) else line_text(value)}"
                for key, value in row.tuned.recipe.items()
            ]
            texts[row.tuned.scored_on].append(" ".join([row.label, *values]))
    return [
        f"Tuned, the best score on {WORDS[scored_on]} among the trials: {listed(rows)}"
        for scored_on, rows in texts.items()
    ]


def _older(group: Group) -> list[str]:
    """Name the rows with runs by older code than that of other runs of the recipe."""
    changed = older(group.records)
    rows = [row for row in group.rows if any(r.record.identity in changed for r in row.runs)]
    names = sorted({name for own in changed.values() for name in own})
    remedy = "`bench run` trains them again, `bench clean --older` removes them"
    text = f"Older code than other runs here ({modules_of(names)}): "
    return [f"{text}{listed(row.label for row in rows)}; {remedy}"] if rows else []


def of_group(group: Group, settings: Settings) -> list[str]:
    """Write the remarks on the runs of one recipe."""
    reasons = [(row, "; ".join(why(row, settings))) for row in group.rows]
    lines = _references(group)
    lines += [
        f"{row.label} {'flagged' if row.judged.kind == 'single seed' else 'walked back'}: {text}"
        for row, text in reasons
        if text
    ]
    lines += _margins(group, settings) + _ranks(group) + _contradictions(group) + _shared(group)
    lines += _chosen(group) + _readouts(group) + _failures(group) + doubts.of_group(group, settings)
    lines += _relied_on(group, settings) + doubts.said(group.rows, settings)
    single = [row.label for row in group.rows if row.accuracy is not None and row.accuracy.n == 1]
    if single:
        lines.append(f"n=1: no interval for {listed(single)}")
    floors = listed(row.label for row in group.rows if row.role == "floor")
    ceilings = listed(row.label for row in group.rows if row.role == "ceiling")
    lines.append(f"Floors: {floors or 'none'}. Ceiling: {ceilings or 'none'}.")
    if group.cell.dataset.name == TEACHER:
        lines.append(
            "teacher is synthetic: labels of a random network can reverse the order of rules that "
            "natural images give. Compare the ranks with those on CIFAR-100"
        )
    lines += _older(group)
    if group.set_aside:
        rule = "a seed counts once, its latest done"
        lines.append(f"{group.set_aside} further records of these cells set aside: {rule}")
    if len({record.data_checksum for record in group.records if record.data_checksum}) > 1:
        lines.append("Warning: these runs did not all read the same data (different checksums)")
    return lines


def _judged_by(settings: Settings) -> str:
    depth = settings.depth_utility
    if depth.floor_value is not None:
        return f"a given accuracy of {depth.floor_value:g}"
    matched = "the matched floor (same method, blocks frozen)"
    return matched if depth.floor == "matched" else f"{depth.floor} with frozen blocks"


def _stopped(groups: Sequence[Group]) -> list[str]:
    """Write what `stop_when` saved and cost, a line per recipe and method."""
    records = [record for group in groups for record in group.records]
    peers = [record.cell.method for record in records]
    every = savings(records)
    several = len({item.system for item in every}) > 1
    lines = []
    for item in every:
        name = label(item.method, peers) + (f" ({item.system})" if several else "")
        after = ", ".join(map(str, item.at.values()))
        seconds = f", about {item.seconds:.0f} s," if item.seconds is not None else ""
        saved = f"{plural(item.epochs, 'epoch')}{seconds} saved"
        cost = "what it cost in accuracy is not known: the same cells were not trained to their end"
        if item.cost is not None:
            compared = f"against the same cells trained to their end (n={item.cost.n})"
            cost = f"accuracy {with_interval(item.cost)} pp {compared}"
        end = f"{name} ended by {item.diagnostic} after epoch {after} of {item.planned}"
        lines.append(f"{end}: {saved}; {cost}")
    return lines


def of_all(
    groups: Sequence[Group], settings: Settings, keys: Collection[str] | None = None
) -> list[str]:
    """Explain how to read the tables.

    keys  of the columns that are shown: only these have a legend; None: all
    """
    rows: list[Row] = [row for group in groups for row in group.rows]
    columns = [*COLUMNS, *further(rows)] if rows else []
    shown = {column.key for column in columns} if keys is None else keys
    lines = [
        "±: 95 % interval, Student t over seeds (n finished runs). #: the ranks that are possible, "
        "by differences paired by seed unless a line says otherwise; all at once hold with 95 %. "
        "Floors, single seeds and rules with an unfinished seed have none (–).",
        f"d is judged against {_judged_by(settings)}: it passes if the margin reaches the threshold"
        " and its interval lies above 0, and walks back if the interval lies below the threshold."
        " Margins (Δ; Δ pp: over the matched floor, Δ bp: over bp with frozen blocks) are"
        " percentage points, paired by seed unless a line says otherwise.",
    ]
    of_letter = {item.letter: item for item in criteria(rows)}
    medians = [
        of_letter[column.letter]
        for column in columns
        if column.key in shown and column.letter in of_letter
    ]
    if medians:
        names = " and ".join(f"{item.heading} ({item.letter})" for item in medians)
        batches = [(item.heading, item.item.batch) for item in medians if item.item.batch]
        per_sample = [f"; {name} is per sample, divided by N={n}" for name, n in batches]
        lines.append(f"{names}: median over finished runs{''.join(per_sample)}")
    if any(row.trials is not None for row in rows):
        lines.append(
            "trials: trainings with other values, from which the recipe and the options of the row "
            "were chosen; on another seed, without a look at these runs"
        )
    if "gamma" in shown:
        lines.append("Γ deep: mean over finished runs of the cosine to the reference gradient")
    if "passport" in shown:
        codes = {code for row in rows for code in passport(row).split()}
        legend = [f"{code} {text}" for code, text in [*PASSPORT.values(), OTHER] if code in codes]
        if "local" in codes:
            legend.append("local: none of what a passport lists")
        lines += ["Uses: " + ", ".join(legend)] if legend else []
    if settings.trust or settings.said:
        lines.append(
            "checked: your `bench verify` found no fault. replicated: your `bench replicate` "
            "trained it again and it agrees; disputed: it does not agree. posted: none of these. "
            "as they say: only the word of another user."
        )
    lines += _stopped(groups)
    lines.append("The last epoch counts, never the best. The test set is also the probe.")
    lines.append(f"Protocol: {CITATION}")
    return lines
