"""The form of suite.json: what is read of a damaged one, and that what is written is read again."""

from __future__ import annotations

from typing import Any

import pytest

from bench_core.results.suite_json import SavedDecision, SuiteFile, SuiteJson

WHOLE: dict[str, Any] = {
    "name": "tiny",
    "title": "Two rules",
    "thresholds": {"scale_growth": 9.0},
    "cells": {"k": "identity"},
    "defaults": {"bench-core/dfa": {"penalty": 0.0}},
    "diagnostics": {"bench-core/alignment": {"batches": 2}},
    "decisions": {"identity": {"action": "run", "why": "is new", "at": "2026", "epochs": 3}},
    "used": {"identity": "2026"},
    "file": {"digest": "d", "title": "t", "description": "", "cells": ["k"], "seeds": [1]},
}


def test_what_is_written_is_read_again() -> None:
    own = SuiteJson(
        name="tiny",
        file=SuiteFile(digest="d", cells=["k"], seeds=[1]),
        decisions={"a": SavedDecision(action="run", why="is new", at="2026", cell="dfa", epochs=3)},
        cells={"k": "a"},
    )
    plain = own.model_dump()
    assert SuiteJson.readable(plain) == own
    assert plain["decisions"] == {
        "a": {"action": "run", "why": "is new", "at": "2026", "cell": "dfa", "epochs": 3}
    }


@pytest.mark.parametrize("damage", [3, "x", [], [1], None, {"a": []}, {"a": {"b": 1}, "c": 3}])
@pytest.mark.parametrize("part", sorted(WHOLE))
def test_a_damaged_part_leaves_the_others(part: str, damage: Any) -> None:
    sound = SuiteJson.readable(WHOLE)
    read = SuiteJson.readable({**WHOLE, part: damage})
    for name in WHOLE.keys() - {part}:
        assert getattr(read, name) == getattr(sound, name) != getattr(SuiteJson(), name)
    assert read == SuiteJson.model_validate(read.model_dump())  # every part has its form


def test_a_damaged_entry_leaves_the_others_of_its_mapping() -> None:
    read = SuiteJson.readable({**WHOLE, "cells": {"k": "identity", "l": 3, "m": ["x"]}})
    assert read.cells == {"k": "identity"}
    read = SuiteJson.readable({**WHOLE, "decisions": {**WHOLE["decisions"], "b": {"epochs": "x"}}})
    assert read.decisions.keys() == {"identity"}
    read = SuiteJson.readable({**WHOLE, "file": {**WHOLE["file"], "seeds": "x"}})
    assert read.file == SuiteFile(digest="d", title="t", cells=["k"])
