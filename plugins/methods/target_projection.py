"""target_projection: direct random target projection, the label through fixed random matrices."""

from __future__ import annotations

from bench_plugins.methods.dfa import DirectFeedbackAlignment
from torch import Tensor
from torch.nn import functional as F

from bench_core.api import Laws, Passport, States


class TargetProjection(DirectFeedbackAlignment):
    """a_l = t·B_l per sample, t = onehot(y), with dfa's fixed random B_l, (C, features of h_l).

    In a regression t are the targets themselves. The credit depends on the label alone: a block can
    learn before the network has an output, and all samples of a class get one credit, whatever
    their error. With `center` t is less its batch mean.

    The mean of t pushes all samples the same way and never vanishes, so units without an upper
    bound collapse onto it. Digits, resmlp of width 64 and depth 4, 4 epochs, seed 42: accuracy
    .08, 99.9 % of ‖h_L‖² is the batch mean; .57 and 8 % with `center`. relu_mlp of width 64 and
    depth 2: .41 and .79, after 20 epochs .72 and .85.

    Ours: entries N(0, 1/C) (source: Kaiming uniform); credits normalised per sample by default
    (`normalize`); units without the source's bounded tanh; `center`.
    Source: Frenkel, Lefebvre, Bol 2021, arXiv:1909.01311.
    Verified: the credit is the row of the label in B_l; other outputs of the network do not change
    it; dfa with t in place of e gives the same credit.
    """

    class Params(DirectFeedbackAlignment.Params):
        """Options of target_projection."""

    passport = Passport(labels_below_head=True)
    laws = Laws()

    def signal(self, states: States, y: Tensor) -> Tensor:
        classes = self.net.loss.classes
        return (F.one_hot(y, self.task.classes) if classes else y).to(states.logits)
