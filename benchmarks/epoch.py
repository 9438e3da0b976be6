"""Time a CIFAR-10 epoch of resmlp/dfa in the runner, beside its floor and a plain loop.

    floor   the matrix products of an epoch, the fused AdamW steps and the augmentation,
            each timed alone
    runner  an epoch of bench_core.training.loop on the same machine in the same run
            (evaluation and audits timed apart)
    plain   torchvision transforms, a DataLoader with 0 workers, one optimiser per block,
            .item() every step

Each part runs on one thread, `--repeats` times; the medians are printed.
Targets: runner ≤ 1.2 × the floor of its own products, plain ≥ 4 × runner (bfloat16: 5.5).

Two child processes take turns. One times the runner, with the library for matrix products that
a worker chooses. The other times the floor and the plain loop, with torch's own library.
The first also times the runner's matrix products: their floor may lie below torch's.

`--precision bfloat16` trains the runner's epoch alone with products in bfloat16. `--cpu` counts
seconds of CPU, for a machine with other work.

    python benchmarks/epoch.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import torch
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.datasets.cifar import Cifar10
from bench_plugins.diagnostics import bench_diagnostics
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from torch import nn
from torch.nn import functional as F

from bench_core.execution.worker.cell import measure
from bench_core.training import processor
from bench_core.training.audit import Audit
from bench_core.training.data import Data
from bench_core.training.evaluation import evaluate
from bench_core.training.loop import train
from bench_core.training.optimizer import Updater
from bench_core.training.rng import stream
from bench_core.training.setup import set_up

N, D, L, C, X = 128, 256, 4, 10, 3072
TRAINING = {
    "epochs": 100, "stop_after": 1, "batch_size": N, "learning_rate": 1e-3, "weight_decay": 0.01,
    "clip_norm": 1.0, "schedule": "cosine", "device": "cpu", "precision": "float32",
}  # fmt: skip


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def gemms(steps: int) -> None:
    """Compute every matrix product of a step of local training.

    These are the forward products, the weight and input gradients inside a block, and DFA's e·B.
    """
    x, w_embed, h, w, e, head, B = (
        torch.randn(shape) for shape in ((N, X), (D, X), (N, D), (D, D), (N, C), (C, D), (C, D))
    )
    for _ in range(steps):
        x @ w_embed.T
        h.T @ x
        for _ in range(L):
            h @ w.T  # W1
            h @ w.T  # W2
            h.T @ h  # ∂W2
            h @ w  # through W2
            h.T @ h  # ∂W1
            h @ w  # through W1, for the norm's weights
            e @ B
        h @ head.T
        e.T @ h


def adamw(net: ResMLP, steps: int) -> None:
    updater = Updater(net.groups(), 1e-3, 0.01, 1.0)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(steps):
        updater.optimiser.step()


def augmentation(data: Data) -> None:
    for _ in data.epoch(N, stream(0, "order"), stream(0, "augmentation")):
        pass


def runner(data: Data) -> float:
    net, method = fresh(data)
    return train(method, net, data, TRAINING, 0).seconds


def fresh(data: Data) -> tuple[ResMLP, DirectFeedbackAlignment]:
    torch.manual_seed(0)
    net = ResMLP(ResMLP.Params(), (3, 32, 32), C)
    method = DirectFeedbackAlignment(DirectFeedbackAlignment.Params())
    set_up(method, net, data, TRAINING, 0)
    return net, method


def audits(data: Data, final: bool) -> float:
    """Measure a fresh network: the diagnostics after an epoch, or those of a finished cell too."""
    net, method = fresh(data)
    kinds = [resolve_name(entry.target) for entry in bench_diagnostics()]
    initial = {name: value.clone() for name, value in net.state_dict().items()}

    def every() -> None:
        audit = Audit(net, method, data, 0, 0, initial=initial)
        for kind in kinds:
            if kind.across is None and (final or kind.when == "epochs"):
                measure(kind(kind.Params()), audit)

    return timed(every)


def plain(root: Path) -> float:
    """Train for an epoch as a straightforward first implementation does."""
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ]
    loader = torch.utils.data.DataLoader(
        CIFAR10(root, train=True, transform=transforms.Compose(steps)),
        batch_size=N,
        shuffle=True,
        drop_last=True,
    )
    torch.manual_seed(0)
    net = ResMLP(ResMLP.Params(), (3, 32, 32), C)
    parts = [net.embed, *net.blocks, net.readout]
    optimisers = [
        torch.optim.AdamW(part.parameters(), lr=1e-3, weight_decay=0.01) for part in parts
    ]
    feedback = [torch.randn(C, D) / C**0.5 for _ in range(L)]

    def update(part: nn.Module, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> float:
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        return loss.item()

    def epoch() -> None:
        for x, y in loader:
            with torch.no_grad():
                h = [net.embed(x)]
                for block in net.blocks:
                    h.append(h[-1] + block(h[-1]))
                e = F.softmax(net.readout(h[-1]), 1) - F.one_hot(y, C)
            credits = [e @ B for B in feedback]
            credits = [a / (a.square().mean(1, keepdim=True).sqrt() + 1e-6) for a in credits]
            update(net.embed, optimisers[0], (net.embed(x) * credits[0]).sum(1).mean())
            for index, block in enumerate(net.blocks):
                update(
                    block, optimisers[1 + index], (block(h[index]) * credits[index]).sum(1).mean()
                )
            update(net.readout, optimisers[-1], F.cross_entropy(net.readout(h[-1]), y))

    return timed(epoch)


def parts(group: str, data_dir: Path) -> dict[str, Callable[[], float]]:
    """Return the parts that a child process times, by name."""
    cifar = Cifar10(Cifar10.Params())
    cifar.prepare(data_dir)
    data = cifar.load(data_dir)
    steps = len(data.train_y) // N
    net, _ = fresh(data)
    if group == "torch":
        return {
            "matrix products": lambda: timed(lambda: gemms(steps)),
            "fused AdamW": lambda: timed(lambda: adamw(net, steps)),
            "augmentation": lambda: timed(lambda: augmentation(data)),
            "plain loop": lambda: plain(data_dir),
        }
    return {
        "runner's matrix products": lambda: timed(lambda: gemms(steps)),
        "runner, training": lambda: runner(data),
        "runner, test accuracy": lambda: timed(lambda: evaluate(net, data)),
        "runner, diagnostics": lambda: audits(data, final=False),
        "finished cell, all of them": lambda: audits(data, final=True),
    }


def command_line(text: str | None, repeats: int) -> argparse.ArgumentParser:
    """Return the command line of a benchmark on CIFAR-10, with its docstring as help."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(os.environ.get("BENCH_DATA_DIR", "data"))
    parser.add_argument("--data-dir", type=Path, default=folder)
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser


def machine(library: str, *remarks: str) -> str:
    """Name processor, threads, versions and library of a measurement, and further remarks."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return ", ".join([processor.name(), "1 thread", versions, f"products by {library}", *remarks])


def one_thread() -> str:
    """Compute on one thread with deterministic kernels, as a worker; name the products' library."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    return processor.matmul_library()


def child(group: str, data_dir: Path, precision: str, cpu: bool) -> None:
    """Time every part once, after a warm-up of all but the plain loop; JSON on standard output."""
    library = one_thread()
    TRAINING["precision"] = precision
    if cpu:
        time.perf_counter = time.process_time  # the training loop's too
    calls = parts(group, data_dir)
    for name, call in calls.items():
        if name != "plain loop":
            call()
    print(json.dumps({"library": library, "times": {name: call() for name, call in calls.items()}}))


def main() -> None:
    parser = command_line(__doc__, 3)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--cpu", action="store_true", help="count seconds of CPU")
    parser.add_argument("--child", choices=["torch", "runner"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.data_dir, arguments.precision, arguments.cpu)
        return
    times: dict[str, list[float]] = {}
    library = ""
    for _ in range(arguments.repeats):
        for group in ("torch", "runner"):
            command = [
                sys.executable, __file__, *sys.argv[1:], "--child", group,
            ]  # fmt: skip
            own = {"BENCH_MATMUL": "torch"} if group == "torch" else {}
            done = subprocess.run(
                command, env=os.environ | own, stdout=subprocess.PIPE, text=True, check=True
            )
            answer = json.loads(done.stdout)
            library = answer["library"]
            for name, value in answer["times"].items():
                times.setdefault(name, []).append(value)
    median = {name: statistics.median(values) for name, values in times.items()}
    clock = ["CPU time"] * arguments.cpu
    print(machine(library, f"runner in {arguments.precision}", *clock, f"n={arguments.repeats}"))
    for name, values in times.items():
        print(f"{name:26} {median[name]:7.2f} s   ({min(values):.2f} – {max(values):.2f})")
    floor = median["matrix products"] + median["fused AdamW"] + median["augmentation"]
    own_floor = floor - median["matrix products"] + median["runner's matrix products"]
    training = median["runner, training"]
    print(f"runner / floor           {training / floor:7.2f}")
    print(f"runner / its own floor   {training / own_floor:7.2f}     (reach: at most 1.2)")
    least = 4 if arguments.precision == "float32" else 5.5
    plainly = median["plain loop"] / training
    print(f"plain / runner           {plainly:7.2f}     (reach: at least {least})")
    overhead = (median["runner, test accuracy"] + median["runner, diagnostics"]) / training
    print(
        f"accuracy + diagnostics   {100 * overhead:6.1f} %    of the training of an epoch "
        "(reach: diagnostics under 15 %)"
    )
    whole = median["finished cell, all of them"] / training
    print(
        f"all diagnostics          {100 * whole:6.1f} %    of the training of an epoch, once "
        "(reach: under 100 %)"
    )


if __name__ == "__main__":
    main()
