"""Check a release as a stranger gets it (`make release-check`).

A wheel of the tracked files and the example package are installed into a fresh environment.
It holds nothing of the checkout; torch and the other dependencies are lent to it by path.
There the example is checked, run on the quickstart, and reported.

It takes minutes, so the test suite does not run it: run it before a release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        source = tracked(home / "source")
        say("wheel")
        pip = [sys.executable, "-m", "pip", "-q"]
        call(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", home / "wheels", source],
            home,
        )
        (wheel,) = (home / "wheels").glob("bench_core-*.whl")

        say("environment")
        call([sys.executable, "-m", "venv", "--without-pip", home / "env"], home)
        python = home / "env" / "bin" / "python"
        site = call(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], home
        ).strip()
        # a plain path: the .pth files in there, ours to the checkout among them, are not read
        Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--ignore-installed",
        ]
        call([*install, wheel, source / "examples" / "bench-drtp"], home)
        shutil.rmtree(source)
        origin = call(
            [
                python,
                "-c",
                "import bench_core, bench_plugins, bench_suites; print(bench_core.__file__)",
            ],
            home,
        )
        assert origin.startswith(str(home)), f"bench_core comes from {origin}"

        work = home / "work"
        work.mkdir()
        bench = home / "env" / "bin" / "bench"
        for arguments in (
            ["--version"],
            ["plugins", "--check"],
            ["check", "bench-drtp"],
            ["new", "method", "mine"],
            ["run", "quickstart", "--method", "drtp"],
            ["leaderboard"],
            ["report", "-o", "report.html"],
        ):
            say("bench " + " ".join(arguments))
            print(call([bench, *arguments], work))
        assert (work / "report.html").stat().st_size > 10_000
        assert (work / "bench-mine" / "bench_mine" / "rule.py").is_file()
    print(f"release-check: done in {time.perf_counter() - started:.0f} s")


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
