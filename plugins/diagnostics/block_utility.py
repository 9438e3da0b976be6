"""Block utility: how much accuracy is lost without one block, or with its initial weights?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.net import in_eval
from bench_core.training.probe import ProbeBatch


class BlockUtility(Diagnostic):
    """Accuracy on the probe that is lost, in percentage points, for each block l:

        initial   block l has the weights and buffers from before training
        skipped   its branch is left out, h_{l+1} = h_l (residual networks alone)

    with all other blocks as trained, from the cached h_l on. A negative number: the network is
    better without what the block learned. value = the mean of `initial` over the blocks; an
    untrained network gives 0. Health statistics of single layers can improve many times over while
    accuracy hardly moves (arXiv:2605.06240), and d compares all blocks at once; this figure is per
    block and functional. The definition is ours.

    Not diagnostic where training has moved buffers of a block, such as the statistics of BatchNorm:
    neither they nor the initial ones fit the initial weights, so that even a block whose weights
    never moved seems to be needed. `reset_accuracy` of a run measures them anew.
    """

    unit = "pp"
    title, heading = "accuracy lost by a block's initial weights", "block"

    @torch.no_grad()
    def per_batch(self, audit: Audit, batch: ProbeBatch) -> tuple[list[Tensor], list[Tensor]]:
        """The logits with each block's initial weights, and without each block."""
        net, initial, skipped = audit.net, [], []
        with in_eval(net):
            for block in range(net.depth if audit.initial else 0):
                h = batch.states.h[block]
                before = _own(audit.initial or {}, f"blocks.{block}.")
                f: Tensor = functional_call(net.blocks[block], before, (h,))
                initial.append(net.resume(h + f if net.residual else f, block + 1))
                if net.residual:
                    skipped.append(net.resume(h, block + 1))
        return initial, skipped

    def measure(self, audit: Audit) -> Measured:
        if audit.initial is None:
            return Measured(None, not_diagnostic="the weights before training are not known")
        y = torch.cat([batch.y for batch in audit.summaries])

        def lost(logits: Sequence[Tensor]) -> float:
            return 100 * (audit.accuracy - audit.net.loss.score(torch.cat(logits), y))

        initial, skipped = (
            [lost(logits) for logits in zip(*columns, strict=True)]
            for columns in zip(*audit.figures(self), strict=True)
        )
        details = {"initial": initial, "skipped": skipped, "n": len(y)}
        moved = [
            name
            for name, value in audit.net.named_buffers()
            if name.startswith("blocks.") and not torch.equal(value, audit.initial.get(name, value))
        ]
        why = f"training has moved {moved[0]}, which fits no initial weights" if moved else None
        return Measured(sum(initial) / len(initial), details, why)

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
