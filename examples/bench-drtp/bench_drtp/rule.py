"""drtp: direct random target projection, the label through fixed random matrices."""

import torch

from bench_core.api import Credits, LocalMethod, Passport


class RandomTargetProjection(LocalMethod):
    """a_l = onehot(y)·B_l per sample, with a fixed random B_l per state.

    The credit depends on the label alone, not on the network's output. B_l is (classes, features
    of h_l), Kaiming-uniform: entries in ±sqrt(6 / features). With residual blocks a_l lives at the
    block's input; without, at its output, and the embedding has a matrix of its own. If states are
    tokens, all tokens of a sample get the same credit. The sign is free, because B_l is symmetric
    about zero. The readout learns by its own gradient, as in every block-local rule.

    Ours: credits are normalised per sample by default (`normalize`), and AdamW descends them.
    Source: Frenkel, Lefebvre, Bol 2021, arXiv:1909.01311.
    Verified: the credit is the row of the label, and the network's output does not change it.
    """

    passport = Passport(labels_below_head=True)

    def unsupported(self, net):
        if not net.loss.classes:
            return "its credit is the row of a class in B_l, and a regression has no classes"

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.layers = sorted({0, *net.sites})
        for layer in self.layers:
            B = torch.empty(task.classes, task.width(layer))
            torch.nn.init.kaiming_uniform_(B, generator=tools.generator)
            self.kept[f"B_{layer}"] = B.to(task.device)  # saved with the checkpoint

    def credit(self, states, y, epoch):
        a = {}
        for layer in self.layers:
            credit, h = self.kept[f"B_{layer}"][y], states.h[layer]
            a[layer] = credit.unsqueeze(1).expand_as(h) if self.net.tokens else credit.view_as(h)
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])
