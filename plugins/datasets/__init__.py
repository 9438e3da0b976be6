"""The built-in data sets: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl


@hookimpl
def bench_datasets() -> list[Component]:
    here = "bench_plugins.datasets"
    return [
        Component("cifar10", f"{here}.cifar:Cifar10",
                  "50,000 + 10,000 colour images, 32×32 (torchvision's files)"),
        Component("cifar100", f"{here}.cifar:Cifar100",
                  "50,000 + 10,000 colour images in 100 classes (torchvision's files)"),
        Component("linear_quadratic", f"{here}.linear_quadratic:LinearQuadratic",
                  "synthetic: linear regression with squared error, for linear_lq",
                  "arXiv:2606.21126"),
        Component("digits", f"{here}.digits:Digits",
                  "1,437 + 360 handwritten digits, 8×8 (ship with scikit-learn)"),
        Component("teacher", f"{here}.teacher:Teacher",
                  "synthetic: Gaussian inputs labelled by a random teacher", "arXiv:2606.21126"),
    ]  # fmt: skip
