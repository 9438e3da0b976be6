"""Write one run as text: its cell, measurements, verdict with reasons, and provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from bench_core.analysis.judge import (
    AT_FLOOR,
    CORE_DEFAULTS,
    NOT_IN_USE,
    alignment,
    letter_order,
    threshold_of,
)
from bench_core.analysis.leaderboard import Row, Run
from bench_core.report.compared import limits
from bench_core.report.criteria import Criterion
from bench_core.report.curves import curve, read_rows
from bench_core.report.escape import plain
from bench_core.report.numbers import NONE, compact, fraction, signed
from bench_core.report.provenance import flat
from bench_core.report.rows import PASSPORT, N
from bench_core.report.tables import wrapped
from bench_core.report.view import View, finite, plural, state, value
from bench_core.results.hashing import canonical, jsonable
from bench_core.results.migrate import described

SHOWN = 12  # epochs of a long curve


def _table(rows: list[list[str]], heads: list[str], width: int | None) -> str:
    from tabulate import tabulate

    rows = [[plain(cell) for cell in row] for row in rows]
    last = len(heads) - 1
    widths = limits(rows, heads, width, [(last, 20)])
    return tabulate(rows, headers=heads, disable_numparse=True, maxcolwidths=widths)


def _diagnostics(found: View, run: Run, width: int | None) -> str:
    rows = []
    for letter, (name, item) in sorted(run.judged.items(), key=lambda pair: letter_order(pair[0])):
        criterion = Criterion(letter, name, item)
        number = value(run, letter)
        shown = criterion.text(number, 2)
        limit = threshold_of(name, item, found.settings.thresholds)
        bound = NONE
        if limit is not None:
            bound = f"{'>' if item.direction == 'above' else '<'} {criterion.shown(limit):g}"
            bound += f" (N={item.batch})" if item.batch else ""
        quiet = dict(run.judgement.not_diagnostic).get(letter)
        said = f"not diagnostic: {quiet}" if quiet else state(run, letter)
        unit = " pp" if criterion.margin and number is not None else ""
        rows.append([letter, name, shown + unit, bound, said])
    return _table(rows, ["", "diagnostic", "value", "fires", "says"], width)


def _alignment(run: Run) -> list[str]:
    found = alignment(run.record, run.judgement)
    if found is None or not found.layers:
        return []
    shown = _layers(found.layers)
    deep = NONE if found.deep is None else signed(found.deep, 3)
    if found.not_diagnostic:
        return [f"Γ by layer  means nothing ({found.not_diagnostic}); was: {shown}"]
    lines = [f"Γ by layer  {shown}   deep {deep}" + ("" if found.in_use else f"   ({NOT_IN_USE})")]
    lines += (
        [f"Γ library   {_layers(found.library)}   (norms clamped at 1e-8)"] if found.library else []
    )
    lines += [
        f"‖a_l‖/‖g_l‖ {'  '.join(NONE if layer is None else compact(layer) for layer in found.ratio)}"
    ]
    details = run.record.measurements["alignment"].details
    return lines + [
        f"Γ of {name}  {_layers(map(finite, details[name + '_unclamped']))}"
        for name in found.readouts
    ]


def _layers(values: Iterable[float | None]) -> str:
    return "  ".join(NONE if value is None else signed(value, 3) for value in values)


def _distance(run: Run) -> list[str]:
    item = run.record.measurements.get("state_distance")
    if item is None:
        return []
    if item.not_diagnostic:
        return [f"d_BP        not measured: {item.not_diagnostic}"]
    return [
        "d_BP by layer "
        + "  ".join(compact(float(layer)) for layer in item.details.get("layers", ()))
    ]


def _further(run: Run, width: int | None) -> str:
    """Write the measurements beside verdicts, Γ and d_BP, with the reason if one means nothing."""
    told = {name for name, _ in run.judged.values()} | {
        "alignment",
        "state_distance",
    }
    rows = []
    for name, item in sorted(run.record.measurements.items()):
        if name in told:
            continue
        number = finite(item.value)
        shown = NONE if item.value is None else "not finite" if number is None else compact(number)
        layers = item.details.get("layers")
        numbers = [finite(layer) for layer in layers] if isinstance(layers, list) else []
        by_layer = "  ".join(NONE if layer is None else compact(layer) for layer in numbers)
        deep, mean, std = (
            finite(item.details.get(key)) for key in ("deep", "null_deep_mean", "null_deep_std")
        )
        # the value counts deviations of a null
        if deep is not None and mean is not None and std is not None:
            by_layer = f"Γ deep {deep:.3f}, null {mean:.3f} ± {std:.3f}"
            inside = item.details.get("flagged")
            by_layer += f"; inside the null: layer {', '.join(map(str, inside))}" if inside else ""
        at_floor = "b" in run.judgement.fired and described(name, item).needs_reference
        why = AT_FLOOR if at_floor else item.not_diagnostic
        rows.append([name, shown, f"not diagnostic: {why}" if why else by_layer])
    return _table(rows, ["further", "value", "by layer"], width) if rows else ""


def _epochs(folder: Path, width: int | None) -> str:
    points = curve(read_rows(folder))
    if len(points) < 2:
        return ""
    step = max(1, -(-(len(points) - 1) // SHOWN))
    kept = [point for point in points[:-1] if point.epoch % step == 0] + [points[-1]]
    rows = [
        [
            str(point.epoch),
            NONE if point.accuracy is None else fraction(point.accuracy),
            NONE if point.h is None else compact(point.h),
            NONE if point.g is None else f"{point.g:.1e}",
        ]
        for point in kept
    ]
    return _table(rows, ["epoch", "accuracy", "‖h_L‖", f"‖g_L‖ N={N}"], width)


def text(found: View, row: Row, run: Run, folder: Path, width: int | None) -> str:
    """The run, for a terminal of `width` columns."""
    record, judgement = run.record, run.judgement
    changed = {
        key: item
        for key, item in record.cell.method.params.items()
        if key not in CORE_DEFAULTS or canonical(item) != canonical(CORE_DEFAULTS[key])
    }
    accuracy = (
        NONE if record.status != "done" or record.accuracy is None else fraction(record.accuracy)
    )
    margins = ", ".join(
        f"{signed(margin, 2)} pp over {name}"
        for margin, name in (
            (judgement.margin_matched, "its matched floor"),
            (judgement.margin_bp, "the bp floor"),
        )
        if margin is not None
    )
    used = [words for name, (_, words) in PASSPORT.items() if record.passport.get(name)]
    used += sorted(name for name, flag in record.passport.items() if flag and name not in PASSPORT)
    head = [
        f"{row.label} · seed {record.cell.seed} · {record.cell.arch.short} · {record.cell.dataset.short} · {record.suite}",
        f"run         {record.identity}",
        f"folder      {folder}",
        f"status      {record.status}" + (f": {record.reason}" if record.reason else ""),
        f"verdict     {judgement.text}",
        f"accuracy    {accuracy} after {plural(record.epochs, 'epoch')}"
        + (f" ({margins})" if margins else ""),
        *_alignment(run),
        *_distance(run),
    ]
    where = [
        f"uses        {', '.join(used) or ('nothing beyond a block' if record.passport else 'not declared')}",
        f"parameters  {json.dumps(jsonable(changed), default=str)}",
        f"training    {', '.join(f'{k}={v}' for k, v in flat(record.cell.training).items())}",
        f"data        {record.data_checksum or NONE}",
        *(f"code        {name} {digest}" for name, digest in flat(record.code).items()),
        f"environment {', '.join(f'{k} {v}' for k, v in flat(record.environment).items()) or NONE}",
        f"cost        {record.seconds:.1f} s"
        + (f", {record.peak_memory_bytes / 1e6:.0f} MB" if record.peak_memory_bytes else ""),
        f"finished    {record.finished or NONE}",
        f"again       bench show {record.identity[:12]} {shlex.quote(str(folder.parent.parent))} --suite > again.yaml",
        "again       bench run again.yaml",
    ]
    parts = ["\n".join(wrapped(plain(line), width) for line in head)]
    parts += [_diagnostics(found, run, width)] if record.status == "done" else []
    parts += [further] if record.status == "done" and (further := _further(run, width)) else []
    parts += [curve_text] if (curve_text := _epochs(folder, width)) else []
    parts.append("\n".join(wrapped(plain(line), width) for line in where))
    return "\n\n".join(parts) + "\n"
