"""Check messages of parameter models: the user's keys, one line per union, no pydantic words."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core._pydantic_core import list_all_errors  # every kind of fault there is

from bench_core.api import Dataset, LocalMethod, ParamsModel, PerN
from bench_core.errors import SuiteError
from bench_core.execution.planning import validate
from bench_core.execution.planning.plan import make_plan
from bench_core.registry import plugins
from bench_core.suite.load import load_suite
from bench_core.suite.messages import Fault, explain

JARGON = (
    *(
        "Input should be",
        "input should",
        "type=",
        "errors.pydantic.dev",
        "Value error",
        "Assertion failed",
    ),
    *(
        "valid dictionary",
        "valid integer",
        "valid string",
        "valid boolean",
        "PerN",
        "float",
        "literal[",
        "constrained",
    ),
)


class Colour(Enum):
    red = "red"
    green = "green"


class PerM(ParamsModel):
    per_m: float


class Cat(ParamsModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1)


class Dog(ParamsModel):
    kind: Literal["dog"]
    tail: float


class Tree(ParamsModel):
    below: Tree | int | None = None


def _even(value: int) -> int:
    if value % 2:
        raise PydanticCustomError("even", "must be even")
    return value


class Params(ParamsModel):
    """One field for every kind of schema."""

    mixed: (
        Annotated[int, Field(ge=1)]
        | Literal["auto", "off"]
        | list[int]
        | dict[str, int | PerN]
        | None
    ) = None
    wrapped: Annotated[int, AfterValidator(_even)] | Annotated[str, Field(min_length=2)] = 2
    colour: Colour = Colour.red
    pair: tuple[int, int] = (1, 2)
    short: dict[Annotated[str, Field(max_length=2)], int] = Field({})
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    two: PerN | PerM | float = 1.0
    tree: Tree = Tree()
    even: Annotated[int, AfterValidator(_even)] = 2
    odd: int = 1
    below: float = Field(0.5, lt=1)
    at_least: int = Field(1, ge=1)
    tiny: float = Field(1.0, ge=1e-6, le=1e300)
    eights: int = Field(8, multiple_of=8)
    text: str = Field("a", pattern="^[ab]+$", min_length=1, max_length=3)
    numbers: list[int] = Field([1], min_length=1, max_length=2)
    word: Literal["one", "two", 3, None] = "one"
    share: float = Field(0.5, title="a share of the epochs")
    lists: list[int] | list[str] = Field([1])
    nested: list[PerN | float] = Field([1.0])

    @field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value

    @model_validator(mode="after")
    def _together(self) -> Params:
        if self.odd == 7:
            raise ValueError("odd = 7 does not go\nwith the rest")
        return self


def explained(model: type[BaseModel], values: dict[str, Any]) -> list[Fault]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return explain(caught.value.errors(include_url=False), model, values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"penalty": -1}, ("penalty", "must be between 0 and 1,000,000, not -1")),
        ({"penalty": True}, ("penalty", "must be a number between 0 and 1,000,000, not true")),
        (
            {"penalty": "0.1"},
            (
                "penalty",
                "must be a number between 0 and 1,000,000, not the text '0.1'",
                "write it without quotes",
            ),
        ),
        (
            {"random_targets": "on"},
            ("random_targets", "must be true or false, not the text 'on'", "write true or false"),
        ),
        (
            {"normalize": "smple"},
            (
                "normalize",
                "must be sample, batch or none, not the text 'smple'",
                "did you mean sample?",
            ),
        ),
        ({"freeze": 3}, ("freeze", "must be blocks or null, not 3")),
        ({"normalise": "batch"}, ("normalise", "unknown key", "did you mean normalize")),
        (
            {"zzz": 1},
            (
                "zzz",
                "unknown key",
                "known: block_scale, freeze, normalize, normalize_eps, penalty, random_targets, "
                "train_last",
            ),
        ),
        (
            {"normalize_eps": "x"},
            ("normalize_eps", "must be a number or a mapping with per_n, not the text 'x'"),
        ),
        (
            {"normalize_eps": []},
            ("normalize_eps", "must be a number or a mapping with per_n, not a list"),
        ),
        (
            {"normalize_eps": None},
            ("normalize_eps", "must be a number or a mapping with per_n, not null"),
        ),
        ({"normalize_eps": float("nan")}, ("normalize_eps", "must be a finite number, not .nan")),
        (
            {"normalize_eps": {"per_n": 0}},
            ("normalize_eps.per_n", "must be above 0, not 0"),
        ),
        ({"normalize_eps": {}}, ("normalize_eps.per_n", "is missing")),
    ],
)
def test_options_of_a_rule(values: dict[str, Any], expected: tuple[str, ...]) -> None:
    [found] = explained(LocalMethod.Params, values)
    place, what, *hint = expected
    assert (".".join(map(str, found.path)), found.what) == (place, what)
    assert found.hint.startswith(hint[0]) if hint else found.hint == ""
    assert found.at_key is (what == "unknown key")


def test_a_key_in_the_branch_of_a_union() -> None:
    assert explained(LocalMethod.Params, {"normalize_eps": {"per_m": 1}}) == [
        (("normalize_eps", "per_n"), "is missing", "", False),
        (("normalize_eps", "per_m"), "unknown key", "did you mean per_n?", True),
    ]


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"mixed": 0}, "mixed", "must be at least 1, not 0"),
    (
        {"mixed": "aut"},
        "mixed",
        "must be a whole number of at least 1, auto, off, a list, a mapping or null, "
        "not the text 'aut'",
    ),
    ({"mixed": [1, "x"]}, "mixed.1", "must be a whole number, not the text 'x'"),
    (
        {"mixed": {"q": "x"}},
        "mixed.q",
        "must be a whole number or a mapping with per_n, not the text 'x'",
    ),
    ({"mixed": {"q": {"per_n": 0}}}, "mixed.q.per_n", "must be above 0, not 0"),
    ({"wrapped": []}, "wrapped", "must be a whole number or text, not a list"),
    ({"wrapped": 3}, "wrapped", "must be even, not 3"),
    ({"wrapped": "q"}, "wrapped", "must have at least 2 characters, not the text 'q'"),
    ({"colour": "blue"}, "colour", "must be red or green, not the text 'blue'"),
    ({"pair": [1, "x"]}, "pair.1", "must be a whole number, not the text 'x'"),
    ({"pair": 1}, "pair", "must be a list, not 1"),
    ({"short": {"abc": 1}}, "short.abc", "must have at most 2 characters, not the text 'abc'"),
    ({"pet": 3}, "pet", "must be a mapping with kind, a mapping with kind and tail or null, not 3"),
    ({"pet": {}}, "pet.kind", "is missing"),
    ({"pet": {"kind": "bird"}}, "pet.kind", "must be one of cat, dog"),
    ({"pet": {"kind": "cat", "lives": 0}}, "pet.lives", "must be at least 1, not 0"),
    (
        {"two": "x"},
        "two",
        "must be a mapping with per_n, a mapping with per_m or a number, not the text 'x'",
    ),
    (
        {"two": {"q": 1}},
        "two",
        "must be a mapping with per_n, a mapping with per_m or a number, not a mapping with q",
    ),
    ({"two": {"per_n": "x"}}, "two.per_n", "must be a number above 0, not the text 'x'"),
    (
        {"tree": {"below": {"below": "x"}}},
        "tree.below.below",
        "must be a mapping, a whole number or null, not the text 'x'",
    ),
    ({"tree": {"below": {"bellow": 1}}}, "tree.below.bellow", "unknown key"),
    ({"even": 3}, "even", "must be even, not 3"),
    ({"odd": 2}, "odd", "must be odd, not 2"),
    ({"odd": 7}, "", "odd = 7 does not go with the rest"),
    ({"odd": 1.5}, "odd", "must be a whole number, not 1.5"),
    ({"below": 2.0}, "below", "must be below 1, not 2.0"),
    ({"at_least": 0}, "at_least", "must be at least 1, not 0"),
    ({"at_least": 1.5}, "at_least", "must be a whole number of at least 1, not 1.5"),
    ({"tiny": 0.0}, "tiny", "must be between 1e-06 and 1e+300, not 0.0"),
    ({"eights": 9}, "eights", "must be a multiple of 8, not 9"),
    ({"text": "c"}, "text", "must match pattern '^[ab]+$', not the text 'c'"),
    ({"text": ""}, "text", "must have at least 1 character, not the text ''"),
    ({"text": 5}, "text", "must be text, not 5"),
    ({"numbers": []}, "numbers", "must have at least 1 item"),
    ({"numbers": [1, 2, 3]}, "numbers", "must have at most 2 items"),
    ({"word": "tow"}, "word", "must be one, two, 3 or null, not the text 'tow'"),
    ({"word": True}, "word", "must be one, two, 3 or null, not true"),
    ({"share": "x"}, "share", "must be a share of the epochs, not the text 'x'"),
    ({"lists": [1, "x"]}, "lists.1", "must be a whole number, not the text 'x'"),
    (
        {"nested": [1.0, "x"]},
        "nested.1",
        "must be a mapping with per_n or a number, not the text 'x'",
    ),
]


@pytest.mark.parametrize(("values", "place", "what"), FAULTS)
def test_any_model(values: dict[str, Any], place: str, what: str) -> None:
    [found] = explained(Params, values)
    assert (".".join(map(str, found.path)), found.what) == (place, what)


def test_several_faults_keep_their_order() -> None:
    found = explained(Params, {"nested": ["x", {"per_n": -1.0}], "below": 2.0, "evn": 2})
    assert [fault.path for fault in found] == [
        ("below",),
        ("nested", 0),
        ("nested", 1, "per_n"),
        ("evn",),
    ]


def test_a_model_without_parameters() -> None:
    assert explained(Dataset.Params, {"x": 1}) == [
        (("x",), "unknown key", "no keys are allowed here", True)
    ]


def test_a_caller_shows_the_value_its_own_way() -> None:
    with pytest.raises(ValidationError) as caught:
        LocalMethod.Params.model_validate({"normalize_eps": "x"})
    faults = caught.value.errors()
    [fault] = explain(
        faults, LocalMethod.Params, {"normalize_eps": "x"}, lambda path, value: path[0]
    )
    assert fault.what.endswith("not normalize_eps")


EVERY = list_all_errors()


@pytest.mark.parametrize(
    "loc",
    [(), ("odd",), ("not there",), ("two", "PerN"), ("two", "PerN", "per_n"), ("mixed", "?", 0)],
)
@pytest.mark.parametrize("value", ["x", 1, None, [1], {"a": 1}])
def test_every_kind_of_fault_is_a_plain_sentence(loc: tuple[str | int, ...], value: Any) -> None:
    for kind in EVERY:
        fault = {
            "type": kind["type"],
            "loc": loc,
            "msg": kind["example_message_python"],
            "input": value,
            "ctx": kind["example_context"],
        }
        for annotation in (Params, Any):
            [(path, what, hint, _)] = explain([fault], annotation, {"two": value})
            assert what, fault
            assert "\n" not in what + hint
            assert not any(word in what + hint for word in JARGON), (fault, what, hint)
            # a missing or unknown key may have any name
            assert "PerN" not in path or "missing" in what or "unknown" in what


def test_no_fault_of_a_real_validation_leaks_jargon() -> None:
    for values, _, _ in FAULTS:
        faults = explained(Params, values)
        assert faults, values
        for fault in faults:
            assert not any(word in fault.what + fault.hint for word in JARGON)
            assert not any(word in str(part) for part in fault.path for word in JARGON)


class Odd(BaseModel):
    anything: Any = None
    bare: list = []  # type: ignore[type-arg]
    listed: list[Odd | dict[str, Odd]] | None = None


@pytest.mark.parametrize("loc", [("anything", "b", 0), ("bare", 0), ("listed", 0, "listed", 1)])
def test_odd_annotations_of_strangers(loc: tuple[str | int, ...]) -> None:
    for kind in (
        "int_type",
        "extra_forbidden",
        "missing",
        "greater_than",
        "too_short",
        "their_own",
    ):
        fault = {
            "type": kind,
            "loc": loc,
            "msg": "Input should be\x1b[2J good\nor bad",
            "input": "x",
        }
        for annotation in (Odd, Odd | int, dict[str, Odd], "Unresolved"):
            [(_, what, hint, _)] = explain([fault], annotation, {})
            assert what
            assert (what + hint).isprintable()


def test_the_plan_names_the_place_in_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(
        'name: s\nfloors: false\nseeds: [1]\nmethods:\n- name: dfa\n  "a[b.c": 1\n  '
        "normalize_eps: {per_n: 0}\n"
        "  penalty: 1e9\nmatrix: {method.normalize: [sample, btch]}\n"
    )
    suite = load_suite("s.yaml")

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        answers = []
        for kind, _, params in request["components"]:
            checked = kind == "method" and params
            faults = explained(LocalMethod.Params, params) if checked else []
            answers.append({"invalid": json.loads(json.dumps(faults))})
        return {
            "components": answers,
            "trios": [None] * len(request["trios"]),
            "absent": {},
            "selections": [{"count": 100}] * len(request["selections"]),
        }

    monkeypatch.setattr(validate, "ask", ask)
    with pytest.raises(SuiteError) as caught:
        make_plan(suite, plugins.load(only=["bench-core"]), tmp_path)
    assert sorted(str(caught.value).split("\n")) == [
        "s.yaml:6:3: methods[0].a[b.c: unknown key; known: block_scale, freeze, "
        "normalize, normalize_eps, penalty, random_targets, train_last",
        "s.yaml:7:26: methods[0].normalize_eps.per_n: must be above 0, not 0",
        "s.yaml:8:12: methods[0].penalty: must be between 0 and 1,000,000, not 1000000000.0",
        "s.yaml:9:37: matrix.method.normalize[1]: dfa: must be sample, batch or none, not the "
        "text 'btch'; did you mean batch?",
    ]
