"""Register the charts of the report, and draw them from the judged runs of a suite.

To add a chart, write its module in this package and add a line to `CHARTS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from bench_core.errors import UsageError

if TYPE_CHECKING:
    from bench_core.analysis.verdicts.rows import Row
    from bench_core.report.view import View

Spec = dict[str, Any]
# channels of an encoding → the attribute of a `Key` that they show
CHANNELS = {"color": "colour", "fill": "colour", "shape": "shape", "strokeDash": "dash"}


@dataclass(frozen=True)
class Chart:
    """A chart of the report.

    function  its function, as `module:name` in this package, imported when the chart is drawn. It
              returns a list of figures: one for each thing to draw, none if the runs lack the data
    place     where the page shows it. "recipe": below the leaderboard of every recipe; its function
              takes the view and the group. Otherwise its function takes the view alone: "suite": at
              the top of the suite; "sensitivity" and "utility": in the section of that name
    """

    name: str
    title: str
    function: str
    place: str = "recipe"


CHARTS = (
    Chart("leaderboard", "Accuracy with intervals", "ranking:ranking"),
    Chart("audit", "Audit by diagnostic", "audit:audit"),
    Chart("temporal", "Over the epochs", "temporal:temporal"),
    Chart("alignment", "Alignment by layer", "alignment:alignment"),
    Chart("sensitivity", "Sensitivity to the thresholds", "sensitivity:sensitivity", "sensitivity"),
    Chart("utility", "Decision utility", "utility:utility", "utility"),
    Chart("cost", "Accuracy against cost", "cost:cost"),
    Chart("penalty", "Penalty rescue", "sweeps:penalty"),
    Chart("lambda_sweep", "Penalty sweep", "sweeps:lambda_sweep"),
    Chart("depth_sweep", "Depth sweep", "sweeps:depth_sweep", "suite"),
    Chart("normalization", "Normalisation of the credit", "sweeps:normalization"),
)
NAMES = tuple(chart.name for chart in CHARTS)


@dataclass(frozen=True)
class Panel:
    """A title, and a Vega-Lite spec without width and legend.

    around  pixels that axes and a scale of colours take above and below the height of the spec
    """

    title: str
    spec: Spec
    around: int = 56


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name, and how its marks are drawn."""

    name: str
    colour: str
    shape: str
    dash: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of one recipe or one suite.

    Every panel has the signal `pick`, a list of legend names, and fades all other marks.
    marks are further entries of the legend, of which a panel shows the shape alone.
    caution is a sentence of the caption that a shorter caption keeps, or nothing.
    """

    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...] = ()
    marks: tuple[Key, ...] = ()
    columns: int = 2
    caution: str = ""


@dataclass(frozen=True)
class Drawn:
    """A figure, its chart, and the number of its recipe (None: it shows the whole suite)."""

    chart: Chart
    recipe: int | None
    figure: Figure


def _import_altair() -> None:
    """Import Altair, which looks for a cache in the home folder, also where there is no home."""
    if sys.flags.optimize > 1:
        remedy = "run python without -OO, or with another PYTHONOPTIMIZE than 2"
        raise UsageError(f"figures need docstrings, which python -OO leaves out: {remedy}")
    homeless = os.path.expanduser("~") == "~"
    if homeless:
        os.environ["HOME"] = os.sep
    try:
        import altair  # noqa: F401
    finally:
        if homeless:
            del os.environ["HOME"]


def drawn(
    view: View,
    names: Collection[str] = NAMES,
    most_recipes: int | None = None,
    validate: bool = False,
) -> list[Drawn]:
    """Draw charts from the runs of a suite.

    most_recipes  draw only the first recipes; None: all
    validate      let Altair check every panel against the schema of Vega-Lite, which doubles the
                  time
    """
    _import_altair()
    from altair.utils import schemapi

    figures = []
    recipes = list(enumerate(view.groups))[:most_recipes]
    with schemapi.debug_mode(validate):
        for chart in CHARTS:
            if chart.name in names:
                draw = resolve_name(f"{__name__}.{chart.function}")
                if chart.place == "recipe":
                    figures += [
                        Drawn(chart, k, _sourced(with_settings(f, view.distinctions[k]), g.rows))
                        for k, g in recipes
                        for f in draw(view, g)
                    ]
                else:
                    figures += [Drawn(chart, None, _sourced(f, view.rows)) for f in draw(view)]
    return figures


def with_settings(figure: Figure, settings: Mapping[str, str]) -> Figure:
    """Let the caption of a figure say the settings that tell its runs from others of the suite."""
    text = ", ".join(f"{key}={value}" for key, value in settings.items())
    return replace(figure, caption=f"{figure.caption} Here {text}.") if text else figure


def _sourced(figure: Figure, rows: Sequence[Row]) -> Figure:
    """Let the caption of a figure say which runs are of the reference."""
    from bench_core.results.reference import source  # `bench --help` imports this module

    text = source([run.record for row in rows for run in row.runs])
    return replace(figure, caption=f"{figure.caption} Measured: {text}.") if text else figure
