"""Records as a hostile or careless program writes them: well-formed files with odd values."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_core.results import store, suite_folder
from bench_core.results.hashing import checksum, digest


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**63 - 1, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324, "", "nan",
    "inf", "-inf", "x" * 3000, "\x1b]0;owned\x07", "\u202e", "../../x", "=1+1", "{value}", "<b>",
    [], [None], [[]], [1, "x", None], ["nan"] * 3, [1e308] * 5, list(range(5000)), nested(150),
    nested(400), {}, {"": 1}, {"x": {"y": []}}, {"\x1b[2J": "\x1b[2J"}, {"layers": 3, "deep": "x"},
)  # fmt: skip


def places(document: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document."""
    open_: list[tuple[tuple[Any, ...], Any]] = [((), document)]
    while open_:
        path, value = open_.pop()
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            if isinstance(item, (dict, list)):
                open_.append(((*path, key), item))


def odd(draws: random.Random) -> Any:
    """Return a fresh copy of an odd value."""
    return json.loads(json.dumps(draws.choice(ODD)))


def mutated(value: Any, draws: random.Random) -> Any:
    """Change one to three values of a JSON document: another value, none at all, one more."""
    value = json.loads(json.dumps(value))
    for _ in range(draws.choice((1, 1, 2, 3))):
        every = list(places(value))
        inner = [path for path in every if "details" in path or "measurements" in path]
        path = draws.choice(inner if inner and draws.random() < 0.5 else every)
        owner = value
        for key in path[:-1]:
            owner = owner[key]
        kind = draws.random()
        if kind < 0.8:
            owner[path[-1]] = odd(draws)
        elif kind < 0.9:
            del owner[path[-1]]
        elif isinstance(owner, dict):
            owner[draws.choice(("further", "", "\x1b[2J", "layers"))] = odd(draws)
    return value


def reseal(folder: Path, raw: dict[str, Any]) -> None:
    """Write a run.json with the checksums that belong to its values and files."""
    files = raw.get("files")
    if isinstance(files, dict):
        for name in store.FILES:
            path = folder / name
            if path.is_file() and isinstance(files.get(name), dict):
                with path.open("rb") as file:
                    files[name] = {"bytes": path.stat().st_size, "blake2b": checksum(file)}
    content = {key: value for key, value in raw.items() if key != "checksum"}
    (folder / store.RUN).write_text(json.dumps({**content, "checksum": digest(content)}))


def tensors(header: bytes, body: bytes = b"") -> bytes:
    """Return a file of tensors with this header."""
    return len(header).to_bytes(8, "little") + header + body


def probes(draws: random.Random) -> bytes:
    """Return an odd probe: no tensors, other ranks, types and shapes, damaged headers."""
    import numpy as np
    from safetensors.numpy import save

    kinds: list[bytes] = [
        b"",
        b"\xff" * 8,
        tensors(b"{}"),
        tensors(b"[]"),
        tensors(b"{" * 500),
        tensors(
            b'{"h_0": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4]}}', b"0000"
        ),
        save({}),
        save({"h_0": np.array(1.0, np.float32)}),
        save({f"h_{k}": np.zeros((0, 3), np.float32) for k in range(3)}),
        save({f"h_{k}": np.zeros((2, 3), np.int64) for k in range(3)}),
        save({f"h_{k}": np.zeros((2, 3), np.bool_) for k in range(3)}),
        save({f"h_{k}": np.full((2, 3), np.nan, np.float16) for k in range(3)}),
        save({"h_x": np.zeros((2, 3), np.float32), "h_-1": np.zeros(1)}),
        save({"h_99999999999999999999": np.zeros((2, 3))}),
        tensors(b'{"h_0": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}', b"0000"),
    ]
    return draws.choice(kinds)


def spoil(suite: Path, draws: random.Random) -> str:
    """Spoil one file of a suite folder of real runs, with valid checksums; return what it was."""
    folder = draws.choice(sorted(path.parent for path in suite.glob("*/run.json")))
    raw = json.loads((folder / store.RUN).read_text())
    what = draws.choice(("run", "run", "run", "run", "epochs", "suite", "late", "mark", "probe"))
    if what == "run":
        raw = mutated(raw, draws)
    elif what == "epochs":
        path = folder / store.EPOCHS
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(mutated(row, draws)) + "\n" for row in rows))
    elif what == "suite":
        path = suite / suite_folder.SUITE
        path.write_text(json.dumps(mutated(json.loads(path.read_text()), draws)))
    elif what == "late":
        name = draws.choice(sorted(raw["measurements"]))
        entry = {
            "maker": "",
            "seal": "",
            "late_schema": 2,
            "checkpoint": raw["files"][store.CHECKPOINT]["blake2b"],
            "diagnostic": f"bench-core/{name}",
            "params": {},
            "measurement": raw["measurements"][name],
            "versions": {},
            "measured": "2026",
        }
        entry = mutated(entry, draws)
        text = json.dumps({**entry, "checksum": digest(entry)})
        (folder / f"late.{name}.json").write_text(text)
    elif what == "mark":
        replica = {
            "agrees": True, "how": "bits", "said": "x", "identity": "x", "accuracy": 0.5,
            "environment": {}, "finished": "2026", "maker": "01234567", "seal": "00",
        }  # fmt: skip
        mark = {
            "schema_version": 2, "identity": raw["identity"], "run": raw["checksum"],
            "checked": {"when": "2026", "maker": "", "seal": ""}, "trained": None,
            "replicas": [replica],
        }  # fmt: skip
        (suite / "agreement").mkdir(exist_ok=True)
        path = suite / "agreement" / f"{raw['identity']}.json"
        path.write_text(json.dumps(mutated(mark, draws)))
    else:
        (folder / store.PROBE).write_bytes(probes(draws))
    if what in ("run", "epochs", "probe"):
        reseal(folder, raw)
    return what
