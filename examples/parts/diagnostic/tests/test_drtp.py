"""The conformance checks of bench for a diagnostic."""

from bench_core.testing import conformance


@conformance("drtp")
def test_conformance(check):
    check()
