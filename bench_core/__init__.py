"""bench: an audit of learning rules that replace or approximate backpropagation."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "run_suite"]


def __getattr__(name: str) -> Any:
    """`bench_core.run_suite`, imported on first use so that `import bench_core` stays light."""
    if name == "run_suite":
        from bench_core.execution.runner import run_suite

        return run_suite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
