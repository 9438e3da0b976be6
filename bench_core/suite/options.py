"""Apply the options of the command line to the document of a suite.

Contract: `apply_options` edits the document before its validation. So options pass the same
checks as the file, and their faults name the option as it was written. A key that an option
sets is no longer an axis of `matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench_core.errors import Problem, SuiteError
from bench_core.suite.cells import same_name
from bench_core.suite.component import component_option
from bench_core.suite.model import Suite
from bench_core.suite.yaml_reader import (
    Document,
    KeyPath,
    Position,
    parse_path,
    printable,
    read_yaml,
    show_path,
)


def apply_options(
    document: Document,
    overrides: Sequence[str],
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    dataset: str | None,
    arch: str | None,
    epochs: int | None,
    device: str | None,
) -> list[Problem]:
    """Edit `document` by the options of `load_suite`; return the faults of their form."""
    problems: list[Problem] = []

    def attempt(edit: Callable[..., None], *args: Any) -> None:
        try:
            edit(document, *args)
        except SuiteError as error:
            problems.extend(error.problems)

    def set_training(key: str, value: Any) -> None:
        path: KeyPath = ("training", key)
        option = f"--{key} {printable(str(value))}"
        attempt(_set, path, Document.of(value, option, path))

    attempt(_choose_methods, methods)
    attempt(_choose_seeds, seeds)
    attempt(_choose_component, "arch", arch)
    attempt(_choose_component, "dataset", dataset)
    if epochs is not None:
        stop_after = document.at(("training", "stop_after"))
        if isinstance(stop_after, int) and stop_after > epochs:
            document.drop(("training", "stop_after"))
        set_training("epochs", epochs)
    if device is not None:
        set_training("device", device)
    for text in overrides:
        attempt(_override, text)
    return problems


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
    for text in texts:
        wanted = component_option("--method", text, ("methods", len(chosen)))
        # an option with parameters is a mapping, which keeps no entry
        kept = [entry for entry in entries if same_name(_name_of(entry.value), wanted.value)]
        chosen += kept or [wanted]
    document.put_list(
        ("methods",), chosen, Position(f"--method {printable(texts[0])}", 0, 0, ("methods",))
    )
    names = [_name_of(part.value) for part in chosen]
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


def _choose_component(document: Document, kind: str, text: str | None) -> None:
    if text is None:
        return
    wanted = component_option(f"--{kind}", text, (kind,))
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
    if not same_name(
        _name_of(document.at((kind,)) or Suite.model_fields[kind].default.name), wanted.value
    ):
        document.put((kind,), wanted)


def _override(document: Document, text: str) -> None:
    """`--set key.path=value`; the value is YAML."""
    file = f"--set {printable(text, 120)}"
    key, equals, value = text.partition("=")
    path = parse_path(key.strip())
    if not equals or path is None:
        raise SuiteError(
            [Position(file, 0, 0, ()).problem((), "must have the form key.path=value")]
        )
    part = read_yaml(value, file, base=path)
    _set(document, path, part)
    if part.problems:
        raise SuiteError(part.problems)


def _set(document: Document, path: KeyPath, part: Document) -> None:
    """Set an option's value; missing mappings are made, a component's bare name becomes one."""
    position = part.values[()]
    for n in range(len(path)):
        here, step = path[: n + 1], path[n]
        parent, value = document.at(path[:n]), document.at(here)
        if not isinstance(parent, list if isinstance(step, int) else dict):
            raise SuiteError(
                [
                    position.problem(
                        path[:n], f"is not a {'list' if isinstance(step, int) else 'mapping'}"
                    )
                ]
            )
        if isinstance(step, int) and step > len(parent) - (n < len(path) - 1):
            raise SuiteError([position.problem(here, f"the list has {len(parent)} entries")])
        if n == len(path) - 1:
            break
        component = (n == 0 and step in ("arch", "dataset")) or (
            n == 1 and path[0] in ("methods", "diagnostics")
        )
        if component and isinstance(value, str):
            document.put(
                (*_emptied(document, here), "name"),
                Document(position.file, value, {(): document.values[here]}),
            )
        elif value is None and isinstance(step, str):
            document.put(
                here, Document(position.file, {}, {(): Position(position.file, 0, 0, here)})
            )
            if component:
                default = Suite.model_fields[step].default.name
                document.put((*here, "name"), Document.of(default, position.file, here))
    document.put(path, part)
    if path[0] != "matrix":
        document.drop(("matrix", show_path(path)))


def _emptied(document: Document, path: KeyPath) -> KeyPath:
    """Make the value at `path` an empty mapping that keeps its position."""
    keys: dict[KeyPath, Position] = {(): document.keys[path]} if path in document.keys else {}
    document.put(path, Document(document.file, {}, {(): document.values[path]}, keys))
    return path
