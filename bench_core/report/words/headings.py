"""Head each recipe of a leaderboard with its settings. The text is raw; each format escapes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.rows import Group
from bench_core.names import bare_name, without_ours
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import part, plural
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.record import Cell, default_key
from bench_core.suite.cells import same_name
from bench_core.suite.recipe import DataOptions, TrainingOptions

# epochs have a place of their own, and no cell has a device
ELSEWHERE = ("training.epochs", "training.stop_after", "training.device", "training.stop_when")
NO_STOP = "none"  # diagnostic ends a training


def headings(results: SuiteResults, groups: Sequence[Group], sources: bool = True) -> list[str]:
    """Describe each recipe: network, data, epochs, seeds, and every setting that is not usual.

    A usual setting has the component's default and the value of the suite's file, and is the same
    in all recipes. A setting whose default is not known (older results) is shown.

    sources  whether to count the runs of the reference
    """
    cells = [group.cell for group in groups]
    recipes = [_settings(results, cell) for cell in cells]
    values = [recipe[0] for recipe in recipes]
    differing = {
        key
        for key in {key for each in values for key in each}
        if len({canonical(each.get(key)) for each in values}) > 1
    }
    judged = [f"{key}={plain_text(value)}" for key, value in _judged(results).items()]
    lines = []
    for group, cell, (own, *usual) in zip(groups, cells, recipes, strict=True):
        shown = [key for key in sorted(own) if key in differing or _unusual(key, own[key], *usual)]
        parts = [cell.arch.short, cell.dataset.short]
        if (epochs := cell.training.get("epochs")) is not None:
            stop = cell.training.get("stop_after")
            stopped = f" stopped after {stop}" if stop is not None else ""
            parts.append(plural(epochs, "epoch") + stopped)
        parts.append(f"seed{'s' * (len(group.seeds) != 1)} {listed(map(str, group.seeds))}")
        parts += [f"{key}={plain_text(own[key])}" for key in shown]
        lines.append(" · ".join([*parts, *judged, *(_shipped(group) if sources else ())]))
    return lines


def distinctions(results: SuiteResults, groups: Sequence[Group]) -> list[dict[str, str]]:
    """Return for each recipe the settings that tell it from others of the suite, by key.

    An option counts only among the networks or data sets that have it.
    """
    recipes, values = [], defaultdict[str, set[str]](set)
    for cell in (group.cell for group in groups):
        own: dict[str, Any] = {"arch": cell.arch.short, "dataset": cell.dataset.short}
        own |= {f"training.{key}": cell.training.get(key) for key in ("epochs", "stop_after")}
        recipes.append({k: plain_text(v) for k, v in (own | _settings(results, cell)[0]).items()})
        for key, text in recipes[-1].items():
            values[key].add(text)
    return [{k: own[k] for k in sorted(own) if len(values[k]) > 1} for own in recipes]


def _shipped(group: Group) -> list[str]:
    """Count the runs of the reference, and among them the lapsed ones."""
    runs = [run.record for row in group.rows for run in row.runs]
    about = [run.environment for run in runs if run.shipped]
    versions = listed(sorted({str(each["reference"]) for each in about}))
    lapsed = sum(bool(each.get("lapsed")) for each in about)
    text = f"{part(len(about), len(runs), 'run')} from reference {versions}"
    return [text + f", {lapsed} of them lapsed" * bool(lapsed)] if about else []


def _unusual(key: str, value: Any, default: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    if key not in default or canonical(default[key]) != canonical(value):
        return True
    return key in written and canonical(written[key]) != canonical(value)


def _settings(results: SuiteResults, cell: Cell) -> list[dict[str, Any]]:
    """Return settings by dotted key: those of a cell, the defaults, and those of the file."""
    components = {"arch": cell.arch, "dataset": cell.dataset}
    file = results.claimed_for or {}
    own: dict[str, Any] = {"data": cell.data, "training": cell.training}
    default: dict[str, Any] = {
        "data": DataOptions().model_dump(),
        "training": TrainingOptions().model_dump(),
    }
    written = {key: file.get(key, {}) for key in own}
    for kind, ref in components.items():
        own[kind] = ref.params
        name, known = default_key(kind, ref.name), results.settings
        default[kind] = {} if name in known.unrecorded else known.defaults.get(name, {})
        stated = dict(file.get(kind, {}))
        if same_name(ref.short, stated.pop("name", None)):
            written[kind] = stated
    flat = [
        {
            f"{part}.{key}": value
            for part, values in settings.items()
            for key, value in values.items()
            if f"{part}.{key}" not in ELSEWHERE
        }
        for settings in (own, default, written)
    ]
    stops = [_stops(cell.training.get("stop_when") or {}), NO_STOP]
    stops.append(_stops(dict.fromkeys(file.get("stop_when", ()))))
    settings = [{**values, "stop_when": stop} for values, stop in zip(flat, stops, strict=True)]
    settings[0] = settings[1] | settings[0]  # a cell leaves out newer settings at their default
    return settings


def _stops(limits: Mapping[str, float | None]) -> str:
    texts = [
        bare_name(name) + ("" if limit is None else f" at {limit:g}")
        for name, limit in sorted(limits.items())
    ]
    return ", ".join(texts) or NO_STOP


def _judged(results: SuiteResults) -> dict[str, Any]:
    """Return the settings of diagnostics that are not their defaults."""
    settings = results.settings
    values: dict[str, Any] = {}
    for name, params in sorted(results.diagnostics.items()):
        default = settings.defaults.get(f"diagnostic {name}", {})
        values |= {
            f"{without_ours(name)}.{key}": value
            for key, value in params.items()
            if key not in default or canonical(default[key]) != canonical(value)
        }
    for name, limit in sorted(settings.thresholds.items()):
        values[f"{without_ours(name)}.threshold"] = limit
    floor = settings.depth_utility.model_dump(exclude_defaults=True)
    return values | {f"depth_utility.{key}": value for key, value in floor.items()}
