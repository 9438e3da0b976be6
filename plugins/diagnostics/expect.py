"""Expectations of controls: predicates of a measurement, and the control without a change."""

from __future__ import annotations

from collections.abc import Callable

from bench_core.api import Measured
from bench_core.training.audit import Audit


def value_is(test: Callable[[float], bool]) -> Callable[[Measured], bool]:
    """Expect a value that passes `test`."""
    return lambda measured: measured.value is not None and test(measured.value)


def not_diagnostic(measured: Measured) -> bool:
    """Expect the measurement to be marked as not diagnostic."""
    return measured.not_diagnostic is not None


def unchanged(audit: Audit) -> None:
    """Leave the network at its random initial weights."""
