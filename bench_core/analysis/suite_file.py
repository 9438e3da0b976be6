"""Read suite.json of a folder, in the form by which its results are shown and judged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bench_core.results import reference, store, suite_folder
from bench_core.results.suite_json import SuiteJson
from bench_core.suite.claim import Expectation
from bench_core.suite.judging import DepthUtility


class _Part(BaseModel):
    """A part of a recipe: a component with its options, or settings."""

    model_config = ConfigDict(extra="allow")
    name: str | None = None
    stop_when: dict[str, float | None] = {}


class _Recipe(BaseModel):
    arch: _Part = _Part()
    dataset: _Part = _Part()
    training: _Part = _Part()
    data: dict[str, Any] = {}


class _ClaimedFor(_Recipe):
    """The form of `Suite.recipe`."""

    stop_when: list[str] | dict[str, float | None] = []
    axes: list[str] = []
    recipes: list[_Recipe] = []
    included: list[_Recipe] = []
    thresholds: dict[str, float] = {}
    depth_utility: dict[str, Any] = {}
    measured: dict[str, dict[str, Any]] = {}


def _claimable(value: dict[str, Any]) -> dict[str, Any]:
    _ClaimedFor.model_validate(value)
    return value


class Described(SuiteJson):
    """suite.json with the settings that judge runs in their own types: a damaged one is a fault."""

    depth_utility: DepthUtility = DepthUtility()
    claimed_for: Annotated[dict[str, Any], AfterValidator(_claimable)] | None = None


def described(folder: Path, troubles: list[str], shipped: reference.Reference | None) -> Described:
    """Read suite.json: the defaults if it is missing, and with a warning if it is unreadable."""
    path, name = folder / suite_folder.SUITE, folder.resolve().name
    if not os.path.lexists(path):
        return Described(name=name)
    try:
        content = shipped.content(folder) if shipped else suite_folder.content(folder)
        read = SuiteJson.readable(content)  # of parts that judge nothing a damaged one is no fault
        unjudged = {part: getattr(read, part) for part in ("decisions", "used", "file")}
        return Described.model_validate({"name": name, **content, **unjudged})
    except store.Newer as error:
        troubles.append(f"{path}: it {error}; default thresholds are used")
        return Described(name=name)
    except store.Unreadable as error:
        reason = str(error)
    except ValidationError as error:
        reason = f"does not follow its schema: {store.first_fault(error)}"
    remedy = "default thresholds are used; `bench run` writes it anew"
    troubles.append(store.unread(path, reason, remedy))
    return Described(name=name)


def claims(folder: Path, entries: Sequence[Any], troubles: list[str]) -> tuple[Expectation, ...]:
    """Parse the claims of suite.json, with a warning if some cannot be read."""
    kept = []
    for entry in entries:
        with contextlib.suppress(ValidationError):
            kept.append(Expectation.model_validate(entry))
    if lost := len(entries) - len(kept):
        path = folder / suite_folder.SUITE
        troubles.append(f"{path}: {lost} claims cannot be read; `bench run` writes them anew")
    return tuple(kept)
