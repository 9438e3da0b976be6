"""Apply the options of the command line to the document of a suite, before its validation.

So options pass the same checks as the file, and their faults name the option as it was written.
A key that an option sets is no longer an axis of `matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench_core.errors import SuiteError
from bench_core.suite.cells import PARTS, hashable, same_name
from bench_core.suite.component import component_option
from bench_core.suite.document import Document, KeyPath, Position, parse_path, printable, show_path
from bench_core.suite.model import Suite
from bench_core.suite.yaml_reader import read_yaml

# mappings whose keys are settings: an option sets those that it names
_SECTIONS: tuple[KeyPath, ...] = (("training",), ("data",), ("budget",), ("depth_utility",))
_AXES: tuple[KeyPath, ...] = (("matrix", "arch"), ("matrix", "dataset"))
# the number of steps to a component, and the first of them
_COMPONENTS = ((0, "arch"), (0, "dataset"), (1, "methods"), (1, "diagnostics"))


def apply_options(
    document: Document,
    overrides: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    dataset: str | None,
    arch: str | None,
    epochs: int | None,
    device: str | None,
) -> None:
    """Edit `document` by the options of `load_suite`; their faults are reported to it."""

    def attempt(edit: Callable[..., None], *args: Any) -> None:
        try:
            edit(document, *args)
        except SuiteError as error:
            document.problems += error.problems

    attempt(_choose_methods, methods)
    attempt(_choose_seeds, seeds)
    attempt(_named_component, "arch", arch)
    attempt(_named_component, "dataset", dataset)
    stop_after = document.at(("training", "stop_after"))
    if epochs is not None and isinstance(stop_after, int) and stop_after > epochs:
        document.drop(("training", "stop_after"))
    for key, value in (("epochs", epochs), ("device", device)):
        if value is not None:
            path: KeyPath = ("training", key)
            option = f"--{key} {printable(str(value))}"
            attempt(_set, path, Document.of(value, option, path))
    for text in overrides:
        attempt(_override, text)


def list_at(document: Document, key: str) -> list[Any]:
    """Return the list under a key of the suite; an empty one if the value is no list."""
    value = document.at((key,))
    return value if isinstance(value, list) else []


def _name_of(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _choose_methods(document: Document, texts: Sequence[str]) -> None:
    if not texts:
        return
    entries = [document.subtree(("methods", i)) for i in range(len(list_at(document, "methods")))]
    chosen: list[Document] = []
    taken: list[Any] = []  # names that stand for entries of the suite
    for text in texts:
        wanted = component_option("--method", text, ("methods", len(chosen)))
        # an option with parameters is a mapping, which keeps no entry
        kept = [entry for entry in entries if same_name(_name_of(entry.value), wanted.value)]
        if kept and any(same_name(_name_of(each.value), wanted.value) for each in chosen):
            raise wanted.values[()].error("is listed twice")
        if any(hashable(each.value) == hashable(wanted.value) for each in chosen):
            why = [name for name in taken if same_name(name, _name_of(wanted.value))]
            alone = (
                f": --method {why[0]} takes every entry of this rule in the suite" if why else ""
            )
            raise wanted.values[()].error(f"is listed twice{alone}")
        taken += [wanted.value] * bool(kept)
        chosen += kept or [wanted]
    position = Position(f"--method {printable(texts[0])}", 0, 0, ("methods",))
    document.put_list(("methods",), chosen, position)
    names = [_name_of(part.value) for part in chosen]
    left_out = [_name_of(entry.value) for entry in entries]
    searched = document.at(("search", "methods"))
    for key in list(searched) if isinstance(searched, dict) else ():
        was, stays = (any(same_name(key, n) for n in group) for group in (left_out, names))
        if was and not stays:
            document.drop(("search", "methods", key))
    if include := list_at(document, "include"):
        wanted_too = [
            document.subtree(("include", i))
            for i, entry in enumerate(include)
            if not isinstance(entry, dict)
            or any(same_name(_name_of(entry.get("method", names[0])), name) for name in names)
        ]
        document.put_list(("include",), wanted_too, document.values[("include",)])


def _choose_seeds(document: Document, seeds: Sequence[int]) -> None:
    if not seeds:
        return
    parts = [Document.of(seed, f"--seed {seed}", ("seeds", i)) for i, seed in enumerate(seeds)]
    document.put_list(("seeds",), parts, parts[0].values[()])
    for i, entry in enumerate(list_at(document, "include")):
        if isinstance(entry, dict):
            document.drop(("include", i, "seeds"))


def _choose_component(document: Document, kind: str, wanted: Document) -> None:
    """Take a network or a data set; of the same name in the suite its options stay."""
    axis = ("matrix", kind)
    choices = document.at(axis)
    same = [
        document.subtree((*axis, i))
        for i, value in enumerate(choices if isinstance(choices, list) else [])
        if same_name(_name_of(value), wanted.value)
    ]
    if same:
        document.put_list(axis, same, document.values[axis])
        return
    document.drop(axis)
    written = _name_of(document.at((kind,)) or Suite.model_fields[kind].default.name)
    if not same_name(written, wanted.value):
        document.put((kind,), wanted)


def _named_component(document: Document, kind: str, text: str | None) -> None:
    if text is not None:
        _choose_component(document, kind, component_option(f"--{kind}", text, (kind,)))


def _override(document: Document, text: str) -> None:
    """Carry out `--set key.path=value`; the value is YAML."""
    file = f"--set {printable(text, 120)}"
    key, equals, value = text.partition("=")
    path = parse_path(key.strip())
    if not equals or path is None:
        raise Position(file, 0, 0, ()).error("must have the form key.path=value")
    part = read_yaml(value, file, base=path)
    if path in (("arch",), ("dataset",)) and isinstance(part.value, str):
        document.problems += part.problems
        _choose_component(document, str(path[0]), part)
    elif path in _SECTIONS and isinstance(part.value, dict) and part.value:
        document.problems += part.problems
        for name in part.value:  # the other settings stay
            _set(document, (*path, name), part.subtree((name,)))
    else:
        _set(document, path, part)


def _set(document: Document, path: KeyPath, part: Document) -> None:
    """Set an option's value; missing mappings are made, a component's bare name becomes one.

    An option of the network or the data set is set in every entry of such an axis of `matrix`.
    """
    file = part.values[()].file
    axis: KeyPath = ("matrix", path[0])
    if len(path) > 1 and isinstance(entries := document.at(axis), list) and path[0] in PARTS:
        for i in range(len(entries)):
            _set(document, (*axis, i, *path[1:]), part)
        return document.drop(("matrix", show_path(path)))
    for n, step in enumerate(path):
        here = path[: n + 1]
        parent, value = document.at(path[:n]), document.at(here)
        kind = list if isinstance(step, int) else dict
        if not isinstance(parent, kind):
            word = "list" if kind is list else "mapping"
            raise Position(file, 0, 0, path[:n]).error(f"is not a {word}")
        if isinstance(step, int) and step > len(parent) - (n < len(path) - 1):
            raise Position(file, 0, 0, here).error(
                f"the list has {len(parent)} {'entry' if len(parent) == 1 else 'entries'}"
            )
        if n == len(path) - 1:
            break
        component = (n, path[0]) in _COMPONENTS or (n == 2 and path[:2] in _AXES)
        if component and isinstance(value, str):
            name = Document(file, value, {(): document.values[here]})
            document.put(here, Document(file, {}, {(): document.values[here]}))
            document.put((*here, "name"), name)
        elif value is None and isinstance(step, str):
            document.put(here, Document(file, {}, {(): Position(file, 0, 0, here)}))
            if component:
                default = Suite.model_fields[step].default.name
                document.put((*here, "name"), Document.of(default, file, here))
    document.put(path, part)
    if path[0] != "matrix":
        document.drop(("matrix", show_path(path)))
