"""The limits: what the kernel grants, whichever group of ours it was written into."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.missing import skip_for_kernel

# cgroups v1, then v2.
ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
PROGRAM = """
import pathlib, sys
(pathlib.Path(sys.argv[1]) / "cgroup.procs").write_text("0")
from iolab.server.limits import thread_limit
print(thread_limit())
"""


@pytest.fixture
def nested() -> Iterator[tuple[Path, Path]]:
    """A control group of this test's, and one within it."""
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)
    outer = root and root / f"iolab-test-{os.getpid()}"
    try:
        assert outer
        outer.mkdir()
    except (AssertionError, OSError) as error:
        skip_for_kernel(
            f"no control group can be made here ({error}): run the tests as root to see the limits of nested groups"
        )
    inner = outer / "inner"
    try:
        if not (outer / "pids.max").exists():
            skip_for_kernel("the controller pids is not delegated to groups that this user makes")
        inner.mkdir()
        yield outer, inner
    finally:
        with contextlib.suppress(FileNotFoundError):
            inner.rmdir()
        outer.rmdir()


def test_the_limit_of_threads_is_the_least_of_all_groups_above(nested: tuple[Path, Path]) -> None:
    outer, inner = nested
    (outer / "pids.max").write_text("123")
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(inner)], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) <= 123
