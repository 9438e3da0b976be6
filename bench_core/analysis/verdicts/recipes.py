"""Name the recipe of a run, all of its cell but method and seed: only equal ones are compared."""

from __future__ import annotations

from collections.abc import Iterable

from bench_core.analysis.verdicts.settings import Settings
from bench_core.results.hashing import canonical, digest_bytes
from bench_core.results.ledger import Tuned
from bench_core.results.record import Cell, RunRecord


def tuned_of(record: RunRecord, settings: Settings) -> Tuned | None:
    """Return the search that chose the values of a run, if one did."""
    tuned = settings.standing(record).tuned
    return tuned if tuned is not None and tuned.chose(record.cell) else None


def shared(record: RunRecord, tuned: Tuned | None = None) -> Cell:
    """Return the cell of a run, with every tuned setting replaced by the word "tuned"."""
    cell = record.cell
    if tuned is None:
        return cell
    training = {**cell.training, **dict.fromkeys(tuned.recipe, "tuned")}
    return cell.model_copy(update={"training": training})


def recipe(record: RunRecord, tuned: Tuned | None = None) -> str:
    """Write all but method and seed as canonical text; runs of one recipe are compared.

    Rules that were tuned in the same settings have one recipe, whatever values won.
    """
    return recipe_of(shared(record, tuned))


def recipe_of(cell: Cell) -> str:
    """Write all of a cell but method and seed as canonical text."""
    return canonical([cell.arch.model_dump(), cell.dataset.model_dump(), cell.data, cell.training])


def recipe_under(record: RunRecord, settings: Settings) -> str:
    """Write the recipe of a run as its suite judges it: with the search that chose its values."""
    return recipe(record, tuned_of(record, settings))


def recipe_key(record: RunRecord, tuned: Tuned | None = None) -> str:
    """Name the recipe of a run by 16 hex digits."""
    return digest_bytes(recipe(record, tuned).encode(), 8)


def unlike_steps(records: Iterable[RunRecord]) -> float | None:
    """Return the most steps that a rule takes in a batch, 0 if it changes weights by other means.

    None if its runs take the one step of the recipe, or do not say it.
    """
    known = [each.steps_per_batch for each in records if each.steps_per_batch is not None]
    if any(fewest == 0 for fewest, _ in known):
        return 0.0
    most = max((high for _, high in known), default=1.0)
    return most if most > 1 else None
