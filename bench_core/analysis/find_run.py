"""Find the run that a user means: by its folder, or by the first letters of its identity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench_core.analysis.verdicts.labels import label
from bench_core.analysis.verdicts.roles import is_floor
from bench_core.errors import UsageError
from bench_core.printable import few
from bench_core.results import store
from bench_core.results.record import RunRecord
from bench_core.results.reference import installed
from bench_core.results.scan import Stored, scan
from bench_core.suite.cells import same_name

NO_RUN = (
    "`bench plan SUITE` lists the identities of cells, and says which have a run; "
    "`bench info NAME` explains a rule"
)


def run_folder(text: str) -> Path | None:
    """Return the run folder that a RUN of the command line names, None for letters of an identity.

    Raises UsageError for an empty text, and for a suite of the reference or the folder of one.
    """
    remedy = "give the folder of a run, or the first letters of its identity"
    if not text:
        raise UsageError(f"RUN is empty: {remedy}")
    folder = Path(text)
    remedy += f"; `bench leaderboard {text}` shows the suite"
    if not os.path.isdir(folder):
        if (shipped := installed()) and shipped.suite(text):
            raise UsageError(f"{text}: is a suite; {remedy}")
        return None
    if not (folder / store.RUN).exists() and any(folder.glob(f"*/{store.RUN}")):
        raise UsageError(f"{text}: is the folder of a suite; {remedy}")
    return folder


def the_one(text: str, identities: Iterable[str], roots: Sequence[Path], more: str = "") -> str:
    """Return the one identity that begins with a text. Raises UsageError."""
    matches = sorted({identity for identity in identities if identity.startswith(text)})
    if len(matches) == 1:
        return matches[0]
    where = " and ".join(map(str, roots))
    if matches:
        names = ", ".join(identity[:12] for identity in matches[:6])
        fault = f"{len(matches)} runs in {where} begin like this: {names}"
        raise UsageError(f"{text}: {fault}; give more letters, or the folder of the run")
    fault = f"no run in {where} begins like this{more}"
    raise UsageError(f"{text}: {fault}; {NO_RUN}")


def find_run(text: str, roots: Sequence[Path]) -> Stored:
    """Find a run by its identity, by its first letters or by its folder. Raises UsageError.

    Of an identity in several suites, a run that is done comes first.
    """
    if folder := run_folder(text):
        try:
            return Stored(store.read(folder, sums=True), folder)
        except store.Unreadable as reason:
            raise UsageError(f"{text}: {reason}") from None
    stored = scan(roots)
    own = [run.record for run in stored.runs if same_name(run.record.cell.method.name, text)]
    if own:
        own.sort(key=lambda run: run.finished, reverse=True)
        own.sort(key=is_floor)
        runs = few(
            [
                f"{run.identity[:12]} ({label(run.cell.method, (), run.defaults())}, seed "
                f"{run.cell.seed}, {run.status})"
                for run in own
            ]
        )
        raise UsageError(f"{text}: is a rule; give the letters of a run, the last first: {runs}")
    set_aside = "".join(f"; {line}" for line in stored.troubles if f"/{text}" in line)
    identity = the_one(text, (run.record.identity for run in stored.runs), roots, set_aside)
    same = [run for run in stored.runs if run.record.identity == identity]
    return min(same, key=lambda run: run.record.status != "done")


def also_in(run: RunRecord, folder: Path, others: Iterable[tuple[RunRecord, Path]]) -> str:
    """Name the other run folders of an identity, with their statuses where these differ; ""."""
    places = {
        place: f" ({record.status})" * (record.status != run.status)
        for record, place in others
        if record.identity == run.identity and place != folder
    }
    return ", ".join(f"{place.parent}{status}" for place, status in places.items())
