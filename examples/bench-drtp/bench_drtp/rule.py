"""drtp: direct random target projection."""

import torch

from bench_core.api import Credits, LocalMethod, Passport


class RandomTargetProjection(LocalMethod):
    """a_l = onehot(y)·B_l: the label through a fixed random matrix, whatever the network's
    output is; per sample.

    B_l is (classes, features of h_l), Kaiming-uniform: entries in ±sqrt(6 / features). With
    residual blocks a_l lives at the block's input, without at its output, and the embedding has
    a matrix of its own. Where states are tokens, all tokens of a sample get the same credit. The
    sign is free, because B_l is symmetric about zero. The readout learns by its own gradient, as
    in every block-local rule. Source: Frenkel, Lefebvre, Bol 2021, arXiv:1909.01311.
    """

    passport = Passport(labels_below_head=True)

    def unsupported(self, net):
        return (
            None
            if net.loss.classes
            else "its credit is a row of B_l per class, and a regression has none"
        )

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.feedback = {}
        for layer in sorted({0, *net.sites}):
            B = torch.empty(task.classes, task.width(layer))
            torch.nn.init.kaiming_uniform_(B, generator=tools.generator)
            self.feedback[layer] = B.to(task.device)

    def credit(self, states, y, epoch):
        a = {layer: self.shaped(B[y], states.h[layer]) for layer, B in self.feedback.items()}
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])

    def shaped(self, credit, h):
        return credit.unsqueeze(1).expand_as(h) if self.net.tokens else credit.view_as(h)

    def state_dict(self):
        return {f"B_{layer}": B for layer, B in self.feedback.items()}

    def load_state_dict(self, state):
        self.feedback = {layer: state[f"B_{layer}"] for layer in self.feedback}
