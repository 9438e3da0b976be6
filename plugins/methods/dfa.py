"""dfa: direct feedback alignment, the output error through fixed random matrices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from bench_core.api import LATER, Credits, Laws, LocalMethod, Net, Passport, States, Task, Tools


class DirectFeedbackAlignment(LocalMethod):
    """a_l = e·B_l per sample, e = softmax(logits) − onehot(y), with a fixed random B_l per state.

    B_l is (C, features of the flattened state), entries N(0, 1/C). With residual blocks a_l lives
    at the block's input state; without, at its output state, and the embedding has a matrix of its
    own, drawn last. If states are tokens, B_l is (C, features of a token) and all tokens of a
    sample get the same credit.

    With `center` e is less its batch mean, e_n − mean_m e_m, so that no unit is driven by the error
    that all samples share; the readout learns from e itself.
    Ours: credits are normalised per sample by default (`normalize`); derivatives inside a block
    are the block's own.
    Source: Nøkland 2016, arXiv:1609.01596; `center`: Reddy, Safaai, Sabatini 2026 (code:
    KempnerInstitute/DFA-Stall).
    Verified: the credit does not change with the weights above; k·e gives k·a_l; entries of B_l
    have variance 1/C; with `center` an error that all samples share gives no credit.
    """

    class Params(LocalMethod.Params):
        """Options of dfa."""

        center: Annotated[bool, LATER] = Field(
            False, description="the output error less its batch mean"
        )

    passport = Passport()
    laws = Laws(linear_in_error=True)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.layers = list(dict.fromkeys([*net.sites, 0]))
        for layer in self.layers:
            B = self.draw(task.classes, task.width(layer), std=task.classes**-0.5)
            self.kept[f"B_{layer}"] = B

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        a, signal = {}, self.signal(states, y)
        if getattr(self.params, "center", False):  # other rules use dfa with their own parameters
            signal = signal - signal.mean(0)
        for layer in self.layers:
            credit, h = signal @ self.kept[f"B_{layer}"], states.h[layer]
            a[layer] = credit.unsqueeze(1).expand_as(h) if self.net.tokens else credit.view_as(h)
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])

    def signal(self, states: States, y: Tensor) -> Tensor:
        """The vector that B_l projects, (N, C): here e."""
        return states.output_error
