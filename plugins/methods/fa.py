"""fa: feedback alignment, the exact top credit through fixed random matrices block by block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench_core.api import Credits, Laws, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.net import top_gradient


class FeedbackAlignment(LocalMethod):
    """The exact gradient at the top, then fixed random feedback B_l block by block, entries N(0,
    1/features above).

    Residual blocks: c_{L-1} = ∂loss/∂h_L, c_l = c_{l+1}·B_l, audited as a_l = c_l, embedding
    c_0. Without residual: the credit at h_L is ∂loss/∂h_L, the credit at h_l is that at h_{l+1}
    through B_l; block l is trained with the credit at h_{l+1}, the embedding with that at h_0.

    B_l is dense between flattened states, unless the architecture offers a linear module of the
    block's own kind (`Net.feedback`: convolutions with their pooling): then it is that module's
    transpose, every weight drawn N(0, 1/(entries of the credit that it is summed over)), i.e. of
    variance 1/(out·k·k) for a convolution. No non-linearity of the block is in B_l, dense or
    not. Where states are tokens, B_l is (d, d) and leads every token's credit down on its own;
    the exact top credit is zero off the CLS token, if only that is read out, and so is then
    every credit.

    The loss is the batch mean, so every credit carries 1/N: with normalize_eps 1e-6 that decides
    the rule's fate at large ‖h_L‖ (docs/protocol.md, section 4).
    Ours: a matrix per block, not per layer, without the block's derivatives; normalised per
    sample by default.
    Source: Lillicrap, Cownden, Tweed, Akerman 2016, doi:10.1038/ncomms13276.
    Verified: with B_l = W_l it is backpropagation on a linear network; the top credit is
    ∂loss/∂h_L, with 1/N.
    """

    passport = Passport(exact_top_credit=True)
    laws = Laws(linear_in_error=True, exact_top=True, feedback="B_{layer}")

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        # B_l maps the credit of site l+1 to that of site l, and without residual to the embedding's
        self.layers = range(net.depth - 1 if net.residual else net.depth)
        for layer in self.layers:
            with torch.random.fork_rng(devices=[]):  # its own initial weights are not kept
                kind = net.feedback(layer)
            if kind is None:
                above, below = task.width(layer + 1), task.width(layer)
                self.kept[f"B_{layer}"] = self.draw(above, below, std=above**-0.5)
            else:
                self.kept[f"B_{layer}"] = redrawn(kind, tools.generator).to(task.device)

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        chain = [top_gradient(self.net, states.h[-1], y, "mean")]
        for layer in reversed(self.layers):
            chain.insert(0, self.down(chain[0], self.kept[f"B_{layer}"], states.h[layer]))
        return Credits(
            audited=chain if self.net.residual else chain[1:], embed=chain[0], reduction="mean"
        )

    def down(self, credit: Tensor, B: Tensor | nn.Module, h: Tensor) -> Tensor:
        """The credit at h from the credit one state above."""
        if isinstance(B, Tensor):
            return (credit @ B) if self.net.tokens else (credit.flatten(1) @ B).view_as(h)
        with torch.enable_grad():
            zero = torch.zeros_like(h).requires_grad_()
            (below,) = torch.autograd.grad(B(zero), zero, credit)
        return below


def redrawn(kind: nn.Module, generator: torch.Generator) -> nn.Module:
    """The module with weights of variance 1/(entries above that a value below reaches), fixed.

    weights  (out, in / groups, …), of a transposed convolution (in, out / groups, …): a value below
             reaches the outputs of its group alone
    """
    kind.requires_grad_(False)
    for module in kind.modules():
        transposed = getattr(module, "transposed", False)
        groups = 1 if transposed else getattr(module, "groups", 1)
        for weight in module.parameters(recurse=False):
            reach = weight.numel() / weight.shape[0 if transposed else 1] / groups
            weight.copy_(reach**-0.5 * torch.randn(weight.shape, generator=generator))
    return kind
