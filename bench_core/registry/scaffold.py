"""`bench new`: a complete plugin package, copied from the examples under another name.

`bench_examples` holds `bench-drtp`, a learning rule in a package of its own, and in `parts` what another kind of component puts
in the place of some of its files. A copy differs in its names alone, so what the tests hold of the examples holds of it.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from bench_core.errors import UsageError
from bench_core.suite.names import NAME

EXAMPLES = "bench_examples"
SOURCE, OWN = "bench-drtp", "drtp"
# kind → (its class in the example, what it is in words, the command that tries it)
KINDS = {
    "method": (
        "RandomTargetProjection",
        "learning rule",
        "bench run quickstart --method {name} --seed 42",
    ),
    "arch": ("TanhNet", "architecture", "bench run quickstart --arch {name} --seed 42"),
    "dataset": ("Blobs", "data set", "bench run quickstart --dataset {name} --seed 42"),
    "diagnostic": ("HeadNorm", "diagnostic", "bench audit results/quickstart --diagnostic {name}"),
}
MODULES = {"method": "rule", "arch": "net", "dataset": "data", "diagnostic": "measure"}


def new(kind: str, name: str, home: Path, taken: set[str]) -> Path:
    """Write the package `bench-NAME` into the folder `home` and return its path.

    taken  names that installed components of this kind have
    Raises UsageError for a name that cannot be used, and where the folder is there already; nothing half-written is left.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!a} is no component name: lower case letters, digits and inside it _ . -, at most 64 characters"
        )
    if name in taken:
        raise UsageError(f"a {kind} {name!r} is installed already; choose another name")
    word = re.sub(r"[^a-z0-9]", "_", name)
    if keyword.iskeyword(word):
        raise UsageError(f"{name!r} is a word of Python's own; choose another name")
    if not word[0].isalpha():
        raise UsageError(f"{name!r} makes no name of a Python class; begin with a letter")
    place = home / f"bench-{word.replace('_', '-')}"
    if os.path.lexists(place):
        raise UsageError(
            f"{place} is there already; remove it, choose another name, or say --into FOLDER"
        )
    if not home.is_dir():
        raise UsageError(f"{home} is no folder; make it first")
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".bench-new-") as temporary:
            made = Path(temporary) / place.name
            for path, text in files(kind, name, word).items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8")
            shutil.move(made, place)
    except OSError as error:
        raise UsageError(f"{place} cannot be written: {error.strerror or error}") from None
    return place


def module(kind: str, name: str) -> str:
    """Path inside the package of the file that its author writes."""
    return f"bench_{re.sub(r'[^a-z0-9]', '_', name)}/{MODULES[kind]}.py"


def files(kind: str, name: str, word: str) -> dict[str, str]:
    """Path inside the package → text. Raises UsageError where the examples are not installed."""
    try:
        root = resources.files(EXAMPLES)
        found = dict(_walk(root / SOURCE))
    except (ModuleNotFoundError, FileNotFoundError):
        raise UsageError(
            f"the examples are missing from this installation ({EXAMPLES}): install bench-core anew"
        ) from None
    if kind != "method":
        found.pop("bench_drtp/rule.py")
        found |= dict(_walk(root / "parts" / kind))
    class_name, words, command = KINDS[kind]
    renamed = "".join(part.capitalize() for part in word.split("_") if part)
    changes = {
        KINDS["method"][2].format(name=OWN): command.format(name=OWN),
        KINDS["method"][1]: words,
        class_name: renamed,
        "bench-drtp": f"bench-{word.replace('_', '-')}",
        "bench_drtp": f"bench_{word}",
        "_drtp": f"_{word}",
        '"drtp"': f'"{name}"',
        "drtp = ": f"{word} = ",
    }

    def change(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return re.sub(r"\bdrtp\b", name, text)

    found = {change(path): change(text) for path, text in found.items()}
    found["README.md"] = found["README.md"].replace("/rule.py", f"/{MODULES[kind]}.py")
    return found


def _walk(folder: Traversable, before: str = "") -> list[tuple[str, str]]:
    """(path, text) of every file under a folder of the examples, built files left out."""
    found = []
    for entry in folder.iterdir():
        if entry.name in ("__pycache__", "build", ".pytest_cache") or entry.name.endswith(
            (".egg-info", ".pyc")
        ):
            continue
        path = f"{before}{entry.name}"
        found += (
            _walk(entry, f"{path}/")
            if entry.is_dir()
            else [(path, entry.read_text(encoding="utf-8"))]
        )
    return found
