"""Run cells as tasks of a Ray cluster (`pip install 'bench-core[ray]'`).

The executor joins the cluster of `--executor-set address=…` or RAY_ADDRESS. Without an address,
`--executor-set cpus=…` starts a cluster here with so many CPUs; otherwise the executor joins a
cluster that runs on this machine, or starts one. A task asks for the cell's threads as CPUs and, on
`cuda`, for a GPU shared by `--per-gpu` cells. A task whose node or process is lost starts
again elsewhere, `--executor-set retries=3` times, from the cell's saved state if the results folder
is shared; after that the cell is a row with status crashed.

Every node needs the same bench-core, plugins and data; the worker compares digests first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution.executors import JobOf, OnEvent, Options, remote
from bench_core.execution.planning.plan import PlannedCell

KNOWN = ("address", "retries", "cpus")


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def answer(self) -> str | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return str(self.ray.get(self.reference))
        except self.ray.exceptions.RayError as error:
            text = " ".join(str(error).split())[:300]
            raise remote.Lost(f"lost in the Ray cluster: {text}") from None

    def cancel(self) -> None:
        self.ray.cancel(self.reference, force=True)


def execute(cells: Sequence[PlannedCell], job: JobOf, on_event: OnEvent, options: Options) -> None:
    """Run the cells; `bench_core.execution.executors` has the contract."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("the executor ray needs Ray: pip install 'bench-core[ray]'") from None
    if unknown := sorted(options.settings.keys() - set(KNOWN)):
        known = ", ".join(KNOWN)
        raise UsageError(f"--executor-set {unknown[0]}: not known by ray; known: {known}")
    retries, cpus = options.whole_number("retries", 3), options.whole_number("cpus")
    started_here, own = not ray.is_initialized(), False
    if started_here:
        address = options.settings.get("address") or os.environ.get("RAY_ADDRESS")
        own = _connect(ray, address, cpus)
    run_job = ray.remote(remote.run_job)

    def submit(texts: list[tuple[PlannedCell, str]]) -> list[remote.Handle]:
        tasks: list[remote.Handle] = []
        for cell, text in texts:
            task = run_job.options(
                num_cpus=cell.cell.training["threads"],
                num_gpus=1 / options.per_gpu if cell.device.startswith("cuda") else 0,
                max_retries=retries,
                name=f"bench {cell.identity[:12]}",
            )
            tasks.append(_Task(ray, task.remote(text)))
        return tasks

    try:
        if own:
            _must_have_room(dict(ray.cluster_resources()), cells)  # type: ignore[no-untyped-call]
        remote.drive(cells, job, on_event, options, submit, options.slots)
    finally:
        if started_here:
            ray.shutdown()


def _must_have_room(resources: Mapping[str, float], cells: Sequence[PlannedCell]) -> None:
    """Raise UsageError if a cell fits no node of a cluster that was started here: it would wait for
    ever. Another cluster may get further nodes."""
    for cell in cells:
        threads, cuda = cell.cell.training["threads"], cell.device.startswith("cuda")
        if threads > resources.get("CPU", 0):
            need, has = f"{threads} CPUs (training.threads)", f"{resources.get('CPU', 0):g}"
        elif cuda and not resources.get("GPU"):
            need, has = f"a GPU (device {cell.device})", "none"
        else:
            continue
        raise UsageError(
            f"a cell needs {need}, and the Ray cluster that was started on this machine has {has}; "
            "--executor-set address=… joins another one"
        )


def _connect(ray: Any, address: str | None, cpus: int | None) -> bool:
    """Join a cluster, or start one here; return whether it was started."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address or cpus is None:
        try:
            ray.init(address=address or "auto", **quiet)
            return False
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address:
                text = " ".join(str(error).split())[:200]
                raise UsageError(f"no Ray cluster at {address}: {text}") from None
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    return True
