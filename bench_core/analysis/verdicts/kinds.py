"""The verdicts of a rule, the flags of a run and the outcomes of a claim: one table of each.

Verdicts, terminal, tables, figures and page are made from these tables. A run that is not done has
its status in place of flags (`bench_core.results.status`), and so has a rule without a done run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

TRUSTWORTHY, WALKED_BACK, NOT_SEPARATED, UNDETERMINED, SINGLE_SEED = (
    "trustworthy",
    "walked back",
    "not separated from its floor",
    "undetermined",
    "single seed",
)
FLAGGED, NO_FLAG, INCOMPLETE = "flagged", "no flag", "incomplete"
ClaimStatus = Literal["holds", "fails", "not run"]
HOLDS, FAILS, NOT_RUN = get_args(ClaimStatus)
FLOOR = "floor"  # of runs and rules: others are compared with it


@dataclass(frozen=True)
class Kind:
    """Describe the verdicts, flags or outcomes of one name.

    tone     the colour; mid: nothing is decided
    meaning  what the legend says of it; {limit}, {floor}, {names} of diagnostics and
             {scales}, the floors of another scale, are filled in
    brief    its words in the column of a table, if they are fewer
    """

    tone: Literal["good", "bad", "mid"]
    meaning: str = ""
    brief: str = ""


VERDICTS = {
    TRUSTWORTHY: Kind(
        "good",
        "{limit} points or more over {floor}, with an interval above 0{scales}; not shown to lie "
        "below the bp floor; no diagnostic fires after the last epoch{names}",
    ),
    WALKED_BACK: Kind(
        "bad",
        "a claim that this rule works would have to be withdrawn, for the reasons below its row "
        "(medians over the seeds that fire; margins are means)",
    ),
    NOT_SEPARATED: Kind(
        "mid",
        "not shown to reach {limit} points over {floor}, and nothing walks it back",
        brief="not separated",
    ),
    UNDETERMINED: Kind("mid", "something is missing for a verdict"),
    SINGLE_SEED: Kind("mid", "one finished seed is too few for a verdict"),
}
FLAGS = {NO_FLAG: Kind("good"), FLAGGED: Kind("bad"), INCOMPLETE: Kind("mid")}
CLAIMS = {HOLDS: Kind("good"), FAILS: Kind("bad"), NOT_RUN: Kind("mid")}
KINDS = VERDICTS | FLAGS | CLAIMS


def brief(kind: str) -> str:
    """Return the word of a kind in the column of a table."""
    return (KINDS[kind].brief or kind) if kind in KINDS else kind
