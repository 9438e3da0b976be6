"""A training that goes on from a saved state ends with the bits of one that never stopped."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from conftest import some
from nets import METHODS, TRAINING, ready, resmlp, rule, toy_data
from torch import Tensor, nn

from bench_core.api import Method, Net
from bench_core.errors import StoreError
from bench_core.execution.resumption import CannotResume, Keeper, saved_state
from bench_core.execution.worker.continuity import changed_credit, witness
from bench_core.results import store
from bench_core.training import saved_state as state_file
from bench_core.training.data import Data
from bench_core.training.loop import EpochRow, train

pytestmark = pytest.mark.processes

EPOCHS = 4
RECIPE = {**TRAINING, "epochs": EPOCHS, "learning_rate": 1e-2}
Make = Callable[[], tuple[Method, Net, Data]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(Exception):  # noqa: N818
    """The process was killed right after an epoch."""


def going(
    make: Make,
    path: Path,
    *,
    every: int | None = 1,
    die_after: int | None = None,
    identity: str = "i",
) -> Any:
    """One attempt at a training: (method, net, rows seen, streams' next draws)."""
    torch.manual_seed(99)  # a process of its own would have its own global generators
    random.seed(99)
    numpy.random.seed(99)
    method, net, data = make()
    rows: list[EpochRow] = []

    def observe(row: EpochRow) -> bool:
        rows.append(row)
        return False

    class Deadly(Keeper):
        def passed(self, epoch: int) -> None:
            super().passed(epoch)
            if epoch == die_after:
                raise Killed

    keeper = Deadly(
        path, identity, every, net, method, lambda: {"rows": len(rows)}, lambda state, before: None
    )
    train(method, net, data, RECIPE, 5, observe, keeper)
    return method, net, rows


def state(method: Method, net: Net) -> dict[str, Tensor]:
    """All that a training leaves, the optimisers' moments and the generators too."""
    found = {f"net.{name}": value for name, value in net.state_dict().items()}
    found |= {f"method.{name}": value for name, value in method.state_dict().items()}
    for number, updater in enumerate(method.tools.updaters):
        for index, values in updater.optimiser.state_dict()["state"].items():
            found |= {f"updater.{number}.{index}.{key}": value for key, value in values.items()}
    found |= {
        "feedback": method.tools.generator.get_state(),
        "auxiliary": method.tools.aux_generator.get_state(),
    }
    return found | {"cpu": torch.get_rng_state()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def built_in(name: str, **params: Any) -> Make:
    def make() -> tuple[Method, Net, Data]:
        data = toy_data(n=96, test=64)
        method, net = ready(rule(name, **params), resmlp(seed=3), data, seed=5, **RECIPE)
        return method, net, data

    return make


class Norms(Net):
    """BatchNorm's running statistics are state that no optimiser knows of."""

    def __init__(self) -> None:
        from bench_plugins.archs.resmlp import ResMLP

        super().__init__(ResMLP.Params(), (12,), 5)
        self.embed = nn.Linear(12, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 8)) for _ in range(2)
        )
        self.readout = nn.Linear(8, 5)


def with_buffers() -> tuple[Method, Net, Data]:
    torch.manual_seed(1)
    data = toy_data(n=96, test=64)
    return *ready(rule("bp"), Norms(), data, seed=5, **RECIPE), data


class Restless(type(rule("bp"))):  # type: ignore[misc]
    """Draws from every global generator."""

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        noise = (
            float(torch.rand(()))
            + random.random()
            + float(numpy.random.rand())
            + random.gauss(0, 1)
        )
        return super().step(x * (1 + 0.01 * noise), y, epoch)


def restless() -> tuple[Method, Net, Data]:
    data = toy_data(n=96, test=64)
    method = Restless(Restless.Params())
    return *ready(method, resmlp(seed=3), data, seed=5, **RECIPE), data


class OwnGenerator(type(rule("dfa"))):  # type: ignore[misc]
    """Holds a generator of its own, beside those of its tools."""

    def setup(self, net: Net, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        self.noise = torch.Generator().manual_seed(7)

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        return super().step(x + 0.1 * torch.randn(x.shape, generator=self.noise), y, epoch)


class ListedGenerators(OwnGenerator):
    """Holds one for each block of inputs, in a list within a mapping."""

    def setup(self, net: Net, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        self.further = {"inputs": [torch.Generator().manual_seed(n) for n in (8, 9)]}

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        for one in self.further["inputs"]:
            x = x + 0.1 * torch.randn(x.shape, generator=one)
        return super().step(x, y, epoch)


def listed_generators() -> tuple[Method, Net, Data]:
    data = toy_data(n=96, test=64)
    method = ListedGenerators(ListedGenerators.Params())
    return *ready(method, resmlp(seed=3), data, seed=5, **RECIPE), data


def own_generator() -> tuple[Method, Net, Data]:
    data = toy_data(n=96, test=64)
    method = OwnGenerator(OwnGenerator.Params())
    return *ready(method, resmlp(seed=3), data, seed=5, **RECIPE), data


def pictures() -> tuple[Method, Net, Data]:
    """Crops and flips, drawn from their own stream."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (160, 3, 8, 8), generator=draws, dtype=torch.uint8)
    y = torch.randint(0, 5, (160,), generator=draws)
    data = Data(x[:96], y[:96], x[96:], y[96:], 5, (0.5,) * 3, (0.2,) * 3, augment=True)
    return *ready(
        rule("dfa", penalty=0.1), resmlp(seed=3, shape=(3, 8, 8)), data, seed=5, **RECIPE
    ), data


FEW = {"bp", "fa", "kolen_pollack", "ep", "state_bridge"}
CASES: dict[str, Make] = {name: built_in(name) for name in METHODS}
CASES |= {
    "random targets": built_in("dfa", random_targets=True),
    "frozen": built_in("bp", freeze="blocks"),
}
CASES |= {
    "buffers and dropout": with_buffers,
    "global generators": restless,
    "a generator of its own": own_generator,
    "listed generators": listed_generators,
    "augmentation": pictures,
}


@pytest.mark.parametrize("name", some(CASES, {*CASES} - {*METHODS} | FEW))
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    """Killed after the first and after the third of four epochs.

    Weights, feedback, moments, generators and rows.
    """
    make, path = CASES[name], tmp_path / "state.safetensors"
    method, net, rows = going(make, tmp_path / "never", every=None)
    straight = state(method, net)
    for die_after in (1, 3):
        with pytest.raises(Killed):
            going(make, path, die_after=die_after)
    assert state_file.header(path)["epoch"] == 3  # type: ignore[index]
    method, net, last = going(make, path)
    assert_same_bits(state(method, net), straight)
    assert [replace(row, seconds=0) for row in last] == [
        replace(row, seconds=0) for row in rows[-1:]
    ]
    assert not (tmp_path / "never").exists()


class WritesAtOnce(type(rule("dfa"))):  # type: ignore[misc]
    """Multiplies the weights in its first step alone, by other means than the optimiser."""

    factor = 1.0

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        if epoch == 0:
            with torch.no_grad():
                for p in self.net.blocks.parameters():
                    p.mul_(self.factor)
        return super().step(x, y, epoch)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_resumed_training_knows_of_writes_beside_the_optimiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """A write that left the weights as they were makes the rule suspect, another one is told."""
    monkeypatch.setattr(WritesAtOnce, "factor", factor)

    def writes() -> tuple[Method, Net, Data]:
        data = toy_data(n=96, test=64)
        made = WritesAtOnce(WritesAtOnce.Params())
        return *ready(made, resmlp(seed=3), data, seed=5, **RECIPE), data

    with pytest.raises(Killed):
        going(writes, tmp_path / "state", die_after=2)
    updater = going(writes, tmp_path / "state")[0].tools.updater
    assert (updater.suspect, updater.others) == (True, factor != 1.0)


def test_a_resumed_training_of_an_honest_rule_has_no_writes_beside_the_optimiser(
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        going(CASES["bp"], tmp_path / "state", die_after=2)
    updater = going(CASES["bp"], tmp_path / "state")[0].tools.updater
    assert (updater.suspect, updater.others) == (False, False)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    make = CASES["credit_bridge"]
    method, net, _ = going(make, tmp_path / "never", every=None)
    plain = state(method, net)
    method, net, _ = going(make, tmp_path / "state.safetensors", every=1)
    assert_same_bits(state(method, net), plain)


def test_a_state_is_saved_every_so_many_epochs_and_not_after_the_last(tmp_path: Path) -> None:
    for every, epoch in ((1, 3), (2, 2), (3, 3)):
        path = tmp_path / f"{every}.safetensors"
        going(CASES["bp"], path, every=every)
        assert state_file.header(path)["epoch"] == epoch  # type: ignore[index]
    going(CASES["bp"], tmp_path / "4.safetensors", every=4)
    assert state_file.header(tmp_path / "4.safetensors") is None


WHOLE = ("other cell", "gone", "other user")  # the file is as it was


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "empty",
        "zeros",
        "a bit of a tensor",
        "a bit of the text",
        "a type",
        "a shape",
        "other cell",
        "gone",
        "other user",
    ],
)
def test_a_state_that_cannot_be_trusted_is_not_used(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the training begins anew, and ends with the same bits."""
    make, path = CASES["dfa"], tmp_path / "state.safetensors"
    straight = state(*going(make, tmp_path / "never", every=None)[:2])
    with pytest.raises(Killed):
        going(make, path, die_after=2)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    elif damage == "zeros":
        content[:] = bytes(len(content))
    elif damage == "a bit of a tensor":
        content[-5] ^= 1
    elif damage == "a bit of the text":
        at = (
            content.index(b'\\"seconds\\"')
            if b'\\"seconds\\"' in content
            else content.index(b"rows") + 8
        )
        content[at] ^= 1
    elif damage == "a type":
        at = content.index(b'"dtype":"F32"')
        content[at : at + 13] = b'"dtype":"I32"'
    elif damage == "a shape":
        at = content.index(b'"shape":[16,12]')
        content[at : at + 15] = b'"shape":[12,16]'
    path.write_bytes(content)
    beside = store.resume_file(tmp_path / "run")  # as a plan reads it, without torch
    beside.write_bytes(content)
    assert (saved_state(tmp_path / "run") is not None) == (damage in WHOLE)
    if damage == "gone":
        path.unlink()
    if damage == "other user":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    method, net, rows = going(make, path, identity="other" if damage == "other cell" else "i")
    assert len(rows) == EPOCHS + 1
    assert_same_bits(state(method, net), straight)


def test_a_state_that_does_not_fit_is_said_so(tmp_path: Path) -> None:
    """The method was lent one updater more than when the state was saved."""
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        going(CASES["dfa"], path, die_after=2)

    def other() -> tuple[Method, Net, Data]:
        method, net, data = CASES["dfa"]()
        method.tools.auxiliary({"extra": [nn.Parameter(torch.zeros(2))]})
        return method, net, data

    with pytest.raises(CannotResume):
        going(other, path)


class LateGenerator(OwnGenerator):
    """Makes its generator in the first step."""

    def setup(self, net: Net, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        del self.noise

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        if not hasattr(self, "noise"):
            self.noise = torch.Generator().manual_seed(7)
        return super().step(x, y, epoch)


def test_a_generator_that_is_made_later_than_in_setup_begins_anew(tmp_path: Path) -> None:
    def late() -> tuple[Method, Net, Data]:
        data = toy_data(n=96, test=64)
        method = LateGenerator(LateGenerator.Params())
        return *ready(method, resmlp(seed=3), data, seed=5, **RECIPE), data

    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        going(late, path, die_after=2)
    with pytest.raises(CannotResume, match="makes the generators noise later than in setup"):
        going(late, path)


class Forgetful(DirectFeedbackAlignment):
    """Moves its feedback in every step, and leaves it out of `state_dict`."""

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        for feedback in self.kept.values():
            feedback *= 1.01
        return super().step(x, y, epoch)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class Centring(DirectFeedbackAlignment):
    """Computes in every step the mean error that its credit needs: a restored one has none yet."""

    mean: Tensor | None = None

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        with torch.no_grad():
            self.mean = self.net.states(x).detach(y).output_error.mean(0)
        return super().step(x, y, epoch)

    def credit(self, states: Any, y: Tensor, epoch: int) -> Any:
        own = super().credit(states, y, epoch)
        if self.mean is None:
            return own
        return replace(own, audited=[a + self.mean.sum() + self.mean[0] for a in own.audited])


class Drawing(DirectFeedbackAlignment):
    """Draws in every credit, and in every step from all global generators."""

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        torch.rand(()), random.random(), numpy.random.rand()
        return super().step(x, y, epoch)

    def credit(self, states: Any, y: Tensor, epoch: int) -> Any:
        own = super().credit(states, y, epoch)
        noise = torch.randn((), generator=self.tools.generator)
        return replace(own, audited=[a * noise for a in own.audited])


class Same(DirectFeedbackAlignment):
    """Gives one tensor to every state."""

    def credit(self, states: Any, y: Tensor, epoch: int) -> Any:
        own = super().credit(states, y, epoch)
        return replace(own, audited=[own.audited[0] for _ in own.audited], embed=own.audited[0])


class Counting(DirectFeedbackAlignment):
    """Trains blocks or embedding by the number of its steps, which it does not keep."""

    steps = 0

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        self.steps += 1
        return super().step(x, y, epoch)


class CountsForBlocks(Counting):
    def credit(self, states: Any, y: Tensor, epoch: int) -> Any:
        own = super().credit(states, y, epoch)
        return replace(own, blocks=[a * (1 + self.steps) for a in own.for_blocks])


class CountsForEmbedding(Counting):
    def credit(self, states: Any, y: Tensor, epoch: int) -> Any:
        own = super().credit(states, y, epoch)
        return replace(own, embed=own.for_embed * (1 + self.steps))


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        (Forgetful, "0"),
        (DirectFeedbackAlignment, None),
        (Centring, "0"),
        (Drawing, None),
        (Same, None),
        (CountsForBlocks, "blocks[0]"),
        (CountsForEmbedding, "embed"),
    ],
)
def test_a_restored_rule_that_lacks_what_its_credit_needs_is_found(
    tmp_path: Path, kind: type[Method], site: str | None
) -> None:
    """No answer moves a generator. A rule must keep what its credit needs, as bench check asks."""

    def make() -> tuple[Method, Net, Data]:
        data = toy_data(n=96, test=64)
        return *ready(kind(kind.Params()), resmlp(seed=3), data, seed=5, **RECIPE), data

    def drawn() -> list[Any]:
        return [random.getstate(), *numpy.random.get_state()[1].tolist()]

    method, net, data = make()
    path, before = tmp_path / "state.safetensors", dict[str, Tensor]()
    for epoch in (1, 2):
        method.step(data.train_x[:32], data.train_y[:32], epoch)
        kept, others = {n: v.clone() for n, v in state(method, net).items()}, drawn()
        before = witness(net, method, data, 5, epoch)
        assert_same_bits(state(method, net), kept)
        assert drawn() == others
    assert {"0", "1", "2"} <= {*before}
    path.write_bytes(state_file.TrainingState(net, method, {}).dump(2, "i", {}, before))
    restored, other, _ = make()
    loaded = state_file.TrainingState(other, restored, {}).load(path, "i")
    assert loaded is not None
    now = witness(other, restored, data, 5, 2)
    assert changed_credit(now, loaded[1], here=True) == site
    if kind is Centring:
        assert not torch.allclose(now["1"], before["1"])


def test_credits_are_another_rules_where_more_than_an_eighth_of_the_samples_differ() -> None:
    a = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))

    def verdict(now: Tensor | None, here: bool = True) -> str | None:
        return changed_credit({} if now is None else {"1": now}, {"1": a}, here)

    def changed(rows: int, factor: float) -> Tensor:
        return torch.cat([a[:rows] * factor, a[rows:]])

    assert verdict(a) is None
    assert verdict(changed(1, 1.00001)) == "1"  # here no sample differs
    assert verdict(changed(2, 5.0), here=False) is None  # an inference that diverges
    assert verdict(changed(3, 5.0), here=False) == "1"
    assert verdict(changed(16, 1.002), here=False) is None
    assert verdict(changed(16, 1.1), here=False) == "1"
    assert verdict(a * torch.nan) == "1"
    assert verdict(None) == "1"
    assert verdict(a[:, :4]) == "1"
    nan = a.clone()
    nan[:9, 0] = torch.nan
    assert changed_credit({"1": nan}, {"1": nan}, True) is None


def test_a_full_disk_leaves_the_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        going(CASES["bp"], path, die_after=1)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        going(CASES["bp"], path)
    assert path.read_bytes() == before


def test_the_text_of_a_state_is_read_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        going(CASES["bp"], path, die_after=2)
    found = state_file.header(path)
    assert found is not None
    assert found["rows"] == 3
    assert json.dumps(found)
    for content in (
        b"",
        b"\xff" * 9,
        b"\x02" + bytes(7) + b"{}",
        b"\x10" + bytes(7) + b'{"__metadata__":1',
    ):
        path.write_bytes(content)
        assert state_file.header(path) is None
    assert state_file.header(tmp_path) is None


def test_a_plan_announces_only_states_that_this_user_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seconds count against a budget: a planted state ended cells before they began."""
    final = tmp_path / ("a" * 32)
    path = store.resume_file(final)
    with pytest.raises(Killed):
        going(CASES["bp"], path, die_after=2)
    found = saved_state(final)
    assert found is not None
    assert found["epoch"] == 2
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        assert saved_state(final) is None
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    assert saved_state(final) is None
