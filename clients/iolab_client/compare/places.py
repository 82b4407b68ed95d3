"""Where servers are measured: as processes of this machine, in containers (`containers`), or as they are found.

A place gives a server that is there for one round only, and loads it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, Self

import psutil

from iolab.registry import YARDSTICK, Model
from iolab.run import run_files
from iolab_client import load
from iolab_client.contract.check import DEADLINE_SECONDS, Verdicts, check
from iolab_client.results import environment
from iolab_client.results.measurement import Environment, Measurement, Plan
from iolab_client.servers.address import connect
from iolab_client.servers.printed import NotListening, wait_until_listening
from iolab_client.servers.targets import NAMED, Target, resolve

PROCESSES = "processes"
CONTAINERS = "containers"
AS_FOUND = "as found"

# For a server to listen: an interpreter and a framework's imports, on one busy processor.
START_SECONDS = 60.0
# Beyond the server's own drain_seconds.
END_SECONDS = 10.0


class PlaceFailed(Exception):
    """A server that does not start, or a load that cannot be made. The message is one line."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A server that is there to be measured. `listening` is its log line of that name, if it could be read."""

    model: Model
    target: Target
    listening: Mapping[str, Any] = field(default_factory=dict)
    # What is not as it should be for a measurement; each result has it.
    others: tuple[str, ...] = ()
    # The processors that it was pinned to; empty: not known.
    cpus: tuple[int, ...] = ()
    pid: int | None = None


class Place(Protocol):
    """Somewhere to measure. `with` it: what it has changed is undone at the end."""

    name: str

    def __enter__(self) -> Place: ...

    def __exit__(self, *_: object) -> None: ...

    def start(self, model: Model) -> AbstractContextManager[Started]:
        """A fresh server, that ends with the block. Raises PlaceFailed."""

    def check(self, started: Started) -> Verdicts:
        """What `check` says of it. Several may be checked at once, from threads. Raises PlaceFailed."""

    def load(self, started: Started, plan: Plan) -> Measurement:
        """Load it; nothing else that the place knows of runs meanwhile. Raises PlaceFailed."""

    def environment(self) -> Environment:
        """Where this is."""


def pinning(server_cpus: Collection[int], client_cpus: Collection[int]) -> tuple[str, ...]:
    """What speaks against these processors."""
    problems = []
    if (os.cpu_count() or 1) < 2:
        problems.append("this machine has one processor: server and generator take it from each other")
    elif shared := sorted(set(server_cpus) & set(client_cpus)):
        numbers = ", ".join(map(str, shared))
        problems.append(f"server and generator share processor {numbers}: they take it from each other")
    return tuple(problems)


@contextlib.contextmanager
def affinity(cpus: Collection[int]) -> Iterator[None]:
    """Have this thread, and what it starts in the block, run on these processors only; empty: on any."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Here:
    """A place whose client is this process, on the client's processors."""

    name: str

    def __init__(self, client_cpus: Sequence[int]) -> None:
        self._client_cpus = tuple(client_cpus)
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # What we do meanwhile, to show the progress, is not to cost the server anything.
        self._undo.enter_context(affinity(self._client_cpus))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def check(self, started: Started) -> Verdicts:
        """As Place has it."""
        return check(started.target, DEADLINE_SECONDS)

    def load(self, started: Started, plan: Plan) -> Measurement:
        """As Place has it."""
        return load.run(started.target, plan)

    def environment(self) -> Environment:
        """As Place has it."""
        return environment.machine(self.name)


class Processes(_Here):
    """Servers as children of this process, each on the server's processors, with a port that the kernel picks."""

    name = PROCESSES

    def __init__(
        self,
        server_cpus: Sequence[int],
        client_cpus: Sequence[int],
        *,
        configs: Path | None = None,
        command: Sequence[str] = (sys.executable,),
    ) -> None:
        """`configs`: the folder of settings that the servers read in place of the user's.

        `command`: how to call the interpreter that they run on.
        """
        super().__init__(client_cpus)
        self._server_cpus = tuple(server_cpus)
        self._configs = configs
        self._command = tuple(command)
        self._children: set[int] = set()

    @contextlib.contextmanager
    def start(self, model: Model) -> Iterator[Started]:
        """As Place has it."""
        command = [
            *self._command,
            "-P",
            "-m",
            *(["iolab.yardstick"] if model is YARDSTICK else ["iolab", "serve", model.slug]),
        ]
        command += ["--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]
        if self._configs and model is not YARDSTICK:
            command += ["--configs", str(self._configs)]
        with tempfile.TemporaryFile() as log:
            with affinity(self._server_cpus):
                # A group of its own: Ctrl-C is for us, and we end it.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0
                )
            self._children.add(process.pid)
            try:
                try:
                    listening = wait_until_listening(process.poll, partial(_read, log), START_SECONDS)
                except NotListening as error:
                    raise PlaceFailed(f"{model.slug}: {error}") from None
                address, admin = (("127.0.0.1", int(listening[key])) for key in ("port", "admin_port"))
                yield Started(
                    model=model,
                    target=Target(model=model, address=address, admin=admin),
                    listening=listening,
                    others=(*pinning(self._server_cpus, self._client_cpus), *self._others(process.pid)),
                    cpus=tuple(psutil.Process(process.pid).cpu_affinity() or ()),
                    pid=process.pid,
                )
            finally:
                _end(process)
                self._children.discard(process.pid)

    def _others(self, pid: int) -> list[str]:
        """Who else runs, and whether the server runs where it was told to: its own YAML may have `cpus`."""
        others = [
            f"{server.model} (process {server.pid}) ran on the same machine"
            for server in run_files.running()
            if server.pid not in self._children
        ]
        allowed = psutil.Process(pid).cpu_affinity() or []
        if self._server_cpus and set(allowed) != set(self._server_cpus):
            others.append(f"the server's own settings let it run on processors {allowed}, not {[*self._server_cpus]}")
        return others


class AsFound(_Here):
    """Servers that somebody else has started; they go on afterwards, are not fresh, and run while one is measured."""

    name = AS_FOUND

    def __enter__(self) -> Self:
        super().__enter__()
        self._answering = [target.name for target in resolve([*NAMED.values()]) if _answers(target)]
        return self

    @contextlib.contextmanager
    def start(self, model: Model) -> Iterator[Started]:
        """As Place has it, but for the fresh one."""
        (target,) = resolve([model])
        if not _answers(target):
            raise PlaceFailed(f"{model.slug}: nothing answers at {target.shown_address}")
        others = [f"{name} ran beside it" for name in self._answering if name != model.slug]
        yield Started(model=model, target=target, others=("the server is not fresh: it was found running", *others))


def _answers(target: Target) -> bool:
    from iolab_client.contract import peers

    try:
        with connect(target.address, deadline_seconds=2.0) as peer:
            return peers.exchange(peer, b"a") == b"A"
    except OSError:
        return False


def _read(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
