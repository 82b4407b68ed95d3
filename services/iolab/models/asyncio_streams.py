"""Asyncio streams: a coroutine per client, and one thread that resumes each when its bytes have come.

Waits in   `await reader.read()` and `await writer.drain()`; beneath them, one epoll_wait(2) for all
Runs       one thread: a slow answer delays everyone, unless it awaits
Costs      a task, a transport and a reader per client; a trip through the loop's callbacks per answer
Breaks at  the descriptor limit
Compare    epoll_loop (same wait, no coroutines), tornado_iostream (same coroutines, in several processes)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from iolab.server.server import Server
from iolab.sockets.asyncio_receiver import Room
from iolab.sockets.coroutines import serve_clients
from iolab.sockets.framework import Stream


def serve(server: Server) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    with asyncio.Runner(loop_factory=LOOPS[server.settings.loop]) as runner:
        runner.run(serve_clients(server, partial(converse, Room(server.settings))))


async def converse(room: Room, server: Server, stream: Stream) -> None:
    """One client from its first byte to its last."""
    work = server.work
    chunk_bytes, most_held = room.chunk_bytes, room.most_held
    reader, writer = await room.open(stream)
    transport, held = writer.transport, stream.held
    try:
        while data := await reader.read(chunk_bytes):
            if work.wait_seconds:
                await asyncio.sleep(work.wait_seconds)
            if transport.is_closing():
                # It was cut with input unread. asyncio drops what is written then, uvloop raises RuntimeError.
                break
            respond = work.respond
            answer = respond(data)
            stream.answers += 1
            stream.sent_bytes += len(answer)
            transport.write(answer)
            # Back-pressure. This check is cheaper than a coroutine that finds nothing to wait for.
            if held() > most_held:
                await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError as error:
        stream.error = error
    finally:
        # The socket first: a lost connection may not be closed yet.
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        server.books.closed(stream)


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """libuv's event loop, imported only if the settings ask for it."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop_loop}
