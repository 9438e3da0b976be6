"""Read a published figure that a suite is compared with: an entry of `expect:`.

    figure                      of one run
    accuracy, train_loss        after the last epoch
    seconds, seconds_per_epoch  of the run, of its training
    margin, .matched, .bp       points over the suite's floor, the matched floor, frozen bp
    walked_back                 1 if the rule is walked back over its seeds (a single run: if a
                                diagnostic is flagged), else 0
    fires.L                     1 if the diagnostic L (letter or name) fires at the end, else 0
    ever_fires.L                1 if it fires after any epoch, else 0
    first_epoch.L               the first epoch after which it fires
    DIAGNOSTIC                  the value of a diagnostic; of depth_utility the margin
    DIAGNOSTIC.path[i]          a detail of it: `alignment.deep`, `alignment.unclamped[0]`

`first_epoch.b@1024` and `ever_fires.b@1024` read b at N = 1024. With `epoch: N`, accuracy,
train_loss, fires and the diagnostics are those after epoch N. The claim is about the mean over
seeds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from bench_core.names import FULL_NAME
from bench_core.suite.component import ComponentSpec, Model, fault, from_text, or_text, setting
from bench_core.suite.recipe import MAX_EPOCHS

FigureKind = Literal[
    "field", "margin", "verdict", "fires", "ever_fires", "first_epoch", "diagnostic"
]
FIGURES: dict[str, FigureKind] = {
    **dict.fromkeys(("accuracy", "train_loss", "seconds", "seconds_per_epoch"), "field"),
    **dict.fromkeys(("margin", "margin.matched", "margin.bp"), "margin"),
    "walked_back": "verdict",
}
LETTERED: tuple[FigureKind, ...] = ("fires", "ever_fires", "first_epoch")
MAX_SEED = 2**32 - 1  # torch's generator reads 32 bits: larger seeds would share initial weights
AT_EPOCH = ("accuracy", "train_loss")  # fields that every epoch has
SHARES: tuple[FigureKind, ...] = ("verdict", "fires", "ever_fires")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]{1,6})\]")
_DIAGNOSTIC = re.compile(rf"([a-z0-9_-]+(?:/[a-z0-9_-]+)?)((?:{_STEP.pattern})*)")


@dataclass(frozen=True)
class ClaimedFigure:
    """The parts of a claimed figure: what is read, and of which field, letter or diagnostic.

    path  keys and indices into a diagnostic's details
    """

    kind: FigureKind
    name: str
    path: tuple[str | int, ...] = ()


def parse_figure(text: str) -> ClaimedFigure:
    """Take a figure's name apart. Raises a fault, but not for an unknown diagnostic."""
    if text in FIGURES:
        return ClaimedFigure(FIGURES[text], text)
    head, dot, rest = text.partition(".")
    for kind in LETTERED:
        if head == kind:
            at_1024 = kind != "fires" and rest == "b@1024"
            if not at_1024 and not re.fullmatch(FULL_NAME, rest):
                raise fault(f"needs a diagnostic's letter or name: {kind}.b")
            return ClaimedFigure(kind, rest)
    if head == "margin" and dot:
        raise fault(f"unknown margin '{rest}'; known: margin, margin.matched, margin.bp")
    if head in FIGURES:
        raise fault(f"{head} has no parts")
    parts = _DIAGNOSTIC.fullmatch(text)
    if parts is None:
        raise fault("must be a figure such as accuracy, fires.b or alignment.unclamped[0]")
    path = tuple(key or int(index) for key, index in _STEP.findall(parts[2]))
    return ClaimedFigure("diagnostic", parts[1], path)


def _known(text: str) -> str:
    parse_figure(text)
    return text


class ClaimedMethod(ComponentSpec):
    """The method that a claim is about; options that it does not name have their defaults."""

    model_config = ConfigDict(
        json_schema_extra=or_text(rf"^{FULL_NAME}(\[.+\])?$", "name or name[option=value,…]"),
        title="a name, name[option=value,…], or a mapping with name",
    )

    _from_text = model_validator(mode="before")(from_text)


class Expectation(Model):
    """A published figure: a value with tolerance or factor, or a bound, for the suite's recipe."""

    figure: Annotated[str, AfterValidator(_known)] = Field(
        min_length=1,
        max_length=200,
        description="what is claimed, such as accuracy, fires.b, alignment.deep",
    )
    method: ClaimedMethod | None = setting(
        None, "the method it is claimed for, such as dfa[penalty=1e-2]"
    )
    cell: dict[str, Any] = setting(
        {},
        "the cells it is claimed for: dotted key to value, as in `exclude`; "
        "wins over the suite's recipe",
    )
    seed: int | None = setting(None, "the only seed it is claimed for", ge=0, le=MAX_SEED)
    epoch: int | None = setting(
        None, "the figure after this epoch; null: at the end", ge=0, le=MAX_EPOCHS
    )
    minus: ClaimedMethod | None = setting(None, "the figure less that of this method, by seed")
    divide_by: float = setting(
        1.0, "number that divides the figure, such as N = 128", gt=0, le=1e12
    )
    value: float | None = setting(None, "the published value")
    deviation: float | None = setting(
        None, "the published ±, shown with the value; it decides nothing", ge=0
    )
    tolerance: float | None = setting(None, "it holds within value ± tolerance", ge=0)
    factor: float | None = setting(
        None, "it holds from value / factor to value · factor", gt=1, le=1e12
    )
    at_least: float | None = setting(None, "it holds from this value on")
    at_most: float | None = setting(None, "it holds up to this value")
    recipe: Literal["suite", "any"] = setting(
        "suite", "any: it is claimed for other trainings and data too"
    )
    source: str = Field(min_length=1, description="where it was published")
    note: str = setting("", "what a reader should know of it")

    @model_validator(mode="after")
    def _whole(self) -> Expectation:
        margins = sum(margin is not None for margin in (self.tolerance, self.factor))
        bounds = self.at_least is not None or self.at_most is not None
        if self.value is None and (margins or self.deviation is not None):
            word = "tolerance" if margins else "deviation"
            raise fault(f"has a {word} without a value")
        if self.value is None and not bounds:
            what = "needs value with tolerance or factor, or at_least, or at_most"
            raise fault(what)
        if self.value is not None and bounds:
            what = "has a value and a bound: give value with tolerance or factor, or at_least"
            raise fault(f"{what} and at_most")
        if self.value is not None and margins != 1:
            raise fault("needs tolerance or factor beside value, and not both")
        if self.factor is not None and self.value == 0:
            raise fault("`factor` needs a non-zero `value`; use `tolerance`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise fault("has at_least above at_most")
        if self.method is None and "method" not in self.cell:
            raise fault("names no method: add method, or method under cell")
        parsed = self.parsed
        stated = (self.value, self.at_least, self.at_most)
        if self.figure == "accuracy" and any(abs(each) > 1 for each in stated if each is not None):
            raise fault("accuracy is a fraction: write 0.92 for 92 %")
        stored = parsed.kind in ("fires", "diagnostic") and parsed.name != "depth_utility"
        if self.epoch is not None and not (stored or parsed.name in AT_EPOCH):
            raise fault(f"{self.figure} has no value after an epoch: leave epoch out")
        return self

    @property
    def parsed(self) -> ClaimedFigure:
        return parse_figure(self.figure)
