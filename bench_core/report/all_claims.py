"""Write docs/claims.md: the claims of every suite beside the reference (`bench claims --all`).

A failing claim has a finding: its cause (ours, theirs or chance) and the evidence. The board shows
the same counts and findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from bench_core.analysis.claims.board import FINDINGS, Board, Finding, SuiteClaims, board
from bench_core.analysis.claims.hold import ClaimResult
from bench_core.analysis.verdicts.kinds import FAILS, HOLDS, NOT_RUN, ClaimStatus
from bench_core.report.claims_table import claim_text, claims_text, expected_text, measured_text
from bench_core.report.text.escape import markdown
from bench_core.report.text.layout import paragraph, tabulated
from bench_core.report.text.numbers import NONE, plural
from bench_core.results.duration import spoken

HEAD = """\
# Claims

Compares every published figure that a suite states with the runs of the reference (version
{version}, {runs}; [reference/README.md](../reference/README.md)). `bench claims --all -o
docs/claims.md` writes this page: do not edit it. A claim is judged on the runs of its own recipe
([protocol.md](protocol.md), section 8). With n = 1 another seed may turn the outcome. `bench claims
audit5 --format json` lists the runs of each claim of audit5, and `bench show IDENTITY` shows a run.
Further runs that a finding names are not in the reference. In a finding *the source* is the
publication, *ours* are the runs of the reference. Its cause is *ours* or *theirs* if the difference
comes from our side or from the source, and *chance* if seeds or random draws explain it.

"""
COSTS = (
    "The last columns count the trainings that the claims not run still need, and their time on "
    "one core of a machine like those of the reference. The estimate comes from the fastest like "
    "runs of the reference, and from measured steps. It may be too long where all runs of a rule "
    "shared their core: the slowest run of a rule took up to six times as long as its fastest. On "
    "a busy core it is too short. A training that several claims need counts once. Further seeds "
    "of measured claims are not counted. Suites on handwritten digits are not in the reference: "
    "they train in minutes (`bench run rules`, then `bench claims results/rules`), and a first "
    "`bench run quickstart`, which has cells of rules, is to train what it shows."
)
TOLERANCES = (
    "A claim holds if our mean lies within the tolerance that its suite states. {apart} of those "
    "that hold have a 95 % interval that excludes the published value: they agree within the "
    "tolerance, and differ by more than the scatter of our seeds."
)
SETTLED = (
    "{known} of the {judged} claims that were judged have an interval. Of those that hold, "
    "{inside} have it wholly within the range, and {crossing} have an end of it outside: more "
    "seeds may change these. Of those that fail, {beside} have it wholly outside the range, and "
    "{touching} reach into it. The others rest on one seed or on two with one value, or "
    "are shares, which have no interval."
)
SILENT = (
    "{all} of the judged claims are about a figure that a run at least calls not diagnostic, so "
    "that their outcome says little about the rule: {hold} hold and {fail} fail."
)
COUNTS = ("suite", "what it is", "hold", "fail", "not run", "trainings needed", "time on one core")


def all_claims() -> tuple[str, list[str]]:
    """Return the document, and a line for each part of the reference that cannot be read."""
    known = board()
    suites = list(known.suites())
    table = tabulated(
        [[markdown(cell) for cell in row] for row in counts(suites)],
        COUNTS,
        style="pipe",
        align=["left", "left", *["right"] * 5],
    )
    judged = [(item.suite.name, priced(item)) for item in suites]
    apart = sum(result.excludes_published for item in suites for result in item.outcomes)
    wide = paragraph([TOLERANCES.format(apart=plural(apart, "claim"))], 100, indent="")
    outcomes = [result for item in suites for result in item.outcomes]
    wide += f"\n\n{paragraph([settled(outcomes)], 100, indent='')}"
    costs = f"## What was not run, and what it costs\n\n{paragraph([COSTS], 100, indent='')}"
    blocks = [_head(known), costs, table, wide, _failing(suites), claims_text(judged, "markdown")]
    return "\n\n".join(blocks), known.troubles or list(_stale(known, suites))


def settled(outcomes: Sequence[ClaimResult]) -> str:
    """Say how many outcomes the intervals settle, and how many are of no meaning."""
    found = Counter((item.status, item.settled) for item in outcomes if item.status != NOT_RUN)
    known = sum(count for (_, how), count in found.items() if how is not None)
    silent = Counter(item.status for item in outcomes if item.not_diagnostic)
    ends = SETTLED.format(
        known=known,
        judged=found.total(),
        inside=found[HOLDS, True],
        crossing=found[HOLDS, False],
        beside=found[FAILS, True],
        touching=found[FAILS, False],
    )
    return f"{ends} {SILENT.format(all=silent.total(), hold=silent[HOLDS], fail=silent[FAILS])}"


def _stale(known: Board, suites: Sequence[SuiteClaims]) -> Iterator[str]:
    """Name the findings whose claim does not fail; asked only if every run could be read."""
    failing = {(item.suite, item.claim) for item in failures(suites)}
    for suite, findings in known.findings.items():
        for claim in findings:
            if (suite, claim) not in failing:
                yield f"{FINDINGS}: {suite}: {claim}: no such claim fails; remove its finding"


def _head(known: Board) -> str:
    runs = plural(len(known.runs), "run")
    return HEAD.format(version=known.shipped.version, runs=runs).strip()


def counts(suites: Iterable[SuiteClaims]) -> list[list[str]]:
    """Count the outcomes and the missing trainings by suite, and in all; a row as in `COUNTS`."""
    rows, total, every = [], Counter[ClaimStatus](), dict[Any, float]()
    for item in suites:
        own, missing = Counter(outcome.status for outcome in item.outcomes), item.missing
        rows.append([item.suite.name, item.suite.title, *_cells(own, missing)])
        total += own
        every |= missing
    return [*rows, ["all", "", *_cells(total, every)]]


def _cells(outcomes: Mapping[ClaimStatus, int], missing: Mapping[Any, float]) -> list[str]:
    numbers = [str(outcomes.get(status, 0)) for status in get_args(ClaimStatus)]
    time = f"about {spoken(sum(missing.values()))}" if missing else NONE
    return [*numbers, str(len(missing) or NONE), time]


def priced(item: SuiteClaims) -> list[ClaimResult]:
    """Return the outcomes of a suite, those not run with the time of their trainings."""
    return [*map(_with_cost, item.outcomes, item.seconds)]


def _with_cost(outcome: ClaimResult, seconds: Mapping[Any, float] | None) -> ClaimResult:
    if seconds == {}:  # every training has a run
        return outcome
    cost = f"about {spoken(sum(seconds.values()))}" if seconds else "time not known"
    return replace(outcome, notes=tuple(f"{note} (training: {cost})" for note in outcome.notes))


@dataclass(frozen=True)
class Failure:
    """A claim that fails, in words, and what was found out about it."""

    suite: str
    claim: str
    outcome: str
    finding: Finding | None

    @property
    def cause(self) -> str:
        return f"Cause: {self.finding.cause if self.finding else 'not looked into yet'}."


def failures(suites: Iterable[SuiteClaims]) -> Iterator[Failure]:
    """Yield the claims that fail."""
    for item in suites:
        for result in item.outcomes:
            if result.status == FAILS and result.measured:
                claim = result.claim
                name = claim_text(claim, result.label, result.other)
                measured = f"measured {measured_text(claim, result.measured)}"
                texts = f"expected {expected_text(claim)}, {measured}, n = {result.measured.n}"
                yield Failure(item.suite.name, name, texts, item.findings.get(name))


def _failing(suites: Sequence[SuiteClaims]) -> str:
    lines = [
        f"- {markdown(f'{item.suite}: {item.claim}: {item.outcome}.')} **{item.cause}** "
        f"{markdown(item.finding.text) if item.finding else ''}".strip()
        for item in failures(suites)
    ]
    return "\n".join(["## Claims that fail", "", *(lines or ["None."])])
