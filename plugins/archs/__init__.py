"""The built-in architectures: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl

PAPER = "Hao, Wan, Zhai 2026, arXiv:2606.21126"


@hookimpl
def bench_archs() -> list[Component]:
    here = "bench_plugins.archs"
    return [
        Component("resmlp", f"{here}.resmlp:ResMLP", "residual MLP with a terminal LayerNorm",
                  PAPER),
        Component("relu_mlp", f"{here}.relu_mlp:ReluMLP",
                  "plain MLP: no residual connections, no norm", PAPER),
        Component("vit_mini", f"{here}.vit_mini:ViTMini", "vision transformer with a CLS token",
                  f"{PAPER}; Dosovitskiy et al. 2020, arXiv:2010.11929"),
        Component("small_cnn", f"{here}.small_cnn:SmallCNN",
                  "three convolutions and a linear layer; BatchNorm on request", PAPER),
        Component("small_resnet", f"{here}.small_resnet:SmallResNet",
                  "ResNet-20 for CIFAR, with BatchNorm",
                  "He, Zhang, Ren, Sun 2015, arXiv:1512.03385"),
        Component("student_net", f"{here}.student_net:StudentNet",
                  "residual, a dial for its non-linearity, no terminal norm", PAPER),
        Component("linear_lq", f"{here}.linear_lq:LinearLQ",
                  "noisy linear system with a known costate", PAPER),
    ]  # fmt: skip
