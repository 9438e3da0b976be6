"""Settledness: has the inference of a rule arrived when its credit is read?"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from bench_core.api import Control, Credits, Diagnostic, Measured, Method
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import deep_mean, median
from bench_core.training.probe import ProbeBatch

BATCHES = 4  # an inference takes long


class Settledness(Diagnostic):
    """For a rule with inference (ep, predictive_coding), per layer:

        change_l  median of ‖a_l(2T) − a_l(T)‖ / ‖a_l(2T)‖ over the first 4 probe batches, the
                  credit after twice the steps of inference against that after its own T

    and `residual`, the median of ‖∂E/∂h‖ at the end over that at the start, E the energy that the
    inference descends (`Method.residuals`): 1 before any step, 0 at an equilibrium. `unsettled` is
    the share of samples whose ‖∂E/∂h‖ is not smaller at the end: medians hide that the inference of
    a few samples diverges, and their credits may be the largest of a batch. A credit that doubles
    when the inference goes on is one of the number of steps. value = the mean of change_l over
    1 ≤ l ≤ L−1. In float32: changes under about 1e-7·‖h‖/‖a‖ are rounding. Not diagnostic for
    a rule without inference.
    Source: the definition is ours.
    """

    title, heading = "change of the credit by twice the inference", "settled"

    @torch.no_grad()
    def measure(self, audit: Audit) -> Measured:
        method, sites = audit.method, audit.net.sites
        if method is None or not hasattr(method.params, "steps"):
            return Measured(None, not_diagnostic="the rule has no inference")
        twice = copy.copy(method)
        twice.params = method.params.model_copy(update={"steps": 2 * method.params.steps})
        changes: list[list[Tensor]] = [[] for _ in sites]
        residuals = []
        for batch in audit.batches[:BATCHES]:
            ends = method.residuals(batch.states, batch.y)
            if ends is None:
                return Measured(None, not_diagnostic="the rule has no inference")
            residuals.append(ends[1] / ends[0])
            now, later = (_audited(rule, audit, batch) for rule in (method, twice))
            for column, a, b in zip(changes, now, later, strict=True):
                a, b = (audit.net.flat(credit).double() for credit in (a, b))
                column.append((b - a).norm(dim=1) / b.norm(dim=1))
        layers = [median(torch.cat(column)) for column in changes]
        deep = deep_mean(sites, layers, audit.net.depth)
        value = sum(layers) / len(layers) if deep is None else deep
        details = {"sites": list(sites), "layers": layers, "deep": deep}
        fallen = torch.cat(residuals)
        details |= {"residual": median(fallen), "unsettled": float((~(fallen < 1)).double().mean())}
        details["steps"] = method.params.steps
        broken = None if value == value else "a credit is zero or not finite"
        return Measured(value, details, broken)

    def controls(self) -> list[Control]:
        def with_steps(steps: int, step_size: float) -> Callable[[Audit], None]:
            def change(audit: Audit) -> None:
                from bench_plugins.methods.predictive_coding import PredictiveCoding

                options = {"steps": steps, "step_size": step_size, "fixed_prediction": True}
                rule = PredictiveCoding(PredictiveCoding.Params.model_validate(options))
                assert audit.method is not None
                rule.setup(audit.net, audit.method.task, audit.method.tools)
                audit.method = rule

            return change

        def settled(found: Measured) -> bool:
            return found.value == 0 and found.details["residual"] < 1e-6

        def moving(found: Measured) -> bool:
            return found.value is not None and found.value > 0.3 and found.details["residual"] > 0.1

        return [
            Control("an inference that has arrived", with_steps(50, 1.0), settled),
            Control("one that has hardly begun", with_steps(5, 0.05), moving),
        ]


def _audited(rule: Method, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
    credits = rule.credit(batch.states, batch.y, audit.epoch)
    return list(credits.audited if isinstance(credits, Credits) else credits or ())
