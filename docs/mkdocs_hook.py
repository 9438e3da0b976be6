"""Bring what stands outside docs/ into the site: README, measured figures, changelog, the API."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # page of the site → its file, from the root of the repository
    "index.md": "README.md",
    "measured.md": "benchmarks/RESULTS.md",
    "reference.md": "reference/README.md",
    "changelog.md": "CHANGELOG.md",
}
API = ROOT / "bench_core" / "api.py"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FIELD = re.compile(r"^(\w+(?:, \w+)*) {2,}(?=\S)")  # `name  meaning`, aligned, in a docstring
ABOUT_API = """# The API of a plugin

Names to import from `bench_core.api`. Shapes: N samples of a batch, C classes, L blocks.

"""


def public_names() -> list[str]:
    """Read `__all__` of the API, without importing it."""
    for node in ast.parse(API.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    raise ValueError(f"{API} has no __all__")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    api = ABOUT_API + "\n".join(f"::: bench_core.api.{name}\n" for name in public_names())
    files.append(File.generated(config, "api.md", content=api))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let a link to a file of the repository lead to its page; without a page its text stays."""
    home = posixpath.dirname(PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    pages = {source: name for name, source in PAGES.items()}

    def led(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(home, target))
        if path not in pages and not path.startswith("docs/") and (ROOT / path).exists():
            return text
        return f"[{text}]({pages.get(path, path.removeprefix('docs/'))}{anchor or ''})"

    return LINK.sub(led, markdown)


class Fields(griffe.Extension):
    """Show the aligned fields of a docstring as a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write every field as an item; its further lines are indented and belong to it."""
        if obj.docstring is not None:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join(FIELD.sub(r"- **\1** ", line) for line in lines)
