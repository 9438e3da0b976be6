"""Checks of architectures: the properties that the core and every rule rely on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

import torch
from torch import Tensor

from bench_core.execution.planning.fit import misshapen
from bench_core.execution.worker.global_state import TORCH_DRAWS
from bench_core.printable import brief
from bench_core.testing.comparing import copies, differs, distance, must_equal, must_preserve
from bench_core.testing.global_state import preserved
from bench_core.testing.kit import Failed, Skipped, check
from bench_core.testing.subjects import Subject
from bench_core.training.net import Net

SHAPES: tuple[tuple[int, ...], ...] = ((3, 32, 32), (1, 8, 8), (128,))  # of the built-in data sets
CLASSES, BATCH = 5, 4


def built(subject: Subject, shape: tuple[int, ...], seed: int = 0, device: str = "cpu") -> Net:
    """Build the network for inputs of this shape, as a worker does."""
    torch.manual_seed(seed)
    with torch.device(device):
        net: Net = subject.instance(shape, CLASSES)
    return net


SCATTERED = 8  # values, from which a tensor can look drawn


@cache
def misfits(subject: Subject) -> dict[tuple[int, ...], str]:
    """Map the built-in data sets' input shapes to the reason why one does not fit, or ""."""
    reasons = dict.fromkeys(SHAPES, "")
    for shape in SHAPES:
        for device in ("meta", "cpu"):  # code that asks for values fails on the meta device alone
            x = torch.zeros(2, *shape, device=device)
            try:
                net = built(subject, shape, device=device)
                if not (reason := misshapen(net, x)):
                    net.states(x)
            except Exception as error:
                reason = brief(error)
            reasons[shape] = reason
            if not reason:
                break
    return reasons


def shapes(subject: Subject) -> list[tuple[int, ...]]:
    """Return the input shapes that fit it. Raises Skipped if none does."""
    fitting = [shape for shape, reason in misfits(subject).items() if not reason]
    if not fitting:
        raise Skipped("it takes no built-in data set's inputs")
    return fitting


def batches(subject: Subject) -> Iterator[tuple[Net, Tensor, Tensor]]:
    """Yield a network in eval mode, inputs and labels for every shape that fits."""
    for shape in shapes(subject):
        draws = torch.Generator().manual_seed(1)
        x = torch.randn(BATCH, *shape, generator=draws)
        yield built(subject, shape).eval(), x, torch.arange(BATCH) % CLASSES


def trained(net: Net) -> dict[str, Tensor]:
    """Return the parameters that are trained."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


def gradients(end: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Return the gradient of a scalar for every parameter; None for one without a part in it."""
    inputs = list(parameters.values())
    values = torch.autograd.grad(end, inputs, allow_unused=True, retain_graph=True)
    return dict(zip(parameters, values, strict=True))


@check("arch", "contract")
def takes_a_built_in_data_set(subject: Subject) -> None:
    """It takes the inputs of a built-in data set."""
    reasons = misfits(subject)
    if all(reasons.values()):
        listed = "; ".join(f"{shape}: {reason}" for shape, reason in reasons.items())
        raise Failed(f"no built-in data set's inputs pass through it: {listed}")


@check("arch", "contract")
def states_are_those_of_a_network_in_blocks(subject: Subject) -> None:
    """L+1 states and L branches, h_{l+1} = h_l + f_l (or f_l), one row per sample, logits (N,
    classes)."""
    for net, x, _ in batches(subject):
        with torch.no_grad():
            states = net.states(x)
        if len(net.blocks) == 0:
            raise Failed("it has no blocks: there is nothing for a learning rule to train")
        if (len(states.h), len(states.f)) != (net.depth + 1, net.depth):
            raise Failed(
                f"{len(states.h)} states and {len(states.f)} branches for {net.depth} blocks"
            )
        shape = tuple(states.logits.shape)
        if shape != (BATCH, CLASSES):
            raise Failed(f"the logits have shape {shape}, not {(BATCH, CLASSES)}")
        for layer, h in enumerate(states.h):
            if len(h) != BATCH:
                raise Failed(f"h_{layer} has {len(h)} rows for {BATCH} samples")
        rule = "h_l + f_l" if net.residual else "f_l"
        for layer, f in enumerate(states.f):
            h, after = states.h[layer : layer + 2]
            expected = h + f if net.residual else f
            if f.shape != after.shape or distance(after, expected) > 1e-5:
                raise Failed(f"h_{layer + 1} is not {rule} with l = {layer}")
        if not all(bool(h.isfinite().all()) for h in states.h):
            raise Failed("a state of the untrained network is not finite")


@check("arch", "contract")
def every_parameter_belongs_to_one_group(subject: Subject) -> None:
    """Embedding, blocks and readout together have every parameter once, so that each is clipped
    and trained once."""
    for shape in shapes(subject):
        net = built(subject, shape)
        if shared := net.shared_parameter():
            raise Failed(f"{shared} belongs to two of embed, blocks and readout")
        grouped = {id(p) for group in net.groups().values() for p in group}
        for name, parameter in trained(net).items():
            if id(parameter) not in grouped:
                raise Failed(
                    f"{name} belongs to none of embed, blocks and readout: no rule would train it"
                )


@check("arch", "contract")
def resume_goes_on_from_any_state(subject: Subject) -> None:
    """resume(h_l, l) gives the logits of the whole pass, for every l."""
    for net, x, _ in batches(subject):
        with torch.no_grad():
            states = net.states(x)
            for layer, h in enumerate(states.h):
                if distance(net.resume(h, layer), states.logits) > 1e-4:
                    call = f"resume(h_{layer}, {layer})"
                    raise Failed(f"{call} gives other logits than the whole pass")


@check("arch", "contract")
def local_states_are_cut_apart(subject: Subject) -> None:
    """With local=True the numbers are the same, and a block's branch carries a graph to that
    block alone."""
    for net, x, y in batches(subject):
        plain, states = net.states(x), net.states(x, local=True)
        for a, b in zip((*plain.f, plain.logits), (*states.f, states.logits), strict=True):
            if distance(b, a) > 1e-5:
                raise Failed("states(x, local=True) gives other numbers than states(x)")
        parameters = trained(net)
        ends = {f"f_{n}": (f.square().sum(), f"blocks.{n}.") for n, f in enumerate(states.f)}
        ends["the loss"] = (net.loss(states.logits, y), "readout.")
        for output, (end, home) in ends.items():
            if not end.requires_grad:
                continue
            for name, gradient in gradients(end, parameters).items():
                if gradient is not None and not name.startswith(home):
                    raise Failed(f"with local=True {output} carries a graph to {name}")


@check("arch", "contract")
def samples_do_not_mix_in_eval_mode(subject: Subject) -> None:
    """In eval mode, as audits run it, a sample's states do not depend on the other samples of
    the batch."""
    for net, x, _ in batches(subject):
        with torch.no_grad():
            together, alone = net.states(x), net.states(x[:1])
        for layer, (a, b) in enumerate(zip(together.h, alone.h, strict=True)):
            if distance(a[:1], b) > 1e-4:
                raise Failed(f"h_{layer} of a sample depends on the other samples of its batch")


@check("arch", "determinism")
def the_same_seed_draws_the_same_network(subject: Subject) -> None:
    """torch.manual_seed decides every initial weight and buffer, and the network sets no seed
    itself: a weight that is equal under two seeds is constant, or follows a simple pattern."""
    for shape in shapes(subject):
        one, again, other = (built(subject, shape, seed).state_dict() for seed in (0, 0, 1))
        must_equal(one, again, "{} differs between two networks of the same seed")
        trained = dict(built(subject, shape).named_parameters())
        alike = [name for name in one if not differs({name: one[name]}, {name: other[name]})]
        moved = reseeded(subject, shape).state_dict() if alike else other
        for name in alike:
            own = differs({name: other[name]}, {name: moved[name]}) or scattered(one[name])
            if own and name in trained:
                raise Failed(
                    f"two seeds draw the same {name}: the network sets a seed itself; keep a fixed "
                    "pattern in a buffer"
                )
        if len(alike) == len(one):
            raise Failed("two seeds draw the same network")


def scattered(value: Tensor) -> bool:
    """Decide whether the values of a tensor look drawn: most differ, as in no simple pattern."""
    different = len(set(value.flatten().tolist()))
    return value.numel() >= SCATTERED and different > value.numel() / 2


def reseeded(subject: Subject, shape: tuple[int, ...]) -> Net:
    """Build the network of seed 1 while each call of torch.manual_seed in it sets another seed."""
    seed = torch.manual_seed

    def another(number: int) -> torch.Generator:
        return seed(int(number) + 1)

    seed(1)
    with (
        patch.object(torch, "manual_seed", another),
        patch.object(torch.random, "manual_seed", another),
    ):
        net: Net = subject.instance(shape, CLASSES)
    return net


@check("arch", "determinism")
def a_pass_gives_the_same_bits_again(subject: Subject) -> None:
    """In eval mode a forward pass draws nothing and changes nothing."""
    for net, x, _ in batches(subject):
        before = copies(net.state_dict())
        with torch.no_grad():
            one, other = net.states(x), net.states(x)
        if not torch.equal(one.logits, other.logits):
            raise Failed("two passes of the same inputs in eval mode give other logits")
        must_equal(before, net.state_dict(), "a pass in eval mode changes {}")


@check("arch", "mathematics")
def blocks_take_part(subject: Subject) -> None:
    """The loss has a gradient with respect to every parameter that is trained, and it is finite."""
    for net, x, y in batches(subject):
        loss = net.loss(net.states(x).logits, y)
        for name, gradient in gradients(loss, trained(net)).items():
            if gradient is None:
                raise Failed(f"{name} has no part in the loss")
            if not bool(gradient.isfinite().all()):
                raise Failed(f"the gradient of {name} is not finite")


@check("arch", "honesty")
def building_changes_no_global_state(subject: Subject) -> None:
    """Building and running a network changes no global state but torch's generator."""
    with preserved() as changes:
        for shape in shapes(subject):
            x = torch.randn(BATCH, *shape)
            kept = x.clone()
            built(subject, shape).states(x)
            if not torch.equal(x, kept):
                raise Failed("a forward pass changes its inputs in place")
    must_preserve(changes, "building and running it", but=TORCH_DRAWS)
