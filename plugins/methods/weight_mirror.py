"""weight_mirror: feedback fitted to the response of each layer to noise."""

from __future__ import annotations

import torch
from bench_plugins.methods.substitute import LearnedFeedback
from pydantic import Field
from torch import nn

from bench_core.api import Laws, Net, Task, Tools


class WeightMirror(LearnedFeedback):
    """Substitute feedback B that is fitted to the response of each layer to noise.

    After every update each layer is given its own noise, and its feedback follows the
    correlation

        x ~ N(0, I),  y = W·x + b,   B ← (1 − η)·B + η·mean_batch (y − ȳ)·xᵀ,

    as many x as a batch has samples, ȳ their mean. E[(y − ȳ)·xᵀ] = W·(1 − 1/N), so B tends to W,
    with a relative error of about sqrt(η/2 · fan_in/N), and no norm has to be kept in check. With
    N = 1 it would tend to 0: a batch needs two samples.

    A convolution is given single patches. B at setup: N(0, 1/(3·fan_in)), then `first` mirror
    batches. Shapes of B are those of W, (out, in) or (out, in, k, k). The forward weights are run,
    never read.

    Ours: rate and decay are one number; unit noise at the linear layer itself, without the
    activation behind it (the source passes it, which scales the rows of B); `first` batches
    (source: a pass over the data).
    Source: Akrout, Wilson, Humphreys, Lillicrap, Tweed 2019, arXiv:1904.05391.
    Verified: mirroring brings B to every W within the error above; with B = W it is
    backpropagation on five kinds of networks.
    """

    class Params(LearnedFeedback.Params):
        """Options of weight_mirror."""

        rate: float = Field(
            0.01, gt=0.0, le=1.0, description="η, rate and decay of the feedback per mirror batch"
        )
        first: int = Field(100, ge=0, le=1_000_000, description="mirror batches before training")

    laws = Laws(linear_in_error=True, exact_top=True, feedback="B_{layer}_0", permutation=False)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        if task.batch_size < 2:
            raise ValueError("batch_size is 1: weight_mirror correlates noise over the batch")
        for _ in range(self.params.first):
            self.mirror()

    @torch.no_grad()
    def mirror(self) -> None:
        """One batch of noise through every layer."""
        count = self.task.batch_size
        for name, module in self.layers.items():
            weight = module.weight
            x = torch.randn(count, weight[0].numel(), generator=self.tools.aux_generator).to(weight)
            y = (
                module(x)
                if isinstance(module, nn.Linear)
                else nn.functional.linear(x, weight.flatten(1), module.bias)
            )
            seen = ((y - y.mean(0)).T @ x / count).view_as(weight)
            self.kept[f"B_{name}"] = torch.lerp(self.kept[f"B_{name}"], seen, self.params.rate)

    def after_update(self, epoch: int) -> None:
        self.mirror()
