"""The interface of a learning rule: its tools, its credits and its declarations.

Importing it loads no torch, so that a plugin's table and its rule may stand in one module.

Notation (docs/protocol.md): h_0 = embed(x), h_{l+1} = h_l + f_l(h_l) (or f_l(h_l) without
residual), g_l = ∂CE/∂h_l, a_l a method's audited credit at h_l, c_l the credit that block l is
trained with. Credits point where the loss *increases*.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bench_core.training.params import LATER, ParamsModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench_core.training.net import Net, States
    from bench_core.training.optimizer import Updater


@dataclass(frozen=True)
class Passport:
    """The information that a learning rule uses beyond the activity local to a block.

    All False is the most local rule. `bench check` probes every line but `local_heads`, and fails a
    rule that uses information that it does not declare. The probes catch accidents, not malice: a
    rule can detect a probe and deceive it.

    exact_hidden_gradients  back-propagated gradients inside the blocks' stream
    weight_transport        transposed forward weights of later blocks
    labels_below_head       the label, and not only the output error, reaches the blocks' update
    extra_forward_passes    more than one pass through the blocks per step
    learned_feedback        auxiliary networks, trained feedback, or memory between steps
    non_local_state         a block's update reads states of other blocks
    exact_top_credit        the gradient through the head: ∂CE/∂h_L, or at a prediction of h_L
    local_heads             losses of its own at the blocks' states, through heads that are trained
                            with the network; not probed: it adds the ceiling bp_local_heads
    """

    exact_hidden_gradients: bool = False
    weight_transport: bool = False
    labels_below_head: bool = False
    extra_forward_passes: bool = False
    learned_feedback: bool = False
    non_local_state: bool = False
    exact_top_credit: bool = False
    local_heads: bool = False

    def as_dict(self) -> dict[str, bool]:
        return asdict(self)


@dataclass(frozen=True)
class Laws:
    """The mathematical laws that a rule declares. `bench check` tests the declared ones.

    linear_in_error  k times the loss is k times the credit: a(k·e) = k·a(e)
    exact_top        the last block is trained with ∂CE/∂h_L itself
    exact_with       options with which the audited credit is the gradient, a_l = g_l to 1 %: {}
                     where it always is
    feedback         key in `state_dict` of the matrix B_l, (features of h_{l+1}, features of
                     h_l), that takes the credit at h_{l+1} to h_l without residual, such as
                     "B_{layer}": with B_l = W_l the rule is backpropagation there
    kolen_pollack    W_l − B_l shrinks by 1 − learning rate · weight decay in every step; needs
                     `feedback`
    permutation      renaming the hidden units inside a block renames their updates; False where
                     units are told apart
    """

    linear_in_error: bool = False
    exact_top: bool = False
    exact_with: Mapping[str, Any] | None = None
    feedback: str | None = None
    kolen_pollack: bool = False
    permutation: bool = True


@dataclass(frozen=True)
class Task:
    """The facts about its cell that a rule may use. The test labels are not among them."""

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
        """Feedback width: the features of a token if states are tokens, else of the whole state."""
        return self.shapes[layer][-1] if self.tokens else self.features(layer)


@dataclass
class Credits:
    """The credits of one batch: one tensor per state, of the state's shape.

    A credit points where the loss increases.

    audited     a_l at the states `net.sites` (0 … L-1 with residual blocks, 1 … L without)
    blocks      c_l, the credit that trains block l; default: the audited ones
    embed       the credit that trains the embedding; default: audited[0], which is a_0 with
                residual blocks; without them it must be given
    reduction   "sum": a credit belongs to one sample; "mean": it is a gradient of the batch-mean
                loss and carries 1/N
    in_use      False while the method trains with other credits than the audited ones (warm-up)
    normalized  True: the blocks and the embedding are trained with these credits as they are,
                `normalize` is not applied to them
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
    """The optimisers, random streams and data passes that the core lends a rule at `setup`.

    updater        clips each group (every block, the embedding, the readout) to `clip_norm` on its
                   own, then one AdamW step
    auxiliary      makes such an updater for auxiliary networks: constant learning rate 1e-3, no
                   weight decay
    generator      the method's own stream for feedback matrices, seeded from the run's seed
    aux_generator  the stream for auxiliary networks: their initial weights and the noise of their
                   training
    batches()      a further pass over the training data for networks that are fitted outside the
                   training steps; all its draws come from `aux_generator`
    updaters       all that were lent so far; a resumed training restores their optimisers
    """

    updater: Updater
    auxiliary: Callable[[Mapping[str, Sequence[torch.nn.Parameter]]], Updater]
    generator: torch.Generator
    aux_generator: torch.Generator
    batches_by: Callable[[torch.Generator], Iterator[tuple[Tensor, Tensor]]]
    updaters: list[Updater] = field(default_factory=list)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches_by(self.aux_generator)


class Method(ABC):
    """A learning rule with full control of its training step.

    Subclasses define `Params`, `passport`, `step` and `credit`, and if needed `setup`. `kept` of
    `setup` is saved and restored; a rule with other state overrides `state_dict` and
    `load_state_dict`. The core carries out `freeze`, `train_last`, `random_targets` and
    `block_scale`. The rule carries out `penalty` in its step (a LocalMethod leaves that to the
    core), or a validator of its Params refuses it. `passport` may be a property that depends on the
    parameters.
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
        block_scale: Annotated[float, LATER] = Field(
            1.0,
            gt=0.0,
            le=1e6,
            description="factor on the last weight matrix of every block, before training",
        )

        @model_validator(mode="before")
        @classmethod
        def _none_of_the_blocks(cls, values: Any) -> Any:
            """Turn `train_last: 0` into `freeze: blocks`, so that the two are one cell."""
            last = values.get("train_last") if isinstance(values, dict) else None
            if type(last) is int and last == 0:
                return values | {"freeze": "blocks", "train_last": None}
            return values

        @model_validator(mode="after")
        def _one_way_to_freeze(self) -> Self:
            if self.freeze and self.train_last:
                k = self.train_last
                text = f"freeze: blocks trains no block and train_last: {k} does; give one of them"
                raise ValueError(text)
            return self

    numerics: ClassVar[int] = 1  # raise it with every change of the rule that moves numbers
    passport: ClassVar[Passport] = Passport()
    laws: ClassVar[Laws] = Laws()

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    @property
    def forward_passes(self) -> int:
        """Number of batches that run through the busiest block in a training step.

        Perturbed copies of a batch count too; of several phases the most expensive counts.
        """
        return 1

    def unsupported(self, net: Net) -> str | None:
        """Return the reason why this rule cannot train `net`, or None; called before training."""
        return None

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        """Create feedback matrices and auxiliary networks and put them into `kept`.

        Overrides call `super().setup(net, task, tools)` first.

        kept  all that `state_dict` saves, by name: tensors, and parts with a `state_dict` and a
              `load_state_dict` (modules, other rules), saved under their name and a dot
        """
        self.net, self.task, self.tools = net, task, tools
        self.kept: dict[str, Any] = {}

    def draw(self, *shape: int, std: float = 1.0) -> Tensor:
        """Draw a fixed random tensor, entries N(0, std²), from the rule's own stream.

        The stream is `tools.generator`; device and type are those of the network's parameters.
        """
        import torch

        dtypes = (p.dtype for p in self.net.parameters() if p.is_floating_point())
        entries = std * torch.randn(*shape, generator=self.tools.generator)
        return entries.to(self.task.device, next(dtypes, torch.float32))

    @abstractmethod
    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        """Update the network on a batch and return the loss of the forward pass.

        The loss is a tensor that was not read on the host. `epoch` counts from 0.
        """

    @abstractmethod
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits | Sequence[Tensor] | None:
        """Return the credits for the (detached) states of a batch.

        A plain sequence stands for `Credits(audited=…)`. Audits call it with test inputs: it must
        change nothing that is trained.
        """

    def residuals(self, states: States, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return ‖∂E/∂h‖ per sample, (N,), at the start and at the end of the rule's inference.

        E is the energy that the inference descends. None for a rule without inference; a rule with
        one has `steps` among its parameters.
        """
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the feedback and auxiliary tensors: by default the tensors in `kept`.

        Late audits need them; resumed trainings too, with the optimisers and both streams.
        """
        import torch

        state: dict[str, Tensor] = {}
        for name, part in self.kept.items():
            if hasattr(part, "state_dict"):
                state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
            else:
                state[name] = part.detach() if isinstance(part, torch.Tensor) else part
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned; called after `setup`.

        By default parts and parameters in `kept` are loaded in place, since an optimiser may hold
        them; other tensors are replaced, or added if a step had added them.
        """
        import torch

        rest = dict(state)
        for name, part in self.kept.items():
            if hasattr(part, "load_state_dict"):
                own = [key for key in rest if key.startswith(f"{name}.")]
                part.load_state_dict({key.removeprefix(f"{name}."): rest.pop(key) for key in own})
            elif isinstance(part, torch.nn.Parameter):
                part.data.copy_(rest.pop(name))
            else:
                self.kept[name] = rest.pop(name)
        self.kept |= rest
