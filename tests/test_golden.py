"""Holds what every rule computes in five steps, and what every diagnostic reads, to golden figures.

They guard `numerics`: numbers that move fail here until somebody says that they were meant to. How
the figures are made, and why they are the same on other processors and with other versions of
torch: tests/golden/compute.py.
"""

from __future__ import annotations

import json
from functools import partial
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import pairs
from golden import compute

import bench_core.training.credit
import bench_core.training.rng
from bench_core.training.optimizer import Updater

RULES = compute.built_in("method")
SHOWN = 12
ADVICE = """\
If you meant to change these numbers, raise `numerics` of the component concerned (the method, the
architecture, the diagnostic; or of the training: loop, update, streams) and run
`python tests/golden/make.py {rule}`; otherwise it is a fault."""


def complaint(rule: str, arch: str, stored: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Words what to tell whoever moved the figures of a pair; None where they agree."""
    found = compute.beyond(compute.differences(stored, now))
    if not found:
        return None
    lines = [f"{rule} on {arch}: {len(found)} golden figures moved"]
    lines += [f"  {one}" for one in sorted(found, key=lambda one: -one.relative)[:SHOWN]]
    lines += [f"  … and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "\n".join([*lines, ADVICE.format(rule=rule)])


def stale(rule: str, stored: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Words what to tell whoever raised `numerics` without new figures; None where they agree."""
    if not (found := compute.differences(stored, now)):
        return None
    listed = "; ".join(f"{one.where} is {one.now} and was {one.stored}" for one in found)
    return (
        f"tests/golden/{rule}.json was made with other numerics than today's: {listed}. "
        f"Run `python tests/golden/make.py {rule}` and check it in with the change."
    )


def test_every_rule_has_its_figures_and_no_other() -> None:
    files = {path.stem for path in compute.FOLDER.glob("*.json")}
    assert files == set(RULES), "run make.py for a new rule, delete the file of one that went"
    for rule in sorted(files):
        assert set(compute.read(rule)) == {"numerics", *compute.ARCHS}


@pytest.mark.parametrize("rule", RULES)
def test_the_figures_are_those_of_todays_numerics(rule: str) -> None:
    if message := stale(rule, compute.read(rule)["numerics"], compute.numerics(rule)):
        pytest.fail(message)


@pytest.mark.parametrize(("rule", "arch"), pairs(RULES, compute.ARCHS, "resmlp", ["bp", "fa"]))
def test_the_figures_have_not_moved(rule: str, arch: str) -> None:
    if message := complaint(rule, arch, compute.read(rule)[arch], compute.figures(rule, arch)):
        pytest.fail(message)


# ------------------------------------------------------------------------------- that they can move


def moved(rule: str, arch: str) -> str:
    """Computes a pair's figures now and words the complaint; fails where there is none."""
    message = complaint(rule, arch, compute.read(rule)[arch], compute.figures(rule, arch))
    assert message is not None, "nothing was noticed"
    assert "float64 tensors" in message
    return message


@pytest.fixture(autouse=True, scope="module")
def _imported() -> None:
    """Import every component before a test replaces a function that its module takes by name."""
    for rule in RULES:
        compute.numerics(rule)


def test_another_eps_of_the_rms_is_noticed() -> None:
    rms = bench_core.training.credit.rms

    def other(credit: torch.Tensor, eps: float, *more: Any) -> torch.Tensor:
        return rms(credit, 1.1 * eps, *more)

    with patch.object(bench_core.training.credit, "rms", other):
        assert "python tests/golden/make.py dfa" in moved("dfa", "resmlp")


def test_another_derivation_of_the_streams_is_noticed() -> None:
    with patch.object(bench_core.training.rng, "blake2b", partial(blake2b, person=b"other")):
        # the order and the crops are all that it draws beside its network
        assert moved("bp", "vit_mini")


@pytest.mark.long
def test_a_slightly_other_clipping_is_noticed() -> None:
    clip = Updater.clip

    def other(updater: Updater, largest: float) -> None:
        clip(updater, largest * (1 + 1e-6))

    with patch.object(Updater, "clip", other):
        assert moved("ep", "vit_mini")


def test_a_raised_number_without_new_figures_is_noticed() -> None:
    stored = compute.numerics("bp")
    raised = json.loads(json.dumps(stored)) | {"method": 2}
    assert stale("bp", stored, stored) is None
    message = stale("bp", stored, raised)
    assert message is not None
    assert "method is 2 and was 1" in message
    assert "make.py bp" in message


def test_what_is_missing_or_no_number_is_noticed() -> None:
    stored = {"float64": {"tensors": {"net.w": {"norm": 1.0}}}}
    assert complaint("bp", "resmlp", stored, {"float64": {"tensors": {}}}) is not None
    nan = {"float64": {"tensors": {"net.w": {"norm": "nan"}}}}
    assert complaint("bp", "resmlp", stored, nan) is not None
    assert complaint("bp", "resmlp", nan, stored) is not None
    assert complaint("bp", "resmlp", stored, {"refused": "why"}) is not None
    assert complaint("bp", "resmlp", {"refused": "why"}, {"refused": "put otherwise"}) is None
