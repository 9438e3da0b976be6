"""State how the records of a suite are judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bench_core.analysis.verdicts.standing import Standing
from bench_core.results.record import RunRecord, recorded_defaults
from bench_core.suite.judging import DepthUtility

Thresholds = Mapping[str, float]
Defaults = Mapping[str, Mapping[str, Any]]  # a rule's full name → the defaults of its options


@dataclass(frozen=True)
class Settings:
    """How the records of a suite are judged.

    thresholds  diagnostic's name → the threshold that replaces the stored one
    defaults    a rule's full name → its own defaults
    unrecorded  rules, `arch NAME` and `dataset NAME` whose defaults no run records: what
                suite.json says of them is its author's word
    disputed    options of which two runs record different defaults, with that of the last plan
    used        identity → when the last plan with this run was made
    older       runs of the same cells by other code, which do not count
    standings   checksum of a run.json → what is known of the run beside its record
    """

    thresholds: Thresholds = field(default_factory=dict)
    depth_utility: DepthUtility = field(default_factory=DepthUtility)
    title: str = ""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    older: tuple[RunRecord, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    unrecorded: frozenset[str] = frozenset()
    disputed: Defaults = field(default_factory=dict)
    used: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def recorded(self) -> dict[str, Mapping[str, Any]]:
        """Return the defaults that runs record, without what only suite.json says."""
        return {k: own for k, own in self.defaults.items() if k not in self.unrecorded}

    @cached_property
    def meant(self) -> dict[str, Mapping[str, Any]]:
        """Return the defaults that a claim means by the options that it leaves out: of an option
        with two defaults that of the last plan."""
        names = self.defaults.keys() | self.disputed.keys()
        return {n: {**self.disputed.get(n, {}), **self.defaults.get(n, {})} for n in names}

    def standing(self, record: RunRecord) -> Standing:
        """Return what is known of a run beside its record."""
        return self.standings.get(record.checksum or "", Standing())

    def over(self, records: Iterable[RunRecord]) -> Settings:
        """Return these settings with the defaults that records state of their components."""
        defaults, unrecorded, unclear = recorded_defaults(records, self.defaults)
        meant, disputed = self.meant, defaultdict[str, dict[str, Any]](dict)
        for name, key in unclear:
            if key in meant.get(name, {}):
                disputed[name][key] = meant[name][key]
        return replace(self, defaults=defaults, unrecorded=unrecorded, disputed=disputed)
