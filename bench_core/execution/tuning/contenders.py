"""Read the search of a suite: the rules that are tuned, and the suites that train them.

A trial or a winner is an entry of `include` in a derived suite. So plan, reuse, executors, budgets
and messages are those of `bench run`, and a fault of a value points to its place under `search:`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any

from bench_core.errors import SuiteError, UsageError
from bench_core.execution.planning.plan import Plan, PlannedCell
from bench_core.names import CEILING, bare_name
from bench_core.results.hashing import canonical, line_text
from bench_core.results.ledger import RECIPE, Values
from bench_core.suite.cells import FLOOR_OPTIONS, same_name
from bench_core.suite.document import KeyPath
from bench_core.suite.load import installed_suites, load_suite
from bench_core.suite.model import Suite
from bench_core.suite.search import RecipeSearch, Search, Space

if TYPE_CHECKING:
    from optuna.trial import Trial

OWN = "method."  # begins the keys of a rule's own parameters
ALONE = ("matrix", "include", "exclude")  # a suite that is tuned has one recipe


@dataclass(frozen=True)
class Contender:
    """A rule that is tuned.

    key     its name in the ledger, with the options that the suite gives it
    method  the rule as the suite names it
    place   of the rule in the suite
    space   dotted key → values, and their place in the suite
    """

    key: str
    method: dict[str, Any]
    place: KeyPath
    space: dict[str, tuple[Space, KeyPath]]

    @property
    def fixed(self) -> set[str]:
        """The keys of the rule's own parameters that the suite gives it."""
        return {f"{OWN}{name}" for name in self.method if name != "name"}

    def drawn(self, trial: Trial) -> Values:
        """Draw the values of a trial."""
        return {key: _draw(trial, key, space) for key, (space, _) in self.space.items()}

    def corners(self) -> Iterator[list[tuple[str, Any, KeyPath]]]:
        """Yield each end, and each two ends of different parameters of the rule's own.

        Two values that are right alone may exclude each other.
        """
        ends = list(self.ends())
        own = [end for end in ends if end[0].startswith(OWN)]
        yield from ([end] for end in ends)
        yield from ([a, b] for a, b in combinations(own, 2) if a[0] != b[0])

    def ends(self) -> Iterator[tuple[str, Any, KeyPath]]:
        """Yield each choice and both ends of each range, with its place."""
        for key, (space, place) in self.space.items():
            if isinstance(space, list):
                yield from ((key, value, (*place, i)) for i, value in enumerate(space))
            else:
                yield key, space.low, (*place, "low")
                yield key, space.high, (*place, "high")


@dataclass(frozen=True)
class Entry:
    """A training to plan: a contender with values, and where the suite names each of them."""

    contender: Contender
    values: Values
    seeds: Sequence[int]
    places: Mapping[str, KeyPath]
    frozen: bool = False

    @property
    def method(self) -> dict[str, Any]:
        own = {k.removeprefix(OWN): v for k, v in self.values.items() if k.startswith(OWN)}
        return {**self.contender.method, **own, **(FLOOR_OPTIONS if self.frozen else {})}

    @property
    def recipe(self) -> dict[str, Any]:
        """The values of the recipe, under their dotted keys."""
        return {key: value for key, value in self.values.items() if key.startswith(RECIPE)}

    def as_include(self) -> dict[str, Any]:
        """Return an entry of `include`."""
        return {"method": self.method, **self.recipe, "seeds": list(self.seeds)}


def _draw(trial: Trial, key: str, space: Space) -> Any:
    if isinstance(space, list):  # by index: a choice may be a mapping, which Optuna does not take
        return space[trial.suggest_categorical(key, range(len(space)))]
    log = space.scale == "log"
    if space.whole:
        return trial.suggest_int(key, int(space.low), int(space.high), log=log)
    rounded = float(f"{trial.suggest_float(key, space.low, space.high, log=log):.3g}")
    return min(max(rounded, space.low), space.high)


def prepared(suite: Suite) -> tuple[Search, list[Contender]]:
    """Return the search of a suite and its contenders, bp among them.

    Raises SuiteError with every fault of the section, UsageError without Optuna.
    """
    if find_spec("optuna") is None:
        raise UsageError("bench tune needs Optuna: pip install 'bench-core[tune]'")
    search = suite.search
    if search is None:
        searched = [name for name in installed_suites() if load_suite(name).search]
        example = f", as in {' and '.join(searched)}" if searched else ""
        what = f"is missing: it says what `bench tune` may change{example}"
        raise SuiteError([suite.problem(None, "search", what)])
    problems = [
        suite.problem(None, key, "a suite that is tuned has one recipe; remove it", at_key=True)
        for key in ALONE
        if getattr(suite, key)
    ]
    if suite.floor_scales:
        what = "`bench tune` trains no floors of another scale; remove it"
        problems.append(suite.problem(None, "floor_scales", what, at_key=True))
    if suite.data.validation is None and search.scored_on == "validation":
        what = "is missing: trials are scored on training samples that are held out"
        problems.append(suite.problem(None, "data.validation", what, "add data: {validation: N}"))
    if suite.data.evaluate_on != "test":
        what = "must be test: the trials alone are scored on the validation samples"
        problems.append(suite.problem(None, "data.evaluate_on", what))
    if search.seed in suite.seeds:
        what = f"{search.seed} is a seed of the suite; the trials need another one"
        problems.append(suite.problem(None, "search.seed", what))
    contenders = _contenders(suite, search)
    for name, own in search.methods.items():
        if "name" in own:
            what = "is the rule itself, no parameter of it; remove it"
            below = (name, "name")
            problems.append(suite.problem(None, "search.methods", what, below=below, at_key=True))
        if "freeze" in own:
            what = "makes the floor of the rule, no option of it; remove it"
            below = (name, "freeze")
            problems.append(suite.problem(None, "search.methods", what, below=below, at_key=True))
        if not any(same_name(one.method["name"], name) for one in contenders):
            names = [bare_name(str(one.method["name"])) for one in contenders]
            what = f"is no rule of the suite, which has {', '.join(dict.fromkeys(names))}; "
            what += "name one of these, or add it to methods"
            problems.append(suite.problem(None, "search.methods", what, below=(name,), at_key=True))
    for one in contenders:
        fixed = [place[2:] for key, (_, place) in one.space.items() if key in one.fixed]
        what = f"is fixed by {one.key} in methods; search it or fix it"
        problems += [
            suite.problem(None, "search.methods", what, below=below, at_key=True) for below in fixed
        ]
        if not one.space:
            what = f"names nothing to search for {one.key}: add search.training"
            problems.append(suite.problem(None, "search", what))
    if problems:
        raise SuiteError(problems)
    return search, contenders


def _contenders(suite: Suite, search: Search) -> list[Contender]:
    rules = [(spec.as_dict(), ("methods", i)) for i, spec in enumerate(suite.methods)]
    if not any(same_name(rule["name"], CEILING) and len(rule) == 1 for rule, _ in rules):
        rules.append(({"name": CEILING}, ("methods",)))  # type: ignore[arg-type]
    contenders: dict[str, Contender] = {}
    for rule, place in rules:
        one = contender(rule, place, search)
        contenders.setdefault(one.key, one)
    return list(contenders.values())


def contender(rule: dict[str, Any], place: KeyPath, search: Search) -> Contender:
    """Return a rule of a suite as a contender; `place` is where the suite names it."""
    options = ", ".join(f"{k}={line_text(v)}" for k, v in rule.items() if k != "name")
    key = f"{rule['name']}[{options}]" if options else rule["name"]
    names = [name for name in search.methods if same_name(name, rule["name"])]
    space = {k: (s, p) for name in names or [""] for k, s, p in search.space(name)}
    return Contender(key, rule, place, space)


def cells_of(plan: Plan, entries: Sequence[Entry], suite: Suite) -> list[PlannedCell]:
    """Return the cell of each entry and seed in a plan, where equal trainings are one cell.

    Raises UsageError for a value that the rule does not keep as it is.
    """
    defaults = {cell.cell.method.name: cell.defaults for cell in plan.cells}

    def key(name: str, params: dict[str, Any], training: dict[str, Any], seed: int) -> str:
        searched = {name: training[name] for name in RecipeSearch.model_fields}
        full = next(known for known in defaults if same_name(known, name))
        return canonical([full, {**defaults[full], **params}, searched, seed])

    every = [(planned, planned.cell) for planned in plan.cells]
    known = {key(c.method.name, c.method.params, c.training, c.seed): p for p, c in every}
    cells = []
    for entry in entries:
        params = {name: value for name, value in entry.method.items() if name != "name"}
        own = {name.removeprefix(RECIPE): value for name, value in entry.recipe.items()}
        training = {**suite.training.model_dump(), **own}
        for seed in entry.seeds:
            cell = known.get(key(entry.method["name"], params, training, seed))
            if cell is None:
                changed = f"{entry.contender.key}: it changes {line_text(entry.values)}"
                raise UsageError(
                    f"{suite.name}: {changed}; search values that it leaves as they are"
                )
            cells.append(cell)
    return cells


def derived(suite: Suite, entries: Sequence[Entry], **changes: Any) -> Suite:
    """Return a suite with these trainings alone. A fault of a value points to where it stands."""
    values, keys = dict(suite.document.values), dict(suite.document.keys)
    for i, entry in enumerate(entries):
        own = [place[:3] for key, place in entry.places.items() if key.startswith(OWN)]
        place = next((p for p in [*own, entry.contender.place] if p in values), ())
        values["include", i, "method"] = values[place]
        for key, place in entry.places.items():
            path: KeyPath = ("include", i, key)
            if key.startswith(OWN):
                path = ("include", i, "method", key.removeprefix(OWN))
            above = [place[:n] for n in range(len(place), -1, -1)]
            values[path] = next(values[p] for p in above if p in values)
            keys[path] = next((keys[p] for p in above if p in keys), values[path])
    update = {"methods": [], "include": [entry.as_include() for entry in entries], "floors": False}
    new = suite.model_copy(update={**update, **changes})
    return new.from_file(replace(suite.document, values=values, keys=keys))
