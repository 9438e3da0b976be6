"""Define the losses of data sets: cross-entropy of classes, or squared error of a regression.

Rules and audits call the loss of their network, `net.loss(logits, y)`, for any task.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Loss(Protocol):
    """The minimised loss of a task; `logits` are the outputs (N, C) of the network."""

    name: str
    classes: bool  # whether labels are classes

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Compute the loss; reduction "mean" or "sum" over the samples, or "none" (N,)."""

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        """Compute e = ∂loss/∂logits per sample, (N, C)."""

    def score(self, logits: Tensor, y: Tensor) -> float:
        """Rate the outputs for a whole set, 0 … 1: the `accuracy` of the task."""


class CrossEntropy:
    """−log softmax(logits)_y with y (N,) int64; e = softmax(logits) − onehot(y).

    Score: share of samples classified right.
    """

    name = "cross_entropy"
    classes = True

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        return F.cross_entropy(logits, y, reduction=reduction)

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.softmax(logits, 1) - F.one_hot(y, logits.shape[1])

    def score(self, logits: Tensor, y: Tensor) -> float:
        return int((logits.argmax(1) == y).sum()) / len(y)


class SquaredError:
    """½‖logits − y‖²; y (N, C) float; e = logits − y.

    Score: the share of the targets' variance that is explained, at least 0.
    """

    name = "squared_error"
    classes = False

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        each = 0.5 * (logits - y).square().sum(1)
        return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        return logits - y

    def score(self, logits: Tensor, y: Tensor) -> float:
        missed = (logits - y).double().square().sum()
        spread = (y - y.mean(0)).double().square().sum()
        return max(0.0, float(1 - missed / spread)) if bool(torch.isfinite(missed)) else 0.0


CROSS_ENTROPY: Loss = CrossEntropy()
SQUARED_ERROR: Loss = SquaredError()
