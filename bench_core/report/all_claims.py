"""Write docs/claims.md: the claims of every suite beside the reference (`bench claims --all`).

A failing claim has a finding, in `findings.yaml` of the reference: its cause (ours, theirs or
chance) and the evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from bench_core.analysis.board import Board, SuiteClaims, board
from bench_core.analysis.claims import ClaimResult, Status
from bench_core.execution.cost import spoken
from bench_core.report.claimed import claim_text, claims_text, expected_text, measured_text
from bench_core.report.escape import markdown
from bench_core.report.numbers import plural
from bench_core.report.text import tabulated
from bench_core.results import files

FINDINGS = "findings.yaml"
CAUSES = ("ours", "theirs", "chance")
HEAD = """\
# Claims

Every published figure that a suite states, beside the runs of the reference (version {version},
{runs}; [reference/README.md](../reference/README.md)). Written by `bench claims --all -o
docs/claims.md`: do not edit it. A claim is judged on the runs of its own recipe
([protocol.md](protocol.md), section 8). *Not run* names the reason and what its trainings would
take on the machine of the reference.
"""


def all_claims() -> tuple[str, list[str]]:
    """Return the document, and a line for each run of the reference that cannot be read."""
    known = board()
    suites = list(known.suites())
    findings, troubles = _findings(known)
    blocks = [_head(known), _table(suites), _failing(suites, findings)]
    judged = [(item.suite.name, priced(item)) for item in suites]
    return "\n".join([*blocks, claims_text(judged, "markdown")]), [*known.troubles, *troubles]


def _head(known: Board) -> str:
    version = known.shipped.version if known.shipped else "none"
    return HEAD.format(version=version, runs=plural(len(known.runs), "run"))


def _table(suites: Iterable[SuiteClaims]) -> str:
    """Count the outcomes by suite."""
    rows, total, lacking = [], Counter[Status](), 0.0
    for item in suites:
        counts = Counter(outcome.status for outcome in item.outcomes)
        cost = item.missing
        total, lacking = total + counts, lacking + cost
        names = [item.suite.name, *(str(counts[key]) for key in ("holds", "fails", "not run"))]
        rows.append([*names, spoken(cost) if cost else "–"])
    rows.append(
        ["all", *(str(total[key]) for key in ("holds", "fails", "not run")), spoken(lacking)]
    )
    heads = ["suite", "hold", "fail", "not run", "trainings of those not run, about"]
    return tabulated(rows, heads, style="pipe", align=["left", *["right"] * 4]) + "\n"


def priced(item: SuiteClaims) -> list[ClaimResult]:
    """Return the outcomes of a suite, those not run with the cost of their trainings."""
    return [*map(_with_cost, item.outcomes, item.seconds)]


def _with_cost(outcome: ClaimResult, seconds: Mapping[Any, float] | None) -> ClaimResult:
    if outcome.status != "not run":
        return outcome
    cost = f"about {spoken(sum(seconds.values()))}" if seconds else "cost not known"
    return replace(outcome, notes=tuple(f"{note} ({cost})" for note in outcome.notes))


def _failing(suites: Iterable[SuiteClaims], findings: Sequence[dict[str, Any]]) -> str:
    """List the claims that fail, each with what was found out about it."""
    lines = ["## Claims that fail", ""]
    for item in suites:
        for outcome in item.outcomes:
            if outcome.status == "fails":
                claim = outcome.claim
                name = claim_text(claim, outcome.label)
                texts = f"expected {expected_text(claim)}, measured "
                texts += f"{measured_text(claim, outcome.measured)}"
                n = outcome.measured.n if outcome.measured else 0
                own = [f for f in findings if (f["suite"], f["claim"]) == (item.suite.name, name)]
                found = f"{own[0]['cause']}. {own[0]['finding']}" if own else "not looked into yet"
                lines.append(
                    markdown(f"- {item.suite.name}: {name}: {texts}, n = {n}. Cause: {found}")
                )
    return "\n".join([*lines, *(["None."] if len(lines) == 2 else []), ""])


def _is_finding(entry: Any) -> bool:
    keys = {"suite", "claim", "cause", "finding"}
    texts = isinstance(entry, dict) and all(isinstance(text, str) for text in entry.values())
    return texts and set(entry) == keys and entry["cause"] in CAUSES


def _findings(known: Board) -> tuple[list[dict[str, Any]], list[str]]:
    """Read findings.yaml, a list of mappings of `suite`, `claim` as printed, `cause`, `finding`."""
    if known.shipped is None or not (known.shipped.folder / FINDINGS).exists():
        return [], []
    path = known.shipped.folder / FINDINGS
    try:
        entries = yaml.safe_load(files.read(path, "suite", parts=1)) or []
        wrong = [entry for entry in entries if not _is_finding(entry)]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        return [], [f"{path}: cannot be read: {files.reason(error)}"]
    need = f"an entry needs suite, claim, finding and cause ({', '.join(CAUSES)})"
    troubles = [f"{path}: {need}: {str(entry)[:100]}" for entry in wrong]
    return [entry for entry in entries if entry not in wrong], troubles
