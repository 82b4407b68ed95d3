"""A free-threaded interpreter, and a place whose servers run on it with its lock, or without."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from iolab_client.compare.places import Processes
from iolab_client.trial.finding import Missing

if TYPE_CHECKING:
    from iolab_client.trial.bench import Means

# With all that a server has loaded: a module in C that does not say that it can do without turns the lock on again.
ASK = "import sys, iolab.run.serve, iolab.models.epoll_pool; print(sys._is_gil_enabled())"
ASK_SECONDS = 60.0


class Interpreters:
    """The interpreter that was named, by its path or by an image of iolab's that has one."""

    def __init__(self, path: str | None, image: str | None) -> None:
        """Raises Missing if neither is given."""
        if not (path or image):
            raise Missing(
                "a free-threaded interpreter with iolab installed (python3.14t -m pip install 'iolab[client]'): name "
                "it with --python PATH, or an image that has one in FREE_THREADED_IMAGE"
            )
        self._path, self._image = path, image

    def place(self, means: Means, *, lock: bool) -> Processes:
        """Plain processes on it. Raises Missing where the lock is not as it is asked for."""
        command = self._command(means, lock)
        try:
            asked = subprocess.run(
                [*command, "-P", "-c", ASK], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"{command[0]}: {error}") from None
        if asked.stdout.strip() != str(lock):
            said = (asked.stderr or asked.stdout).strip().splitlines() or ["it says nothing"]
            reason = next((line for line in said if "rror" in line), said[-1])
            wanted = "with" if lock else "without"
            raise Missing(f"an interpreter that can run {wanted} its lock: {self._path or self._image} says: {reason}")
        return Processes(means.allowed, means.client_cpus, configs=means.configs, command=command)

    def _command(self, means: Means, lock: bool) -> list[str]:
        variable = f"PYTHON_GIL={int(lock)}"
        if self._path:
            return ["env", variable, self._path]
        cpus = ",".join(map(str, means.allowed))
        return [
            "docker", "run", "--rm", "--init", "--network", "host", "--cpuset-cpus", cpus, "--env", variable,
            "--volume", f"{means.configs}:{means.configs}:ro", "--entrypoint", "python", str(self._image),
        ]  # fmt: skip
