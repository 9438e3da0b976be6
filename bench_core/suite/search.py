"""Define the `search:` section of a suite: what `bench tune` may change, and on how many trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from bench_core.suite.component import Model, fault, no_twins, setting
from bench_core.suite.document import KeyPath

MOST_TRIALS = 10_000


class Range(Model):
    """Numbers from `low` to `high`; whole numbers where both ends are whole."""

    low: int | float = Field(description="the smallest value")
    high: int | float = Field(description="the largest value")
    scale: Literal["linear", "log"] = setting("linear", "log: uniform in the logarithm")

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.low >= self.high:
            raise fault(f"is empty: low ({self.low:g}) must be below high ({self.high:g})")
        if self.scale == "log" and self.low <= 0:
            raise fault(f"needs low above 0 for a log scale, not {self.low:g}")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = Annotated[list[Any], Field(min_length=1), AfterValidator(no_twins)]
Space = Choices | Range


def _real(space: Space) -> Space:
    """Take the range of a real number as such where its ends are whole."""
    if isinstance(space, Range):
        return space.model_copy(update={"low": float(space.low), "high": float(space.high)})
    return space


Real = Annotated[Space, AfterValidator(_real)]


class RecipeSearch(Model):
    """Settings of `training` that are searched for every rule; a missing one is not searched."""

    learning_rate: Real | None = setting(None, "AdamW's learning rate at the start")
    weight_decay: Real | None = setting(None, "AdamW's weight decay")
    clip_norm: Real | None = setting(None, "gradient norm each group is clipped to")
    batch_size: Space | None = setting(None, "samples in a step")
    schedule: Choices | None = setting(None, "learning rate over the epochs")


class Search(Model):
    """The search of `bench tune`: the same number of trials for every rule and for bp."""

    trials: int = setting(20, "trials of every rule", ge=1, le=MOST_TRIALS)
    seed: int = setting(
        0, "of the sampler and of the trials' trainings; no seed of the suite", ge=0, le=2**32 - 1
    )
    scored_on: Literal["validation", "test"] = setting(
        "validation", "test: trials are scored on the test set, and the table says so"
    )
    training: RecipeSearch = setting(RecipeSearch(), "settings of the recipe, for every rule")
    methods: dict[str, dict[str, Space]] = setting({}, "rule → its own parameters")

    def space(self, rule: str) -> Iterator[tuple[str, Space, KeyPath]]:
        """Yield what is searched for a rule: dotted key, values, and their place in the suite."""
        for name in RecipeSearch.model_fields:
            if (space := getattr(self.training, name)) is not None:
                yield f"training.{name}", space, ("search", "training", name)
        for name, space in self.methods.get(rule, {}).items():
            yield f"method.{name}", space, ("search", "methods", rule, name)
