"""Save and restore the state of a training, bit-equal on a CPU in deterministic mode.

One safetensors file per cell lies beside its run folder (`store.resume_file`). It is replaced
atomically every `checkpoint_every` epochs and removed when the cell has ended. Its tensors:

    net.*, method.*        parameters and buffers, also frozen ones; feedback, auxiliary networks
    updater.<i>.<p>.<key>  optimiser state of the p-th parameter in the i-th updater of the method
    stream.<name>          random streams of loop and method (`bench_core.training.rng`)
    generator.<name>       generators of torch that are attributes of the method; one that it makes
                           later than in `setup` is saved, but not restored
    global.cpu, global.cuda, global.numpy    global generators of torch and numpy
    answer.<name>          what the worker compares a restored rule with

Its metadata hold JSON (no pickle): epoch, rows, learning rates, whether weights changed by other
means than the optimisers' steps, seconds, Python's generator and a checksum. A file that is damaged
is not used: the cell starts again from epoch 0. Values that a method keeps outside of its
`state_dict` and its updaters are not saved: see `Method.state_dict`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import BenchError

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bench_core.training.method import Method
    from bench_core.training.net import Net

VERSION = 1


def header(path: str | Path) -> dict[str, Any] | None:
    """Read the JSON part of a resume file, without torch; None if the file cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            state = json.loads(file.metadata()["state"])
        usable = state["version"] == VERSION and 0 < int(state["epoch"]) < 10**9
        usable &= isinstance(state["epoch"], int) and 0 <= float(state.get("seconds", 0)) < 10**9
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ):
        return None
    return state if usable else None


class TrainingState:
    """Everything of a running training that changes, by name.

    streams  generators by name, beside the two of the method
    key      of the user; the state of another user is not used
    """

    def __init__(
        self, net: Net, method: Method, streams: Mapping[str, Generator], key: bytes = b""
    ) -> None:
        self.key, tools = key, method.tools
        own = {"feedback": tools.generator, "auxiliary": tools.aux_generator}
        self.net, self.method, self.streams = net, method, {**streams, **own}
        self.updaters = tools.updaters
        self.optimisers = [updater.optimiser for updater in tools.updaters]

    def moments(self) -> Iterator[tuple[str, Any]]:
        """Yield name and value of the optimisers' state."""
        for number, optimiser in enumerate(self.optimisers):
            for parameter, values in optimiser.state_dict()["state"].items():
                for key, value in values.items():
                    yield f"updater.{number}.{parameter}.{key}", value

    def generators(self) -> dict[str, Generator]:
        """Return the method's own generators by name."""
        from bench_core.training.rng import generators_of

        return generators_of(self.method)

    def dump(
        self, epoch: int, identity: str, more: Mapping[str, Any], answers: Mapping[str, Tensor]
    ) -> bytes:
        """Return the content of the file with the state after `epoch` epochs.

        more, answers  JSON values and tensors, which `load` returns
        """
        from safetensors.torch import save

        tensors, scalars = self._capture()
        tensors |= {f"answer.{name}": value.cpu().contiguous() for name, value in answers.items()}
        state = {"version": VERSION, "identity": identity, "epoch": epoch, **scalars, **more}
        text = json.dumps(state, sort_keys=True)  # NaN and Infinity as Python writes and reads them
        content: bytes = save(tensors, {"state": text, "blake2b": _sum(tensors, text, self.key)})
        return content

    def load(
        self, path: str | Path, identity: str
    ) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Restore the saved state; return its JSON and answers, None if no file can be trusted."""
        from safetensors import safe_open

        if header(path) is None:
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                metadata = file.metadata()
        except Exception:
            return None
        text = metadata["state"]
        state: dict[str, Any] = json.loads(text)
        if (
            metadata.get("blake2b") != _sum(tensors, text, self.key)
            or state["identity"] != identity
        ):
            return None
        self._restore(tensors, state)
        return state, part(tensors, "answer.")

    def _capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        import numpy
        import torch

        tensors = storable(self.net, self.method)
        scalars: dict[str, Any] = {}
        tensors |= {f"stream.{name}": stream.get_state() for name, stream in self.streams.items()}
        tensors |= {
            f"generator.{name}": each.get_state() for name, each in self.generators().items()
        }
        for name, value in self.moments():
            (tensors if isinstance(value, torch.Tensor) else scalars)[name] = value
        rates = [[group["lr"] for group in each.param_groups] for each in self.optimisers]
        own: Any = numpy.random.get_state(legacy=False)
        tensors["global.cpu"] = torch.get_rng_state()
        tensors["global.numpy"] = torch.from_numpy(own["state"].pop("key").astype("int64"))
        if torch.cuda.is_available():
            tensors["global.cuda"] = torch.cuda.get_rng_state()
        plain = {key: v.detach().to("cpu", copy=True).contiguous() for key, v in tensors.items()}
        generators = {"python": random.getstate(), "numpy": own}
        others = [[updater.others, updater.suspect] for updater in self.updaters]
        return plain, {"rates": rates, "others": others, "scalars": scalars, **generators}

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        import numpy
        import torch

        generators = self.generators()
        if generators.keys() != (saved := part(tensors, "generator.").keys()):
            names = ", ".join(sorted(generators.keys() ^ saved))
            raise BenchError(f"its rule makes the generators {names} later than in setup()")
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        self.net.load_state_dict(part(tensors, "net."))
        kept = part(tensors, "method.")
        self.method.load_state_dict({name: value.to(device) for name, value in kept.items()})
        moments = {**tensors, **state["scalars"]}
        for number, (optimiser, rates) in enumerate(
            zip(self.optimisers, state["rates"], strict=True)
        ):
            values: dict[int, dict[str, Any]] = {}
            for name, value in part(moments, f"updater.{number}.").items():
                parameter, _, key = name.partition(".")
                values.setdefault(int(parameter), {})[key] = value
            groups = optimiser.state_dict()["param_groups"]
            groups = [{**group, "lr": lr} for group, lr in zip(groups, rates, strict=True)]
            optimiser.load_state_dict({"state": values, "param_groups": groups})
        for updater, seen in zip(self.updaters, state.get("others", ()), strict=False):
            updater.others, updater.suspect = seen if isinstance(seen, list) else (seen, False)
        for name, stream in self.streams.items():
            stream.set_state(tensors[f"stream.{name}"])
        for name, generator in generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        own = state["numpy"]
        own["state"]["key"] = tensors["global.numpy"].numpy().astype("uint32")
        numpy.random.set_state(own)
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        torch.set_rng_state(tensors["global.cpu"])
        if "global.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["global.cuda"])


def storable(net: Net, method: Method) -> dict[str, Tensor]:
    """Return what a checkpoint keeps of network and rule: net.*, method.*.

    Raises BenchError for a value that no file can hold.
    """
    tensors = {}
    for prefix, owner, words in (("net", net, "network"), ("method", method, "rule")):
        for name, value in owner.state_dict().items():
            if reason := _unstorable(value):
                raise BenchError(f"state_dict() of the {words} holds {name!r}, {reason}")
            tensors[f"{prefix}.{name}"] = value
    return tensors


def _unstorable(value: Any) -> str | None:
    """Say why a file cannot hold a value; the values of tensors are not read."""
    import torch
    from safetensors.torch import save

    if not isinstance(value, torch.Tensor):
        return (
            f"of type {type(value).__name__}: only tensors can be kept; keep a number as an "
            "attribute and write it as a tensor in state_dict() (docs/write-a-method.md, section 6)"
        )
    if value.is_meta or torch.nn.parameter.is_lazy(value):
        return "a tensor without values"
    if value.layout != torch.strided:
        return f"of layout {value.layout}: only dense tensors can be kept"
    try:
        save({"": torch.empty(0, dtype=value.dtype)})
    except Exception:
        return f"of type {value.dtype}, which no checkpoint can hold"
    return None


def part(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values whose names begin with `prefix`, by the rest of their names."""
    return {n.removeprefix(prefix): value for n, value in values.items() if n.startswith(prefix)}


TYPES = {  # the name of a type in a file of safetensors → in torch
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def seal(
    text: str, tensors: Iterable[tuple[str, str, Sequence[int], Iterable[bytes]]], key: bytes
) -> str:
    """Return the BLAKE2b with a key of the JSON and of all tensors.

    tensors  name, type as torch writes it, shape and bytes in pieces, in the order of the names
    """
    hasher = blake2b(text.encode(), key=key, digest_size=16)
    for name, kind, shape, pieces in tensors:
        hasher.update(json.dumps([name, kind, list(shape)]).encode() + bytes(1))
        for piece in pieces:
            hasher.update(piece)
    return hasher.hexdigest()


def _sum(tensors: Mapping[str, Tensor], text: str, key: bytes) -> str:
    import torch

    def pieces(tensor: Tensor) -> Iterator[bytes]:
        yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes()

    named = ((name, tensors[name]) for name in sorted(tensors))
    kinds = ((name, str(t.dtype).removeprefix("torch."), t.shape, t) for name, t in named)
    return seal(text, ((name, kind, shape, pieces(t)) for name, kind, shape, t in kinds), key)
