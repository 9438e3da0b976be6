"""Render figures for a paper (SVG, PNG, PDF): the panels side by side with one legend."""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Callable
from typing import Any, Literal

from bench_core.errors import UsageError
from bench_core.processes import child
from bench_core.report.figures import CHANNELS, Figure, Spec

Format = Literal["svg", "png", "pdf"]
SECONDS = 600.0  # for one figure in a process of its own
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# width of a panel in pixels by panels per row; a page of text is about 560 wide
WIDTHS = {1: 460, 2: 250, 3: 190}
# marks in a legend of lines that have no points
STROKE = {"symbolType": "stroke", "symbolStrokeWidth": 2, "symbolSize": 300}
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": "#cccccc"},
    "axis": {
        "gridColor": "#e6e6e6",
        "labelFontSize": 9,
        "titleFontSize": 9,
        "titleFontWeight": "normal",
        "labelLimit": 400,
    },
    "legend": {
        "labelFontSize": 9,
        "symbolSize": 60,
        "orient": "bottom",
        "columns": 4,
        "columnPadding": 24,  # fonts of other machines are wider
        "title": None,
        "labelLimit": 400,
    },
    "title": {"fontSize": 10, "anchor": "start", "fontWeight": "bold", "offset": 6},
}
# legends below each other: the engine knows this setting, the schema of altair does not
STACKED = {"layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 6}}}
INK = "#e6edf3"
DARK: dict[str, Any] = {  # what `dark` adds to CONFIG
    "background": "#0d1117",
    "view": {"stroke": "#30363d"},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": "#30363d",
        "domainColor": "#8b949e",
    },
    "legend": {"labelColor": INK},
    "title": {"color": INK},
    "text": {"color": INK},
    "rule": {"color": INK},
}
# colours of `drawing` → brighter ones for a dark page, as in page.js
BRIGHT = {"#0072B2": "#4da6e8", "#D55E00": "#ff8a3d", "#009E73": "#2cc79a", "#7F6A00": "#c9ae3a"}


def dark(spec: Spec) -> Spec:
    """Return a spec of `paper` in the colours of a dark page."""
    text = json.dumps(spec)
    for colour, bright in BRIGHT.items():
        text = text.replace(f'"{colour}"', f'"{bright}"')
    spec, config = json.loads(text), dict(CONFIG)
    for key, value in DARK.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return {**spec, "config": config}


def paper(figure: Figure) -> Spec:
    """Return one Vega-Lite spec of all panels, with fixed widths, titles and a shared legend."""
    columns = min(figure.columns, len(figure.panels))
    legends = [{key.name for key in keys} for keys in (figure.legend, figure.marks)]
    datasets: dict[str, Any] = {}
    panels = []
    for item in figure.panels:
        datasets |= item.spec.get("datasets", {})
        title = item.title.replace("‖", "||")  # few fonts have the sign
        fixed = {"width": WIDTHS.get(columns, 190), "title": title}
        spec = {key: part for key, part in item.spec.items() if key != "datasets"}
        panels.append(_still(spec | fixed, legends))
    shared = dict.fromkeys(CHANNELS, "shared")
    return {
        "$schema": SCHEMA,
        "concat": panels,
        "columns": columns,
        "datasets": datasets,
        "params": [{"name": "pick", "value": []}],
        "resolve": {"scale": shared, "legend": shared} if figure.legend else {},
        "config": CONFIG,
    }


def _still(node: Any, legends: list[set[str]]) -> Any:
    """Return a spec without its parameters, and with the legends that the page draws itself."""
    if isinstance(node, list):
        return [_still(item, legends) for item in node if not _for_mouse(item)]
    if not isinstance(node, dict):
        return node
    still = {key: _still(item, legends) for key, item in node.items() if key != "params"}
    for channel in CHANNELS:
        encoding = still.get(channel)
        if not isinstance(encoding, dict) or "legend" not in encoding:
            continue
        if set(encoding.get("scale", {}).get("domain", ())) in legends:
            legend = {"title": None} | ({} if "shape" in node else STROKE)
            still[channel] = encoding | {"legend": legend}
    return still


def _for_mouse(node: Any) -> bool:
    """Decide whether a layer has marks that are shown under the mouse only."""
    shown = node.get("encoding", {}).get("opacity", {}) if isinstance(node, dict) else {}
    return "param" in shown.get("condition", {})


def render(spec: Spec, form: Format) -> bytes:
    """Return the file of a spec of `paper`. PNG has 200 dots per inch.

    The engine reserves address space. Where that has a limit, the engine may end its process, so it
    gets one of its own. Raises UsageError.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return _converted(spec, form)
    try:
        (text,) = child.ask(__name__, {"spec": spec, "form": form}, SECONDS, fork=False)
    except child.ChildError:
        reason = f"it needs up to 100 GB of address space, and `ulimit -v` allows {limit >> 10} kB"
        hint = "raise that limit; `bench report` draws without the engine"
        raise UsageError(f"the engine that draws figures stopped: {reason}; {hint}") from None
    return base64.b64decode(text)


def _converted(spec: Spec, form: Format) -> bytes:
    import vl_convert

    config = spec["config"]
    spec = spec | {"config": config | {"legend": config["legend"] | STACKED}}
    options = {"ppi": 200} if form == "png" else {}
    convert = getattr(vl_convert, f"vegalite_to_{form}")
    content: str | bytes = convert(spec, vl_version="6.4", **options)
    return content.encode() if isinstance(content, str) else content


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Send the file of the request's figure."""
    say(base64.b64encode(_converted(**request)).decode())


def main() -> None:
    child.serve(serve)
