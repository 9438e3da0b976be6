"""Join the results of one suite: those of several people, and a submission with the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_core.analysis.gather import SuiteResults, gather, left_behind
from bench_core.analysis.verdicts.standing import Standing
from bench_core.results import reference, remeasured
from bench_core.results.marks import ORDER
from bench_core.results.record import RunRecord


def beside_reference(roots: Sequence[Path]) -> tuple[list[SuiteResults], list[str]]:
    """Gather results to show, and join submissions with the rows of the reference of their suite.

    Results of `bench run` have these rows already. Whatever shows results reads them here. What
    acts on the runs of a folder (verify, replicate, submit, merge, clean) reads that folder alone.
    """
    suites, troubles = gather(roots)
    shipped = reference.installed()
    posted = {suite.name for suite in suites if any(map(_is_posted, suite.records))}
    folders = [shipped.suite(name) for name in sorted(posted)] if shipped else []
    if not (beside := [folder for folder in folders if folder is not None]):
        return suites, troubles
    suites, troubles = gather([*roots, *beside])
    joined, lines = together([suite for suite in suites if suite.name in posted])
    others = [suite for suite in suites if suite.name not in posted]
    return [*others, *joined], [*troubles, *lines]


def _is_posted(record: RunRecord) -> bool:
    return bool(record.original) and not record.shipped


def together(suites: Sequence[SuiteResults]) -> tuple[list[SuiteResults], list[str]]:
    """Join the suites of one name, from several people's folders; also return warnings.

    The settings of the first suite count, those of the reference before others. Equal records count
    once. Of a rule with two versions of its code the seeds of the older one do not count.
    """
    home = folder.resolve() if (folder := reference.folder()) else None
    by_name: dict[str, list[SuiteResults]] = defaultdict(list)
    for suite in sorted(suites, key=lambda suite: suite.folder.resolve().parent != home):
        by_name[suite.name].append(suite)
    joined: list[SuiteResults] = []
    troubles: list[str] = []
    for same in by_name.values():
        records, late = _once(same)
        plans = sorted(plan for part in same for plan in part.settings.used.items())
        settings = replace(same[0].settings, used=dict(plans))  # of each run the last one
        counted, lost, lines = left_behind(records, settings, same[0].name)
        troubles += lines
        standings: dict[str, Standing] = {}
        for part in same:
            for checksum, standing in part.settings.standings.items():
                both = _joined(standings.get(checksum, standing), standing)
                standings[checksum] = replace(both, late=late.get(checksum, ()))
        joined.append(
            replace(
                same[0],
                settings=replace(
                    settings,
                    standings=standings,
                    older=(*lost, *(run for part in same for run in part.settings.older)),
                ).over(counted),
                records=counted,
                superseded=len(lost) + sum(part.superseded for part in same),
                replaced=sum(part.replaced for part in same),
                further=tuple(
                    dict.fromkeys(f for part in same for f in (part.folder, *part.further))
                ),
            )
        )
    return joined, troubles


def _joined(first: Standing, second: Standing) -> Standing:
    """Join what two people's folders say of a run; the first counts where both have a word."""
    return Standing(
        min(first.trust, second.trust, key=ORDER.index),
        tuple(sorted({*first.said, *second.said})),
        conflict=first.conflict or second.conflict,
        tuned=first.tuned or second.tuned,
        place=min(first.place, second.place),
    )


def _once(
    parts: Sequence[SuiteResults],
) -> tuple[list[RunRecord], dict[str, tuple[remeasured.Remark, ...]]]:
    """Take each run of several people once, with its late measurements.

    The copy counts that has the fewest measurements by other users that decide verdicts, then the
    copy with the most measurements.
    """
    best: dict[tuple[str, str], tuple[tuple[int, int], RunRecord]] = {}
    late: dict[str, tuple[remeasured.Remark, ...]] = {}
    for part in parts:
        for record in part.records:
            key = record.identity, record.checksum or record.to_json()
            remarks = part.settings.standing(record).late
            foreign = sum(bool(item.judges and item.maker) for item in remarks)
            rank = foreign, -len(remarks)
            if key not in best or rank < best[key][0]:
                best[key], late[key[1]] = (rank, record), remarks
    return [best[key][1] for key in sorted(best)], late
