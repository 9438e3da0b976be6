"""Define the interface of a block-local learning rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench_core.training.method import Method
from bench_core.training.params import PerN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bench_core.training.net import States


class LocalMethod(Method):
    """A block-local rule. A subclass must write only `credit`.

    The core carries out surrogate loss, normalisation, penalty, clipping and optimiser
    (`bench_core.training.local_update`), by the equations of docs/protocol.md, section 4.
    """

    class Params(Method.Params):
        """Options of every block-local rule; subclass it to add your own."""

        normalize: Literal["sample", "batch", "none"] = Field(
            "sample",
            description="rms over the features of a sample, over batch and features, or not at all",
        )
        normalize_eps: float | PerN = Field(
            1e-6, description="eps of the rms; {per_n: e} stands for e / batch size"
        )

    def local_states(self, x: Tensor) -> States:
        """Return the states that the update trains: h_0 with a graph to the embedding, f_l with one
        to block l alone.
        """
        return self.net.states(x, local=True)

    def penalised(self, states: States) -> Sequence[Tensor]:
        """Return the f_l whose size is penalised, with a graph to block l alone; asked for with a
        penalty.
        """
        return states.f

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        """Train auxiliary networks on the detached states of a batch; called before `credit`."""

    def after_update(self, epoch: int) -> None:
        """Copy updates into the feedback; called after the network's update."""

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        """Train on a batch and return the task's loss of its forward pass, unread.

        Order: forward; auxiliary networks learn on this batch; credits from the updated networks;
        one backward; clip; AdamW.
        """
        from bench_core.training.credit import as_credits
        from bench_core.training.local_update import local_update

        states = self.local_states(x)
        loss = self.net.loss(states.logits, y)
        detached = states.detach(y)
        self.learn(detached, y, epoch)
        credits = as_credits(self.credit(detached, y, epoch), self.net, detached.h)
        local_update(self, states, loss, credits)
        self.after_update(epoch)
        return loss.detach()
