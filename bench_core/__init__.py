"""bench: an audit of learning rules that replace or approximate backpropagation.

from bench_core import load, run_suite
results = run_suite("quickstart")       # trains what is missing
results = load("results")               # reads what is there
results.leaderboard(), results.runs.to_pandas(), results.figure("audit"), results.claims()
"""

from typing import Any

__version__ = "0.2.0"
__all__ = ["Results", "__version__", "load", "run_suite"]


def __getattr__(name: str) -> Any:
    """Import `load`, `run_suite` and `Results` on first use: `import bench_core` stays light."""
    if name in ("Results", "load", "run_suite"):
        from pkgutil import resolve_name

        return resolve_name(f"bench_core.commands.functions:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
