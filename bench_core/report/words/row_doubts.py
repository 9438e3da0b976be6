"""List the facts about a row that could have changed its verdict; every format shows them.

These are thresholds unlike the protocol's, options whose defaults no run records, measurements made
after the run, an accuracy above that of bp (the rule may have seen the test set), a search on more
trials than a peer's, over other ranges, or on the test set, another optimiser than the recipe's, a
margin that is equal in all seeds, a credit without direction, a training that a diagnostic ended
before those beside it, a gradient that is small because the data are fitted, and a diagnostic of
two versions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench_core.analysis.accuracies import SAME
from bench_core.analysis.verdicts.ceilings import above_ceiling
from bench_core.analysis.verdicts.kinds import NOT_SEPARATED
from bench_core.analysis.verdicts.recipes import unlike_steps
from bench_core.analysis.verdicts.rows import RESET, Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import BEATS
from bench_core.names import CEILINGS_FLOOR, bare_name
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import compact, cosine, part, plural, with_interval
from bench_core.report.words.criteria import criteria_of
from bench_core.report.words.rows import cost_of_reset, gamma, gamma_by_state, information
from bench_core.report.words.summary import rules
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.ledger import RECIPE
from bench_core.suite.cells import CORE_DEFAULTS
from bench_core.suite.protocol import THRESHOLDS

AGAINST = "d is judged against"
FITTED = 0.01  # training loss below which the gradient is small because the data are fitted
ONE = "one value"  # of a setting that is not searched
EXACT = 0.99  # Γ of a credit that is the gradient
ALONG = 0.5  # Γ of a credit that points along it
MOST_SAID = 5  # lines about other users in a row or a table: anybody can invent some


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
    return lines + _unlike_ranges(row, rows)


def _unlike_ranges(row: Row, rows: Iterable[Row]) -> list[str]:
    """Say in which settings of the recipe a row was searched over other values than bp, or than a
    peer if bp was not tuned."""
    peers = [peer for peer in rules(rows) if peer.tuned is not None and peer is not row]
    peers = [peer for peer in peers if peer.role == "ceiling"] or peers
    own = _ranges(row)
    for peer in [] if row.role == "ceiling" else peers:
        theirs = _ranges(peer)
        if unlike := [key for key in sorted(own | theirs) if own.get(key) != theirs.get(key)]:
            parts = [
                f"{key} {own.get(key, ONE)}, {peer.label} over {theirs.get(key, ONE)}"
                for key in unlike
            ]
            remedy = "`bench tune` without --method searches all rules alike"
            return [f"was searched over {'; '.join(parts)}: their accuracies say little; {remedy}"]
    return []


def _ranges(row: Row) -> dict[str, str]:
    """Write the values of each setting of the recipe over which a row was searched."""
    space = row.tuned.space if row.tuned is not None else {}
    return {
        key.removeprefix(RECIPE): _range(values)
        for key, values in space.items()
        if key.startswith(RECIPE)
    }


def _range(values: Any) -> str:
    if not (isinstance(values, dict) and {"low", "high"} <= values.keys()):
        return plain_text(values)
    scale = f" ({values['scale']})" if "scale" in values else ""
    return f"{plain_text(values['low'])} … {plain_text(values['high'])}{scale}"


def undeclared(row: Row) -> list[str]:
    """Say that a rule audits the gradient, or steps down it, and declares nothing by which it could
    know it. The credit of a rule with a step of its own need not be the one that trains."""
    deep, used = gamma(row), information(row.runs)
    ways = {
        "exact_hidden_gradients",
        "weight_transport",
        "learned_feedback",
        "extra_forward_passes",
        "exact_top_credit",
    }
    states = [
        f"h_{layer}" for layer, own in gamma_by_state(row).items() if own and min(own) >= EXACT
    ]
    whole = deep.estimate is not None and deep.estimate.mean >= EXACT
    steps = _steps(row)
    down = bool(steps) and min(steps) >= EXACT
    if row.role == "floor" or used is None or used & ways or not (whole or states or down):
        return []
    alike = f"its credit is the gradient (Γ deep of {EXACT} or more)"
    if not whole and states:
        at = listed(states)
        alike = f"its credit at {at} is the gradient (Γ of {EXACT} or more in every run)"
    elif not whole:
        alike = (
            f"its blocks step down the gradient (projected_step of {EXACT} or more in every run)"
        )
    return [f"{alike}, and it declares no way to know it: does it pass `bench check`?"]


def steps_elsewhere(row: Row) -> list[str]:
    """Say that a credit points along the gradient, and that the step of its blocks does not."""
    deep, steps = gamma(row), _steps(row)
    unclear = deep.not_diagnostic or not deep.in_use or deep.blocks is not None
    penalised = row.method.params.get("penalty")  # which the step has, and the gradient has not
    if row.role == "floor" or deep.estimate is None or unclear or not steps or penalised:
        return []
    along, step = deep.estimate.mean, sum(steps) / len(steps)
    if along < ALONG or step > along / 4:
        return []
    return [
        f"its credit points along the gradient (Γ deep {cosine(along)}), and the step of its "
        f"blocks does not (projected_step {cosine(step)}): does it train by the credit that it "
        "shows? `bench check` tests it"
    ]


def _steps(row: Row) -> list[float]:
    """Return the projected step of every finished run; empty if one of them has none."""
    items = [run.record.measurements.get("projected_step") for run in row.finished]
    values = [
        item.value
        for item in items
        if item is not None and item.value is not None and not item.not_diagnostic
    ]
    return values if len(values) == len(items) else []


def idle(row: Row) -> list[str]:
    """Say that no block's trained weights make a difference, where block_utility was measured."""
    every = [run.record.measurements.get("block_utility") for run in row.finished]
    lost = [item.details.get("initial") for item in every if item is not None]
    known = lost and all(isinstance(each, list) and each for each in lost)
    if row.role == "floor" or not known or any(map(any, filter(None, lost))):
        return []
    text = "the accuracy on the probe stays the same when a block gets its initial weights "
    return [text + "(block_utility): do its blocks learn at all?"]


def dispensable(row: Row) -> list[str]:
    """Say that a margin is not that of the blocks: the network needs none of their training."""
    lost, over = row.reset, row.read
    if row.held == RESET and row.verdict.kind == NOT_SEPARATED:  # it is the reason of the verdict
        return []
    if lost is None or over is None or over.mean < BEATS or not row.dispensable:
        return []
    return [f"{cost_of_reset(lost)}: its margin is not that of its blocks"]


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


def cut_short(row: Row, rows: Sequence[Row]) -> list[str]:
    """Say that a diagnostic made trainings unlike in length whose accuracies are subtracted.

    These are a row and its floors, and a row whose trainings were ended and the other rules.
    """
    ended = {each.label for each in rows for run in each.finished if run.record.stopped_by}
    if row.role == "floor" or not ended:
        return []
    other = row.rescaled.floor
    names = {row.floor.name, CEILINGS_FLOOR, *([other.name] if other else [])}
    floors = [each for each in rows if each.role == "floor" and each.label in names]
    own = row.label in ended
    unlike = [each for each in floors if _lengths(each) != _lengths(row)]
    peers = [each for each in rows if each.role != "floor" and _lengths(each) != _lengths(row)]
    if not unlike and not (own and peers):
        return []
    others = [f"{each.label} after {_lengths(each)}" for each in unlike]
    what = ["margins"] * bool(unlike)
    if own and peers:
        others.append(f"other rules after {'; '.join(dict.fromkeys(map(_lengths, peers)))}")
        what.append("ranks")
    by = {str(run.record.stopped_by) for each in rows for run in each.finished}
    diagnostic = listed(sorted(by - {"None"}))
    lengths = f"this rule ends after epoch {_lengths(row)}, {', '.join(others)}"
    return [f"{diagnostic} ended trainings: {lengths}; {' and '.join(what)} compare unlike lengths"]


def _lengths(row: Row) -> str:
    """Write the epochs after which the finished trainings of a row ended."""
    return listed(map(str, sorted({run.record.epochs for run in row.finished})))


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
    loss = compact(max(low)) + " or less" * (len(low) > 1)
    count = part(len(low), len(row.finished), "run")
    return [
        f"b fires in {count} where hardly any training loss is left ({loss}): there the gradient "
        "is small because the data are fitted, which is no fault of the rule"
    ]


def versions(row: Row, rows: Iterable[Row]) -> list[str]:
    """Name the diagnostics of a row that two versions measured in the runs of its recipe."""
    numerics: dict[str, set[int]] = defaultdict(set)
    code: dict[str, set[str]] = defaultdict(set)
    for run in (run for each in rows for run in each.finished):
        for name, number, digest in _measured_by(run):
            numerics[name].add(number)
            code[name] |= {digest} - {""}
    lines = []
    for name in sorted({name for run in row.finished for name, *_ in _measured_by(run)}):
        if len(numerics[name]) > 1:
            numbers = f"numerics {listed(map(str, sorted(numerics[name])))}"
        elif len(code[name]) > 1:
            numbers = "its code differs between the runs"
        else:
            continue
        count = max(len(numerics[name]), len(code[name]))
        lines.append(
            f"{name} was measured by {count} versions of the diagnostic ({numbers}), whose figures "
            f"and flags do not compare: `bench audit FOLDER --diagnostic {name}` measures it again"
        )
    return lines


def _measured_by(run: Run) -> Iterator[tuple[str, int, str]]:
    """Yield each diagnostic that measured a run, its `numerics`, and its digest of code or ""."""
    for full, number in run.record.numerics.items():
        kind, _, name = full.partition(" ")
        short = bare_name(name)
        if kind == "diagnostic" and short in run.record.measurements:
            yield short, number, run.record.measured_by.get(name, "")


def of_training(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return the doubts about how a row was trained and measured, beside the other rows."""
    own = [*other_recipe(row), *undeclared(row), *steps_elsewhere(row), *idle(row)]
    own += [*dispensable(row), *tied(row), *fitted(row)]
    return [*own, *cut_short(row, rows), *versions(row, rows)]


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
        lines += [f"seed {seed}: {item.text}" for item in remarks if item.judges and item.differs]
    others = Counter(item.text for run in row.runs for item in run.standing.late if not item.judges)
    return lines + [f"{text} ({count} of {len(row.runs)} runs)" for text, count in others.items()]


def of_row(row: Row, group: Group, settings: Settings) -> list[str]:
    """Return all doubts about a row of a recipe."""
    old = sum(run.record.identity in group.older for run in row.runs)
    aged = f"{part(old, len(row.runs), 'run')} by older code than others here" * bool(old)
    over = above_ceiling(row, group)
    above = f"{with_interval(over.points)} pp above its ceiling" if over else ""
    statements = [text for run in row.runs for text in run.standing.said]
    others = [f"{count} {text}, as they say" for text, count in sorted(Counter(statements).items())]
    beside = [*filter(None, [above, aged, options(row, settings)]), *tuning(row, group.rows)]
    beside += [*of_training(row, group.rows), *limits(row, settings), *late(row)]
    return beside + few_users(others)


def few_users(lines: list[str]) -> list[str]:
    """Return the first lines about other users, and the number of the further ones."""
    more = [f"and {len(lines) - MOST_SAID} more by other users, as they say"]
    return lines[:MOST_SAID] + (more if len(lines) > MOST_SAID else [])
