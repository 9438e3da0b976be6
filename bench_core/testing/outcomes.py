"""The two ways in which a conformance check ends without passing."""

from __future__ import annotations


class Failed(AssertionError):  # noqa: N818 - an outcome, not an error
    """The subject breaks the law of a check; the message states the observation."""


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """The check does not apply; the message gives the reason and, if there is one, the remedy."""
