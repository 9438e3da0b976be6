"""The conformance kit: the checks of every plugin, as small named functions.

From a test file:

    from bench_core.testing import conformance

    @conformance("my_rule")                     # a component's name, or its class
    def test_conformance(check):
        check()

From a script: `for check in checks("my_rule"): print(run(check))`. From a shell: `bench check
my_rule`, or `pytest --bench-check my_rule`. `expected_failures={name: reason}` says which checks
are known to fail and why; one that then passes is a failure, so that the list stays true.

Importing this package loads no torch.
"""

from bench_core.testing.kit import (
    CATEGORIES,
    BoundCheck,
    Failed,
    Outcome,
    Skipped,
    checks,
    conformance,
    run,
)

__all__ = [
    "CATEGORIES",
    "BoundCheck",
    "Failed",
    "Outcome",
    "Skipped",
    "checks",
    "conformance",
    "run",
]
