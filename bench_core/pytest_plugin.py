"""Add `pytest --bench-check NAME`: the conformance checks of a component, as tests of their own.

Every pytest of an environment with bench loads this module, so it imports bench only if the option
is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench_core.testing import BoundCheck


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "conformance of bench plugins")
    group.addoption(
        "--bench-check",
        action="append",
        default=[],
        metavar="NAME",
        help="check this component; repeatable",
    )


class CheckItem(pytest.Item):
    """One check of one component."""

    def __init__(self, *, bound: BoundCheck, **more: Any) -> None:
        super().__init__(**more)
        self.bound = bound

    def runtest(self) -> None:
        self.bound()

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    from bench_core.errors import BenchError

    for name in config.getoption("--bench-check"):
        from bench_core.testing import checks

        try:
            bound = list(checks(name))
        except BenchError as error:
            raise pytest.UsageError(str(error)) from None
        items += [
            CheckItem.from_parent(session, name=f"bench[{item.subject}]::{item.name}", bound=item)
            for item in bound
        ]
