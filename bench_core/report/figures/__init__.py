"""Name the figures of the report and draw them from a judged suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench_core.report.figures.drawing import Figure
from bench_core.report.view import View


def drawn(
    found: View, names: Iterable[str] | None = None, *, validate: bool = False
) -> list[tuple[int | None, Figure]]:
    """The figures (default: all) that the runs of a suite give, each with the number of its recipe (None: of all).

    validate  have Altair check each part against the schema of Vega-Lite: the tests do; it takes half of the time
    """
    from altair.utils import schemapi

    with schemapi.debug_mode(validate):
        return [(k, figure) for name in (names or FIGURES) for k, figure in FIGURES[name](found)]


def _audit(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.audit import audit

    return audit(found)


def _temporal(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.temporal import temporal

    return temporal(found)


def _alignment(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.alignment import alignment_map

    return alignment_map(found)


def _leaderboard(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.ranking import ranking

    return ranking(found)


def _sensitivity(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.bands import sensitivity

    return sensitivity(found)


def _utility(found: View) -> list[tuple[int | None, Figure]]:
    from bench_core.report.figures.bands import utility

    return utility(found)


def _sweep(name: str) -> Callable[[View], list[tuple[int | None, Figure]]]:
    def make(found: View) -> list[tuple[int | None, Figure]]:
        from bench_core.report.figures import sweeps

        return sweeps.SWEEPS[name](found)

    return make


FIGURES: dict[str, Callable[[View], list[tuple[int | None, Figure]]]] = {
    "leaderboard": _leaderboard,
    "audit": _audit,
    "temporal": _temporal,
    "alignment": _alignment,
    "sensitivity": _sensitivity,
    "utility": _utility,
    "penalty": _sweep("penalty"),
    "lambda_sweep": _sweep("lambda_sweep"),
    "depth_sweep": _sweep("depth_sweep"),
    "normalization": _sweep("normalization"),
}
