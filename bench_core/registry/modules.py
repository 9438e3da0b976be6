"""Find and read the code of a module without importing it, whatever loader would import it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path


def find(module: str) -> ModuleSpec | None:
    """Ask the import system for the place of a module; None for a name inside a module."""
    spec, path = None, None
    top, *rest = module.split(".")
    try:
        for depth in range(len(rest) + 1):
            if depth and (spec is None or spec.submodule_search_locations is None):
                return None
            path = list(spec.submodule_search_locations or ()) if spec is not None else None
            spec = _ask_finders(".".join([top, *rest[:depth]]), path)
    except Exception:  # a finder is a plugin's code too
        return None
    return spec


def _ask_finders(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, path) if find_spec is not None else None
        if spec is not None:
            return spec
    return None


def place(module: str) -> Path | None:
    """Return the file of a module, also one inside an archive; None if it has no code."""
    spec = find(module)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Path(spec.origin)


def unreadable(module: str) -> str | None:
    """Name the loader that would import a module but shows no code of it; None: there is none."""
    spec = find(module)
    if spec is None or spec.origin in ("built-in", "frozen") or spec.loader is None:
        return None
    if spec.has_location or not hasattr(spec.loader, "exec_module"):
        return None
    namespace = spec.submodule_search_locations is not None and spec.origin is None
    return None if namespace else type(spec.loader).__name__


def contents(module: str, path: Path) -> bytes:
    """Return the code at the place of a module, from its file or from its loader.

    Raises OSError if there is none.
    """
    if path.is_file():
        return path.read_bytes()
    spec = find(module)
    read = getattr(spec.loader, "get_data", None) if spec is not None else None
    if read is None:
        raise FileNotFoundError(f"{module} has no code at {path}")
    return bytes(read(str(path)))
