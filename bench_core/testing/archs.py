"""Checks of architectures: the properties that the core and every rule rely on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench_core.testing.global_state import preserved
from bench_core.testing.kit import check
from bench_core.testing.outcomes import Failed, Skipped
from bench_core.testing.subjects import ArchSubject, distance, equal
from bench_core.training.net import Net

SHAPES = ((3, 32, 32), (1, 8, 8), (128,))  # of the built-in data sets
CLASSES, BATCH = 5, 4


def built(subject: ArchSubject, shape: tuple[int, ...], seed: int = 0, device: str = "cpu") -> Net:
    """The network for inputs of this shape, as a worker builds it."""
    torch.manual_seed(seed)
    with torch.device(device):
        return subject.target(subject.target.Params.model_validate(subject.options), shape, CLASSES)


def tried(subject: ArchSubject) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return the built-in data sets' input shapes that fit it, and reasons for the others."""
    fitting: list[tuple[int, ...]] = []
    reasons = []
    for shape in SHAPES:
        try:
            built(subject, shape, device="meta").states(torch.zeros(2, *shape, device="meta"))
            fitting.append(shape)
        except Exception as error:
            reasons.append(f"{shape}: {type(error).__name__}: {' '.join(str(error).split())[:80]}")
    return fitting, reasons


def shapes(subject: ArchSubject) -> list[tuple[int, ...]]:
    """Return the input shapes that fit it. Raises Skipped if none does."""
    fitting, _ = tried(subject)
    if not fitting:
        raise Skipped("it takes no built-in data set's inputs")
    return fitting


def batches(subject: ArchSubject) -> Iterator[tuple[Net, Tensor, Tensor]]:
    """Yield a network in eval mode, inputs and labels for every shape that fits."""
    for shape in shapes(subject):
        draws = torch.Generator().manual_seed(1)
        x = torch.randn(BATCH, *shape, generator=draws)
        yield built(subject, shape).eval(), x, torch.arange(BATCH) % CLASSES


def trained(net: Net) -> dict[str, Tensor]:
    """The parameters that are trained."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


@check("arch", "contract")
def takes_a_built_in_data_set(subject: ArchSubject) -> None:
    """Built on the meta device, it takes the inputs of a built-in data set."""
    fitting, reasons = tried(subject)
    if not fitting:
        raise Failed(f"no built-in data set's inputs pass through it: {'; '.join(reasons)}")


@check("arch", "contract")
def states_are_those_of_a_network_in_blocks(subject: ArchSubject) -> None:
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
        if tuple(states.logits.shape) != (BATCH, CLASSES):
            raise Failed(
                f"the logits have shape {tuple(states.logits.shape)}, not {(BATCH, CLASSES)}"
            )
        for layer, h in enumerate(states.h):
            if len(h) != BATCH:
                raise Failed(f"h_{layer} has {len(h)} rows for {BATCH} samples")
        for layer, f in enumerate(states.f):
            expected = states.h[layer] + f if net.residual else f
            if (
                f.shape != states.h[layer + 1].shape
                or distance(states.h[layer + 1], expected) > 1e-5
            ):
                raise Failed(
                    f"h_{layer + 1} is not {'h_l + f_l' if net.residual else 'f_l'} with l = "
                    f"{layer}"
                )
        if not all(bool(h.isfinite().all()) for h in states.h):
            raise Failed("a state of the untrained network is not finite")


@check("arch", "contract")
def every_parameter_belongs_to_one_group(subject: ArchSubject) -> None:
    """Embedding, blocks and readout together have every parameter once, so that each is clipped
    and trained once."""
    for shape in shapes(subject):
        net = built(subject, shape)
        grouped = [id(p) for group in net.groups().values() for p in group]
        if len(grouped) != len(set(grouped)):
            raise Failed("a parameter belongs to two of embed, blocks and readout")
        lost = [
            name
            for name, p in net.named_parameters()
            if p.requires_grad and id(p) not in set(grouped)
        ]
        if lost:
            raise Failed(
                f"{lost[0]} belongs to none of embed, blocks and readout: no rule would train it"
            )


@check("arch", "contract")
def resume_goes_on_from_any_state(subject: ArchSubject) -> None:
    """resume(h_l, l) gives the logits of the whole pass, for every l."""
    for net, x, _ in batches(subject):
        with torch.no_grad():
            states = net.states(x)
            for layer, h in enumerate(states.h):
                if distance(net.resume(h, layer), states.logits) > 1e-4:
                    raise Failed(
                        f"resume(h_{layer}, {layer}) gives other logits than the whole pass"
                    )


@check("arch", "contract")
def local_states_are_cut_apart(subject: ArchSubject) -> None:
    """With local=True the numbers are the same, and a block's branch carries a graph to that
    block alone."""
    for net, x, y in batches(subject):
        plain, states = net.states(x), net.states(x, local=True)
        for a, b in zip((*plain.f, plain.logits), (*states.f, states.logits), strict=True):
            if distance(b, a) > 1e-5:
                raise Failed("states(x, local=True) gives other numbers than states(x)")
        ends = {
            f"f_{layer}": (f.square().sum(), f"blocks.{layer}.") for layer, f in enumerate(states.f)
        }
        ends["the loss"] = (net.loss(states.logits, y), "readout.")
        for output, (end, home) in ends.items():
            if not end.requires_grad:
                continue
            found = torch.autograd.grad(
                end, list(trained(net).values()), allow_unused=True, retain_graph=True
            )
            for name, gradient in zip(trained(net), found, strict=True):
                if gradient is not None and not name.startswith(home):
                    raise Failed(f"with local=True {output} carries a graph to {name}")


@check("arch", "contract")
def samples_do_not_mix_in_eval_mode(subject: ArchSubject) -> None:
    """In eval mode, as audits run it, a sample's states do not depend on the other samples of
    the batch."""
    for net, x, _ in batches(subject):
        with torch.no_grad():
            together, alone = net.states(x), net.states(x[:1])
        for layer, (a, b) in enumerate(zip(together.h, alone.h, strict=True)):
            if distance(a[:1], b) > 1e-4:
                raise Failed(f"h_{layer} of a sample depends on the other samples of its batch")


@check("arch", "determinism")
def the_same_seed_draws_the_same_network(subject: ArchSubject) -> None:
    """torch.manual_seed decides every initial weight and buffer; another seed draws others."""
    for shape in shapes(subject):
        if name := equal(built(subject, shape).state_dict(), built(subject, shape).state_dict()):
            raise Failed(f"{name} differs between two networks of the same seed")
        if (
            equal(built(subject, shape).state_dict(), built(subject, shape, seed=1).state_dict())
            is None
        ):
            raise Failed("two seeds draw the same network")


@check("arch", "determinism")
def a_pass_gives_the_same_bits_again(subject: ArchSubject) -> None:
    """In eval mode a forward pass draws nothing and changes nothing."""
    for net, x, _ in batches(subject):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with torch.no_grad():
            one, other = net.states(x), net.states(x)
        if not torch.equal(one.logits, other.logits):
            raise Failed("two passes of the same inputs in eval mode give other logits")
        if name := equal(before, net.state_dict()):
            raise Failed(f"a pass in eval mode changes {name}")


@check("arch", "mathematics")
def blocks_take_part(subject: ArchSubject) -> None:
    """The loss has a gradient with respect to every parameter that is trained, and it is finite."""
    for net, x, y in batches(subject):
        loss = net.loss(net.states(x).logits, y)
        found = torch.autograd.grad(loss, list(trained(net).values()), allow_unused=True)
        for name, gradient in zip(trained(net), found, strict=True):
            if gradient is None:
                raise Failed(f"{name} has no part in the loss")
            if not bool(gradient.isfinite().all()):
                raise Failed(f"the gradient of {name} is not finite")


@check("arch", "honesty")
def building_changes_no_global_state(subject: ArchSubject) -> None:
    """Building and running a network changes no global state but torch's generator."""
    with preserved() as changed:
        for shape in shapes(subject):
            x = torch.randn(BATCH, *shape)
            kept = x.clone()
            built(subject, shape).states(x)
            if not torch.equal(x, kept):
                raise Failed("a forward pass changes its inputs in place")
    names = [name for name in changed.names if name != "torch's global generator"]
    if names:
        raise Failed(f"building and running it changes global state: {', '.join(names[:3])}")
