"""The test set is out of a rule's reach while it trains, and every number is as before."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY, Here, fake_dist, plugin, runs
from nets import toy_data

from bench_core.training.data import TENSORS, Held

SEARCHES = """
import gc, sys
import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.datasets.digits import Digits

class Searches(DirectFeedbackAlignment):
    def look(self, where):
        own = Digits(Digits.Params()).load(None)
        wanted = (own.test_x.clone(), own.test_y.clone())
        del own
        frame = sys._getframe(1)
        seen = list(gc.get_objects())
        while frame := frame.f_back:
            for value in list(frame.f_locals.values()):
                seen += [value, *getattr(value, "__dict__", {}).values()]
        for value in seen:
            if type(value) is torch.Tensor and not any(value is own for own in wanted):
                if any(value.shape == own.shape for own in wanted):
                    raise RuntimeError(f"found the test set in {where}")
        del seen, wanted

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.look("setup")

    def step(self, x, y, epoch):
        if epoch == 1 and not hasattr(self, "looked"):
            self.looked = True
            self.look("the second epoch")
        return super().step(x, y, epoch)
"""


@pytest.mark.long
def test_a_rule_that_searches_for_the_test_set_finds_no_tensor_of_it(here: Here) -> None:
    site = here.cwd / "site"
    fake_dist(site, "bench-searches", "bench_searches", SEARCHES + plugin(
        "bench_methods()", "return [Component('searches', 'bench_searches:Searches', 'looks')]"
    ))  # fmt: skip
    suite = TINY.replace("[dfa]", "[searches]").replace("seeds: [1]", "seeds: [1]\nfloors: false")
    (here.cwd / "suite.yaml").write_text(suite.replace("epochs: 1", "epochs: 2"))
    done = here("run", "suite.yaml", path=[site])
    (record,) = runs(here.cwd / "results" / "tiny").values()
    assert record["status"] == "done", (record["reason"], done.stderr)


@pytest.mark.parametrize("change", [None, torch.float64, torch.uint8, torch.bfloat16])
def test_held_data_are_the_same_to_the_bit(change: torch.dtype | None) -> None:
    data = toy_data()
    if change is not None:
        object.__setattr__(data, "test_x", (data.test_x * 9).to(change))
    held = Held(data)
    opened = held.opened()
    for name in TENSORS:
        one, other = getattr(data, name), getattr(opened, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert other.is_contiguous()
    assert opened.test_x.data_ptr() % 64 == 0
    assert len(held.training.test_y) == 0
    assert held.chance == data.chance
    assert list(held.training.test_batches(8)) == []
    opened.test_y.zero_()  # a diagnostic that writes is seen: all evaluations share the bytes
    assert held.opened().sums()["test_y"] == opened.sums()["test_y"]


def test_a_test_set_that_is_no_block_of_memory_is_held_too() -> None:
    data = toy_data()
    wide = torch.cat([data.test_x, data.test_x], dim=1)
    object.__setattr__(data, "test_x", wide[:, : data.test_x.shape[1]])
    assert torch.equal(Held(data).opened().test_x, data.test_x)
