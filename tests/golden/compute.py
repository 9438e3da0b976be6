"""Computes the golden figures of one rule on one architecture: what tests/golden/RULE.json holds.

A cell is built and trained by the core's own functions (`build`, `train`, `Audit`, `measure`), five
steps long, so that another seed, stream, order of batches or order of draws is noticed as well as
another formula. Two things are replaced:

* The sources of randomness (`exact_draws`). torch.randn is vectorised differently with AVX2 and
  with AVX-512 and differs in the last bit; here every draw is made of integers from the same
  generator, by arithmetic that gives the same float32 anywhere.
* The precision. The figures are those of a float64 network (`in_double`): float32 draws and data,
  cast; what is left of the kernels' differences is then far below the tolerance of 1e-8. Of a
  float32 network the training loss alone is held, to 1e-4.

Largest relative deviation from the stored figures (`make.py --compare`, torch 2.14.1 with AVX-512,
one thread; "default" kernels are torch's without AVX, oneDNN and MKL being kept to AVX2):

    configuration                              float64    float32
    again; BENCH_MATMUL=torch; torch 2.13.0    0          0
    2 threads                                  2e-11      7e-8
    AVX2                                       7e-10      7e-6
    default                                    5e-10      6e-7

The 7e-10 is a mean of cosines that cancel to 2e-3 (target_alignment of direct_kolen_pollack on
vit_mini). The figures of small_cnn come from an AMD EPYC, the others from an Intel Xeon. Parameters
move by 1e-11 at most: the bias of vit_mini's keys, whose gradient is rounding.

What does not show: a factor of all credit near 1, since AdamW does not see the size of a gradient
(1 + 1e-7 passes; another direction or another eps does not); options that no file here uses.

Everything of `bench_core` that is used is imported at the top, in one block: code that moves is
followed here (and in tests/test_golden.py, which patches two modules).
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
from bench_plugins.archs import small_cnn
from torch import Tensor

from bench_core.api import Component, Dataset, Diagnostic, ParamsModel
from bench_core.execution.worker.cell import build_cell, diagnostics, make, measure
from bench_core.registry import plugins
from bench_core.registry.registry import Installed, Kind, Registry
from bench_core.results.hashing import jsonable
from bench_core.results.record import Cell, ComponentRef
from bench_core.suite.recipe import TrainingOptions
from bench_core.training import NUMERICS
from bench_core.training.audit import Audit
from bench_core.training.data import Data
from bench_core.training.loop import EpochRow, train

Draws = torch.Generator | None

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
# of small_cnn, whose channels are no parameters: convolutions in float64 are slow
NARROW = {"CHANNELS": (4, 6, 8), "HIDDEN": 12}
# rules with a warm-up: one epoch of five steps in it, one after it
PHASES = {"credit_bridge": {"warmup": 0.5}, "blend": {"start": 1}}
# other than the defaults: less, so that the tests are quick
SMALLER = {
    "ep": {"steps": 6},
    # at its default γ, 0.1, six steps bring so little credit to h_0 that float32 rounds it away
    "predictive_coding": {"steps": 6, "step_size": 0.2},
    "target_propagation": {"hidden": 16, "feedback_steps": 2},
    # not smaller: at its default β, 1, its credit differs from the gradient by rounding alone
    "dual_propagation": {"beta": 100.0},
}
# ε: at its default, 1e-3, the changes of the loss are so small that rounding shows in the ninth
# digit of a correlation near zero
DIAGNOSTICS = {
    "null_calibration": {"draws": 3},
    "perturbation_correlation": {"draws": 2, "samples": 128, "epsilon": 0.1},
}
# tensors that are rounding: rule → (pattern of the name, reason)
ROUNDING = {
    "target_propagation": (
        r"method\.D\.\d+\.layers\.2\.bias",
        "the rule sees differences of D alone, where this bias cancels: its gradient is rounding",
    )
}


class Pictures(Dataset):
    """Makes 80 colour images to train on and 128 to test with, uint8: noise, brighter by class.

    Augmented like CIFAR-10: crops after padding, flips.
    """

    class Params(ParamsModel):
        """Parameters of the pictures."""

        side: int = 8

    classes = 5
    test = 128

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
    """Finds the built-in components, and puts `Pictures` beside them."""
    found = plugins.load_for([f"{OURS}/dfa"])
    pictures = Component("pictures", f"{__name__}:Pictures")
    return Registry([*found.components, Installed("dataset", pictures, OURS, "0")])


def built_in(kind: Kind) -> list[str]:
    """Names the built-in components of a kind."""
    return [item.component.name for item in registry().of_kind(kind)]


# ---------------------------------------------------------------------------------------- precision


def uniforms(shape: Sequence[int], generator: Draws) -> Tensor:
    """Draws numbers k/2²⁴ from 0 to below 1, float64: exact in float32 too."""
    return torch.randint(0, 1 << 24, tuple(shape), generator=generator).double() / (1 << 24)


def normals(shape: Sequence[int], generator: Draws) -> Tensor:
    """Draws normal numbers after Box and Muller, float64, rounded to multiples of 2⁻¹⁶.

    They are exact in float32 too, and the grid is so coarse that the last bit of a logarithm or
    cosine, which depends on the processor, practically never shows.
    """
    radius = (-2 * (1 - uniforms(shape, generator)).log()).sqrt()
    angle = 2 * math.pi * uniforms(shape, generator)
    return (radius * angle.cos() * (1 << 16)).round() / (1 << 16)


def spread(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes a torch.rand or torch.randn of `draw`."""

    def function(*size: Any, generator: Draws = None, dtype: torch.dtype | None = None) -> Tensor:
        shape = size if not size or isinstance(size[0], int) else size[0]
        return draw(shape, generator).to(dtype or torch.get_default_dtype())

    return function


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, generator: Draws = None) -> Tensor:
    """Fills a tensor as Tensor.uniform_ does, rounded to float32."""
    return x.copy_((uniforms(x.shape, generator) * (high - low) + low).float())


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Draws = None) -> Tensor:
    """Fills a tensor as Tensor.normal_ does, rounded to float32."""
    return x.copy_((normals(x.shape, generator) * std + mean).float())


def not_covered(name: str, *arguments: Any, **options: Any) -> Tensor:
    """Refuses a draw that may differ between processors."""
    raise NotImplementedError(f"{name} is no exact draw yet: add it to tests/golden/compute.py")


NOT_COVERED: dict[Any, list[str]] = {
    torch: ["randn_like", "rand_like", "normal", "bernoulli", "multinomial", "poisson"],
    Tensor: ["bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_", "random_"],
}


@contextmanager
def exact_draws() -> Iterator[None]:
    """Inside, what is drawn is the same on every processor.

    torch.randint and torch.randperm are so by themselves and stay torch's own.
    """
    with ExitStack() as patches:
        patches.enter_context(patch.object(torch, "randn", spread(normals)))
        patches.enter_context(patch.object(torch, "rand", spread(uniforms)))
        patches.enter_context(patch.object(Tensor, "normal_", normal_))
        patches.enter_context(patch.object(Tensor, "uniform_", uniform_))
        for owner, names in NOT_COVERED.items():
            for name in names:
                patches.enter_context(patch.object(owner, name, partial(not_covered, name)))
        yield


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, networks are float64 and so are inputs, cast after they were normalised as ever."""
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


# ------------------------------------------------------------------------------------------ figures


def options(rule: str) -> dict[str, Any]:
    """Gives the rule's options that are not its defaults."""
    return {**PHASES.get(rule, {}), **SMALLER.get(rule, {})}


def cell_of(rule: str, arch: str, threads: int) -> Cell:
    """Makes the cell of a pair. Its recipe is written out; defaults are those of the rule alone."""
    size, dataset, picture = ARCHS[arch]
    epochs = 2 if rule in PHASES else 1
    training = TrainingOptions(
        epochs=epochs, batch_size=BATCH, learning_rate=1e-3, weight_decay=0.01, clip_norm=1.0,
        schedule="cosine", threads=threads, device="cpu", deterministic=True, precision="float32",
        compile=False,
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
    """Says why the rule refuses the network, or the network the inputs; None where all fits."""
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
    """Holds what a training left: the network's and the method's tensors, and a row per epoch."""

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]]


def trained(cell: Cell, listed: Sequence[tuple[str, Diagnostic]]) -> Trained:
    """Train a cell and measure as a worker does: after every epoch what is due, at the end all."""
    built = build_cell(registry(), cell, cell.training, None)
    rows: list[dict[str, Any]] = []

    def observe(row: EpochRow) -> bool:
        epoch = max(row.epoch - 1, 0)
        audit = Audit(
            built.net, built.method, built.data.opened(), cell.seed, epoch, initial=built.initial
        )
        line: dict[str, Any] = {**asdict(row), "measurements": {}}
        audit.history = [*rows, line]
        due = ["epochs", "final"] if row.epoch == cell.training["epochs"] else ["epochs"]
        for when in due:
            for name, diagnostic in listed:
                if diagnostic.when == when:
                    found = measure(diagnostic, audit)
                    line["measurements"][name] = found.model_dump(mode="json")
        rows.append(line)
        return False

    train(built.method, built.net, built.data, cell.training, cell.seed, observe)
    tensors = {f"net.{name}": value for name, value in built.net.state_dict().items()}
    tensors |= {f"method.{name}": value for name, value in built.method.state_dict().items()}
    return Trained({name: value.detach().clone() for name, value in tensors.items()}, rows)


def of_tensor(rule: str, name: str, tensor: Tensor) -> dict[str, Any]:
    """Takes norm, sum and the first four entries; the reason where they would be rounding."""
    pattern, reason = ROUNDING.get(rule, (r"$^", ""))
    if re.fullmatch(pattern, name):
        return {"left_out": reason}
    flat = tensor.double().flatten()
    return {"norm": float(flat.norm()), "sum": float(flat.sum()), "first": flat[:4].tolist()}


def is_number(value: Any) -> bool:
    """Tells numbers from truth values, texts and None."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_measurement(found: dict[str, Any]) -> dict[str, Any]:
    """Takes a diagnostic's value, whether it means anything, and its lists per layer or matrix."""
    kept: dict[str, Any] = {"value": found["value"], "diagnostic": found["not_diagnostic"] is None}
    for name, detail in found["details"].items():
        values = list(detail.values()) if isinstance(detail, dict) else detail
        if isinstance(values, list) and values and all(is_number(value) for value in values):
            kept[name] = detail
    return kept


def of_row(row: dict[str, Any]) -> dict[str, Any]:
    """Takes the numbers of an epoch that do not depend on the clock."""
    return {name: row[name] for name in ("learning_rate", "train_loss", "test_loss", "accuracy")}


def figures(rule: str, arch: str, threads: int = 1) -> dict[str, Any]:
    """Computes all that is golden about a rule on an architecture."""
    with settings_kept(), exact_draws(), patch.multiple(small_cnn, **NARROW):
        cell = cell_of(rule, arch, threads)
        if reason := refusal(cell):
            return {"refused": reason}
        names = built_in("diagnostic")
        entries = [{"name": name, "params": DIAGNOSTICS.get(name, {})} for name in names]
        listed = diagnostics(registry(), entries)
        alone = [(name, each) for name, each in listed if not each.across]
        with in_double():
            double = trained(cell, alone)
        single = trained(cell, [])
    for name, value in double.tensors.items():
        if value.is_floating_point() and value.dtype != torch.float64:
            raise AssertionError(f"{rule} on {arch}: {name} is {value.dtype}, not float64")
    across = {name: each.across for name, each in listed if each.across}
    before, after = (double.rows[place]["measurements"] for place in (0, -1))
    found: dict[str, Any] = {
        "epochs": len(double.rows) - 1,
        "options": options(rule),
        "float64": {
            "rows": [of_row(row) for row in double.rows],
            "tensors": {name: of_tensor(rule, name, t) for name, t in double.tensors.items()},
            "untrained": {name: of_measurement(each) for name, each in before.items()},
            "diagnostics": {name: of_measurement(each) for name, each in after.items()},
        },
        "float32": {"train_loss": single.rows[-1]["train_loss"]},
        "left_out": {name: f"compares runs with their {other}" for name, other in across.items()},
    }
    plain: dict[str, Any] = jsonable(found)
    return plain


def numerics(rule: str) -> dict[str, Any]:
    """Collects what components raise when they change what they compute; 1 where none has it."""

    def of(kind: Kind, name: str) -> int:
        return int(make(registry(), kind, name, {})[0].numerics)

    return {
        "training": NUMERICS,
        "method": of("method", rule),
        "arch": {name: of("arch", name) for name in ARCHS},
        "dataset": {"digits": of("dataset", "digits")},
        "diagnostic": {name: of("diagnostic", name) for name in built_in("diagnostic")},
    }


# -------------------------------------------------------------------------------------------- files


def path_of(rule: str) -> Path:
    """Names the file of a rule."""
    return FOLDER / f"{rule}.json"


def read(rule: str) -> dict[str, Any]:
    """Reads the stored figures of a rule."""
    stored: dict[str, Any] = json.loads(path_of(rule).read_text(encoding="utf-8"))
    return stored


def write(rule: str, content: dict[str, Any]) -> None:
    """Store the figures of a rule, a tensor or a diagnostic a line."""
    path_of(rule).write_text(laid_out(content) + "\n", encoding="utf-8")


def laid_out(value: Any, depth: int = 0) -> str:
    """Writes JSON with the outer four levels a line per entry."""
    if depth == 4 or not isinstance(value, dict) or not value:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    entries = [f"{json.dumps(key)}:{laid_out(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(entries) + "\n}"


@dataclass(frozen=True)
class Difference:
    """Holds a figure that is not what is stored: its place, both values, how far they are apart."""

    where: str
    stored: Any
    now: Any
    relative: float

    def __str__(self) -> str:
        change = f"{self.stored!r} is now {self.now!r}"
        return f"{self.where}: {change} (relative difference {self.relative:.2g})"


def differences(stored: Any, now: Any, where: str = "") -> list[Difference]:
    """Finds every figure that differs at all.

    Where one is missing or is no number the relative difference is infinite. Reasons are for people
    and may be put otherwise.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        found: list[Difference] = []
        for key in [*stored, *(key for key in now if key not in stored)]:
            pair = stored.get(key, MISSING), now.get(key, MISSING)
            found += differences(*pair, f"{where} {key}".strip())
        return found
    if isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        pairs = enumerate(zip(stored, now, strict=True))
        return [one for i, pair in pairs for one in differences(*pair, f"{where}[{i}]")]
    if stored == now:
        return []
    if isinstance(stored, str) and isinstance(now, str) and not {stored, now} & NO_NUMBER:
        return []
    if is_number(stored) and is_number(now):
        return [Difference(where, stored, now, abs(stored - now) / max(abs(stored), abs(now)))]
    return [Difference(where, stored, now, math.inf)]


def beyond(found: Sequence[Difference]) -> list[Difference]:
    """Picks the differences that are larger than the tolerance of their precision."""
    return [d for d in found if d.relative > TOLERANCE.get(d.where.partition(" ")[0], 0.0)]
