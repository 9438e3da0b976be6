"""Say which form was meant by words that a command about a suite does not take."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import click

from bench_core.errors import did_you_mean


class SuiteCommand(click.Command):
    """A command whose argument is a suite and whose options change the suite's settings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words. Raises click's errors, with the form that was meant if one is known."""
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            near = get_close_matches(error.option_name, error.possibilities or (), cutoff=0.8)
            if near or not (hint := _setting(error.option_name)):
                raise
            raise click.UsageError(f"No such option {error.option_name!r}; {hint}", ctx) from None
        except click.UsageError as error:
            hint = _argument(words) if "extra argument" in error.message else ""
            if not hint:
                raise
            raise click.UsageError(f"{error.message}; {hint}", ctx) from None


def _setting(option: str) -> str:
    """Return a hint if an unknown option has the name of a setting or of a rule's option."""
    from bench_core.suite.cells import CORE_DEFAULTS
    from bench_core.suite.recipe import RECIPE

    word = option.lstrip("-").replace("-", "_")
    if word in CORE_DEFAULTS:
        return f"it is an option of a rule: --method 'dfa[{word}=VALUE]'"
    settings = [f"{part}.{key}" for part, model in RECIPE.items() for key in model.model_fields]
    hint = did_you_mean(word, set(), settings)
    return hint and f"{hint} Set it by --set KEY=VALUE"


def _argument(words: list[str]) -> str:
    """Return a hint if `--set KEY VALUE` or a rule's name left an argument too many."""
    for option, word in pairwise(words):
        if option == "--set" and "=" not in word:
            return f"--set {word}: must have the form KEY=VALUE"
    return "give one suite, and rules by --method NAME"


class Seed(click.types.IntParamType):
    """A seed; several are given by several options."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number. Raises click's error."""
        if isinstance(value, str) and "," in value:
            again = " ".join(f"--seed {part.strip()}" for part in value.split(",") if part.strip())
            self.fail(f"{value!r} is not one seed: write {again}", param, ctx)
        return int(super().convert(value, param, ctx))
