"""Check that a sweep survives its surroundings: refused system calls, broken plugins, a freeze.

A broken plugin ends its own cell, a broken observer is not called again; the other cells run.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from typing import Any

import pytest
from conftest import TINY, leftovers, runs

# pidfd_open; chmod, fchmod, fchmodat, fchmodat2; unshare
REFUSED = (434, 90, 91, 268, 452, 272)


def refuse() -> None:
    """Let the kernel answer EPERM to these system calls of this process and of its children."""
    load, jump_if_equal, give_back = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0)]
    for call in REFUSED:
        program += [(jump_if_equal, 0, 1, call), (give_back, 0, 0, 0x00050001)]
    program.append((give_back, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(buffer)))
    prctl, new_privileges, seccomp = ctypes.CDLL(None, use_errno=True).prctl, 38, 22
    if prctl(new_privileges, 1, 0, 0, 0) or prctl(seccomp, 2, filters, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_run_needs_no_system_call_that_a_container_may_refuse(bench: Any, fork: str) -> None:
    """A real filter: older container profiles refuse pidfd_open, some file systems chmod."""
    (bench.cwd / "tiny.yaml").write_text(TINY + "floors: false\n")
    run = bench("run", "tiny.yaml", preexec_fn=refuse, env={"BENCH_FORK": fork})
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert len(runs(bench.cwd / "results" / "tiny")) == 1
    merged = bench("merge", "results", "--into", "other", preexec_fn=refuse)
    assert merged.returncode == 0, merged.stderr
    assert leftovers(bench.cwd / "other" / "tiny") == []
