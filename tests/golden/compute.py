"""Computes the golden figures of one rule on one architecture: what tests/golden/RULE.json holds.

A cell is built and trained by the core's own functions (`build`, `train`, `Audit`, `measure`), five steps long, so that another
seed, stream, order of batches or order of draws is noticed as well as another formula. Two things are replaced:

* The sources of randomness (`exact_draws`). torch.randn is vectorised differently with AVX2 and with AVX-512 and differs in the
  last bit; here every draw is made of integers from the same generator, by arithmetic that rounds to the same float32 anywhere.
* The precision. The figures are those of a float64 network (`in_double`): float32 draws and data, cast; what is left of the
  kernels' differences is then far below the tolerance of 1e-8. Of a float32 network the losses alone are held, to 1e-4.

Everything of `bench_core` that is used is imported at the top, in one block: code that moves is followed here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from bench_core.api import Component, Dataset, ParamsModel
from bench_core.execution.cell import build_cell, diagnostics, make, measure
from bench_core.registry import plugins
from bench_core.registry.registry import Installed, Registry
from bench_core.results.hashing import jsonable
from bench_core.results.record import Cell, ComponentRef
from bench_core.suite.model import Training
from bench_core.training import NUMERICS
from bench_core.training.audit import Audit
from bench_core.training.data import Data
from bench_core.training.loop import EpochRow, train

FOLDER = Path(__file__).parent
OURS = "bench-core"
SEED = 42
BATCH, STEPS = 16, 5
MISSING = "missing"
NO_NUMBER = {"nan", "inf", "-inf", MISSING}  # texts that are values
TOLERANCE = {"float64": 1e-8, "float32": 1e-4}
# name: its parameters, the data set, the data set's parameters
ARCHS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "resmlp": ({"width": 12, "depth": 3}, "digits", {}),
    "relu_mlp": ({"width": 12, "depth": 3}, "digits", {}),
    "small_cnn": ({}, "pictures", {"side": 4}),
    "vit_mini": ({"width": 12, "depth": 3, "patch": 4, "heads": 2}, "pictures", {"side": 8}),
}
# rules with a warm-up: one epoch of five steps in it, one after it
PHASES = {"credit_bridge": {"warmup": 0.5}, "blend": {"start": 1}}
# less than the defaults, so that the tests are quick
SMALLER = {
    "ep": {"steps": 6},
    "predictive_coding": {"steps": 6},
    "target_propagation": {"hidden": 16, "feedback_steps": 2},
}
# ε: at the default 1e-3 the changes of the loss are so small that a correlation near zero keeps but 8 digits
DIAGNOSTICS = {
    "null_calibration": {"draws": 3},
    "perturbation_correlation": {"draws": 2, "samples": 256, "epsilon": 0.1},
}
# tensors that are rounding: rule → (pattern of the name, reason)
ROUNDING = {
    "target_propagation": (
        r"method\.\d+\.layers\.2\.bias",
        "the rule sees differences of D alone, where this bias cancels: its gradient is rounding",
    )
}


class Pictures(Dataset):
    """Colour images, uint8, 5 classes: noise, brighter by class; augmented like CIFAR-10. 80 to train on, 256 to test with."""

    class Params(ParamsModel):
        """Parameters of the pictures."""

        side: int = 8

    classes = 5
    test = 256

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (3, self.params.side, self.params.side)

    def prepare(self, folder: Path | None) -> str:
        return "generated"

    def load(self, folder: Path | None) -> Data:
        count = BATCH * STEPS + self.test
        draws = np.random.RandomState(0)  # a generator whose numbers NumPy keeps
        y = draws.randint(0, self.classes, count)
        x = draws.randint(0, 156, (count, *self.shape)) + 25 * y.reshape(-1, 1, 1, 1)
        images, labels = torch.from_numpy(x.astype(np.uint8)), torch.from_numpy(y.astype(np.int64))
        train, held_out = slice(None, -self.test), slice(-self.test, None)
        return Data(
            images[train], labels[train], images[held_out], labels[held_out], self.classes,
            mean=(0.48, 0.47, 0.46), std=(0.25, 0.24, 0.26), augment=True,
        )  # fmt: skip


@cache
def registry() -> Registry:
    """The built-in components, and `Pictures` beside them."""
    found = plugins.load_for([f"{OURS}/dfa"])
    pictures = Component("pictures", f"{__name__}:Pictures")
    return Registry([*found.components, Installed("dataset", pictures, OURS, "0")])


def rules() -> list[str]:
    """The names of the built-in rules."""
    return [
        item.component.name for item in registry().of_kind("method") if item.distribution == OURS
    ]


# ------------------------------------------------------------------------------------------------------------- precision


def uniforms(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Numbers k/2²⁴ from 0 to below 1, float64: exact in float32 too."""
    return torch.randint(0, 1 << 24, tuple(shape), generator=generator).double() / (1 << 24)


def normals(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Box and Muller's normal numbers, float64, rounded to multiples of 2⁻¹⁶: exact in float32 too. The grid is so coarse that
    the last bit of a logarithm or cosine, which is the processor's, practically never shows."""
    radius = (-2 * (1 - uniforms(shape, generator)).log()).sqrt()
    angle = 2 * math.pi * uniforms(shape, generator)
    return (radius * angle.cos() * (1 << 16)).round() / (1 << 16)


def spread(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.rand or torch.randn, drawn by `draw`."""

    def function(
        *size: Any, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        shape = size if not size or isinstance(size[0], int) else size[0]
        return draw(shape, generator).to(dtype or torch.get_default_dtype())

    return function


def uniform_(
    tensor: Tensor, low: float = 0.0, high: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Tensor.uniform_, rounded to float32."""
    return tensor.copy_((uniforms(tensor.shape, generator) * (high - low) + low).float())


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Tensor.normal_, rounded to float32."""
    return tensor.copy_((normals(tensor.shape, generator) * std + mean).float())


def not_covered(name: str, *arguments: Any, **options: Any) -> Tensor:
    raise NotImplementedError(
        f"{name} is drawn from, and tests/golden/compute.py has no exact version of it: add one"
    )


@contextmanager
def exact_draws() -> Iterator[None]:
    """Inside, what is drawn is the same on every processor. torch.randint and torch.randperm are so by themselves."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(torch, "randn", spread(normals)))
        patches.enter_context(patch.object(torch, "rand", spread(uniforms)))
        patches.enter_context(patch.object(Tensor, "normal_", normal_))
        patches.enter_context(patch.object(Tensor, "uniform_", uniform_))
        for owner, names in (
            (torch, ["randn_like", "rand_like", "normal", "bernoulli", "multinomial", "poisson"]),
            (
                Tensor,
                [
                    "bernoulli_",
                    "exponential_",
                    "cauchy_",
                    "geometric_",
                    "log_normal_",
                    "multinomial",
                    "random_",
                ],
            ),
        ):
            for name in names:
                patches.enter_context(patch.object(owner, name, partial(not_covered, name)))
        yield


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, networks are float64 and inputs are cast to it, after they were normalised as they always are."""
    normalise = Data.normalise

    def cast(self: Data, x: Tensor) -> Tensor:
        return normalise(self, x).double()

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Data, "normalise", cast):
            yield
    finally:
        torch.set_default_dtype(default)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards torch's threads, determinism and global generator are as they were."""
    uninitialised: Any = torch.utils.deterministic
    threads, filled = torch.get_num_threads(), uninitialised.fill_uninitialized_memory
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        uninitialised.fill_uninitialized_memory = filled


# --------------------------------------------------------------------------------------------------------------- figures


def options(rule: str) -> dict[str, Any]:
    """The rule's options that are not its defaults."""
    return {**PHASES.get(rule, {}), **SMALLER.get(rule, {})}


def cell_of(rule: str, arch: str, threads: int) -> Cell:
    """The cell of a pair, with the recipe written out: nothing but a component's own defaults is left to defaults."""
    size, dataset, picture = ARCHS[arch]
    epochs = 2 if rule in PHASES else 1
    training = Training(
        epochs=epochs, batch_size=BATCH, learning_rate=1e-3, weight_decay=0.01, clip_norm=1.0, schedule="cosine",
        threads=threads, device="cpu", deterministic=True, autocast="off", compile=False,
    )  # fmt: skip

    def ref(kind: Any, name: str, given: dict[str, Any]) -> ComponentRef:
        _, params = make(registry(), kind, name, given)
        return ComponentRef(name=f"{OURS}/{name}", params=params.model_dump(mode="json"))

    return Cell(
        method=ref("method", rule, options(rule)),
        arch=ref("arch", arch, size),
        dataset=ref("dataset", dataset, picture),
        data={"limit": BATCH * STEPS},
        training=training.model_dump(),
        seed=SEED,
    )


def refusal(cell: Cell) -> str | None:
    """Why the rule refuses the network, or the network the inputs; None where they go together."""
    parts = {"arch": cell.arch, "method": cell.method, "dataset": cell.dataset}
    made = {kind: make(registry(), kind, ref.name, ref.params) for kind, ref in parts.items()}
    dataset = made["dataset"][0](made["dataset"][1])
    try:
        net = made["arch"][0](made["arch"][1], dataset.shape, dataset.classes)
    except ValueError as error:
        return str(error)
    reason: str | None = made["method"][0](made["method"][1]).unsupported(net)
    return reason


@dataclass(frozen=True)
class Trained:
    """A cell after its training: the network's and the method's tensors, the rows, what was measured last."""

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]]


def trained(cell: Cell, listed: Sequence[tuple[str, Any]]) -> Trained:
    """Train a cell and measure as a worker does: after every epoch what is measured then, at the end all."""
    built = build_cell(registry(), cell, {**cell.training, "device": "cpu"}, None)
    rows: list[dict[str, Any]] = []

    def observe(row: EpochRow) -> bool:
        audit = Audit(
            built.net,
            built.method,
            built.data,
            cell.seed,
            max(row.epoch - 1, 0),
            initial=built.initial,
        )
        line: dict[str, Any] = {**asdict(row), "measurements": {}}
        audit.history = [*rows, line]
        for when in ("epochs", "final"):
            for name, diagnostic in listed:
                if diagnostic.when == when and (
                    when == "epochs" or row.epoch == cell.training["epochs"]
                ):
                    line["measurements"][name] = measure(diagnostic, audit).model_dump(mode="json")
        rows.append(line)
        return False

    train(built.method, built.net, built.data, cell.training, cell.seed, observe)
    tensors = {
        f"net.{name}": value.detach().clone() for name, value in built.net.state_dict().items()
    }
    tensors |= {
        f"method.{name}": value.detach().clone()
        for name, value in built.method.state_dict().items()
    }
    return Trained(tensors, rows)


def of_tensor(rule: str, name: str, tensor: Tensor) -> dict[str, Any]:
    """Norm, sum and the first four entries; the reason where they would be rounding."""
    pattern, reason = ROUNDING.get(rule, (r"$^", ""))
    if re.fullmatch(pattern, name):
        return {"left_out": reason}
    flat = tensor.double().flatten()
    return {"norm": float(flat.norm()), "sum": float(flat.sum()), "first": flat[:4].tolist()}


def of_measurement(found: dict[str, Any]) -> dict[str, Any]:
    """The value of a diagnostic, whether it means something, and what the details hold per layer or per matrix."""

    def numbers(values: Any) -> bool:
        return bool(values) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in values
        )

    kept: dict[str, Any] = {"value": found["value"], "diagnostic": found["not_diagnostic"] is None}
    for name, detail in found["details"].items():
        if numbers(
            detail
            if isinstance(detail, list)
            else detail.values()
            if isinstance(detail, dict)
            else ()
        ):
            kept[name] = detail
    return kept


def of_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("learning_rate", "train_loss", "test_loss", "accuracy")}


def figures(rule: str, arch: str, threads: int = 1) -> dict[str, Any]:
    """All that is golden about a rule on an architecture."""
    with settings_kept(), exact_draws():
        cell = cell_of(rule, arch, threads)
        if reason := refusal(cell):
            return {"refused": reason}
        names = [
            item.component.name
            for item in registry().of_kind("diagnostic")
            if item.distribution == OURS
        ]
        listed = diagnostics(
            registry(),
            [{"name": f"{OURS}/{name}", "params": DIAGNOSTICS.get(name, {})} for name in names],
        )
        across = {name: diagnostic.across for name, diagnostic in listed if diagnostic.across}
        measured = [(name, diagnostic) for name, diagnostic in listed if not diagnostic.across]
        with in_double():
            double = trained(cell, measured)
        single = trained(cell, [])
        leaks = [
            name
            for name, t in double.tensors.items()
            if t.is_floating_point() and t.dtype != torch.float64
        ]
        if leaks:
            raise AssertionError(
                f"{rule} on {arch}: {', '.join(leaks)} is not float64 though the default is"
            )
    last = double.rows[-1]
    found: dict[str, Any] = {
        "epochs": len(double.rows) - 1,
        "options": options(rule),
        "float64": {
            "rows": [of_row(row) for row in double.rows],
            "tensors": {
                name: of_tensor(rule, name, value) for name, value in double.tensors.items()
            },
            "untrained": {
                name: of_measurement(m) for name, m in double.rows[0]["measurements"].items()
            },
            "diagnostics": {name: of_measurement(m) for name, m in last["measurements"].items()}
            | {name: {"skipped": f"compares runs ({kind})"} for name, kind in across.items()},
        },
        "float32": {"train_loss": single.rows[-1]["train_loss"]},
    }
    plain: dict[str, Any] = jsonable(found)
    return plain


def numerics(rule: str) -> dict[str, Any]:
    """The numbers that components raise when they change what they compute; 1 where one has none."""

    def of(kind: Any, name: str) -> int:
        return int(make(registry(), kind, name, {})[0].numerics)

    names = [
        item.component.name
        for item in registry().of_kind("diagnostic")
        if item.distribution == OURS
    ]
    return {
        "training": NUMERICS,
        "method": of("method", rule),
        "arch": {name: of("arch", name) for name in ARCHS},
        "dataset": {"digits": of("dataset", "digits")},
        "diagnostic": {name: of("diagnostic", name) for name in names},
    }


# ----------------------------------------------------------------------------------------------------------------- files


def path_of(rule: str) -> Path:
    return FOLDER / f"{rule}.json"


def read(rule: str) -> dict[str, Any]:
    """The stored figures of a rule."""
    stored: dict[str, Any] = json.loads(path_of(rule).read_text(encoding="utf-8"))
    return stored


def write(rule: str, content: dict[str, Any]) -> None:
    """Store the figures of a rule, a tensor or a diagnostic a line."""
    path_of(rule).write_text(laid_out(content) + "\n", encoding="utf-8")


def laid_out(value: Any, depth: int = 0) -> str:
    """JSON, the outer four levels a line per entry."""
    if depth == 4 or not isinstance(value, dict) or not value:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    inner = ",\n".join(
        f"{json.dumps(key)}:{laid_out(item, depth + 1)}" for key, item in value.items()
    )
    return f"{{\n{inner}\n}}"


@dataclass(frozen=True)
class Difference:
    """One figure that is not what is stored: where it stands, both values, and by how much they differ."""

    where: str
    stored: Any
    now: Any
    relative: float

    def __str__(self) -> str:
        return f"{self.where}: {self.stored!r} is now {self.now!r} (relative difference {self.relative:.2g})"


def differences(stored: Any, now: Any, where: str = "") -> list[Difference]:
    """Every figure that differs at all; an infinite relative difference where one is missing or is no number.

    Reasons are for people and may be put otherwise.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = [*stored, *(key for key in now if key not in stored)]
        each = [
            differences(
                stored.get(k, MISSING), now.get(k, MISSING), f"{where}{' ' * bool(where)}{k}"
            )
            for k in keys
        ]
        return [one for found in each for one in found]
    if isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        each = [
            differences(a, b, f"{where}[{i}]")
            for i, (a, b) in enumerate(zip(stored, now, strict=True))
        ]
        return [one for found in each for one in found]
    if stored == now or (
        isinstance(stored, str) and isinstance(now, str) and not {stored, now} & NO_NUMBER
    ):
        return []
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (stored, now))
    relative = abs(stored - now) / max(abs(stored), abs(now)) if numbers else math.inf
    return [Difference(where, stored, now, relative)]


def beyond(found: Sequence[Difference]) -> list[Difference]:
    """The differences that are larger than the tolerance of their precision."""
    return [one for one in found if one.relative > TOLERANCE.get(one.where.partition(" ")[0], 0.0)]
