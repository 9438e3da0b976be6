"""Hold what is known of a run beside its record: its standing."""

from __future__ import annotations

from dataclasses import dataclass

from bench_core.results.ledger import Tuned
from bench_core.results.marks import Trust
from bench_core.results.remeasured import Remark


@dataclass(frozen=True)
class Standing:
    """What is known of a run beside its record.

    trust     `bench_core.results.marks`
    said      what other users say of it
    late      measurements that were made after the run
    conflict  how it disagrees with another result of its identity, or with a replica of this user;
              empty if it does not
    tuned     the search that chose its values, by the ledger beside it; a row of the reference has
              none
    place     of its folder among those that were named: the first counts
    """

    trust: Trust = "posted"
    said: tuple[str, ...] = ()
    late: tuple[Remark, ...] = ()
    conflict: str = ""
    tuned: Tuned | None = None
    place: int = 0
