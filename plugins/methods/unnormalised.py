"""Options of rules whose credits are used in their own size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench_core.api import LocalMethod


class Unnormalised(LocalMethod.Params):
    """Options of a rule that does not normalise its credit: `normalize` is none by default."""

    normalize: Literal["sample", "batch", "none"] = Field(
        "none", description="of the credit; not part of the rule"
    )
