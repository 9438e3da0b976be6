"""Define the interface of a diagnostic: a measurement and the rule by which it fires."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench_core.training.params import ParamsModel

if TYPE_CHECKING:
    from bench_core.training.audit import Audit
    from bench_core.training.probe import ProbeBatch


@dataclass
class Measured:
    """The result of a diagnostic on one network.

    value           compared with the threshold; None if not measured, or if it compares cells
    details         further numbers and lists of numbers, kept with the run
    not_diagnostic  the reason why the value means nothing; None if it means something
    """

    value: float | None
    details: dict[str, Any] = field(default_factory=dict)
    not_diagnostic: str | None = None


@dataclass(frozen=True)
class Control:
    """A situation in which the right result of a diagnostic is known; a test of the diagnostic.

    change   edits the (untrained) network or the audit's credits in place before the measurement
    expect   gets the result; returns True if it is right
    """

    name: str
    change: Callable[[Audit], None]
    expect: Callable[[Measured], bool]


class Diagnostic(ABC):
    """A measurement on the probe batches, with the rule by which it fires.

    A record stores these attributes with the value, so judging and showing it needs no plugin.

    letter           in flags and verdicts: "flagged (a+b)"; without a letter the name stands there
    direction        fires when the value lies "above" or "below" the threshold; None: never
    across           the value compares cells: "floor": `bench_core.analysis.verdicts.leaderboard`
                     computes it from stored accuracies; "ceiling": `bench_core.analysis.distance`
                     from stored states
    when             "final": after training (and before it); "epochs": also after every epoch
    unit             of the value: "x", "pp", …
    title            the measured quantity, as the title of a figure; its name if empty
    heading          the same in one or two words, as the heading of a column; its name if empty
    sentence         why a run is walked back. {value}, {limit}, {unit}, {name}, {batch}, {floor}
                     and {state} (residual stream, or hidden state) are filled in
    axis             the scale of a figure's axis: "linear" or "log"
    batch            N, if the value is per sample and shown divided by N, as a batch mean has it
    needs_reference  the value means nothing if the reference gradient is at the floor (b fires)
    repeatable       equal networks give equal values. False for a time or an energy: then two runs
                     may agree although their values differ
    """

    numerics: ClassVar[int] = 1
    letter: ClassVar[str] = ""
    direction: ClassVar[Literal["above", "below"] | None] = None
    threshold: ClassVar[float | None] = None
    unit: ClassVar[str] = ""
    across: ClassVar[Literal["floor", "ceiling"] | None] = None
    when: ClassVar[Literal["final", "epochs"]] = "final"
    title: ClassVar[str] = ""
    heading: ClassVar[str] = ""
    sentence: ClassVar[str] = ""
    axis: ClassVar[Literal["linear", "log"]] = "linear"
    batch: ClassVar[int | None] = None
    needs_reference: ClassVar[bool] = False
    repeatable: ClassVar[bool] = True

    class Params(ParamsModel):
        """Parameters of the diagnostic; not part of the identity of a training."""

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> Any:
        """Reduce one probe batch to the small figures that `measure` reads: `audit.figures(self)`.

        One pass over the probe computes them for all diagnostics. A diagnostic that reads
        `audit.batches` instead costs a pass of its own for each reading if the states are large.
        """
        return None

    @abstractmethod
    def measure(self, audit: Audit) -> Measured:
        """Measure on the states, reference gradients and credits that the audit computed."""

    def controls(self) -> Sequence[Control]:
        """At least one positive and one negative control."""
        return ()
