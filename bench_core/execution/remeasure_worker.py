"""One late audit in a process of its own: rebuild what a run trained, load its checkpoint, measure.

The job arrives as JSON on standard input. The last line of a duplicate of standard output is the answer: {"measurements": {…}} or
{"problem": reason}. What plugins print goes to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_core.errors import BenchError
from bench_core.execution.cell import attempt, build_cell, diagnostics, environment
from bench_core.processes import child
from bench_core.registry import plugins
from bench_core.results import remeasured, store
from bench_core.results.hashing import jsonable
from bench_core.results.record import environment_key
from bench_core.suite.model import TrainingOptions


def measure_run(job: dict[str, Any]) -> dict[str, Any]:
    """Measure and keep the job's diagnostics; {"measurements": …}. Raises BenchError where the run cannot be rebuilt."""
    from bench_core.training.audit import Audit

    folder = Path(job["folder"])
    try:
        record = store.read(folder, sums=True)
    except store.Unreadable as reason:
        raise BenchError(str(reason)) from None
    cell = record.cell
    device = job["device"] or record.environment.get("device", "cpu")
    training = {**TrainingOptions().model_dump(), **cell.training, "device": device}
    used = [ref.name for ref in (cell.method, cell.arch, cell.dataset)] + [
        entry["name"] for entry in job["diagnostics"]
    ]
    registry = plugins.load_for(used)
    listed = diagnostics(registry, job["diagnostics"])
    built = build_cell(registry, cell, training, job["data_dir"])
    load_checkpoint(folder, built, device)
    audit = Audit(
        built.net,
        built.method,
        built.data,
        cell.seed,
        max(record.epochs - 1, 0),
        initial=built.initial,
    )
    audit.history = [
        json.loads(line)
        for line in (folder / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    check_states(folder, audit)
    here = record.model_copy(
        update={"environment": record.environment | environment(device, training)}
    )
    if environment_key(here) == environment_key(record):  # elsewhere rounding may move a credit
        check_credits(folder, audit)

    answer = {}
    for entry, (name, diagnostic) in zip(job["diagnostics"], listed, strict=True):
        found = attempt(name, diagnostic, audit)
        answer[name] = found.model_dump(mode="json")
        if "error" not in found.details:
            kept = remeasured.Late(
                late_schema=remeasured.SCHEMA,
                checkpoint=remeasured.checkpoint_sum(record),
                diagnostic=entry["name"],
                params=diagnostic.params.model_dump(mode="json"),
                measurement=found,
                versions=environment(device, training),
                measured=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            remeasured.write(folder, kept)
    return answer


def load_checkpoint(folder: Path, built: Any, device: str) -> None:
    """The network's and the method's tensors as they were when the training ended."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "checkpoint.safetensors", device=device)

    def part(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    try:
        built.net.load_state_dict(part("net."))
        built.method.load_state_dict(part("method."))
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BenchError(
            f"its checkpoint does not fit the installed code, which has changed since: {reason}"
        ) from None


def check_states(folder: Path, audit: Any) -> None:
    """Raise where the rebuilt network does not give the states that the run stored: then it is another network."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / "probe.safetensors")
    for layer in range(audit.net.depth + 1):
        then = stored[f"h_{layer}"]  # of the first samples, where all were too many
        now = torch.cat([audit.net.flat(batch.states.h[layer]).cpu() for batch in audit.batches])[
            : len(then)
        ]
        same = now.shape == then.shape and torch.allclose(
            now, then, rtol=1e-3, atol=1e-5 * float(then.abs().max()), equal_nan=True
        )
        if not same:
            raise BenchError(
                f"the network rebuilt from its checkpoint gives other states h_{layer} on the probe than the run stored: "
                "code, data or versions have changed since; `bench why` says what"
            )


def check_credits(folder: Path, audit: Any) -> None:
    """Raise where the rebuilt rule does not give the credits that the run stored: then it is another rule, or its state_dict does
    not hold all that its credit needs. A credit that is drawn anew each time is not compared."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / "probe.safetensors")
    if (
        audit.batches[0].credits is None
        or not all(f"a_{site}" in stored for site in audit.net.sites)
        or drawn(audit)
    ):
        return
    for index, site in enumerate(audit.net.sites):
        then = stored[f"a_{site}"]
        now = torch.cat([audit.net.flat(batch.audited[index]).cpu() for batch in audit.batches])[
            : len(then)
        ]
        atol = 1e-3 * float(then.abs().max())
        if now.shape != then.shape or not torch.allclose(
            now, then, rtol=1e-2, atol=atol, equal_nan=True
        ):
            raise BenchError(
                f"the rule rebuilt from its checkpoint gives another credit a_{site} on the probe than the run stored: its "
                "state_dict does not hold all that its credit needs, or its code has changed since; `bench check` tries the first"
            )


def drawn(audit: Any) -> bool:
    """Whether the credit depends on where the random streams are, which no checkpoint says."""
    import torch

    method, first = audit.method, audit.batches[0]
    was_training = audit.net.training
    audit.net.eval()
    streams = [torch.default_generator, method.tools.generator, method.tools.aux_generator]
    before = [generator.get_state() for generator in streams]
    for generator in streams:
        generator.manual_seed(1)
    try:
        again = audit._batch(next(audit.data.test_batches(len(first.y)))[0], first.y)
    finally:
        audit.net.train(was_training)
        for generator, state in zip(streams, before, strict=True):
            generator.set_state(state)
    return not all(torch.equal(a, b) for a, b in zip(again.audited, first.audited, strict=True))


def serve(job: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Send the measurements of the job by short name."""
    say(jsonable(measure_run(job)))


if __name__ == "__main__":
    child.serve(serve)
