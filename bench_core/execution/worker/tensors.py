"""Write the tensors of a finished training: checkpoint.safetensors and probe.safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench_core.results import store
from bench_core.results.files import write_file, writing
from bench_core.training.saved_state import storable
from bench_core.units import MIB

if TYPE_CHECKING:
    from torch import Tensor

    from bench_core.training.audit import Audit
    from bench_core.training.method import Method
    from bench_core.training.net import Net
    from bench_core.training.probe import ProbeBatch

PROBE_BYTES = 64 * MIB


def save_tensors(folder: Path, net: Net, method: Method, audit: Audit) -> None:
    """Write both files into a run's temporary folder. Raises StoreError.

    checkpoint  net.*, method.*: the network, feedback, auxiliary networks
    probe       `probe` of the last audit, of the first samples that fit into 64 MiB
    """
    tensors = {name: value.clone() for name, value in storable(net, method).items()}
    _write(folder / store.CHECKPOINT, tensors)
    first = flat(audit, audit.batches[0])
    sample = sum(4 * rows.shape[1] for rows in first.values())
    _write(folder / store.PROBE, probe(audit, max(1, PROBE_BYTES // sample)))


def probe(audit: Audit, samples: int) -> dict[str, Tensor]:
    """Return h_l, g_l and a_l of the first probe samples, as many as there are of `samples`."""
    start, samples = 0, min(samples, audit.samples)
    whole: dict[str, Tensor] = {}
    for batch in audit.batches:
        stop = min(start + len(batch.y), samples)
        for name, rows in flat(audit, batch).items():
            tensor = whole.setdefault(name, rows.new_empty(samples, rows.shape[1]))
            tensor[start:stop] = rows[: stop - start]
        if stop == samples:
            break
        start = stop
    return whole


def flat(audit: Audit, batch: ProbeBatch) -> dict[str, Tensor]:
    """Return h_l, g_l and a_l of a batch, flat as norms and cosines take them (`Net.flat`)."""
    rows = {f"h_{layer}": h for layer, h in enumerate(batch.states.h)}
    rows |= {f"g_{layer}": g for layer, g in enumerate(batch.g)}
    rows |= {f"a_{site}": a for site, a in zip(audit.net.sites, batch.audited, strict=False)}
    return {name: audit.net.flat(tensor) for name, tensor in rows.items()}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file with the permissions of other files; `save_file` of safetensors gives 0600."""
    from safetensors.torch import save

    plain = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    with writing(path):
        write_file(path, save(plain))
