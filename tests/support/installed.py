"""An installed iolab, used as somebody does who has no checkout."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.process import environment

# A command that hangs is a failed test; nothing here is judged by its speed.
SECONDS = 240


class Installed:
    """The programs of an environment, each run in `folder`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self._environment = environment(folder.parent)

    def run(self, program: str, *arguments: str) -> str:
        """What a program prints on both streams. AssertionError if it does not exit with 0."""
        return self._printed([str(self.programs / program), *arguments], self._environment)

    def shell(self, script: str, **variables: str) -> str:
        """What commands print that are given to a shell, with the programs in its PATH. AssertionError if one fails."""
        path = f"{self.programs}:{self._environment['PATH']}"
        variables = {**self._environment, "PATH": path, "COLUMNS": "200", **variables}
        return self._printed(["bash", "-euo", "pipefail", "-c", script], variables)

    def _printed(self, command: list[str], environment: dict[str, str]) -> str:
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    @contextlib.contextmanager
    def begin(self, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A program that is killed at the end of the block."""
        command = [str(self.programs / program), *arguments]
        with subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, text=True
        ) as begun:
            try:
                yield begun
            finally:
                begun.kill()
