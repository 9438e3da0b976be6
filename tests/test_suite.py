"""Check suite files: faults have their place, options pass the same checks, cells their laws."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HANG
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_core.errors import Problem, SuiteError, UsageError
from bench_core.suite import load as suites
from bench_core.suite.document import parse_path, show_path
from bench_core.suite.load import installed_suites, load_suite
from bench_core.suite.model import CellSpec, Suite, suite_schema
from bench_core.suite.yaml_reader import MAX_PROBLEMS, read_yaml

SHIPPED = Path(suites.__file__).parents[2] / "suites"
MINIMAL = "name: s\nmethods: [bp]\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write `s.yaml` into the working folder, so that messages show its bare name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes) -> str:
        Path("s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "s.yaml"

    return write


def problems_of(data: bytes | str) -> list[Problem]:
    """List the faults of a suite's text; other exceptions than `SuiteError` fail the test."""
    try:
        document = read_yaml(data, "f")
        if isinstance(document.value, dict):
            suites._validate(document)
    except SuiteError as caught:
        return caught.problems
    return document.problems


def faults(source: str, *args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        load_suite(source, *args, **kwargs)
    return str(caught.value).split("\n")


# ------------------------------------------------------------------------------- defaults and types


def test_defaults_are_those_of_the_protocol(write: Any) -> None:
    suite = load_suite(write(MINIMAL))
    assert suite.arch.as_dict() == {"name": "resmlp"}
    assert suite.dataset.as_dict() == {"name": "cifar10"}
    assert suite.seeds == [42, 123, 456]
    assert suite.training.model_dump() == {
        "epochs": 100,
        "stop_after": None,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "threads": 1,
        "device": "cpu",
        "deterministic": True,
        "precision": "float32",
        "compile": False,
    }
    assert suite.data.limit is None
    assert [d.name for d in suite.diagnostics] == [
        "scale_growth",
        "reference_floor",
        "batch_stability",
        "depth_utility",
        "alignment",
    ]
    assert suite.floors is True
    assert (suite.depth_utility.floor, suite.depth_utility.floor_value) == ("matched", None)


def test_scalars_are_yaml_1_2(write: Any) -> None:
    text = (
        "a: [1e-3, -2E+5, .5, 1., 7, -0, on, off, yes, no, true, false, null, ~, "
        "0x10, 0o7, 010, 1_000, True, 1:30]"
    )
    assert read_yaml(text, "f").value["a"] == [
        *(1e-3, -2e5, 0.5, 1.0, 7, 0, "on", "off", "yes", "no", True, False, None, None),
        *("0x10", "0o7", "010", "1_000", "True", "1:30"),
    ]
    assert isinstance(read_yaml("1e-3", "f").value, float)
    assert isinstance(read_yaml("10", "f").value, int)


def test_stopping_at_the_end_of_the_schedule_is_no_stop(write: Any) -> None:
    """The same training is the same cell, and the claims for it hold."""
    suite = load_suite(
        write(MINIMAL + "matrix: {training.epochs: [5, 20]}\ntraining: {stop_after: 5}\n")
    )
    assert [cell.training["stop_after"] for cell in suite.cells()] == [None, None, None, 5, 5, 5]


def test_what_a_suite_may_say(write: Any) -> None:
    suite = load_suite(
        write("""
name: full
methods: [bp, {name: bench-core/dfa, penalty: 0.1, nested: {deep: [1, 2]}}]
training: {learning_rate: 1, clip_norm: null, precision: float32, stop_after: 5}
diagnostics: [alignment, {name: scale_growth, threshold: 10, window: 3}]
depth_utility: {floor: dfa, floor_value: 0.349}
stop_when: [scale_growth]
expect: [{figure: accuracy, value: 0.615, tolerance: 0.01, source: Table 1, method: bp}]
""")
    )
    assert suite.methods[1].as_dict() == {
        "name": "bench-core/dfa",
        "penalty": 0.1,
        "nested": {"deep": [1, 2]},
    }
    assert suite.training.clip_norm is None
    assert suite.training.precision == "float32"
    assert suite.diagnostics[1].model_dump() == {
        "name": "scale_growth",
        "threshold": 10.0,
        "window": 3,
    }
    assert suite.stop_when == ["scale_growth"]
    assert suite.expect[0].value == 0.615


# ----------------------------------------------------------------------------------- faults 1, 2, 7


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "lerning_rate: 1",
            "3:12: training.lerning_rate: unknown key; did you mean learning_rate?",
        ),
        (
            "stop_when: [scale_growth]",
            "3:12: training.stop_when: unknown key; write it outside of training, as stop_when",
        ),
        (
            'learning_rate: "0.1"',
            "3:27: training.learning_rate: must be a number between 0 and 1,000, not "
            "the text '0.1'; write it without quotes",
        ),
        (
            "learning_rate: on",
            "3:27: training.learning_rate: must be a number between 0 and 1,000, not the text 'on'",
        ),
        (
            "learning_rate: true",
            "3:27: training.learning_rate: must be a number between 0 and 1,000, not true",
        ),
        (
            "learning_rate: []",
            "3:27: training.learning_rate: must be a number between 0 and 1,000, not a list",
        ),
        (
            "learning_rate: null",
            "3:27: training.learning_rate: must be a number between 0 and 1,000, not null",
        ),
        (
            "learning_rate: .nan",
            "3:27: training.learning_rate: must be a finite number, not .nan",
        ),
        (
            "learning_rate: .inf",
            "3:27: training.learning_rate: must be a finite number, not .inf",
        ),
        ("learning_rate: -1", "3:27: training.learning_rate: must be between 0 and 1,000, not -1"),
        (
            "learning_rate: 1e400",
            "3:27: training.learning_rate: must be a finite number, not 1e400",
        ),
        (
            "epochs: .nan",
            "3:20: training.epochs: must be a whole number between 1 and 100,000, not .nan",
        ),
        (
            "epochs: 1.5",
            "3:20: training.epochs: must be a whole number between 1 and 100,000, not 1.5",
        ),
        ("epochs: 0", "3:20: training.epochs: must be between 1 and 100,000, not 0"),
        ("epochs: -1", "3:20: training.epochs: must be between 1 and 100,000, not -1"),
        ("batch_size: 0", "3:24: training.batch_size: must be between 1 and 1,000,000, not 0"),
        ("clip_norm: 0", "3:23: training.clip_norm: must be above 0 and at most 1,000,000, not 0"),
        (
            "clip_norm: x",
            "3:23: training.clip_norm: must be a number above 0 and at most "
            "1,000,000 or null, not the text 'x'",
        ),
        (
            "deterministic: on",
            "3:27: training.deterministic: must be true or false, not the text 'on'; "
            "write true or false, in lower case and without quotes",
        ),
        ("precision: false", "3:23: training.precision: must be float32 or bfloat16, not false"),
        (
            "schedule: cosin",
            "3:22: training.schedule: must be cosine or constant, not the text "
            "'cosin'; did you mean cosine?",
        ),
        (
            "epochs: 5, stop_after: 6",
            "3:35: training.stop_after: must be at most training.epochs (5), not 6",
        ),
        (
            "device: gpu",
            "3:20: training.device: must be cpu, cuda, mps or xpu, or one with an index such as "
            "cuda:0, not the text 'gpu'",
        ),
    ],
)
def test_training_faults(write: Any, line: str, expected: str) -> None:
    assert faults(write(f"{MINIMAL}training: {{{line}}}\n")) == [f"s.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "expect: [{figure: accuracy, value: .1, tolerance: .1, source: T, seeds: 42}]",
            "3:66: expect[0].seeds: unknown key; did you mean seed?",
        ),
        (
            "data: {name: digits}",
            "3:8: data.name: unknown key; known: evaluate_on, limit, validation",
        ),
    ],
)
def test_no_key_is_moved_out_of_a_list_or_onto_one_that_is_there(
    write: Any, text: str, expected: str
) -> None:
    assert faults(write(f"{MINIMAL}{text}\n")) == [f"s.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: 1.5", "3:8: seeds: must be a list, not 1.5"),
        ("seeds: true", "3:8: seeds: must be a list, not true"),
        ("seeds: []", "3:8: seeds: must have at least 1 item"),
        (
            "seeds: [1, 1.5]",
            "3:12: seeds[1]: must be a whole number between 0 and 4,294,967,295, not 1.5",
        ),
        (
            "seeds: [1, true]",
            "3:12: seeds[1]: must be a whole number between 0 and 4,294,967,295, not true",
        ),
        ("seeds: [-1]", "3:9: seeds[0]: must be between 0 and 4,294,967,295, not -1"),
        (
            f"seeds: [{1 + 2**32}]",
            f"3:9: seeds[0]: must be between 0 and 4,294,967,295, not {1 + 2**32}",
        ),
        ("seeds: [1, 2, 1]", "3:15: seeds[2]: is listed twice"),
        ("arch: {width: 3}", "3:7: arch.name: is missing"),
        ("arch: 5", "3:7: arch: must be a name, or a mapping with name, not 5"),
        (
            "arch: {name: resmlp, width: .inf}",
            "3:29: arch.width: must be a finite number, not .inf",
        ),
        ("data: {limit: 0}", "3:15: data.limit: must be at least 1, not 0"),
        (
            f"data: {{limit: {2**63}}}",
            f"3:15: data.limit: must be at most 9,223,372,036,854,775,807, not {2**63}",
        ),
        (
            "diagnostics: [alignment, {scale_growth: {threshold: 10}}]",
            "3:26: diagnostics[1]: name is missing; write {name: scale_growth, threshold: 10}",
        ),
        ("arch: {resmlp: }", "3:7: arch: name is missing; write {name: resmlp}"),
        (
            "diagnostics: [{scale_growth, threshold: 10}]",
            "3:15: diagnostics[0]: name is missing; write {name: scale_growth, threshold: 10}",
        ),
        ("arch: {width: 8, depth: }", "3:7: arch.name: is missing"),
        (
            "training: {options: {epochs: 2}}",
            "3:12: training.options: unknown key; write epochs outside of options",
        ),
        (
            "penalty: 0.1",
            "3:1: penalty: unknown key; it is an option of a rule: write {name: dfa, penalty: 0.1} "
            "in methods, or --method 'dfa[penalty=0.1]'",
        ),
        ("title: 5", "3:8: title: must be text, not 5; put it in quotes"),
        ("diagnostics: [alignment, alignment]", "3:26: diagnostics[1]: is listed twice"),
        (
            "depth_utility: {floor_value: 2}",
            "3:30: depth_utility.floor_value: must be between 0 and 1, not 2",
        ),
        (
            "expect: [{figure: f, value: 1, tolerance: -1, source: s}]",
            "3:43: expect[0].tolerance: must be at least 0, not -1",
        ),
        ("seed: [1]", "3:1: seed: unknown key; did you mean seeds?"),
        (
            "exclude: [{method: bp, seeds: [1]}]",
            "3:24: exclude[0].seeds: unknown key; did you mean seed?",
        ),
        (
            "include: [{method: fa, seed: 3}]",
            "3:24: include[0].seed: unknown key; did you mean seeds?",
        ),
        (
            "include: [{method: fa, penalty: 0.1}]",
            "3:24: include[0].penalty: unknown key; did you mean method.penalty?",
        ),
        (
            "search: {training: {learning_rate: {low: 1.0e-4, high: 0.1, log: true}}}",
            "3:61: search.training.learning_rate.log: unknown key; write scale: log",
        ),
    ],
)
def test_other_faults(write: Any, text: str, expected: str) -> None:
    assert faults(write(f"{MINIMAL}{text}\n")) == [f"s.yaml:{expected}"]


def test_a_rule_is_listed_once_with_the_same_options(write: Any) -> None:
    text = "name: s\nmethods: [{name: dfa, x: 1}, {name: dfa, x: true}, dfa, {name: dfa}]\n"
    assert faults(write(text)) == ["s.yaml:2:57: methods[3]: is listed twice"]


def test_a_rule_whose_name_is_a_key_is_shown_as_it_must_be_written(write: Any) -> None:
    text = "name: s\nmethods:\n- dfa: {penalty: 0.1}\n"
    written = "methods[0]: name is missing; write {name: dfa, penalty: 0.1}"
    assert faults(write(text)) == [f"s.yaml:3:3: {written}"]


def test_a_number_too_large_for_a_float_is_refused(write: Any) -> None:
    [message] = faults(write(f"{MINIMAL}training: {{learning_rate: 1{'0' * 390}}}\n"))
    assert message.startswith(
        "s.yaml:3:27: training.learning_rate: must be a smaller number, not 1000"
    )


def test_all_faults_are_reported_at_once_in_order(write: Any) -> None:
    text = """name: s
methods: []
name: again
training:
  lerning_rate: 1
  epochs: 0
  batch_size: &anchor 5
matrix:
  training.threads: [0]
  wrong: [1]
"""
    assert faults(write(text)) == [
        "s.yaml:2:10: methods: must have at least 1 item",
        "s.yaml:3:1: name: duplicate key; first on line 1",
        "s.yaml:5:3: training.lerning_rate: unknown key; did you mean learning_rate?",
        "s.yaml:6:11: training.epochs: must be between 1 and 100,000, not 0",
        "s.yaml:7:15: training.batch_size: anchors and aliases (& and *) are not "
        "allowed; write the value out",
        "s.yaml:9:22: matrix.training.threads[0]: must be between 1 and 1,024, not 0",
        f"s.yaml:10:3: matrix.wrong: unknown key; {suites.AXES}",
    ]


# ----------------------------------------------------------------------------------- faults 3, 4, 5


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "1:1: the file is empty; a suite needs at least name and methods"),
        (b"# only a comment\n", "1:1: the file is empty; a suite needs at least name and methods"),
        (b"- a\n- b\n", "1:1: the top of a suite must be a mapping with name and methods"),
        (b"text\n", "1:1: the top of a suite must be a mapping with name and methods"),
        (b"name: s\nmethods: [bp]\nname: t\n", "3:1: name: duplicate key; first on line 1"),
        (
            b"name: s\nmethods: [bp]\n---\nname: t\n",
            "3:1: a second document starts here; a file holds one document",
        ),
        (
            b"name: s\nmethods:\n\t- bp\n",
            "3:1: not valid YAML: a tab is not allowed here; use spaces",
        ),
        (
            b"name: s\n  title: x\nmethods: [bp]\n",
            "2:8: not valid YAML: mapping values are not allowed here; is the indentation that of "
            "the lines around it?",
        ),
        (b"name: s\ntitle: \xff\n", "2:8: invalid UTF-8 (byte 0xff); save the file as UTF-8"),
        (b"name: s\ntitle: a\x00b\n", "2:9: the control character U+0000 is not allowed"),
        (b'name: s\ntitle: "\\0"\n', "2:8: title: the control character U+0000 is not allowed"),
        (b'name: s\ntitle: "\\uD800"\n', "2:8: title: the control character U+D800 is not allowed"),
        (
            b"name: s\nmethods: [bp]\ntraining: &t {epochs: 1}\n",
            "3:11: training: anchors and aliases (& and *) are not allowed; write the value out",
        ),
        (
            b"name: s\nmethods: [bp]\ntraining: *t\n",
            "3:11: training: anchors and aliases (& and *) are not allowed; write the value out",
        ),
        (
            b"name: s\nmethods: [bp]\ntraining: {<<: {epochs: 1}}\n",
            "3:12: training: merge keys (<<) are not allowed; write the keys out",
        ),
        (
            b"name: s\nmethods: [bp]\ntitle: !!str x\n",
            "3:8: title: tags are not allowed (tag:yaml.org,2002:str); remove it",
        ),
        (b"name: s\nmethods: [bp]\n1: x\n", "3:1: a key must be text, not 1; put it in quotes"),
        (b"name: s\nmethods: [bp]\n? [a]\n: x\n", "3:3: a key must be text, not a list or mapping"),
        (
            b"name: s\nmethods: [bp\n",
            "3:1: not valid YAML: expected ',' or ']', but got '<stream end>'; while "
            "parsing a flow sequence",
        ),
        (
            b"name: s\nmethods: [bp]\nstray\n\n# see:this\nseeds: [1]\n",
            "3:1: not valid YAML: could not find expected ':'; while scanning a simple key",
        ),
    ],
)
def test_yaml_faults(write: Any, data: bytes, expected: str) -> None:
    assert faults(write(data)) == [f"s.yaml:{expected}"]


def test_an_entry_that_is_indented_too_far_is_named_in_its_own_line(write: Any) -> None:
    """YAML reads it as a part of the text above: "dfa - ./mine.py", which is no file."""
    text = "name: s\nmethods:\n  - dfa\n    - ./mine.py\n  - bp\ndiagnostics:\n- a\n - b\n - c\n"
    read = "is read as a part of the entry above it; indent it like that entry"
    assert faults(write(text)) == [
        f"s.yaml:4:5: methods[0]: '- ./mine.py' {read}",
        f"s.yaml:8:2: diagnostics[0]: '- b' {read}",
    ]
    named = "name: s\nmethods:\n  - name: bp\n      - fa\n"
    assert faults(write(named)) == [f"s.yaml:4:7: methods[0].name: '- fa' {read}"]
    file = "name: s\nmethods:\n  - bp\n    - ./no.py\n"
    assert faults(write(file)) == [f"s.yaml:4:5: methods[0]: '- ./no.py' {read}"]
    many = "name: s\nmethods:\n" + "  - bp\n   - fa\n" * 3000
    assert len(faults(write(many))) == 51
    flow = "name: s\nmethods: [bp\n  - fa, ep]\n"
    assert "indent it like" not in " ".join(faults(write(flow)))
    fine = "name: s\nmethods:\n  - bp\n# a list\n  # - of two\nseeds:\n  - 1\n"
    assert load_suite(write(fine)).seeds == [1]


@pytest.mark.parametrize(
    ("line", "where", "spaced"),
    [
        ("methods:[bp]\ndataset: digits", "3:1: not valid YAML", "methods: [bp]"),
        ("dataset:digits\n\nmethods: [bp]", "3:1: not valid YAML", "dataset: digits"),
        ("training:\n  epochs:3\n  threads: 1", "4:1: not valid YAML", "epochs: 3"),
        ("training:\n  threads: 1\n  epochs:3", "5:1: not valid YAML", "epochs: 3"),
        (
            "methods: [bp]\ntraining:\n  epochs:3",
            "5:3: training: must be a mapping, not the text 'epochs:3'",
            "epochs: 3",
        ),
        (
            "methods: [bp]\ntraining: {epochs:3}",
            "4:12: training.epochs:3: unknown key",
            "epochs: 3",
        ),
    ],
)
def test_a_colon_without_a_space_is_named_in_its_own_line(
    write: Any, line: str, where: str, spaced: str
) -> None:
    found = faults(write(f"name: s\nseeds: [1]\n{line}\n"))
    assert found == [f"s.yaml:{where}; write a space after the colon: {spaced}"]
    first = faults(write(f"name:s\n{MINIMAL}"))
    assert first == ["s.yaml:1:1: not valid YAML; write a space after the colon: name: s"]
    (only,) = faults(write("name:s\n"))
    assert only.endswith("with name and methods; write a space after the colon: name: s")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("['dfa[penalty=0.1]']", "write {name: dfa, penalty: 0.1}"),
        ("[dfa[penalty=0.1]]", "write a rule with options as a mapping: {name: dfa, penalty: 0.1}"),
        ("[dfa [bp]]", "while parsing a flow sequence"),
    ],
)
def test_a_rule_with_options_as_tables_write_it(write: Any, written: str, expected: str) -> None:
    (told,) = faults(write(f"name: s\nmethods: {written}\n"))
    assert told.endswith(f"; {expected}")


def test_the_path_of_a_rule_file_out_of_its_place_names_its_places(write: Any) -> None:
    claim = "{figure: accuracy, method: ./rules/own.py, at_least: 0.1, source: s}"
    (fault,) = faults(write(f"name: s\nmethods: [bp]\nexpect: [{claim}]\n"))
    assert "expect[0].method: must be 1 to 64" in fault
    path = "a path stands only under methods and include of a suite file or in --method"
    assert fault.endswith(f"{path} ./rules/own.py; elsewhere write own.py/own")


def test_an_anchor_that_refers_to_itself(write: Any) -> None:
    assert all(
        "anchors and aliases" in line
        for line in faults(write(b"name: s\nmethods: [bp]\ntraining: &a [*a]\n"))
    )


def test_byte_order_mark_and_crlf_are_accepted(write: Any) -> None:
    assert load_suite(write(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())).name == "s"
    text = b"\xef\xbb\xbf" + f"{MINIMAL}nme: 1\n".replace("\n", "\r\n").encode()
    assert faults(write(text)) == ["s.yaml:3:1: nme: unknown key; did you mean name?"]


def test_depth_is_limited(write: Any) -> None:
    assert "nested deeper than 20 levels" in faults(write(f"{MINIMAL}title: {'[' * 5000}"))[0]
    assert "nested deeper than 20 levels" in faults(write("- " * 5000))[0]
    assert read_yaml("[" * 20 + "]" * 20, "f").value


def test_tags_are_never_executed(write: Any) -> None:
    text = '!!python/object/apply:os.system ["touch executed"]'
    for document in (
        text,
        f"{MINIMAL}title: {text}",
        f"{MINIMAL}? {text}\n: 1",
        f"{MINIMAL}title: !<x> a",
    ):
        assert faults(write(document))
    with pytest.raises(SuiteError):
        load_suite(write(MINIMAL), [f"title={text}"])
    assert not Path("executed").exists()


def test_a_flood_of_faults_is_cut(write: Any) -> None:
    lines = faults(write("name: s\n" * 500))
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1].endswith("too many faults; the rest of the file was not read")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

CHILD = """
import re, sys
from bench_core.errors import Problem, SuiteError
from bench_core.suite.load import load_suite
try:
    load_suite(sys.argv[1])
except SuiteError as error:
    print(str(error).split(chr(10))[0])
    # the peak of this program: ru_maxrss would count the parent's pages, which a fork starts with
    status = open("/proc/self/status").read() if sys.platform == "linux" else ""
    peak = re.search(r"VmHWM:\\s+([0-9]+)", status)
    print(int(peak[1]) / 1024 if peak else 0)
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "bomb",
            "s.yaml:1:4: a: anchors and aliases (& and *) are not allowed; write the value out",
        ),
        ("depth", "s.yaml:1:27: title: nested deeper than 20 levels"),
        ("huge", "s.yaml:1:1: the file is larger than 1 MB; a suite is a few kilobytes"),
        ("dense", "s.yaml:2:1: more than 20,000 values in one file"),
    ],
)
def test_resources_are_bounded(write: Any, tmp_path: Path, kind: str, expected: str) -> None:
    """Less than 100 MB in all."""
    text = {"bomb": BOMB, "depth": "title: " + "[" * 5000, "dense": "[" + "a,\n" * 300_000}.get(
        kind, "name: s\n"
    )
    write(text.encode())
    if kind == "huge":
        with Path("s.yaml").open("r+b") as file:
            file.truncate(50_000_000)
    root = Path(suites.__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, "s.yaml"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root)},
        timeout=HANG,
    )
    assert child.stderr == ""
    first, megabytes, torch = child.stdout.splitlines()
    if kind == "dense":
        assert first.endswith("more than 20,000 values in one file")
    else:
        assert first == expected
    assert float(megabytes) < 100
    assert torch == "False"


# --------------------------------------------------------------------------------------- fault 6, 9


def test_cells_are_counted_before_they_are_expanded(write: Any) -> None:
    axes = "".join(f"  method.p{i}: [{', '.join(map(str, range(1000)))}]\n" for i in range(3))
    assert faults(write(f"{MINIMAL}seeds: [1]\nmatrix:\n{axes}")) == [
        "s.yaml:4:1: matrix: the suite expands to 1,000,000,000 cells; at most 100,000 are allowed"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x",
        "/abs",
        "a/b/c",
        "CON",
        "a" * 300,
        "a.",
        ".a",
        "аudit",
        "",
        "a\nb",
        "a b",
        "a/",
        "/a",
        "ﬁ",
        "a\x1b[2J",
    ],
)
def test_names_are_validated(name: str) -> None:
    for key, document in (
        ("name", {"name": name, "methods": ["bp"]}),
        ("methods[0]", {"name": "s", "methods": [name]}),
        ("arch", {"name": "s", "methods": ["bp"], "arch": {"name": name}}),
    ):
        with pytest.raises(SuiteError) as caught:
            suites._validate(read_yaml(json.dumps(document).replace("\\u001b", "-"), "f"))
        message = str(caught.value)
        assert "\n" not in message
        assert key in message
        assert "must be 1 to 64 of a-z, 0-9" in message
        assert len(message) < 250


@pytest.mark.parametrize("name", ["con", "nul", "aux.txt", "com1", "lpt9"])
def test_windows_devices_do_not_name_a_suite(write: Any, name: str) -> None:
    [message] = faults(write(f"name: {name}\nmethods: [bp]\n"))
    assert message == "s.yaml:1:7: name: is a device on Windows and cannot name a folder there"


@pytest.mark.parametrize(
    "name", ["quarantine", "agreement", "suite.json", "'0123456789abcdef0123456789abcdef'"]
)
def test_what_results_folders_hold_does_not_name_a_suite(write: Any, name: str) -> None:
    [message] = faults(write(f"name: {name}\nmethods: [bp]\n"))
    assert message == "s.yaml:1:7: name: is a name that results folders use themselves"


def test_user_text_is_shown_safely(write: Any) -> None:
    long = "x" * 500
    [message] = faults(write(f"{MINIMAL}{long}: 1\n"))
    assert len(message) < 400
    [message] = faults(write(f'{MINIMAL}arch: "a\u202eb"\n'))
    assert "\\u202e" in message
    assert "\u202e" not in message


# --------------------------------------------------------------------------------------------- fuzz


@pytest.mark.long
@settings(max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=80).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
def test_bytes_raise_nothing_but_a_suite_error(data: bytes) -> None:
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems_of(data))


_TOKENS = [
    "name: ",
    "methods: ",
    "s",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "!t ",
    "? ",
    ": ",
    "'",
    '"',
]
_TOKENS += [
    "|\n",
    "matrix: ",
    "training: ",
    "1e-3",
    ".nan",
    "\t",
    "#",
    "---\n",
    "...",
    "<<: ",
    "%YAML 1.2\n",
    "\\U",
    "\\",
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(_TOKENS), max_size=25).map("".join))
def test_yaml_like_text_raises_nothing_but_a_suite_error(text: str) -> None:
    assert all("\n" not in str(problem) for problem in problems_of(text))


_KEYS = st.sampled_from(["name", "seeds", "method", "training.epochs", "arch.width", "x", ""])
_PLAIN = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, math.inf, 2**80, "bp", "", "a/b", "dfa"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.long
@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(Suite.model_fields)), _PLAIN, max_size=4))
def test_any_values_under_known_keys(value: dict[str, Any]) -> None:
    text = json.dumps({"name": "s", "methods": ["bp"], **value}).replace("Infinity", ".inf")
    assert all("\n" not in str(problem) for problem in problems_of(text))


_TARGETS = [
    "training.epochs",
    "arch.width",
    "arch",
    "methods[0].a.b",
    "methods[9]",
    "matrix.method.x",
    "a[0]",
]
_TARGETS += ["name.x", ".", "[0]", "seeds"]


@settings(max_examples=100)
@given(
    st.sampled_from(_TARGETS),
    st.sampled_from(["=", "=1", "=[1]", "={a: 1}", "=&a 1", "=*a", "", "==", "=[", "=!x 1", "=bp"]),
    st.sampled_from(
        [(), ("dfa[a=1",), ("dfa[a=1,b={c: [1, 2]}]",), ("dfa[]",), ("",), ("dfa[=]",), ("bp",)]
    ),
)
def test_options_raise_nothing_but_a_suite_error(
    tmp_path_factory: Any, key: str, value: str, methods: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "options.yaml"
    path.write_text(MINIMAL)
    try:
        load_suite(path, [key + value], methods=methods)
    except SuiteError as caught:
        problems = caught.problems
    else:
        problems = []
    assert all(str(problem).startswith(("--set", "--method", str(path))) for problem in problems)


@pytest.mark.parametrize(
    "text", ["methods[2].penalty", "matrix.method.penalty[1]", "training.epochs", "a[0][1].b"]
)
def test_paths_are_written_as_they_are_read(text: str) -> None:
    path = parse_path(text)
    assert path is not None
    assert show_path(path) == text


# ------------------------------------------------------------------------------------------ options


def test_set_is_checked_like_the_file(write: Any) -> None:
    source = write(MINIMAL)
    assert load_suite(source, ["training.epochs=5", "title=x"]).training.epochs == 5
    assert faults(source, ["training.lerning_rate=1"]) == [
        "--set training.lerning_rate=1: training.lerning_rate: unknown key; did you "
        "mean learning_rate?"
    ]
    assert faults(source, ["training.epochs='5'"]) == [
        "--set training.epochs='5': training.epochs: must be a whole number between "
        "1 and 100,000, not the text '5'; write it without quotes"
    ]
    assert faults(source, ["nonsense"]) == ["--set nonsense: must have the form key.path=value"]
    option = "unknown key; it is an option of a rule: write {name: dfa, normalize: batch}"
    assert faults(source, ["method.normalize=batch"]) == [
        "--set method.normalize=batch: method.normalize: "
        f"{option} in methods, or --method 'dfa[normalize=batch]'"
    ]
    assert faults(source, ["name.x=1"]) == ["--set name.x=1: name: is not a mapping"]
    assert faults(source, ["methods[3]=dfa"]) == [
        "--set methods[3]=dfa: methods[3]: the list has 1 entry"
    ]
    assert faults(source, ["methods[3].x=1"]) == [
        "--set methods[3].x=1: methods[3]: the list has 1 entry"
    ]
    assert (
        faults(source, ["methods=", "methods[0].a.b=1"])[0]
        == "--set methods[0].a.b=1: methods: is not a list"
    )
    assert faults(source, ["seeds=[1, "])[0].startswith("--set seeds=[1, : seeds: not valid YAML")


def test_set_reaches_parameters_of_components(write: Any) -> None:
    source = write(f"{MINIMAL}matrix: {{arch.width: [64, 128]}}\n")
    suite = load_suite(
        source, ["arch.width=32", "methods[0].penalty=0.1", "methods[1]=dfa", "data.limit=7"]
    )
    assert suite.arch.as_dict() == {"name": "resmlp", "width": 32}
    assert [m.as_dict() for m in suite.methods] == [{"name": "bp", "penalty": 0.1}, {"name": "dfa"}]
    assert suite.data.limit == 7
    assert suite.matrix == {}


def test_short_forms(write: Any) -> None:
    source = write("""
name: s
methods: [bp, {name: dfa, penalty: 0}, {name: dfa, penalty: 1}]
arch: {name: resmlp, width: 64}
training: {epochs: 100, stop_after: 50}
include: [{method: fa, seeds: [9]}, {method: dfa, seeds: [9]}]
matrix: {training.epochs: [90, 100]}
""")
    suite = load_suite(
        source,
        methods=["dfa", "my-rule", "ep[beta=0.5,o={a: 1, b: [x, y]}]", "vec[frozen]"],
        seeds=[7],
        epochs=10,
    )
    assert [m.as_dict() for m in suite.methods] == [
        {"name": "dfa", "penalty": 0},
        {"name": "dfa", "penalty": 1},
        {"name": "my-rule"},
        {"name": "ep", "beta": 0.5, "o": {"a": 1, "b": ["x", "y"]}},
        {"name": "vec", "freeze": "blocks"},
    ]
    assert suite.include == [{"method": "dfa"}]
    assert suite.seeds == [7]
    assert suite.training.epochs == 10
    assert suite.training.stop_after is None
    assert suite.matrix == {}
    assert load_suite(source, arch="resmlp").arch.as_dict() == {"name": "resmlp", "width": 64}
    assert load_suite(source, arch="vit_mini", dataset="digits[alpha=1]", device="cuda:0").cells()[
        0
    ].arch == {"name": "vit_mini"}
    assert faults(source, methods=["BP"])[0].startswith("--method BP: must be 1 to 64")
    assert faults(source, seeds=[-1])[0].startswith("--seed -1: seeds[0]: must be between 0 and")
    assert faults(source, epochs=0)[0].startswith(
        "--epochs 0: training.epochs: must be between 1 and 100,000, not 0"
    )
    for name in ("bp", "bench-core/bp"):  # the second keeps the same entry of the file
        told = f"--method {name}: is listed twice"
        assert faults(write("name: s\nmethods: [bp, dfa]\n"), methods=["bp", name]) == [told]
    several = write("name: s\nmethods: [dfa, {name: dfa, penalty: 0.1}]\n")
    every = "is listed twice: --method dfa takes every entry of this rule in the suite"
    twice = ["dfa", "dfa[penalty=0.1]"]
    assert faults(several, methods=twice) == [f"--method {twice[1]}: {every}"]
    assert faults(several, methods=["fa", "fa"]) == ["--method fa: is listed twice"]
    assert faults(source, methods=["dfa[x"]) == [
        "--method dfa[x: must have the form name or name[key=value,…]"
    ]
    assert faults(source, methods=["dfa[a=&x 1]"]) == [
        "--method dfa[a=&x 1]: a: anchors and aliases (& and *) are not allowed; "
        "write the value out"
    ]


def test_kept_entries_keep_their_places(write: Any) -> None:
    suite = load_suite(
        write("name: s\nmethods:\n  - bp\n  - name: dfa\n    penalty: 3\n"), methods=["dfa"]
    )
    [cell] = [cell for cell in suite.cells() if cell.seed == 42]
    assert (
        str(suite.problem(cell, "method.penalty", "is odd"))
        == "s.yaml:5:14: methods[1].penalty: is odd"
    )


def test_arch_selects_from_its_axis(write: Any) -> None:
    source = write(f"{MINIMAL}matrix: {{arch: [resmlp, {{name: vit_mini, depth: 4}}]}}\n")
    assert {str(c.arch) for c in load_suite(source, arch="vit_mini").cells()} == {
        str({"name": "vit_mini", "depth": 4})
    }
    assert {c.arch["name"] for c in load_suite(source, arch="small_cnn").cells()} == {"small_cnn"}


def test_set_with_the_name_of_the_component_keeps_its_options_as_arch_does(write: Any) -> None:
    source = write(
        f"{MINIMAL}arch: {{name: resmlp, width: 64}}\ndataset: {{name: digits, alpha: 1}}\n"
    )
    same = load_suite(source, ["arch=resmlp", "dataset=digits"])
    assert same.arch.as_dict() == {"name": "resmlp", "width": 64}
    assert same.dataset.as_dict() == {"name": "digits", "alpha": 1}
    plain = load_suite(source, ["arch={name: resmlp}", "dataset=cifar10"])
    assert plain.arch.as_dict() == {"name": "resmlp"}
    assert plain.dataset.as_dict() == {"name": "cifar10"}
    axis = write(
        f"{MINIMAL}arch: {{name: resmlp, depth: 2}}\n"
        "matrix: {arch: [{name: resmlp, depth: 8}, vit_mini]}\n"
    )
    for chosen in ({"arch": "resmlp"}, {"overrides": ["arch=resmlp"]}):
        archs = [cell.arch for cell in load_suite(axis, **chosen).cells()]
        assert set(map(str, archs)) == {str({"name": "resmlp", "depth": 8})}
    assert len(faults(axis, overrides=["arch.depth=&x 9"])) == 1  # not one for each network
    every = load_suite(axis, ["arch.depth=9", "dataset.alpha=1"]).cells()
    assert {str(cell.arch) for cell in every} == {
        str({"name": name, "depth": 9}) for name in ("resmlp", "vit_mini")
    }
    assert {cell.dataset["alpha"] for cell in every} == {1}


# ------------------------------------------------------------------------------------------- matrix


def load(text: str, tmp_path: Path) -> Suite:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return load_suite(path)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 3), max_size=3))
def test_the_number_of_cells_is_the_product(
    tmp_path_factory: Any, methods: int, seeds: int, sizes: list[int]
) -> None:
    keys = ["method.penalty", "training.learning_rate", "arch.depth"]
    text = json.dumps(
        {
            "name": "s",
            "methods": [f"m{i}" for i in range(methods)],
            "seeds": list(range(seeds)),
            "matrix": {key: list(range(1, n + 1)) for key, n in zip(keys, sizes, strict=False)},
        }
    )
    suite = load(text, tmp_path_factory.getbasetemp())
    cells = suite.cells()
    assert len(cells) == suite.count() == methods * seeds * math.prod(sizes)
    assert len({repr(cell) for cell in cells}) == len(cells)


def test_axes_are_applied_to_what_they_name(tmp_path: Path) -> None:
    suite = load(
        """
name: s
methods: [{name: dfa, penalty: 5, normalize_eps: 1e-6}]
seeds: [1]
matrix:
  arch.width: [8]
  method.penalty: [0]
  method.normalize_eps.per_n: [1e-3]
  arch: [{name: vit_mini, width: 4, depth: 2}]
  training.learning_rate: [1]
  data.limit: [10]
  dataset: [digits]
""",
        tmp_path,
    )
    [cell] = suite.cells()
    assert cell.method == {"name": "dfa", "penalty": 0, "normalize_eps": {"per_n": 1e-3}}
    assert cell.arch == {"name": "vit_mini", "width": 8, "depth": 2}
    assert cell.dataset == {"name": "digits"}
    assert cell.training == {**suite.training.model_dump(), "learning_rate": 1.0}
    assert isinstance(cell.training["learning_rate"], float)
    assert cell.data == {"limit": 10}
    assert suite.methods[0].as_dict()["normalize_eps"] == 1e-6


def test_exclude_and_include(tmp_path: Path) -> None:
    text = """
name: s
methods: [bp, dfa]
seeds: [1, 2]
matrix: {method.penalty: [0, 0.1], training.epochs: [10, 20]}
exclude:
  - {method: bp, method.penalty: 0.1}
  - {training.epochs: [20, 30], seed: 2}
include:
  - {method: fa, training.epochs: 5, seeds: [9]}
  - {method: {name: dfa, penalty: 0.0}, training.epochs: 10}
"""
    cells = {
        (c.method["name"], c.method.get("penalty"), c.training["epochs"], c.seed)
        for c in load(text, tmp_path).cells()
    }
    expected = {
        (m, p, e, s)
        for m in ("bp", "dfa")
        for p in (0, 0.1)
        for e in (10, 20)
        for s in (1, 2)
        if not (m == "bp" and p == 0.1) and not (e == 20 and s == 2)
    }
    assert cells == expected | {("fa", None, 5, 9)}
    # the second include is in the matrix already
    assert len(load(text, tmp_path).cells()) == len(cells)


def test_an_entry_of_exclude_that_matches_no_cell_is_told(write: Any) -> None:
    """The message names the key at fault, with the values that the cells have."""
    rules = {
        "{method: dfa}": None,
        "{method: bp, seed: 7}": "of seed, the cells have 1, 2, but not 7",
        "{seed: '1'}": 'of seed, the cells have 1, 2, but not "1"',
        "{method: dfaa}": 'of method, the cells have "bp", "dfa", but not "dfaa"',
        "{method: bp, method.penalti: 1}": "no cell has a value of method.penalti",
        "{method.penalty: 0}": "of method.penalty, the cells have null, 0.5, but not 0",
        "{method: bp, method.penalty: 0.5}": (
            "each of its keys matches a cell, but no cell matches all of them"
        ),
    }
    methods = "methods: [bp, {name: dfa, penalty: 0.5}, dfa]\nseeds: [1, 2]\n"
    source = write(f"name: s\n{methods}exclude: [{', '.join(rules)}]\n")
    told = [f"exclude[{i}]: matches no cell; {why}" for i, why in enumerate(rules.values()) if why]
    for chosen in ([], ["bp"]):  # of the file alone
        lines = map(str, load_suite(source, methods=chosen).idle().values())
        assert [line.partition(" ")[2] for line in lines] == told


def test_exclude_takes_null_for_a_key_that_is_not_set(tmp_path: Path) -> None:
    text = "name: s\nmethods: [bp, {name: dfa, penalty: 1}]\nexclude: [{method.penalty: null}]\n"
    assert {c.method["name"] for c in load(text, tmp_path).cells()} == {"dfa"}


def test_true_is_not_one(tmp_path: Path) -> None:
    text = (
        "name: s\nmethods: [bp]\nseeds: [1]\nmatrix: {method.x: [1, true, 0, false]}\n"
        "exclude: [{method.x: true}]\n"
    )
    assert [c.method["x"] for c in load(text, tmp_path).cells()] == [1, 0, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "matrix: {training.epochs: [5, '6']}",
            "3:31: matrix.training.epochs[1]: must be a whole number between 1 and "
            "100,000, not the text '6'; write it without quotes",
        ),
        (
            "matrix: {training.lerning_rate: [1]}",
            "3:10: matrix.training.lerning_rate: unknown key; did you mean learning_rate?",
        ),
        (
            "matrix: {method.penalty: []}",
            "3:26: matrix.method.penalty: must have at least 1 item",
        ),
        ("matrix: {method.penalty: 1}", "3:26: matrix.method.penalty: must be a list, not 1"),
        (
            "matrix: {method.penalty: [1, [2]]}",
            "3:30: matrix.method.penalty[1]: must be a single value or a mapping, not a list",
        ),
        ("matrix: {method.penalty: [1, 1.0]}", "3:30: matrix.method.penalty[1]: is listed twice"),
        (
            "matrix: {method: [dfa]}",
            "3:10: matrix.method: unknown key; list them under methods, beside matrix",
        ),
        (
            "matrix: {seeds: [1]}",
            "3:10: matrix.seeds: unknown key; list them under seeds, beside matrix",
        ),
        ("matrix: {arch.name: [x]}", "3:10: matrix.arch.name: unknown key; use the key arch"),
        (
            "matrix: {arch: [RES]}",
            "3:17: matrix.arch[0]: must be 1 to 64 of a-z, 0-9, _ . - with a letter or digit at "
            "both ends (or dist/name), not the text 'RES'",
        ),
        ("include: [{seeds: [1]}]", "3:11: include[0].method: is missing"),
        (
            "include: [{method: bp, seeds: []}]",
            "3:31: include[0].seeds: must have at least 1 item",
        ),
        (
            "include: [{method: bp, training.epochs: 0}]",
            "3:41: include[0].training.epochs: must be between 1 and 100,000, not 0",
        ),
        (
            "exclude: [{methd: bp}]",
            "3:12: exclude[0].methd: unknown key; axes are method.*, arch, arch.*, dataset, "
            "dataset.*, training.*, data.*",
        ),
        ("exclude: [{method: 1}]", "3:20: exclude[0].method: must be a name or a list of names"),
        (
            "exclude: [{method: 'dfa[penalty=0]'}]",
            "3:20: exclude[0].method: must be a name without options; write its options beside it, "
            "as in `method.OPTION: VALUE`",
        ),
        (
            "matrix: {training.epochs: [5, 20]}\ntraining: {stop_after: 10}",
            "4:24: training.stop_after: must be at most training.epochs (5), not 10",
        ),
        (
            "matrix: {training.stop_after: [5, 200]}",
            "3:35: matrix.training.stop_after[1]: must be at most training.epochs (100), not 200",
        ),
    ],
)
def test_matrix_faults(write: Any, text: str, expected: str) -> None:
    assert faults(write(f"{MINIMAL}{text}\n")) == [f"s.yaml:{expected}"]


def test_faults_found_later_have_their_place(write: Any) -> None:
    suite = load_suite(
        write("""name: s
methods:
  - bp
  - name: dfa
    options: {lambda: 3}
seeds: [1]
diagnostics: [alignment, {name: scale_growth, window: 3}]
matrix:
  method.penalty: [0, 0.1]
  arch: [{name: vit_mini, width: 8}]
include:
  - {method: fa, method.penalty: 1}
""")
    )
    bp, dfa, fa = suite.cells()[1], suite.cells()[3], suite.cells()[-1]

    def place(cell: CellSpec | None, key: str, **kwargs: bool) -> str:
        return str(suite.problem(cell, key, "x", **kwargs))

    assert place(bp, "method") == "s.yaml:3:5: methods[0]: x"
    assert place(bp, "method.missing") == "s.yaml:3:5: methods[0].missing: x"
    assert place(dfa, "method.options.lambda") == "s.yaml:5:23: methods[1].options.lambda: x"
    assert (
        place(dfa, "method.options.lambda", at_key=True)
        == "s.yaml:5:15: methods[1].options.lambda: x"
    )
    assert place(dfa, "method.penalty") == "s.yaml:9:23: matrix.method.penalty[1]: x"
    assert place(dfa, "arch.width") == "s.yaml:10:34: matrix.arch[0].width: x"
    assert place(dfa, "training.device") == "s.yaml:1:1: training.device: x"
    assert place(fa, "method") == "s.yaml:12:14: include[0].method: x"
    assert place(fa, "method.penalty") == "s.yaml:12:34: include[0].method.penalty: x"
    assert place(None, "diagnostics[1].window") == "s.yaml:7:55: diagnostics[1].window: x"
    assert suite.problem(bp, "method", "x", "y").hint == "y"


# ----------------------------------------------------------------------------- files and the schema


def test_a_missing_file_names_what_is_near(tmp_path: Path) -> None:
    pytest.importorskip("bench_suites")
    with pytest.raises(
        UsageError, match="audti5: no such file or installed suite; did you mean audit5"
    ):
        load_suite("audti5")
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(UsageError, match=f"did you mean {tmp_path}/mine.yaml"):
        load_suite(tmp_path / "mine.yml")
    with pytest.raises(UsageError, match="is a folder"):
        load_suite(tmp_path)
    (tmp_path / "mine.py").touch()
    named = f"is Python, not a suite file; .* `bench run quickstart --method {tmp_path}/mine.py`"
    with pytest.raises(UsageError, match=named):
        load_suite(tmp_path / "mine.py")
    assert "audit5" in installed_suites()
    assert load_suite("audit5").name == "audit5"


def test_every_shipped_suite_is_installed() -> None:
    assert sorted(path.stem for path in SHIPPED.glob("*.yaml")) == sorted(installed_suites())


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_suites_load(path: Path) -> None:
    suite = load_suite(path)
    assert suite.name == path.stem
    assert path.read_text().startswith("#")
    assert suite.cells()


@pytest.mark.parametrize(
    ("name", "cells", "epochs"),
    [
        ("audit5", 15, {100}),
        ("audit6", 18, {100}),
        ("penalty", 36, {30}),  # in both paddings
        ("lambda_sweep", 36, {30, 100}),  # the published 30-epoch runs are apart
        ("normalization", 48, {30}),
    ],
)
def test_shipped_suites_are_those_of_the_protocol(name: str, cells: int, epochs: set[int]) -> None:
    suite = load_suite(SHIPPED / f"{name}.yaml")
    assert len(suite.cells()) == cells
    assert {cell.training["epochs"] for cell in suite.cells()} == epochs
    assert suite.seeds == [42, 123, 456]


def test_the_schema_describes_every_field() -> None:
    schema = json.loads(json.dumps(suite_schema(), allow_nan=False))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(Suite.model_fields)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "methods"}
    tables = [
        schema,
        *(node["oneOf"][1] if "oneOf" in node else node for node in schema["$defs"].values()),
    ]
    for table in tables:
        for key, node in table["properties"].items():
            assert node.get("description"), key
    component = schema["$defs"]["ComponentSpec"]
    assert [node["type"] for node in component["oneOf"]] == ["string", "object"]
    assert component["oneOf"][1]["required"] == ["name"]
    assert schema["$defs"]["TrainingOptions"]["properties"]["epochs"]["maximum"] == 100_000


def test_shipped_suites_use_only_keys_of_the_schema() -> None:
    known = suite_schema()["properties"]
    paths = [*SHIPPED.glob("*.yaml")]
    assert len(paths) > 20
    for path in paths:
        assert set(read_yaml(path.read_bytes(), path.name).value) <= set(known)


@pytest.mark.parametrize("seeds", [[np.int64(3), 4], np.array([3, 4]), (np.uint8(3), np.int32(4))])
def test_seeds_may_be_integers_of_numpy(write: Any, seeds: Any) -> None:
    suite = load_suite(write(MINIMAL), seeds=seeds, epochs=np.int64(2))
    assert suite.seeds == [3, 4]
    assert {type(seed) for seed in suite.seeds} == {int}
    assert suite.training.epochs == 2
    with pytest.raises(SuiteError, match="whole number"):
        load_suite(write(MINIMAL), seeds=[np.float64(1.5)])
    with pytest.raises(SuiteError, match="whole number"):
        load_suite(write(MINIMAL), seeds=[np.bool_(True)])


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("run # 3", "run # 3"),
        ("#1", "#1"),
        ("'a # b'", "a # b"),
        ('"a # b"', "a # b"),
        ("a#b", "a#b"),
    ],
)
def test_an_option_keeps_what_follows_a_hash(write: Any, text: str, title: str) -> None:
    assert load_suite(write(MINIMAL), [f"title={text}"]).title == title


def test_a_number_with_a_comment_is_refused_as_an_option(write: Any) -> None:
    with pytest.raises(SuiteError, match=r"training\.epochs"):
        load_suite(write(MINIMAL), ["training.epochs=3 # three"])
    suite = load_suite(write("name: s # a comment\nmethods: [dfa]\n"))
    assert suite.name == "s"


def test_an_option_with_a_mapping_keeps_the_other_settings(write: Any) -> None:
    source = write("name: s\nmethods: [bp]\ntraining: {batch_size: 32, epochs: 9}\n")
    suite = load_suite(source, ["training={learning_rate: 0.5}", "data={limit: 64}"], epochs=2)
    kept = suite.training
    assert (kept.batch_size, kept.epochs, kept.learning_rate) == (32, 2, 0.5)
    assert suite.data.limit == 64
    for value, told in {
        "{epochs: 1, epochs: 2}": "epochs",
        "{epochs: !!int 3}": "tag",
        "{epochs: &x 3}": "anchors",
        "{epochs: *x}": "aliases",
    }.items():
        (line,) = faults(source, overrides=[f"training={value}"])
        assert told in line.partition(": training")[2]
    assert faults(source, overrides=["training={epoch: 3}"]) == [
        "--set training={epoch: 3}: training.epoch: unknown key; did you mean epochs?"
    ]
