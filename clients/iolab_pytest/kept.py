"""A program that runs for no longer than this process, and what it has printed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from iolab_pytest.keeper import GRACE_SECONDS

# Beyond what the keeper itself waits.
END_SECONDS = 5.0


class Kept:
    """A command under a keeper (keeper.py)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        # It has no name, so that nothing is left of it however we end.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the command runs
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "iolab_pytest.keeper", str(os.getpid()), *command],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            # Ctrl-C is for the session, which ends us in its own time.
            process_group=0,
        )

    def printed(self) -> str:
        """What it has printed until now, on both streams."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._keeper.poll()

    def stop(self) -> None:
        """Tell it to stop; returns at once."""
        assert self._keeper.stdin
        self._keeper.stdin.close()

    def end(self) -> None:
        """Stop it, and wait until it is gone."""
        self.stop()
        try:
            self._keeper.wait(GRACE_SECONDS + END_SECONDS)
        except subprocess.TimeoutExpired:
            # The kernel kills its command with it.
            self._keeper.kill()
            self._keeper.wait()
        self._output.close()
