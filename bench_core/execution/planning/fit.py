"""Find out whether a method can train a network on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from bench_core.execution.planning.examination import Refusal
from bench_core.printable import brief
from bench_core.registry.distributions import our_packages
from bench_core.registry.faults import located

if TYPE_CHECKING:
    from torch import Tensor

    from bench_core.training.net import Net


SCALE = 10.0  # with which blocks are tried


def refusal(method: Any, arch: Any, dataset: Any, scaled: bool = False) -> Refusal | None:
    """Say why a method cannot train a network on this data, and which of them is the cause.

    None: it can, or a part of the trio is already known to be broken. The network is built on the
    meta device. Code may fail there because tensors have no values, so a refusal counts only if the
    real network is refused too.

    scaled  the suite adds floors whose blocks are scaled
    """
    if method is None or arch is None or dataset is None:
        return None
    found = None
    rescaled = scaled or method[1].block_scale != 1.0  # what a scale does is seen in values
    for device in ("cpu",) if rescaled else ("meta", "cpu"):
        found = _refusal_on(device, method, arch, dataset, scaled)
        if found is None:
            break
    return found


def _refusal_on(device: str, method: Any, arch: Any, dataset: Any, scaled: bool) -> Refusal | None:
    """Build the network on a device; return the answer of `refusal` for it."""
    import torch

    from bench_core.training.loss import CROSS_ENTROPY, SQUARED_ERROR

    (rule, rule_params), (net_class, net_params), (data_class, data_params) = method, arch, dataset
    reason: Any = None
    try:
        data = data_class(data_params)
        with torch.device(device), _without_draws() if device == "meta" else nullcontext():
            net = net_class(net_params, data.shape, data.classes)
            net.loss = SQUARED_ERROR if data.regression else CROSS_ENTROPY
        if len(net.blocks) == 0:
            reason = "it has no blocks: there is nothing for a learning rule to train"
        elif not any(True for block in net.blocks for _ in block.parameters()):
            reason = "its blocks have no parameters: there is nothing for a learning rule to train"
        elif name := net.shared_parameter():
            reason = (
                f"{name} belongs to two of embed, blocks and readout: it would be trained twice"
            )
        elif net_class.__module__.partition(".")[0] not in our_packages():
            # the first pass on the meta device loads torch's decompositions, half a second
            reason = misshapen(net, torch.zeros(2, *data.shape, device=device)) or None
    except ValueError as error:  # an architecture refuses inputs of this shape
        reason = brief(error).partition(": ")[2]
    except (Exception, SystemExit) as error:
        reason = f"it cannot be built for inputs of shape {data_class.shape}: {located(error)}"
    if reason is not None:
        return {"at": "arch", "why": reason}
    if data.regression and getattr(rule_params, "random_targets", False):
        reason = "random_targets draws classes, and this data set has none"
    elif (rule_params.train_last or 0) > net.depth:
        last, depth = rule_params.train_last, net.depth
        reason = f"train_last: {last} asks for more blocks than the {depth} that there are"
    elif (scaled or rule_params.block_scale != 1.0) and (fault := unscalable(net, data.shape)):
        rest = "; without `floor_scales` it can" * (rule_params.block_scale == 1.0)
        reason = f"block_scale: {fault}{rest}"
    else:
        try:
            reason = rule(rule_params).unsupported(net)
        except (Exception, SystemExit) as error:
            reason = f"it cannot say whether it supports this network: {located(error)}"
        if reason is not None and not isinstance(reason, str):
            shown = brief(TypeError(reason)).partition(": ")[2]
            reason = f"unsupported() returned {shown}, not the reason as a text, or None"
    return None if reason is None else {"at": "method", "why": reason}


def unscalable(net: Net, shape: tuple[int, ...]) -> str:
    """Say why the blocks cannot be scaled; "" if they can. It scales them.

    In training, the output of each block for given inputs must grow by a quarter of the scale: not
    behind a norm, or before a gain of 0.
    """
    import torch

    x, outputs, states = torch.randn(8, *shape), [], []
    draws = torch.get_rng_state()

    def output(number: int, h: Tensor) -> Tensor:
        torch.set_rng_state(draws)  # of dropout
        size: Tensor = net.blocks[number](h).double().norm()
        return size

    with torch.random.fork_rng([]), torch.no_grad():
        try:
            h = net.embed(x)
            for number in range(net.depth):
                states.append(h)
                outputs.append(output(number, h))
                h, _ = net.advance(h, number)
        except Exception:  # the network asks for other inputs
            states = []
        try:
            net.scale_blocks(SCALE)
        except ValueError as error:
            return str(error)
        for number, h in enumerate(states):
            if not bool(output(number, h) >= SCALE / 4 * outputs[number]) or not outputs[number]:
                return (
                    f"block {number} does not give a larger output with larger weights, as behind "
                    "a norm or before a gain of 0"
                )
    return ""


def misshapen(net: Net, x: Tensor) -> str:
    """Name the block by which a residual stream changes its shape; "" if none is found.

    x  two inputs
    """
    import torch

    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            h = net.embed(x)
            for number, block in enumerate(net.blocks if net.residual else ()):
                f = block(h)
                if f.shape != h.shape:
                    made, had = (tuple(each.shape[1:]) for each in (f, h))
                    return (
                        f"block {number} makes {made} of a state of shape {had}, and residual "
                        "states keep their shape: set `residual = False` on the network, and add "
                        "the skip inside the block"
                    )
                h = h + f
    except Exception:  # the network asks for other inputs, or for values
        return ""
    finally:
        net.train(training)
    return ""


@contextmanager
def _without_draws() -> Iterator[None]:
    """Skip `normal_` and `uniform_` on the meta device, where tensors have no values.

    Drawing would load torch's compiler, which takes longer than the rest of a plan.
    """
    import torch

    for name in ("normal_", "uniform_"):
        setattr(torch.Tensor, name, lambda self, *arguments, **options: self)
    try:
        yield
    finally:
        for name in ("normal_", "uniform_"):
            delattr(torch.Tensor, name)
