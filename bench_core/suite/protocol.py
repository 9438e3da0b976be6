"""The four diagnostics that every verdict needs: docs/protocol.md, section 6."""

from __future__ import annotations

from dataclasses import dataclass

from bench_core.names import OURS


@dataclass(frozen=True)
class Standard:
    """A diagnostic of the protocol.

    threshold  as measurements store it
    three      its name in the verdicts of arXiv:2606.21126, which leave c out
    strategy   the way of reporting that adds it to the headline Γ (`bench_core.analysis.utility`)
    column     of exports
    """

    name: str
    threshold: float
    strategy: str
    column: str
    three: str = ""


STANDARD = {
    "a": Standard("scale_growth", 50.0, "S2", "a_growth", "D1"),
    "b": Standard("reference_floor", 1e-7 * 128, "S3", "b_reference_n128", "D2"),
    "c": Standard("batch_stability", 0.3, "S4", "c_batch_stability"),
    "d": Standard("depth_utility", 2.0, "S5", "d_margin_pp", "D3"),
}
AT_FLOOR = "reference at the floor"  # why a comparison with the gradient is not diagnostic
LETTERS = {letter: item.name for letter, item in STANDARD.items()}
THRESHOLDS = {item.name: item.threshold for item in STANDARD.values()}


def may_have(name: str, letter: str) -> bool:
    """Decide whether a diagnostic may have a letter: those of `LETTERS` belong to the built-in."""
    return LETTERS.get(letter, name) in (name, name.removeprefix(f"{OURS}/"))
