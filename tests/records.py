"""A small factory of run records, so that a test names only what it is about."""

from __future__ import annotations

from typing import Any

from bench_core.results.record import Cell, ComponentRef, Measurement, RunRecord
from bench_core.results.status import Status

CORE: dict[str, Any] = {"freeze": None, "penalty": 0.0, "random_targets": False}
LOCAL: dict[str, Any] = {**CORE, "normalize": "sample", "normalize_eps": 1e-6}
TRAINING: dict[str, Any] = {"epochs": 100, "learning_rate": 1e-3, "stop_after": None}
PASSPORT = dict.fromkeys(
    (
        "exact_hidden_gradients",
        "weight_transport",
        "labels_below_head",
        "extra_forward_passes",
        "learned_feedback",
        "non_local_state",
        "exact_top_credit",
        "local_heads",
    ),
    False,
)


def measured(
    a: float | None = 1.1, b: float | None = 0.05, c: float | None = 0.1, gamma: float | None = 0.2
) -> dict[str, Measurement]:
    """The four diagnostics and the alignment; b is per sample, as it is stored."""
    found = {
        "scale_growth": Measurement(
            value=a, letter="a", direction="above", threshold=50.0, unit="x"
        ),
        "reference_floor": Measurement(value=b, letter="b", direction="below", threshold=1.28e-5),
        "batch_stability": Measurement(value=c, letter="c", direction="above", threshold=0.3),
        "depth_utility": Measurement(
            letter="d", direction="below", threshold=2.0, unit="pp", across="floor"
        ),
    }
    if gamma is not None:
        details = {
            "unclamped": [0.4, gamma, gamma, gamma],
            "library": [0.4] * 4,
            "ratio": [1.0] * 4,
        }
        details |= {"mean": 0.1 + gamma, "deep": gamma}
        found["alignment"] = Measurement(value=gamma, details=details)
    return found


def run(
    method: str = "bench-core/dfa",
    seed: int = 42,
    accuracy: float | None = 0.4,
    status: Status = "done",
    *,
    params: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    arch: str = "bench-core/resmlp",
    measurements: dict[str, Measurement] | None = None,
    **fields: Any,
) -> RunRecord:
    """One record; `params` and `training` are changes to the defaults."""
    defaults = CORE if method == "bench-core/bp" else LOCAL
    cell = Cell(
        method=ComponentRef(name=method, params={**defaults, **(params or {})}),
        arch=ComponentRef(name=arch, params={"width": 256, "depth": 4, "residual": True}),
        dataset=ComponentRef(name="bench-core/cifar10"),
        data={"limit": None},
        training={**TRAINING, **(training or {})},
        seed=seed,
    )
    done = {"epochs": 100, "seconds": 512.25, "peak_memory_bytes": 700_000_000, "forward_passes": 1}
    done |= {"measurements": measured() if measurements is None else measurements}
    if status != "done":
        done, accuracy = {}, None
    given: dict[str, Any] = {"passport": PASSPORT, **done, **fields}
    return RunRecord(
        identity=f"{method}-{seed}-{params}-{training}-{status}",
        suite="audit5",
        cell=cell,
        status=status,
        accuracy=accuracy,
        **given,
    )


def seeds(method: str, values: list[float], **fields: Any) -> list[RunRecord]:
    """One done run per value, at seeds 42, 123, 456, …"""
    return [
        run(method, seed, value, **fields)
        for seed, value in zip((42, 123, 456, 7, 8, 9), values, strict=False)
    ]


def frozen(method: str, values: list[float], **fields: Any) -> list[RunRecord]:
    """The same with frozen blocks."""
    return seeds(method, values, params={"freeze": "blocks"}, **fields)


SICK = measured(a=694.0, b=4.2e-9 * 128, c=0.2, gamma=0.004)


def audit() -> list[RunRecord]:
    """A miniature of the published audit: bp, dfa and ep with their floors, one ep seed
    diverged."""
    return [
        *seeds(
            "bench-core/bp",
            [0.611, 0.615, 0.619],
            passport={**PASSPORT, "exact_hidden_gradients": True},
        ),
        *frozen("bench-core/bp", [0.418, 0.419, 0.420]),
        *seeds("bench-core/dfa", [0.302, 0.306, 0.310], measurements=SICK),
        *frozen("bench-core/dfa", [0.348, 0.349, 0.350]),
        *seeds("bench-core/ep", [0.40, 0.41]),
        run("bench-core/ep", 456, status="diverged", reason="loss is not finite at step 90"),
        *frozen("bench-core/ep", [0.30, 0.31, 0.32]),
    ]
