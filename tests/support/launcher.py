"""`iolab up`, `down` and `serve` as commands, in a folder of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import yaml

from iolab.run.launcher import PLAYGROUND
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.process import environment

CHECKOUT = Path(__file__).parents[2]
SECONDS = 60
# As the script `iolab` has it, which is not always in the PATH: nothing comes from the current directory.
COMMAND = (sys.executable, "-P", "-m", "iolab")
# One alone, and one that has children.
SLUGS = ("epoll_loop", "prefork_epoll")


class Launcher:
    """The command in a folder of its own, with ports that were free a moment ago."""

    def __init__(self, folder: Path, slugs: Sequence[str] = SLUGS, **variables: str) -> None:
        self._folder = folder
        self._slugs = slugs
        self.run_files = folder / "run" / "files"
        self._environment = environment(folder, {"IOLAB_RUN_DIR": str(self.run_files), **variables})
        self.configs = folder / "configs"
        shutil.copytree(CHECKOUT / "configs", self.configs)
        self.ports = dict(zip(slugs, free_ports(len(slugs)), strict=True))
        for slug in slugs:
            self.configure(slug)

    def configure(self, slug: str, **settings: object) -> None:
        values = {"port": self.ports[slug], **settings}
        file = "playground.yaml" if slug == PLAYGROUND else f"models/{slug}.yaml"
        (self.configs / file).write_text(yaml.safe_dump(values))

    @contextlib.contextmanager
    def begin(self, *words: str, command: Sequence[str] = COMMAND) -> Iterator[subprocess.Popen[str]]:
        """The command, which is killed at the end of the block."""
        with subprocess.Popen(
            [*command, *words],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as begun:
            try:
                yield begun
            finally:
                # One that hangs is a failed test, and not a suite that hangs.
                begun.kill()

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        with self.begin(*words) as command:
            output, errors = command.communicate(timeout=SECONDS)
        return command.returncode, output, errors

    def up(self) -> list[int]:
        """Start all, detached; the pids of the servers."""
        code, _, errors = self.run("up", "--detach", *self._slugs)
        assert code == 0, errors
        return self.pids()

    @contextlib.contextmanager
    def in_front(
        self, *, command: Sequence[str] = COMMAND
    ) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
        """`iolab up` in the foreground, when it waits for its servers; it, and the servers' processes."""
        with self.begin("up", *self._slugs, command=command) as up:
            assert up.stderr
            said = []
            while (line := up.stderr.readline()) != "Ctrl-C stops them.\n":
                said.append(line)
                assert line, "".join(said)
            yield up, family(self.pids())

    def names(self) -> dict[int, str]:
        """Which model each server is, by its pid."""
        files = [json.loads(file.read_text()) for file in self.run_files.glob("*.json")]
        return {file["process"]["pid"]: file["model"] for file in files}

    def pids(self) -> list[int]:
        return sorted(json.loads(file.read_text())["process"]["pid"] for file in self.run_files.glob("*.json"))

    def connect(self, slug: str) -> socket.socket:
        """A client of that server."""
        return connect(("127.0.0.1", self.ports[slug]))

    def answers(self, slug: str) -> bool:
        try:
            with self.connect(slug) as client:
                return peers.exchange(client, b"word") == b"WORD"
        except ConnectionError:
            return False


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all of them at once: so no two are the same."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in held]


def family(pids: list[int]) -> list[psutil.Process]:
    """The processes and their children."""
    return [member for pid in pids for process in [psutil.Process(pid)] for member in (process, *process.children())]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
