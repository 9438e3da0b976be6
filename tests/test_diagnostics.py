"""Diagnostics: each against a naive computation, and every control of every diagnostic."""

from __future__ import annotations

from importlib import import_module
from itertools import combinations, pairwise
from statistics import median
from typing import Any

import pytest
import torch
from bench_plugins.diagnostics import bench_diagnostics
from nets import METHODS, ready, resmlp, rule, toy_data
from torch.nn import functional as F

from bench_core.errors import ChangedByDiagnostic
from bench_core.execution.worker.cell import measure
from bench_core.results.migrate import OLDER, described
from bench_core.results.record import Measurement, fires
from bench_core.training.audit import Audit
from bench_core.training.diagnostic import Diagnostic, Measured
from bench_core.training.method import Credits


def diagnostic(name):
    target = next(component.target for component in bench_diagnostics() if component.name == name)
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    return found(found.Params())


def audited(name="dfa", test=1280, **net):
    data = toy_data(test=test)
    method, network = ready(rule(name), resmlp(**net), data)
    return Audit(network, method, data, seed=0, epoch=3)


def naive_gradients(audit):
    """∂CE_i/∂h_l sample by sample, with nothing shared with the audit's own code."""
    x, y = audit.data.test_x[:1280], audit.data.test_y[:1280]
    states = audit.net.states(x)
    for h in states.h:
        h.retain_grad()
    F.cross_entropy(states.logits, y, reduction="sum").backward()
    return [h.grad for h in states.h], states


def test_scale_growth_is_the_largest_ratio_of_median_norms():
    audit = audited()
    _, states = naive_gradients(audit)
    h = [median(row.norm().item() for row in layer) for layer in states.h]
    found = diagnostic("scale_growth").measure(audit)
    assert found.details["h"] == pytest.approx(h, rel=1e-5)
    assert found.value == pytest.approx(max(b / a for a, b in pairwise(h)), rel=1e-5)


def test_reference_floor_is_the_median_per_sample_gradient_norm_at_the_top():
    audit = audited()
    g, _ = naive_gradients(audit)
    found = diagnostic("reference_floor").measure(audit)
    assert found.value == pytest.approx(median(row.norm().item() for row in g[-1]), rel=1e-5)
    assert found.details["mean_128"] == pytest.approx(found.value / 128)
    assert found.details["mean_1024"] == pytest.approx(found.value / 1024)


def test_the_threshold_of_b_is_the_published_one_at_128():
    """1e-7 under the batch-mean CE of 128 samples, compared with a gradient measured that way."""
    found = diagnostic("reference_floor")
    assert found.threshold == pytest.approx(1e-7 * 128)
    audit = audited()
    x, y = audit.data.test_x[:128], audit.data.test_y[:128]
    h = audit.net.states(x).h[-1].detach().requires_grad_()
    (mean_gradient,) = torch.autograd.grad(F.cross_entropy(audit.net.readout(h), y), h)
    per_sample = torch.cat([batch.g[-1] for batch in audit.batches])[:128]
    torch.testing.assert_close(per_sample / 128, mean_gradient)


def test_batch_stability_is_the_mean_cosine_of_raw_batch_means_in_the_middle():
    audit = audited(depth=5)
    g, _ = naive_gradients(audit)
    means = [rows.mean(0) for rows in g[5 // 2].split(128)]
    cosines = [float(F.cosine_similarity(u, v, dim=0)) for u, v in combinations(means, 2)]
    found = diagnostic("batch_stability").measure(audit)
    assert len(cosines) == 45
    assert found.value == pytest.approx(sum(cosines) / 45, abs=1e-5)
    assert found.not_diagnostic is None


@pytest.mark.parametrize(("test", "full"), [(1279, 9), (360, 2), (200, 1)])
def test_batch_stability_needs_ten_full_batches(test, full):
    found = diagnostic("batch_stability").measure(audited(test=test))
    assert found.details["batches"] == full
    assert str(full) in found.not_diagnostic


@pytest.mark.parametrize("name", METHODS)
def test_alignment_is_the_mean_cosine_at_the_sites(name):
    audit = audited(name)
    g, _ = naive_gradients(audit)
    found = diagnostic("alignment").measure(audit)
    a = [torch.cat([batch.credits.audited[i] for batch in audit.batches]) for i in range(3)]
    for index, site in enumerate(audit.net.sites):
        expected = float(F.cosine_similarity(a[index].double(), g[site].double(), eps=1e-30).mean())
        assert found.details["unclamped"][index] == pytest.approx(expected, abs=1e-5)
    assert found.value == pytest.approx(sum(found.details["unclamped"]) / 3)
    assert found.details["deep"] == pytest.approx(sum(found.details["unclamped"][1:]) / 2)


def test_alignment_of_bp_is_one_and_its_ratio_is_one():
    found = diagnostic("alignment").measure(audited("bp"))
    assert found.details["unclamped"] == pytest.approx([1.0] * 3, abs=1e-6)
    assert found.details["ratio"] == pytest.approx([1.0] * 3, rel=1e-5)


def test_ratios_are_per_sample_whatever_the_reduction_of_the_credit():
    """fa's exact top credit carries 1/N; beside g_{L-1} ≈ g_L its ratio is about 1, not 1/128."""
    found = diagnostic("alignment").measure(audited("fa"))
    assert found.details["ratio"][-1] == pytest.approx(1.0, rel=0.2)
    assert found.details["unclamped"][-1] > 0.95


def test_the_clamp_of_the_library_drowns_small_references_and_ours_does_not():
    """Gradients far below 1e-8: F.cosine_similarity's clamp pulls the cosine to 0, the unclamped
    one still reads 1."""
    audit = audited("bp")
    control = diagnostic("reference_floor").controls()[0]
    control.change(audit)
    for parameter in audit.net.readout.parameters():
        parameter.data.mul_(1e-4)
    found = diagnostic("alignment").measure(audit)
    assert found.details["unclamped"][0] == pytest.approx(1.0, abs=1e-6)
    assert abs(found.details["library"][0]) < 0.02


def test_every_read_out_of_ep_is_reported():
    found = diagnostic("alignment").measure(audited("ep"))
    for name in ("prediction_error", "displacement"):
        assert len(found.details[f"{name}_unclamped"]) == 3
    assert found.details["prediction_error_unclamped"] == found.details["unclamped"]


def test_alignment_says_when_the_credit_is_not_in_use():
    audit = audited("credit_bridge")
    audit.epoch = 0
    assert diagnostic("alignment").measure(audit).details["in_use"] is False


@pytest.mark.long
def test_alignment_reads_the_credit_from_which_the_blocks_learn():
    """A rule that audits the gradient and trains its blocks by noise has Γ = 1 for what it audits.
    The credit of the last block is not deep: a rule may compute it in another way."""
    noise = torch.Generator().manual_seed(0)

    def with_blocks(blocks):
        def change(credits, g):
            exact = [g[site] for site in audit.net.sites]
            return Credits(audited=exact, blocks=blocks(g), in_use=credits.in_use)

        audit = audited("bp")
        audit.edit_credits = change
        return diagnostic("alignment").measure(audit).details

    found = with_blocks(lambda g: [torch.randn(c.shape, generator=noise) for c in g[1:]])
    assert found["deep"] == pytest.approx(1.0, abs=1e-6)
    assert len(found["blocks"]) == 3
    assert found["blocks_deep"] == pytest.approx(sum(found["blocks"][:2]) / 2)
    assert abs(found["blocks_deep"]) < 0.05
    swapped = with_blocks(lambda g: [-c for c in g[1:]])
    assert swapped["blocks"] == pytest.approx([-1.0] * 3, abs=1e-6)
    last = lambda g: [*g[1:-1], -g[-1]]  # noqa: E731
    scaled = lambda g: [1e-14 * (1 + n) * c for n, c in enumerate(g[1:])]  # noqa: E731
    for same in (lambda g: g[1:], last, scaled, lambda g: [3e-9 * c for c in g[:-1]]):
        assert "blocks" not in with_blocks(same)
    mixed = [lambda c: c * torch.where(torch.arange(len(c)) % 2 == 0, 1, -1)[:, None]]
    for other in (lambda c: 0 * c, *mixed):
        assert "blocks" in with_blocks(lambda g, other=other: [*map(other, g[1:])])
    assert "blocks" not in with_blocks(lambda g: None)
    # credit_bridge learns from another credit in its warm-up, which has a mark of its own
    warm = audited("credit_bridge")
    warm.epoch = 0
    assert "blocks" not in diagnostic("alignment").measure(warm).details


WITH_CONTROLS = [c.name for c in bench_diagnostics() if diagnostic(c.name).controls()]


def test_every_diagnostic_that_is_measured_on_a_network_has_controls():
    """These compare runs; their controls are in test_verdict.py and test_distance.py."""
    assert {c.name for c in bench_diagnostics()} - set(WITH_CONTROLS) == {
        "depth_utility",
        "state_distance",
    }


@pytest.mark.parametrize("name", WITH_CONTROLS)
def test_controls_give_the_known_answer(name):
    found = diagnostic(name)
    assert len(found.controls()) >= 2
    for control in found.controls():
        audit = audited(width=64)
        control.change(audit)
        assert control.expect(found.measure(audit)), control.name


@pytest.mark.parametrize("name", ["scale_growth", "reference_floor", "batch_stability"])
def test_the_positive_control_fires_by_the_stored_rule_and_the_negative_does_not(name):
    """The rule that a verdict applies to what is stored agrees with the control."""
    found = diagnostic(name)
    answers = []
    for control in found.controls():
        audit = audited(width=64)
        control.change(audit)
        answers.append(fires(measure(found, audit)))
    assert answers == [True, False]


def test_states_that_are_not_finite_fire_and_do_not_crash():
    audit = audited()
    with torch.no_grad():
        audit.net.blocks[1].w2.bias[0] = float("nan")
    assert fires(measure(diagnostic("scale_growth"), audit))
    assert fires(measure(diagnostic("reference_floor"), audit))
    assert diagnostic("alignment").measure(audit).not_diagnostic is not None


def test_older_records_get_the_attributes_of_the_classes():
    for name, older in OLDER.items():
        target = diagnostic(name)
        assert older == {key: getattr(target, key) for key in older}, name
    known = described("scale_growth", Measurement(value=60.0, letter="a"))
    assert known.sentence == diagnostic("scale_growth").sentence
    assert known.value == 60.0
    assert described("lab/scale_growth", Measurement()) == Measurement()


def test_a_measurement_without_a_title_is_written_as_before():
    assert Measurement(value=1.0).model_dump().keys().isdisjoint(Measurement.OMITTED)
    item = Measurement(value=1.0, letter="e", title="rank", axis="log", batch=128, repeatable=False)
    assert Measurement.model_validate(item.model_dump(mode="json")) == item


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("the output error", lambda batch: batch.states.output_error.zero_()),
        ("x", lambda batch: batch.states.x.mul_(2)),
        ("a_1", lambda batch: batch.credits.audited[1].neg_()),
        ("g_2", lambda batch: batch.g[2].requires_grad_()),
    ],
)
def test_a_diagnostic_may_not_write_into_the_probe_batches(name: str, write: Any) -> None:
    class Writes(Diagnostic):
        def per_batch(self, audit: Audit, batch: Any) -> None:
            write(batch)

        def measure(self, audit: Audit) -> Measured:
            return Measured(1.0)

    audit = audited()
    audit.due = [Writes(Writes.Params())]
    with pytest.raises(ChangedByDiagnostic, match=f"Writes changes {name} of probe batch 0"):
        len(audit.batches)
    audit = audited()
    assert (len(audit.batches), audit.changed()) == (10, "")
    write(audit.batches[3])
    # x is a slice of the test set, and torch counts writes into any of its slices for all
    assert audit.changed() == f"{name} of probe batch {0 if name == 'x' else 3}"


def test_a_rule_may_reuse_the_memory_of_its_credit() -> None:
    audit = audited()
    own, first = audit.method.credit, audited().batches[0].audited
    buffers = [torch.zeros_like(a) for a in first]

    def credit(states: Any, y: Any, epoch: int) -> Credits:
        for buffer, a in zip(buffers, own(states, y, epoch).audited, strict=False):
            buffer[: len(a)] = a
        return Credits(audited=[buffer[: len(y)] for buffer in buffers])

    plain = [batch.audited[0] for batch in audited().batches]
    audit.method.credit = credit
    assert all(map(torch.equal, [batch.audited[0] for batch in audit.batches], plain))
