"""The interface of a learning rule: what it is given, what it returns, and what it declares.

Loads no torch, so that a plugin's table and its rule may stand in one module.

Notation (docs/protocol.md): h_0 = embed(x), h_{l+1} = h_l + f_l(h_l) (or f_l(h_l) without residual),
g_l = ∂CE/∂h_l, a_l a method's audited credit at h_l, c_l the credit that block l is trained with.
Credits point where the loss *increases*.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bench_core.training.params import ParamsModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench_core.training.net import Net, States
    from bench_core.training.optimizer import Updater


@dataclass(frozen=True)
class Passport:
    """What information a learning rule uses beyond the activity local to a block. All False is the most local rule.

    `bench check` probes every line and fails a rule that uses what it does not declare. That catches accident and laziness,
    not malice: a rule that looks for the probe can deceive it.
    """

    exact_hidden_gradients: bool = False  # back-propagated gradients inside the blocks' stream
    weight_transport: bool = False  # transposed forward weights of later blocks
    labels_below_head: bool = (
        False  # the label (not only the output error) reaches the blocks' update
    )
    extra_forward_passes: bool = False  # more than one pass through the blocks per step
    learned_feedback: bool = False  # auxiliary networks, feedback that is trained, or what a rule remembers between steps
    non_local_state: bool = False  # a block's update reads states of other blocks
    exact_top_credit: bool = (
        False  # the gradient through the head: ∂CE/∂h_L, or that at a prediction of h_L
    )

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

        freeze: Literal["blocks"] | None = Field(
            None, description="blocks: the blocks keep their initial weights"
        )
        train_last: int | None = Field(
            None,
            ge=0,
            le=1024,
            description="only the last k blocks are trained; 0 is another word for freeze: blocks",
        )
        penalty: float = Field(
            0.0, ge=0.0, le=1e6, description="λ of λ·mean_batch ‖f_l‖², per block"
        )
        random_targets: bool = Field(
            False, description="labels replaced by uniform random classes in every minibatch"
        )

        @model_validator(mode="before")
        @classmethod
        def _none_of_the_blocks(cls, values: Any) -> Any:
            """`train_last: 0` becomes `freeze: blocks`, so that the two are one cell."""
            if (
                isinstance(values, dict)
                and type(values.get("train_last")) is int
                and values["train_last"] == 0
            ):
                return values | {"freeze": "blocks", "train_last": None}
            return values

        @model_validator(mode="after")
        def _one_way_to_freeze(self) -> Self:
            if self.freeze and self.train_last:
                raise ValueError(
                    f"freeze: blocks trains no block and train_last: {self.train_last} does; give one of them"
                )
            return self

    numerics: ClassVar[int] = 1  # raise it with every change of the rule that moves numbers
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
        self.kept: dict[
            str, Tensor
        ] = {}  # tensors that `state_dict` saves, unless the rule writes its own

    def draw(self, *shape: int, std: float = 1.0) -> Tensor:
        """A fixed random tensor, entries N(0, std²), from the rule's own stream (`tools.generator`), on the task's device
        and of the type of the network's parameters."""
        import torch

        dtype = next(
            (p.dtype for p in self.net.parameters() if p.is_floating_point()), torch.float32
        )
        return (std * torch.randn(*shape, generator=self.tools.generator)).to(
            self.task.device, dtype
        )

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
