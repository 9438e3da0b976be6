"""The same figures for paper: the panels of a figure side by side with one legend, as SVG, PNG or PDF (vl-convert)."""

from __future__ import annotations

from typing import Any, Literal

from bench_core.report.figures.drawing import Figure, Spec

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDTHS = {
    1: 460,
    2: 250,
    3: 190,
}  # of a panel, in pixels, by panels per row: a page of text is about 560 wide
CHANNELS = ("color", "shape", "strokeDash", "fill")
STROKE = {
    "symbolType": "stroke",
    "symbolStrokeWidth": 2,
    "symbolSize": 300,
}  # in a legend of lines without marks
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": "#cccccc"},
    "axis": {
        "gridColor": "#e6e6e6",
        "labelFontSize": 9,
        "titleFontSize": 9,
        "titleFontWeight": "normal",
        "labelLimit": 160,
    },
    "legend": {
        "labelFontSize": 9,
        "symbolSize": 60,
        "orient": "bottom",
        "columns": 4,
        "title": None,
        "labelLimit": 220,
    },
    "title": {"fontSize": 10, "anchor": "start", "fontWeight": "bold", "offset": 6},
}


def paper(figure: Figure) -> Spec:
    """One Vega-Lite spec of all panels: fixed widths, titles, a shared legend at the bottom, nothing interactive."""
    columns = min(figure.columns, len(figure.panels))
    datasets: dict[str, Any] = {}
    panels = []
    for item in figure.panels:
        spec = dict(item.spec)
        datasets |= spec.pop("datasets", {})
        spec |= {
            "width": WIDTHS.get(columns, 190),
            "title": item.title.replace("‖", "||"),
        }  # few fonts have the sign
        panels.append(_still(spec, {key.name for key in figure.legend}))
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


def _still(node: Any, names: set[str]) -> Any:
    """The spec without its parameters, and with the legends that the page draws itself."""
    if isinstance(node, list):
        return [_still(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _still(item, names) for key, item in node.items() if key != "params"}
    condition = made.get("condition")
    if isinstance(condition, dict) and "param" in condition:  # what shows on hover only
        return {"value": made["value"]}
    for channel in CHANNELS:
        found = made.get(channel)
        if (
            isinstance(found, dict)
            and "legend" in found
            and set(found.get("scale", {}).get("domain", ())) == names
        ):
            made[channel] = {
                **found,
                "legend": {"title": None} | ({} if "shape" in node else STROKE),
            }
    return made


def render(figure: Figure, form: Format) -> bytes:
    """The file of a figure. PNG at 200 dots per inch."""
    import vl_convert

    spec = paper(figure)
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(spec, vl_version="6.4")).encode()
    if form == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(spec, vl_version="6.4"))
    return bytes(vl_convert.vegalite_to_png(spec, vl_version="6.4", ppi=200))
