"""Write numbers for people; a number that is not finite is written in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

from bench_core.analysis.stats import Estimate

NONE = "–"
NOT_FINITE = "not finite"


def decimals(value: float, digits: int) -> str:
    """Write so many decimals, half a unit away from zero: .3515 is .352, and 3.55 is 3.6.

    The tenth decimal and further ones are what binary arithmetic left: they decide no tie.
    """
    if not abs(value) < 1e9:
        return f"{value:.{digits}f}"
    exact = Decimal(f"{value:.9f}" if digits < 9 else repr(float(value)))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def fraction(value: float) -> str:
    """Write three decimals without a leading zero: `.306`, `1.000`, `-.004`."""
    text = decimals(value, 3)
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def cosine(value: float) -> str:
    """Write three decimals with a sign: `+.306`, `-.004`, `+1.000`."""
    text = fraction(value)
    return text if text.startswith("-") else f"+{text}"


def share(mean: float, half: float | None) -> str:
    """Write an accuracy with its interval, which ends at 0 and 1: `.983 ± .007`, `.95 [.90, 1]`."""
    if half is None:
        return fraction(mean)
    low, high = mean - half, mean + half
    if low >= 0 and high <= 1:
        return f"{fraction(mean)} ± {fraction(half)}"
    ends = ("0" if low <= 0 else fraction(low), "1" if high >= 1 else fraction(high))
    return f"{fraction(mean)} [{ends[0]}, {ends[1]}]"


def signed(value: float, digits: int = 1) -> str:
    """Write a number with its sign: `+4.3`, `-4.3`, and never `-0.0`."""
    text = decimals(value, digits)
    if float(text) == 0:
        text = text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def compact(value: float, figures: int = 3) -> str:
    """Write three figures, or two with an exponent: `694`, `3,340`, `8.84`, `4.2e+08`."""
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        text = f"{value:.{figures}g}"
        return f"{float(text):,.0f}" if "e" in text else text
    return f"{value:.{figures - 2}e}"


def apart(value: float, limit: float, written: Callable[[float, int], str], digits: int) -> str:
    """Write a value with as many digits as it takes to look different from a limit."""
    texts = (written(value, count) for count in range(digits, digits + 15))
    differing = (text for text in texts if float(text.replace(",", "")) != limit)
    return next(differing, repr(value))


def optional(value: float | None, written: Callable[[float], str] = compact) -> str:
    """Write a value, `–` for None and `not finite` for NaN and infinity."""
    if value is None:
        return NONE
    return written(value) if math.isfinite(value) else NOT_FINITE


def with_interval(estimate: Estimate | None, digits: int = 1, alone: str = "") -> str:
    """Write a signed mean ± the half width of its interval, or `alone` if it has no interval."""
    if estimate is None:
        return NONE
    half = estimate.half_width
    return signed(estimate.mean, digits) + (
        alone if half is None else f" ± {decimals(half, digits)}"
    )


def unsigned(estimate: Estimate, digits: int = 1) -> str:
    """Write the size of a mean ± the half width of its interval: `1.11 ± 1.09`.

    It has as many digits as it takes to see that neither the mean nor an end of the interval is 0.
    """
    mean, half = abs(estimate.mean), estimate.half_width or 0.0

    def shows(count: int) -> bool:
        written, other = (float(decimals(value, count)) for value in (mean, half))
        return (written > 0) == (mean > 0) and (written > other) == (mean > half)

    count = next(filter(shows, range(digits, 16)), digits)
    interval = "" if estimate.half_width is None else f" ± {decimals(half, count)}"
    return decimals(mean, count) + interval


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def part(count: int, total: int, noun: str) -> str:
    """Write a part of so many things: `3 of 4 runs`, `all 4 runs`, `1 run`."""
    if count < total:
        return f"{count:,} of {plural(total, noun)}"
    return "all " * (total > 1) + plural(total, noun)


def rounded(value: float | None, digits: int = 5) -> float | None:
    """Round to significant digits, which saves bytes in the page."""
    return None if value is None else float(f"{value:.{digits}g}")
