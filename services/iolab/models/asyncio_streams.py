"""Asyncio streams: a coroutine per client, and one thread that resumes those whose bytes have come.

Waits in   `await reader.read()` and `await writer.drain()`; beneath them, one epoll_wait(2) for all
Runs       one thread: a slow answer delays everyone, unless it awaits
Costs      a task, a transport and a reader per client; a trip through the loop's callbacks per answer
Breaks at  the descriptor limit
Compare    epoll_loop (same wait, no coroutines), thread_per_connection (same shape of code, threads)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from iolab.server.server import DRAIN_TICK, Server
from iolab.sockets.framework import Stream


def serve(server: Server) -> None:
    """Serve until the stop was requested and every peer has what it is owed."""
    with asyncio.Runner(loop_factory=LOOPS[server.settings.loop]) as runner:
        runner.run(serve_clients(server))


async def serve_clients(server: Server) -> None:
    """Accept until the stop, a task for each client, then drain."""
    loop = asyncio.get_running_loop()
    streams: set[Stream] = set()
    stopped = asyncio.Event()
    server.listener.setblocking(False)
    buffer = memoryview(bytearray(server.settings.buffer_size))
    async with asyncio.TaskGroup() as clients:

        def begin(sock: socket.socket) -> None:
            stream = Stream(server, sock)
            streams.add(stream)
            clients.create_task(converse(server, stream, buffer)).add_done_callback(lambda _: streams.discard(stream))

        def listen() -> None:
            if not server.stop.requested:
                loop.add_reader(server.listener, ready)

        def ready() -> None:
            accept(server, begin)
            if server.paused_until:
                loop.remove_reader(server.listener)
                loop.call_later(server.pause_left(), listen)

        def stop() -> None:
            loop.remove_reader(server.stop)
            stopped.set()

        loop.add_reader(server.stop, stop)
        listen()
        sweeper = clients.create_task(sweep(server, streams))
        await stopped.wait()
        sweeper.cancel()
        loop.remove_reader(server.listener)
        await drain(server, streams, begin)


def accept(server: Server, begin: Callable[[socket.socket], None]) -> None:
    """Begin with those whose turn it is to be accepted."""
    for sock in server.accept_some():
        begin(sock)


async def converse(server: Server, stream: Stream, buffer: memoryview) -> None:
    """One client from its first byte to its last."""
    loop = asyncio.get_running_loop()
    settings, respond, wait_seconds = server.settings, server.work.respond, server.work.wait_seconds
    # In the reader, in hand and in the transport: together high_water and one read at most.
    chunk_bytes = max(1, min(settings.buffer_size, settings.high_water // 2))
    reader = asyncio.StreamReader(limit=max(1, chunk_bytes // 2))
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: Receiver(stream, reader, protocol, buffer), stream.sock)
    most_held = max(0, settings.high_water - 2 * chunk_bytes)
    transport.set_write_buffer_limits(high=most_held)
    held = stream.held = transport.get_write_buffer_size
    stream.cut = transport.abort
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        while data := await reader.read(chunk_bytes):
            if wait_seconds:
                await asyncio.sleep(wait_seconds)
            if transport.is_closing():
                # It was cut, with input left: uvloop raises RuntimeError for a write that asyncio would throw away.
                break
            answer = respond(data)
            stream.answers += 1
            stream.sent_bytes += len(answer)
            transport.write(answer)
            # A coroutine that would find nothing to wait for costs more than the look.
            if held() > most_held:
                await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError as error:
        stream.error = error
    finally:
        # The socket first: whoever was lost may not be closed yet.
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        server.closed(stream)


class Receiver(asyncio.BufferedProtocol):
    """Reads `buffer_size` at most, where a stream's own protocol is given up to 256 KiB at a time."""

    def __init__(
        self, stream: Stream, reader: asyncio.StreamReader, protocol: asyncio.StreamReaderProtocol, buffer: memoryview
    ) -> None:
        self._stream = stream
        self._buffer = buffer
        self._feed: Callable[[memoryview], None] = reader.feed_data
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's one buffer: it is emptied before anything else is read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read, unless the client was said farewell."""
        self._stream.received_bytes += nbytes
        if not self._stream.finishing:
            # It copies.
            self._feed(self._buffer[:nbytes])


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


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """The loop of libuv; imported only where it is asked for."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop_loop}
