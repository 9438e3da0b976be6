"""Writes the golden figures of the named rules: `python tests/golden/make.py [RULE …]`.

Without a name, those of all rules. `--compare` writes nothing and prints how far today's figures
lie from the stored ones; `--threads N` computes with N threads.
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
    parser = argparse.ArgumentParser(description="Write the golden figures, or compare with them.")
    parser.add_argument("rules", nargs="*", metavar="RULE", help="default: all built-in rules")
    parser.add_argument("--compare", action="store_true", help="print differences, write nothing")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training")
    chosen = parser.parse_args()
    known = compute.built_in("method")
    if unknown := sorted(set(chosen.rules) - set(known)):
        parser.error(f"unknown rule {', '.join(unknown)}; known: {', '.join(known)}")
    kernels = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {kernels}, {chosen.threads} threads")
    for rule in chosen.rules or known:
        compare(rule, chosen.threads) if chosen.compare else regenerate(rule, chosen.threads)


def regenerate(rule: str, threads: int) -> None:
    """Write one rule's file."""
    started = time.perf_counter()
    pairs = {arch: compute.figures(rule, arch, threads) for arch in compute.ARCHS}
    compute.write(rule, {"numerics": compute.numerics(rule), **pairs})
    refused = "".join(f", refused on {arch}" for arch in pairs if "refused" in pairs[arch])
    print(f"{rule}: {time.perf_counter() - started:.1f} s{refused}")


def compare(rule: str, threads: int) -> None:
    """Print the largest difference of each pair, precision and kind of figure."""
    stored = compute.read(rule)
    for arch in compute.ARCHS:
        found = compute.differences(stored[arch], compute.figures(rule, arch, threads))
        kinds: dict[str, compute.Difference] = {}
        for one in sorted(found, key=lambda one: one.relative):
            kinds[" ".join(one.where.split()[:2])] = one
        for worst in kinds.values():
            print(f"{worst.relative:.1e} {rule} on {arch}: {worst}")


if __name__ == "__main__":
    main()
