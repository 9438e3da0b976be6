"""small_resnet: the residual network for CIFAR of He et al., in the shape of ResNet-20."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Net, ParamsModel

STAGES = 3


def conv3(below: int, above: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(below, above, 3, stride, padding=1, bias=False)


def shortcut(h: Tensor, below: int, above: int, stride: int) -> Tensor:
    """Identity; if the shape changes, every second pixel, and zeros for new channels (no
    weights).
    """
    return (
        h
        if stride == 1 and below == above
        else F.pad(h[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, above - below))
    )


class Block(nn.Module):
    """f(h) = ReLU(BN(conv(ReLU(BN(conv_stride(h))))) + shortcut(h)), conv 3×3 without bias."""

    def __init__(self, below: int, above: int, stride: int) -> None:
        super().__init__()
        self.shape = (below, above, stride)
        self.conv1, self.norm1 = conv3(below, above, stride), nn.BatchNorm2d(above)
        self.conv2, self.norm2 = conv3(above, above), nn.BatchNorm2d(above)

    def forward(self, h: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(h)))
        return F.relu(self.norm2(self.conv2(inner)) + shortcut(h, *self.shape))


class LinearBlock(nn.Module):
    """The same wiring without norms and ReLUs: conv(conv_stride(h)) + shortcut(h)."""

    def __init__(self, below: int, above: int, stride: int) -> None:
        super().__init__()
        self.shape = (below, above, stride)
        self.conv1, self.conv2 = conv3(below, above, stride), conv3(above, above)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(h)) + shortcut(h, *self.shape)
        return out


class SmallResNet(Net):
    """A residual CNN for images (N, c, H, W); with three blocks per stage it is ResNet-20.

    h_0 = ReLU(BN(conv3×3(x))) (N, 16, H, W), then three stages of `blocks_per_stage` residual
    blocks with 16, 32 and 64 channels, the first block of the second and third stage with stride
    2; logits = W_h·mean over pixels of h_L + b_h. With three blocks per stage L = 9 and h_9 is
    (N, 64, H/4, W/4).

    Every block computes its own skip connection and ends in a ReLU, and two of them change the
    shape: so for the protocol this is no residual stream (`residual` is false), and the credit
    of block l lives at its output h_{l+1}. Per-sample norms are taken over the flattened map.
    BatchNorm: as in small_cnn. There is no LayerNorm.

    Convolutions ~ N(0, 2/(9·channels out)) (He init, fan out), BatchNorm weights 1 and biases 0,
    head with PyTorch's default. Feedback of fa: the transposed linear block, whose kernels are
    random and whose skip connection, having no weights, is the block's own: fa then has the skip
    path's share of the exact Jacobian (but for the ReLU), unlike on resmlp. Before training its
    Γ_l is .53, .28, .16, .08 one to four blocks below the exact top (64 CIFAR-10 images,
    measured). Before the first step the running statistics are (0, 1) and audits see the network
    without normalisation: c fires at random init on CIFAR-10 (.45, seed 42, measured) and is not
    diagnostic there.
    Source: He, Zhang, Ren, Sun 2015, arXiv:1512.03385, section 4.2, with their parameter-free
    shortcuts (option A).
    """

    class Params(ParamsModel):
        """Parameters of small_resnet."""

        width: int = Field(16, ge=1, le=1024, description="channels of the first stage")
        blocks_per_stage: int = Field(
            3, ge=1, le=100, description="n; the network has 6n + 2 layers"
        )

    residual = False

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        if len(shape) != 3:
            raise ValueError(
                f"small_resnet needs images (channels, height, width), not inputs of shape {shape}"
            )
        width = params.width
        self.embed = nn.Sequential(conv3(shape[0], width), nn.BatchNorm2d(width), nn.ReLU())
        self.shapes = [
            (
                width << (stage if place or not stage else stage - 1),
                width << stage,
                2 if stage and not place else 1,
            )
            for stage in range(STAGES)
            for place in range(params.blocks_per_stage)
        ]
        self.blocks = nn.ModuleList(Block(*shape) for shape in self.shapes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.readout = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width << (STAGES - 1), classes)
        )

    def feedback(self, block: int) -> nn.Module:
        return LinearBlock(*self.shapes[block])
