"""The conformance checks of bench for an architecture."""

from bench_core.testing import conformance


@conformance("drtp")
def test_conformance(check):
    check()
