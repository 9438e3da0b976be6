"""mono_forward and local_loss: every layer minimises its own loss through its own decoder."""

from __future__ import annotations

from typing import Literal

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Credits, LocalMethod, Method, Net, Passport, States, Task, Tools
from bench_core.training.rng import draws_from

LARGEST = 2048  # features that a decoder of maps sees


def pooled(h: Tensor, tokens: bool) -> Tensor:
    """Pool a state to (N, features).

    Tokens are averaged, maps averaged to the finest grid with at most 2048 features, other
    states flattened.
    """
    if tokens:
        return h.mean(1)
    if h.dim() == 4:
        side = max(1, min(h.shape[2], int((LARGEST / h.shape[1]) ** 0.5)))
        h = F.adaptive_avg_pool2d(h, side)
    return h.flatten(1)


class LocalHeads(Method):
    """Give every state a linear decoder M_l of its own, from h_l to logits, and train it.

    A decoder has no bias and sees pool(h_l). It starts as PyTorch's Linear, drawn from the stream
    of auxiliary networks, and takes AdamW steps (1e-3, no decay) on the batch-mean loss.
    """

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        sizes = [pooled(torch.empty(1, *shape), task.tokens).shape[1] for shape in task.shapes]
        with draws_from(tools.aux_generator):
            self.heads = self.modules(task, sizes).to(task.device, next(net.parameters()).dtype)
        self.kept["heads"] = self.heads
        self.optimisers = [
            tools.auxiliary({"head": list(head.parameters())}) for head in self.heads
        ]

    def modules(self, task: Task, sizes: list[int]) -> nn.ModuleList:
        """Networks of the layers' losses beside h_l: here M_l."""
        return nn.ModuleList(nn.Linear(size, task.classes, bias=False) for size in sizes)

    def loss(self, layer: int, h: Tensor, y: Tensor) -> Tensor:
        """Loss of layer l on the batch, summed over samples."""
        return self.net.loss(self.heads[layer](pooled(h, self.net.tokens)), y, "sum")

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        for layer, (h, optimiser) in enumerate(zip(states.h, self.optimisers, strict=True)):
            optimiser.descend(self.loss(layer, h, y) / len(y))


class MonoForward(LocalHeads, LocalMethod):
    """Every layer minimises the task's loss on its own linear decoder.

    The decoder M_l has no bias, G_l = M_l·pool(h_l), (N, C), and the layer's loss is

        pred_l = CE(softmax(G_l), y),
        a_l = ∂pred_l/∂h_l = (softmax(G_l) − onehot(y))·M_l through pool,   per sample.

    Block l descends pred_{l+1} by its VJP (c_l = a_{l+1}), the embedding pred_0; nothing passes
    between layers. Credits (N, …) like their states, sum reduction, not normalised by default,
    since the rule does not. pool: the mean of tokens, maps averaged to at most 2,048 features,
    other states flattened. M_l starts as PyTorch's Linear and takes an AdamW step (1e-3, no
    decay) on the batch-mean loss before the credit is read.

    Ours: M_l learns before the block (source: both at once); the readout, a head of its own
    beside M_L, minimises the loss on sg(h_L) as under every rule, and the accuracy is that of
    this head (source: Σ_l G_l or G_L).
    Source: Gong, Li, Abdulla 2025, arXiv:2501.09238; the loss `pred` of Nøkland, Eidnes 2019,
    arXiv:1901.06656.
    Verified: the credit is the error of the layer's own decoder, by an own computation; updates
    do not depend on other blocks.
    """

    class Params(Unnormalised):
        """Options of mono_forward."""

    passport = Passport(labels_below_head=True, learned_feedback=True, local_heads=True)

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        with torch.enable_grad():
            h = [state.detach().requires_grad_() for state in states.h]
            a = [
                torch.autograd.grad(self.loss(layer, state, y), state)[0]
                for layer, state in enumerate(h)
            ]
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])


def similarity(x: Tensor) -> Tensor:
    """S (N, N): cosines between the rows of x (N, features), each row centred."""
    rows = F.normalize(x - x.mean(1, keepdim=True), dim=1, eps=1e-6)
    return rows @ rows.mT


class LocalLoss(MonoForward):
    """As mono_forward, with another loss per layer:

        sim_l = mean_{ij} (S(V_l·pool(h_l)) − S(Y))²,   predsim_l = 0.99·sim_l + 0.01·pred_l,

    S (N, N) the cosines between centred rows, V_l (n, n) without bias, Y the one-hot labels (the
    targets of a regression). sim couples the samples of a batch; its credit is N times the
    gradient of the batch's loss, so that it stands beside pred's. M_l starts at 0 here, and
    every decoder learns as M_l does.

    Ours: on maps V_l acts on the pooled map (source: a 3×3 convolution and the deviation of every
    map), and no BatchNorm or dropout is added to the network.
    Source: Nøkland, Eidnes 2019, arXiv:1901.06656.
    Verified: predsim is the sum of its parts; updates do not depend on other blocks.
    """

    class Params(MonoForward.Params):
        """Options of local_loss."""

        loss: Literal["predsim", "sim", "pred"] = Field(
            "predsim", description="predsim: 0.99 sim + 0.01 pred"
        )

    def modules(self, task: Task, sizes: list[int]) -> nn.ModuleList:
        """M_l and V_l, those that the loss has."""
        parts = {"pred": ["M"], "sim": ["V"], "predsim": ["M", "V"]}[self.params.loss]
        outputs = {"M": lambda size: task.classes, "V": lambda size: size}
        heads = [
            {part: nn.Linear(size, outputs[part](size), bias=False) for part in parts}
            for size in sizes
        ]
        for each in heads:
            if "M" in each:
                nn.init.zeros_(each["M"].weight)
        return nn.ModuleList(nn.ModuleDict(each) for each in heads)

    def loss(self, layer: int, h: Tensor, y: Tensor) -> Tensor:
        head, h = self.heads[layer], pooled(h, self.net.tokens)
        total = torch.zeros((), dtype=h.dtype, device=h.device)
        if "V" in head:
            target = F.one_hot(y, self.task.classes) if self.net.loss.classes else y
            miss = (similarity(head["V"](h)) - similarity(target.to(h))).square().mean()
            total = total + (0.99 if "M" in head else 1.0) * len(y) * miss
        if "M" in head:
            total = total + (0.01 if "V" in head else 1.0) * self.net.loss(head["M"](h), y, "sum")
        return total
