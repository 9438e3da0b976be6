"""Write one run as text: its cell, measurements, verdict with reasons, and provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench_core.analysis.verdicts.alignment import NOT_IN_USE, alignment
from bench_core.analysis.verdicts.rows import Row, Run
from bench_core.names import FILE, distribution_of
from bench_core.registry.distributions import titled
from bench_core.report.text.escape import visible
from bench_core.report.text.layout import joined, paragraph, tabulated
from bench_core.report.text.numbers import NONE, compact, fraction, optional, plural, signed
from bench_core.report.view import View, curve, shown_accuracy, state, value
from bench_core.report.words.criteria import Criterion, criteria_of
from bench_core.report.words.headings import headings
from bench_core.report.words.rows import PASSPORT, N, compared, random_blocks
from bench_core.results.details import finite
from bench_core.results.hashing import canonical, flat, jsonable
from bench_core.results.migrate import described
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.reference import source
from bench_core.suite.cells import CORE_DEFAULTS
from bench_core.suite.protocol import AT_FLOOR

SHOWN = 12  # epochs of a long curve
UNITS = "pp: percentage points of accuracy; x: times. bench info NAME explains a diagnostic."


def _table(rows: list[list[str]], heads: list[str], width: int | None) -> str:
    """Write a table whose last column may be wrapped."""
    rows = [[visible(cell) for cell in row] for row in rows]
    return tabulated(rows, heads, width=width, narrow=[(len(heads) - 1, 20)])


def _series(values: Iterable[float | None], written: Callable[[float], str] = compact) -> str:
    return "  ".join(NONE if value is None else written(value) for value in values)


def _diagnostics(shown: View, run: Run, width: int | None) -> str:
    rows = []
    for criterion in criteria_of(run):
        letter, item, number = criterion.letter, criterion.item, value(run, criterion.letter)
        limit, bound = criterion.limit(shown.settings.thresholds), NONE
        if limit is not None:
            bound = f"{'>' if item.direction == 'above' else '<'} {criterion.shown(limit):g}"
            bound += f" (N={item.batch})" if item.batch else ""
        quiet = dict(run.judgement.not_diagnostic).get(letter)
        says = f"not diagnostic: {quiet}" if quiet else state(run, letter)
        rows.append([letter, criterion.name, criterion.with_unit(number), bound, says])
    return _table(rows, ["", "diagnostic", "value", "fires", "says"], width)


def _trust(run: Run) -> str:
    own = run.standing.trust
    shipped = own == "posted" and source([run.record])
    if shipped:
        return "shipped with bench; its checksum agrees"
    return f"{own}: neither checked by `bench verify` nor replicated" if own == "posted" else own


def _alignment(run: Run) -> list[str]:
    measured = alignment(run.record, run.judgement)
    if measured is None or not measured.layers:
        return []
    cosines = partial(_series, written=partial(signed, digits=3))
    by_layer, deep = cosines(measured.layers), cosines([measured.deep])
    if measured.not_diagnostic:
        return [f"Γ by layer  not diagnostic ({measured.not_diagnostic}); was: {by_layer}"]
    used = "" if measured.in_use else f"; {NOT_IN_USE}"
    lines = [f"Γ by layer  {by_layer}   deep {deep}   (cosine of credit a_l to gradient g_l{used})"]
    if measured.library:
        clamped = "(the same cosine as libraries compute it, norms clamped at 1e-8)"
        lines.append(f"Γ library   {cosines(measured.library)}   {clamped}")
    lines.append(
        f"‖a_l‖/‖g_l‖ {_series(measured.ratio)}   (length of credit over gradient, median)"
    )
    lines += [f"Γ of {name}  {cosines(values)}" for name, values in measured.readouts.items()]
    if measured.blocks:
        own = f"{cosines(measured.blocks)}   deep {cosines([measured.blocks_deep])}"
        of = "cosine of c_l, from which block l learns, to g_{l+1}, at its output"
        lines.append(f"Γ of blocks {own}   ({of})")
    return lines


def _distance(run: Run) -> list[str]:
    item = run.record.measurements.get("state_distance")
    if item is not None and item.not_diagnostic:
        return [f"d_BP        not measured: {item.not_diagnostic}"]
    if item is None or item.value is None:
        return []
    by_layer = _series(map(float, item.details.get("layers", ())))
    means = f"distance of h_l to bp's, over the norm of bp's; n = {compared(item)} probe samples"
    return [f"d_BP by layer {by_layer}   ({means})"]


def _by_layer(item: Measurement) -> str:
    """Write the values by layer, or Γ and its null if the value counts deviations of a null."""
    details = item.details
    keys = ("deep", "null_deep_mean", "null_deep_std")
    deep, mean, std = (finite(details.get(key)) for key in keys)
    if deep is not None and mean is not None and std is not None:
        inside = ", ".join(map(str, details.get("flagged") or ()))
        null = f"Γ deep {deep:.3f}, null {mean:.3f} ± {std:.3f}"
        return null + (f"; inside the null: layer {inside}" if inside else "")
    layers = details.get("layers")
    return _series(map(finite, layers)) if isinstance(layers, list) else ""


def _further(run: Run, width: int | None) -> str:
    """Write the measurements beside verdicts, Γ and d_BP, with the reason if one means nothing."""
    above = {name for name, _ in run.deciding.values()} | {"alignment", "state_distance"}
    rows = []
    for name, item in sorted(run.record.measurements.items()):
        if name not in above:
            at_floor = "b" in run.judgement.fired and described(name, item).needs_reference
            reason = AT_FLOOR if at_floor else item.not_diagnostic
            says = f"not diagnostic: {reason}" if reason else item.raised or _by_layer(item)
            rows.append([name, Criterion(name, name, item).with_unit(item.value), says])
    if not rows:
        return ""
    table = _table(rows, ["further", "value", "by layer"], width)
    return f"{table}\n\n{paragraph([UNITS], width)}"


def _epochs(shown: View, run: Run, width: int | None) -> str:
    points = curve(shown.epochs(run.record))
    if len(points) < 2:
        return ""
    *earlier, last = points
    step = max(1, -(-len(earlier) // SHOWN))
    rows = []
    for point in [*(point for point in earlier if point.epoch % step == 0), last]:
        accuracy, g = optional(point.accuracy, fraction), optional(point.g, "{:.1e}".format)
        rows.append([str(point.epoch), accuracy, optional(point.h), g])
    return _table(rows, ["epoch", "accuracy", "‖h_L‖", f"‖g_L‖ N={N}"], width)


def _pairs(values: Mapping[str, Any], sign: str) -> str:
    return ", ".join(f"{key}{sign}{value}" for key, value in flat(dict(values)).items())


def _floor(row: Row, seed: int) -> str:
    """Name the runs with which d compares a run: its twin, or the mean of other seeds."""
    floor = row.floor
    if floor.mean is None:
        return f"none: {floor.reason}"
    if not floor.accuracies:
        return random_blocks(row)
    if seed in floor.accuracies:
        return f"{floor.name}, its run of seed {seed}"
    seeds = ", ".join(map(str, sorted(floor.accuracies)))
    others = f"the mean of its seeds {seeds}" if len(floor.accuracies) > 1 else f"its seed {seeds}"
    return f"{floor.name}, {others}: it has no finished run of seed {seed}"


def _head(shown: View, row: Row, run: Run, folder: Path) -> list[str]:
    record, judgement = run.record, run.judgement
    cell = record.cell
    floors = {"its own floor": judgement.margin_matched, "the bp floor": judgement.margin_bp}
    known = {name: margin for name, margin in floors.items() if margin is not None}
    known = {} if row.role == "floor" else known  # it would be compared with itself
    margins = ", ".join(f"{signed(margin, 2)} pp over {name}" for name, margin in known.items())
    alone = [
        replace(group, rows=(replace(row, runs=(run,)),)) if row in group.rows else group
        for group in shown.groups
    ]
    at = next(k for k, group in enumerate(shown.groups) if row in group.rows)
    recipe = headings(shown.results, alone, sources=False)[at]
    return [
        f"{row.label} · seed {cell.seed} · {record.suite}",
        f"recipe      {recipe}",
        f"run         {record.identity}",
        f"folder      {folder}",
        f"status      {record.status}" + (f": {record.reason}" if record.reason else ""),
        *(
            [f"resumed     after epoch {joined(map(str, record.resumed))}"]
            if record.resumed
            else []
        ),
        f"flags       {judgement.text}",
        f"trust       {_trust(run)}",
        *([f"from        {text}"] if (text := source([record])) else []),
        *(f"beside      {doubt}" for doubt in shown.doubts(row)),
        f"accuracy    {shown_accuracy(record)} after {plural(record.epochs, 'epoch')}"
        + (f" ({margins})" if margins else ""),
        *([f"floor       {_floor(row, cell.seed)}"] if row.role != "floor" else []),
        *_alignment(run),
        *_distance(run),
    ]


def _code(name: str, about: Mapping[str, Any]) -> str:
    """Write version, digest and number of modules of a distribution; --json has every module.

    Its own are those of the packages of its components.
    """
    files = about.get("files", {})  # a compact run has none
    packages = {module.partition(".")[0] for module in about.get("modules", ())}
    own = sum(name.partition(".")[0] in packages for name in files)
    count = f"{plural(len(files), 'module')}, {own} of them its own, " if files else ""
    return f"{titled(name, about.get('version', ''))}, {count}digest {about.get('digest')}"


def _provenance(record: RunRecord, folder: Path) -> list[str]:
    cell = record.cell
    default = {key: canonical(item) for key, item in CORE_DEFAULTS.items()}
    params = cell.method.params.items()
    changed = {key: item for key, item in params if canonical(item) != default.get(key)}
    names = {name for name, flag in record.passport.items() if flag}
    used = [words for name, (_, words) in PASSPORT.items() if name in names]
    used += sorted(names - PASSPORT.keys())
    nothing = "nothing beyond a block's own activity and the output error"
    uses = ", ".join(used) or (nothing if record.passport else "not declared")
    memory = f", {record.peak_memory_bytes / 1e6:.0f} MB" if record.peak_memory_bytes else ""
    results = shlex.quote(str(folder.parent.parent))
    file = distribution_of(cell.method.name)
    home = f"PYTHONPATH=FOLDER_OF_{file} " * file.endswith(FILE)
    alone = " --no-reference" * record.shipped
    return [
        f"uses        {uses}",
        *([f"options     {json.dumps(jsonable(changed), default=str)}"] if changed else []),
        f"training    {_pairs(cell.training, '=')}",
        f"data        {record.data_checksum or NONE}",
        *(f"code        {_code(name, about)}" for name, about in record.code.items()),
        f"environment {_pairs(record.environment, ' ') or NONE}",
        f"cost        {record.seconds:.1f} s{memory}",
        f"finished    {record.finished or NONE}",
        f"again       bench show {record.identity[:12]} {results} --suite > again.yaml",
        f"            {home}bench run again.yaml --results again{alone}",
    ]


def text(shown: View, row: Row, run: Run, width: int | None) -> str:
    """Write the run for a terminal of `width` columns."""
    folder = shown.results.run_folder(run.record)
    parts = [paragraph(_head(shown, row, run, folder), width)]
    if run.record.status == "done":
        parts += [_diagnostics(shown, run, width), _further(run, width)]
    parts += [_epochs(shown, run, width), paragraph(_provenance(run.record, folder), width)]
    return "\n\n".join(part for part in parts if part) + "\n"
