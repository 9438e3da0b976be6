"""Plugins for the tests of the conformance kit: some good, and others with one fault each.

METHODS, ARCHS, DATASETS and DIAGNOSTICS list tuples: a plugin, the only check that it must fail,
and words of the reason.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from bench_plugins.methods.bp import Backprop
from bench_plugins.methods.local_loss import MonoForward
from numpy.random import default_rng as by_name
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import (
    Control,
    Credits,
    Data,
    Dataset,
    Diagnostic,
    Laws,
    LocalMethod,
    Measured,
    Net,
    Passport,
)
from bench_core.errors import DataError
from bench_core.training import evaluation
from bench_core.training.net import exact_gradients, top_gradient

# ------------------------------------------------------------------------------------------ methods


class Direct(LocalMethod):
    """Direct feedback without a fault: a_l = e·B_l, B_l fixed."""

    laws: ClassVar[Laws] = Laws(linear_in_error=True)

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        layers = [*net.sites, *({0} - set(net.sites))]
        self.B = {
            n: torch.randn(task.classes, task.features(n), generator=tools.generator)
            for n in layers
        }
        self.B = {layer: B.to(task.device) for layer, B in self.B.items()}

    def plain(self, states):
        return {layer: states.output_error @ B for layer, B in self.B.items()}

    def credit(self, states, y, epoch):
        a = self.plain(states)
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])

    def state_dict(self):
        return {f"B_{layer}": B for layer, B in self.B.items()}

    def load_state_dict(self, state):
        self.B = {layer: state[f"B_{layer}"] for layer in self.B}

    @property
    def rate(self) -> float:
        return self.tools.updater.optimiser.param_groups[0]["lr"]

    @torch.no_grad()
    def push_readout(self, amount: Any) -> None:
        """Change the weights of the head and nothing that a block sees."""
        list(self.net.readout.parameters())[-1].add_(self.rate * amount)


class WrongShape(Direct):
    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        credits.readouts["half"] = [a[:, ::2] for a in credits.audited]
        return credits


class TooFew(Direct):
    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        credits.readouts["few"] = credits.audited[1:]
        return credits


class WrongType(Direct):
    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        credits.readouts["double"] = [a.double() for a in credits.audited]
        return credits


class NotFinite(Direct):
    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        credits.readouts["infinite"] = [a / 0 for a in credits.audited]
        return credits


class StaysOnTheCPU(Direct):
    def state_dict(self):
        return {name: value.cpu() for name, value in super().state_dict().items()}

    def load_state_dict(self, state):
        super().load_state_dict({name: value.to(self.task.device) for name, value in state.items()})


class AuditsTheGradient(Direct):
    """Has another credit audited than the one by which it trains: twice as long in eval mode."""

    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        if self.net.training:
            return credits
        return Credits(audited=[2 * a for a in credits.audited], embed=2 * credits.for_embed)


class AsksByName(Direct):
    """Asks for its own credit in a step, by names and with an option of its own."""

    def learn(self, states, y, epoch):
        self.credit(states, y=y, epoch=epoch, scale=1.0)

    def credit(self, states, y, epoch=0, scale=1.0):
        credits = super().credit(states, y, epoch)
        audited = [scale * a for a in credits.audited]
        return Credits(audited=audited, embed=scale * credits.for_embed)


class ShowsAnotherCredit(Direct):
    """Trains by another credit than it shows: the first after learn() is that of the step."""

    fresh = False

    def learn(self, states, y, epoch):
        super().learn(states, y, epoch)
        self.fresh = True

    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        first, self.fresh = self.fresh, False
        return replace(credits, blocks=[-c for c in credits.for_blocks]) if first else credits


class ShowsAnotherCreditInAStep(ShowsAnotherCredit):
    """Trains by another credit than it shows: credit() looks at the mode within a step."""

    def credit(self, states, y, epoch):
        credits = Direct.credit(self, states, y, epoch)
        trains = self.fresh and self.net.training
        return replace(credits, blocks=[-c for c in credits.for_blocks]) if trains else credits

    def after_update(self, epoch):
        self.fresh = False


class ForgetsItsFeedback(Direct):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class WrongLoss(Direct):
    def step(self, x, y, epoch):
        return 2 * super().step(x, y, epoch)


class GraphOfTheLoss(Direct):
    def step(self, x, y, epoch):
        return super().step(x, y, epoch).requires_grad_()


class ReadsTheLoss(Direct):
    def step(self, x, y, epoch):
        loss = super().step(x, y, epoch)
        self.last = float(loss)
        return loss


class ListsTheLabels(Direct):
    def learn(self, states, y, epoch):
        self.seen = sum(y.tolist())


class ThawsFrozenBlocks(Direct):
    def after_update(self, epoch):
        if self.params.freeze:
            with torch.no_grad():
                for p in self.net.blocks.parameters():
                    p.add_(self.rate)


class DependsOnTheGlobalSeed(Direct):
    def after_update(self, epoch):
        self.push_readout(torch.initial_seed() % 7)


class CountsItsSteps(Direct):
    count = 0

    def after_update(self, epoch):
        self.count += 1
        self.push_readout(self.count)


class RemembersSeeds(Direct):
    seen: ClassVar[set[int]] = set()

    def setup(self, net, task, tools):
        self.seen.add(tools.generator.initial_seed())
        super().setup(net, task, tools)

    def after_update(self, epoch):
        self.push_readout(len(self.seen))


class FeedbackOfTheFirstCell(Direct):
    first: ClassVar[dict[int, Tensor]] = {}

    def setup(self, net, task, tools):
        if not self.first:
            super().setup(net, task, tools)
            self.first.update({layer: self.B[max(self.B)] for layer in range(9)})
        LocalMethod.setup(self, net, task, tools)
        self.B = {layer: self.first[layer] for layer in [*net.sites, *({0} - set(net.sites))]}


class DrawsInAnAudit(Direct):
    def credit(self, states, y, epoch):
        torch.randn(1, generator=self.tools.generator)
        return super().credit(states, y, epoch)


class DrawsFromItsOwnGenerator(Direct):
    """Noise on the credit, drawn in credit() from a generator that the rule keeps."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        seed = int(torch.randint(2**62, (), generator=tools.generator))
        self.gen = torch.Generator().manual_seed(seed)

    def plain(self, states):
        a = super().plain(states)
        return {layer: c + torch.randn(c.shape, generator=self.gen) for layer, c in a.items()}


class HidesItsGenerator(DrawsFromItsOwnGenerator):
    """The same from a generator that only a function holds."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        gen = vars(self).pop("gen")
        self.noise = lambda shape: torch.randn(shape, generator=gen)

    def plain(self, states):
        a = Direct.plain(self, states)
        return {layer: c + self.noise(c.shape) for layer, c in a.items()}


class ListsItsGenerators(DrawsFromItsOwnGenerator):
    """The same from a list of generators."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.gens = {"noise": [self.gen]}
        del self.gen

    def plain(self, states):
        self.gen = self.gens["noise"][0]
        a = super().plain(states)
        del self.gen
        return a


class DrawsFromNumpy(Direct):
    """Noise on the credit from a generator of numpy, which no check can see."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.rng = np.random.default_rng(int(torch.randint(2**62, (), generator=tools.generator)))

    def plain(self, states):
        a = super().plain(states)
        return {n: c + torch.from_numpy(self.rng.normal(size=c.shape)).to(c) for n, c in a.items()}


class OneDrawForAllSeeds(Direct):
    """Feedback from a generator with a constant seed."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        own = torch.Generator().manual_seed(1234)
        self.B = {layer: torch.randn(B.shape, generator=own).to(B) for layer, B in self.B.items()}


class OneDrawOfModules(Direct):
    """Feedback from a module, drawn after the global generator was seeded with a constant."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1234)
            weights = {n: nn.Linear(B.shape[1], B.shape[0]).weight for n, B in self.B.items()}
        self.B = {n: weight.detach().to(self.B[n]) for n, weight in weights.items()}


def of_a_constant(name, make):
    """Return a rule with feedback from a generator of numpy or Python that `make` seeds."""

    class Constant(Direct):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            own = make()
            for n, B in self.B.items():
                draw = own.normal(size=B.shape) if hasattr(own, "normal") else own.gauss(0, 1)
                self.B[n] = torch.as_tensor(draw).to(B).expand_as(B).clone()

    Constant.__name__ = f"ConstantSeedOf{name.rpartition(chr(46))[2].title()}"
    return Constant


def globally_seeded():
    np.random.seed(3)
    return np.random


CONSTANT = {
    "numpy.random.default_rng": lambda: by_name(1234),
    "numpy.random.RandomState": lambda: np.random.RandomState(1),
    "numpy.random.PCG64": lambda: np.random.Generator(np.random.PCG64([1, 2])),
    "numpy.random.seed": globally_seeded,
    "random.Random": lambda: random.Random("x"),
}


class OwnGeneratorOfTheRun(Direct):
    """A rule without a fault: a generator of its own, seeded from the tools'."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        seed = int(torch.randint(2**62, (), generator=tools.generator))
        self.gen = torch.Generator().manual_seed(seed)
        np.random.default_rng(0)  # which draws nothing
        own = np.random.default_rng(seed)
        for n, B in self.B.items():
            noise = torch.from_numpy(own.normal(size=B.shape))
            self.B[n] = torch.randn(B.shape, generator=self.gen).to(B) + noise.to(B)


class FixedFeedback(Direct):
    """A rule without a fault and without a draw: the same for all seeds."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.B = {n: torch.eye(*B.shape).to(B) for n, B in self.B.items()}


class MovesAtRateZero(Direct):
    def after_update(self, epoch):
        with torch.no_grad():
            list(self.net.readout.parameters())[-1].add_(1e-3)


class PrefersTheFirstUnit(Direct):
    def after_update(self, epoch):
        for block in self.net.blocks:
            weight = next(p for p in block.parameters() if p.dim() == 2)
            if weight.requires_grad:
                with torch.no_grad():
                    weight[0].add_(self.rate)


class SignOfTheError(Direct):
    def plain(self, states):
        return {layer: states.output_error.sign() @ B for layer, B in self.B.items()}


class ClaimsAnExactTop(Direct):
    laws = Laws(exact_top=True)


class ClaimsTheGradient(Direct):
    laws = Laws(exact_with={})

    def plain(self, states):
        return {
            layer: states.output_error @ B.to(states.output_error) for layer, B in self.B.items()
        }


class Chain(LocalMethod):
    """Feedback alignment: the exact top credit, then B_l, (above, below), block by block."""

    passport = Passport(exact_top_credit=True)
    laws: ClassVar[Laws] = Laws(linear_in_error=True, exact_top=True, feedback="B_{layer}")

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        sizes = [
            (task.features(n + 1), task.features(n))
            for n in range(net.depth - 1 if net.residual else net.depth)
        ]
        self.B = [torch.randn(*size, generator=tools.generator).to(task.device) for size in sizes]

    def down(self, c, B):
        return c @ B

    def credit(self, states, y, epoch):
        chain = [top_gradient(self.net, states.h[-1], y, "mean")]
        for B in reversed(self.B):
            chain.insert(0, self.down(chain[0], B))
        return Credits(
            audited=chain if self.net.residual else chain[1:], embed=chain[0], reduction="mean"
        )

    def state_dict(self):
        return {f"B_{layer}": B for layer, B in enumerate(self.B)}

    def load_state_dict(self, state):
        self.B = [state[f"B_{layer}"] for layer in range(len(self.B))]


class TrainsTheReadoutAlone(Direct):
    """The credit of every state is zero, in networks without residual branches."""

    def plain(self, states):
        return {layer: self.net.residual * a for layer, a in super().plain(states).items()}


class PointsAgainstTheGradient(Chain):
    """Feedback alignment with a lost sign: the steps of the blocks raise the loss."""

    laws = Laws(linear_in_error=True)

    def credit(self, states, y, epoch):
        right = super().credit(states, y, epoch)
        return Credits(audited=[-a for a in right.audited], embed=-right.embed, reduction="mean")


class TrainsAgainstTheGradient(Chain):
    """Its audited credit is right, and that of its blocks has lost the sign."""

    def credit(self, states, y, epoch):
        right = super().credit(states, y, epoch)
        return replace(right, blocks=[-a for a in right.for_blocks])


class Blend(LocalMethod):
    """(1 − t)·e·B_l + t·g_l with B_l from `draw`: the gradient with t = 1."""

    class Params(LocalMethod.Params):
        t: float = 0.5

    passport = Passport(
        exact_hidden_gradients=True,
        weight_transport=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    laws = Laws(linear_in_error=True, exact_with={"t": 1.0})
    forward_passes = 2

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        for layer in sorted({0, *net.sites}):
            self.kept[f"B_{layer}"] = self.draw(task.classes, task.features(layer))

    def credit(self, states, y, epoch):
        g, t = exact_gradients(self.net, states.h[0], y), self.params.t
        a = {
            n: (1 - t) * (states.output_error @ self.kept[f"B_{n}"]) + t * g[n]
            for n in {0, *self.net.sites}
        }
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])


class Gradient(Blend):
    """The gradient."""

    class Params(Blend.Params):
        t: float = 1.0

    laws = Laws(linear_in_error=True)


class OneStateAgainstTheGradient(Gradient):
    """A lost sign at the last state alone: the mean over the states stays above 0."""

    def credit(self, states, y, epoch):
        right = super().credit(states, y, epoch)
        return replace(right, audited=[*right.audited[:-1], -right.audited[-1]])


class OneBlockAgainstTheGradient(Gradient):
    """Its audited credit is right, and that of one block has lost the sign."""

    def credit(self, states, y, epoch):
        right = super().credit(states, y, epoch)
        first, *others = right.for_blocks
        return replace(right, blocks=[-first, *others])


class Transposed(Chain):
    def down(self, c, B):
        return c @ B.T


class WrongKey(Chain):
    laws = Laws(feedback="C_{layer}")


class ClaimsKolenPollack(Chain):
    laws = Laws(feedback="B_{layer}", kolen_pollack=True)


class KolenPollack(Chain):
    """B_l gets the update of W_l and the same decay: ΔB = ΔW + η·λ·(W − B)."""

    passport = Passport(exact_top_credit=True, learned_feedback=True)
    laws = Laws(exact_top=True, feedback="B_{layer}", kolen_pollack=True)

    def matrices(self):
        shape = self.B[0].shape
        found = [
            next((p for p in b.parameters() if p.shape == shape), None) for b in self.net.blocks
        ]
        return [None if p is None else p.detach().clone() for p in found[: len(self.B)]]

    def learn(self, states, y, epoch):
        self.before = self.matrices()

    def after_update(self, epoch):
        group = self.tools.updater.optimiser.param_groups[0]
        decay = group["lr"] * group["weight_decay"]
        for layer, (old, new) in enumerate(zip(self.before, self.matrices(), strict=True)):
            if old is not None:
                B = self.B[layer]
                self.B[layer] = B + (new - old) + (decay * (old - B) if decay else 0)


class TransportsInTheAudit(Direct):
    laws = Laws()

    def credit(self, states, y, epoch):
        a = self.plain(states)
        own = [a[site] for site in self.net.sites]
        later = [
            sum(p.sum() for b in self.net.blocks[n + 1 :] for p in b.parameters())
            for n in range(len(own))
        ]
        return Credits(
            audited=[c + w for c, w in zip(own, later, strict=True)], blocks=own, embed=a[0]
        )


class TransportsInTheUpdate(Direct):
    laws = Laws()

    @torch.no_grad()
    def credit(self, states, y, epoch):
        a = self.plain(states)
        own = [a[site] for site in self.net.sites]
        later = [
            sum(p.sum() for b in self.net.blocks[n + 1 :] for p in b.parameters())
            for n in range(len(own))
        ]
        return Credits(
            audited=own, blocks=[c + w for c, w in zip(own, later, strict=True)], embed=a[0]
        )


class TransportsAtFirst(TransportsInTheAudit):
    """A rule that transports weights in the first epochs only."""

    def credit(self, states, y, epoch):
        return (
            super().credit(states, y, epoch) if epoch < 5 else Direct.credit(self, states, y, epoch)
        )


class ReadsLabelsInSetup(Direct):
    """Feedback from the mean input of every class; the passport does not declare it."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        x, y = (torch.cat(parts) for parts in zip(*tools.batches(), strict=True))
        means = torch.stack(
            [
                x[y == label].mean(0).sum() if (y == label).any() else x.sum() * 0
                for label in range(task.classes)
            ]
        )
        self.B = {layer: B + means.unsqueeze(1) for layer, B in self.B.items()}


class WritesDataAtOnce(Direct):
    """A rule that writes to the data in setup, before any check."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        frame = sys._getframe()
        while frame := frame.f_back:  # the callers, from the nearest on
            for each in list(frame.f_locals.values()):
                if type(each) is Data:
                    each.test_y.zero_()
                    return


class StashesStates(Direct):
    """A rule whose credit contains the states of all blocks, which learn() saw in the same step."""

    laws = Laws()

    def learn(self, states, y, epoch):
        self.seen = [h.mean() for h in states.h]

    def credit(self, states, y, epoch):
        a, seen = self.plain(states), self.__dict__.pop("seen", None)
        total = 0 if seen is None else sum(seen)
        return Credits(audited=[a[site] + total for site in self.net.sites], embed=a[0])


class LetsAutogradThrough(Direct):
    passport = Passport(weight_transport=True, extra_forward_passes=True)
    forward_passes = 2

    def learn(self, states, y, epoch):
        with torch.enable_grad():
            h = states.h[0].clone().requires_grad_()
            torch.autograd.grad(self.net.resume(h, 0).sum(), h)


class ReadsLabels(Direct):
    laws = Laws()

    def credit(self, states, y, epoch):
        a = {
            n: c + F.one_hot(y, self.task.classes).float() @ self.B[n]
            for n, c in self.plain(states).items()
        }
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])


class FitsTheErrorInSetup(Direct):
    """A rule without a fault: feedback fitted in setup to the output error.

    A block may see the output error.
    """

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        with torch.no_grad():
            e = sum(
                net.states(x).detach(y).output_error.square().sum(0) for x, y in tools.batches()
            )
        self.B = {layer: B * (e / e.norm())[:, None] for layer, B in self.B.items()}


class OwnLoss(Direct):
    """A rule that assumes cross-entropy instead of the task's loss."""

    laws = Laws()

    def plain(self, states):
        e = F.softmax(states.logits, 1) - F.one_hot(self.y, self.task.classes)
        return {layer: e @ B for layer, B in self.B.items()}

    def credit(self, states, y, epoch):
        self.y = y
        return super().credit(states, y, epoch)


class ReadsTheHead(Direct):
    laws = Laws()

    def credit(self, states, y, epoch):
        head = next(
            p for p in reversed(list(self.net.readout.parameters())) if p.dim() == 2
        ).detach()
        a = dict.fromkeys(self.B, states.output_error @ head)
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])


class RunsTwice(Direct):
    def learn(self, states, y, epoch):
        with torch.no_grad():
            self.net.resume(states.h[0], 0)


class Miscounts(RunsTwice):
    passport = Passport(extra_forward_passes=True)
    forward_passes = 5


class TrainsItsFeedback(Direct):
    def after_update(self, epoch):
        self.B = {layer: 1.01 * B for layer, B in self.B.items()}


class ReadsOtherStates(Direct):
    laws = Laws()

    def credit(self, states, y, epoch):
        a = {layer: c + states.h[0].flatten(1).mean() for layer, c in self.plain(states).items()}
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])


class HidesItsHeads(MonoForward):
    """A local head's cross-entropy through net.loss; the passport does not declare it."""

    passport = Passport(learned_feedback=True)


class RemembersAudits(Direct):
    """An error centred by a running mean; every call of credit(), even an audit's, moves it."""

    passport = Passport(learned_feedback=True, non_local_state=True)
    laws: ClassVar[Laws] = Laws()

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.mean = torch.zeros(task.classes, device=task.device)

    def plain(self, states):
        self.mean = 0.9 * self.mean + 0.1 * states.output_error.mean(0)
        return {layer: (states.output_error - self.mean) @ B for layer, B in self.B.items()}

    def state_dict(self):
        return {**super().state_dict(), "mean": self.mean}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.mean = state["mean"]


class HasItsOwnOptimiser(Backprop):
    """Plain gradient descent at the learning rate of the recipe."""

    def step(self, x, y, epoch):
        rate = self.tools.updater.optimiser.param_groups[0]["lr"]
        trained = [p for p in self.net.parameters() if p.requires_grad]
        states = self.net.states(x)
        loss = self.net.loss(states.logits, y)
        penalty = self.params.penalty * sum(f.square().sum() / len(x) for f in states.f)
        gradients = torch.autograd.grad(loss + penalty, trained, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(trained, gradients, strict=True):
                p.sub_(0.0 if g is None else rate * g)
        return loss.detach()


class IgnoresThePenalty(Backprop):
    """A rule with full control of its step that ignores `penalty`."""

    def step(self, x, y, epoch):
        loss = self.net.loss(self.net.states(x).logits, y)
        self.tools.updater.descend(loss)
        return loss.detach()


class LearnsFromAudits(Direct):
    passport = Passport(learned_feedback=True)

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.total = torch.zeros((), device=task.device)

    def credit(self, states, y, epoch):
        self.total = self.total + (y * torch.arange(len(y), device=y.device)).sum()
        return super().credit(states, y, epoch)

    def after_update(self, epoch):
        self.push_readout(1e-3 * self.total)

    def state_dict(self):
        return {**super().state_dict(), "total": self.total}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.total = state["total"]


class ForgetsDecay(Direct):
    def after_update(self, epoch):
        self.tools.updater.optimiser.param_groups[0]["weight_decay"] = 0.0


class EnlargesItsSteps(Direct):
    def step(self, x, y, epoch):
        weights = [p for p in self.net.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in weights]
        loss = super().step(x, y, epoch)
        with torch.no_grad():
            for p, old in zip(weights, before, strict=True):
                p.add_(3 * (p - old))
        return loss


class ShrinksMoments(Direct):
    """Enlarges the steps of AdamW by its second moments, where blocks train."""

    def after_update(self, epoch):
        if self.params.freeze is None:
            for moments in self.tools.updater.optimiser.state.values():
                moments["exp_avg_sq"].mul_(0.7)


class SparesItsFloor(Direct):
    """Sends the embedding no credit where no block trains."""

    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        rate = 0.0 if self.params.freeze else 1.0
        return replace(credits, embed=rate * credits.audited[0])


class TrainsOnAudits(Direct):
    """Keeps the samples of an audit, which asks in eval mode, and trains on them too."""

    audited = None

    def credit(self, states, y, epoch):
        if not self.net.training:
            self.audited = states.x, y
        return super().credit(states, y, epoch)

    def step(self, x, y, epoch):
        if self.audited is not None and len(self.audited[0]) >= len(x):
            super().step(*(part[: len(x)] for part in self.audited), epoch)
        return super().step(x, y, epoch)


class KeepsAudits(Direct):
    """Keeps the inputs of every audit, which asks in eval mode, and does nothing with them."""

    def credit(self, states, y, epoch):
        if not self.net.training:
            self.seen = [*getattr(self, "seen", []), states.x.clone()]
        return super().credit(states, y, epoch)


class SkipsABlock(Direct):
    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        blocks = [0 * c if n == 1 else c for n, c in enumerate(credits.audited)]
        return replace(credits, blocks=blocks)


class ChangesItsInputs(Direct):
    def learn(self, states, y, epoch):
        self.x = states.x

    def after_update(self, epoch):
        self.x.mul_(1.01)


class ChangesTheError(Direct):
    def credit(self, states, y, epoch):
        states.output_error.add_(0.1)
        return super().credit(states, y, epoch)


class KeepsBatches(Direct):
    def learn(self, states, y, epoch):
        self.kept = [*getattr(self, "kept", []), states.x]


def globally(change: Any, name: str) -> type[Direct]:
    """Return a rule whose setup changes global state."""

    def setup(self: Any, net: Any, task: Any, tools: Any) -> None:
        Direct.setup(self, net, task, tools)
        change()

    return type(f"Changes{name}", (Direct,), {"setup": setup})


def patch() -> None:
    original = F.cross_entropy
    F.cross_entropy = lambda *a, **k: original(*a, **k)


def flatter() -> None:
    evaluation.evaluate = lambda *a, **k: (1.0, 0.0)


GLOBAL = "global_state_stays_as_it_is"
# These change a weight by other means than the optimiser, too.
PUSHING = (
    DependsOnTheGlobalSeed,
    CountsItsSteps,
    RemembersSeeds,
    MovesAtRateZero,
    PrefersTheFirstUnit,
    LearnsFromAudits,
)
METHODS = [
    (
        WrongShape,
        "credits_have_the_shapes_of_their_states",
        "has shape (16, 4), its state (16, 8) (residual network)",
    ),
    (TooFew, "credits_have_the_shapes_of_their_states", "has 2 tensors for 3 blocks"),
    (
        WrongType,
        "credits_have_the_type_of_their_states",
        "is torch.float64 on cpu, its state torch.float32",
    ),
    (NotFinite, "credits_have_the_type_of_their_states", "is not finite"),
    (
        ForgetsItsFeedback,
        "state_dict_holds_all_that_the_credit_needs",
        "what it needs is not stored",
    ),
    (
        AuditsTheGradient,
        "an_audit_sees_the_credit_that_trains",
        "credits.audited[0] is another one with the network in eval mode",
    ),
    (
        ShowsAnotherCredit,
        "an_audit_sees_the_credit_that_trains",
        "credits.blocks[0] is another one when it is asked again in a step (residual network): Γ",
    ),
    (
        ShowsAnotherCreditInAStep,
        "an_audit_sees_the_credit_that_trains",
        "credits.blocks[0] is another one when it is asked again in a step (residual network): Γ",
    ),
    (WrongLoss, "a_step_returns_the_loss_of_its_forward_pass", "the loss of its forward pass is"),
    (GraphOfTheLoss, "a_step_returns_the_loss_of_its_forward_pass", ".detach()"),
    (ReadsTheLoss, "a_step_does_not_wait_for_the_device", "Tensor.__float__"),
    (ListsTheLabels, "a_step_does_not_wait_for_the_device", "Tensor.tolist"),
    (
        HasItsOwnOptimiser,
        "weights_change_by_the_recipe_alone",
        "`tools.updater` takes no step on it (residual network)",
    ),
    (ThawsFrozenBlocks, "frozen_blocks_stay_as_they_are", "leaves the blocks trained"),
    (
        DependsOnTheGlobalSeed,
        "the_same_seed_gives_the_same_bits",
        "differs between two runs of the same seed",
    ),
    (
        OneDrawForAllSeeds,
        "another_seed_gives_other_draws",
        "(a generator of the rule begins at 1234 in every run): all seeds share these draws",
    ),
    (
        OneDrawOfModules,
        "another_seed_gives_other_draws",
        "(torch's global generator begins at 1234 in every run)",
    ),
    *(
        (
            of_a_constant(name, make),
            "another_seed_gives_other_draws",
            f"(a generator of {name} begins alike in every run)",
        )
        for name, make in CONSTANT.items()
    ),
    (CountsItsSteps, "resumed_equals_straight", "is not in state_dict"),
    (RemembersSeeds, "other_cells_do_not_matter", "in its class or module"),
    (FeedbackOfTheFirstCell, "other_cells_do_not_matter", "and does not now"),
    (
        DrawsFromItsOwnGenerator,
        "an_audit_draws_nothing",
        "computing the credit of DrawsFromItsOwnGenerator in an audit changes the generator gen "
        "of the rule; audits must not change a training",
    ),
    (DrawsInAnAudit, "an_audit_draws_nothing", "in an audit changes tools.generator;"),
    (DrawsFromNumpy, "an_audit_draws_nothing", "changes the credit of the same samples;"),
    (
        ListsItsGenerators,
        "an_audit_draws_nothing",
        "changes the generator gens['noise'][0] of the rule;",
    ),
    (HidesItsGenerator, "an_audit_draws_nothing", "changes a generator of the rule;"),
    (MovesAtRateZero, "no_learning_rate_no_change", "readout"),
    (
        TrainsTheReadoutAlone,
        "some_credit_is_not_zero",
        "samples (plain network): then the rule trains the readout alone",
    ),
    (
        PointsAgainstTheGradient,
        "the_credit_does_not_point_against_the_gradient",
        "in the mean of 16 networks: is its sign right?",
    ),
    (
        OneStateAgainstTheGradient,
        "the_credit_does_not_point_against_the_gradient",
        "the cosine of the credit at h_",
    ),
    (
        OneBlockAgainstTheGradient,
        "the_credit_does_not_point_against_the_gradient",
        "the cosine of the credit of block 0 to the gradient is",
    ),
    (
        TrainsAgainstTheGradient,
        "the_credit_does_not_point_against_the_gradient",
        "the cosine of the credit of the blocks to the gradient is",
    ),
    (PrefersTheFirstUnit, "renamed_hidden_units_rename_their_updates", "blocks.0"),
    (SignOfTheError, "credit_is_linear_in_the_error", "not 3 times the credit"),
    (ClaimsAnExactTop, "the_top_credit_is_exact", "misses"),
    (ClaimsTheGradient, "the_credit_tends_to_the_gradient", "misses the gradient"),
    (Transposed, "with_transposed_feedback_it_is_backpropagation", "misses backpropagation's"),
    (WrongKey, "with_transposed_feedback_it_is_backpropagation", "state_dict has C_0: None"),
    (ClaimsKolenPollack, "forward_weights_and_feedback_meet", "the law says 0.9500"),
    (
        TransportsInTheAudit,
        "the_audited_credit_transports_weights_only_if_declared",
        "Passport(weight_transport=True)",
    ),
    (
        TransportsAtFirst,
        "the_audited_credit_transports_weights_only_if_declared",
        "Passport(weight_transport=True)",
    ),
    (
        ReadsLabelsInSetup,
        "labels_reach_the_blocks_only_if_declared",
        "Passport(labels_below_head=True)",
    ),
    (
        TransportsInTheUpdate,
        "updates_depend_on_weights_above_only_if_declared",
        "Passport(weight_transport=True)",
    ),
    (
        LetsAutogradThrough,
        "autograd_flows_between_blocks_only_if_declared",
        "from block 2 into block 1",
    ),
    (ReadsLabels, "labels_reach_the_blocks_only_if_declared", "Passport(labels_below_head=True)"),
    (OwnLoss, "labels_reach_the_blocks_only_if_declared", "use net.loss"),
    (ReadsTheHead, "the_head_is_read_backward_only_if_declared", "Passport(exact_top_credit=True)"),
    (RunsTwice, "forward_passes_are_counted", "runs 2 batches through a block"),
    (Miscounts, "forward_passes_are_counted", "forward_passes says 5"),
    (TrainsItsFeedback, "feedback_is_learned_only_if_declared", "Passport(learned_feedback=True)"),
    (
        StashesStates,
        "other_blocks_states_are_read_only_if_declared",
        "Passport(non_local_state=True)",
    ),
    (
        ReadsOtherStates,
        "other_blocks_states_are_read_only_if_declared",
        "Passport(non_local_state=True)",
    ),
    (HidesItsHeads, "labels_reach_the_blocks_only_if_declared", "a local head uses them too"),
    (LearnsFromAudits, "audits_teach_nothing", "labels of the test set"),
    (EnlargesItsSteps, "weights_change_by_the_recipe_alone", "beside the steps of `tools.updater`"),
    (ShrinksMoments, "weights_change_by_the_recipe_alone", "or moments of the optimiser, change"),
    (
        SparesItsFloor,
        "a_floor_trains_embedding_and_readout_as_the_rule_does",
        "the first step on embed.1.weight is another one (residual network)",
    ),
    (TrainsOnAudits, "audits_teach_nothing", "called in an audit between the steps"),
    (SkipsABlock, "some_credit_is_not_zero", "the credit of block 1 is zero in the epochs 0 to"),
    (RemembersAudits, "audits_teach_nothing", "let credit() change nothing"),
    (IgnoresThePenalty, "the_penalty_reaches_the_blocks", "penalty: 1.0 changes no block"),
    (WritesDataAtOnce, "data_stay_as_they_are", "test_y is changed in place"),
    (
        ChangesTheError,
        "data_stay_as_they_are",
        "states.output_error is changed in place: change a copy, by",
    ),
    (ChangesItsInputs, "data_stay_as_they_are", "changed in place"),
    (KeepsAudits, "no_batches_are_kept", "it keeps batches"),
    (KeepsBatches, "no_batches_are_kept", "it keeps batches"),
    (globally(lambda: torch.rand(1), "TorchSeed"), GLOBAL, "torch's global generator"),
    (globally(lambda: np.random.rand(), "NumpySeed"), GLOBAL, "numpy's global generator"),
    (globally(random.random, "Random"), GLOBAL, "random's global generator"),
    (globally(lambda: os.chdir("/"), "Folder"), GLOBAL, "working folder"),
    (globally(lambda: os.environ.update(PLANTED="1"), "Environ"), GLOBAL, "environment"),
    (
        globally(lambda: setattr(torch.backends.cudnn, "benchmark", True), "Cudnn"),
        GLOBAL,
        "cudnn.benchmark",
    ),
    (
        globally(lambda: setattr(torch.backends.cudnn, "allow_tf32", False), "Convolutions"),
        GLOBAL,
        "cudnn.allow_tf32",
    ),
    (globally(patch, "CrossEntropy"), GLOBAL, "torch.nn.functional.cross_entropy"),
    (globally(flatter, "Accuracy"), GLOBAL, "bench_core.training.evaluation.evaluate"),
]
if torch.cuda.is_available():
    METHODS.append((StaysOnTheCPU, "runs_on_an_accelerator", "is on cpu"))


# -------------------------------------------------------------------------------------------- archs


class GoodNet(Net):
    """Flatten, a linear embedding, three blocks W·tanh(h), a linear readout."""

    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 8))
        self.blocks = nn.ModuleList(self.block() for _ in range(3))
        self.readout = nn.Linear(8, classes)

    def block(self) -> nn.Module:
        return nn.Sequential(nn.Tanh(), nn.Linear(8, 8))


class TakesNothing(GoodNet):
    def __init__(self, params, shape, classes):
        raise ValueError("only graphs")


class WrongSum(GoodNet):
    def advance(self, h, block):
        h_next, f = super().advance(h, block)
        return h_next + f, f


class LosesAParameter(GoodNet):
    def groups(self):
        found = super().groups()
        return {**found, "readout": found["readout"][:1]}


class WrongResume(GoodNet):
    def resume(self, h, layer):
        return 1.5 * super().resume(h, layer)


class NeverCuts(GoodNet):
    def states(self, x, local=False):
        return super().states(x)


class Centred(nn.Linear):
    def forward(self, h):
        return super().forward(h - h.mean(0))


class MixesSamples(GoodNet):
    def block(self):
        return Centred(8, 8)


class DrawsByItself(GoodNet):
    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        noise = torch.Generator()
        noise.seed()
        with torch.no_grad():
            self.readout.bias.copy_(torch.randn(classes, generator=noise))


class SetsTheSeed(GoodNet):
    """Its blocks are the same for every seed."""

    def block(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().block()


class DrawsNothing(GoodNet):
    """A network without a fault: identities as blocks, a fixed readout, a drawn embedding."""

    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        nn.init.eye_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def block(self):
        made = nn.Sequential(nn.Tanh(), nn.Linear(8, 8))
        nn.init.eye_(made[1].weight)
        nn.init.zeros_(made[1].bias)
        return made


class SetsTheSeedOfABias(GoodNet):
    """Its blocks' biases alone are the same for every seed."""

    def block(self):
        made = super().block()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(3)
            made[1].bias.copy_(torch.randn(8))
        return made


class DrawsBlocksOfOneSeed(GoodNet):
    """Its blocks come from a generator with a constant seed."""

    def block(self):
        made = super().block()
        own = torch.Generator().manual_seed(3)
        with torch.no_grad():
            made[1].weight.copy_(torch.randn(8, 8, generator=own))
        return made


class CountsPasses(GoodNet):
    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        self.register_buffer("passes", torch.zeros(()))

    def states(self, x, local=False):
        self.passes.add_(1)
        return super().states(x, local)


class WithIdleWeights(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Tanh(), nn.Linear(8, 8))
        self.idle = nn.Parameter(torch.randn(3))


class HasIdleWeights(GoodNet):
    def block(self):
        return WithIdleWeights()


class ChangesTheEnvironment(GoodNet):
    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        os.environ["PLANTED"] = "1"


ARCHS = [
    (TakesNothing, "takes_a_built_in_data_set", "ValueError: only graphs"),
    (WrongSum, "states_are_those_of_a_network_in_blocks", "h_1 is not h_l + f_l"),
    (LosesAParameter, "every_parameter_belongs_to_one_group", "readout.bias belongs to none"),
    (WrongResume, "resume_goes_on_from_any_state", "other logits"),
    (NeverCuts, "local_states_are_cut_apart", "carries a graph to embed"),
    (
        MixesSamples,
        "samples_do_not_mix_in_eval_mode",
        "h_1 of a sample depends on the other samples",
    ),
    (DrawsByItself, "the_same_seed_draws_the_same_network", "readout.bias differs"),
    (SetsTheSeed, "the_same_seed_draws_the_same_network", "two seeds draw the same blocks.0."),
    (SetsTheSeedOfABias, "the_same_seed_draws_the_same_network", "the same blocks.0.1.bias"),
    (DrawsBlocksOfOneSeed, "the_same_seed_draws_the_same_network", "same blocks.0.1.weight"),
    (CountsPasses, "a_pass_gives_the_same_bits_again", "changes passes"),
    (HasIdleWeights, "blocks_take_part", "idle has no part in the loss"),
    (ChangesTheEnvironment, "building_changes_no_global_state", "environment"),
]


# ---------------------------------------------------------------------------------------- data sets


class GoodDataset(Dataset):
    """Gaussian inputs in three classes, drawn from the data set's own seed."""

    shape = (6,)
    classes = 3

    def prepare(self, folder):
        return "generated"

    def parts(self) -> dict[str, Tensor]:
        draws = torch.Generator().manual_seed(5)
        x = torch.randn(90, 6, generator=draws)
        y = torch.arange(90) % 3
        return {"train_x": x[:60], "train_y": y[:60], "test_x": x[60:], "test_y": y[60:]}

    def load(self, folder):
        return Data(**self.parts(), classes=3)


class WrongInputs(GoodDataset):
    shape = (7,)


class DoubleInputs(GoodDataset):
    def parts(self):
        return {**super().parts(), "test_x": super().parts()["test_x"].double()}


class AClassIsMissing(GoodDataset):
    def parts(self):
        return {**super().parts(), "test_y": torch.zeros(30, dtype=torch.int64)}


class NeverTheSame(GoodDataset):
    def parts(self):
        noise = torch.Generator()
        noise.seed()
        return {**super().parts(), "train_x": torch.randn(60, 6, generator=noise)}


class Leaks(GoodDataset):
    def parts(self):
        found = super().parts()
        found["test_x"][:2] = found["train_x"][:2]
        return found


class DrawsGlobally(GoodDataset):
    def prepare(self, folder):
        np.random.rand()
        return super().prepare(folder)


class LongExcuse(GoodDataset):
    def prepare(self, folder: Path | None) -> str:
        if folder is not None and folder.is_file():
            raise DataError("missing\nsorry")
        return super().prepare(folder)


class ConstantChecksum(GoodDataset):
    def parts(self):
        return {**super().parts(), "train_x": torch.tensor(self.read).view(60, 6)}

    def load(self, folder):
        self.read = [float(line) for line in (folder / "numbers.txt").open()]
        return super().load(folder)


class DigestOfFiles(ConstantChecksum):
    def prepare(self, folder):
        if not (folder / "numbers.txt").is_file():
            raise DataError("numbers.txt is missing")
        return hashlib.sha256((folder / "numbers.txt").read_bytes()).hexdigest()


DATASETS = [
    (ConstantChecksum, "the_checksum_is_that_of_the_files", "a byte of numbers.txt changed"),
    (WrongInputs, "shape_and_classes_are_known_before_loading", "(6,); the data set says (7,)"),
    (DoubleInputs, "tensors_are_ready_for_the_loop", "test_x is torch.float64"),
    (AClassIsMissing, "labels_are_classes", "test_y has the classes [0]"),
    (NeverTheSame, "loading_again_gives_the_same_bits", "train_x differs"),
    (Leaks, "test_inputs_are_not_in_the_training_set", "2 of 30 test inputs"),
    (DrawsGlobally, "loading_changes_no_global_state", "numpy's global generator"),
    (LongExcuse, "missing_files_are_one_line", "several lines"),
]


# -------------------------------------------------------------------------------------- diagnostics


class GoodDiagnostic(Diagnostic):
    """The largest weight of the head; fires above 100."""

    direction, threshold = "above", 100.0

    def measure(self, audit):
        values = torch.cat([p.detach().abs().flatten() for p in audit.net.readout.parameters()])
        return Measured(float(values.max()))

    def controls(self):
        def explode(audit: Any) -> None:
            with torch.no_grad():
                next(audit.net.readout.parameters()).mul_(1e4)

        return [
            Control(
                "head × 1e4", explode, lambda found: found.value is not None and found.value > 100
            ),
            Control(
                "random init",
                lambda audit: None,
                lambda found: found.value is not None and found.value <= 100,
            ),
        ]


class NoControls(GoodDiagnostic):
    direction = None

    def controls(self):
        return []


class OneControl(GoodDiagnostic):
    direction = None

    def controls(self):
        return super().controls()[:1]


class WrongAnswer(GoodDiagnostic):
    def controls(self):
        explode, calm = super().controls()
        return [explode, Control("calm", calm.change, lambda found: found.value == 123.0)]


class AcceptsAnything(GoodDiagnostic):
    def controls(self):
        explode, calm = super().controls()
        return [explode, Control("calm", calm.change, lambda found: True)]


class NeverFires(GoodDiagnostic):
    threshold = 1e9


class TakesALetter(GoodDiagnostic):
    letter = "a"


class CrashesOnNaN(GoodDiagnostic):
    def measure(self, audit):
        if any(bool(p.isnan().any()) for p in audit.net.parameters()):
            raise ValueError("not a number")
        return super().measure(audit)


class DependsOnTheSeed(GoodDiagnostic):
    def measure(self, audit):
        found = super().measure(audit)
        return Measured(found.value + 1e-3 * (torch.initial_seed() % 2))


class ReadsAClock(DependsOnTheSeed):
    repeatable, direction = False, None


class MeasuresTime(Diagnostic):
    """A time: it never fires, and no situation has a known answer."""

    repeatable = False

    def measure(self, audit):
        return Measured(time.perf_counter())


class DecidesByAClock(ReadsAClock):
    direction = "above"


class TouchesTheNetwork(GoodDiagnostic):
    def measure(self, audit):
        found = super().measure(audit)
        with torch.no_grad():
            next(audit.net.embed.parameters()).mul_(1.01)
        return found


class LeavesTrainMode(GoodDiagnostic):
    def measure(self, audit):
        audit.net.train(not audit.net.training)
        return super().measure(audit)


DIAGNOSTICS = [
    (NoControls, "it_has_controls", "controls() returns 0"),
    (OneControl, "it_has_controls", "controls() returns 1"),
    (WrongAnswer, "its_controls_behave", "control 'calm': measured"),
    (AcceptsAnything, "its_controls_can_fail", "accepts whatever is measured"),
    (NeverFires, "a_rule_that_fires_fires_on_its_controls", "never fire"),
    (DecidesByAClock, "what_decides_a_verdict_is_repeatable", "leave one out"),
    (TakesALetter, "its_letter_is_free", "the letter a belongs to scale_growth"),
    (CrashesOnNaN, "what_it_measures_can_be_stored", "ValueError: not a number"),
    (DependsOnTheSeed, "measuring_again_gives_the_same", "differ"),
    (TouchesTheNetwork, "measuring_leaves_what_it_measures", "changes net.embed"),
    (LeavesTrainMode, "measuring_leaves_what_it_measures", "another mode"),
]
