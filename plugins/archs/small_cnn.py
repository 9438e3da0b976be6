"""small_cnn: three convolutions and a fully connected layer, without residual connections."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from bench_core.api import Net, ParamsModel

CHANNELS = (32, 64, 128)
HIDDEN = 256


def convolution(below: int, above: int, batch_norm: bool, pool: bool) -> nn.Sequential:
    """conv3×3 (zero padding 1), BatchNorm where asked for, ReLU, maxpool 2×2 where asked for."""
    parts: list[nn.Module] = [nn.Conv2d(below, above, 3, padding=1)]
    parts += [nn.BatchNorm2d(above)] if batch_norm else []
    parts += [nn.ReLU()]
    parts += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*parts)


class SmallCNN(Net):
    """A small CNN for images (N, c, H, W), H and W multiples of 4:

        h_0 = ReLU(conv(x))                  (N,  32, H,   W)      the embedding, with credit a_0
        h_1 = maxpool(ReLU(conv(h_0)))       (N,  64, H/2, W/2)    block 0
        h_2 = maxpool(ReLU(conv(h_1)))       (N, 128, H/4, W/4)    block 1
        h_3 = ReLU(W·flatten(h_2) + b)       (N, 256)              block 2;  L = 3
        logits = W_h·h_3 + b_h

    with 3×3 convolutions, and BatchNorm after each of them where `batch_norm` is set. PyTorch's
    default init. No residual connection and no terminal norm: the credit of block l lives at its
    output h_{l+1}, per-sample norms are taken over the flattened map.

    BatchNorm under block-local training: the norm belongs to the block of its convolution and is
    trained by that block's surrogate alone, whose gradient passes through the batch's mean and
    variance (so the update of a block depends on the states and credits of the whole batch, and
    on no other block). A step normalises by its batch and moves the running statistics once, in
    the forward pass; relaxations and credits normalise by the same batch and do not move them;
    audits run in eval mode, on the running statistics. With `freeze: blocks` weights stay as
    they were and the statistics still follow.

    Feedback of fa: between maps a 3×3 convolution with random kernels and average pooling, both
    transposed (each value of the credit spread evenly over the window that was pooled); from h_3
    to the flattened h_2 a dense matrix.
    Source: arXiv:2606.21126, section on small CNNs, where the borders of the four bars are those
    of the blocks.
    """

    class Params(ParamsModel):
        """Parameters of small_cnn."""

        batch_norm: bool = Field(False, description="BatchNorm after each convolution")

    residual = False

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                "small_cnn needs images (channels, height, width) with sides that are multiples "
                f"of 4, not inputs of shape {shape}"
            )
        first, second, third = CHANNELS
        flat = third * (shape[1] // 4) * (shape[2] // 4)
        self.embed = convolution(shape[0], first, params.batch_norm, pool=False)
        self.blocks = nn.ModuleList(
            [
                convolution(first, second, params.batch_norm, pool=True),
                convolution(second, third, params.batch_norm, pool=True),
                nn.Sequential(nn.Flatten(), nn.Linear(flat, HIDDEN), nn.ReLU()),
            ]
        )
        self.readout = nn.Linear(HIDDEN, classes)

    def feedback(self, block: int) -> nn.Module | None:
        if block == len(CHANNELS) - 1:
            return None
        return nn.Sequential(
            nn.Conv2d(*CHANNELS[block : block + 2], 3, padding=1, bias=False), nn.AvgPool2d(2)
        )
