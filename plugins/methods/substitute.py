"""Backpropagation through other matrices: the base of rules with substitute feedback."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.net import input_shape, top_gradient

Matrix = nn.Linear | nn.Conv2d
# by layer, for each time that the block calls it: δ_y at its output, shape of its input
Errors = dict[str, list[tuple[Tensor, torch.Size]]]
Feedback = Callable[[str], Tensor]  # layer → B


def matrices(net: Net) -> dict[str, Matrix]:
    """Linear and convolutional layers of the blocks, "{block}_{number in the block}" → layer."""
    return {
        name: module for layer in range(net.depth) for name, module in of_block(net, layer).items()
    }


def of_block(net: Net, layer: int) -> dict[str, Matrix]:
    """The entries of `matrices` of a block."""
    modules = net.blocks[layer].modules()
    own = (module for module in modules if isinstance(module, nn.Linear | nn.Conv2d))
    return {f"{layer}_{number}": module for number, module in enumerate(own)}


def default_std(module: Matrix) -> float:
    """1/sqrt(3·fan_in): the deviation of PyTorch's initial weights of such a layer."""
    return float((3 * module.weight[0].numel()) ** -0.5)


def at_layer(module: Matrix, x: Tensor, B: Tensor) -> Tensor:
    """The layer, without its bias, with the weights B."""
    return F.linear(x, B) if isinstance(module, nn.Linear) else module._conv_forward(x, B, None)


class SubstituteFeedback(LocalMethod):
    """Backpropagation whose backward pass has a matrix B in place of every W of the blocks.

    a_L = ∂loss/∂h_L, and below it a_l = (∂h_{l+1}/∂h_l)ᵀ·a_{l+1} with the substitution: y = W·x
    + b passes δ_x = Bᵀ·δ_y down and learns by ΔW ∝ δ_y·xᵀ, also from one layer of a block to the
    next. The rest is the block's own derivative at its own state: activations φ'(z) at the true
    z, gains of norms, pooling, the residual connection. Per sample ("sum"). Block l is trained
    with a_{l+1}, the embedding with a_0; with B = W this is backpropagation. A penalty on f_l has
    the block's own derivatives; it costs another forward pass.

    Each block runs a second time for the credit; that is the second of the two forward passes.
    φ'(z) makes a credit depend on the states of the blocks above (passport:
    non_local_state). Credits are not normalised by default, since these rules do not:
    normalising hides the size of a sample's error (weight_mirror on digits, Γ .99: .953
    normalised per sample, .978 as it is; bp .981).
    """

    numerics = 2  # of all rules derived from it; with 1 the true W sent errors inside a block

    class Params(Unnormalised):
        """Options of a rule with substitute feedback."""

    def unsupported(self, net: Net) -> str | None:
        owned = {id(module.weight) for module in matrices(net).values()}
        for name, parameter in net.blocks.named_parameters():
            if parameter.dim() > 1 and id(parameter) not in owned:
                return (
                    f"blocks.{name} is a matrix outside Linear and Conv2d layers: the rule has no "
                    "feedback for it"
                )
        if name := bypassed(net):
            return (
                f"a block uses {name} without calling its layer: the true weights would carry the "
                "credit down; write layer(x) in place of F.linear(x, layer.weight)"
            )
        return None

    errors: Errors | None = None  # of the last credit, if a rule learns from them

    @property
    def forward_passes(self) -> int:
        return 2 + bool(self.params.penalty)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.layers = matrices(net)
        self.sent: dict[str, Tensor] = {}  # B of the credit of the step, which its update has too

    @abstractmethod
    def feedback(self) -> Mapping[str, Tensor]:
        """B of every layer of `matrices`, of its weight's shape."""

    def local_states(self, x: Tensor) -> States:
        self.sent = {}
        with ExitStack() as stack:
            for layer in range(self.net.depth):
                stack.enter_context(substituted(self.net, layer, self.of_step))
            return super().local_states(x)

    def penalised(self, states: States) -> Sequence[Tensor]:
        """The outputs f_l with the blocks' own derivatives, which a penalty on them has."""
        inputs = enumerate(states.h[:-1])
        return [self.net.advance(h.detach(), layer)[1] for layer, h in inputs]

    def of_step(self, name: str) -> Tensor:
        """B of a layer, as the credit of this step had it."""
        if not self.sent:  # the step asked for no credit
            with torch.no_grad():
                self.sent.update(self.feedback())
        return self.sent[name]

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        with torch.no_grad():
            feedback = self.feedback()
        self.sent.update(feedback)
        if self.errors is not None:
            self.errors.clear()
        chain = [top_gradient(self.net, states.h[-1], y)]
        for layer in reversed(range(self.net.depth)):
            h = states.h[layer]
            chain.insert(0, down(self.net, layer, h, chain[0], feedback, self.errors))
        return Credits(
            audited=[chain[site] for site in self.net.sites], blocks=chain[1:], embed=chain[0]
        )


class LearnedFeedback(SubstituteFeedback):
    """Substitute feedback that learns: B ~ N(0, 1/(3·fan_in)) at setup, independent of W."""

    passport = Passport(
        learned_feedback=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        for name, module in self.layers.items():
            B = self.draw(*module.weight.shape, std=default_std(module))
            self.kept[f"B_{name}"] = B.to(module.weight)

    def feedback(self) -> Mapping[str, Tensor]:
        return {name: self.kept[f"B_{name}"] for name in self.layers}


def down(
    net: Net, layer: int, h: Tensor, credit: Tensor, feedback: Mapping[str, Tensor],
    errors: Errors | None = None,
) -> Tensor:  # fmt: skip
    """The credit at h_l from that at h_{l+1}; `errors` takes in those of the block's layers."""
    with substituted(net, layer, feedback.__getitem__, errors), torch.enable_grad():
        h = h.detach().requires_grad_()
        (below,) = torch.autograd.grad(net.advance(h, layer)[0], h, credit)
    return below


def bypassed(net: Net) -> str:
    """Name a weight that a block uses without calling its layer; "" if none does.

    With substituted layers no derivative reaches their weights, but by another path. In train mode
    too, where a block may mask its weights.
    """
    like, training = next(net.parameters()), net.training
    x = torch.zeros(2, *input_shape(net), dtype=like.dtype, device=like.device)
    weights = [module.weight for module in matrices(net).values()]
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_()
        for mode in (False, True):
            net.train(mode)
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                h = net.states(x, statistics=False).h
                for layer in range(net.depth):
                    if name := _bypassed(net, layer, h[layer]):
                        return name
    finally:
        net.train(training)
        for weight in frozen:
            weight.requires_grad_(False)
    return ""


def _bypassed(net: Net, layer: int, h: Tensor) -> str:
    own = of_block(net, layer)
    feedback = {name: module.weight.detach() for name, module in own.items()}
    with substituted(net, layer, feedback.__getitem__, learn=False), torch.enable_grad():
        out = net.advance(h.detach().requires_grad_(), layer)[0].sum()
    if not own or not out.requires_grad:
        return ""
    weights = [module.weight for module in own.values()]
    reached = torch.autograd.grad(out, weights, allow_unused=True)
    for weight, gradient in zip(weights, reached, strict=True):
        if gradient is not None:
            return next(name for name, own in net.named_parameters() if own is weight)
    return ""


class SentThrough(torch.autograd.Function):
    """The output of a layer, y = W·x + b, whose error reaches x through B: δ_x = Bᵀ·δ_y.

    y has a graph to W and b alone. B is read when the error comes: the rule may learn it after the
    forward pass.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, y: Tensor, module: Matrix, name: str, feedback: Feedback
    ) -> Tensor:
        ctx.layer = module, name, feedback, x.shape
        return y.clone()  # not a view: a block may change it in place

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Any:  # type: ignore[override]
        module, name, feedback, shape = ctx.layer
        below = send_down(module, feedback(name), error, shape) if ctx.needs_input_grad[0] else None
        return below, error, None, None, None


def send_down(module: Matrix, B: Tensor, error: Tensor, below: torch.Size) -> Tensor:
    """δ_x = Bᵀ·δ_y, of the shape `below`."""
    if isinstance(module, nn.Linear):
        return error @ B
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        options = module.stride, module.padding, module.dilation, module.groups
        return torch.nn.grad.conv2d_input(below, B, error, *options)
    with torch.enable_grad():
        x = torch.zeros(below, dtype=B.dtype, device=B.device, requires_grad=True)
        (found,) = torch.autograd.grad(at_layer(module, x, B), x, error)
    return found


@contextmanager
def substituted(
    net: Net, layer: int, feedback: Feedback, errors: Errors | None = None, learn: bool = True,
) -> Iterator[None]:  # fmt: skip
    """Inside, the layers of a block send errors down through their feedback (`SentThrough`).

    A compiled block runs as it is written: its compiled form does not look at hooks.

    learn  False: the output of a layer has no graph to its weights
    """
    hooks: list[Any] = []
    block = net.blocks[layer]
    compiled, block._compiled_call_impl = block._compiled_call_impl, None
    for name, module in of_block(net, layer).items():
        inputs: list[Tensor] = []

        def detach(module: Matrix, args: tuple[Tensor, ...], inputs: Any = inputs) -> Any:
            inputs.append(args[0])
            return (args[0].detach(),)

        def send(
            module: Matrix, args: Any, y: Tensor, inputs: Any = inputs, name: str = name
        ) -> Tensor:
            y = y if learn else y.detach()
            out: Tensor = SentThrough.apply(inputs.pop(), y, module, name, feedback)
            if errors is not None and out.requires_grad:
                own, shape = errors.setdefault(name, []), args[0].shape
                out.register_hook(lambda error: own.append((error.detach(), shape)))
            return out

        hooks += [module.register_forward_pre_hook(detach), module.register_forward_hook(send)]
    try:
        yield
    finally:
        block._compiled_call_impl = compiled
        for hook in hooks:
            hook.remove()
