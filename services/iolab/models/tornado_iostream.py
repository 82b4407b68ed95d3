"""Tornado IOStream: several processes, and in each of them a coroutine per client on one loop.

Waits in   `await stream.read_bytes()`, `await stream.write()`; beneath them, one epoll_wait(2) in each process
Runs       `processes` at once, one thread each: a slow answer delays its own process, unless it awaits
Costs      an interpreter each; a stream and a task per client, two futures and a trip through the loop per answer
Breaks at  the descriptor limit
Compare    asyncio_streams (same coroutines, one process), prefork_epoll (same processes, no coroutines)
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError

from iolab.processes.supervisor import Supervisor
from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.framework import Stream


def serve(server: Supervisor) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    # It warns of peers' faults, which are counted here.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    server.supervise(work)


def work(server: Server) -> None:
    """A process: the loop, once it is forked."""
    asyncio.run(serve_clients(server))


async def serve_clients(server: Server) -> None:
    """Accept until the stop, a task for each client, then drain."""
    loop = IOLoop.current()
    streams: set[Stream] = set()
    stopped = asyncio.Event()
    server.listener.setblocking(False)
    async with asyncio.TaskGroup() as clients:

        def begin(sock: socket.socket) -> None:
            stream = Stream(server, sock)
            streams.add(stream)
            clients.create_task(converse(server, stream)).add_done_callback(lambda _: streams.discard(stream))

        def listen() -> None:
            if not server.stop.requested:
                loop.add_handler(server.listener.fileno(), ready, IOLoop.READ)

        def ready(listener: int, _: int) -> None:
            accept(server, begin)
            if server.paused_until:
                loop.remove_handler(listener)
                loop.call_later(server.pause_left(), listen)

        def stop(descriptor: int, _: int) -> None:
            loop.remove_handler(descriptor)
            stopped.set()

        loop.add_handler(server.stop.fileno(), stop, IOLoop.READ)
        listen()
        sweeper = clients.create_task(sweep(server, streams))
        await stopped.wait()
        sweeper.cancel()
        loop.remove_handler(server.listener.fileno())
        await drain(server, streams, begin)


def accept(server: Server, begin: Callable[[socket.socket], None]) -> None:
    """Begin with those whose turn it is to be accepted."""
    for sock in server.accept_some():
        begin(sock)


class PatientStream(IOStream):
    """Reads when somebody has asked for bytes and the loop says that some have come, and at no other time.

    An IOStream also looks before it waits, so that a client that floods would have the loop for itself. And it watches
    its socket while nobody reads, to learn that the peer has gone, and takes a FIN for that: also
    that of a peer who has said all and waits, and the answer that is being made would be lost.
    """

    looking_first = False
    unwatched = False

    def read(self) -> Awaitable[bytes]:
        """The next bytes, as many as one recv(2) gives."""
        self.looking_first = True
        reading = self.read_bytes(self.read_chunk_size, partial=True)
        self.looking_first = False
        if self.unwatched:
            self.unwatched = False
            self.io_loop.update_handler(self.fileno(), IOLoop.READ | IOLoop.ERROR)
        return reading

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """What recv(2) put into `buf`, 0 at the end; None: nothing for now."""
        if self.looking_first:
            return None
        if self.reading():
            return super().read_from_fd(buf)
        # What nobody has asked for stays in the socket. Not watched either: it would be readable again at once.
        self.unwatched = True
        self.io_loop.update_handler(self.fileno(), IOLoop.ERROR | (IOLoop.WRITE if self.writing() else 0))
        return None


async def converse(server: Server, stream: Stream) -> None:
    """One client from its first byte to its last."""
    respond, wait_seconds = server.work.respond, server.work.wait_seconds
    client = PatientStream(stream.sock, read_chunk_size=server.settings.buffer_size)
    # The buffer's length has no public name.
    stream.held, stream.cut = client._write_buffer.__len__, client.close
    try:
        while True:
            data = await client.read()
            stream.received_bytes += len(data)
            if stream.finishing:
                continue
            if wait_seconds:
                await asyncio.sleep(wait_seconds)
            answer = respond(data)
            stream.answers += 1
            stream.sent_bytes += len(answer)
            # The back-pressure: nothing is read meanwhile, and one read at most is owed.
            await client.write(answer)
    except StreamClosedError:
        if isinstance(client.error, OSError):
            stream.error = client.error
    finally:
        # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
        client.close()
        server.closed(stream)


async def sweep(server: Server, streams: set[Stream]) -> None:
    """Look for idle connections, if the settings ask for it."""
    while server.sweep_seconds:
        await asyncio.sleep(server.sweep_seconds)
        now = server.idle_clock()
        for stream in list(streams):
            stream.look(now)


async def drain(server: Server, streams: set[Stream], begin: Callable[[socket.socket], None]) -> None:
    """Accept who is still in the queue, then serve everyone until it is quiet and has what it is owed."""
    accept(server, begin)
    while not server.close_listener() or streams:
        await asyncio.sleep(DRAIN_TICK)
        now = time.monotonic()
        for stream in list(streams):
            stream.drain(now)
        accept(server, begin)
