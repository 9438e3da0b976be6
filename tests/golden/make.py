"""Writes the golden figures of the named rules, by default of all: `python tests/golden/make.py [RULE …]`.

`--compare` writes nothing and prints how far today's figures lie from the stored ones; `--threads N` computes with N threads.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden import compute


def main() -> None:
    """Write, or compare, the figures of the rules on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rules", nargs="*", metavar="RULE", help="default: all built-in rules")
    parser.add_argument(
        "--compare", action="store_true", help="print the largest differences, write nothing"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.rules) - set(compute.rules())):
        parser.error(f"unknown rule {', '.join(unknown)}; known: {', '.join(compute.rules())}")
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {chosen.threads} threads"
    )
    for rule in chosen.rules or compute.rules():
        compare(rule, chosen.threads) if chosen.compare else regenerate(rule, chosen.threads)


def regenerate(rule: str, threads: int) -> None:
    """Write one rule's file."""
    started = time.perf_counter()
    pairs = {arch: compute.figures(rule, arch, threads) for arch in compute.ARCHS}
    compute.write(rule, {"numerics": compute.numerics(rule), **pairs})
    refused = [arch for arch, found in pairs.items() if "refused" in found]
    print(
        f"{rule}: {time.perf_counter() - started:.1f} s"
        + (f", refused on {', '.join(refused)}" if refused else "")
    )


def compare(rule: str, threads: int) -> None:
    """Print the largest difference of every precision and pair."""
    stored = compute.read(rule)
    for arch in compute.ARCHS:
        found = compute.differences(stored[arch], compute.figures(rule, arch, threads))
        for precision in compute.TOLERANCE:
            own = [one for one in found if one.where.startswith(precision)]
            if own:
                worst = max(own, key=lambda one: one.relative)
                print(f"{worst.relative:.1e} {rule} on {arch}: {worst}")


if __name__ == "__main__":
    main()
