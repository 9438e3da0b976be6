"""Show the reference in README.md: `python -m bench_reference.readme`, in a checkout.

It writes the text between two comments of the README, and a figure in two colours. The suite is the
audit that has more rows. Every figure file names the digest of the data that it shows.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import click

from bench_core.analysis.gather import gather
from bench_core.analysis.verdicts.rows import Group
from bench_core.report.figures import Figure, drawn
from bench_core.report.figures.paper import dark, paper, render
from bench_core.report.tables.formats import Wanted, leaderboards
from bench_core.report.text.layout import joined
from bench_core.report.view import View, view
from bench_core.report.words import trained
from bench_core.report.words.rows import bare_labels, gamma
from bench_core.report.words.summary import rules
from bench_core.results import files, reference
from bench_core.results.hashing import digest

HERE = Path(__file__).resolve().parent.parent
README = HERE / "README.md"
SUITES = ("audit6", "audit5")  # of equal ones the first
FIRST, LAST = "<!-- reference: `python -m bench_reference.readme` writes this -->\n", "<!-- end -->"
FIGURES = {"light": "docs/gallery/reference-light.svg", "dark": "docs/gallery/reference-dark.svg"}
TITLES = ("accuracy on the test set", "bp gradient at the last block, ‖g_L‖")
WIDTH = 100  # columns of the table
TEXT = """\
{heading}

```
{table}
```

{struck}{caution}

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="{dark}">
  <img src="{light}" width="800" alt="{alt}">
</picture>

{legend}
"""
LEGEND = (
    "Both axes of epochs are logarithmic. Left: accuracy after every epoch; the dashed line is "
    "backpropagation with random blocks. Right: the gradient that Γ compares with; below the "
    "dashed line b fires and Γ is not diagnostic. Libraries clamp norms under a tenth of it. A "
    "mark shows the first epoch in which a diagnostic fires; in later epochs it may not. a: the "
    "states grow; b: hardly any gradient is left; c: the gradients of all batches share a "
    "direction."
)


def shown() -> View:
    """Return the audit of the reference that has more rows. Raises ClickException."""
    known = reference.installed()
    if known is None or known.trouble:
        raise click.ClickException(known.trouble if known else "no reference is installed")
    found = [view(one) for name in SUITES for one in gather([known.folder / name])[0]]
    if not found:
        raise click.ClickException(f"the reference has no run of {joined(SUITES)}")
    return max(found, key=lambda each: len(each.rows))


def text(seen: View) -> str:
    """Write the README's part about the reference."""
    table = leaderboards([seen.results], "table", Wanted(width=WIDTH))
    blocks = table.rstrip().split("\n\n")
    last = next(k for k, block in enumerate(blocks) if "\n---" in block or block.startswith("---"))
    group = seen.groups[0]
    origin = reference.source([run.record for row in group.rows for run in row.runs])
    return TEXT.format(
        heading=_wrapped(
            f"`bench leaderboard {seen.name}` prints this table (here 100 columns wide). Its runs: "
            f"{origin}."
        ),
        table="\n\n".join(blocks[: last + 1]),
        struck=_struck(seen),
        legend=_wrapped(f"{LEGEND} {figure(seen).caution}".rstrip()),
        caution=_wrapped(trained.caution(group) or _seeds(group)),
        alt=f"Accuracy, and the gradient of backpropagation, over the epochs of {seen.name}",
        **FIGURES,
    )


def _seeds(group: Group) -> str:
    """Say how many seeds the rules have finished."""
    labels = dict(zip(map(id, group.rows), bare_labels(group.rows), strict=True))
    fewer = [
        f"{labels[id(row)]} has {len(row.finished)}"
        for row in rules(group.rows)
        if len(row.finished) < len(group.seeds)
    ]
    but = f", but {joined(fewer)}" if fewer else ""
    short = [
        f"{row.label} has {len(row.finished)}"
        for row in group.rows
        if row.role == "floor" and len(row.finished) < len(group.seeds)
    ]
    floors = f" Of the floors, {joined(short)}." if short else ""
    return f"Every rule has {len(group.seeds)} finished seeds{but}.{floors}"


def _struck(seen: View) -> str:
    """Say why Γ is not diagnostic, for the rows in which it has a dagger."""
    reasons: dict[str, list[str]] = {}
    for row in seen.groups[0].rows:
        if row.role != "floor" and (reason := gamma(row).not_diagnostic):
            reasons.setdefault(reason, []).append(row.label)
    texts = [f"{joined(labels)}: {reason}" for reason, labels in reasons.items()]
    return (
        _wrapped(f"† Γ is not diagnostic (it means nothing) for {'; for '.join(texts)}.") + "\n\n"
        if texts
        else ""
    )


def _wrapped(words: str, indent: str = "") -> str:
    return textwrap.fill(words, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def figure(seen: View) -> Figure:
    """Draw accuracy and ‖g_L‖ over the epochs."""
    (item,) = drawn(seen, ["temporal"])[:1]
    panels = item.figure.panels[:0:-1]
    titled = [replace(panel, title=title) for panel, title in zip(panels, TITLES, strict=True)]
    return replace(item.figure, panels=tuple(titled), columns=2)


def mark(drawing: Figure) -> str:
    """Return the comment of a figure file that names what it shows."""
    return f"<!-- {digest(paper(drawing))} -->"


def page(seen: View, before: str) -> str:
    """Return the README with its part about the reference. Raises ClickException."""
    head, first, rest = before.partition(FIRST)
    _, last, tail = rest.partition(LAST)
    if not first or not last:
        raise click.ClickException(f"README.md: has no part between {FIRST.strip()} and {LAST}")
    return f"{head}{first}{text(seen)}{last}{tail}"


def write() -> None:
    """Write README.md and its figures."""
    if not README.exists():
        raise click.ClickException(f"{README}: no such file; this command needs a checkout")
    seen = shown()
    drawing = figure(seen)
    files.replace_file(README, page(seen, README.read_text(encoding="utf-8")))
    for name, spec in (("light", paper(drawing)), ("dark", dark(paper(drawing)))):
        svg = render(spec, "svg").decode()
        files.replace_file(HERE / FIGURES[name], f"{svg}\n{mark(drawing)}\n")


@click.command(help=__doc__)
def main() -> None:
    write()


if __name__ == "__main__":
    main()
