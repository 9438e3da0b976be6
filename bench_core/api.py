"""The names that a plugin author imports: `from bench_core.api import Component, Credits, …`.

A plugin is an installed distribution with an entry point in the group `bench_core.plugins`. Its
module implements hooks of `bench_core.registry.hookspecs`; the hooks return lists of `Component`,
descriptors made of strings. Only processes that train, measure, examine or check a component import
its target. So this module loads no torch: `Net`, `States`, `Data`, `Audit`, `ProbeBatch` and the
losses, which need it, load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench_core.registry.hookspecs import API_VERSION, Component, hookimpl
from bench_core.training.dataset import Dataset
from bench_core.training.diagnostic import Control, Diagnostic, Measured
from bench_core.training.local_method import LocalMethod
from bench_core.training.method import Credits, Laws, Method, Passport, Task, Tools
from bench_core.training.params import LATER, ParamsModel, PerN

if TYPE_CHECKING:
    from bench_core.training.audit import Audit
    from bench_core.training.data import Data
    from bench_core.training.loss import CROSS_ENTROPY, SQUARED_ERROR
    from bench_core.training.net import Net, States
    from bench_core.training.probe import ProbeBatch
    from bench_core.training.rng import draws_from, stream

__all__ = [
    "API_VERSION",
    "CROSS_ENTROPY",
    "LATER",
    "SQUARED_ERROR",
    "Audit",
    "Component",
    "Control",
    "Credits",
    "Data",
    "Dataset",
    "Diagnostic",
    "Laws",
    "LocalMethod",
    "Measured",
    "Method",
    "Net",
    "ParamsModel",
    "Passport",
    "PerN",
    "ProbeBatch",
    "States",
    "Task",
    "Tools",
    "draws_from",
    "hookimpl",
    "stream",
]

_LOADS_TORCH = {
    "Audit": "audit",
    "ProbeBatch": "probe",
    "Net": "net",
    "States": "net",
    "Data": "data",
    "CROSS_ENTROPY": "loss",
    "SQUARED_ERROR": "loss",
    "draws_from": "rng",
    "stream": "rng",
}


def __getattr__(name: str) -> Any:
    if name in _LOADS_TORCH:
        return getattr(import_module(f"bench_core.training.{_LOADS_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
