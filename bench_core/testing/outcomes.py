"""The two ways in which a conformance check ends without passing."""

from __future__ import annotations


class Failed(AssertionError):  # noqa: N818 - an outcome, not an error
    """The subject does not hold what the check asks for; the message says what was found."""


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """The check does not apply; the message says why and, where there is a way, how to make it apply."""
