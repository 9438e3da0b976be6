"""What a plugin author imports: `from bench_core.api import Component, LocalMethod, Credits, …`.

The contract in one paragraph. A plugin is an installed distribution with an entry point in the group `bench_core.plugins`
whose module implements hooks of `bench_core.hookspecs`; the hooks return lists of `Component`, descriptors made of strings.
A descriptor's target is imported only for the cells that use it, inside a worker process. This module therefore imports no
torch; `Net`, `States` and `Data`, which need it, are fetched on first use.

Notation (docs/protocol.md): h_0 = embed(x), h_{l+1} = h_l + f_l(h_l) (or f_l(h_l) without residual), g_l = ∂CE/∂h_l,
a_l a method's audited credit at h_l, c_l what block l is trained with. Credits point where the loss *increases*.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pluggy
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench_core.audit import Audit
    from bench_core.data import Data
    from bench_core.local import Updater
    from bench_core.loss import CROSS_ENTROPY, SQUARED_ERROR
    from bench_core.net import Net, States

__all__ = [
    "CROSS_ENTROPY",
    "SQUARED_ERROR",
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
    "States",
    "Task",
    "Tools",
    "hookimpl",
]

API_VERSION = (1, 0)

hookimpl = pluggy.HookimplMarker("bench_core")


def __getattr__(name: str) -> Any:
    """`Net`, `States`, `Data` and the losses live in modules that import torch; they arrive on first use."""
    if name in ("Net", "States"):
        from bench_core import net

        return getattr(net, name)
    if name == "Data":
        from bench_core.data import Data

        return Data
    if name in ("CROSS_ENTROPY", "SQUARED_ERROR"):
        from bench_core import loss

        return getattr(loss, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --------------------------------------------------------------------------------------------------------- descriptors


@dataclass(frozen=True)
class Component:
    """A component that a distribution brings: strings only, so that listing it costs no import of its code.

    name     snake_case, unique in its kind within the distribution; the full name is `distribution/name`
    target   "package.module:Class"
    summary  one line for `bench list`
    cite     where the definition comes from (free text, DOI or arXiv number)
    """

    name: str
    target: str
    summary: str = ""
    cite: str = ""


@dataclass(frozen=True)
class Passport:
    """What information a learning rule uses beyond the activity local to a block. All False is the most local rule.

    `bench check` probes every line and fails a rule that uses what it does not declare. That catches accident and laziness,
    not malice: a rule that looks for the probe can deceive it.
    """

    exact_hidden_gradients: bool = False  # back-propagated gradients inside the blocks' stream
    weight_transport: bool = False  # transposed forward weights of later blocks
    labels_below_head: bool = False  # the label (not only the output error) reaches the blocks' update
    extra_forward_passes: bool = False  # more than one pass through the blocks per step
    learned_feedback: bool = (
        False  # auxiliary networks, feedback that is trained, or what a rule remembers between steps
    )
    non_local_state: bool = False  # a block's update reads states of other blocks
    exact_top_credit: bool = False  # the gradient through the head: ∂CE/∂h_L, or that at a prediction of h_L

    def as_dict(self) -> dict[str, bool]:
        return asdict(self)


@dataclass(frozen=True)
class Laws:
    """Mathematics that a rule promises. `bench check` holds it to what it declares here, and skips the rest.

    linear_in_error  k times the loss is k times the credit: a(k·e) = k·a(e)
    exact_top        the last block is trained with ∂CE/∂h_L itself
    exact_with       options with which the audited credit is the gradient, a_l = g_l to 1 %: {} where it always is
    feedback         key in `state_dict` of the matrix B_l, (features of h_{l+1}, features of h_l), that takes the credit at
                     h_{l+1} to h_l without residual, such as "B_{layer}": with B_l = W_l the rule is backpropagation there
    kolen_pollack    W_l − B_l shrinks by 1 − learning rate · weight decay in every step; needs `feedback`
    permutation      renaming the hidden units inside a block renames their updates; False where units are told apart
    """

    linear_in_error: bool = False
    exact_top: bool = False
    exact_with: Mapping[str, Any] | None = None
    feedback: str | None = None
    kolen_pollack: bool = False
    permutation: bool = True


class ParamsModel(BaseModel):
    """Base of every component's parameter model: unknown keys, coercions and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class PerN(ParamsModel):
    """`normalize_eps: {per_n: 1e-6}`: an eps that scales like a gradient of the batch-mean loss."""

    per_n: float = Field(gt=0.0)


# ----------------------------------------------------------------------------------------------------------- datasets


class Dataset(ABC):
    """A data set: where its files lie, what their checksum is, and how they become tensors.

    `shape` (of one input), `classes` and whether it is a regression (then `classes` counts the outputs) are known before
    anything is loaded.
    """

    shape: tuple[int, ...]
    classes: int
    regression: ClassVar[bool] = False

    class Params(ParamsModel):
        """Parameters of the data set; part of the identity of a cell."""

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    @abstractmethod
    def prepare(self, folder: Path | None) -> str:
        """Make sure that the data are there and intact, and return their checksum (part of the identity of a cell).

        folder  the data directory, or None where the user gave none.
        Raises `DataError` with one line that says what is missing or corrupt and what to do.
        """

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """The tensors, on the CPU. Called after `prepare` succeeded."""


# ------------------------------------------------------------------------------------------------------------ methods


@dataclass(frozen=True)
class Task:
    """What a method may know about its cell. Never the test labels."""

    classes: int
    epochs: int  # of the schedule, also where training stops earlier
    steps_per_epoch: int
    batch_size: int
    shapes: tuple[tuple[int, ...], ...]  # of the states h_0 … h_L, without the batch dimension
    device: str
    tokens: bool = False  # states are (tokens, features)
    input_shape: tuple[int, ...] = ()  # of one input, without the batch dimension

    def features(self, layer: int) -> int:
        """Number of features of the flattened state h_l."""
        return math.prod(self.shapes[layer])

    def width(self, layer: int) -> int:
        """Number of features that one vector of feedback serves: of a token where states are tokens, else of the whole state."""
        return self.shapes[layer][-1] if self.tokens else self.features(layer)


@dataclass
class Credits:
    """Credits of one batch, one tensor per state, each of its state's shape, pointing where the loss increases.

    audited     a_l at the states `net.sites` (0 … L-1 with residual blocks, 1 … L without)
    blocks      c_l, what block l is trained with; default: the audited ones
    embed       what the embedding is trained with; default: a_0
    reduction   "sum": a credit belongs to one sample; "mean": it is a gradient of the batch-mean loss and carries 1/N
    in_use      False while the method trains with other credits than the audited ones (warm-up)
    normalized  True: the blocks and the embedding are trained with these credits as they are, `normalize` is not applied to them
    readouts    further read-outs of the same credit by name, audited beside it
    """

    audited: Sequence[Tensor]
    blocks: Sequence[Tensor] | None = None
    embed: Tensor | None = None
    reduction: Literal["sum", "mean"] = "sum"
    in_use: bool = True
    normalized: bool = False
    readouts: dict[str, Sequence[Tensor]] = field(default_factory=dict)

    @property
    def for_blocks(self) -> Sequence[Tensor]:
        return self.audited if self.blocks is None else self.blocks

    @property
    def for_embed(self) -> Tensor:
        return self.audited[0] if self.embed is None else self.embed


@dataclass
class Tools:
    """What the core lends a method at `setup`.

    updater     clips each group (every block, the embedding, the readout) to `clip_norm` on its own, then one AdamW step
    auxiliary   makes such an updater for auxiliary networks: constant learning rate 1e-3, no weight decay
    updaters    all that were lent so far; a training that goes on later finds their optimisers as they were
    generator   the method's own stream for feedback matrices, seeded from the run's seed
    aux_generator  the stream for auxiliary networks: their initial weights and the noise of their training
    batches     a further pass over the training data for networks that are fitted outside the training steps; order,
                augmentation and random targets are drawn from `aux_generator`
    """

    updater: Updater
    auxiliary: Callable[[Mapping[str, Sequence[torch.nn.Parameter]]], Updater]
    generator: torch.Generator
    aux_generator: torch.Generator
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    updaters: list[Updater] = field(default_factory=list)


class Method(ABC):
    """A learning rule with full control of its training step.

    Subclasses define `Params`, `passport`, `step` and `credit`, and where needed `setup`, `learn`, `after_update`, `state_dict`
    and `load_state_dict`. `freeze`, `train_last` and `random_targets` are carried out by the core, `penalty` by the rule in its
    step (a LocalMethod's by the core), or it is refused in a validator of Params. `passport` may be a property where it depends on
    the parameters.
    """

    class Params(ParamsModel):
        """Options that every rule has; subclass it to add your own."""

        freeze: Literal["blocks"] | None = Field(None, description="blocks: the blocks keep their initial weights")
        train_last: int | None = Field(
            None, ge=0, le=1024, description="only the last k blocks are trained; 0 is another word for freeze: blocks"
        )
        penalty: float = Field(0.0, ge=0.0, le=1e6, description="λ of λ·mean_batch ‖f_l‖², per block")
        random_targets: bool = Field(False, description="labels replaced by uniform random classes in every minibatch")

        @model_validator(mode="before")
        @classmethod
        def _none_of_the_blocks(cls, values: Any) -> Any:
            """`train_last: 0` becomes `freeze: blocks`, so that the two are one cell."""
            if isinstance(values, dict) and type(values.get("train_last")) is int and values["train_last"] == 0:
                return values | {"freeze": "blocks", "train_last": None}
            return values

        @model_validator(mode="after")
        def _one_way_to_freeze(self) -> Self:
            if self.freeze and self.train_last:
                raise ValueError(
                    f"freeze: blocks trains no block and train_last: {self.train_last} does; give one of them"
                )
            return self

    passport: ClassVar[Passport] = Passport()
    laws: ClassVar[Laws] = Laws()

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    @property
    def forward_passes(self) -> int:
        """Batches that run through the busiest block in a training step, for the cost columns: a rule that stacks perturbed
        copies of a batch counts each of them. Where a training has several phases, the dearest counts."""
        return 1

    def unsupported(self, net: Net) -> str | None:
        """Why this rule cannot train `net`, or None. Asked before any training."""
        return None

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        """Create feedback matrices and auxiliary networks. Overrides call `super().setup(net, task, tools)` first."""
        self.net, self.task, self.tools = net, task, tools
        self.kept: dict[str, Tensor] = {}  # tensors that `state_dict` saves, unless the rule writes its own

    def draw(self, *shape: int, std: float = 1.0) -> Tensor:
        """A fixed random tensor, entries N(0, std²), from the rule's own stream (`tools.generator`), on the task's device
        and of the type of the network's parameters."""
        import torch

        dtype = next((p.dtype for p in self.net.parameters() if p.is_floating_point()), torch.float32)
        return (std * torch.randn(*shape, generator=self.tools.generator)).to(self.task.device, dtype)

    @abstractmethod
    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        """One update on a batch; `epoch` counts from 0. Returns the CE of the forward pass as a tensor, without reading it."""

    @abstractmethod
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits | Sequence[Tensor] | None:
        """The credits for the (detached) states of a batch; a plain sequence stands for `Credits(audited=…)`. An audit calls it
        too, with test inputs: it changes nothing that is trained."""

    def state_dict(self) -> dict[str, Tensor]:
        """Feedback and auxiliary tensors: all that a later audit of a checkpoint needs beside the network, and all that a
        training needs to go on beside the optimisers of its updaters and its two streams. By default what is in `kept`."""
        return dict(self.kept)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`, called after `setup`. By default `kept` is all of `state`, also what a step added to it."""
        self.kept = {name: state[name] for name in [*self.kept, *state]}  # those of `setup` first


class LocalMethod(Method):
    """A block-local rule. All that it must write is `credit`: surrogate loss, normalisation, penalty, clipping and optimiser
    are the core's (`bench_core.local`), with the equations of docs/protocol.md section 4."""

    class Params(Method.Params):
        """Options of every block-local rule; subclass it to add your own."""

        normalize: Literal["sample", "batch", "none"] = Field(
            "sample", description="rms over the features of a sample, over batch and features, or not at all"
        )
        normalize_eps: float | PerN = Field(1e-6, description="eps of the rms; {per_n: e} stands for e / batch size")

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        """Train auxiliary networks on the detached states of this batch, before the credit is asked for."""

    def after_update(self, epoch: int) -> None:
        """Called after the network's update: feedback that copies updates."""

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        from bench_core.local import local_step

        return local_step(self, x, y, epoch)


# -------------------------------------------------------------------------------------------------------- diagnostics


@dataclass
class Measured:
    """What a diagnostic found on one network.

    value           the figure compared with the threshold; None where it is not measured or judged across cells
    details         further numbers and lists of numbers, kept with the run
    not_diagnostic  why the value means nothing here, or None
    """

    value: float | None
    details: dict[str, Any] = field(default_factory=dict)
    not_diagnostic: str | None = None


@dataclass(frozen=True)
class Control:
    """A situation in which a diagnostic's answer is known: the tests and `bench check` run every one.

    change   edits the (untrained) network or the audit's credits in place before the measurement
    expect   receives what was measured; True when the diagnostic behaved
    """

    name: str
    change: Callable[[Audit], None]
    expect: Callable[[Measured], bool]


class Diagnostic(ABC):
    """A measurement on the probe batches, with the rule by which it fires.

    letter     what a verdict calls it: "walked back (a+b)"; empty for diagnostics that have no part in verdicts
    direction  fires when the value lies "above" or "below" the threshold; None: never fires
    across     where the value compares cells: "floor": `bench_core.verdict` computes it from the stored accuracies; "ceiling":
               `bench_core.distance` computes it from the stored states
    when       "final": after training (and before it); "epochs": also after every epoch
    """

    letter: ClassVar[str] = ""
    direction: ClassVar[Literal["above", "below"] | None] = None
    threshold: ClassVar[float | None] = None
    unit: ClassVar[str] = ""
    across: ClassVar[Literal["floor", "ceiling"] | None] = None
    when: ClassVar[Literal["final", "epochs"]] = "final"

    class Params(ParamsModel):
        """Parameters of the diagnostic; not part of the identity of a training."""

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    @abstractmethod
    def measure(self, audit: Audit) -> Measured:
        """Measure on the states, reference gradients and credits that the audit computed."""

    def controls(self) -> Sequence[Control]:
        """At least one positive and one negative control."""
        return ()
