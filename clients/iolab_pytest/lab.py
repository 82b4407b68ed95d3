"""The servers of one test session, each started when it is first asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from iolab_pytest import Backend, CannotStart
from iolab_pytest.backends import start_container, start_process
from iolab_pytest.servers import KeptServer, MisbehavingServer, ModelServer

# What is picked for a server, by its backend.
NOT_YOURS = {"process": {"port", "admin_port"}, "docker": {"host", "port", "admin_port"}}
STARTS = {"process": start_process, "docker": start_container}

Kind = TypeVar("Kind", ModelServer, MisbehavingServer)


class Lab:
    """Servers by what they were asked for with. They end with the block; `used` is told of each use of one."""

    def __init__(self, folder: Path, used: Callable[[KeptServer], None]) -> None:
        self._folder = folder
        self._used = used
        self._servers: dict[tuple[str, ...], KeptServer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # All of them first: a stop is mostly waiting.
        for server in self._servers.values():
            server.stop()
        for server in self._servers.values():
            server.end()

    def server(self, model: str = "epoll_loop", *, backend: Backend = "process", **settings: Any) -> ModelServer:
        """As ServerFactory has it."""
        # A test that fails here shall show its own line.
        __tracebackhide__ = True
        if taken := settings.keys() & NOT_YOURS.get(backend, set()):
            raise CannotStart(
                f"{min(taken)}: got {settings[min(taken)]!r}; leave it out: its address is told afterwards"
            )
        # JSON is YAML, as which the value is read.
        given = [word for key in sorted(settings) for word in ("--set", f"{key}={json.dumps(settings[key])}")]
        return self._get(ModelServer, model, backend, "serve", model, *given)

    def misbehaving(
        self,
        script: str = "answer",
        *,
        message_bytes: int | None = None,
        seed: int | None = None,
        backend: Backend = "process",
    ) -> MisbehavingServer:
        """As MisbehavingFactory has it."""
        __tracebackhide__ = True
        given = [] if message_bytes is None else ["--message", str(message_bytes)]
        given += [] if seed is None else ["--seed", str(seed)]
        server = self._get(MisbehavingServer, "misbehave", backend, "misbehave", "--script", script, *given)
        server.begin(script)
        return server

    def _get(self, kind: type[Kind], name: str, backend: Backend, *arguments: str) -> Kind:
        __tracebackhide__ = True
        if backend not in STARTS:
            raise CannotStart(f"backend: got {backend!r}, expected one of {', '.join(map(repr, STARTS))}")
        key = (backend, *arguments)
        server = self._servers.get(key)
        if server is not None and not server.runs:
            # Somebody has ended it; the next test shall not pay for that.
            self._servers.pop(key).end()
            server = None
        if server is None:
            started = kind(name, STARTS[backend](arguments, self._folder))
            self._servers[key] = server = started
            self._used(server)
            started.wait_until_ready()
        self._used(server)
        assert isinstance(server, kind)
        return server
