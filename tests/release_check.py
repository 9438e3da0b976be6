"""Check a release as a stranger gets it (`make release-check`).

A wheel of the tracked files and the example package are installed into fresh environments, which
hold nothing of the checkout:

* with this environment's dependencies, lent by path: the example is checked, run and reported;
* with the oldest dependencies that pyproject.toml allows; torch and torchvision, of which each
  release has gigabytes, are lent;
* for every other supported Python that this machine has, with dependencies from the registry. A
  Python that is not here is named and not checked.

It takes minutes, so the test suite does not run it: run it before a release.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
LENT = ("torch", "torchvision")
ORIGIN = "import bench_core, bench_plugins, bench_suites; print(bench_core.__file__)"
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
# what a stranger does first, on small data
COMMANDS = (
    ["--version"],
    ["list"],
    ["plan", "quickstart"],
    ["run", "quickstart", "--method", "dfa", "--epochs", "1"],
    ["leaderboard"],
    ["figure", "alignment", "-o", "figure.svg"],
    ["report", "-o", "report.html"],
    ["verify"],
    ["claims"],
    ["check", "dfa", "--category", "contract"],
)


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        source = tracked(home / "source")
        oldest = minima(source / "pyproject.toml")
        say("wheel")
        pip = [sys.executable, "-m", "pip", "-q"]
        call(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", home / "wheels", source],
            home,
        )
        (wheel,) = (home / "wheels").glob("bench_core-*.whl")
        example = home / "bench-drtp"
        shutil.move(source / "examples" / "bench-drtp", example)
        shutil.rmtree(source)
        as_a_stranger(home / "new", wheel, example)
        with_the_oldest(home / "oldest", wheel, oldest)
        notes = [with_python(home / name, name, wheel) for name in PYTHONS]
    for note in filter(None, notes):
        say(note)
    print(f"release-check: done in {time.perf_counter() - started:.0f} s")


def as_a_stranger(home: Path, wheel: Path, example: Path) -> None:
    """Check, run and report the example with this environment's dependencies."""
    say("environment")
    python = environment(home, sys.executable, "--without-pip")
    lend(python)
    options = ["-q", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    call([python, "-m", "pip", "install", *options, wheel, example], home)
    work = folder(home, python)
    for arguments in (
        ["--version"],
        ["plugins", "--check"],
        ["check", "bench-drtp"],
        ["new", "method", "mine"],
        ["run", "quickstart", "--method", "drtp"],
        ["leaderboard"],
        ["report", "-o", "report.html"],
    ):
        bench(python, arguments, work)
    assert (work / "report.html").stat().st_size > 10_000
    assert (work / "bench-mine" / "bench_mine" / "rule.py").is_file()


def with_the_oldest(home: Path, wheel: Path, oldest: list[str]) -> None:
    """Run the first commands with the oldest dependencies, and with closed standard streams."""
    say(f"oldest dependencies: {', '.join(oldest)}")
    python = environment(home, sys.executable)
    call([python, "-m", "pip", "install", "-q", *oldest], home)
    call([python, "-m", "pip", "install", "-q", "--no-deps", wheel], home)
    lend(python)
    for arguments in COMMANDS:
        bench(python, arguments, folder(home, python))
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"):
        say(f"bench leaderboard {closed}")
        script = f'"$0" leaderboard {closed}'
        call(["sh", "-c", script, python.with_name("bench")], home / "work")


def with_python(home: Path, version: str, wheel: Path) -> str:
    """Run the first commands with another Python; return a note if it cannot be checked here."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return ""
    interpreter = found(version)
    if interpreter is None:
        return f"NOT CHECKED: there is no Python {version} here"
    say(f"Python {version}: dependencies from the registry, some gigabytes")
    python = environment(home, interpreter)
    call([python, "-m", "pip", "install", "-q", wheel], home)
    for arguments in COMMANDS:
        bench(python, arguments, folder(home, python))
    shutil.rmtree(home)
    return ""


def found(version: str) -> str | None:
    """Return an interpreter of this version: of the path, or of pyenv."""
    places = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for name in [f"python{version}", *places.glob(f"{version}.*/bin/python")]:
        try:
            done = subprocess.run([name, "--version"], capture_output=True, text=True)
        except OSError:
            continue
        if done.stdout.startswith(f"Python {version}."):
            return str(name)
    return None


def minima(pyproject: Path) -> list[str]:
    """Return `name==oldest` for the dependencies, without those that are lent."""
    listed = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    pairs = [re.fullmatch(r"([\w-]+)>=([\d.]+)", text) for text in listed]
    assert all(pairs), f"a dependency without a minimum: {listed}"
    return [f"{p[1]}=={p[2]}" for p in pairs if p is not None and p[1] not in LENT]


def environment(home: Path, interpreter: str, *options: str) -> Path:
    """Create a virtual environment and return its Python."""
    home.mkdir()
    call([interpreter, "-m", "venv", *options, home / "env"], home)
    return home / "env" / "bin" / "python"


def lend(python: Path) -> None:
    """Put this environment's packages last on the path of another.

    A plain path: the .pth files in there, ours to the checkout among them, are not read.
    """
    site = call([python, "-c", SITE], python.parent).strip()
    Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")


def folder(home: Path, python: Path) -> Path:
    """Return a folder to work in, once bench_core is seen to come from the environment."""
    origin = call([python, "-c", ORIGIN], home)
    assert origin.startswith(str(home)), f"bench_core comes from {origin}"
    (home / "work").mkdir(exist_ok=True)
    return home / "work"


def bench(python: Path, arguments: list[str], work: Path) -> None:
    """Run a command of bench and print what it prints."""
    say("bench " + " ".join(arguments))
    print(call([python.with_name("bench"), *arguments], work))


def tracked(target: Path) -> Path:
    """Copy the tracked files as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=HERE, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / name, target / name)
    return target


def call(command: list[object], cwd: Path) -> str:
    """Run a command without the checkout on its path and return its output.

    End the check if the command fails.
    """
    kept = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"release-check: {' '.join(map(str, command))} ended with {done.returncode}\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout


def say(what: str) -> None:
    print(f"release-check: {what}", flush=True)


if __name__ == "__main__":
    main()
