"""The feedback networks of target_propagation."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class Feedback(nn.Module):
    """D_l from states shaped like h_{l+1} to states shaped like h_l.

    Two layers with GELU, or one linear layer if `hidden` is 0. Between maps they are convolutions
    of 3×3, and the upper map is enlarged to the size of the lower; otherwise they are dense, on
    flattened states.
    """

    def __init__(self, above: tuple[int, ...], below: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.below = below
        self.maps = len(above) == len(below) == 3
        start, end = (shape[0] if self.maps else math.prod(shape) for shape in (above, below))
        sizes = [start, hidden, end] if hidden else [start, end]
        layers: list[nn.Module] = []
        for one, other in pairwise(sizes):
            linear = nn.Conv2d(one, other, 3, padding=1) if self.maps else nn.Linear(one, other)
            layers += [linear, nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, h: Tensor) -> Tensor:
        x = F.interpolate(h, self.below[1:]) if self.maps else h.flatten(1)
        out: Tensor = self.layers(x)
        return out.view(-1, *self.below)
