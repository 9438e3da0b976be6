"""dual_propagation: every unit is a pair of states, whose difference carries the credit down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bench_core.api import LATER, Credits, Laws, LocalMethod, Passport, States
from bench_core.training.net import top_gradient

ELEMENTWISE = {  # non-linearities that pairs pass, by the names of torch's functions
    "celu", "clamp", "clamp_max", "clamp_min", "cos", "elu", "gelu", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu",
    "sigmoid", "silu", "sin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink",
}  # fmt: skip


class Secant(torch.autograd.Function):
    """φ(z), whose backward pass sends the difference of the pair down."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, phi: Callable[[Tensor], Tensor], up: float, down: float
    ) -> Tensor:
        ctx.save_for_backward(z)
        ctx.phi, ctx.up, ctx.down = phi, up, down
        return phi(z)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        difference = ctx.phi(z + ctx.up * d) - ctx.phi(z - ctx.down * d)
        return difference / (ctx.up + ctx.down), None, None, None


class Dyadic(TorchFunctionMode):
    """Inside, elementwise non-linearities have the backward pass of `Secant`; not in the readout,
    whose derivative is that of the loss.
    """

    def __init__(self, beta: float, alpha: float) -> None:
        super().__init__()
        self.up, self.down = 2 * alpha * beta, 2 * (1 - alpha) * beta
        self.paused = False

    @contextmanager
    def but_in(self, module: nn.Module) -> Iterator[None]:
        """Pause while this module runs."""

        def pause(paused: bool) -> Callable[..., None]:
            return lambda *_: setattr(self, "paused", paused)

        hooks = [
            module.register_forward_pre_hook(pause(True)),
            module.register_forward_hook(pause(False), always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        plain = name.removesuffix("_")
        if self.paused or plain not in ELEMENTWISE or not torch.is_grad_enabled():
            return function(*args, **options)
        given, *rest = args or (options.pop("input"),)
        if any(isinstance(each, Tensor) for each in (*rest, *options.values())):
            return function(given, *rest, **options)  # its bounds may learn, or depend on z
        in_place = options.pop("inplace", False) or plain != name
        if plain != name:
            function = getattr(Tensor, plain, None) or getattr(F, plain)
        phi = lambda z: function(z, *rest, **options)  # noqa: E731
        out = Secant.apply(given.clone() if in_place else given, phi, self.up, self.down)
        return given.copy_(out) if in_place else out


class DualPropagation(LocalMethod):
    """Backpropagation with differences of pairs in place of derivatives of the non-linearities.

    A unit φ(z) is a pair φ(z + 2αβ·d), φ(z − 2(1−α)β·d), d the difference that comes down to it
    from above, per sample. It sends down

        (φ(z + 2αβ·d) − φ(z − 2(1−α)β·d)) / 2β   in place of   φ'(z)·d,

    from d = ∂loss/∂h_L at the top, in one sweep; weights, norms, attention and skip paths pass d on
    as in backpropagation. So does a function that is not among torch's elementwise non-linearities
    (`ELEMENTWISE`), or that has a tensor for an option, such as PReLU or learned bounds. a_l is
    what arrives at h_l; block l is trained with c_l = a_{l+1} through the same pairs, the embedding
    with a_0 through pairs of its own. Credits (N, …) like their states, sum reduction; not
    normalised by default, since d has a size.
    β → 0 is backpropagation, and so is any β without non-linearities; for ReLU, pairs differ from
    it where z lies within the pair's distance of 0. The readout passes d on by its derivative.

    α = 1/2  the symmetric pair, in which DP and DP⊤ are the same.
    α ≠ 1/2  DP⊤: one side of the pair is nudged further. Its mean of a pair, α times the side that
             lowers the loss plus 1 − α times the other, is φ(z) up to the square of the distance;
             DP's is not.

    Digits, resmlp of width 64 and depth 4, 4 epochs, seed 42: bp .981; β = 1 .981 for α of 0, 1/2
    and 1; β = 10 .981 for α = 1/2, .969 for α = 0.

    Ours: z is that of the forward pass (source: from the mean of the pairs below, iterated, 16
    passes for DP⊤), and weights learn with φ(z) in place of that mean; β is half of the source's;
    one loss for all, not that of the source's output pair.
    Source: Høier, Staudt, Zach 2023, arXiv:2302.01228 (DP), in the form of its code for
    convolutional networks; Høier, Zach 2024, arXiv:2402.08573 (DP⊤), by its code.
    Verified: on a linear network it is backpropagation for every β and α; otherwise it tends to it
    as β² for α = 1/2, else as β; ReLU's pair by an own computation; one sweep of the source's pairs
    has the same differences, and their mean is φ(z) to first order.
    Selected on: validation samples, a part of the training set, in the codes of both sources.
    """

    class Params(Unnormalised):
        """Options of dual_propagation."""

        beta: float = Field(1.0, gt=0.0, le=1e3, description="β, half the distance of a pair")
        alpha: Annotated[float, LATER] = Field(
            0.5, ge=0.0, le=1.0, description="α, share of the distance that raises the loss (DP⊤)"
        )

    passport = Passport(
        weight_transport=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    laws = Laws(exact_top=True, exact_with={"beta": 1e-3})

    @property
    def forward_passes(self) -> int:
        return 2

    def pairs(self, scale: int = 1) -> Dyadic:
        """Return the mode of the pairs for credits that were divided by `scale`."""
        return Dyadic(self.params.beta * scale, self.params.alpha)

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        a = [top_gradient(self.net, states.h[-1], y)]
        for layer in reversed(range(self.net.depth)):
            with self.pairs(), torch.enable_grad():
                h = states.h[layer].detach().requires_grad_()
                a[:0] = torch.autograd.grad(self.net.advance(h, layer)[0], h, a[0])
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        pairs = self.pairs(len(x))  # the update divides the credits by N
        with pairs, pairs.but_in(self.net.readout):
            return super().step(x, y, epoch)
