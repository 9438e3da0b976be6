"""Define how suites, components and diagnostics may be named, and how a rule is written."""

from collections.abc import Mapping

NAME = r"[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?"
FULL_NAME = f"({NAME}/)?{NAME}"  # with the distribution, if two of them bring the name
NAME_RULE = "1 to 64 of a-z, 0-9, _ . - with a letter or digit at both ends"
OURS = "bench-core"  # our distribution, which brings the built-in components
FILE = ".py"  # a rule from a file has the file's name where others have a distribution
CEILING = "bp"
LOCAL_CEILING = "bp_local_heads"  # of rules whose passport has local_heads, beside bp
GROUP = "bench_core.plugins"  # of the entry points of plugins
FROZEN = "frozen"  # the short form of the option freeze=blocks, as tables write it
CEILINGS_FLOOR = f"{CEILING}[{FROZEN}]"


def bare_name(full_name: str) -> str:
    """Return the name of a component without its distribution: `rule` of `lab/rule`."""
    return full_name.rpartition("/")[2]


def distribution_of(full_name: str) -> str:
    """Return the distribution (or the rule file) that brings a component; "" without one."""
    return full_name.rpartition("/")[0]


def without_ours(full_name: str) -> str:
    """Return a name without our distribution: `dfa` of `bench-core/dfa`; `lab/rule` as it is."""
    return full_name.removeprefix(f"{OURS}/")


def with_options(name: str, options: Mapping[str, str]) -> str:
    """Write a rule with options: `dfa[penalty=0.01]`; `dfa[frozen]` stands for freeze=blocks."""
    stated = [f"{key}={text}" for key, text in options.items()]
    shown = ", ".join(FROZEN if text == "freeze=blocks" else text for text in stated)
    return f"{name}[{shown}]" if shown else name
