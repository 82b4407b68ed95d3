"""What the client and the yardstick start and import: nothing out of the directory that they are called in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iolab_client.servers.address import show
from tests.client import fakes
from tests.client.fakes import serving
from tests.support.waiting import DEADLINE_SECONDS


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


@pytest.mark.parametrize("module", ["iolab_client", "iolab.yardstick"])
def test_a_module_of_the_current_directory_is_not_taken_for_a_library(module: str, tmp_path: Path) -> None:
    for name in ("click", "json", "msgspec", "select", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not what was meant')")
    ended = run(tmp_path, "-m", module, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nor_is_it_by_the_processes_of_a_load(tmp_path: Path) -> None:
    # `python -m` itself imports it, before anything of ours runs.
    (tmp_path / "types.py").write_text("raise SystemExit('not what was meant')")
    with serving(fakes.honest) as fake:
        ended = run(tmp_path, "-P", "-m", "iolab_client", "load", show(fake.address), "-c", "1", "-n", "20")
    assert ended.returncode == 0, ended.stdout + ended.stderr
