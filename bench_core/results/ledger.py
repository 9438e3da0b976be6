"""Read and write tuning.json, the ledger of `bench tune` in a suite folder.

The ledger has every trial of every rule: its values, score, status and seconds, and the identity of
its run, which lies under `trials/`. A rule that is tuned again replaces its own entry, so rules may
have different numbers of trials: tables then say so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from bench_core.results import files, store
from bench_core.results.files import replace_file
from bench_core.results.hashing import file_text
from bench_core.results.record import Cell, Frozen, RunRecord, cell_key

LEDGER = "tuning.json"
TRIALS = "trials"  # the results folder with the runs of the trials, in the suite folder
SCHEMA = 1
RECIPE = "training."  # begins the keys of a recipe's settings
SEARCHED = {"learning_rate", "weight_decay", "clip_norm", "batch_size", "schedule"}

Values = dict[str, Any]


class Trial(Frozen):
    """One training with drawn values; `score` is its last accuracy, None if it is not done."""

    values: Values
    identity: str
    status: str
    score: float | None = None
    seconds: float = 0.0


class Spread(Frozen):
    """The scores of the done trials."""

    lowest: float
    median: float
    highest: float


class Tuned(Frozen):
    """The search of one rule.

    method   the rule as the suite names it; `space`: what was searched
    best     the number of the best trial, from 0; of equal scores the first counts
    cells    keys of the cells that were trained with the best values; earlier: of another winner
    """

    method: dict[str, Any]
    seed: int
    trials: int = Field(ge=1)
    scored_on: Literal["validation", "test"]
    sampler: str
    versions: dict[str, str]
    space: dict[str, Any]
    results: list[Trial] = Field(default_factory=list)
    best: int | None = None
    spread: Spread | None = None
    cells: list[str] = Field(default_factory=list)
    earlier: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_a_winner(self) -> Tuned:
        scores = [-math.inf if trial.score is None else trial.score for trial in self.results]
        if self.best is not None and self.best not in range(len(scores)):
            raise ValueError(f"best is {self.best}: no trial has this number")
        if self.best is not None and scores[self.best] < max(scores):
            raise ValueError(f"best is {self.best}: another trial has a higher score")
        if len(scores) > self.trials:
            raise ValueError(f"trials is {self.trials}: results has {len(scores)}")
        if unknown := self.recipe.keys() - SEARCHED:
            raise ValueError(f"{RECIPE}{min(unknown)[:40]} is not searched by `bench tune`")
        return self

    @property
    def tried(self) -> int:
        """The number of different trainings: trials may have drawn the same values."""
        return self.trials - len(self.results) + len({trial.identity for trial in self.results})

    def search(self) -> tuple[int, int, list[str]]:
        """Return what tells two searches of a rule apart: seed, trials and winner."""
        return self.seed, self.trials, sorted(self.cells)

    def continues(self, other: Tuned) -> bool:
        """Decide whether two entries are of one search: equal trials, and so an equal winner."""

        def trials(one: Tuned) -> tuple[Any, ...]:
            return one.seed, one.scored_on, one.space, [t.identity for t in one.results], one.winner

        return self.best is not None and trials(self) == trials(other)

    @property
    def winner(self) -> Values:
        """The values of the best trial; none without one."""
        return {} if self.best is None else self.results[self.best].values

    @property
    def recipe(self) -> dict[str, Any]:
        """The winner's settings of the recipe, under their names in `training`."""
        own = {key: value for key, value in self.winner.items() if key.startswith(RECIPE)}
        return {key.removeprefix(RECIPE): value for key, value in own.items()}

    def chose(self, cell: Cell) -> bool:
        """Decide whether a cell has the winner's recipe: in an edited ledger it may not."""
        return self.best is not None and self.recipe.items() <= cell.training.items()


class Ledger(Frozen):
    """The searches of a suite folder by rule."""

    ledger_schema: int = Field(default=SCHEMA, ge=1, le=SCHEMA)
    suite: str = ""
    rules: dict[str, Tuned] = Field(default_factory=dict)

    def of_cells(self) -> dict[str, Tuned]:
        """Map the key of each cell that was trained with the best values to its search."""
        return {key: tuned for tuned in self.rules.values() for key in tuned.cells}

    def replaced(self) -> set[str]:
        """Return the keys of cells of earlier winners, which count no more."""
        earlier = {key for tuned in self.rules.values() for key in tuned.earlier}
        return earlier - self.of_cells().keys()

    def among(self, records: Iterable[RunRecord]) -> dict[str, Tuned]:
        """Return the searches with the cells of these runs alone, also those without any."""
        here = {cell_key(record.cell) for record in records} if self.rules else set[str]()

        def kept(keys: list[str]) -> list[str]:
            return [key for key in keys if key in here]

        return {
            name: tuned.model_copy(
                update={"cells": kept(tuned.cells), "earlier": kept(tuned.earlier)}
            )
            for name, tuned in self.rules.items()
        }


def is_lost(folder: Path) -> bool:
    """Decide whether a suite folder has trials, and no ledger that tells of them."""
    return not os.path.lexists(folder / LEDGER) and (folder / TRIALS).is_dir()


def read(folder: Path) -> Ledger:
    """Read the ledger of a suite folder; an empty one if it has none. Raises `store.Unreadable`."""
    path = folder / LEDGER
    if not os.path.lexists(path):
        return Ledger()
    try:
        return Ledger.model_validate(files.read_json(path, "tuning", parts=1))
    except ValidationError as error:
        raise store.Unreadable(f"does not follow its schema: {store.first_fault(error)}") from None
    except (OSError, ValueError) as error:
        raise store.Unreadable(files.reason(error)) from None


def write(folder: Path, suite: str, rules: Mapping[str, Tuned]) -> None:
    """Write the ledger of a suite folder, whole or not at all. Raises StoreError."""
    ledger = Ledger(suite=suite, rules=dict(rules))
    replace_file(folder / LEDGER, file_text(ledger.model_dump(mode="json")))
