"""A network namespace beside this machine's own, for as long as a test lasts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import skip_for_kernel


@contextmanager
def another_network() -> Iterator[Path]:
    """Its file. It takes root."""
    command = ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        try:
            if not process.stdout.readline():
                skip_for_kernel(process.stderr.read().strip())
            yield Path(f"/proc/{process.pid}/ns/net")
        finally:
            process.kill()
