"""The ray executor: cells as tasks of a Ray cluster (`pip install 'bench-core[ray]'`).

It joins the cluster of `--executor-set address=…` or RAY_ADDRESS, else one that runs on this machine, else it starts one here. A
task asks for the cell's threads as CPUs and, on `cuda`, for a GPU shared by `--per-gpu` cells. A task whose node or worker
process is lost is started again elsewhere, `--executor-set retries=3` times, from the cell's saved state where the results
folder is shared; after that the cell is a row with status crashed. Other settings: `cpus` of a cluster that is started here.

Every node needs the same bench-core, plugins and data; the worker checks their digests before it trains. What travels is JSON text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import Event, Job, Options, remote
from bench_core.execution.plan import PlannedCell

KNOWN = ("address", "retries", "cpus")


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def answer(self) -> str | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            text: str = self.ray.get(self.reference)
        except self.ray.exceptions.RayError as error:
            raise remote.Lost(
                f"lost in the Ray cluster: {' '.join(str(error).split())[:300]}"
            ) from None
        return text

    def cancel(self) -> None:
        self.ray.cancel(self.reference, force=True)


def execute(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Job],
    on_event: Event,
    options: Options,
) -> None:
    """Run the cells; the contract is that of `bench_core.execution.executors`. Raises UsageError where there is no Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("the executor ray needs Ray: pip install 'bench-core[ray]'") from None
    unknown = sorted(options.settings.keys() - set(KNOWN))
    if unknown:
        raise UsageError(
            f"--executor-set {unknown[0]}: not known by ray; known: {', '.join(KNOWN)}"
        )
    retries, cpus = number(options, "retries", 3), number(options, "cpus", None)
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, options.settings.get("address") or os.environ.get("RAY_ADDRESS"), cpus)
    carry = ray.remote(remote.run_job)

    def submit(texts: list[tuple[PlannedCell, str]]) -> list[remote.Handle]:
        tasks: list[remote.Handle] = []
        for cell, text in texts:
            gpus = 1 / options.per_gpu if cell.device.startswith("cuda") else 0
            threads = cell.cell.training["threads"]
            asked = carry.options(
                num_cpus=threads,
                num_gpus=gpus,
                max_retries=retries,
                name=f"bench {cell.identity[:12]}",
            )
            tasks.append(_Task(ray, asked.remote(text)))
        return tasks

    try:
        remote.drive(cells, job, on_event, options, submit, options.slots)
    finally:
        if ours:
            ray.shutdown()


def number(options: Options, name: str, default: int | None) -> int | None:
    """A setting that is a whole number. Raises UsageError."""
    text = options.settings.get(name)
    if text is None:
        return default
    if not text.isdigit():
        raise UsageError(f"--executor-set {name}={text}: must be a whole number")
    return int(text)


def _connect(ray: Any, address: str | None, cpus: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address or "auto", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address:
            raise UsageError(
                f"no Ray cluster at {address}: {' '.join(str(error).split())[:200]}"
            ) from None
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
