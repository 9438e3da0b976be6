"""The form of suite.json: the last plan of a suite folder, and how its runs are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, ValidationError, model_serializer


class SavedDecision(BaseModel):
    """The decision of a plan about a cell (`planning.reuse.Decision`), as suite.json has it.

    action              `run`, `reuse` or `reference`
    why, at             the reason, and the time of the plan
    cell, rule, epochs  of a cell to run: its name, the rule whose cells take as long, its epochs
    """

    action: str = ""
    why: str = ""
    at: str = ""
    cell: str | None = None
    rule: str | None = None
    epochs: int | None = None

    @model_serializer(mode="wrap")
    def _stated(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value is not None}


class SuiteFile(BaseModel):
    """The suite's file without options.

    digest  of its content (`Suite.content`)
    cells   keys of its cells; None: every `bench run` here had options that changed them
    seeds   of every cell; none in older results
    """

    digest: str = ""
    title: str = ""
    description: str = ""
    cells: list[str] | None = None
    seeds: list[int] = []


class SuiteJson(BaseModel):
    """suite.json of a suite folder; a part that is missing has its default.

    title … claimed_for  as `Suite.judging` states them
    diagnostics          full name → options
    file                 the suite's file without options
    cells                key of a cell → identity; those of earlier plans stay
    defaults             key of a component → its defaults; those of earlier plans stay
    decisions            identity → decision of the last plan
    used                 identity → when the last plan with this run was made; earlier ones stay
    """

    name: str = ""
    title: str = ""
    description: str = ""
    thresholds: dict[str, float] = {}
    depth_utility: Any = {}
    expect: list[Any] = []
    claimed_for: dict[str, Any] | None = None
    diagnostics: dict[str, dict[str, Any]] = {}
    file: SuiteFile | None = None
    cells: dict[str, str] = {}
    defaults: dict[str, dict[str, Any]] = {}
    decisions: dict[str, SavedDecision] = {}
    used: dict[str, str] = {}

    @classmethod
    def readable(cls, content: Mapping[str, Any]) -> SuiteJson:
        """Read all that has its form: a part without it has its default, and a mapping loses each
        entry without it."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            kept: dict[Any, Any] = dict(content)
            for part, *entry in (fault["loc"] for fault in error.errors()):
                if entry and isinstance(own := kept.get(part), dict):
                    kept[part] = {key: value for key, value in own.items() if key != entry[0]}
                else:
                    kept.pop(part, None)
            return cls.model_validate(kept)
