"""The servers that a test is given."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import msgspec

from iolab_client.servers.address import Address, connect
from iolab_pytest import CannotStart
from iolab_pytest.backends import Listening

if TYPE_CHECKING:
    from iolab_client.servers.metrics import Metrics

# Generous: a server's work dial may make each answer wait.
DEADLINE_SECONDS = 60.0


class SeenThread(msgspec.Struct, frozen=True, kw_only=True):
    """What a thread of a server was doing when it was looked at.

    `syscall` is the system call that it waits in, or `running`; `state` is the kernel's letter, proc_pid_stat(5).
    """

    process: str
    pid: int
    tid: int
    name: str
    state: str
    syscall: str
    cpu_seconds: float


class KeptServer:
    """A server that others share in this session: each leaves it as it was."""

    def __init__(self, name: str, started: Listening) -> None:
        # What it is, in a report.
        self.name = name
        # Where it serves: a host, and a port.
        self.address: Address = started.address
        self._admin = started.admin
        self._program = started.program

    def __repr__(self) -> str:
        host, port = self.address
        return f"<{self.name} at {host}:{port}>"

    @property
    def runs(self) -> bool:
        """Whether it has not ended, which nothing but a signal from outside makes it do."""
        return self._program.ended() is None

    @property
    def log(self) -> str:
        """What it has printed until now: a JSON object on each line."""
        return self._program.printed()

    def metrics(self) -> Metrics:
        """What it counts, by now. Raises iolab_client.servers.admin.Unreachable."""
        # It takes a while to import, and most tests do not ask.
        from iolab_client.servers import metrics
        from iolab_client.servers.targets import Target

        return metrics.read(Target(model=None, address=self.address, admin=self._admin))

    def threads(self, *, deadline_seconds: float = DEADLINE_SECONDS) -> list[SeenThread]:
        """What each of its threads does at this moment, in all of its processes. Raises OSError."""
        photograph = json.loads(self._ask("GET", "/threads", deadline_seconds=deadline_seconds))
        return [
            msgspec.convert({**thread, "process": process["name"], "pid": process["pid"]}, SeenThread)
            for process in photograph["processes"]
            for thread in process["threads"]
        ]

    def stop(self) -> None:
        """Tell it to stop, as the session does at its end; returns at once."""
        self._program.stop()

    def end(self) -> None:
        """Stop it, and wait until it is gone."""
        self._program.end()

    def _ask(self, method: str, path: str, body: str = "", *, deadline_seconds: float = DEADLINE_SECONDS) -> str:
        """A page of its admin port. Raises OSError; ValueError for what it refuses, with its reason."""
        # http.client, because urllib.request would go through the proxy that the environment names.
        connection = HTTPConnection(*self._admin, timeout=deadline_seconds)
        try:
            connection.request(method, path, body.encode())
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(text.strip())
        return text


class ModelServer(KeptServer):
    """A server that gives back each byte in ASCII upper case."""

    def wait_until_ready(self) -> None:
        """Have it answer once. Raises CannotStart."""
        # Whoever listens may not serve yet, and in front of a container there is a proxy that always listens.
        with connect(self.address, deadline_seconds=DEADLINE_SECONDS) as peer:
            peer.sendall(b"a")
            answer = peer.recv(1)
        if answer != b"A":
            raise CannotStart(f"{self.name}: {answer!r} is no answer to b'a'")


class MisbehavingServer(KeptServer):
    """A server that does on each connection what its script says: docs/misbehave.md."""

    def wait_until_ready(self) -> None:
        """Have its admin port answer: a client would take somebody's turn. Raises OSError."""
        self._ask("GET", "/healthz")

    def begin(self, script: str) -> None:
        """All connections from now on meet this script, from its beginning. Raises ValueError for a bad one."""
        self._ask("PUT", "/script", script)

    def next(self, script: str) -> None:
        """The next connection meets this script; with | in it, the next ones. Raises ValueError for a bad one."""
        self._ask("POST", "/next", script)
