"""Ring 1 for coroutine frameworks: a task for each client, on asyncio's event loop, which tornado uses too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from iolab.server.ending import crash_in_loop
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.framework import Stream, look_for_idle, look_for_quiet

# One client from its first byte to its last.
Converse = Callable[[Server, Stream], Coroutine[Any, Any, None]]


async def serve_clients(server: Server, converse: Converse) -> None:
    """Accept until the stop, with a task for each client, then drain."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(crash_in_loop)
    stopped = asyncio.Event()
    server.listener.setblocking(False)
    # An exception that leaves a task is a bug: the group raises it.
    async with asyncio.TaskGroup() as tasks:
        clients = ClientTasks(server, converse, tasks)
        clients.listen()
        loop.add_reader(server.stop, stopped.set)
        sweeper = tasks.create_task(sweep(server))
        await stopped.wait()
        loop.remove_reader(server.stop)
        loop.remove_reader(server.listener)
        sweeper.cancel()
        await drain(server, clients)


class ClientTasks:
    """Accepts when the listener is readable, and starts a task for each client."""

    def __init__(self, server: Server, converse: Converse, tasks: asyncio.TaskGroup) -> None:
        self._server = server
        self._converse = converse
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()

    def listen(self) -> None:
        """Make the loop watch the listener, unless the server stops."""
        if not self._server.stop.requested:
            self._loop.add_reader(self._server.listener, self._ready)

    def accept(self) -> None:
        """Accept this turn's clients, and start their tasks."""
        for sock in self._server.admission.accept_some():
            self._tasks.create_task(self._converse(self._server, Stream(self._server, sock)))

    def _ready(self) -> None:
        self.accept()
        if self._server.admission.paused_until:
            self._loop.remove_reader(self._server.listener)
            self._loop.call_later(self._server.admission.pause_left(), self.listen)


async def sweep(server: Server) -> None:
    """Look for idle connections, if the settings ask for it."""
    while server.sweep.seconds:
        await asyncio.sleep(server.sweep.seconds)
        look_for_idle(server)


async def drain(server: Server, clients: ClientTasks) -> None:
    """Accept the rest of the accept queue, then serve every connection until it is quiet and owed nothing."""
    clients.accept()
    while not server.admission.close_listener() or server.open_count():
        await asyncio.sleep(DRAIN_TICK)
        look_for_quiet(server)
        clients.accept()
