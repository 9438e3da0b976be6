"""Write the tensors of a finished training: checkpoint.safetensors and probe.safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench_core.results import store
from bench_core.results.files import write_file, writing
from bench_core.suite.budget import MIB
from bench_core.training.checkpoint import storable

if TYPE_CHECKING:
    from torch import Tensor

    from bench_core.training.audit import Audit
    from bench_core.training.method import Method
    from bench_core.training.net import Net

PROBE_BYTES = 64 * MIB


def save_tensors(folder: Path, net: Net, method: Method, audit: Audit) -> None:
    """Write both files into a run's temporary folder. Raises StoreError.

    checkpoint  net.*, method.*: the network, feedback, auxiliary networks
    probe       `probe` of the last audit, of the first samples that fit into 64 MiB
    """
    import torch

    tensors = {name: value.clone() for name, value in storable(net, method).items()}
    _write(folder / store.CHECKPOINT, tensors)
    flat = probe(audit)
    room = max(1, PROBE_BYTES // sum(4 * parts[0].shape[1] for parts in flat.values()))
    first = {key: torch.cat(parts)[:room].clone() for key, parts in flat.items()}
    _write(folder / store.PROBE, first)


def probe(audit: Audit) -> dict[str, list[Tensor]]:
    """Return h_l, g_l and a_l of every batch, flat as norms and cosines take them (`Net.flat`)."""
    net, batches = audit.net, audit.batches
    rows = {f"h_{i}": [b.states.h[i] for b in batches] for i in range(net.depth + 1)}
    rows |= {f"g_{i}": [b.g[i] for b in batches] for i in range(net.depth + 1)}
    if batches[0].credits is not None:
        rows |= {f"a_{s}": [b.audited[i] for b in batches] for i, s in enumerate(net.sites)}
    return {key: [net.flat(part) for part in parts] for key, parts in rows.items()}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file with the permissions of other files; `save_file` of safetensors gives 0600."""
    from safetensors.torch import save

    plain = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    with writing(path):
        write_file(path, save(plain))
