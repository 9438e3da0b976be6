"""The code that runs is that of the distribution whose name it bears, and all of it is digested."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import TINY, Here, plugin

from bench_core.errors import PluginError, UsageError
from bench_core.execution.planning.fingerprint import code_files
from bench_core.registry import plugins
from bench_core.registry.registry import resolve

NUMBERS = count()


def table(name: str, target: str = "somewhere.over:Rainbow") -> str:
    return plugin("bench_methods()", f"return [Component({name!r}, {target!r})]")


def install(
    home: Path,
    name: str,
    files: dict[str, str],
    entry: str | None = None,
    *,
    record: bool = True,
    editable: Path | None = None,
) -> None:
    """Write a distribution as pip leaves it; of an editable one the files lie in its project."""
    info = home / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if entry is not None:
        (info / "entry_points.txt").write_text(f"[bench_core.plugins]\n{name} = {entry}\n")
    for file, text in files.items():
        path = (editable or home) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if editable is not None:
        content = {"url": editable.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(content))
        files = {f"__editable__.{name}.pth": str(editable)}
    sums = {f: urlsafe_b64encode(hashlib.sha256(t.encode()).digest()) for f, t in files.items()}
    if record:
        lines = [f"{file},sha256={value.decode().rstrip('=')},9" for file, value in sums.items()]
        (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "site"
    home.mkdir()
    monkeypatch.syspath_prepend(str(home))
    return home


@pytest.fixture
def module() -> str:
    """The name of a module that no test has imported before."""
    return f"shared_name_{next(NUMBERS)}"


def brought() -> tuple[set[str], dict[str, str]]:
    """Return the full names of the strangers' components, and the fault of each distribution."""
    registry = plugins.load(isolated=False)
    names = {item.full_name for item in registry.components if item.distribution != "bench-core"}
    return names, {trouble.distribution: trouble.reason for trouble in registry.troubles}


def test_of_two_distributions_with_one_file_the_last_installed_has_it(
    site: Path, module: str
) -> None:
    for name in ("x-one", "x-two"):
        install(site, name, {f"{module}.py": table(name)}, module)
    names, faults = brought()
    assert names == {"x-two/x-two"}
    assert faults == {
        "x-one": f"the module {module}, {site / module}.py, belongs to x-two 1.0: "
        "uninstall x-one or x-two, or give their modules different names"
    }


def test_of_two_distributions_without_records_in_one_folder_nothing_is_known_and_none_runs(
    site: Path, module: str
) -> None:
    for name in ("x-one", "x-two"):
        install(site, name, {f"{module}.py": table(name)}, module, record=False)
    names, faults = brought()
    assert names == set()
    assert "belongs to x-two" in faults["x-one"]
    assert "belongs to x-one" in faults["x-two"]


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("first", ["x-one", "x-two"])
def test_in_two_folders_the_first_on_the_path_has_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, record: bool, first: str
) -> None:
    second = "x-two" if first == "x-one" else "x-one"
    for name in (second, first):
        home = tmp_path / name
        install(home, name, {f"{module}.py": table(name)}, module, record=record)
        monkeypatch.syspath_prepend(str(home))
    names, faults = brought()
    assert names == {f"{first}/{first}"}
    assert f"belongs to {first} 1.0" in faults[second]


@pytest.mark.parametrize("kind", ["ordinary", "edited", "no record", "editable", "shadowed"])
def test_a_distribution_alone_is_always_taken(
    tmp_path: Path, site: Path, module: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project" if kind == "editable" else None
    files = {f"{module}.py": table("rule")}
    install(site, "x-one", files, module, record=kind != "no record", editable=project)
    # one with a package of its own in the same folder, and what a build left in the project
    install(site, "x-other", {"other_package_of_tests/a.py": ""}, record=kind != "no record")
    if project is not None:
        install(project, "x-old", {}, module, record=False)
        monkeypatch.syspath_prepend(str(project))
    if kind == "edited":
        (site / f"{module}.py").write_text(table("rule") + "# edited in place\n")
    if kind == "shadowed":  # by a checkout that is not installed
        (tmp_path / "checkout").mkdir()
        (tmp_path / "checkout" / f"{module}.py").write_text(table("rule"))
        monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
    names, faults = brought()
    assert "x-one/rule" in names
    assert "x-one" not in faults or project is not None


def test_of_two_editable_projects_the_one_that_is_imported_has_the_module(
    tmp_path: Path, site: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x-one", "x-two"):
        project = tmp_path / name
        install(site, name, {f"{module}.py": table(name)}, module, editable=project)
        monkeypatch.syspath_prepend(str(project))
    names, faults = brought()
    assert names == {"x-two/x-two"}
    assert "belongs to x-two 1.0" in faults["x-one"]


@pytest.mark.parametrize("record", [True, False])
def test_distributions_share_a_namespace(site: Path, module: str, record: bool) -> None:
    for name in ("one", "two"):
        files = {f"{module}/{name}.py": table(name)}
        install(site, f"x-{name}", files, f"{module}.{name}", record=record)
    assert brought() == ({"x-one/one", "x-two/two"}, {})


def test_a_target_of_another_distribution_is_not_imported(site: Path, module: str) -> None:
    hooks = f"hooks_of_{module}"
    install(site, "x-one", {f"{hooks}.py": table("rule", f"{module}:Rule")}, hooks)
    install(site, "x-two", {f"{module}.py": "raise RuntimeError('imported')"})
    item = plugins.load(isolated=False).find("method", "x-one/rule")
    with pytest.raises(PluginError, match=rf"^x-one 1\.0: .*{module}.*belongs to x-two 1\.0: "):
        resolve(item)


def test_a_suite_with_such_a_rule_trains_nothing_and_names_both(
    site: Path, module: str, here: Here, tmp_path: Path
) -> None:
    for name in ("x-one", "x-two"):
        install(site, name, {f"{module}.py": table(name)}, module)
    (tmp_path / "tiny.yaml").write_text(TINY.replace("[dfa]", "[x-one/x-one, x-two/x-two]"))
    done = here("run", "tiny.yaml")
    assert done.returncode == 2
    assert f"x-one 1.0 (x-one): the module {module}, " in done.stderr
    assert "belongs to x-two 1.0" in done.stderr
    assert not (tmp_path / "results").exists()


# ----------------------------------------------------------------------------- all code is digested


@pytest.fixture
def rule(site: Path, module: str) -> Callable[[], dict[str, str]]:
    """Install a rule that imports the module; return its digests each time it is called."""
    own = f"rule_of_{module}"
    code = f"from importlib import import_module\nimport_module('{module}')\n"
    install(site, "x-rule", {f"{own}.py": code})
    return lambda: code_files([own], "x-rule")


@pytest.mark.parametrize(
    "code",
    [
        "importlib.import_module(name='{0}.k')",
        "from importlib import import_module as im; im('.k', __package__)",
        "importlib.import_module('.k', package='{0}')",
        "im = importlib.import_module; K = im(__package__ + '.k')",
        "importlib.import_module(f'{{__package__}}.k')",
        "NAME = '.k'; importlib.import_module(NAME, __package__)",
        "pkgutil.resolve_name('{0}.k:A')",
        "pkgutil.resolve_name('{0}.k.A')",
        "from pkgutil import resolve_name as get; get('{0}.k')",
        "__import__('{0}.k')",
        "__import__('k', globals(), locals(), ['A'], 1)",
        "__import__('{0}', fromlist=['k'])",
        "runpy.run_module('{0}.k')",
        "def draw(): return importlib.import_module('{0}.k').A",
    ],
)
def test_a_module_imported_by_a_call_is_digested_like_one_imported_by_a_statement(
    site: Path, module: str, code: str
) -> None:
    rule = f"import importlib, pkgutil, runpy\n{code.format(module)}\n"
    files = {f"{module}/__init__.py": "", f"{module}/k.py": "A = 1\n", f"{module}/rule.py": rule}
    install(site, "x-rule", files)
    assert f"{module}.k" in code_files([f"{module}.rule"], "x-rule")
    (site / module / "rule.py").write_text(rule.replace("k", "gone"))
    assert f"{module}.k" not in code_files([f"{module}.rule"], "x-rule")


def test_what_a_library_imports_from_a_checkout_or_requires_is_seen(
    tmp_path: Path, site: Path, module: str, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep, needed, other = (f"{name}_{module}" for name in ("deep", "needed", "other"))
    project = tmp_path / "project"
    library = f"from {deep} import a\nimport {needed}\n"
    library += f"try:\n    import {other}\nexcept ImportError:\n    pass\n"
    install(site, "x-help", {f"{module}.py": library})
    metadata = site / "x_help-1.0.dist-info" / "METADATA"
    requires = "Requires-Dist: x.Needed>=1\nRequires-Dist: x-other ; extra == 'all'\n"
    metadata.write_text(metadata.read_text() + requires)
    install(site, "x-deep", {f"{deep}/__init__.py": "", f"{deep}/a.py": ""}, editable=project)
    install(site, "x-needed", {f"{needed}.py": "A = 1\n"})
    install(site, "x-other", {f"{other}.py": ""})
    monkeypatch.syspath_prepend(str(project))
    before = rule()
    assert {"distribution x-help", "distribution x-needed", f"{deep}.a"} <= before.keys()
    assert "distribution x-other" not in before
    for file in (project / deep / "a.py", site / f"{needed}.py"):
        file.write_text("A = 22\n")
        assert rule() != before
        before = rule()


def test_a_package_that_another_distribution_has_overwritten_around_a_rule_is_refused(
    site: Path, module: str
) -> None:
    """Its `__init__` runs before the rule's module, which is the rule's own."""
    install(site, "x-rule", {f"{module}/__init__.py": "A = 1\n", f"{module}/rule.py": ""})
    install(site, "x-help", {f"{module}/__init__.py": "A = -1\n"})
    with pytest.raises(UsageError, match=rf"^x-rule: the module {module}, .* belongs to x-help"):
        code_files([f"{module}.rule"], "x-rule")


def test_an_edit_of_a_package_around_a_rule_is_seen(site: Path, module: str) -> None:
    """`a/__init__.py` and `a/b/__init__.py` run before `a.b.rule`."""
    inits = [f"{module}/__init__.py", f"{module}/b/__init__.py"]
    install(site, "x-rule", {**dict.fromkeys(inits, "SCALE = 1\n"), f"{module}/b/rule.py": ""})
    digests = [code_files([f"{module}.b.rule"], "x-rule")]
    for init in inits:
        (site / init).write_text("SCALE = -33\n")
        digests.append(code_files([f"{module}.b.rule"], "x-rule"))
        assert digests[-1] != digests[-2]


@pytest.mark.parametrize("kind", ["ordinary", "no record", "editable", "no distribution"])
def test_an_edit_of_another_distribution_is_seen(
    tmp_path: Path,
    site: Path,
    module: str,
    rule: Any,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tmp_path / "project" if kind == "editable" else None
    deep = f"deep_{module}"
    files = {f"{module}/__init__.py": f"import {deep}.a\n", f"{module}/b.py": ""}
    if kind == "no distribution":
        (site / module).mkdir()
        (site / module / "__init__.py").write_text(files[f"{module}/__init__.py"])
    else:
        install(site, "x-help", files, record=kind != "no record", editable=project)
    (site / deep).mkdir()
    for name in ("__init__", "a"):
        (site / deep / f"{name}.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(str(project or site))
    before = rule()
    assert rule() == before
    edited = ((project or site) / module / "__init__.py", f"import {deep}.a\nA = 22\n")
    if kind == "ordinary":
        assert "distribution x-help" in before
    else:  # what it imports is followed
        for name in ("__init__", "a"):
            (site / deep / f"{name}.py").write_text("A = 22\n")
            assert rule() != before
            before = rule()
    edited[0].write_text(edited[1])
    assert rule() != before


def test_the_version_of_another_distribution_counts_and_torch_and_numpy_do_not(
    site: Path, module: str, rule: Any
) -> None:
    install(site, "x-help", {f"{module}.py": "import torch, numpy\n"})
    before = rule()
    info = site / "x_help-1.0.dist-info"
    text = (info / "METADATA").read_text().replace("Version: 1.0", "Version: 1.1")
    (info / "METADATA").write_text(text)
    info.rename(site / "x_help-1.1.dist-info")
    after = rule()
    assert {name for name in after if after[name] != before[name]} == {"distribution x-help"}
    assert not {"torch", "numpy"} & {name.partition(".")[0] for name in after}


def test_code_in_an_archive_is_read_through_its_loader(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for number in (1, 2):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(f"{module}/__init__.py", "")
            file.writestr(f"{module}/rule.py", "from . import helper\n")
            file.writestr(f"{module}/helper.py", f"A = {number}\n")
        monkeypatch.syspath_prepend(str(archive))
        digests.append(code_files([f"{module}.rule"], "x-rule"))
    one, two = digests
    assert {name for name in one if one[name] != two[name]} == {f"{module}.helper"}
    assert one[f"{module}.rule"]


@pytest.mark.long
def test_a_distribution_that_lies_whole_in_an_archive_reaches_its_workers(
    tmp_path: Path, module: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server has the archive open, and a child closes the descriptors of the server."""
    code = "from bench_plugins.methods.dfa import DirectFeedbackAlignment as Rule\n"
    install(
        tmp_path / "x", "x-rule", {f"{module}.py": table("zipped", f"{module}_rule:Rule")}, module
    )
    (tmp_path / "x" / f"{module}_rule.py").write_text(code)
    shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "x")
    monkeypatch.syspath_prepend(str(tmp_path / "x.zip"))
    (tmp_path / "tiny.yaml").write_text(TINY.replace("[dfa]", "[zipped]") + "floors: false\n")
    for number in ("0 reused, 1 to run", "1 reused, 0 to run"):
        done = here("run", "tiny.yaml")
        assert number in done.stdout, done.stderr


def test_code_that_no_loader_shows_is_refused(
    module: str, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opaque:
        def find_spec(self, name: str, path: object) -> ModuleSpec | None:
            return ModuleSpec(name, self) if name == module else None  # type: ignore[arg-type]

        def exec_module(self, loaded: ModuleType) -> None: ...

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Opaque()])
    with pytest.raises(UsageError, match=f"{module} cannot be digested: Opaque shows no code"):
        rule()


def test_a_helper_that_another_distribution_has_overwritten_is_refused(
    site: Path, module: str
) -> None:
    files = {f"rule_of_{module}.py": f"import {module}\n", f"{module}.py": "A = 1\n"}
    install(site, "x-rule", files)
    install(site, "x-help", {f"{module}.py": "A = 2\n"})
    with pytest.raises(UsageError, match=rf"^x-rule: the module {module}, .* belongs to x-help"):
        code_files([f"rule_of_{module}"], "x-rule")


@pytest.mark.long
def test_a_rule_that_a_script_finds_trains_and_is_not_reused_after_an_edit_of_its_helper(
    site: Path, module: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both workers see the import path of this process alone; the helper lies in an archive."""
    own = f"rule_of_{module}"
    code = (
        f"from bench_plugins.methods.dfa import DirectFeedbackAlignment\nimport {module}\n"
        "class Rule(DirectFeedbackAlignment):\n    pass\n"
    )
    hooks = f"hooks_of_{module}"
    files = {f"{hooks}.py": table("found", f"{own}:Rule"), f"{own}.py": code}
    install(site, "x-rule", files, hooks)
    suite = TINY.replace("[dfa]", "[found]") + "floors: false\n"
    (tmp_path / "tiny.yaml").write_text(suite)
    for value in (1, 2):
        archive = tmp_path / f"{value}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(f"{module}.py", f"A = {value}\n")
        monkeypatch.syspath_prepend(str(archive))
        done = here("run", "tiny.yaml")
        assert done.returncode == 0, done.stderr
        assert "1 cell, 0 reused, 1 to run" in done.stdout
    assert "1 cell, 1 reused, 0 to run" in here("run", "tiny.yaml").stdout
