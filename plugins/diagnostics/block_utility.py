"""Block utility: how much accuracy is lost without one block, or with its initial weights?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.net import in_eval


class BlockUtility(Diagnostic):
    """Accuracy on the probe that is lost, in percentage points, for each block l:

        initial   block l has the weights and buffers from before training
        skipped   its branch is left out, h_{l+1} = h_l (residual networks alone)

    with all other blocks as trained, from the cached h_l on. A negative number: the network is
    better without what the block learned. value = the mean of `initial` over the blocks; an
    untrained network gives 0. Health statistics of single layers can improve many times over while
    accuracy hardly moves (arXiv:2605.06240), and d compares all blocks at once; this figure is per
    block and functional. The definition is ours.
    """

    unit = "pp"
    title, heading = "accuracy lost by a block's initial weights", "block"

    @torch.no_grad()
    def measure(self, audit: Audit) -> Measured:
        if audit.initial is None:
            return Measured(None, not_diagnostic="the weights before training are not known")
        net, batches = audit.net, audit.batches
        y = torch.cat([batch.y for batch in batches])

        def lost(above: Callable[[Tensor], Tensor], block: int) -> float:
            h = (above(batch.states.h[block]) for batch in batches)
            logits = torch.cat([net.resume(each, block + 1) for each in h])
            return 100 * (audit.accuracy - net.loss.score(logits, y))

        initial, skipped = [], []
        with in_eval(net):
            for block in range(net.depth):
                before = _own(audit.initial, f"blocks.{block}.")

                def reset(
                    h: Tensor, block: int = block, before: Mapping[str, Tensor] = before
                ) -> Tensor:
                    f: Tensor = functional_call(net.blocks[block], dict(before), (h,))
                    return h + f if net.residual else f

                initial.append(lost(reset, block))
                if net.residual:
                    skipped.append(lost(lambda h: h, block))
        details = {"initial": initial, "skipped": skipped, "n": len(y)}
        return Measured(sum(initial) / len(initial), details)

    def controls(self) -> list[Control]:
        def learned(audit: Audit) -> None:
            """Labels as the network gives them, and other weights before: each block is needed."""
            with torch.no_grad():
                for block in audit.net.blocks:
                    for parameter in block.parameters():
                        if parameter.dim() > 1:
                            parameter.mul_(30)
            audit.initial = {
                name: torch.zeros_like(value) for name, value in audit.net.state_dict().items()
            }
            with torch.no_grad(), in_eval(audit.net):
                logits = [audit.net.states(x).logits for x, _ in audit.data.test_batches(1000)]
            audit.data = replace(audit.data, test_y=torch.cat(logits).argmax(1))

        def remember(audit: Audit) -> None:
            audit.initial = {k: v.detach().clone() for k, v in audit.net.state_dict().items()}

        def needed(found: Measured) -> bool:
            return found.value is not None and min(found.details["initial"]) > 1

        def nothing(found: Measured) -> bool:
            return found.value == 0

        return [
            Control("a network that needs every block", learned, needed),
            Control("nothing was learned", remember, nothing),
        ]


def _own(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries of a module's state, by the module's own names."""
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
