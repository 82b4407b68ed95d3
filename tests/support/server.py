"""A running server as the tests see it, wherever it runs."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from iolab.registry import Model
from iolab_client.servers.address import Address, connect
from tests.support.fork_server import ForkServer
from tests.support.missing import skip
from tests.support.waiting import DEADLINE_SECONDS, eventually

Settings = Mapping[str, Any]


class NotStarted(Exception):
    """The server ended before it listened. The message is what it printed."""


class RunningServer(ABC):
    """One server. What differs between a process and a container is below, under "the target's part"."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self._clients: list[socket.socket] = []

    # Where it is

    @property
    @abstractmethod
    def host(self) -> str:
        """The address at which this machine reaches it."""

    @property
    def address(self) -> Address:
        """Where it serves."""
        return self.host, int(self.listening["port"])

    @property
    def admin_address(self) -> Address:
        """Where it is looked at."""
        return self.host, int(self.listening["admin_port"])

    @property
    def pid(self) -> int:
        """Its process as itself sees it: in a container that is not the host's number. `beside` sees the same."""
        return int(self.listening["pid"])

    # Clients: they are closed before the server is looked at or ended

    def connect(self, **options: Any) -> socket.socket:
        """A client, closed at the end of the test at the latest. Options as connect has them."""
        return self.adopt_client(connect(self.address, **options))

    def adopt_client(self, client: socket.socket) -> socket.socket:
        """Have a client that the test made by itself closed with the others."""
        self._clients.append(client)
        return client

    def connect_many(self, count: int, **options: Any) -> list[socket.socket]:
        """`count` clients."""
        return [self.connect(**options) for _ in range(count)]

    def close_clients(self) -> None:
        """Close every client that is still open."""
        while self._clients:
            self._clients.pop().close()

    # Its log

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, line by line."""
        return [json.loads(line) for line in self.output().splitlines() if line]

    def events_called(self, name: str) -> list[dict[str, Any]]:
        """The log's lines about one kind of event."""
        return [event for event in self.events if event["event"] == name]

    def event(self, name: str, *, seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        """Wait for the first line about that event."""
        return eventually(lambda: self.events_called(name), f"the log says {name!r}", seconds=seconds)[0]

    @property
    def listening(self) -> dict[str, Any]:
        """The line that tells where it listens and what limits hold. NotStarted when it ended before.

        A model that this machine cannot run skips the test.
        """
        if self._listening is None:

            def look() -> list[dict[str, Any]]:
                ended = self.exit_code() is not None
                lines = self.events_called("listening")
                if ended and (said := self.events_called("unavailable")):
                    skip(f"{self.model.slug} is unavailable: {said[0]['reason']}")
                if ended and not lines:
                    raise NotStarted(self.everything_printed())
                return lines

            self.await_first_line()
            self._listening = eventually(look, f"{self.model.slug} listens")[0]
        return self._listening

    _listening: dict[str, Any] | None = None

    def await_first_line(self) -> None:  # noqa: B027
        """Wait for its first line in the log, or its end, if the target can: it saves looking again and again."""

    def everything_printed(self) -> str:
        """For a failed test's report."""
        return f"{self.output()}{self.errors()}"

    # Its admin port

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of an admin page."""
        host, port = self.admin_address
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=DEADLINE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """One metric, by its name without `iolab_`; with labels where one name has several."""
        wanted = {"model": self.model.slug, **labels}
        for family in text_string_to_metric_families(self.page("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"iolab_{name}" and wanted.items() <= sample.labels.items():
                    return float(sample.value)
        raise AssertionError(f"/metrics has no iolab_{name} with {wanted}")

    def becomes(self, name: str, value: float, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until a metric has that value."""
        eventually(
            lambda: (seen := self.metric(name)) == value or _Not(seen), f"{name} becomes {value:g}", seconds=seconds
        )

    def threads(self) -> list[dict[str, Any]]:
        """/threads: every thread of the server and its children."""
        processes = json.loads(self.page("/threads")[1])["processes"]
        return [thread for process in processes for thread in process["threads"]]

    # Its process, by the commands that `beside` runs

    def group(self) -> list[list[str]]:
        """The server's processes: /proc/PID/stat of each from the field after the name on, its pid in front.

        A server with children has them in its process group.
        """
        stats = []
        for line in self.beside("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true").splitlines():
            head, _, tail = line.rpartition(")")
            stats.append([head.split()[0], *tail.split()])
        own = next(stat[3] for stat in stats if stat[0] == str(self.pid))
        return [stat for stat in stats if stat[3] == own]

    def cpu_seconds(self) -> float:
        """Processor time that it has taken, its children's included; no descriptor of the server is needed to ask."""
        return sum(int(ticks) for stat in self.group() for ticks in stat[12:16]) / 100

    def pids(self) -> list[int]:
        """Its processes, as itself sees them."""
        return [int(stat[0]) for stat in self.group()]

    def descriptors(self) -> list[int]:
        """The numbers of its open descriptors, in all its processes."""
        return sorted(number for numbers in self._descriptors().values() for number in numbers)

    def _descriptors(self) -> dict[int, list[int]]:
        return {pid: sorted(map(int, self.beside("ls", f"/proc/{pid}/fd").split())) for pid in self.pids()}

    def descriptors_at_rest(self) -> dict[int, list[int]]:
        """Those of each process once they stay the same: a thread that starts has one for a moment."""
        looks: list[dict[int, list[int]]] = []

        def steady() -> dict[int, list[int]]:
            looks.append(self._descriptors())
            return looks[-1] if len(looks) >= 5 and all(look == looks[-1] for look in looks[-5:]) else {}

        return eventually(steady, "the descriptors stay the same")

    def take_free_descriptors(self) -> None:
        """Leave each of its processes no more descriptors than it has."""
        for pid, used in self.descriptors_at_rest().items():
            first_free = next(number for number in range(len(used) + 1) if number not in used)
            self.beside("prlimit", "--pid", str(pid), f"--nofile={first_free}:")

    def limit_descriptors(self, soft: int) -> None:
        """Have the kernel give each of its processes descriptors below that number only; those they have stay."""
        for pid in self.pids():
            self.beside("prlimit", "--pid", str(pid), f"--nofile={soft}:")

    def is_told(self, number: signal.Signals) -> bool:
        """Whether a signal has reached it that it has not taken yet, because it is suspended."""
        status = self.beside("cat", f"/proc/{self.pid}/status")
        pending = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
        return bool(int(pending, 16) >> (number - 1) & 1)

    def suspend(self) -> None:
        """Let it not run until `resume`, and wait until it does not."""

        def suspended() -> bool:
            pids = " ".join(map(str, self.pids()))
            # Again at each look: it may have started a process meanwhile.
            self.beside("sh", "-c", f"kill -STOP {pids}")
            stats = self.beside("sh", "-c", f"for pid in {pids}; do cat /proc/$pid/task/[0-9]*/stat; done")
            # Each thread by itself: one that still ran would take the next signal.
            return all(line.rpartition(")")[2].split()[0] == "T" for line in stats.splitlines())

        eventually(suspended, "the server is suspended")

    def resume(self) -> None:
        """Let it run again. A process that has ended meanwhile needs nothing."""
        pids = " ".join(map(str, self.pids()))
        self.beside("sh", "-c", f"for pid in {pids}; do kill -CONT $pid || [ ! -e /proc/$pid ] || exit 1; done")

    # The target's part

    @abstractmethod
    def output(self) -> str:
        """What it printed on stdout until now: its log."""

    @abstractmethod
    def errors(self) -> str:
        """What it printed on stderr until now."""

    @abstractmethod
    def beside(self, *command: str) -> str:
        """Run a command where the server runs: its user, its processes, its network. Returns its output."""

    @abstractmethod
    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to stop, the way that the target's user would; returns at once."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs."""

    @abstractmethod
    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; return its exit code."""

    @abstractmethod
    def remove(self) -> None:
        """End it at once, and leave nothing of it."""


class ForkedServer(RunningServer):
    """One that a fork server has started, and looks after."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        fork_server: ForkServer,
        folder: str,
        options: Sequence[str],
        **start: Any,
    ) -> None:
        """`folder`, `options` and `start` as ForkServer.start has them."""
        super().__init__(model, settings)
        self._fork_server = fork_server
        self._folder = folder
        self._pid = fork_server.start(model, folder, options, **start)

    def await_first_line(self) -> None:
        self._fork_server.await_first_line(self._folder)

    def output(self) -> str:
        return self._fork_server.read(self._folder, "stdout")

    def errors(self) -> str:
        return self._fork_server.read(self._folder, "stderr")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._fork_server.kill(self._folder, self._pid, number)

    def exit_code(self) -> int | None:
        code = self._fork_server.read(self._folder, "code")
        return int(code) if code else None

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        eventually(lambda: self.exit_code() is not None, "the server ends", seconds=seconds)
        code = self.exit_code()
        assert code is not None
        return code

    def remove(self) -> None:
        self._fork_server.remove(self._folder, self._pid)


class _Not:
    """A false value that is shown when a deadline passed."""

    def __init__(self, seen: float) -> None:
        self._seen = seen

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"{self._seen:g}"


class Target(ABC):
    """Where servers are started."""

    name: str

    @abstractmethod
    def start(self, model: Model, settings: Settings) -> RunningServer:
        """Start a server; `RunningServer.listening` waits until it is there."""

    @abstractmethod
    def start_alone(self, model: Model, settings: Settings) -> RunningServer:
        """Start one with which everything around it ends too, as when a container does."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""
